"""What programs share that climb from images: their flags, the reading, the climb, what is written.

    subject = read(options)
    painted = paint(options, subject, climb_fn, holes)      # climb_fn(classifier, image, label, hole)
    status = publish(options, subject, painted, {"known_error": errors})

Only programs import this module.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import numpy as np
from tyro.conf import FlagCreatePairsOff, Positional, arg

from rsynth_jax import (
    ascent,
    checkpoints,
    checks,
    console,
    expedition,
    images,
    models,
    pictures,
    synthesis,
    unlabelled,
)
from rsynth_jax.expedition import Bytes
from rsynth_jax.metrics import estimates
from rsynth_jax.objectives import TOWARDS

ROWS = 16  # of a sheet at most: the rest is in the .npz and in --each
COLUMNS = 4  # as given, the start, the result, the difference
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
    """Largest l2 distance from the start, in pixel values of [0, 1]; grow it with the side."""
    steps: int = 40
    """Steps of the ascent, at most."""
    step_size: float = 0.2
    """l2 length of a step."""
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
    """log-prob (the paper's), logit, sum of both, or evidence (of any class)."""
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


def read(options: Options, known: Callable[[Bytes], Bytes] = lambda images: images) -> Subject:
    """The flags checked, then `subject`."""
    check(options)
    checks.named("objective", options.objective, TOWARDS)
    checkpoints.writable(options.out, options.npz, options.gif, options.json)
    return subject(options, known)


def subject(options: Given, known: Callable[[Bytes], Bytes] = lambda images: images) -> Subject:
    """The classifier, the images, and the class of each: asked for, else its own, else what is seen in it.

    `known` makes of the images what there is to see.
    """
    o, release = options, checkpoints.load(options.classifier)
    given = unlabelled.decoded(release, o.given, o.split, o.data_dir, o.image_size, o.num)
    labels = labels_of(options, release, known(given.images))
    return Subject(release, given.images, given.names, labels, given.skipped)


def labels_of(options: Given, release: checkpoints.Release, given: Bytes) -> np.ndarray:
    """The class of each image."""
    if options.label is not None:
        return np.full(len(given), console.label(options.label, release.class_names), np.int32)
    labels = unlabelled.labels(options.given, release.class_names, options.split)
    if labels is None:
        model = models.create(release.config)
        return expedition.seen(model, release.variables, given, options.batch_size)
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


def difference(given: Bytes, result: Bytes) -> Bytes:
    """Grey where nothing changed."""
    return np.uint8(np.clip(128 + (np.int16(result) - given), 0, 255))


def rows(given: Bytes, frames: list[Bytes]) -> list[Bytes]:
    """The cells of a sheet for each frame: as given, the start, the frame, the difference, of each image."""
    columns = [(given, frames[0], frame, difference(given, frame)) for frame in frames]
    return [np.stack([c[:ROWS] for c in cells], 1).reshape(-1, *given.shape[1:]) for cells in columns]


def publish(options: Options, subject: Subject, painted: Painted, extra: dict[str, np.ndarray]) -> int:
    """The sheet, the other files asked for, and the closing line. `extra` has more numbers of each image."""
    (release, _, _, labels, skipped), frames = subject, painted.frames
    model, size = models.create(release.config), options.batch_size
    found = expedition.outcome(model, release.variables, frames[0], frames[-1], labels, size)
    numbers = numbers_of(subject, found, extra) | {"seconds": painted.seconds}
    write(options, subject, painted, captions(numbers["images"]))
    console.report(options.json, numbers)
    more = "".join(f", {key.replace('_', ' ')} {numbers[key]:.4g}" for key in extra)
    print(
        f"{options.out}: {len(labels)} images in {painted.seconds:.1f} s; {numbers['share']:.0%} end in "
        f"their class, mean p {numbers['p_start']:.2f} -> {numbers['p']:.2f}, "
        f"l2 moved {numbers['l2_moved']:.2f}{more}"
    )
    return console.skipped(skipped)


def numbers_of(subject: Subject, found: expedition.Outcome, extra: dict[str, np.ndarray]) -> dict:
    """The means over all images, the share that ends in its class, and the numbers of each image."""
    class_names, labels = subject.release.class_names, subject.labels
    described = [
        {"name": name, "from": class_names[start], "to": class_names[label], "ends": class_names[end]}
        | {key: float(column[i]) for key, column in extra.items()}
        for i, (name, start, label, end) in enumerate(
            zip(subject.names, found.seen_start, labels, found.seen, strict=True)
        )
    ]
    share, *interval = estimates.share(found.seen == labels)
    columns = {"p_start": np.exp(found.log_prob_start), "p": np.exp(found.log_prob)} | extra
    means = {key: float(np.mean(column)) for key, column in columns.items()}
    return {"share": share, "interval": interval} | means | expedition.numbers(found, described)


def captions(each: list[dict]) -> list[str]:
    """What stands at the left of the rows of a sheet."""
    return [
        "{name}: {from} -> {to}, p {p:.2f}, l2 {l2_moved:.1f}".format(**image, p=np.exp(image["log_prob"]))
        for image in each[:ROWS]
    ]


def write(options: Options, subject: Subject, painted: Painted, row_names: list[str]) -> None:
    """The sheet; single images, animation and arrays where they are asked for."""
    o, (release, given, names, labels, _), frames = options, subject, painted.frames
    titles = pictures.titles(o.objective, o.steps, o.step_size, len(frames))
    titles = [f"given, start, {title}, difference" for title in titles]
    sheets = rows(given, frames)
    pictures.write_sheet(o.out, sheets[-1], COLUMNS, row_names, titles[-1])
    if o.each:
        for name, image in zip(names, frames[-1], strict=True):
            pictures.write_image(o.out.with_suffix("") / f"{name}.png", image)
    if o.gif:
        short = [name.partition(",")[0] for name in row_names]
        pictures.write_animation(o.gif, sheets, COLUMNS, short, titles)
    if o.npz:
        arrays = {"images": frames[-1], "labels": labels, "class_names": np.array(release.class_names)}
        checkpoints.write_arrays(o.npz, arrays | {"given": given})
