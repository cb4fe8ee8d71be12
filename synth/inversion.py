"""rsynth-invert: images from their representations alone, and the way between two representations.

rsynth-invert photo.png --to other.png --frames 10 --out morph.gif
rsynth-invert photo.png --classifier cat-dog-64 --generator runs/faces
rsynth-invert photo.png --inverter runs/inverter
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import classifiers, inversions, one_pass, options, photos, projection
from rsynth_jax.cli.parse import parse_variant
from rsynth_jax.cli.report import report
from rsynth_jax.cli.run import run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-invert: images from their representations alone, and the way between two representations.

    Finds the image whose penultimate features are those of the given one (Engstrom et al. 2019), from draws
    of the Gaussian of --class, never from the image, and keeps the nearest of --starts. With --to it goes
    from each image to another: frame t has the features (1 - t) R(a) + t R(b), and starts from the same blend
    of the pixels, so the ends are the images themselves. Image i depends on (seed, i) alone. The step size
    decreases to 0 like a cosine. With --generator NAME it projects the images into the codes of a generator,
    and with --inverter NAME a learned inverter makes the image in one pass: rsynth-invert --generator NAME
    --help, rsynth-invert --inverter NAME --help.

    The sheet has a row an image, of up to 16: as given, the start, the inversion; or the frames of the way to
    B, above the blends of the pixels. The animation of the way to B shows the frames alone.
    """

    input: options.InputFlags
    classifier: options.ClassifierName = "cifar10"
    dtype: options.Dtype = "float32"
    label: options.ClassName = None
    to: Annotated[str | None, arg(metavar="B")] = None
    """Images to go to from A: images as for A, one for all of them, or as many."""
    frames: int = 10
    """Number of frames from A to B, both ends among them."""
    starts: int = 4
    """Number of draws to start each inversion from."""
    seed: options.Seed = 0
    smooth: float | None = None
    """Weight of the smoothness; by default 1, and 0 with --to, where frames start from photographs."""
    ascent: options.AscentFlags = options.AscentFlags(radius=30.0, steps=60, step_size=0.4)
    output: options.OutputFlags = options.OutputFlags(out=Path("inverted.png"))
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(starts=self.starts, frames=self.frames)
        checks.seed(seed=self.seed)
        checks.given(checks.not_negative, smooth=self.smooth)
        if self.frames < 2:
            raise ValueError(f"frames is {self.frames}: give 2 or more, as both ends are among them")


def invert(flags: Options | projection.Options | one_pass.Options) -> int:
    """Invert, interpolate or project, and report."""
    if isinstance(flags, one_pass.Options):
        return one_pass.invert_by(flags)
    if isinstance(flags, projection.Options):
        return projection.project(flags)
    flags.output.check()
    release = classifiers.load(flags.classifier, flags.dtype)
    given = options.read(flags.input, release, flags.label)
    make = inversions.inverted if flags.to is None else inversions.interpolated
    result = make(flags, release, given)
    photos.announce(given, flags.output.paths.values())
    return report(flags.output.out, result, **flags.output.written)


def parse(options: type[Options], arguments: Sequence[str]) -> Any:
    """Parse as the inversion, the projection or the inverter, by the flag that is given."""
    variants = {"--generator": projection.Options, "--inverter": one_pass.Options}
    return parse_variant(options, variants, arguments)


main = functools.partial(run, Options, invert, parse)

if __name__ == "__main__":
    main()
