"""rsynth-superresolve: an image with more pixels that, lowered again, is the image that was given.

rsynth-superresolve small.png --factor 4 --forward bicubic --class cat --out large.png
"""

import dataclasses
import functools
from pathlib import Path

from rsynth_jax import checks
from rsynth_jax.cli.edit import EditFlags, edit
from rsynth_jax.cli.options import AscentFlags, OutputFlags
from rsynth_jax.cli.run import run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(EditFlags):
    """rsynth-superresolve: an image with more pixels that, lowered again, is the image that was given.

    Images are first resized to the classifier's side over --factor, or to --image-size: give small ones. The
    sheet has a row an image, of up to 16: as given, the start, the result, the difference.

    The paper's values, at 224 pixels: radius 15, 50 steps of 1.
    """

    factor: int = 4
    """How many times as high and as wide."""
    forward: str = "block"
    """How the given image was lowered: block (means over blocks), bicubic or lanczos (as Pillow and others
    resize, with a low-pass). The result lowered so again is the given one."""
    ascent: AscentFlags = AscentFlags(radius=4.0, steps=30, step_size=0.1)
    output: OutputFlags = OutputFlags(out=Path("superresolved.png"))

    def __post_init__(self) -> None:
        checks.positive(factor=self.factor)


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
        return samples, {"consistency_error": errors}

    return edit(flags, sampler, factor=factor)


main = functools.partial(run, Options, superresolve)

if __name__ == "__main__":
    main()
