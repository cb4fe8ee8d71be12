"""Distances of samples to training images, beside those to as many test images: docs/quality.md.

    python -m benchmarks.quality.memorisation --data-dir DIR

Copies are nearer to training images. Without copies both distributions of distances are the same (Kolmogorov
and Smirnov's statistic, and its p), and half of the samples are nearer to each. Needs the extra `[eval]`.
"""

import numpy as np
from scipy import stats

from benchmarks import common
from rsynth_jax.metrics import neighbors
from rsynth_jax.sampling import samplers
from rsynth_jax.storage import releases

SHOWN = 40  # samples on the sheet
COLUMNS = 5  # samples in a row of it


@common.main(common.Options(num=100, out=common.RESULTS / "memorisation"))
def benchmark(options: common.Options) -> None:
    test = common.read(options, "test").images
    train = common.read(options, "train", slice(len(test))).images
    samples = samplers.generate(releases.load(options.classifier), num=options.num).images
    samples = np.concatenate([samples[i :: options.num] for i in range(options.num)])  # classes in turn
    features = common.embed(samples).features
    indices, to_train = neighbors.nearest(features, common.embed(train).features, 1)
    _, to_test = neighbors.nearest(features, common.embed(test).features, 1)
    ks, p = map(float, stats.ks_2samp(to_train[:, 0], to_test[:, 0]))
    nearer = common.estimate(to_train < to_test)
    medians = {"median_to_train": float(np.median(to_train)), "median_to_test": float(np.median(to_test))}
    figures = {"ks": ks, "p": p, "nearer_to_train": nearer._asdict()} | medians
    common.write(options.out, samples=len(samples), train=len(train), test=len(test), **figures)
    cells = np.stack([samples[:SHOWN], train[indices[:SHOWN, 0]]], axis=1)
    rows = len(cells) // COLUMNS
    cells = cells[: rows * COLUMNS].reshape(rows, 2 * COLUMNS, *samples.shape[1:])
    names = [f"{COLUMNS * row} ... {COLUMNS * (row + 1) - 1}" for row in range(rows)]
    title = "Samples, each with the training image nearest to it at its right"
    common.sheet(options.out, cells, names, title)
    print(f"{len(samples)} samples, {len(train)} training and {len(test)} test images:")
    print(f"nearer to training {common.interval(nearer, '.1%')},")
    print(f"KS of the distances {ks:.3f}, p {p:.2g}")
