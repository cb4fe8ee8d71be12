"""The door to data sets: TFDS, folders of class folders, .npz files.

dataset = load("tfds:cifar10", "train", data_dir="~/tensorflow_datasets")
"""

import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rsynth_jax import checks
from rsynth_jax.data import image_files as photos
from rsynth_jax.data.loader import Arrays, Dataset, gather
from rsynth_jax.storage import files

MEMORY = 4 << 30  # bytes of decoded images that may stay in memory


class Mapped:
    """A sequence of `source[i]` passed through `transform`, as grain and `gather` read it."""

    def __init__(self, source: Sequence, transform: Callable):
        self.source, self.transform = source, transform

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index):
        return self.transform(self.source[index])


def parse_split(split: str) -> tuple[str, slice]:
    """The name and the slice, in percent, of "train", "train[:90%]" or "train[90%:]"."""
    match = re.fullmatch(r"(\w+)(?:\[(?:(\d+)%)?:(?:(\d+)%)?\])?", split)
    if match is None:
        raise ValueError(f"cannot read the split {split!r}: write train, train[:90%] or train[90%:]")
    name, start, stop = match.groups()
    return name, slice(int(start or 0), int(stop or 100))


def share(num: int, percent: slice) -> np.ndarray:
    """The indices of that slice of a fixed random order of `num` examples, sorted."""
    order = np.random.default_rng(0).permutation(num)
    return np.sort(order[num * percent.start // 100 : num * percent.stop // 100])


def from_tfds(name: str, split: str, data_dir: str | None, size: int | None) -> tuple[Sequence, tuple]:
    """Any prepared TFDS data set with `image` and `label` features, read without TensorFlow.

    Where a data set has no split of that name but several that begin with it (cycle_gan's trainA and
    trainB), they are joined, one example of each in turn.
    """
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
    asked, percent = parse_split(split)
    names = [s for s in builder.info.splits if s == asked] or [
        s for s in builder.info.splits if s.startswith(asked)
    ]
    if not names:
        known = ", ".join(builder.info.splits)
        raise ValueError(f"the TFDS data set {name!r} has no split {asked!r}: it has {known}")
    features = builder.info.features
    if "image" not in features or "label" not in features:
        raise ValueError(f"the TFDS data set {name!r} has no image and label: it has {', '.join(features)}")
    sources = [builder.as_data_source(split=s) for s in names]
    pairs = [(i, rank) for rank, source in enumerate(sources) for i in range(len(source))]
    entries = sorted(pairs[i] for i in share(len(pairs), percent))

    def read(entry):
        i, rank = entry
        example = sources[rank][i]
        image = example["image"]
        if size is not None:
            image = photos.square_bytes(image, size)
        return image, int(example["label"])

    return Mapped(entries, read), class_names(builder)


def class_names(builder) -> tuple[str, ...]:
    """Those of a TFDS data set. cycle_gan calls its two A and B; the name horse2zebra says what they are."""
    names = tuple(builder.info.features["label"].names)
    told = builder.builder_config.name.partition("_")[0].split("2") if names == ("A", "B") else ()
    return tuple(told) if len(told) == 2 else names


def from_files(folders: Sequence[Path], percent: slice, size: int | None) -> Sequence:
    """The images of folders, one of each in turn, with the folder's number as label."""
    ranked = []
    for label, folder in enumerate(folders):
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in photos.SUFFIXES)
        ranked += [(rank, label, files[i]) for rank, i in enumerate(share(len(files), percent))]

    return Mapped(sorted(ranked), lambda entry: (photos.read_image(entry[2], size), entry[1]))


def from_folder(path: Path, split: str, size: int | None) -> tuple[Sequence, tuple]:
    """A folder of class folders of image files: PATH/train/cat/1.png; split "all" is PATH itself."""
    name, percent = parse_split(split)
    root = path if name == "all" else path / name
    if not root.is_dir():
        raise ValueError(f"no folder {root}: give a folder of class folders, in {name}/ or with split 'all'")
    classes = sorted(folder for folder in root.iterdir() if folder.is_dir())
    source = from_files(classes, percent, size)
    if not len(source):
        kinds = ", ".join(sorted(photos.SUFFIXES))
        raise ValueError(f"no images in {root}: it must hold one folder a class, with files {kinds}")
    return source, tuple(folder.name for folder in classes)


def from_npz(path: Path, split: str) -> tuple[Arrays, tuple]:
    """An .npz with `train_images`, `train_labels`, ... (or `images`, `labels` for split "all").

    Images are uint8 (n, h, w, c), labels integers (n,); `class_names` is optional.
    """
    name, percent = parse_split(split)
    prefix = "" if name == "all" else f"{name}_"
    file = files.read_arrays(path, f"{prefix}images", f"{prefix}labels", optional=("class_names",))
    images, labels = file[f"{prefix}images"], file[f"{prefix}labels"]
    names = file["class_names"] if "class_names" in file else np.arange(labels.max(initial=0) + 1)
    if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != images.shape[:1]:
        raise ValueError(f"{path}: {prefix}images must be uint8 (n, h, w, c) and {prefix}labels (n,)")
    if not np.issubdtype(labels.dtype, np.integer) or not np.isin(labels, range(len(names))).all():
        raise ValueError(f"{path}: {prefix}labels must be integers in 0 ... {len(names) - 1}")
    chosen = share(len(labels), percent)
    return Arrays(images[chosen], labels[chosen].astype(np.int32)), tuple(map(str, names))


def resized(arrays: Arrays, size: int | None) -> Sequence:
    """The pairs of arrays in memory, with `size` each image's central square resized."""
    pairs = list(zip(arrays.images, arrays.labels, strict=True))
    if size is None:
        return pairs
    return Mapped(pairs, lambda pair: (photos.square_bytes(pair[0], size), pair[1]))


def load(
    spec: str,
    split: str,
    data_dir: str | None = None,
    image_size: int | None = None,
    memory: int = MEMORY,
) -> Dataset:
    """The data set that `spec` names: tfds:NAME, folder:PATH or npz:FILE.

    Args:
      split: train, test, any other the data set has, or a share of one such as train[:90%].
      data_dir: where TFDS data sets lie; None for TFDS's own default.
      image_size: resize the central square of every image to this side.
      memory: bytes of decoded images above which the set is streamed.

    Raises ValueError, in one line, for what cannot be found or read.
    """
    checks.given(checks.positive, image_size=image_size)
    kind, _, place = spec.partition(":")
    if kind not in ("tfds", "folder", "npz") or not place:
        raise ValueError(f"cannot read --data {spec!r}: write tfds:NAME, folder:PATH or npz:FILE")
    path = Path(place).expanduser()
    if kind == "npz":
        arrays, names = from_npz(path, split)
        source = resized(arrays, image_size)
    elif kind == "folder":
        source, names = from_folder(path, split, image_size)
    else:
        source, names = from_tfds(place, split, data_dir, image_size)
    if not len(source):
        raise ValueError(f"{spec} has no images in split {split!r}")
    fits = source[0][0].size * len(source) <= memory
    return Dataset(gather(source) if fits else source, len(source), names)
