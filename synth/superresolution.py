"""rsynth-superresolve: an image with more pixels, whose means over blocks are the image that was given.

rsynth-superresolve small.png --factor 4 --class cat --out large.png
"""

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np

from rsynth_jax import checkpoints, checks, console, images, seeds, studio, synthesis
from rsynth_jax.ascent import steepest
from rsynth_jax.objectives import TOWARDS
from rsynth_jax.projections import ball_in_box, chain, low_resolution_in_box
from rsynth_jax.synthesis import Task


def superresolution(classifier, low, label, *, factor, objective, radius):
    """From the bicubic upsampling, climb towards `label`; the means of the blocks stay `low`, exactly.

    The paper only holds the result near its start. The center of the ball has those means, so that the
    projection onto them, which comes last, moves nothing out of the ball.
    """
    height, width, channels = low.shape
    means = low_resolution_in_box(low, factor)
    start = means(jax.image.resize(low, (factor * height, factor * width, channels), "cubic"))
    return Task(start, TOWARDS[objective](classifier, label), chain(ball_in_box(start, radius), means))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(studio.Options):
    """rsynth-superresolve: an image with more pixels, whose means over blocks are the image that was given.

    Images are first brought to the classifier's side over --factor, or to --image-size: give small ones.
    """

    factor: int = 4
    """How many times as high and as wide."""
    out: Path = Path("superresolved.png")
    """The sheet, a PNG with a row an image, of up to 16: as given, the start, the result, the difference."""
    radius: float = 4.0
    """Largest l2 distance from the start, in pixel values of [0, 1] (paper: 15 at 224 pixels)."""
    steps: int = 30
    """Steps of the ascent (paper: 50)."""
    step_size: float = 0.1
    """l2 length of a step (paper: 1 at 224 pixels)."""


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


def superresolve(options: Options) -> int:
    """Load, climb, write."""
    factor, side = options.factor, small_side(options)
    enlarge = functools.partial(enlarged, factor)
    small = studio.read(dataclasses.replace(options, image_size=side), enlarge)
    task = functools.partial(
        superresolution, factor=factor, objective=options.objective, radius=options.radius
    )

    def climb_fn(classifier, _, label, low):
        climb = synthesis.steadily(task, steepest("l2", options.step_size))
        return climb(classifier, images.decode(low), label)

    subject = small._replace(images=enlarge(small.images))
    painted = studio.paint(options, subject, climb_fn, small.images)
    error = np.abs(seeds.block_means(painted.frames[-1], factor) - small.images / 255).max(axis=(1, 2, 3))
    return studio.publish(options, subject, painted, {"consistency_error": error})


def main() -> None:
    """The command."""
    console.run(Options, superresolve)


if __name__ == "__main__":
    main()
