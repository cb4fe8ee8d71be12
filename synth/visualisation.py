"""rsynth-visualize: images that units of the penultimate layer, or classes, respond to.

rsynth-visualize --features top:16 --data tfds:cifar10 --data-dir DIR --out features.png
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import options
from rsynth_jax.cli.report import Result, report, rows
from rsynth_jax.cli.run import Monitor, progress_bar, run
from rsynth_jax.cli.sheets import Page
from rsynth_jax.data import sources

if TYPE_CHECKING:
    from rsynth_jax.data.sources import Dataset
    from rsynth_jax.sampling.embedding import Embedding
    from rsynth_jax.storage.releases import Release

READERS = 2  # classes named beside a unit: those whose weights on it are largest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-visualize: images that units of the penultimate layer, or classes, respond to.

    Climbs the activation from draws of the Gaussians of classes taken at random, the same draws for every
    unit, and shows beside the results the real images of --data with the largest activation (Engstrom et al.
    2019). Start i depends on (seed, i) alone. The sheet has a row for each unit, then for each class.
    """

    classifier: options.ClassifierName = "cifar10"
    features: Annotated[tuple[str, ...], arg(metavar="UNIT ...")] = ()
    """Units of the penultimate layer by number, or top:K: the K that move the logits most, by the length of
    the weights that read them, times the deviation over --data where it is given."""
    classes: Annotated[tuple[str, ...], arg(metavar="CLASS ...")] = ()
    """Classes by name or number, or all; their activation is the logit."""
    data: Annotated[str | None, arg(metavar="A")] = None
    """Real images: a folder, an .npz, or tfds:NAME; by default none."""
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
    output: options.SheetFlags = options.SheetFlags(out=Path("features.png"))
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(starts=self.starts, real=self.real, num=self.num)
        checks.seed(seed=self.seed)
        if not (self.features or self.classes):
            raise ValueError("nothing to visualize: give --features (numbers, or top:K) or --classes")


def visualize(flags: Options) -> int:
    """Visualize and report."""
    from rsynth_jax import models
    from rsynth_jax.sampling import measures, samplers
    from rsynth_jax.storage import releases
    from rsynth_jax.synthesis.parameterization import PARAMETERIZATIONS

    ascent = flags.ascent
    kind = checks.named("parameterization", flags.parameterization, PARAMETERIZATIONS)
    flags.output.check()
    release = releases.load(flags.classifier)
    weights = np.asarray(models.readout(release.variables)[0])
    units = units_of(flags.features, weights)
    labels = samplers.labels_of(release, flags.classes) if flags.classes else []
    real = None if flags.data is None else _embedded(flags, flags.data, release)
    if real is not None:
        units = units_of(flags.features, weights, real.outputs.features.std(axis=0))
    settings = {"starts": flags.starts, "seed": flags.seed, "image_size": flags.reading.image_size}
    settings |= {"parameterization": kind} | ascent.settings
    with Monitor((len(units) + len(labels)) * flags.starts, ascent.steps) as monitor:
        found = samplers.visualize(release, units, labels, **settings, **monitor.run)
    names = [f"unit {unit}" for unit in units] + [release.class_names[label] for label in labels]
    activations = {"activation_start": found.activation_start, "activation": found.activation}
    shown = rows({"name": names} | activations)
    for row, unit in zip(shown, units, strict=False):
        row["readers"] = measures.readers(weights[unit], release.class_names)
    step_size = ascent.step_size * samplers.scale_of(release)
    title = f"{flags.starts} made by {ascent.steps} steps of {step_size:g}"
    cells = found.images
    if real is not None:
        cells = np.concatenate([cells, _add_real(real, units, labels, shown, flags.real)], axis=1)
        title += f", then the images of {flags.data} that activate it most"
    page = Page(cells, list(map(_caption, shown)), title)
    means = {name: float(column.mean()) for name, column in activations.items()}
    change = "mean activation {activation_start:.2f} -> {activation:.2f}".format_map(means)
    closing = f"{flags.starts} images of each of {len(shown)} in {monitor.seconds:.1f} s; {change}"
    numbers = means | {"shown": shown, "seconds": monitor.seconds}
    result = Result(page, numbers, closing, frames=[page], skipped=real.skipped if real else ())
    return report(flags.output.out, result, **flags.output.paths)


def units_of(asked: Sequence[str], weights: np.ndarray, deviations: np.ndarray | float = 1.0) -> list[int]:
    """Parse numbers of units, and top:K. Raises ValueError for a unit that does not exist."""
    from rsynth_jax.sampling import measures

    found = []
    for word in asked:
        kind, _, most = word.partition(":")
        if kind != "top":
            found.append(options.unit_number(word, len(weights)))
        elif not (most.isascii() and most.isdigit() and 0 < int(most) <= len(weights)):
            raise ValueError(f"cannot read {word!r}: write top:K, with K from 1 to {len(weights)}")
        else:
            found += measures.units_by_effect(weights, deviations)[: int(most)].tolist()
    return found


class _Real(NamedTuple):
    dataset: "Dataset"
    outputs: "Embedding"
    skipped: tuple[str, ...]


def _embedded(flags: Options, place: str, release: "Release") -> _Real:
    from rsynth_jax.sampling import embedding

    dataset = flags.reading.load(place, flags.split, release.image_shape[0]).first(flags.num)
    network = (release.model, release.variables)
    with progress_bar() as bar:
        reading, track = (functools.partial(bar.track, description=name) for name in ("reading", "embedding"))
        dataset, skipped = sources.readable(dataset, reading)
        outputs = embedding.embed_images(*network, dataset.images, flags.ascent.batch_size, track)
    return _Real(dataset, outputs, skipped)


def _add_real(
    real: _Real, units: list[int], labels: list[int], shown: list[dict[str, Any]], num: int
) -> np.ndarray:
    """Describe the `num` real images with the largest activation of each row; return them after a gap."""
    images = real.dataset.images
    columns = [real.outputs.features[:, units], real.outputs.logits[:, labels]]
    activations = np.concatenate(columns, axis=1)
    most = np.argsort(-activations, axis=0, kind="stable")[:num].T
    for row, values, chosen in zip(shown, activations.T, most, strict=True):
        row["real"] = [{"name": real.dataset.names[k], "activation": float(values[k])} for k in chosen]
    cells = np.stack([[images[k] for k in chosen] for chosen in most])
    return np.concatenate([np.full_like(cells[:, :1], 255), cells], axis=1)


def _caption(row: Mapping[str, Any]) -> str:
    """unit 205: -0.2 -> 5.1 (deer +0.9, airplane +0.1)."""
    means = [float(np.mean(row[name])) for name in ("activation_start", "activation")]
    readers = [f"{name} {weight:+.1f}" for name, weight in row.get("readers", {}).items()]
    more = f" ({', '.join(readers[:READERS])})" if readers else ""
    return f"{row['name']}: {means[0]:.1f} -> {means[1]:.1f}{more}"


main = functools.partial(run, Options, visualize)

if __name__ == "__main__":
    main()
