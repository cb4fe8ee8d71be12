"""The sheets that training runs draw: what their networks make of a few images or latents.

Each function takes a release and how long it was trained, in words, and returns a `Page`.
"""

import functools
from collections.abc import Sequence

import jax
import numpy as np

from rsynth_jax import checks
from rsynth_jax.cli.sheets import Page
from rsynth_jax.data import loader
from rsynth_jax.data.masks import Masked
from rsynth_jax.data.sources import Dataset
from rsynth_jax.images import encode
from rsynth_jax.models import style
from rsynth_jax.models.style import GeneratorConfig
from rsynth_jax.sampling import inverters, translators
from rsynth_jax.storage.generators import GeneratorRelease
from rsynth_jax.storage.inverters import InverterRelease
from rsynth_jax.storage.releases import Release
from rsynth_jax.storage.segmenters import SegmenterRelease
from rsynth_jax.storage.translators import TranslatorRelease
from rsynth_jax.training import gan, segmentation
from rsynth_jax.types import Bytes, Params

COLUMNS = 8  # of samples
STYLES = 5  # drawn for each image that is translated
ROWS = 8  # of samples, several for each class where the classes are fewer
MOST_ROWS = 20  # of samples: the first classes, where there are more
MOST_CLASSES = 8  # whose images are inverted: the first ones
SEGMENTED = 8  # test images that are segmented: the first ones
_COLORS = {"grey": (128, 128, 128), "beige": (222, 203, 164), "blue": (31, 119, 180), "red": (214, 39, 40)}
_COLORS |= {"green": (44, 160, 44), "orange": (255, 127, 14), "violet": (148, 103, 189)}


def drawn(release: GeneratorRelease, trained: str) -> Page:
    """Draw rows of samples of each class by a generator's averaged weights."""
    num = len(release.class_names)
    rows = np.repeat(np.arange(num), max(1, ROWS // num))[:MOST_ROWS]
    labels = np.repeat(rows, COLUMNS).astype(np.int32)
    images = np.asarray(_samples(release.config, release.variables, labels))
    cells = images.reshape(len(rows), COLUMNS, *images.shape[1:])
    return Page(cells, [release.class_names[row] for row in rows], trained)


def first_of_classes(test: Dataset) -> Bytes:
    """Take the first images of each class of a split, (classes, columns, h, w, c).

    Raises ValueError for a class without images.
    """
    images, labels = loader.in_memory(test, loader.MEMORY)
    rows = [np.flatnonzero(labels == label)[:COLUMNS] for label in range(min(MOST_CLASSES, labels.max() + 1))]
    least = min(map(len, rows))
    checks.positive(**{"the least number of test images of a class": least})
    return np.stack([images[row[:least]] for row in rows])


def inverted(classifier: Release, images: Bytes, release: InverterRelease, trained: str) -> Page:
    """Draw rows of images (rows, columns, h, w, c), each above its inversions by the averaged weights.

    The name of a row of inversions is the mean distance of their features. Two rows of draws of N(0, I)
    follow where the inverter is variational.
    """
    flat = images.reshape(-1, *images.shape[2:])
    found = inverters.invert_by(classifier, release, flat, batch_size=len(flat))
    cells = np.stack([images, found.images.reshape(images.shape)], axis=1).reshape(-1, *images.shape[1:])
    distances = found.distance.reshape(images.shape[:2]).mean(axis=1)
    names = [name for distance in distances for name in ("given", f"distance {distance:.2f}")]
    if release.config.latent_size:
        drawn = inverters.decode_prior(release, 2 * images.shape[1])
        cells = np.concatenate([cells, drawn.reshape(2, *images.shape[1:])])
        names += ["drawn", "drawn"]
    return Page(cells, names, trained)


def translated(images: Sequence[Bytes], release: TranslatorRelease, trained: str) -> Page:
    """Draw a row for each image of each domain, by the averaged weights.

    A row has the image, its translations in `STYLES` drawn styles, then an example, the same row's image of
    the other domain, and the translation in its style. Its name is of the translations, with the mean error
    of the drawn styles and that of the example's.

    Args:
      images: of the first domain, and of the second.
    """
    rows, names = [], []
    for given, others, to in zip(images, images[::-1], release.class_names[::-1], strict=True):
        examples = others[np.arange(len(given)) % len(others)]
        drawn = translators.translate_by(release, given, to, styles=STYLES, batch_size=len(given))
        each = [
            translators.translate_like(release, image[None], to, example[None])
            for image, example in zip(given, examples, strict=True)
        ]
        like = np.concatenate([found.images for found in each])
        rows.append(np.concatenate([given[:, None], drawn.images, examples[:, None], like], axis=1))
        errors = drawn.style_error.mean(axis=1), [float(found.style_error.mean()) for found in each]
        names += [f"{to}, style {a:.2f}, {b:.2f}" for a, b in zip(*errors, strict=True)]
    return Page(np.concatenate(rows), names, trained)


def segmented(test: Masked, release: SegmenterRelease, trained: str) -> Page:
    """Draw the first test images, their human masks, and the segmenter's."""
    images, masks = test.images[:SEGMENTED], test.masks[:SEGMENTED]
    found = segmentation.segment(release.config, release.variables, images)
    colors = class_colors(len(release.class_names))
    cells = np.stack([images, colors[masks], colors[found]])
    title = f"the first {len(images)} test images, {trained}; colors: {legend(release.class_names)}"
    return Page(cells, ["image", "human mask", "segmenter"], title)


def class_colors(num: int) -> np.ndarray:
    """Return a color for each class, uint8 (num, 3); past the named ones they are drawn from a fixed seed."""
    more = np.random.default_rng(0).integers(0, 256, (max(0, num - len(_COLORS)), 3), np.uint8)
    return np.concatenate([np.array(list(_COLORS.values()), np.uint8), more])[:num]


def legend(class_names: Sequence[str]) -> str:
    """Write which named color is which class."""
    return ", ".join(f"{color} {name}" for color, name in zip(_COLORS, class_names, strict=False))


@functools.partial(jax.jit, static_argnums=0)
def _samples(config: GeneratorConfig, params: Params, labels: jax.Array) -> jax.Array:
    """Images, uint8 (n, h, w, c), whose latents and noise depend on their row alone."""
    keys = jax.random.split(jax.random.key(0), len(labels))
    one = functools.partial(gan.generate, functools.partial(style.bind, config), params)
    return jax.vmap(lambda key, label: encode(one(key, label)[1]))(keys, labels)
