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
from rsynth_jax.cli.options import (
    AscentFlags,
    ClassifierName,
    DataFlags,
    ParameterizationName,
    Seed,
    SheetFlags,
    Split,
    SystemFlags,
    unit_number,
)
from rsynth_jax.cli.report import Result, close, title_of, write
from rsynth_jax.cli.run import monitor, progress_bar, run
from rsynth_jax.cli.sheets import Page
from rsynth_jax.data import sources

if TYPE_CHECKING:
    from rsynth_jax.sampling.embedding import Embedding
    from rsynth_jax.sampling.samplers import Visualization
    from rsynth_jax.storage.releases import Release

READERS = 2  # classes named beside a unit: those whose weights on it are largest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-visualize: images that units of the penultimate layer, or classes, respond to.

    Climbs the activation from draws of the Gaussians of classes taken at random, the same draws for every
    unit, and shows beside the results the real images of --data with the largest activation (Engstrom et al.
    2019). Start i depends on (seed, i) alone. The sheet has a row for each unit, then for each class.
    """

    classifier: ClassifierName = "cifar10"
    features: Annotated[tuple[str, ...], arg(metavar="UNIT ...")] = ()
    """Units of the penultimate layer by number, or top:K: the K that move the logits most, by the length of
    the weights that read them, times the deviation over --data where it is given."""
    classes: Annotated[tuple[str, ...], arg(metavar="CLASS ...")] = ()
    """Classes by name or number, or all; their activation is the logit."""
    data: Annotated[str | None, arg(metavar="A")] = None
    """Real images: a folder, an .npz, or tfds:NAME; by default none."""
    split: Split = None
    num: Annotated[int, arg(metavar="N")] = 1000
    """Only the first N images of A."""
    starts: int = 4
    """Images made of each, from starts of as many classes."""
    real: int = 4
    """Real images shown of each, at most."""
    seed: Seed = 0
    parameterization: ParameterizationName = "pixel"
    ascent: AscentFlags = AscentFlags(radius=30.0, steps=40, step_size=0.2)
    reading: DataFlags = DataFlags()
    output: SheetFlags = SheetFlags(out=Path("features.png"))
    system: SystemFlags = SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(starts=self.starts, real=self.real, num=self.num)
        checks.not_negative(seed=self.seed)
        if not (self.features or self.classes):
            raise ValueError("nothing to visualize: give --features (numbers, or top:K) or --classes")


def visualize(options: Options) -> int:
    """Visualize and report."""
    from rsynth_jax import models
    from rsynth_jax.sampling import samplers
    from rsynth_jax.storage import releases
    from rsynth_jax.synthesis.parameterization import PARAMETERIZATIONS

    o = options
    kind = checks.named("parameterization", o.parameterization, PARAMETERIZATIONS)
    o.output.check_writable()
    release = releases.load(o.classifier)
    weights = np.asarray(models.readout(release.variables)[0])
    units = units_of(o.features, weights)
    labels = samplers.labels_of(release, o.classes) if o.classes else []
    real = None if o.data is None else open_real(o, o.data, release)
    if real is not None:
        units = units_of(o.features, weights, real.outputs.features.std(axis=0))
    with monitor((len(units) + len(labels)) * o.starts, o.ascent.steps) as watched:
        settings = {"starts": o.starts, "seed": o.seed, "image_size": o.reading.image_size}
        settings |= {"parameterization": kind} | o.ascent.settings | watched.run
        shown = samplers.visualize(release, units, labels, **settings)
    result = result_of(o, release, units, labels, shown, real, watched.seconds)
    write(result, sheet=o.output.out, json=o.output.json)
    return close(o.output.out, result)


def result_of(
    options: Options,
    release: "Release",
    units: list[int],
    labels: list[int],
    shown: "Visualization",
    real: "Real | None",
    seconds: float,
) -> Result:
    """Lay out the images, a row for each unit, then for each class, and describe them."""
    from rsynth_jax import models
    from rsynth_jax.sampling import measures

    o = options
    names = [f"unit {unit}" for unit in units] + [release.class_names[label] for label in labels]
    columns = {"activation_start": shown.activation_start, "activation": shown.activation}
    each = [
        {"name": name} | {key: column[i].tolist() for key, column in columns.items()}
        for i, name in enumerate(names)
    ]
    weights = np.asarray(models.readout(release.variables)[0])
    for image, unit in zip(each, units, strict=False):
        image["readers"] = measures.readers(weights[unit], release.class_names)
    step_size = title_of("", o.ascent.steps, o.ascent, release).step_size
    title = f"{o.starts} painted by {o.ascent.steps} steps of {step_size:g}"
    cells = shown.images
    if real is not None:
        cells = np.concatenate([cells, add_real(real, units, labels, each, o.real)], axis=1)
        title += f", then the images of {o.data} that excite it most"
    page = Page(cells, [caption(image) for image in each], title)
    means = {name: float(column.mean()) for name, column in columns.items()}
    change = "mean activation {activation_start:.2f} -> {activation:.2f}".format_map(means)
    closing = f"{o.starts} images of each of {len(each)} in {seconds:.1f} s; {change}"
    return Result(page, means | {"shown": each, "seconds": seconds}, closing, frames=[page])


def units_of(asked: Sequence[str], weights: np.ndarray, deviations: np.ndarray | float = 1.0) -> list[int]:
    """Parse numbers of units, and top:K. Raises ValueError for a unit that does not exist."""
    from rsynth_jax.sampling import measures

    found: list[int] = []
    for word in asked:
        kind, _, most = word.partition(":")
        if kind != "top":
            found.append(unit_number(word, len(weights)))
        elif not (most.isascii() and most.isdigit() and 0 < int(most) <= len(weights)):
            raise ValueError(f"cannot read {word!r}: write top:K, with K from 1 to {len(weights)}")
        else:
            found += measures.units_by_effect(weights, deviations)[: int(most)].tolist()
    return found


class Real(NamedTuple):
    """Real images and the outputs of the network."""

    dataset: sources.Dataset
    outputs: "Embedding"


def open_real(options: Options, place: str, release: "Release") -> Real:
    """Open the real images, and apply the network to them."""
    from rsynth_jax.sampling import embedding

    o = options
    side = o.reading.image_size or release.image_shape[0]
    dataset = sources.load(place, o.split, o.reading.data_dir, side).first(o.num)
    network = (release.model, release.variables)
    with progress_bar() as bar:
        track = functools.partial(bar.track, description="embedding")
        outputs = embedding.embed_images(*network, dataset.images, o.ascent.batch_size, track)
    return Real(dataset, outputs)


def add_real(
    real: Real, units: list[int], labels: list[int], each: list[dict[str, Any]], num: int
) -> np.ndarray:
    """Describe the `num` real images with the largest activation of each, and return them after a gap."""
    outputs = real.outputs
    activations = np.concatenate([outputs.features[:, units], outputs.logits[:, labels]], axis=1)
    most = np.argsort(-activations, axis=0, kind="stable")[:num].T
    for image, values, rows in zip(each, activations.T, most, strict=True):
        image["real"] = [{"name": real.dataset.names[k], "activation": float(values[k])} for k in rows]
    images = np.stack([[real.dataset.images[k] for k in rows] for rows in most])
    return np.concatenate([np.full_like(images[:, :1], 255), images], axis=1)


def caption(image: Mapping[str, Any]) -> str:
    """Describe a row: unit 205: -0.2 -> 5.1 (deer +0.9, airplane +0.1)."""
    means = [float(np.mean(image[name])) for name in ("activation_start", "activation")]
    readers = [f"{name} {weight:+.1f}" for name, weight in image.get("readers", {}).items()]
    more = f" ({', '.join(readers[:READERS])})" if readers else ""
    return f"{image['name']}: {means[0]:.1f} -> {means[1]:.1f}{more}"


def main() -> None:
    """Run the command."""
    run(Options, visualize)


if __name__ == "__main__":
    main()
