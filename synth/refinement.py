"""rsynth-refine: images made to look more like what they show, by a few small steps.

rsynth-refine generated.npz --out refined.npz --sheet refined.png
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
from tyro.conf import Positional, arg

from rsynth_jax import (
    checkpoints,
    checks,
    console,
    expedition,
    images,
    models,
    objectives,
    pictures,
    studio,
    synthesis,
    unlabelled,
)
from rsynth_jax.ascent import steepest
from rsynth_jax.projections import ball_in_box
from rsynth_jax.synthesis import Task

COLUMNS = 16  # of a sheet at most: the rest is in the .npz


def refinement(classifier, image, label, *, radius):
    """Climb a little towards `label`, at most `radius` away: what is there stays, and gets clearer."""
    return Task(image, objectives.logit(classifier, label), ball_in_box(image, radius))


@dataclasses.dataclass(frozen=True)
class Options:
    """rsynth-refine: images made to look more like what they show, by a few small steps.

    For generated or damaged images of any source (BIGRoC, Ganz and Elad 2022). Each climbs the logit of its
    class inside a small l2 ball around itself. The class is --class, else the image's label where an .npz has
    labels, else what the classifier itself sees.
    """

    given: Positional[Annotated[str, arg(metavar="A")]]
    """The images: a folder, an .npz with the array images, an image, or tfds:NAME."""
    classifier: str = "cifar10"
    """A bundled classifier by name, a .safetensors file, or a training run."""
    label: Annotated[str | None, arg(name="class", metavar="CLASS")] = None
    """What all of them show, by name or number."""
    out: Path = Path("refined.npz")
    """The refined images: images uint8 (n, h, w, c), labels, class_names."""
    split: Annotated[str | None, arg(metavar="SPLIT")] = None
    """Which of A: train, test, train[:50%] ...; by default test of TFDS, all of anything else."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """Where TFDS data sets lie; TFDS's own default otherwise."""
    image_size: Annotated[int | None, arg(metavar="PIXELS")] = None
    """Resize the central square of every image to this side; by default the classifier's."""
    num: Annotated[int | None, arg(metavar="N")] = None
    """Only the first so many."""
    radius: float = 1.0
    """Largest l2 distance from the given image, in pixel values of [0, 1]; grow it with the side."""
    steps: int = 5
    """Steps of the ascent."""
    step_size: float = 0.2
    """l2 length of a step."""
    batch_size: int = 40
    """Images computed together; changes the speed, and the images by no more than rounding."""
    sheet: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write a sheet, a PNG: the first images, before and after."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write every number printed."""


def check(options: Options) -> None:
    """Raise ValueError for a flag that makes no sense."""
    o = options
    checks.positive(radius=o.radius, steps=o.steps, step_size=o.step_size, batch_size=o.batch_size)
    checks.given(checks.positive, num=o.num, image_size=o.image_size)
    checkpoints.writable(o.out, o.sheet, o.json)


def refined(options: Options, release, given: np.ndarray, labels: np.ndarray, track: Callable = iter):
    """The images uint8 (n, h, w, c) after the ascent; `track` wraps the loop over batches."""
    task = functools.partial(refinement, radius=options.radius)
    climb_fn = synthesis.steadily(task, steepest("l2", options.step_size))
    climb = synthesis.stages(models.create(release.config), climb_fn, options.steps)

    def rows_of(rows):
        return jax.vmap(images.decode)(given[rows]), labels[rows]

    batch_size = options.batch_size
    return expedition.frames(climb, release.variables, rows_of, len(given), batch_size, track)[-1]


def refine(options: Options) -> int:
    """Load, climb, write."""
    check(options)
    release, began = checkpoints.load(options.classifier), time.perf_counter()
    o = options
    given, _, skipped = unlabelled.decoded(release, o.given, o.split, o.data_dir, o.image_size, o.num)
    labels = studio.labels_of(options, release, given)
    with console.bar() as bar:
        track = functools.partial(bar.track, description="refining")
        better = refined(options, release, given, labels, track)
    write(options, release, given, better, labels, time.perf_counter() - began)
    return console.skipped(skipped)


def write(options: Options, release, given, better, labels, seconds: float) -> None:
    """The arrays, the sheet if asked for, and the closing line."""
    names = np.array(release.class_names)
    checkpoints.write_arrays(options.out, {"images": better, "labels": labels, "class_names": names})
    if options.sheet:
        columns = min(len(given), COLUMNS)
        title = f"logit, {options.steps} steps of {options.step_size:g}, l2 radius {options.radius:g}"
        shown = np.concatenate([given[:columns], better[:columns]])
        pictures.write_sheet(options.sheet, shown, columns, ["given", "refined"], title)
    model = models.create(release.config)
    found = expedition.outcome(model, release.variables, given, better, labels, options.batch_size)
    numbers = expedition.numbers(found, [{"class": str(name)} for name in names[labels]])
    console.report(options.json, numbers | {"seconds": seconds})
    print(
        f"{options.out}: {len(labels)} images refined in {seconds:.1f} s; "
        f"mean log p {numbers['log_prob_start']:.2f} -> {numbers['log_prob']:.2f}, "
        f"l2 moved {numbers['l2_moved']:.2f}"
    )


def main() -> None:
    """The command."""
    console.run(Options, refine)


if __name__ == "__main__":
    main()
