"""Are the images copies of training images? Distances to those, beside distances to images never trained on.

    python -m benchmarks.memorisation --data-dir DIR --out benchmarks/results/memorisation

Each of 1,000 samples has a nearest training image and a nearest test image, among as many of both, in the
features of an ImageNet EfficientNet-Lite0. Copies are nearer to the first. Without them the two distributions
of distances are one (Kolmogorov and Smirnov's statistic, and its p) and half of the samples are nearer to
each. Prints both statistics; OUT.png shows the first 40 samples, each beside its nearest training image.
Needs the extra `[eval]`.
"""

import dataclasses
import functools
import tempfile
from pathlib import Path

import jax
import numpy as np
import tyro
from scipy import stats

from benchmarks import record
from benchmarks.judging import judge_of
from rsynth_jax.cli import sheets as pictures
from rsynth_jax.data import sources as data
from rsynth_jax.metrics import neighbors
from rsynth_jax.metrics.estimates import share
from synth import generation

SHOWN, ACROSS = 40, 5  # samples on the sheet, and in a row of it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(record.Options):
    """Look for copies of training images."""

    num: int = 100
    """Samples of each class."""
    out: Path = Path("benchmarks/results/memorisation")
    """Written: OUT.png, OUT.json."""


def generated(options: Options) -> np.ndarray:
    """Samples of the default sampler, the classes in turn."""
    with tempfile.TemporaryDirectory() as folder:
        out, npz = Path(folder) / "sheet.png", Path(folder) / "images.npz"
        generation.generate(generation.Options(options.classifier, num=options.num, out=out, npz=npz))
        stored = np.load(npz)
        images, labels = stored["images"], stored["labels"]
    return images[np.lexsort((labels, np.arange(len(labels)) % options.num))]


def write_sheet(options: Options, made: np.ndarray, nearest: np.ndarray) -> None:
    """Samples, each with its nearest training image to its right."""
    pairs = np.stack([made[:SHOWN], nearest[:SHOWN]], axis=1).reshape(-1, *made.shape[1:])
    names = [f"{i} ... {i + ACROSS - 1}" for i in range(0, SHOWN, ACROSS)]
    title = "Samples, each with the training image nearest to it at its right"
    pictures.write_sheet(options.out.with_suffix(".png"), pairs, 2 * ACROSS, names, title)


def main() -> None:
    """Sample, measure, print, draw."""
    jax.config.update("jax_num_cpu_devices", 2)
    options = tyro.cli(Options)
    load = functools.partial(data.load, options.data, data_dir=options.data_dir)
    train, test = (load(split).examples[0] for split in ("train", "test"))
    train = train[: len(test)]
    made, judge = generated(options), judge_of(test)
    features = judge.features(made)
    indices, to_train = neighbors.nearest(features, judge.features(train), 1)
    _, to_test = neighbors.nearest(features, judge.real, 1)
    same, nearer = stats.ks_2samp(to_train[:, 0], to_test[:, 0]), share(to_train < to_test)
    numbers = {"samples": len(made), "train": len(train), "test": len(test)}
    numbers |= {"ks": float(same.statistic), "p": float(same.pvalue), "nearer_to_train": nearer._asdict()}
    numbers |= {"median_to_train": float(np.median(to_train)), "median_to_test": float(np.median(to_test))}
    record.write(options.out.with_suffix(".json"), numbers)
    write_sheet(options, made, train[indices[:, 0]])
    print(f"{len(made)} samples, {len(train)} training and {len(test)} test images:")
    print(f"nearer to training {nearer.value:.1%} [{nearer.low:.1%}, {nearer.high:.1%}],")
    print(f"KS of the distances {same.statistic:.3f}, p {same.pvalue:.2g}")


if __name__ == "__main__":
    main()
