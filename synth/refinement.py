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
from tyro.conf import arg

from rsynth_jax import images, models
from rsynth_jax.cli import options as studio
from rsynth_jax.cli import run as console
from rsynth_jax.cli import sheets as pictures
from rsynth_jax.sampling import runner as expedition
from rsynth_jax.storage import files
from rsynth_jax.synthesis import objectives
from rsynth_jax.synthesis import tasks as synthesis
from rsynth_jax.synthesis.ascent import steepest
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.projections import ball_in_box
from rsynth_jax.synthesis.tasks import Task

COLUMNS = 16  # of a sheet at most: the rest is in the .npz


def refinement(classifier, image, label, *, radius):
    """Climb a little towards `label`, at most `radius` away: what is there stays, and gets clearer."""
    return Task(image, objectives.logit(classifier, label), ball_in_box(image, radius))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(studio.Given):
    """rsynth-refine: images made to look more like what they show, by a few small steps.

    For generated or damaged images of any source (BIGRoC, Ganz and Elad 2022). Each climbs the logit of its
    class inside a small l2 ball around itself. The class is --class, else the image's label where an .npz has
    labels, else what the classifier itself sees.
    """

    out: Path = Path("refined.npz")
    """The refined images: images uint8 (n, h, w, c), labels, class_names."""
    radius: float = 1.0
    """Largest l2 distance from the given image, in pixel values of [0, 1] at 32 pixels."""
    steps: int = 5
    """Steps of the ascent."""
    sheet: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write a sheet, a PNG: the first images, before and after."""


def check(options: Options) -> None:
    """Raise ValueError for a flag that makes no sense."""
    studio.check(options)
    files.check_writable(options.out, options.sheet, options.json)


def refined(options: Options, release, given: np.ndarray, labels: np.ndarray, track: Callable = iter):
    """The images uint8 (n, h, w, c) after the ascent; `track` wraps the loop over batches."""
    task = functools.partial(refinement, radius=options.radius)
    climb_fn = synthesis.with_optimizer(task, steepest(L2, options.step_size))
    climb = synthesis.stages(models.create(release.config), climb_fn, options.steps)

    def rows_of(rows):
        return jax.vmap(images.decode)(given[rows]), labels[rows]

    batch_size = options.batch_size
    return expedition.frames(climb, release.variables, rows_of, len(given), batch_size, track)[-1]


def refine(options: Options) -> int:
    """Load, climb, write."""
    check(options)
    began = time.perf_counter()
    release, given, _, labels, skipped = studio.subject(options)
    options = studio.scaled(options, release)
    with console.bar() as bar:
        track = functools.partial(bar.track, description="refining")
        better = refined(options, release, given, labels, track)
    write(options, release, given, better, labels, time.perf_counter() - began)
    return console.skipped(skipped)


def write(options: Options, release, given, better, labels, seconds: float) -> None:
    """The arrays, the sheet if asked for, and the closing line."""
    names = np.array(release.class_names)
    files.write_arrays(options.out, {"images": better, "labels": labels, "class_names": names})
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
