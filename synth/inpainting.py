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

from rsynth_jax import images
from rsynth_jax.cli import options as studio
from rsynth_jax.cli import report as gallery
from rsynth_jax.cli import run as console
from rsynth_jax.data import image_files as photos
from rsynth_jax.synthesis import class_gaussians
from rsynth_jax.synthesis import tasks as synthesis
from rsynth_jax.synthesis.ascent import steepest
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.objectives import CLASS_OBJECTIVES
from rsynth_jax.synthesis.projections import ball_in_box, box
from rsynth_jax.synthesis.tasks import Task

VARIANCE = 0.03  # of a value, beside what a class's Gaussian says of it; chosen in docs/inpainting.md


def beginning(gaussians, image, label, missing):
    """The image with its hole as `label` leads one to expect, given what is known.

    The mean of the class's Gaussian given the known pixels; where those lie beside it, their difference is
    stretched over the hole as a harmonic_fill, so that there is no seam.
    """
    likely = class_gaussians.conditional_mean(gaussians, label, image, 1 - missing, VARIANCE)
    return box(*images.blends(image, missing))(likely + images.harmonic_fill(image - likely, missing))


def inpainting(classifier, image, label, start, missing, *, objective, radius):
    """Fill what is missing so that the whole looks like `label`; where nothing is, pixels stay, exactly.

    `missing` is 0 where a pixel is known, 1 in the hole; between them the result is a blend of the pixel with
    something, so much of it. The paper only penalises the change of the known; here the set is the ball
    around the start within the box of all blends, and its projection is exact.
    """
    stay = ball_in_box(start, radius, *images.blends(image, missing))
    return Task(start, CLASS_OBJECTIVES[objective](classifier, label), stay)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(studio.Options):
    """rsynth-inpaint: a hole in an image filled, so that the whole looks like its class.

    The hole is where --mask is white, cropped and resized as the images are, the same for all, or the square
    in their middle. Grey is a soft edge, a blend of old and new; where the mask is black every pixel stays as
    it is, to the last bit. The hole begins as the class leads one to expect: the mean of its Gaussian given
    the known pixels, joined to them by a harmonic_fill.
    """

    mask: Annotated[Path | None, arg(metavar="FILE")] = None
    """An image of the hole: white where pixels are missing. By default a square, a quarter of the area."""
    out: Path = Path("inpainted.png")
    """The sheet, a PNG with a row an image, of up to 16: as given, the start, the result, the difference."""
    objective: str = "logit"
    """log-prob (the paper's), logit, sum of both, or energy (of any class)."""
    radius: float = 1.5
    """Largest l2 distance from the start, in pixel values of [0, 1] at 32 pixels (paper: 21.6 at 224).

    More shows more of the class, and strays farther from what was there.
    """
    steps: int = 40
    """Steps of the ascent (paper: 720)."""
    step_size: float = 0.1
    """l2 length of a step, at 32 pixels (paper: 0.1 at 224)."""


def square(side: int) -> np.ndarray:
    """The hole in the middle that is half as high and half as wide, float32 (side, side, 1)."""
    hole = np.zeros((side, side, 1), np.float32)
    hole[side // 4 : side - side // 4, side // 4 : side - side // 4] = 1
    return hole


def missing_of(mask: Path | None, side: int) -> np.ndarray:
    """How much of each pixel is missing, float32 (side, side, 1). Raises ValueError for none or all."""
    if mask is None:
        return square(side)
    missing = photos.read_mask(mask, side)
    if missing.all() or not missing.any():
        what = "no known pixel: black is known" if missing.all() else "no hole: white is the hole"
        raise ValueError(f"{mask} has {what}")
    return missing


def filled(mask: Path | None, given: np.ndarray) -> np.ndarray:
    """The images uint8 (n, h, w, 3) with a harmonic_fill over the hole: what is known of them, of any class."""
    missing = missing_of(mask, given.shape[1])

    @jax.jit
    @jax.vmap
    def fill(image):
        return images.encode(images.harmonic_fill(images.decode(image), missing))

    return np.asarray(fill(given))


def begun(options: Options, subject: studio.Subject, missing: np.ndarray) -> np.ndarray:
    """The starts, float32 (n, h, w, 3)."""
    gaussians = subject.release.class_gaussians

    @jax.jit
    def begin(gaussians, given, labels):
        def one(pair):
            return beginning(gaussians, images.decode(pair[0]), pair[1], missing)

        return jax.lax.map(one, (given, labels), batch_size=options.batch_size)

    return np.asarray(begin(gaussians, subject.images, subject.labels))


def inpainted(options: Options, subject: studio.Subject, missing: np.ndarray) -> studio.Painted:
    """The climb."""
    task = functools.partial(inpainting, objective=options.objective, radius=options.radius)
    climb_fn = synthesis.with_optimizer(task, steepest(L2, options.step_size))
    each = np.broadcast_to(missing, (len(subject.images), *missing.shape))
    return studio.paint(options, subject, climb_fn, begun(options, subject, missing), each)


def inpaint(options: Options) -> int:
    """Load, climb, write."""
    subject = studio.read(options, functools.partial(filled, options.mask))
    missing = missing_of(options.mask, subject.images.shape[1])
    painted = inpainted(studio.scaled(options, subject.release), subject, missing)
    known_error = studio.change(subject.images, painted, missing == 0)
    return gallery.publish(options, subject, painted, {"known_error": known_error})


def main() -> None:
    """The command."""
    console.run(Options, inpaint)


if __name__ == "__main__":
    main()
