"""rsynth-visualize: images that units of the penultimate layer, or classes, respond to.

rsynth-visualize --features top:16 --data cifar10 --out features.png
"""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import classifiers, options
from rsynth_jax.cli.report import report
from rsynth_jax.cli.results import Real, visualized
from rsynth_jax.cli.run import Monitor, run, tracks
from rsynth_jax.data import sources

if TYPE_CHECKING:
    from rsynth_jax.storage.releases import Release


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-visualize: images that units of the penultimate layer, or classes, respond to.

    Climbs the activation from draws of the Gaussians of classes taken at random, the same draws for every
    unit, and shows beside the results the real images of --data with the largest activation (Engstrom et al.
    2019). Start i depends on (seed, i) alone. The sheet has a row for each unit, then for each class.
    """

    classifier: options.ClassifierName = "cifar10"
    dtype: options.Dtype = "float32"
    features: Annotated[tuple[str, ...], arg(metavar="UNIT ...")] = ()
    """Units of the penultimate layer by number, or top:K: the K that move the probabilities most, by the
    length of the weights that read them, less their mean over the classes. With --data it is times their
    deviation over its images, and units that are on for every image come last."""
    classes: Annotated[tuple[str, ...], arg(metavar="CLASS ...")] = ()
    """Classes by name or number, or all; their activation is the logit."""
    data: Annotated[str | None, arg(metavar="A")] = None
    """Real images: a folder, an .npz, cifar10, or tfds:NAME; by default none."""
    split: options.Split = None
    num: Annotated[int, arg(metavar="N")] = 1000
    """Only the first N images of A."""
    starts: int = 4
    """Images made of each, from starts of as many classes."""
    real: int = 4
    """Real images shown of each, at most."""
    seed: options.Seed = 0
    parameterization: options.ParameterizationName = "pixel"
    ascent: options.AscentFlags = options.AscentFlags(radius=30.0, steps=40, step_size=0.2)
    reading: options.DataFlags = options.DataFlags()
    output: options.PageFlags = options.PageFlags(out=Path("features.png"))
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(starts=self.starts, real=self.real, num=self.num)
        checks.seed(seed=self.seed)
        if not (self.features or self.classes):
            raise ValueError("nothing to visualize: give --features (numbers, or top:K) or --classes")


def visualize(flags: Options) -> int:
    """Visualize and report."""
    from rsynth_jax.sampling import measures, samplers
    from rsynth_jax.synthesis import parameterization

    ascent = flags.ascent
    kind = parameterization.named(flags.parameterization)
    flags.output.check()
    release = classifiers.load(flags.classifier, flags.dtype)
    weights = measures.unit_weights(release)
    units = options.units_of(flags.features, weights)
    labels = samplers.labels_of(release, flags.classes) if flags.classes else []
    settings = {"starts": flags.starts, "seed": flags.seed, "image_size": flags.reading.image_size}
    settings |= {"parameterization": kind} | ascent.settings(release)
    title = (
        f"{flags.starts} made by {ascent.steps} steps of {ascent.step_size * samplers.scale_of(release):g}"
    )
    real = None
    if flags.data is not None:
        real = _embedded(flags, flags.data, release, settings["batch_size"])
        units = options.units_of(flags.features, weights, real.outputs.features)
        title += f", then the images of {flags.data} that activate it most"
    with Monitor((len(units) + len(labels)) * flags.starts, ascent.steps) as monitor:
        found = samplers.visualize(release, units, labels, **settings, **monitor.run)
    result = visualized(release, units, labels, found, title, monitor.seconds, real, flags.real)
    return report(flags.output.out, result, **flags.output.written)


def _embedded(flags: Options, place: str, release: "Release", size: int) -> Real:
    from rsynth_jax.models import embedding

    dataset = flags.reading.load(place, flags.split, release.image_shape[0]).first(flags.num)
    network = (release.model, release.variables)
    with tracks() as track:
        dataset, skipped = sources.readable(dataset, track("reading"))
        outputs = embedding.embed_images(*network, dataset.images, size, track("embedding"))
    return Real(dataset, outputs, skipped)


main = functools.partial(run, Options, visualize)

if __name__ == "__main__":
    main()
