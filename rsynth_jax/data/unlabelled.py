"""The door to images whose labels may be missing, decoded one by one where they are indexed.

images = load("photos/")
first = images[0]  # uint8 (h, w, c)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rsynth_jax import models
from rsynth_jax.data import image_files as photos
from rsynth_jax.data import sources as data
from rsynth_jax.data.sources import Mapped
from rsynth_jax.sampling import embedding
from rsynth_jax.storage import files
from rsynth_jax.storage import releases as checkpoints

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
    images = files.read_arrays(path, array)[array]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"{path}: {array} must be uint8 (n, h, w, c) with 1 or 3 channels")
    chosen = images[data.share(len(images), percent)]
    return chosen if size is None else Mapped(chosen, lambda image: photos.square_bytes(image, size))


def from_file(path: Path, split: str, size: int | None) -> Sequence:
    """The one image of a file, which has no splits."""
    if split != "all":
        raise ValueError(f"{path} is one image: it has no split {split!r}")
    return [photos.read_image(path, size)]


READERS = {"folder": from_folder, "npz": from_npz, "file": from_file}


def parsed(spec: str, split: str | None) -> tuple[str, str, str]:
    """The kind, the place and the split that `load` is asked for."""
    kind, _, place = spec.partition(":")
    if kind not in KINDS:
        suffix, place = Path(spec).suffix.lower(), spec
        kind = "npz" if suffix == ".npz" else "file" if suffix in photos.SUFFIXES else "folder"
    if not place:
        raise ValueError(f"cannot read {spec!r}: write an image, a folder, an .npz, or tfds:NAME")
    return kind, place, split or ("test" if kind == "tfds" else "all")


def load(
    spec: str, split: str | None = None, data_dir: str | None = None, image_size: int | None = None
) -> Sequence:
    """The images that `spec` names: tfds:NAME, folder:PATH, npz:FILE, or a bare path, of one image too.

    Args:
      split: by default test of TFDS, and all there is of anything else.
      data_dir, image_size: as in `data.load`.

    Raises ValueError, in one line, for what cannot be found or read.
    """
    kind, place, split = parsed(spec, split)
    if kind == "tfds":
        pairs, _ = data.from_tfds(place, split, data_dir, image_size)
        images = Mapped(pairs, lambda pair: pair[0])
    else:
        images = READERS[kind](Path(place).expanduser(), split, image_size)
    if not len(images):
        raise ValueError(f"{spec} has no images in split {split!r}")
    return images


class Given(NamedTuple):
    """Images in memory, uint8 (n, h, w, 3), what to call each, and why others could not be read."""

    images: np.ndarray
    names: tuple[str, ...]
    skipped: tuple[str, ...]


def names(spec: str, split: str | None, num: int) -> tuple[str, ...]:
    """What to call the first `num` images, each its own: by their files, else by their numbers."""
    kind, place, split = parsed(spec, split)
    if kind == "file":
        return (Path(place).stem,)
    if kind == "folder":
        root = Path(place).expanduser()
        files = [file for _, _, file in from_folder(root, split, None).source.source[:num]]
        inside = ["" if file.parent.name in (root.name, split) else f"{file.parent.name}-" for file in files]
        stems = [prefix + file.stem for prefix, file in zip(inside, files, strict=True)]
        return tuple(
            stems if len(set(stems)) == len(files) else (str(i) + "-" + s for i, s in enumerate(stems))
        )
    return tuple(f"{i:04d}" for i in range(num))


def labels(spec: str, class_names: Sequence[str], split: str | None = None) -> np.ndarray | None:
    """The labels that an .npz has, (n,), as numbers among `class_names`; None where it has none.

    They go by name where the .npz has class_names of its own. Raises ValueError for a class that is unknown.
    """
    kind, place, split = parsed(spec, split)
    name, percent = data.parse_split(split)
    path, array = Path(place).expanduser(), "labels" if name == "all" else f"{name}_labels"
    file = files.read_arrays(path, optional=(array, "class_names")) if kind == "npz" else {}
    if array not in file:
        return None
    found, names = file[array], [str(name) for name in file.get("class_names", class_names)]
    if found.ndim != 1 or found.dtype.kind not in "iu" or not np.isin(found, range(len(names))).all():
        raise ValueError(f"{path}: {array} must be integers (n,) in 0 ... {len(names) - 1}")
    unknown = [names[label] for label in np.unique(found) if names[label] not in class_names]
    if unknown:
        known = ", ".join(class_names)
        raise ValueError(f"{path} has images of {', '.join(unknown)}: the classes are {known}")
    numbers = [list(class_names).index(names[label]) for label in found[data.share(len(found), percent)]]
    return np.array(numbers, np.int32)


def decoded(
    release: checkpoints.Release,
    spec: str,
    split: str | None = None,
    data_dir: str | None = None,
    image_size: int | None = None,
    num: int | None = None,
) -> Given:
    """The first `num` images, or all, in memory, for a classifier to work on.

    Of the classifier's own size unless told otherwise. A file that cannot be read is left out and told of.
    Raises ValueError where no image can be read, and where the classifier takes no such images.
    """
    images = load(spec, split, data_dir, image_size or release.image_shape[0])
    called = names(spec, split, min(len(images), num or len(images)))
    found, skipped = [], []
    for i, name in enumerate(called):
        try:
            found.append((images[i], name))
        except ValueError as error:
            skipped.append(str(error))
    if not found:
        raise ValueError(skipped[0])
    arrays, called = zip(*found, strict=True)
    given = np.stack(arrays)
    embedding.colors(models.create(release.config), release.variables, given.shape[1:])
    return Given(given, called, tuple(skipped))
