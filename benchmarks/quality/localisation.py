"""How much of a translation falls on the animals: docs/translation.md.

    python -m benchmarks.quality.localisation --data tfds:cycle_gan/horse2zebra --data-dir DIR

benchmarks/masks/horse2zebra.png holds the animals of the first 20 test images of each class, drawn by hand. A
row has their share of the squared change of the pixels, their share of the area, and the first over the
second: 1 where the change is everywhere alike. Means over images, with intervals.
"""

import functools
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from benchmarks import common
from benchmarks.quality.editing import PAPERS_TRANSLATION, values
from rsynth_jax.metrics import estimates
from rsynth_jax.sampling import samplers
from rsynth_jax.storage import releases
from rsynth_jax.types import Bytes

MASKS = Path(__file__).parents[1] / "masks" / "horse2zebra.png"  # 5 rows of 8, 64 x 64 each
HEADER = ("method", "from, to", "share of the change", "share of the area", "ratio of the two")


def masks(side: int) -> np.ndarray:
    """1 on an animal, (n, side, side): first the images of the first class, then those of the second."""
    with Pillow.open(MASKS) as sheet:
        pixels = np.asarray(sheet)
    rows, columns = (length // side for length in pixels.shape)
    return pixels.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)


def shares(made: Bytes, real: Bytes, animals: np.ndarray) -> np.ndarray:
    """The share of each image's squared change that falls on its animals, (n,)."""
    change = ((values(made) - values(real)) ** 2).sum(axis=-1)
    return (change * animals).sum((1, 2)) / change.sum((1, 2))


@common.main(
    common.Options(
        classifier="horse2zebra-64",
        data="tfds:cycle_gan/horse2zebra",
        num=20,
        out=common.RESULTS / "localisation",
    )
)
def benchmark(options: common.Options) -> None:
    release = releases.load(options.classifier)
    images, labels = common.read(options, "test", side=release.image_shape[0])
    drawn = np.stack(np.split(masks(release.image_shape[0]), 2))  # of 20 images of each class
    num = min(options.num, drawn.shape[1])
    chosen = common.first_of_each_class(labels, num)
    real, own, animals = images[chosen], labels[chosen], np.concatenate(drawn[:, :num])
    run = functools.partial(samplers.translate, release, real, 1 - own, batch_size=common.BATCH)
    found = {
        "rsynth-translate": run().images,
        "rsynth-translate --coarse 3": run(coarse=3.0).images,
        "paper, 200 steps": run(**PAPERS_TRANSLATION).images,
    }
    area, rows, table = animals.mean((1, 2)), {}, []
    for method, made in found.items():
        share = shares(made, real, animals)
        for label, name in enumerate(release.class_names):
            here = own == label
            figures = {"share": share[here], "area": area[here], "ratio": share[here] / area[here]}
            stored = {key: estimates.mean(each)._asdict() for key, each in figures.items()}
            way = f"{name} to {release.class_names[1 - label]}"
            rows[f"{method}, {way}"] = stored
            table.append((method, way, *common.intervals(stored, figures)))
    common.write(options.out, classifier=options.classifier, per_class=num, rows=rows)
    print(common.table(HEADER, table))
