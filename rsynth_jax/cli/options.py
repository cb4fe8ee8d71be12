"""What programs share that climb from images: their flags, the reading, the climb.

    subject = read(options)
    options = scaled(options, subject.release)
    painted = paint(options, subject, climb_fn, holes)      # climb_fn(classifier, image, label, hole)

What is made of it is shown by the gallery. Only programs import this module.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

import jax
import numpy as np
from tyro.conf import FlagCreatePairsOff, Positional, arg

from rsynth_jax import checks, images, models
from rsynth_jax.cli import run as console
from rsynth_jax.data import unlabelled
from rsynth_jax.sampling import runner as expedition
from rsynth_jax.sampling.runner import Bytes
from rsynth_jax.storage import files
from rsynth_jax.storage import releases as checkpoints
from rsynth_jax.synthesis import ascent
from rsynth_jax.synthesis import tasks as synthesis
from rsynth_jax.synthesis.objectives import CLASS_OBJECTIVES

SIDE = 32  # pixels, at which lengths are given
Lengths = TypeVar("Lengths")  # options with a radius and a step size
GIF_CHUNK = 2  # steps between two frames of an animation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Climb:
    """The flags that say with which classifier to climb, how far, and beside which images."""

    classifier: str = "cifar10"
    """A bundled classifier by name, a .safetensors file, or a training run."""
    split: Annotated[str | None, arg(metavar="SPLIT")] = None
    """Which of A: train, test, train[:50%] ...; by default test of TFDS, all of anything else."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """Where TFDS data sets lie; TFDS's own default otherwise."""
    image_size: Annotated[int | None, arg(metavar="PIXELS")] = None
    """Resize the central square of every image to this side (Lanczos); by default the classifier's."""
    num: Annotated[int | None, arg(metavar="N")] = None
    """Only the first so many."""
    radius: float = 6.0
    """Largest l2 distance from the start, in pixel values of [0, 1], at 32 pixels; it grows with the side."""
    steps: int = 40
    """Steps of the ascent, at most."""
    step_size: float = 0.2
    """l2 length of a step, at 32 pixels; it grows with the side."""
    batch_size: int = 40
    """Images computed together; changes the speed, and the images by no more than rounding."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write every number printed."""


@dataclasses.dataclass(frozen=True)
class Given(Climb):
    """Those of a program that starts from given images."""

    given: Positional[Annotated[str, arg(metavar="A")]]
    """The images: one image file, a folder, an .npz with the array images, or tfds:NAME.

    Files are turned as their EXIF says; what is transparent in them shows white.
    """
    label: Annotated[str | None, arg(name="class", metavar="CLASS")] = None
    """The class to paint, by name or number; by default an .npz's own labels, else what is seen in it."""


@dataclasses.dataclass(frozen=True)
class Options(Given):
    """Those of a program that shows its work on a sheet."""

    out: Path = Path("painted.png")
    """The sheet, a PNG with a row an image, of up to 16: as given, the start, the result, the difference."""
    objective: str = "log-prob"
    """log-prob (the paper's), logit, sum of both, or energy (of any class)."""
    each: FlagCreatePairsOff[bool] = False
    """Also write every result as a PNG of its own, in a folder beside OUT that bears its name."""
    npz: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write the images as arrays: images uint8 (n, h, w, c), labels, class_names, and given."""
    gif: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write an animation of the ascent."""


class Subject(NamedTuple):
    """What is painted on: a classifier, n images with their names, the class that each climbs to.

    And why others could not be read.
    """

    release: checkpoints.Release
    images: Bytes
    names: tuple[str, ...]
    labels: np.ndarray
    skipped: tuple[str, ...]


class Painted(NamedTuple):
    """The images after each chunk of steps, from the start on, and the seconds it took."""

    frames: list[Bytes]
    seconds: float


def check(options: Climb) -> None:
    """Raise ValueError for a flag of all of them that makes no sense."""
    o = options
    checks.positive(radius=o.radius, steps=o.steps, step_size=o.step_size, batch_size=o.batch_size)
    checks.given(checks.positive, num=o.num, image_size=o.image_size)


def scaled(options: Lengths, release: checkpoints.Release) -> Lengths:
    """The same with its radius and step size at the classifier's side: as far for every pixel as at 32."""
    factor = release.image_shape[0] / SIDE
    lengths = {"radius": options.radius * factor, "step_size": options.step_size * factor}
    return dataclasses.replace(options, **lengths)


def read(options: Options, known: Callable[[Bytes], Bytes] = lambda images: images) -> Subject:
    """The flags checked, then `subject`."""
    check(options)
    checks.named("objective", options.objective, CLASS_OBJECTIVES)
    files.check_writable(options.out, options.npz, options.gif, options.json)
    return subject(options, known)


def subject(options: Given, known: Callable[[Bytes], Bytes] = lambda images: images) -> Subject:
    """The classifier, the images, and the class of each: asked for, else its own, else what is seen in it.

    `known` makes of the images what there is to see.
    """
    o, release = options, checkpoints.load(options.classifier)
    given = unlabelled.decoded(release, o.given, o.split, o.data_dir, o.image_size, o.num)
    labels = labels_of(options, release, given.images, known)
    return Subject(release, given.images, given.names, labels, given.skipped)


def labels_of(options: Given, release: checkpoints.Release, given: Bytes, known: Callable) -> np.ndarray:
    """The class of each image."""
    if options.label is not None:
        return np.full(len(given), console.label(options.label, release.class_names), np.int32)
    labels = unlabelled.labels(options.given, release.class_names, options.split)
    if labels is None:
        model = models.create(release.config)
        return expedition.seen(model, release.variables, known(given), options.batch_size)
    if len(labels) < len(given):
        raise ValueError(f"{options.given} has {len(labels)} labels for {len(given)} images")
    return labels[: len(given)]


def paint(options: Options, subject: Subject, climb_fn: synthesis.ClimbFn, *inputs: np.ndarray) -> Painted:
    """Carry out `climb_fn(classifier, image, label, *inputs of that image)` on all of them."""
    release, given, _, labels, _ = subject

    def rows_of(rows: np.ndarray) -> tuple:
        return jax.vmap(images.decode)(given[rows]), labels[rows], *(each[rows] for each in inputs)

    chunk = GIF_CHUNK if options.gif else ascent.CHUNK
    return climbed(options, release, climb_fn, rows_of, len(given), chunk)


def change(given: Bytes, painted: Painted, where: np.ndarray) -> np.ndarray:
    """The largest change of a value of each image on the mask `where`, in bytes, (n,)."""
    return (np.abs(np.int16(painted.frames[-1]) - given) * where).max(axis=(1, 2, 3))


def climbed(
    options: Climb,
    release: checkpoints.Release,
    climb_fn: synthesis.ClimbFn,
    rows_of: Callable,
    num: int,
    most: int = ascent.CHUNK,
) -> Painted:
    """Carry out `climb_fn(classifier, *inputs)` on `num` rows, in chunks of at most `most` steps."""
    began = time.perf_counter()
    climb = synthesis.stages(models.create(release.config), climb_fn, options.steps, most)
    with console.bar() as bar:
        track = functools.partial(bar.track, description="climbing")
        frames = expedition.frames(climb, release.variables, rows_of, num, options.batch_size, track)
    return Painted(frames, time.perf_counter() - began)
