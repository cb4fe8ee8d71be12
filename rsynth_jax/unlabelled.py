"""The door to images without labels, decoded one by one where they are indexed.

images = load("photos/")
first = images[0]  # uint8 (h, w, c)
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rsynth_jax import data
from rsynth_jax.data import Mapped

KINDS = ("tfds", "folder", "npz")


def from_folder(path: Path, split: str, size: int | None) -> Sequence:
    """Every image file in PATH/split and in the folders there; split "all" is PATH itself."""
    name, percent = data.parse_split(split)
    root = path if name == "all" else path / name
    if not root.is_dir():
        raise ValueError(f"no folder {root}: give a folder of images, an .npz, or tfds:NAME")
    inner = sorted(folder for folder in root.iterdir() if folder.is_dir())
    return Mapped(data.from_files([root, *inner], percent, size), lambda pair: pair[0])


def from_npz(path: Path, split: str, size: int | None) -> Sequence:
    """The array `images` of an .npz, or `train_images` of the split "train"."""
    name, percent = data.parse_split(split)
    array = "images" if name == "all" else f"{name}_images"
    images = data.read_npz(path, array)[array]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"{path}: {array} must be uint8 (n, h, w, c) with 1 or 3 channels")
    chosen = images[data.share(len(images), percent)]
    return chosen if size is None else Mapped(chosen, lambda image: data.square_bytes(image, size))


def load(
    spec: str, split: str | None = None, data_dir: str | None = None, image_size: int | None = None
) -> Sequence:
    """The images that `spec` names: tfds:NAME, folder:PATH, npz:FILE, or the bare path of a folder or .npz.

    Args:
      split: by default test of TFDS, and all there is of a folder or an .npz.
      data_dir, image_size: as in `data.load`.

    Raises ValueError, in one line, for what cannot be found or read.
    """
    kind, _, place = spec.partition(":")
    if kind not in KINDS:
        kind, place = ("npz" if spec.endswith(".npz") else "folder"), spec
    split = split or ("test" if kind == "tfds" else "all")
    if not place:
        raise ValueError(f"cannot read {spec!r}: write a folder, an .npz, or tfds:NAME")
    path = Path(place).expanduser()
    if kind == "tfds":
        pairs, _ = data.from_tfds(place, split, data_dir, image_size)
        images = Mapped(pairs, lambda pair: pair[0])
    else:
        images = (from_npz if kind == "npz" else from_folder)(path, split, image_size)
    if not len(images):
        raise ValueError(f"{spec} has no images in split {split!r}")
    return images
