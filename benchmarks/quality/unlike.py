"""Scores that may tell photographs unlike the training images from test images: docs/quality.md.

    python -m benchmarks.quality.unlike --photos PHOTOS --data tfds:cifar10 --data-dir DIR

The energy is the log-sum-exp of the logits, the certainty the largest probability. The relative distance is
the squared Mahalanobis distance of the penultimate features to the nearest class mean, with the covariance
inside classes, less that to the mean of all training images, with their covariance (Ren et al. 2021). Each
score's AUROC, and the share of photographs that is below 95 % of the test images.
"""

import dataclasses

import numpy as np
import scipy.special

from benchmarks import common
from rsynth_jax.data import sources
from rsynth_jax.metrics import estimates
from rsynth_jax.metrics.ranking import auroc
from rsynth_jax.models import embedding
from rsynth_jax.storage import releases

LEVEL = 0.05  # share of the test images below the threshold
RIDGE = 1e-3  # of the mean variance, added to each covariance
HEADER = ("score", "AUROC", "below 95 % of the test images")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(common.Options):
    photos: str
    """A folder of photographs, unlike the training images."""


def relative_distance(train: np.ndarray, labels: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Measure features (n, d), given those of training images and their labels, (n,)."""
    means = np.stack([train[labels == label].mean(axis=0) for label in range(labels.max() + 1)])
    inside, all_of_them = precision(train - means[labels]), precision(train - train.mean(axis=0))
    nearest = np.min([squared(features - mean, inside) for mean in means], axis=0)
    return nearest - squared(features - train.mean(axis=0), all_of_them)


def precision(centered: np.ndarray) -> np.ndarray:
    covariance = centered.T @ centered / len(centered)
    return np.linalg.inv(covariance + RIDGE * np.diag(covariance).mean() * np.eye(len(covariance)))


def squared(offsets: np.ndarray, precision: np.ndarray) -> np.ndarray:
    return np.einsum("nd,de,ne->n", offsets, precision, offsets)


@common.main(Options(photos="photos", num=20_000, out=common.RESULTS / "unlike"))
def benchmark(options: Options) -> None:
    release = releases.load(options.classifier)
    side = release.image_shape[0]
    train, test = (common.read(options, split, slice(options.num), side) for split in ("train", "test"))
    photos = sources.read_all(sources.load(options.photos, image_size=side)).images
    found = {
        name: embedding.embed_images(release.model, release.variables, images, common.BATCH)
        for name, images in {"train": train.images, "test": test.images, "photos": photos}.items()
    }
    seen = found["train"].features.astype(np.float64)
    scores = {
        "energy": lambda each: scipy.special.logsumexp(each.logits, axis=1),
        "certainty": lambda each: scipy.special.softmax(each.logits, axis=1).max(axis=1),
        "relative distance, negated": lambda each: -relative_distance(seen, train.labels, each.features),
    }
    rows = {}
    for name, score in scores.items():
        known, unlike = score(found["test"]), score(found["photos"])
        low = estimates.share(unlike < np.quantile(known, LEVEL))
        rows[name] = {"auroc": auroc(known, unlike)._asdict(), "low": low._asdict()}
    common.write(
        options.out, classifier=options.classifier, photos=len(photos), test=len(test.images), rows=rows
    )
    table = [(name, *common.intervals(row, ("auroc", "low"))) for name, row in rows.items()]
    print(f"{options.classifier}: {len(photos)} photographs against {len(test.images)} test images")
    print(common.table(HEADER, table))
