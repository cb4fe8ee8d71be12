"""rsynth-superresolve: an image with more pixels that, lowered again, is the image that was given.

rsynth-superresolve small.png --factor 4 --forward bicubic --class cat --out large.png
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from rsynth_jax import checks
from rsynth_jax.cli import photos
from rsynth_jax.cli.edit import EditFlags, edit, edit_tiles
from rsynth_jax.cli.options import AscentFlags, ObjectiveName, OutputFlags
from rsynth_jax.cli.run import run
from rsynth_jax.data import image_files
from rsynth_jax.data.crops import Box


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(EditFlags):
    """rsynth-superresolve: an image with more pixels that, lowered again, is the image that was given.

    Images have the classifier's side over --factor, or less. Larger ones are enlarged in tiles with --tile,
    or lowered first with --demo. The sheet has a row an image, of up to 16: as given, the start, the result,
    the difference.

    The paper's values, at 224 pixels: log-prob, radius 15, 50 steps of 1.
    """

    factor: int = 4
    """How many times as high and as wide."""
    forward: str = "block"
    """How the given image was lowered: block (means over blocks), bicubic or lanczos (as Pillow and others
    resize, with a low-pass). The result lowered so again is the given one."""
    tile: bool = False
    """Enlarge one photograph of any size in overlapping tiles, which are blended."""
    demo: bool = False
    """Lower larger images first, their central square, to see what is recovered of them."""
    objective: ObjectiveName = "logit"
    ascent: AscentFlags = AscentFlags(radius=4.0, steps=20, step_size=0.15)
    output: OutputFlags = OutputFlags(out=Path("superresolved.png"))

    def __post_init__(self) -> None:
        checks.positive(factor=self.factor)
        if self.tile and self.demo:
            raise ValueError("--tile keeps every pixel, --demo lowers images first: give one of them")


def superresolve(flags: Options) -> int:
    """Enlarge and report."""
    from rsynth_jax.sampling import samplers
    from rsynth_jax.synthesis import tasks

    factor = flags.factor
    forward = checks.named("forward", flags.forward, tasks.FORWARDS)

    def sampler(release, given, **settings):
        small = given.images[:, ::factor, ::factor]
        samples = samplers.superresolve(
            release, small, given.labels, factor=factor, forward=forward, **settings
        )
        errors = samplers.consistency_errors(samples.images, small, factor, forward)
        return samples, {"consistency_error_in_255ths": errors}

    if flags.tile:
        return edit_tiles(flags, sampler, factor=factor, paste=photos.enlarged)
    lowered = flags.demo or flags.input.image_size
    fit = image_files.square_bytes if lowered else _no_larger
    return edit(flags, sampler, factor=factor, fit=fit, paste=photos.enlarged)


def _no_larger(image: np.ndarray, size: int, box: Box | None) -> np.ndarray:
    """`image_files.square_bytes` of an image that it does not lower."""
    width, height = box[2:] if box else image.shape[1::-1]
    if max(width, height) > size:
        ways = "give --tile to enlarge all of it, or --demo to lower it first"
        raise ValueError(
            f"an image of {width} x {height} is larger than the {size} x {size} enlarged: {ways}"
        )
    return image_files.square_bytes(image, size, box)


main = functools.partial(run, Options, superresolve)

if __name__ == "__main__":
    main()
