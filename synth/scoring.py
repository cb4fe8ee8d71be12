"""rsynth-score: how close generated images are to real ones.

rsynth-score generated.npz tfds:cifar10 --data-dir DIR --num 1000
"""

import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from rich.progress import Progress
from tyro.conf import Positional, arg

from rsynth_jax import checks
from rsynth_jax.cli import run as console
from rsynth_jax.cli import sheets as pictures
from rsynth_jax.data import image_files as photos
from rsynth_jax.data import sources as data
from rsynth_jax.data import unlabelled
from rsynth_jax.metrics import frechet, inception_score, kernel, neighbors
from rsynth_jax.metrics.estimates import Estimate
from rsynth_jax.sampling import embedding
from rsynth_jax.sampling.embedding import Embedding
from rsynth_jax.storage import extractors, files
from rsynth_jax.storage.extractors import Extractor

LEAST = 6  # images: a fifth neighbour, and the image itself
SHOWN = 5  # real images beside a generated one
LABELS = {
    "fd": "FD",
    "kid_x1000": "KID x 1000",
    "inception_score": "IS of A",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """rsynth-score: how close generated images are to real ones.

    A and B are each a folder of images (in folders or not), an .npz with the array images, tfds:NAME,
    folder:PATH or npz:FILE. Prints, each with its 95 % interval, the Fréchet distance FD and the kernel
    distance KID (lower is better), the Inception Score of A, precision and density (are A's images like
    B's?), recall and coverage (does A have all that B has?). Compare such figures only where the network,
    B and the numbers of images are the same.
    """

    generated: Positional[Annotated[str, arg(metavar="A")]]
    """The images to judge."""
    real: Positional[Annotated[str, arg(metavar="B")]]
    """The images they should be like; of another size, if need be."""
    split_a: Annotated[str | None, arg(metavar="SPLIT")] = None
    """Which of A: train, test, train[:50%] ...; by default test of TFDS, all of a folder or an .npz."""
    split_b: Annotated[str | None, arg(metavar="SPLIT")] = None
    """The same of B."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """Where TFDS data sets lie; TFDS's own default otherwise."""
    image_size: Annotated[int | None, arg(metavar="PIXELS")] = None
    """Resize the central square of every image to this side (Lanczos)."""
    num: Annotated[int | None, arg(metavar="N")] = None
    """Only the first so many of A and of B."""
    features: Annotated[str, arg(metavar="NETWORK")] = "efficientnet-lite0"
    """Whose features: efficientnet-lite0, inception:FILE, or a classifier by name, file or training run."""
    batch_size: int = 50
    """Images computed together; changes the speed, and the figures by no more than rounding."""
    seed: int = 0
    """Of the blocks of KID and the resamples of the Inception Score."""
    reference: Annotated[Path | None, arg(metavar="FILE")] = None
    """An .npz that keeps B's features: written the first time, read from then on."""
    neighbors: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write a sheet, a PNG: images of A beside those of B nearest to them. Are they copies?"""
    num_neighbors: int = 8
    """Its rows: the first so many of A."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write every number printed."""


def check(options: Options) -> None:
    """Raise ValueError for a flag that makes no sense."""
    o = options
    checks.positive(batch_size=o.batch_size, num_neighbors=o.num_neighbors)
    checks.given(checks.positive, num=o.num, image_size=o.image_size)
    checks.not_negative(seed=o.seed)
    files.check_writable(o.reference, o.neighbors, o.json)


def images_of(options: Options, spec: str, split: str | None) -> Sequence:
    """The images to compare, which must be enough for every figure."""
    images = unlabelled.load(spec, split, options.data_dir, options.image_size)
    num = min(len(images), options.num or len(images))
    checks.enough(f"a comparison with {spec}", LEAST, num)
    return data.Mapped(range(num), images.__getitem__)


def embed(options: Options, extractor: Extractor, images: Sequence, bar: Progress, name: str) -> Embedding:
    """Features and logits of one set, under a progress bar."""
    track = functools.partial(bar.track, description=f"features of {name}")
    batches = embedding.in_batches(images, options.batch_size, track)
    return embedding.embed(extractor.model, extractor.variables, batches, options.batch_size)


def real_features(options: Options, extractor: Extractor, images: Sequence, bar: Progress) -> np.ndarray:
    """B's features: computed, or from the reference where there is one, which is written where there is none.

    A reference holds for one network and one set of images: others raise ValueError.
    """
    path = options.reference
    if path is not None and path.exists():
        return referred(options, extractor, images, bar)
    embedded = embed(options, extractor, images, bar, "B")
    if path is not None:
        digests = {"images": np.array(embedded.digest), "network": np.array(extractor.digest)}
        files.write_arrays(path, {"features": embedded.features} | digests)
    return embedded.features


def referred(options: Options, extractor: Extractor, images: Sequence, bar: Progress) -> np.ndarray:
    """The features in the reference, once it is known to be B's and the network's."""
    path = options.reference
    stored = files.read_arrays(path, "features", "images", "network")
    if str(stored["network"]) != extractor.digest:
        raise ValueError(f"{path} holds features of another network than {extractor.name}: give another FILE")
    track = functools.partial(bar.track, description="checking B")
    if str(stored["images"]) != embedding.digest(embedding.in_batches(images, options.batch_size, track)):
        raise ValueError(f"{path} holds features of other images than {options.real}'s: give another FILE")
    checks.features("a comparison", len(images), stored["features"])
    return stored["features"]


def measures(generated: Embedding, real: np.ndarray, seed: int) -> dict:
    """What computes each figure, by the names of `LABELS`."""
    a, rng = generated.features, functools.partial(np.random.default_rng, seed)
    return {
        ("fd",): lambda: [frechet.frechet_estimate(a, real)],
        ("kid_x1000",): lambda: [Estimate(*(1000 * end for end in kernel.kid(a, real, rng())))],
        ("inception_score",): lambda: [inception_score.inception_score(generated.logits, rng())],
        ("precision", "recall"): lambda: neighbors.precision_recall(a, real),
        ("density", "coverage"): lambda: neighbors.density_coverage(a, real),
    }


def compare(generated: Embedding, real: np.ndarray, seed: int, bar: Progress) -> dict[str, Estimate]:
    """Every figure, under a progress bar."""
    found = {}
    for names, measure in bar.track(measures(generated, real, seed).items(), description="comparing"):
        found |= zip(names, measure(), strict=True)
    return {name: found[name] for name in LABELS}


def write_neighbors(
    options: Options, images: Sequence, reals: Sequence, a: np.ndarray, b: np.ndarray
) -> dict:
    """The sheet, a row for an image of A and those of B nearest to it in features. Returns what it shows.

    How close a copy would be is told by the distances between real images.
    """
    indices, distances = neighbors.nearest(a[: options.num_neighbors], b, SHOWN)
    usual = float(np.median(np.sqrt(neighbors.radii(b, 1))))
    side = min(images[0].shape[:2])
    rows = [[images[i], *(reals[j] for j in row)] for i, row in enumerate(indices)]
    cells = np.stack([photos.square_bytes(image, side) for row in rows for image in row])
    names = [f"{i}: {row[0]:.3g}" for i, row in enumerate(distances)]
    title = f"A, then the {SHOWN} of B nearest; distance to the first (between neighbours in B: {usual:.3g})"
    pictures.write_sheet(options.neighbors, cells, 1 + SHOWN, names, title)
    return {"indices": indices.tolist(), "distances": distances.tolist(), "median_within_b": usual}


def score(options: Options) -> int:
    """Load, embed, compare, report."""
    check(options)
    extractor, began = extractors.load(options.features), time.perf_counter()
    images = images_of(options, options.generated, options.split_a)
    reals = images_of(options, options.real, options.split_b)
    with console.bar() as bar:
        generated = embed(options, extractor, images, bar, "A")
        real = real_features(options, extractor, reals, bar)
        figures = compare(generated, real, options.seed, bar)
    numbers = {"a": options.generated, "split_a": options.split_a, "num_a": len(images)}
    numbers |= {"b": options.real, "split_b": options.split_b, "num_b": len(reals)}
    numbers |= {"network": extractor.name, "network_digest": extractor.digest, "seed": options.seed}
    numbers |= {name: estimate._asdict() for name, estimate in figures.items()}
    if options.neighbors:
        numbers["neighbors"] = write_neighbors(options, images, reals, generated.features, real)
    numbers["seconds"] = time.perf_counter() - began
    console.report(options.json, numbers)
    for name, (value, low, high) in figures.items():
        print(f"{LABELS[name]:<16} {value:>9.4g}   [{low:.4g}, {high:.4g}]")
    print(
        f"{options.generated}: {len(images)} images against {len(reals)} of {options.real}, "
        f"by {extractor.name}, in {numbers['seconds']:.1f} s"
    )
    return 0


def main() -> None:
    """The command."""
    console.run(Options, score)


if __name__ == "__main__":
    main()
