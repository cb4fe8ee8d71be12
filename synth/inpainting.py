"""rsynth-inpaint: a hole in an image filled, so that the whole looks like its class; known pixels stay.

rsynth-inpaint photo.png --mask hole.png --class dog --out filled.png
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from rsynth_jax.cli.edit import EditFlags, edit, largest_change
from rsynth_jax.cli.options import AscentFlags, MaskWords, ObjectiveName, OutputFlags
from rsynth_jax.cli.photos import masks_of
from rsynth_jax.cli.run import run
from rsynth_jax.data import crops, image_files, regions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(EditFlags):
    """rsynth-inpaint: a hole in an image filled, so that the whole looks like its class.

    The hole is where --mask is white, or the square in the middle. Gray is a soft edge, a blend of old and
    new; where the mask is black every pixel is kept to the last bit. The hole starts as the mean of the
    class's Gaussian given the known pixels, joined to them by a harmonic fill. The sheet has a row an image,
    of up to 16: as given, the start, the result, the difference.

    A larger radius shows more of the class. The paper's values, at 224 pixels: log-prob, radius 21.6, 720
    steps of 0.1.
    """

    mask: MaskWords = ()
    """The hole, one flag a part: a rectangle LEFT,TOP,RIGHT,BOTTOM of the upright photograph, in pixels or in
    percent (40%,30%,60%,50%), or a mask file, white where pixels are missing. A file of the photograph's size
    follows its crop; any other one is of the part worked on. By default a square, a quarter of the area."""
    objective: ObjectiveName = "logit"
    ascent: AscentFlags = AscentFlags(radius=3.0, steps=20, step_size=0.2)
    output: OutputFlags = OutputFlags(out=Path("inpainted.png"))


def inpaint(flags: Options) -> int:
    """Inpaint and report."""
    from rsynth_jax.sampling import samplers

    where = regions.read(flags.mask)

    def sampler(release, given, **settings):
        side = given.images.shape[1]
        missing = masks_of(where, given, "the hole") if flags.mask else samplers.central_square(side)
        if missing.all():
            raise ValueError(f"{' '.join(flags.mask)} has no known pixel: black is known")
        samples = samplers.inpaint(release, given.images, missing, given.labels, **settings)
        return samples, {"known_error": largest_change(given.images, samples.images, missing == 0)}

    def without_hole(given):
        """Lower each photograph so that no known pixel has anything of the hole."""
        if given.files is None:
            return given
        images, side = given.images.copy(), given.images.shape[1]
        for image, file, frame in zip(images, given.files, given.frames, strict=True):
            missing = hole(frame, side)
            known = crops.known(image_files.read_image(file), frame.box, missing, side)
            np.copyto(image, known, where=regions.resized(missing, side, side) < 1)
        return given._replace(images=images)

    def hole(frame, side):
        size = (frame.box.height, frame.box.width)
        if flags.mask:
            return where.within(frame, *size)
        return regions.resized(samplers.central_square(side), *size)

    def paste(photo, frame, before, after):
        return crops.fill(photo, frame.box, after, hole(frame, len(after)))

    return edit(flags, sampler, prepare=without_hole, paste=paste)


main = functools.partial(run, Options, inpaint)

if __name__ == "__main__":
    main()
