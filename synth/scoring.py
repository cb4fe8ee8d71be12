"""rsynth-score: how close generated images are to real ones.

rsynth-score generated.npz cifar10 --num 1000
"""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from rsynth_jax import checks
from rsynth_jax.cli import options, results, sheets
from rsynth_jax.cli.report import print_lines
from rsynth_jax.cli.run import Clock, run, tracks
from rsynth_jax.data import sources
from rsynth_jax.storage import paths

LABELS = {"fd": "FD", "kid_x1000": "KID x 1000", "inception_score": "IS of A"}
LABELS |= {name: name for name in ("precision", "recall", "density", "coverage")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-score: how close generated images are to real ones.

    A and B are each a folder of images (in folders or not), an .npz with the array images, cifar10,
    tfds:NAME, folder:PATH or npz:FILE. Prints, each with its 95 % interval, the Fréchet distance FD and the
    kernel distance KID (lower is better), the Inception Score of A, precision and density (are A's images
    like B's?), recall and coverage (does A have all that B has?). Compare such figures only where the
    network, B and the numbers of images are the same.
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
    from rsynth_jax.models import embedding
    from rsynth_jax.sampling import measures
    from rsynth_jax.storage import extractors

    size = flags.batch_size
    kept = None if flags.reference and paths.is_file(flags.reference) else flags.reference
    options.check_outputs(npz=kept, image=flags.neighbors, json=flags.json)
    network = extractors.load(flags.features)
    clock = Clock()
    given = flags.reading.load(flags.generated, flags.split_a).first(flags.num)
    others = flags.reading.load(flags.real, flags.split_b).first(flags.num)
    with tracks() as track:
        given, skipped = sources.readable(given, track("reading A"))
        others, skipped_b = sources.readable(others, track("reading B"))
        for dataset in (given, others):
            checks.enough(f"a comparison with {dataset.source}", measures.FEWEST, len(dataset))
        made = track("features of A")
        generated = embedding.embed_images(network.model, network.variables, given.images, size, made)
        settings = {"batch_size": size, "track": track("features of B")}
        real = measures.real_features(network, others.images, flags.reference, **settings)
        scores = measures.compare(generated, real, seed=flags.seed, track=track("comparing"))
    numbers: dict[str, Any] = {"a": flags.generated, "split_a": flags.split_a, "num_a": len(given)}
    numbers |= {"b": flags.real, "split_b": flags.split_b, "num_b": len(others)}
    numbers |= {"network": network.name, "network_digest": network.digest, "seed": flags.seed}
    numbers |= {name: estimate._asdict() for name, estimate in scores.items()}
    if flags.neighbors:
        first = generated.features[: flags.num_neighbors]
        page, numbers["neighbors"] = results.nearest(given.images, others.images, first, real)
        sheets.write_picture(flags.neighbors, sheets.draw(page))
    numbers["seconds"] = clock.lap()
    lines = [
        f"{LABELS[name]:<16} {e.value:>9.4g}   [{e.low:.4g}, {e.high:.4g}]" for name, e in scores.items()
    ]
    sets = f"{flags.generated}: {len(given)} images against {len(others)} of {flags.real}"
    closing = f"{sets}, by {network.name}, in {numbers['seconds']:.1f} s"
    return print_lines([*lines, closing], numbers, flags.json, skipped + skipped_b, flags.neighbors)


main = functools.partial(run, Options, score)

if __name__ == "__main__":
    main()
