"""rsynth-paint: classes and features painted into an image, stroke after stroke, each under a mask.

rsynth-paint photo.png --stroke sky.png:ship --stroke left.png:feature=117 --out painted.png
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from tyro.conf import UseAppendAction, arg

from rsynth_jax import images, models
from rsynth_jax.cli import options as studio
from rsynth_jax.cli import report as gallery
from rsynth_jax.cli import run as console
from rsynth_jax.data import image_files as photos
from rsynth_jax.synthesis import objectives
from rsynth_jax.synthesis import tasks as synthesis
from rsynth_jax.synthesis.ascent import steepest
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.objectives import CLASS_OBJECTIVES
from rsynth_jax.synthesis.projections import ball_in_box
from rsynth_jax.synthesis.tasks import Task


def painting(classifier, image, number, where, *, score, radius):
    """Climb `score(classifier, number)` where the mask is, at most `radius` away; the rest stays, exactly.

    Where the mask is between 0 and 1, so much of the result is new. The paper only penalises the change of
    the rest.
    """
    stay = ball_in_box(image, radius, *images.blends(image, where))
    return Task(image, score(classifier, number), stay)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(studio.Options):
    """rsynth-paint: classes and features painted into an image, stroke after stroke, each under a mask.

    A stroke is MASK:CLASS or MASK:feature=K: MASK an image, white where to paint, grey at a soft edge,
    cropped and resized as the images are; CLASS a name or a number; K the number of a unit of the penultimate
    layer. Each stroke begins where the one before it ended.
    """

    stroke: UseAppendAction[Annotated[tuple[str, ...], arg(metavar="MASK:WHAT")]]
    """What to paint where; one flag a stroke, in this order."""
    out: Path = Path("painted.png")
    """The sheet, a PNG with a row an image, of up to 16: as given, the start, the result, the difference."""
    radius: float = 3.0
    """Largest l2 distance of a stroke, in pixel values of [0, 1] at 32 pixels (paper: 70 at 224)."""
    steps: int = 40
    """Steps of a stroke (paper: 140)."""
    step_size: float = 0.1
    """l2 length of a step, at 32 pixels (paper: 1 at 224)."""


class Stroke(NamedTuple):
    """Where to paint, 0 to 1 (h, w, 1); what, by its number; its score, (classifier, number) -> Objective."""

    where: np.ndarray
    number: int
    score: Callable


def stroke_of(options: Options, release, words: str, side: int) -> Stroke:
    """MASK:WHAT read, for images of this side. Raises ValueError for a class or a unit that is not there."""
    mask, _, what = words.rpartition(":")
    if not mask or not what:
        raise ValueError(f"cannot read the stroke {words!r}: write MASK:CLASS or MASK:feature=K")
    where = photos.read_mask(Path(mask), side)
    if not where.any():
        raise ValueError(f"{mask} is black: white is where to paint")
    kind, _, unit = what.rpartition("=")
    if kind != "feature":
        return Stroke(where, console.label(what, release.class_names), CLASS_OBJECTIVES[options.objective])
    weights, _ = models.readout(release.variables)
    return Stroke(where, console.unit(unit, len(weights)), objectives.activation)


def wanted(strokes: list[Stroke], labels: np.ndarray) -> np.ndarray:
    """The class that each image was painted into: the last that a stroke names, else its own."""
    named = [stroke.number for stroke in strokes if stroke.score is not objectives.activation]
    return np.full_like(labels, named[-1]) if named else labels


def paint(options: Options) -> int:
    """Load, climb stroke by stroke, write."""
    if not options.stroke:
        raise ValueError("nothing to paint: give --stroke MASK:CLASS or MASK:feature=K")
    begun = subject = studio.read(options)
    options = studio.scaled(options, subject.release)
    num, side, *_ = subject.images.shape
    strokes = [stroke_of(options, subject.release, words, side) for words in options.stroke]
    frames, seconds = [subject.images], 0.0
    for stroke in strokes:
        task = functools.partial(painting, score=stroke.score, radius=options.radius)
        climb_fn = synthesis.with_optimizer(task, steepest(L2, options.step_size))
        wheres = np.broadcast_to(stroke.where, (num, *stroke.where.shape))
        numbered = subject._replace(labels=np.full(num, stroke.number, np.int32))
        painted = studio.paint(options, numbered, climb_fn, wheres)
        frames, seconds = frames + painted.frames[1:], seconds + painted.seconds
        subject = subject._replace(images=frames[-1])
    untouched = np.all([stroke.where == 0 for stroke in strokes], axis=0)
    painted = studio.Painted(frames, seconds)
    extra = {"known_error": studio.change(begun.images, painted, untouched)}
    return gallery.publish(options, begun._replace(labels=wanted(strokes, begun.labels)), painted, extra)


def main() -> None:
    """The command."""
    console.run(Options, paint)


if __name__ == "__main__":
    main()
