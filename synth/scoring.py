"""rsynth-score: how close generated images are to real ones.

rsynth-score generated.npz tfds:cifar10 --data-dir DIR --num 1000
"""

import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import Positional, arg

from rsynth_jax import checks
from rsynth_jax.cli import sheets
from rsynth_jax.cli.options import BatchSize, DataFlags, JsonFile, Seed, Split, SystemFlags
from rsynth_jax.cli.report import print_lines
from rsynth_jax.cli.run import progress_bar, run
from rsynth_jax.data import image_files, sources
from rsynth_jax.storage import files

NEAREST = 5  # real images beside a generated one
LABELS = {
    "fd": "FD",
    "kid_x1000": "KID x 1000",
    "inception_score": "IS of A",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-score: how close generated images are to real ones.

    A and B are each a folder of images (in folders or not), an .npz with the array images, tfds:NAME,
    folder:PATH or npz:FILE. Prints, each with its 95 % interval, the Fréchet distance FD and the kernel
    distance KID (lower is better), the Inception Score of A, precision and density (are A's images like
    B's?), recall and coverage (does A have all that B has?). Compare such figures only where the network,
    B and the numbers of images are the same.
    """

    generated: Positional[Annotated[str, arg(metavar="A")]]
    """The images to score."""
    real: Positional[Annotated[str, arg(metavar="B")]]
    """The images to compare with; they may be of another size."""
    split_a: Split = None
    split_b: Annotated[str | None, arg(metavar="SPLIT")] = None
    """Split of B, as of A."""
    num: Annotated[int | None, arg(metavar="N")] = None
    """Only the first N images of A and of B."""
    features: Annotated[str, arg(metavar="NETWORK")] = "efficientnet-lite0"
    """Network: efficientnet-lite0, inception:FILE, or a classifier by name, file or training run."""
    batch_size: BatchSize = 50
    seed: Seed = 0
    reference: Annotated[Path | None, arg(metavar="FILE")] = None
    """An .npz that keeps B's features: written the first time, read from then on."""
    neighbors: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write a sheet, a PNG: images of A beside those of B nearest to them, to find copies."""
    num_neighbors: int = 8
    """Rows of that sheet: the first images of A."""
    json: JsonFile = None
    reading: DataFlags = DataFlags()
    system: SystemFlags = SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(batch_size=self.batch_size, num_neighbors=self.num_neighbors)
        checks.given(checks.positive, num=self.num)
        checks.not_negative(seed=self.seed)


def score(options: Options) -> int:
    """Score, print and write."""
    from rsynth_jax.sampling import embedding, measures
    from rsynth_jax.storage import extractors

    o = options
    files.check_writable(o.reference, o.neighbors, o.json)
    network = extractors.load(o.features)
    began = time.perf_counter()
    images = read(o, o.generated, o.split_a)
    reals = read(o, o.real, o.split_b)
    with progress_bar() as bar:
        tracks = [functools.partial(bar.track, description=f"features of {name}") for name in "AB"]
        generated = embedding.embed_images(network.model, network.variables, images, o.batch_size, tracks[0])
        real = measures.real_features(network, reals, o.reference, batch_size=o.batch_size, track=tracks[1])
        track = functools.partial(bar.track, description="comparing")
        scores = measures.compare(generated, real, seed=o.seed, track=track)
    numbers: dict[str, Any] = {"a": o.generated, "split_a": o.split_a, "num_a": len(images)}
    numbers |= {"b": o.real, "split_b": o.split_b, "num_b": len(reals)}
    numbers |= {"network": network.name, "network_digest": network.digest, "seed": o.seed}
    numbers |= {name: estimate._asdict() for name, estimate in scores.items()}
    if o.neighbors:
        first = generated.features[: o.num_neighbors]
        numbers["neighbors"] = write_neighbors(o.neighbors, images, reals, first, real)
    numbers["seconds"] = time.perf_counter() - began
    lines = [
        f"{LABELS[name]:<16} {e.value:>9.4g}   [{e.low:.4g}, {e.high:.4g}]" for name, e in scores.items()
    ]
    sets = f"{o.generated}: {len(images)} images against {len(reals)} of {o.real}"
    closing = f"{sets}, by {network.name}, in {numbers['seconds']:.1f} s"
    return print_lines([*lines, closing], numbers, o.json)


def read(options: Options, place: str, split: str | None) -> Sequence[np.ndarray]:
    """Open a set of images. Raises ValueError if there are too few."""
    from rsynth_jax.sampling import measures

    flags = options.reading
    images = sources.load(place, split, flags.data_dir, flags.image_size).first(options.num).images
    checks.enough(f"a comparison with {place}", measures.FEWEST, len(images))
    return images


def write_neighbors(
    path: Path, images: Sequence[np.ndarray], reals: Sequence[np.ndarray], a: np.ndarray, b: np.ndarray
) -> dict[str, Any]:
    """Write a sheet with a row for each image: itself, then the nearest real ones by the features a and b.

    Returns what it shows, and the median distance between nearest neighbors among the real images.
    """
    from rsynth_jax.metrics import neighbors

    indices, distances = neighbors.nearest(a, b, NEAREST)
    within = neighbors.median_nearest(b)
    side = min(images[0].shape[:2])
    rows = [[images[i], *(reals[j] for j in row)] for i, row in enumerate(indices)]
    cells = np.stack([[image_files.square_bytes(image, side) for image in row] for row in rows])
    names = [f"{i}: {row[0]:.3g}" for i, row in enumerate(distances)]
    title = (
        f"A, then the {NEAREST} of B nearest; distance to the first (between neighbours in B: {within:.3g})"
    )
    sheets.write_sheet(path, sheets.Page(cells, names, title))
    return {"indices": indices.tolist(), "distances": distances.tolist(), "median_within_b": within}


def main() -> None:
    """Run the command."""
    run(Options, score)


if __name__ == "__main__":
    main()
