"""The grid of generated images: their power at its periods over that of the frequencies beside.

    python -m benchmarks.quality.spectrum --classifiers restricted-imagenet-64 --data folder:RESTRICTED

The power of the lines and columns of images, gray, at a period of 4 pixels (the stride of a stem at 64
pixels) and of 2, over the mean power of the two frequencies below and the two above (of 2, which is the
highest, below): 1 where there is no grid. Generated images, `num` a class, by each classifier and shift of
the views (`rsynth-generate --shift`), beside the test images. Described in docs/quality.md.
"""

import dataclasses
import itertools

import numpy as np

from benchmarks import common
from rsynth_jax.metrics import estimates
from rsynth_jax.metrics.estimates import Estimate
from rsynth_jax.sampling import samplers
from rsynth_jax.storage import releases
from rsynth_jax.synthesis.parameterization import named
from rsynth_jax.types import Bytes

PERIODS = (4, 2)  # pixels
REACH = 2  # frequencies on each side
REPLICATES = 200  # of the bootstrap over images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(common.DataOptions):
    classifiers: tuple[str, ...] = ("restricted-imagenet-64-robust", "restricted-imagenet-64")
    """Released classifiers by name, .safetensors files, or training runs, of the classes of the data."""
    shifts: tuple[int, ...] = (0, 2)
    """Pixels by which each step's view of the images is shifted, at most."""
    parameterization: str | None = None
    """Coordinates of the ascent, as of `rsynth-generate`; by default the classifier's own."""


def power(images: Bytes) -> np.ndarray:
    """The power of each frequency, the mean over an image's lines and columns, (n, side // 2 + 1)."""
    gray = images.mean(axis=-1) / 255
    gray -= gray.mean(axis=(1, 2), keepdims=True)
    lines, columns = (np.abs(np.fft.rfft(gray, axis=axis)) ** 2 for axis in (2, 1))
    return lines.mean(axis=1) + columns.mean(axis=2)


def peak(powers: np.ndarray, place: int) -> float:
    mean = powers.mean(axis=0)
    places = [place + i for i in range(-REACH, REACH + 1) if i and place + i < len(mean)]
    return float(mean[place] / mean[places].mean())


def peaks(images: Bytes) -> dict[str, Estimate]:
    """The ratio at each period, with intervals over images."""
    powers, rng, found = power(images), np.random.default_rng(0), {}
    for period in PERIODS:
        place = images.shape[1] // period
        drawn = rng.integers(len(images), size=(REPLICATES, len(images)))
        replicates = np.array([peak(powers[rows], place) for rows in drawn])
        found[f"{period} pixels"] = estimates.bootstrapped(peak(powers, place), replicates, 0.0)
    return found


@common.main(Options(data="folder:restricted_imagenet_64", num=50, out=common.RESULTS / "spectrum"))
def benchmark(options: Options) -> None:
    kind = options.parameterization and named(options.parameterization)
    networks = {name: releases.load(name) for name in options.classifiers}
    side = next(iter(networks.values())).image_shape[0]
    sets = {"test images": common.read(options, "test", side=side).images}
    for (name, release), shift in itertools.product(networks.items(), options.shifts):
        settings = {"max_shift": shift, "parameterization": kind, "batch_size": common.BATCH}
        samples = samplers.generate(release, num=options.num, **settings)
        sets[f"{name}, shift {shift}"] = samples.images
    rows = {name: peaks(images) for name, images in sets.items()}
    stored = {name: {key: each._asdict() for key, each in row.items()} for name, row in rows.items()}
    common.write(options.out, per_class=options.num, rows=stored)
    columns = [f"{period} pixels" for period in PERIODS]
    table = [(name, *common.intervals(row, columns)) for name, row in stored.items()]
    print(common.table(("images", *columns), table))
