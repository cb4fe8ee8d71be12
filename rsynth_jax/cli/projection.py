"""Project images into the codes of a generator: rsynth-invert with --generator.

rsynth-invert photo.png --classifier cat-dog-64 --generator runs/faces
"""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import classifiers, options, photos
from rsynth_jax.cli.report import ROWS, Result, image_arrays, report, rows
from rsynth_jax.cli.run import Monitor
from rsynth_jax.cli.sheets import Page

if TYPE_CHECKING:
    from rsynth_jax.data.sources import Pictures
    from rsynth_jax.sampling.runner import Samples
    from rsynth_jax.storage.releases import Release
    from rsynth_jax.types import Bytes

_GENERATOR = "A released generator's name, a .safetensors file, or a training run."
_CAPTION = "{name}: {class}, perceptual {perceptual:.2f}, RMSE {rmse:.3f}"
_CLOSING = "perceptual {perceptual_start:.3f} -> {perceptual:.3f}, RMSE {rmse_start:.3f} -> {rmse:.3f}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-invert: images of a generator that resemble the given ones.

    Climbs the resemblance, in the pixels and over the classifier's own layers, in the codes of the generator:
    a style for each layer, inside a ball around the mean code of --class, which is the start. Lengths are
    multiples of the typical distance between a drawn code and the mean code. Image i depends on (seed, i)
    alone. The step size decreases to 0 like a cosine.

    The sheet has a row an image, of up to 16: as given, the start, the result.
    """

    input: options.InputFlags
    classifier: options.ClassifierName = "cat-dog-64"
    generator: Annotated[str, arg(metavar="NAME", help=_GENERATOR)]
    label: options.ClassName = None
    seed: options.Seed = 0
    perceptual_weight: float = 0.05
    """Weight of the perceptual distance, beside the mean squared error of the pixels."""
    truncation: float = 1.0
    """Radius of the ball around the mean code; 0 is the mean code alone."""
    steps: int = 100
    """Number of steps of the ascent."""
    step_size: float = 0.1
    """Length of the first step."""
    batch_size: options.BatchSize = 40
    output: options.OutputFlags = options.OutputFlags(out=Path("projected.png"))
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(steps=self.steps, step_size=self.step_size, batch_size=self.batch_size)
        checks.not_negative(perceptual_weight=self.perceptual_weight, truncation=self.truncation)
        checks.seed(seed=self.seed)


def project(flags: Options) -> int:
    """Project the images, and report."""
    from rsynth_jax.sampling import codes
    from rsynth_jax.storage import generators

    flags.output.check()
    release, generator = classifiers.load(flags.classifier), generators.load(flags.generator)
    given = options.read(flags.input, release, flags.label)
    names = ("perceptual_weight", "truncation", "step_size", "seed", "batch_size")
    settings = {name: getattr(flags, name) for name in names} | {"num_steps": flags.steps}
    shown = flags.output.animate(np.arange(len(given.images)) < ROWS)
    begin = functools.partial(photos.announce, given, flags.output.paths.values())
    with Monitor(len(given.images), flags.steps, shown, begin=begin) as monitor:
        samples = codes.project(release, generator, given.images, given.labels, **settings, **monitor.run)
    result = _result(flags, release, given, samples, monitor)
    return report(flags.output.out, result, **flags.output.written)


def _result(
    flags: Options, release: "Release", given: "Pictures", samples: "Samples", monitor: Monitor
) -> Result:
    columns = {"name": given.names, "class": np.array(release.class_names)[samples.labels]}
    distances = _distances(release, given.images, samples)
    each = rows(columns | distances)
    captions = [_CAPTION.format_map(row) for row in each[:ROWS]]

    def page(step: int, images: "Bytes") -> Page:
        cells = np.stack([column[:ROWS] for column in (given.images, samples.starts, images)], axis=1)
        title = f"given, start, resemblance, {step} of {flags.steps} steps of {flags.step_size:g}"
        return Page(cells, captions, title)

    means = {name: float(column.mean()) for name, column in distances.items()}
    return Result(
        page(flags.steps, samples.images),
        means | {"images": each, "seconds": monitor.seconds},
        f"{len(each)} images in {monitor.seconds:.1f} s; " + _CLOSING.format_map(means),
        image_arrays(release, samples.images, samples.labels)
        | {"codes": samples.kept, "given": given.images},
        dict(zip(given.names, samples.images, strict=True)),
        [page(step, images) for step, images in monitor.frames.items()],
        given.skipped,
    )


def _distances(release: "Release", given: "Bytes", samples: "Samples") -> dict[str, np.ndarray]:
    """The distances of the starts and of the results to the given images."""
    from rsynth_jax.sampling import measures

    network = (release.model, release.variables)
    start = measures.resemblance(*network, samples.starts, given)
    end = measures.resemblance(*network, samples.images, given)
    return {f"{name}_start": column for name, column in start._asdict().items()} | end._asdict()
