"""rsynth-paint: classes and features painted into an image, stroke after stroke, each under a mask.

rsynth-paint photo.png --stroke sky.png:ship --stroke left.png:feature=117 --out painted.png
"""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from tyro.conf import UseAppendAction, arg

from rsynth_jax.cli.edit import EditFlags, edit, largest_change
from rsynth_jax.cli.options import AscentFlags, OutputFlags, unit_number
from rsynth_jax.cli.photos import composite_in, masks_of
from rsynth_jax.cli.run import run
from rsynth_jax.data import regions
from rsynth_jax.data.regions import Regions
from rsynth_jax.data.sources import Pictures

if TYPE_CHECKING:
    from rsynth_jax.sampling.samplers import Stroke
    from rsynth_jax.storage.releases import Release
    from rsynth_jax.synthesis.tasks import ClassObjective


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(EditFlags):
    """rsynth-paint: classes and features painted into an image, stroke after stroke, each under a mask.

    A stroke is MASK:CLASS or MASK:feature=K: MASK an image, white where to paint, gray at a soft edge, or a
    rectangle LEFT,TOP,RIGHT,BOTTOM of the photograph, in pixels or in percent; CLASS a name or a number; K
    the number of a unit of the penultimate layer. Each stroke starts where the one before it ended. The sheet
    has a row an image, of up to 16: as given, the start, the result, the difference.

    The paper's values, at 224 pixels: radius 70, 140 steps of 1 a stroke.
    """

    stroke: UseAppendAction[Annotated[tuple[str, ...], arg(metavar="MASK:WHAT")]]
    """What to paint where; one flag a stroke, in this order."""
    ascent: AscentFlags = AscentFlags(radius=3.0, steps=40, step_size=0.1)
    output: OutputFlags = OutputFlags(out=Path("painted.png"))


def paint(flags: Options) -> int:
    """Paint stroke after stroke and report."""
    from rsynth_jax.sampling import samplers

    if not flags.stroke:
        raise ValueError("nothing to paint: give --stroke MASK:CLASS or MASK:feature=K")

    files, kinds = zip(*map(_parted, flags.stroke), strict=True)
    painted = regions.read(files)

    def sampler(release, given, objective, **settings):
        pairs = zip(painted.each, kinds, strict=True)
        strokes = [stroke_of(where, what, release, given, objective) for where, what in pairs]
        samples = samplers.paint(release, given.images, strokes, given.labels, **settings)
        kept = np.all([stroke.mask == 0 for stroke in strokes], axis=0)
        return samples, {"known_error": largest_change(given.images, samples.images, kept)}

    return edit(flags, sampler, rounds=len(flags.stroke), paste=composite_in(painted))


def _parted(words: str) -> tuple[str, str]:
    """Part MASK:CLASS or MASK:feature=K into where to paint, and what."""
    file, _, what = words.rpartition(":")
    if not file or not what:
        raise ValueError(f"cannot read the stroke {words!r}: write MASK:CLASS or MASK:feature=K")
    return file, what


def stroke_of(
    where: Regions, what: str, release: "Release", given: Pictures, objective: "ClassObjective"
) -> "Stroke":
    """Make the stroke of images. Raises ValueError for a class or a unit that does not exist."""
    from rsynth_jax import models
    from rsynth_jax.sampling import measures
    from rsynth_jax.sampling.samplers import Stroke
    from rsynth_jax.synthesis import objectives

    mask = masks_of(where, given, "where to paint")
    kind, _, unit = what.rpartition("=")
    if kind != "feature":
        return Stroke(mask, models.label_of(what, release.class_names), objective)
    num_units = len(measures.unit_weights(release))
    return Stroke(mask, unit_number(unit, num_units), objectives.activation)


main = functools.partial(run, Options, paint)

if __name__ == "__main__":
    main()
