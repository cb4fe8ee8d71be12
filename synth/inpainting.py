"""rsynth-inpaint: a hole in an image filled, so that the whole looks like its class; known pixels stay.

rsynth-inpaint photo.png --mask hole.png --class dog --out filled.png
"""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from rsynth_jax.cli.edit import EditFlags, edit, largest_change, read_mask
from rsynth_jax.cli.options import AscentFlags, ObjectiveName, OutputFlags
from rsynth_jax.cli.run import run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(EditFlags):
    """rsynth-inpaint: a hole in an image filled, so that the whole looks like its class.

    The hole is where --mask is white, cropped and resized as the images are, the same for all, or the square
    in their middle. Gray is a soft edge, a blend of old and new; where the mask is black every pixel is kept
    to the last bit. The hole starts as the mean of the class's Gaussian given the known pixels, joined to
    them by a harmonic fill. The sheet has a row an image, of up to 16: as given, the start, the result, the
    difference.

    A larger radius shows more of the class. The paper's values, at 224 pixels: log-prob, radius 21.6, 720
    steps of 0.1.
    """

    mask: Annotated[Path | None, arg(metavar="FILE")] = None
    """An image of the hole: white where pixels are missing. By default a square, a quarter of the area."""
    objective: ObjectiveName = "logit"
    ascent: AscentFlags = AscentFlags(radius=1.5, steps=40, step_size=0.1)
    output: OutputFlags = OutputFlags(out=Path("inpainted.png"))


def inpaint(flags: Options) -> int:
    """Inpaint and report."""
    from rsynth_jax.sampling import samplers

    def sampler(release, given, **settings):
        side = given.images.shape[1]
        file = flags.mask
        missing = samplers.central_square(side) if file is None else read_mask(file, side, "the hole")
        if missing.all():
            raise ValueError(f"{file} has no known pixel: black is known")
        samples = samplers.inpaint(release, given.images, missing, given.labels, **settings)
        return samples, {"known_error": largest_change(given.images, samples.images, missing == 0)}

    return edit(flags, sampler)


main = functools.partial(run, Options, inpaint)

if __name__ == "__main__":
    main()
