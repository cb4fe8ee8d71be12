"""rsynth-superresolve: an image with more pixels that, lowered again, is the image that was given.

rsynth-superresolve small.png --factor 4 --forward bicubic --class cat --out large.png
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from rsynth_jax import checks, images
from rsynth_jax.cli import options as studio
from rsynth_jax.cli import report as gallery
from rsynth_jax.cli import run as console
from rsynth_jax.storage import releases as checkpoints
from rsynth_jax.synthesis import tasks as synthesis
from rsynth_jax.synthesis.ascent import steepest
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.objectives import CLASS_OBJECTIVES
from rsynth_jax.synthesis.projections import ball_in_box, chain, low_resolution_in_box, resampled_in_box
from rsynth_jax.synthesis.tasks import Task


class Forward(NamedTuple):
    """How an image comes to have fewer pixels.

    Attributes:
      lower: (image, factor) -> the image with so many times fewer rows and columns.
      consistent: (low, factor) -> the projection onto the images in the box that `lower` makes `low`.
    """

    lower: Callable
    consistent: Callable


def resampling(method: str) -> Forward:
    """As `jax.image.resize` lowers, which low-passes first: but for rounding, as Pillow's filter does."""

    def lower(image, factor):
        height, width, channels = image.shape
        return jax.image.resize(image, (height // factor, width // factor, channels), method)

    def consistent(low, factor):
        return resampled_in_box(low, (factor * low.shape[0], factor * low.shape[1]), method)

    return Forward(lower, consistent)


FORWARD = {
    "block": Forward(images.downsample, low_resolution_in_box),
    "bicubic": resampling("cubic"),
    "lanczos": resampling("lanczos3"),
}


def superresolution(classifier, low, label, *, factor, forward, objective, radius):
    """From the bicubic upsampling, climb towards `label`; what `forward` makes of it stays `low`.

    The paper only holds the result near its start. The center of the ball is consistent with `low`, so that
    the projection onto all that is, which comes last, moves nothing out of the ball.
    """
    consistent = FORWARD[forward].consistent(low, factor)
    start = consistent(images.upsample(low, factor, "cubic"))
    return Task(
        start, CLASS_OBJECTIVES[objective](classifier, label), chain(ball_in_box(start, radius), consistent)
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(studio.Options):
    """rsynth-superresolve: an image with more pixels that, lowered again, is the image that was given.

    Images are first brought to the classifier's side over --factor, or to --image-size: give small ones.
    """

    factor: int = 4
    """How many times as high and as wide."""
    forward: str = "block"
    """How the given image was lowered: block (means over blocks), bicubic or lanczos (as Pillow and others
    resize, with a low-pass). The result lowered so again is the given one."""
    out: Path = Path("superresolved.png")
    """The sheet, a PNG with a row an image, of up to 16: as given, the start, the result, the difference."""
    radius: float = 4.0
    """Largest l2 distance from the start, in pixel values of [0, 1] at 32 pixels (paper: 15 at 224)."""
    steps: int = 30
    """Steps of the ascent (paper: 50)."""
    step_size: float = 0.1
    """l2 length of a step, at 32 pixels (paper: 1 at 224)."""


def enlarged(factor: int, small: np.ndarray) -> np.ndarray:
    """Every pixel of the images (n, h, w, c) as a block."""
    return small.repeat(factor, axis=1).repeat(factor, axis=2)


def small_side(options: Options) -> int:
    """The side to bring images to. Raises ValueError for a factor that does not divide the classifier's."""
    checks.positive(factor=options.factor)
    side = checkpoints.load(options.classifier).image_shape[0]
    if options.image_size is None and side % options.factor:
        raise ValueError(f"factor is {options.factor}: it does not divide the classifier's {side} pixels")
    return options.image_size or side // options.factor


def errors(options: Options, large: np.ndarray, small: np.ndarray) -> np.ndarray:
    """The largest gap in [0, 1] between each image, as written and lowered again, and the given one."""
    lower = functools.partial(FORWARD[options.forward].lower, factor=options.factor)
    gaps = jax.vmap(lambda image, low: lower(images.decode(image)) - images.decode(low))(large, small)
    return np.abs(gaps).max(axis=(1, 2, 3))


def superresolved(options: Options, subject: studio.Subject, small: np.ndarray) -> studio.Painted:
    """The climb, for the small images (n, h, w, 3) of a subject that shows them enlarged."""
    o = options
    asked = {"factor": o.factor, "forward": o.forward, "objective": o.objective, "radius": o.radius}
    task = functools.partial(superresolution, **asked)

    def climb_fn(classifier, _, label, low):
        climb = synthesis.with_optimizer(task, steepest(L2, o.step_size))
        return climb(classifier, images.decode(low), label)

    return studio.paint(o, subject, climb_fn, small)


def superresolve(options: Options) -> int:
    """Load, climb, write."""
    checks.named("forward", options.forward, FORWARD)
    enlarge, side = functools.partial(enlarged, options.factor), small_side(options)
    small = studio.read(dataclasses.replace(options, image_size=side), enlarge)
    subject = small._replace(images=enlarge(small.images))
    painted = superresolved(studio.scaled(options, small.release), subject, small.images)
    extra = {"consistency_error": errors(options, painted.frames[-1], small.images)}
    return gallery.publish(options, subject, painted, extra)


def main() -> None:
    """The command."""
    console.run(Options, superresolve)


if __name__ == "__main__":
    main()
