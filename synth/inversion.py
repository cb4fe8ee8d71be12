"""rsynth-invert: images from their representations alone, and the way between two representations.

rsynth-invert photo.png --to other.png --frames 10 --out morph.gif
rsynth-invert photo.png --classifier cat-dog-64 --generator runs/faces
rsynth-invert photo.png --inverter runs/inverter
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import classifiers, one_pass, options, projection
from rsynth_jax.cli.parse import parse_variant
from rsynth_jax.cli.report import ROWS, Result, Title, report
from rsynth_jax.cli.results import interpolated, inverted
from rsynth_jax.cli.run import Monitor, run
from rsynth_jax.data import sources

if TYPE_CHECKING:
    from rsynth_jax.storage.releases import Release


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
    make = _invert if flags.to is None else _interpolate
    return report(flags.output.out, make(flags, release, given), **flags.output.written)


def _invert(flags: Options, release: "Release", given: sources.Pictures) -> Result:
    from rsynth_jax.sampling import samplers

    ascent = flags.ascent
    settings = {"starts": flags.starts, "seed": flags.seed} | ascent.settings(release)
    settings["smoothness_weight"] = 1.0 if flags.smooth is None else flags.smooth
    climbing = np.arange(len(given.images) * flags.starts)
    shown = flags.output.animate(climbing < ROWS * flags.starts)
    with Monitor(len(climbing), ascent.steps, shown) as monitor:
        found = samplers.invert(release, given.images, given.labels, **settings, **monitor.run)
    title = Title("feature match", ascent.steps, ascent.step_size * samplers.scale_of(release))
    return inverted(release, given, found, title, monitor)


def _interpolate(flags: Options, release: "Release", given: sources.Pictures) -> Result:
    from rsynth_jax.sampling import samplers

    steps = flags.ascent.steps
    dataset = sources.load(str(flags.to), None, flags.input.data_dir, given.images.shape[1])
    others = sources.read_all(dataset.first(flags.input.num))
    if others.skipped:
        raise ValueError(others.skipped[0])
    settings = {"frames": flags.frames, "smoothness_weight": flags.smooth or 0.0} | flags.ascent.settings(
        release
    )
    with Monitor(len(given.images) * flags.frames, steps) as monitor:
        found = samplers.interpolate(release, given.images, others.images, **settings, **monitor.run)
    return interpolated(release, given, others.names, found, steps, monitor.seconds)


def parse(options: type[Options], arguments: Sequence[str]) -> Any:
    """Parse as the inversion, the projection or the inverter, by the flag that is given."""
    variants = {"--generator": projection.Options, "--inverter": one_pass.Options}
    return parse_variant(options, variants, arguments)


main = functools.partial(run, Options, invert, parse)

if __name__ == "__main__":
    main()
