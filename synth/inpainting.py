"""rsynth-inpaint: a hole in an image filled, so that the whole looks like its class; what is known stays.

rsynth-inpaint photo.png --mask hole.png --class dog --out filled.png
"""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
from tyro.conf import arg

from rsynth_jax import console, images, photos, studio, synthesis
from rsynth_jax.ascent import steepest
from rsynth_jax.objectives import TOWARDS
from rsynth_jax.projections import ball_in_box, chain, pixels
from rsynth_jax.synthesis import Task


def inpainting(classifier, image, label, hole, *, objective, radius):
    """Fill `hole` so that the whole looks like `label`; the known pixels stay themselves, exactly.

    The paper only penalises their change. Here the set is {x : x = image outside the hole} ∩ ball ∩ box,
    and the chain is the exact projection onto it, as the start is `image` outside the hole.
    """
    start = images.fill(image, hole)
    stay = chain(pixels(image, ~hole), ball_in_box(start, radius))
    return Task(start, TOWARDS[objective](classifier, label), stay)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(studio.Options):
    """rsynth-inpaint: a hole in an image filled, so that the whole looks like its class.

    The hole is where --mask is brighter than mid grey, cropped and resized as the images are, the same for
    all, or the square in their middle. It begins with the mean color of the rest. Every known pixel stays as
    it is, to the last bit.
    """

    mask: Annotated[Path | None, arg(metavar="FILE")] = None
    """An image of the hole: white where pixels are missing. By default a square, a quarter of the area."""
    out: Path = Path("inpainted.png")
    """The sheet, a PNG with a row an image, of up to 16: as given, the start, the result, the difference."""
    radius: float = 4.0
    """Largest l2 distance from the start, in pixel values of [0, 1] (paper: 21.6 at 224 pixels)."""
    steps: int = 40
    """Steps of the ascent (paper: 720)."""
    step_size: float = 0.1
    """l2 length of a step (paper: 0.1 at 224 pixels)."""


def square(height: int, width: int) -> np.ndarray:
    """The hole in the middle that is half as high and half as wide, bool (h, w, 1)."""
    hole = np.zeros((height, width, 1), bool)
    hole[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return hole


def hole_of(mask: Path | None, side: int) -> np.ndarray:
    """The hole, bool (side, side, 1). Raises ValueError for none or all of it."""
    if mask is None:
        return square(side, side)
    hole = photos.read_mask(mask, side) > 0.5
    if hole.all() or not hole.any():
        raise ValueError(f"{mask} has {'no known pixel' if hole.all() else 'no hole'}: white is the hole")
    return hole


def filled(mask: Path | None, given: np.ndarray) -> np.ndarray:
    """The images uint8 (n, h, w, 3) as the ascent begins with them: all that is known of them."""
    hole = hole_of(mask, given.shape[1])

    @jax.vmap
    def fill(image):
        return images.encode(images.fill(images.decode(image), hole))

    return np.asarray(fill(given))


def inpaint(options: Options) -> int:
    """Load, climb, write."""
    subject = studio.read(options, functools.partial(filled, options.mask))
    hole = hole_of(options.mask, subject.images.shape[1])
    holes = np.broadcast_to(hole, (len(subject.images), *hole.shape))
    task = functools.partial(inpainting, objective=options.objective, radius=options.radius)
    climb_fn = synthesis.steadily(task, steepest("l2", options.step_size))
    painted = studio.paint(options, subject, climb_fn, holes)
    change = np.abs(painted.frames[-1].astype(int) - subject.images) * ~hole
    return studio.publish(options, subject, painted, {"known_error": change.max(axis=(1, 2, 3))})


def main() -> None:
    """The command."""
    console.run(Options, inpaint)


if __name__ == "__main__":
    main()
