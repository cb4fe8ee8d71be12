"""Data sets: images and their labels, read where they are indexed.

    photos = load("photos/", image_size=32).first(16)     # a folder, an .npz, one image file or tfds:NAME
    pictures = read_all(photos)                           # images uint8 (n, 32, 32, 3), names, skipped files
    labels = labels_for(photos, release.class_names)      # int32 (n,), or None

    train = labelled(load("tfds:cifar10", "train[:90%]")) # refuses a data set without labels
    image, label = train[0]                               # uint8 (32, 32, 3), 6; train.images[0]: the image
    train.class_names[label]                              # "frog"

`rsynth_jax.data.loader` decodes a data set into memory and reads it in batches.
"""

import dataclasses
import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rsynth_jax import checks
from rsynth_jax.data import image_files
from rsynth_jax.storage import files

_PER_EXAMPLE = ("rows", "stems", "labels", "decoded")


class Example(NamedTuple):
    """One image, uint8 (h, w, c), and the number of its class, None where it has no label."""

    image: np.ndarray
    label: int | None = None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A sequence of n examples, read where they are indexed: `len(dataset)`, `dataset[i] -> Example`.

    Attributes:
      source: its name or path, for messages.
      read: the example of a row number.
      rows: int (n,), the row number of each example.
      class_names: label i is class_names[i]; None where there are none.
      stems: str (n,), the name of each file; None where the images are not in files of their own.
      labels: int (n,), in place of those that `read` returns, -1 for none; None: `read` returns them.
      stored: the labels of an .npz by row number, unchecked; `labelled` and `labels_for` check them.
      decoded: the images, uint8 (n, h, w, c), where they are in memory with `labels`; else None.
    """

    source: str
    read: Callable[[int], Example]
    rows: np.ndarray
    class_names: tuple[str, ...] | None = None
    stems: np.ndarray | None = None
    labels: np.ndarray | None = None
    stored: np.ndarray | None = None
    decoded: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Example:
        image, label = self.read(int(self.rows[i]))
        if self.labels is not None:
            label = int(self.labels[i]) if self.labels[i] >= 0 else None
        return Example(image, label)

    @property
    def images(self) -> Sequence[np.ndarray]:
        """The images alone, each read where it is indexed."""
        return _Images(self)

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each image, all different: of its file, else its number."""
        if self.stems is None:
            return tuple(f"{i:04d}" for i in range(len(self)))
        stems = self.stems.tolist()
        unique = len(set(stems)) == len(stems)
        return tuple(stems if unique else (f"{i}-{stem}" for i, stem in enumerate(stems)))

    def first(self, num: int | None) -> "Dataset":
        """The first `num` examples, all for None: a view, which reads nothing."""
        return self.take(slice(num))

    def take(self, chosen: slice | np.ndarray) -> "Dataset":
        """The examples of a slice, an array of numbers or a mask (n,): a view, which reads nothing."""
        parts = {name: getattr(self, name) for name in _PER_EXAMPLE}
        kept: dict[str, Any] = {name: part[chosen] for name, part in parts.items() if part is not None}
        return dataclasses.replace(self, **kept)


class _Images(Sequence[np.ndarray]):
    def __init__(self, dataset: Dataset):
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, i: Any) -> Any:
        return _Images(self._dataset.take(i)) if isinstance(i, slice) else self._dataset[i].image


class Pictures(NamedTuple):
    """Images in memory, uint8 (n, h, w, c), their names, and a line for each file that cannot be read."""

    images: np.ndarray
    names: tuple[str, ...]
    skipped: tuple[str, ...]


def load(
    spec: str, split: str | None = None, data_dir: str | None = None, image_size: int | None = None
) -> Dataset:
    """Open a data set by its name; labels are optional.

    Args:
      spec: one of
        tfds:NAME     a prepared TFDS data set, read without TensorFlow;
        folder:PATH   the image files of PATH/split and of the class folders in it;
        npz:FILE      the arrays split_images, split_labels (optional) and class_names (optional);
        PATH          a folder, an .npz or one image file.
      split: train, test or any other that the data set has, or a part such as train[:90%]; "all" is the
        folder itself, or the arrays `images` and `labels`. None: test for TFDS, all for the others.
      data_dir: the folder of TFDS data sets; None for the default of TFDS.
      image_size: resize the central square of every image to this side.

    Returns:
      The data set. Nothing is decoded but a single image file, and class folders are read one image of
      each in turn.

    Raises:
      ValueError: in one line, for a data set that cannot be found or read, or has no images.
    """
    checks.given(checks.positive, image_size=image_size)
    kind, place, split = _parse_spec(spec, split)
    path = Path(place).expanduser()
    if kind == "tfds":
        dataset = _from_tfds(place, split, data_dir, image_size)
    else:
        dataset = _READERS[kind](path, split, image_size)
    if not len(dataset):
        raise ValueError(f"{spec} has no images in split {split!r}")
    return dataset


