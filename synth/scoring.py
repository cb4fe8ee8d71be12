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
from rsynth_jax.cli import options, sheets
from rsynth_jax.cli.report import print_lines
from rsynth_jax.cli.run import progress_bar, run
from rsynth_jax.data import image_files, sources

NEAREST = 5  # real images beside a generated one
LABELS = {"fd": "FD", "kid_x1000": "KID x 1000", "inception_score": "IS of A"}
LABELS |= {name: name for name in ("precision", "recall", "density", "coverage")}
Images = Sequence[np.ndarray]


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
    split_a: options.Split = None
    split_b: Annotated[str | None, arg(metavar="SPLIT")] = None
    """Split of B, as of A."""
    num: Annotated[int | None, arg(metavar="N")] = None
    """Only the first N images of A and of B."""
    features: Annotated[str, arg(metavar="NETWORK")] = "efficientnet-lite0"
    """Network: efficientnet-lite0, inception:FILE, or a classifier by name, file or training run."""
    batch_size: options.BatchSize = 50
    seed: options.Seed = 0
    reference: Annotated[Path | None, arg(metavar="FILE")] = None
    """An .npz that keeps B's features: written the first time, read from then on."""
    neighbors: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write a sheet: images of A beside those of B nearest to them, to find copies."""
    num_neighbors: int = 8
    """Rows of that sheet: the first images of A."""
    json: options.JsonFile = None
    reading: options.DataFlags = options.DataFlags()
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(batch_size=self.batch_size, num_neighbors=self.num_neighbors)
        checks.given(checks.positive, num=self.num)
        checks.seed(seed=self.seed)


def score(flags: Options) -> int:
    """Score, print and write."""
    from rsynth_jax.sampling import embedding, measures
    from rsynth_jax.storage import extractors

    size = flags.batch_size
    kept = None if flags.reference and flags.reference.is_file() else flags.reference
    options.check_outputs(npz=kept, image=flags.neighbors, json=flags.json)
    network = extractors.load(flags.features)
    began = time.perf_counter()
    given = flags.reading.load(flags.generated, flags.split_a).first(flags.num)
    others = flags.reading.load(flags.real, flags.split_b).first(flags.num)
    with progress_bar() as bar:
        names = ("reading A", "reading B", "features of A", "features of B", "comparing")
        reading, reading_b, *tracks = (functools.partial(bar.track, description=name) for name in names)
        images, skipped = _read(given, reading)
        reals, skipped_b = _read(others, reading_b)
        generated = embedding.embed_images(network.model, network.variables, images, size, tracks[0])
        real = measures.real_features(network, reals, flags.reference, batch_size=size, track=tracks[1])
        scores = measures.compare(generated, real, seed=flags.seed, track=tracks[2])
    numbers: dict[str, Any] = {"a": flags.generated, "split_a": flags.split_a, "num_a": len(images)}
    numbers |= {"b": flags.real, "split_b": flags.split_b, "num_b": len(reals)}
    numbers |= {"network": network.name, "network_digest": network.digest, "seed": flags.seed}
    numbers |= {name: estimate._asdict() for name, estimate in scores.items()}
    if flags.neighbors:
        first = generated.features[: flags.num_neighbors]
        numbers["neighbors"] = _write_neighbors(flags.neighbors, images, reals, first, real)
    numbers["seconds"] = time.perf_counter() - began
    lines = [
        f"{LABELS[name]:<16} {e.value:>9.4g}   [{e.low:.4g}, {e.high:.4g}]" for name, e in scores.items()
    ]
    sets = f"{flags.generated}: {len(images)} images against {len(reals)} of {flags.real}"
    closing = f"{sets}, by {network.name}, in {numbers['seconds']:.1f} s"
    return print_lines([*lines, closing], numbers, flags.json, skipped + skipped_b, flags.neighbors)


def _read(dataset: sources.Dataset, track: Any) -> tuple[Images, tuple[str, ...]]:
    from rsynth_jax.sampling import measures

    found = sources.readable(dataset, track)
    checks.enough(f"a comparison with {dataset.source}", measures.FEWEST, len(found.dataset))
    return found.dataset.images, found.skipped


def _write_neighbors(
    path: Path, images: Images, reals: Images, a: np.ndarray, b: np.ndarray
) -> dict[str, Any]:
    """A row for each image: itself, then the nearest real ones by the features a and b."""
    from rsynth_jax.metrics import neighbors

    indices, distances = neighbors.nearest(a, b, NEAREST)
    within = neighbors.median_nearest(b)
    side = min(images[0].shape[:2])
    rows = [[images[i], *(reals[j] for j in row)] for i, row in enumerate(indices)]
    cells = np.stack([[image_files.square_bytes(image, side) for image in row] for row in rows])
    names = [f"{i}: {row[0]:.3g}" for i, row in enumerate(distances)]
    about = f"distance to the first (between neighbours in B: {within:.3g})"
    sheets.write_sheet(path, sheets.Page(cells, names, f"A, then the {NEAREST} of B nearest; {about}"))
    return {"indices": indices.tolist(), "distances": distances.tolist(), "median_within_b": within}


main = functools.partial(run, Options, score)

if __name__ == "__main__":
    main()
