"""Images with a class for each pixel: a folder of images, and a folder of masks of the same names.

    facades = load("folder:facades/train/images", "facades/train/masks")
    facades.images, facades.masks, facades.class_names     # uint8 (n, h, w, 3) and (n, h, w)

The mask of a.jpg is a.png: a PNG of indexed colors or grey, whose values are the numbers of the classes. The
names of the classes are in classes.txt, one a line, in the folder of the masks or one of the two above it.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from rsynth_jax import checks
from rsynth_jax.data import image_files, loader, sources
from rsynth_jax.data.sources import Dataset
from rsynth_jax.storage import files, paths

CLASSES = "classes.txt"
MOST_CLASSES = 256  # a byte holds the class of a pixel


class Masked(NamedTuple):
    """Images in memory, each with the class of every pixel.

    Attributes:
      dataset: the images by name; its class names are those of the masks.
    """

    dataset: Dataset
    images: UInt8[np.ndarray, "n h w c"]
    masks: UInt8[np.ndarray, "n h w"]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class i of a mask is class_names[i]."""
        return self.dataset.class_names or ()


@files.one_line_errors()
def load(spec: str, masks: str | Path, image_size: int | None = None, num: int | None = None) -> Masked:
    """Read images and their masks into memory.

    Args:
      spec: folder:PATH or PATH, a folder of images.
      masks: the folder of the masks, NAME.png each.
      image_size: resize the central square of every image (Lanczos) and mask (nearest) to this side.
      num: only the first so many.

    Raises:
      ValueError: in one line, if an image has no mask or one of another size, if a mask holds a number that
        is no class, or if there is no classes.txt.
    """
    names = read_classes(paths.of(masks))
    dataset = sources.load(spec, image_size=image_size).first(num)
    if dataset.stems is None:
        raise ValueError(f"{spec}: masks belong to image files: give a folder of images")
    original = sources.load(spec).first(num) if image_size else dataset
    images, classes = [], []
    for i, stem in enumerate(dataset.names):
        image = dataset[i].image
        size = original[i].image.shape[:2] if image_size else image.shape[:2]
        checks.same_size(images[0].shape if images else image.shape, image.shape)
        images.append(image)
        classes.append(_read_mask(paths.of(masks) / f"{stem}.png", size, len(names), image_size))
    dataset = dataclasses.replace(dataset, class_names=names)
    return Masked(dataset, np.stack(images), np.stack(classes))


def batches_between(
    data: Masked, batch_size: int, seed: int, first: int, last: int, rows: slice = loader.ALL
) -> Iterator[tuple[UInt8[np.ndarray, "b h w c"], UInt8[np.ndarray, "b h w"]]]:
    """Iterate over the images and masks of the steps from `first` to `last` - 1, as `loader.rows_between`."""
    for chosen in loader.rows_between(len(data.images), batch_size, seed, first, last, rows):
        yield data.images[chosen], data.masks[chosen]


@files.one_line_errors()
def read_classes(folder: Path) -> tuple[str, ...]:
    """Read the names of the classes of a folder of masks. Raises ValueError if there are none."""
    places = [folder, *paths.of(paths.absolute(folder)).parents[:2]]
    found = next((place / CLASSES for place in places if (place / CLASSES).is_file()), None)
    if found is None:
        raise ValueError(f"no {CLASSES} in {folder} or the two folders above it: write a class name a line")
    with files.errors_as(f"cannot read {found}"):
        names = tuple(line.strip() for line in files.read(found).decode("utf-8").splitlines() if line.strip())
    if not 0 < len(names) <= MOST_CLASSES or len(set(names)) < len(names):
        raise ValueError(f"{found}: write 1 to {MOST_CLASSES} class names, each once, one a line")
    return names


def _read_mask(file: Path, size: tuple[int, int], num_classes: int, side: int | None) -> np.ndarray:
    """One mask, uint8 (h, w)."""
    if not file.is_file():
        raise ValueError(f"no mask {file}: every image needs one of its name, a PNG")
    mask = image_files.read_indices(file)
    if mask.shape != size:
        (own, wide), (height, width) = mask.shape, size
        raise ValueError(
            f"{file} is {own} x {wide}: its image is {height} x {width}, give masks of that size"
        )
    if mask.max(initial=0) >= num_classes:
        found = f"class {mask.max()} of a pixel"
        raise ValueError(
            f"{file}: {found}, beyond the {num_classes} classes of {CLASSES} (0 to {num_classes - 1})"
        )
    return image_files.square_indices(mask, side)