def labelled(dataset: Dataset) -> Dataset:
    """Return the examples that have a label, for training and evaluation; numbers name classes without names.

    Raises:
      ValueError: if the data set has no labels, or its labels are not numbers of its classes.
    """
    if dataset.stored is not None:
        names = dataset.class_names
        if names is None:
            numeric = dataset.stored.dtype.kind in "iu"
            names = tuple(map(str, range(int(dataset.stored.max(initial=0)) + 1 if numeric else 1)))
        labels = _checked_labels(dataset.source, dataset.stored, len(names))[dataset.rows]
        return dataclasses.replace(dataset, class_names=names, labels=labels, stored=None)
    kept = np.ones(len(dataset), bool) if dataset.labels is None else dataset.labels >= 0
    if dataset.class_names is None or not kept.any():
        raise ValueError(
            f"{dataset.source} has no labels: give a folder with one folder a class, an .npz with the arrays "
            "train_images and train_labels (images and labels for split 'all'), or tfds:NAME"
        )
    return dataset if kept.all() else dataset.take(kept)


def labels_for(dataset: Dataset, class_names: Sequence[str]) -> np.ndarray | None:
    """Return the labels that an .npz has, as numbers of a classifier's classes.

    They are matched by name where the .npz has class_names, else by number.

    Args:
      dataset: as `load` returns it, or a part of it.
      class_names: of the classifier.

    Returns:
      int32 (n,), or None for any other data set and for an .npz without labels.

    Raises:
      ValueError: if they are not numbers of classes, or the classifier does not have such a class.
    """
    if dataset.stored is None:
        return None
    names = dataset.class_names or tuple(class_names)
    labels = _checked_labels(dataset.source, dataset.stored, len(names))
    unknown = [names[label] for label in np.unique(labels) if names[label] not in class_names]
    if unknown:
        known = ", ".join(class_names)
        raise ValueError(f"{dataset.source} has images of {', '.join(unknown)}: the classes are {known}")
    numbers = [list(class_names).index(names[label]) for label in labels[dataset.rows]]
    return np.array(numbers, np.int32)


def read_all(dataset: Dataset) -> Pictures:
    """Read every image into memory, and leave out the files that cannot be read.

    Raises:
      ValueError: if no image can be read, or sizes differ.
    """
    images = []
    names = []
    skipped = []
    for i, name in enumerate(dataset.names):
        try:
            images.append(dataset[i].image)
            names.append(name)
        except ValueError as error:
            skipped.append(str(error))
    if not images:
        raise ValueError(skipped[0])
    for image in images:
        checks.same_size(images[0].shape, image.shape)
    return Pictures(np.stack(images), tuple(names), tuple(skipped))


def _parse_spec(spec: str, split: str | None) -> tuple[str, str, str]:
    """The kind (tfds, folder, npz or file), the place and the split."""
    kind, _, place = spec.partition(":")
    if kind not in ("tfds", "folder", "npz"):
        place = spec
        suffix = Path(spec).suffix.lower()
        kind = "npz" if suffix == ".npz" else "file" if suffix in image_files.SUFFIXES else "folder"
    if not place:
        raise ValueError(f"cannot read {spec!r}: write an image, a folder, an .npz, or tfds:NAME")
    default = "test" if kind == "tfds" else "all"
    return kind, place, default if split is None else split


def _parse_split(split: str) -> tuple[str, slice]:
    """The name and the slice, in percent, of "train", "train[:90%]" or "train[90%:]"."""
    match = re.fullmatch(r"(\w+)(?:\[(?:(\d+)%)?:(?:(\d+)%)?\])?", split)
    if match is None:
        raise ValueError(f"cannot read the split {split!r}: write train, train[:90%] or train[90%:]")
    name, start, stop = match.groups()
    return name, slice(int(start or 0), int(stop or 100))


