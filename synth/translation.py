"""rsynth-translate: images turned into another class, from themselves and no further than a radius.

rsynth-translate photo.png --to dog --until 0.9 --out translated.png
"""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import Positional, arg

from rsynth_jax import (
    ascent,
    checkpoints,
    checks,
    console,
    expedition,
    images,
    models,
    objectives,
    pictures,
    synthesis,
    unlabelled,
)
from rsynth_jax.ascent import steepest
from rsynth_jax.metrics import estimates
from rsynth_jax.objectives import TOWARDS
from rsynth_jax.projections import ball_in_box
from rsynth_jax.synthesis import Task

ROWS = 16  # of a sheet at most: the rest is in the .npz
GIF_CHUNK = 2  # steps between two frames of an animation


def translation(classifier, image, label, *, objective, radius):
    """From the image itself, climb towards another class, at most `radius` away."""
    return Task(image, TOWARDS[objective](classifier, label), ball_in_box(image, radius))


@dataclasses.dataclass(frozen=True)
class Options:
    """rsynth-translate: images turned into another class, from themselves and no further than a radius.

    With --until P each image stops at its first step that the classifier calls the class with probability P:
    the counterfactual, what would have to be different for the classifier to see the class.
    """

    given: Positional[Annotated[str, arg(metavar="A")]]
    """The images: one image file, a folder, an .npz with the array images, or tfds:NAME."""
    to: Annotated[str, arg(metavar="CLASS")]
    """The class to become, by name or number."""
    classifier: str = "cifar10"
    """A bundled classifier by name, a .safetensors file, or a training run."""
    out: Path = Path("translated.png")
    """The sheet, a PNG with a row an image, before and after, of up to 16 images."""
    split: Annotated[str | None, arg(metavar="SPLIT")] = None
    """Which of A: train, test, train[:50%] ...; by default test of TFDS, all of anything else."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """Where TFDS data sets lie; TFDS's own default otherwise."""
    image_size: Annotated[int | None, arg(metavar="PIXELS")] = None
    """Resize the central square of every image to this side; by default the classifier's."""
    num: Annotated[int | None, arg(metavar="N")] = None
    """Only the first so many."""
    until: Annotated[float | None, arg(metavar="P")] = None
    """Stop each image where the probability of the class reaches this; by default take every step."""
    objective: str = "log-prob"
    """log-prob, logit, sum of both, or evidence (of any class)."""
    radius: float = 6.0
    """Largest l2 distance from the given image, in pixel values of [0, 1]; grow it with the side."""
    steps: int = 40
    """Steps of the ascent, at most."""
    step_size: float = 0.2
    """l2 length of a step."""
    batch_size: int = 40
    """Images computed together; changes the speed, and the images by no more than rounding."""
    npz: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write the images as arrays: images uint8 (n, h, w, c), labels, class_names, and given."""
    gif: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write an animation of the ascent."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write every number printed."""


def check(options: Options) -> None:
    """Raise ValueError for a flag that makes no sense."""
    o = options
    checks.positive(radius=o.radius, steps=o.steps, step_size=o.step_size, batch_size=o.batch_size)
    checks.given(checks.positive, num=o.num, image_size=o.image_size)
    checks.given(checks.share, until=o.until)
    checks.named("objective", o.objective, TOWARDS)
    checkpoints.writable(o.out, o.npz, o.gif, o.json)


def climber(options: Options) -> synthesis.ClimbFn:
    """The way up: all steps, or until the class is likely enough."""
    task = functools.partial(translation, objective=options.objective, radius=options.radius)
    steadily = synthesis.steadily(task, steepest("l2", options.step_size))
    if options.until is None:
        return steadily

    def stopping(classifier, image, label):
        start, climb = steadily(classifier, image, label)
        likely = objectives.log_prob(classifier, label)
        return start, ascent.stop_when(lambda image: jnp.exp(likely(image)) >= options.until, climb)

    return stopping


def translate(options: Options) -> int:
    """Load, climb, write."""
    check(options)
    release, began = checkpoints.load(options.classifier), time.perf_counter()
    label = console.label(options.to, release.class_names)
    o = options
    given = unlabelled.decoded(release, o.given, o.split, o.data_dir, o.image_size, o.num)
    labels = np.full(len(given), label, np.int32)
    chunk = GIF_CHUNK if options.gif else ascent.CHUNK
    climb = synthesis.stages(models.create(release.config), climber(options), options.steps, chunk)
    with console.bar() as bar:
        frames = expedition.frames(
            climb,
            release.variables,
            lambda rows: (jax.vmap(images.decode)(given[rows]), labels[rows]),
            len(given),
            options.batch_size,
            functools.partial(bar.track, description="climbing"),
        )
    return write(options, release, labels, frames, time.perf_counter() - began)


def write(options: Options, release, labels, frames, seconds: float) -> int:
    """The sheet, the other files asked for, and the closing line."""
    model, ends = models.create(release.config), (frames[0], frames[-1])
    found = expedition.outcome(model, release.variables, *ends, labels, options.batch_size)
    names, to = release.class_names, release.class_names[labels[0]]
    columns = found.seen_start, np.exp(found.log_prob), found.l2_moved
    rows = [
        f"{names[start]} -> {to}, p {p:.2f}, l2 {moved:.1f}" for start, p, moved in zip(*columns, strict=True)
    ][:ROWS]
    titles = titles_of(options, len(frames))
    pairs = [np.stack([frames[0][:ROWS], frame[:ROWS]], 1).reshape(-1, *frame.shape[1:]) for frame in frames]
    pictures.write_sheet(options.out, pairs[-1], 2, rows, titles[-1])
    if options.gif:
        pictures.write_animation(options.gif, pairs, 2, [row.partition(",")[0] for row in rows], titles)
    if options.npz:
        arrays = {"images": frames[-1], "labels": labels, "class_names": np.array(names), "given": frames[0]}
        checkpoints.write_arrays(options.npz, arrays)
    numbers = numbers_of(release, found, labels) | {"seconds": seconds}
    console.report(options.json, numbers)
    print(
        f"{options.out}: {len(labels)} images to {to} in {seconds:.1f} s; {numbers['share']:.0%} end there, "
        f"mean p {numbers['p_start']:.2f} -> {numbers['p']:.2f}, l2 moved {numbers['l2_moved']:.2f}"
    )
    return 0


def titles_of(options: Options, num_frames: int) -> list[str]:
    """What the two columns of each frame's sheet are."""
    stop = "" if options.until is None else f", each stopped at p {options.until:g}"
    stages = pictures.titles(options.objective, options.steps, options.step_size, num_frames)
    return [f"before, and after {stage}{stop}" for stage in stages]


def numbers_of(release, found: expedition.Outcome, labels: np.ndarray) -> dict:
    """The share that ends in the class, the mean probabilities, the distance; and those of each image."""
    names = release.class_names
    described = [
        {"from": names[start], "to": names[label], "ends": names[end]}
        for start, label, end in zip(found.seen_start, labels, found.seen, strict=True)
    ]
    share, *interval = estimates.share(found.seen == labels)
    means = {"p_start": np.exp(found.log_prob_start).mean(), "p": np.exp(found.log_prob).mean()}
    numbers = {"share": share, "interval": interval} | {name: float(mean) for name, mean in means.items()}
    return numbers | expedition.numbers(found, described)


def main() -> None:
    """The command."""
    console.run(Options, translate)


if __name__ == "__main__":
    main()
