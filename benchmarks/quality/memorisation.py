"""Distances of samples to training images, beside their distances to images never trained on.

    python -m benchmarks.quality.memorisation --data-dir DIR

Each of 1,000 samples has a nearest training image and a nearest test image, among as many of both, in the
features of an ImageNet EfficientNet-Lite0. Copies are nearer to the first. Without copies both distributions
of distances are the same (Kolmogorov and Smirnov's statistic, and its p), and half of the samples are nearer
to each. OUT.png shows the first 40 samples, each beside its nearest training image. Needs the extra `[eval]`.
"""

import dataclasses
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks import common
from benchmarks.common import RESULTS
from rsynth_jax.cli.sheets import Page, write_sheet
from rsynth_jax.metrics import neighbors
from rsynth_jax.metrics.estimates import share
from rsynth_jax.sampling import samplers
from rsynth_jax.storage import releases
from rsynth_jax.types import Bytes

SHOWN = 40  # samples on the sheet
COLUMNS = 5  # samples in a row of it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(common.Options):
    """Look for copies of training images."""

    num: int = 100
    """Samples of each class."""
    out: Path = RESULTS / "memorisation"
    """Written: OUT.png, OUT.json."""


def draw(options: Options, samples: Bytes, nearest: Bytes) -> None:
    """Write samples, each with its nearest training image to its right."""
    cells = np.stack([samples[:SHOWN], nearest[:SHOWN]], axis=1)
    rows = len(cells) // COLUMNS
    cells = cells[: rows * COLUMNS].reshape(rows, 2 * COLUMNS, *samples.shape[1:])
    names = [f"{COLUMNS * row} ... {COLUMNS * (row + 1) - 1}" for row in range(rows)]
    title = "Samples, each with the training image nearest to it at its right"
    write_sheet(options.out.with_suffix(".png"), Page(cells, names, title))


def benchmark(options: Options) -> None:
    """Sample, measure, print, draw."""
    test = common.read(options, "test").images
    train = common.read(options, "train", slice(len(test))).images
    samples = samplers.generate(releases.load(options.classifier), num=options.num).images
    samples = np.concatenate([samples[i :: options.num] for i in range(options.num)])  # classes in turn
    features = common.embed(samples).features
    indices, to_train = neighbors.nearest(features, common.embed(train).features, 1)
    _, to_test = neighbors.nearest(features, common.embed(test).features, 1)
    ks, p = map(float, stats.ks_2samp(to_train[:, 0], to_test[:, 0]))
    nearer = share(to_train < to_test)
    common.write(
        options.out,
        samples=len(samples),
        train=len(train),
        test=len(test),
        ks=ks,
        p=p,
        nearer_to_train=nearer._asdict(),
        median_to_train=float(np.median(to_train)),
        median_to_test=float(np.median(to_test)),
    )
    draw(options, samples, train[indices[:, 0]])
    print(f"{len(samples)} samples, {len(train)} training and {len(test)} test images:")
    print(f"nearer to training {common.interval(nearer, '.1%')},")
    print(f"KS of the distances {ks:.3f}, p {p:.2g}")


if __name__ == "__main__":
    common.run(Options, benchmark)