def _part(num: int, percent: slice) -> np.ndarray:
    """The numbers in that slice of a fixed random order of `num` examples, sorted."""
    order = np.random.default_rng(0).permutation(num)
    return np.sort(order[num * percent.start // 100 : num * percent.stop // 100])


def _checked_labels(source: str, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The labels of an .npz as int32 (n,), if they are numbers of classes."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not np.isin(labels, range(num_classes)).all():
        raise ValueError(f"{source}: labels must be integers (n,) in 0 ... {num_classes - 1}")
    return labels.astype(np.int32)


def _from_tfds(name: str, split: str, data_dir: str | None, size: int | None) -> Dataset:
    """A prepared TFDS data set with the feature `image`.

    A split that it does not have stands for all whose names begin so (cycle_gan: trainA and trainB), one
    example of each in turn.
    """
    builder = _prepared(name, data_dir)
    asked, percent = _parse_split(split)
    known = list(builder.info.splits)
    splits = [s for s in known if s == asked] or [s for s in known if s.startswith(asked)]
    if not splits:
        raise ValueError(f"the TFDS data set {name!r} has no split {asked!r}: it has {', '.join(known)}")
    features = builder.info.features
    if "image" not in features:
        raise ValueError(f"the TFDS data set {name!r} has no image: it has {', '.join(features)}")
    class_names = _tfds_class_names(builder)
    sources = [builder.as_data_source(split=s) for s in splits]
    pairs = [(i, rank) for rank, source in enumerate(sources) for i in range(len(source))]
    entries = sorted(pairs[i] for i in _part(len(pairs), percent))

    def read(row: int) -> Example:
        i, rank = entries[row]
        example = sources[rank][i]
        label = None if class_names is None else int(example["label"])
        return Example(_resized(example["image"], size), label)

    return Dataset(name, read, np.arange(len(entries)), class_names)


def _prepared(name: str, data_dir: str | None) -> Any:
    """The builder of a TFDS data set that is on this machine."""
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise ValueError("tensorflow-datasets is not installed: pip install tensorflow-datasets")
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
        prepared = builder.is_prepared()
    except Exception as error:  # TFDS raises many kinds, some several lines long
        first = str(error).strip().partition("\n")[0]
        raise ValueError(f"cannot open the TFDS data set {name!r}: {first}") from error
    if not prepared:
        raise ValueError(
            f"the TFDS data set {name!r} is not prepared in {builder.data_dir}: run "
            f"`tfds build {name} --file_format=array_record` (needs TensorFlow), or give --data-dir"
        )
    return builder


def _tfds_class_names(builder: Any) -> tuple[str, ...] | None:
    """The names of the classes. cycle_gan calls them A and B; its configuration, horse2zebra, names them."""
    features = builder.info.features
    if "label" not in features or not hasattr(features["label"], "names"):
        return None
    names = tuple(features["label"].names)
    pair = builder.builder_config.name.partition("_")[0].split("2") if names == ("A", "B") else ()
    return tuple(pair) if len(pair) == 2 else names


def _from_folder(path: Path, split: str, size: int | None) -> Dataset:
    """The image files of PATH/split, without labels, and of the folders in it; split "all" is PATH itself."""
    name, percent = _parse_split(split)
    root = path if name == "all" else path / name
    if not root.is_dir():
        inside = f"a folder that holds {name}/, or the split 'all'"
        wanted = "a folder of images, an .npz, or tfds:NAME" if name == "all" else inside
        raise ValueError(f"no folder {root}: give {wanted}")
    classes = sorted(folder for folder in root.iterdir() if folder.is_dir())
    ranked = []
    for label, folder in enumerate([root, *classes], start=-1):
        found = sorted(file for file in folder.iterdir() if file.suffix.lower() in image_files.SUFFIXES)
        ranked += [(rank, label, found[i]) for rank, i in enumerate(_part(len(found), percent))]
    if not ranked:
        kinds = ", ".join(sorted(image_files.SUFFIXES))
        raise ValueError(f"{path} has no images in split {split!r}: image files end in {kinds}")
    entries = sorted(ranked)
    labels = np.array([label for _, label, _ in entries], np.int32)
    stems = [("" if label < 0 else f"{file.parent.name}-") + file.stem for _, label, file in entries]
    return Dataset(
        str(path),
        lambda row: Example(image_files.read_image(entries[row][2], size)),
        np.arange(len(entries)),
        tuple(folder.name for folder in classes) if (labels >= 0).any() else None,
        np.array(stems, np.str_),
        labels,
    )


def _from_npz(path: Path, split: str, size: int | None) -> Dataset:
    """The arrays `train_images` and `train_labels` of the split "train", `images` and `labels` of "all"."""
    name, percent = _parse_split(split)
    prefix = "" if name == "all" else f"{name}_"
    arrays = files.read_arrays(path, f"{prefix}images", optional=(f"{prefix}labels", "class_names"))
    images = arrays[f"{prefix}images"]
    labels = arrays.get(f"{prefix}labels")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"{path}: {prefix}images must be uint8 (n, h, w, c) with 1 or 3 channels")
    if labels is not None and labels.ndim == 1 and len(labels) != len(images):
        raise ValueError(f"{path} has {len(labels)} labels for {len(images)} images")
    named = labels is not None and "class_names" in arrays
    return Dataset(
        str(path),
        lambda row: Example(_resized(images[row], size)),
        _part(len(images), percent),
        tuple(map(str, arrays["class_names"])) if named else None,
        stored=labels,
    )


def _from_file(path: Path, split: str, size: int | None) -> Dataset:
    """The one image of a file, which has no splits; it is decoded here, once."""
    if split != "all":
        raise ValueError(f"{path} is one image: it has no split {split!r}")
    example = Example(image_files.read_image(path, size))
    return Dataset(str(path), lambda row: example, np.arange(1), stems=np.array([path.stem], np.str_))


_READERS = {"folder": _from_folder, "npz": _from_npz, "file": _from_file}


def _resized(image: np.ndarray, size: int | None) -> np.ndarray:
    """The central square of a decoded image at that side; the image itself for None."""
    return image if size is None else image_files.square_bytes(image, size)
