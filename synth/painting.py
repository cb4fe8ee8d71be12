"""rsynth-paint: classes and features painted into an image, stroke after stroke, each under a mask.

rsynth-paint photo.png --stroke sky.png:ship --stroke left.png:feature=117 --out painted.png
"""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from tyro.conf import UseAppendAction, arg

from rsynth_jax.cli.edit import EditFlags, edit, largest_change, read_mask
from rsynth_jax.cli.options import AscentFlags, OutputFlags, unit_number
from rsynth_jax.cli.run import run
from rsynth_jax.storage import paths

if TYPE_CHECKING:
    from rsynth_jax.sampling.samplers import Stroke
    from rsynth_jax.storage.releases import Release
    from rsynth_jax.synthesis.tasks import ClassObjective


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(EditFlags):
    """rsynth-paint: classes and features painted into an image, stroke after stroke, each under a mask.

    A stroke is MASK:CLASS or MASK:feature=K: MASK an image, white where to paint, gray at a soft edge,
    cropped and resized as the images are; CLASS a name or a number; K the number of a unit of the penultimate
    layer. Each stroke starts where the one before it ended. The sheet has a row an image, of up to 16: as
    given, the start, the result, the difference.

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

    def sampler(release, given, objective, **settings):
        side = given.images.shape[1]
        strokes = [read_stroke(words, release, side, objective) for words in flags.stroke]
        samples = samplers.paint(release, given.images, strokes, given.labels, **settings)
        kept = np.all([stroke.mask == 0 for stroke in strokes], axis=0)
        return samples, {"known_error": largest_change(given.images, samples.images, kept)}

    return edit(flags, sampler, rounds=len(flags.stroke))


def read_stroke(words: str, release: "Release", side: int, objective: "ClassObjective") -> "Stroke":
    """Read MASK:CLASS or MASK:feature=K. Raises ValueError for a class or a unit that does not exist."""
    from rsynth_jax import models
    from rsynth_jax.sampling import measures
    from rsynth_jax.sampling.samplers import Stroke
    from rsynth_jax.synthesis import objectives

    file, _, what = words.rpartition(":")
    if not file or not what:
        raise ValueError(f"cannot read the stroke {words!r}: write MASK:CLASS or MASK:feature=K")
    mask = read_mask(paths.of(file), side, "where to paint")
    kind, _, unit = what.rpartition("=")
    if kind != "feature":
        return Stroke(mask, models.label_of(what, release.class_names), objective)
    num_units = len(measures.unit_weights(release))
    return Stroke(mask, unit_number(unit, num_units), objectives.activation)


main = functools.partial(run, Options, paint)

if __name__ == "__main__":
    main()
