"""Data sets: images and their labels, read where they are indexed.

    photos = load("photos/", image_size=32).first(16)     # a folder, an .npz, one image file or cifar10
    pictures = read_all(photos)                           # images uint8 (n, 32, 32, 3), names, skipped files
    labels = labels_for(photos, release.class_names)      # int32 (n,), or None

    train = labelled(load("cifar10", "train[:90%]"))      # refuses a data set without labels
    image, label = train[0]                               # uint8 (32, 32, 3), 6; train.images[0]: the image
    train.class_names[label]                              # "frog"

`rsynth_jax.data.loader` decodes a data set into memory and reads it in batches.
"""

import dataclasses
import functools
import importlib.util
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rsynth_jax import checks, messages
from rsynth_jax.data import archives, image_files, tfrecord
from rsynth_jax.data.crops import Frame
from rsynth_jax.data.tiles import Tiling
from rsynth_jax.storage import files, paths, shards

KINDS = ("tfds", "folder", "npz", "shards", *archives.NAMES)  # of the words before a colon
_ALL = slice(0, 100)  # percent
_HELD_OUT = {"train": slice(0, 90), "test": slice(90, 100)}  # of a folder without splits
_KEPT = 1 << 30  # bytes of images that `readable` keeps in memory
_MOST_CLASSES = 1 << 20  # whose numbers are their names
_PER_EXAMPLE = ("rows", "stems", "files", "labels", "decoded")


class Example(NamedTuple):
    """One image, uint8 (h, w, c), and the number of its class, None where it has no label."""

    image: np.ndarray
    label: int | None = None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A sequence of n examples, read where they are indexed: `len(dataset)`, `dataset[i] -> Example`.

    Attributes:
      source: its name or path and its split, for messages.
      read: the example of a row number.
      rows: int (n,), the row number of each example.
      class_names: label i is class_names[i]; None where there are none.
      stems: str (n,), the name of each file; None where the images are not in files of their own.
      files: str (n,), the path of each file; None where the images are not in files of their own.
      labels: int (n,), in place of those that `read` returns, -1 for none; None: `read` returns them.
      stored: the labels of an .npz or of shards by row number; `labelled` and `labels_for` check them.
      decoded: the images, uint8 (n, h, w, c), where they are in memory with `labels`; else None.
    """

    source: str
    read: Callable[[int], Example]
    rows: np.ndarray
    class_names: tuple[str, ...] | None = None
    stems: np.ndarray | None = None
    files: np.ndarray | None = None
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
        kept = {name: part[chosen] for name in _PER_EXAMPLE if (part := getattr(self, name)) is not None}
        return dataclasses.replace(self, **kept)


class _Images(Sequence[np.ndarray]):
    def __init__(self, dataset: Dataset):
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, i: Any) -> Any:
        return _Images(self._dataset.take(i)) if isinstance(i, slice) else self._dataset[i].image


class Readable(NamedTuple):
    """The examples that can be read, and a line for each other one."""

    dataset: Dataset
    skipped: tuple[str, ...]


class Pictures(NamedTuple):
    """Images in memory, uint8 (n, h, w, c), their names, and a line for each file that cannot be read."""

    images: np.ndarray
    names: tuple[str, ...]  # all different
    skipped: tuple[str, ...]
    labels: str | np.ndarray | None = None  # of all, by name or number, or (n,); None: not known
    files: tuple[str, ...] | None = None  # where they are in files of their own
    frames: tuple[Frame, ...] = ()  # which parts of the photographs they show
    tiling: Tiling | None = None  # where they are the tiles of the one frame

    @property
    def gray(self) -> np.ndarray:
        """Which images have three equal channels, bool (n,); of the tiles of one image all or none."""
        gray = (self.images == self.images[..., :1]).all(axis=(1, 2, 3)) & (self.images.shape[-1] == 3)
        return gray if self.tiling is None else np.full(len(gray), gray.all())


@files.one_line_errors()
def load(
    spec: str, split: str | None = None, data_dir: str | None = None, image_size: int | None = None
) -> Dataset:
    """Open a data set by its name, labels or none; nothing is decoded but a single image file.

    Args:
      spec: one of
        cifar10       CIFAR-10, or cifar100 or mnist, as published, downloaded into the user's cache, or read
                      from cifar10:FILE.tar.gz, cifar100:FILE.tar.gz, mnist:FOLDER (`data.archives`);
        tfds:NAME     a prepared TFDS data set, read without TensorFlow;
        folder:PATH   the image files of PATH/split and of the class folders in it, one of each in turn, or of
                      the two classes PATH/splitA and PATH/splitB, the layout of CycleGAN; in a PATH
                      without such folders train is 90 % of the images and test the rest; names that begin
                      with a dot and the folders of thumbnails that systems leave are passed over;
        npz:FILE      the arrays split_images, split_labels (optional) and class_names (optional);
        shards:PATH   a folder that `shards.write` wrote, of which two shards at a time are in memory;
        PATH          a folder, with shards or without, an .npz or one image file.
      split: train, test or any other that the data set has, or a part such as train[:90%]; "all" is the
        folder itself, or the arrays `images` and `labels`. None: test for TFDS and the published data sets,
        all for the others.
      data_dir: the folder of TFDS data sets; None for the default of TFDS.
      image_size: resize the central square of every image to this side.

    Raises:
      ValueError: in one line, for a data set that cannot be found or read, or has no images.
    """
    checks.given(checks.positive, image_size=image_size)
    kind, place = _parse_spec(spec)
    if split is None:
        split = "test" if kind in ("tfds", *archives.NAMES) else "all"
    name, percent = _parse_split(split)
    if kind == "tfds":
        dataset = _from_tfds(place, name, percent, data_dir, image_size)
    elif kind in archives.NAMES:
        dataset = _from_archive(kind, place, name, percent, image_size)
    else:
        dataset = _READERS[kind](paths.of(place), name, percent, image_size)
    if not len(dataset):
        known = ", ".join(sorted(image_files.SUFFIXES))
        hint = f": image files end in {known}" if kind == "folder" else ""
        raise ValueError(f"{spec} has no images in split {split!r}{hint}")
    source = place or kind
    source = source if split == "all" else f"{source}, split {split!r},"
    return dataclasses.replace(dataset, source=source)


def labelled(dataset: Dataset, class_names: Sequence[str] = ()) -> Dataset:
    """Return the examples that have a label, for training and evaluation; numbers name classes without names.

    Args:
      class_names: in place of the data set's own, as many.

    Raises:
      ValueError: the data set has no labels, its labels are not numbers of its classes, or there are not as
        many classes as names.
    """
    if class_names:
        return _renamed(labelled(dataset), tuple(class_names))
    if dataset.stored is not None:
        numeric = dataset.stored.dtype.kind in "iu"
        num = int(dataset.stored.max(initial=0)) + 1 if numeric else 1
        if num > _MOST_CLASSES:
            raise ValueError(f"{dataset.source}: labels must be integers (n,) below {_MOST_CLASSES}")
        names = dataset.class_names or tuple(map(str, range(num)))
        labels = _checked_labels(dataset.source, dataset.stored, len(names))[dataset.rows]
        return dataclasses.replace(dataset, class_names=names, labels=labels, stored=None)
    kept = np.ones(len(dataset), bool) if dataset.labels is None else dataset.labels >= 0
    if dataset.class_names is None or not kept.any():
        arrays = "train_images and train_labels (images and labels for split 'all')"
        wanted = f"give a folder with one folder a class, an .npz with the arrays {arrays}, or tfds:NAME"
        raise ValueError(f"{dataset.source} has no labels: {wanted}")
    return dataset if kept.all() else dataset.take(kept)


def mapped(dataset: Dataset, function: Callable[[np.ndarray], np.ndarray]) -> Dataset:
    """Return a view whose images are `function` of the data set's."""

    def read(row: int) -> Example:
        example = dataset.read(row)
        return example._replace(image=function(example.image))

    return dataclasses.replace(dataset, read=read, decoded=None)


def with_one_class(dataset: Dataset, name: str = "image") -> Dataset:
    """Return a data set without any labels as images of one class; any other as it is."""
    some = dataset.stored is not None or dataset.class_names is not None
    if some:
        return dataset
    return dataclasses.replace(dataset, class_names=(name,), labels=np.zeros(len(dataset), np.int32))


def _renamed(dataset: Dataset, class_names: tuple[str, ...]) -> Dataset:
    own = dataset.class_names or ()
    if len(class_names) != len(own) or len(set(class_names)) != len(own):
        given = messages.listed(class_names)
        raise ValueError(
            f"{dataset.source} has {len(own)} classes: give as many names, each once, not {given}"
        )
    return dataclasses.replace(dataset, class_names=class_names)


def labels_for(dataset: Dataset, class_names: Sequence[str]) -> np.ndarray | None:
    """Return the labels of an .npz, of shards or of class folders, as a classifier's classes, int32 (n,).

    They are matched by name where there are class_names, else by number. None for any other data set, for an
    .npz without labels, and for a folder with images outside of class folders or none of whose folders is
    named as a class. Raises ValueError if a label is no class, or none of the classifier's.
    """
    names = dataset.class_names or tuple(class_names)
    if dataset.stored is not None:
        labels = _checked_labels(dataset.source, dataset.stored, len(names))[dataset.rows]
    elif dataset.labels is not None and (dataset.labels >= 0).all() and {*names} & {*class_names}:
        labels = dataset.labels
    else:
        return None
    unknown = [names[label] for label in np.unique(labels) if names[label] not in class_names]
    if unknown:
        found, known = (messages.listed(names) for names in (unknown, class_names))
        raise ValueError(f"{dataset.source} has images of {found}: the classes are {known}, or give --class")
    return np.array([list(class_names).index(names[label]) for label in labels], np.int32)


def read_all(dataset: Dataset) -> Pictures:
    """Read every image into memory, and leave out the files that cannot be read.

    Raises ValueError if no image can be read, or sizes differ.
    """
    dataset, skipped = readable(dataset)
    arrays = list(dataset.images)
    for array in arrays:
        checks.same_size(arrays[0].shape, array.shape)
    places = None if dataset.files is None else tuple(dataset.files.tolist())
    return Pictures(np.stack(arrays), dataset.names, skipped, files=places)


def readable(dataset: Dataset, track: Callable[[Iterable], Iterable] = iter, room: int = _KEPT) -> Readable:
    """Read each example once, and leave out those that cannot be read; the others keep their names.

    The first ones stay in memory, `room` bytes of them. Data for training and evaluation are read without
    this: one label less would change the result. Raises ValueError if no example can be read.
    """
    examples: dict[int, Example] = {}
    kept, skipped = [], []
    for i in track(range(len(dataset))):
        row = int(dataset.rows[i])
        try:
            example = dataset.read(row)
        except ValueError as error:
            skipped.append(str(error))
            continue
        kept.append(i)
        room -= example.image.nbytes
        if room >= 0:
            examples[row] = example
    if not kept:
        raise ValueError(skipped[0])
    names = dataset.stems if not skipped else np.array(dataset.names, np.str_)
    named = dataclasses.replace(dataset, stems=names, read=lambda row: examples.get(row) or dataset.read(row))
    return Readable(named.take(np.array(kept)), tuple(skipped))


def _parse_spec(spec: str) -> tuple[str, str]:
    """The kind (of `KINDS`, or file) and the place, "" for the cache."""
    kind, _, place = spec.partition(":")
    if spec in archives.NAMES:
        return spec, ""
    if kind not in KINDS:
        place = spec
        suffix = Path(spec).suffix.lower()
        kind = "npz" if suffix == ".npz" else "file" if suffix in image_files.SUFFIXES else "folder"
        if kind == "folder" and shards.is_folder(paths.of(spec)):
            kind = "shards"
    if not place:
        raise ValueError(f"cannot read {spec!r}: write an image, a folder, an .npz, or tfds:NAME")
    return kind, place


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
        from_one = labels.dtype.kind in "iu" and labels.min(initial=1) == 1 and labels.max() == num_classes
        hint = "; these start at 1: subtract 1" if from_one else ""
        raise ValueError(f"{source}: labels must be integers (n,) in 0 ... {num_classes - 1}{hint}")
    return labels.astype(np.int32)


def _from_tfds(name: str, split: str, percent: slice, data_dir: str | None, size: int | None) -> Dataset:
    """A prepared TFDS data set. "train" of cycle_gan is trainA and trainB, one example of each in turn."""
    builder = _prepared(name, data_dir)
    known = list(builder.info.splits)
    splits = [s for s in known if s == split] or [s for s in known if s.startswith(split)]
    if not splits:
        found = messages.listed(known)
        raise ValueError(f"the TFDS data set {name!r} has no split {split!r}: it has {found}")
    features = builder.info.features
    if "image" not in features:
        found = messages.listed(features)
        raise ValueError(f"the TFDS data set {name!r} has no image: it has {found}")
    class_names = _tfds_class_names(builder)
    sources = [_tfds_examples(builder, name, s) for s in splits]
    pairs = [(i, rank) for rank, source in enumerate(sources) for i in range(len(source))]
    entries = sorted(pairs[i] for i in _part(len(pairs), percent))

    def read(row: int) -> Example:
        i, rank = entries[row]
        with files.errors_as(f"cannot read an image of the TFDS data set {name!r}"):
            example = sources[rank][i]
            image = example["image"]
            image = image_files.decode(image) if isinstance(image, bytes) else image
            label = None if class_names is None else int(example["label"])
            if class_names is not None and label not in range(len(class_names)):
                raise ValueError(f"its label is {label}, of {len(class_names)} classes")
            return Example(image_files.square_bytes(image, size), label)

    return Dataset(name, read, np.arange(len(entries)), class_names)


def _prepared(name: str, data_dir: str | None) -> Any:
    """The builder of a TFDS data set that is on this machine."""
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise ValueError('tensorflow-datasets is not installed: pip install "rsynth-jax[tfds]"')
    import tensorflow_datasets as tfds

    with files.errors_as(f"cannot open the TFDS data set {name!r}"):
        builder = tfds.builder(name, data_dir=data_dir)
        prepared = builder.is_prepared()
    if not prepared:
        place = messages.shown(str(builder.data_dir), 40)
        remedy = f"{_build(name)}, or give --data-dir"
        raise ValueError(f"the TFDS data set {name!r} is not prepared in {place}: {remedy}")
    return builder


def _build(name: str) -> str:
    return f"run `tfds build {name} --file_format=array_record` (needs TensorFlow)"


def _tfds_examples(builder: Any, name: str, split: str) -> Any:
    """The examples of a split, each decoded where it is indexed, but for the image, which may stay bytes."""
    import tensorflow_datasets as tfds

    encoded = {"image": tfds.decode.SkipDecoding()}
    formats = {known.value for known in builder.info.available_file_formats()}
    with files.errors_as(f"cannot open the TFDS data set {name!r}"):
        info = builder.info.splits[split]
        if "tfrecord" in formats:
            parse = functools.partial(builder.info.features.deserialize_example_np, decoders=encoded)
            examples = tfrecord.Records(info.filepaths, parse)
            num = len(examples)
        elif formats & {"array_record", "parquet"}:
            if paths.is_remote(builder.data_dir):
                raise ValueError(f"{' or '.join(formats)} is read on this machine alone: copy it there")
            examples = builder.as_data_source(split=split, decoders=encoded)
            num = sum(map(_num_records, info.filepaths)) if "array_record" in formats else len(examples)
        else:
            raise ValueError(f"it is prepared as {', '.join(formats)}: {_build(name)}")
        if num != info.num_examples:
            raise ValueError(f"{builder.data_dir} has {num} of {info.num_examples} images of {split}")
    return examples


def _num_records(path: Any) -> int:
    """The records that an array_record file has; the data source believes dataset_info.json."""
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(str(path))
    try:
        return reader.num_records()
    finally:
        reader.close()


def _tfds_class_names(builder: Any) -> tuple[str, ...] | None:
    """The names of the classes. cycle_gan calls them A and B; its configuration, horse2zebra, names them.

    A data set without a file of names has numbers; TFDS also takes those where the file is damaged.
    """
    features = builder.info.features
    if "label" not in features or not hasattr(features["label"], "names"):
        return None
    names = tuple(features["label"].names)
    file = paths.of(builder.data_dir) / "label.labels.txt"
    with files.errors_as(f"cannot read {file.name} of the TFDS data set {builder.name!r}"):
        stored = file.read_text("utf-8").split("\n") if file.is_file() else names
        num = features["label"].num_classes
        if len(set(names)) != num or tuple(name.strip() for name in stored if name.strip()) != names:
            raise ValueError(f"it must have {num} names, each once, one a line")
    return _pair_names(builder.builder_config.name) if names == ("A", "B") else names


def _pair_names(name: str) -> tuple[str, ...]:
    """The names of the two classes of horse2zebra or summer2winter_yosemite; of any other set A and B."""
    pair = tuple(name.partition("_")[0].split("2"))
    return pair if len(pair) == 2 and all(pair) else ("A", "B")


def _from_folder(path: Path, split: str, percent: slice, size: int | None) -> Dataset:
    """The image files of PATH/split, without labels, and of the folders in it; split "all" is PATH itself."""
    held_out = _HELD_OUT.get(split, _ALL) if _is_undivided(path) else _ALL
    root = path if split == "all" or held_out != _ALL else path / split
    classes = _halves(path, split) or {folder.name: [folder] for folder in _folders(root)}
    if not (root.is_dir() or classes):
        wanted = "images, an .npz, or tfds:NAME" if split == "all" else f"{split}/, or the split 'all'"
        known = "" if path.exists() or split == "all" else ", or a name as cifar10 or tfds:svhn_cropped"
        raise ValueError(f"no folder {root}: give a folder of {wanted}{known}")
    entries = []
    for label, folders in enumerate([[root] if root.is_dir() else [], *classes.values()], start=-1):
        listed = (file for folder in folders for file in image_files.listed(folder))
        found = [file for file in listed if file.suffix.lower() in image_files.SUFFIXES]
        found = [found[i] for i in _part(len(found), held_out)]
        entries += [(rank, label, found[i]) for rank, i in enumerate(_part(len(found), percent))]
    entries.sort()
    labels = np.array([label for _, label, _ in entries], np.int32)
    stems = [("" if label < 0 else f"{file.parent.name}-") + file.stem for _, label, file in entries]
    return Dataset(
        str(path),
        lambda row: Example(image_files.read_image(entries[row][2], size)),
        np.arange(len(entries)),
        tuple(classes) if (labels >= 0).any() else None,
        np.array(stems, np.str_),
        np.array([str(file) for _, _, file in entries], np.str_),
        labels,
    )


def _is_undivided(path: Path) -> bool:
    """Whether there are images or class folders, but no folders of a split."""
    folders = _folders(path)
    divided = any(re.fullmatch("(train|test|val|validation)[AB]?", folder.name) for folder in folders)
    return path.is_dir() and not divided


def _folders(path: Path) -> list[Path]:
    return [folder for folder in image_files.listed(path) if folder.is_dir()] if path.is_dir() else []


def _halves(path: Path, split: str) -> dict[str, list[Path]]:
    """The folders of the two classes of a split in CycleGAN's layout: trainA, trainB, testA, testB."""
    folders = _folders(path)
    prefix = "(train|test|val)" if split == "all" else split
    halves = [[folder for folder in folders if re.fullmatch(prefix + half, folder.name)] for half in "AB"]
    others = len(folders) - sum(map(len, halves)) if split == "all" else (path / split).is_dir()
    if others or not all(halves):
        return {}
    return dict(zip(_pair_names(path.resolve().name), halves, strict=True))


def _from_npz(path: Path, split: str, percent: slice, size: int | None) -> Dataset:
    """The arrays `train_images` and `train_labels` of the split "train", `images` and `labels` of "all"."""
    prefix = "" if split == "all" else f"{split}_"
    arrays = files.read_arrays(path, f"{prefix}images", optional=(f"{prefix}labels", "class_names"))
    images = arrays[f"{prefix}images"]
    labels = arrays.get(f"{prefix}labels")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        first = images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[-1] not in (1, 3)
        hint = ", channels first: transpose by (0, 2, 3, 1)" if first else ""
        wanted = f"images must be uint8 (n, h, w, c) with 1 or 3 channels, not {images.dtype} {images.shape}"
        raise ValueError(f"{path}: {prefix}{wanted}{hint}")
    if labels is not None and labels.ndim == 1 and len(labels) != len(images):
        raise ValueError(f"{path} has {len(labels)} labels for {len(images)} images")
    if len(images) and not min(images.shape):
        raise ValueError(f"{path}: {prefix}images have no pixels: their shape is {images.shape}")
    names = arrays.get("class_names") if labels is not None else None
    if names is not None and (names.ndim != 1 or names.dtype.kind not in "USiu"):
        raise ValueError(f"{path}: class_names must be texts (k,), not {names.dtype} {names.shape}")
    return Dataset(
        str(path),
        lambda row: Example(image_files.square_bytes(images[row], size)),
        _part(len(images), percent),
        None if names is None else tuple(map(str, names)),
        stored=labels,
    )


def _from_archive(name: str, place: str, split: str, percent: slice, size: int | None) -> Dataset:
    """A split of a published data set, in memory."""
    images, labels, class_names = archives.read(name, place, split)
    return Dataset(
        name,
        lambda row: Example(image_files.square_bytes(images[row], size)),
        _part(len(images), percent),
        class_names,
        stored=labels,
    )


def _from_file(path: Path, split: str, percent: slice, size: int | None) -> Dataset:
    """The one image of a file, which has no splits; it is decoded here, once."""
    if split != "all":
        raise ValueError(f"{path} is one image: it has no split {split!r}")
    example = Example(image_files.read_image(path, size))
    stems, paths = (np.array([name], np.str_) for name in (path.stem, str(path)))
    dataset = Dataset(str(path), lambda row: example, np.arange(1), stems=stems, files=paths)
    return dataset.take(_part(1, percent))


def _from_shards(path: Path, split: str, percent: slice, size: int | None) -> Dataset:
    """The images of a folder of shards, which has no splits."""
    if split != "all":
        raise ValueError(f"{path} holds shards: it has no split {split!r}: give the split 'all'")
    manifest = shards.read(path)
    image_of = shards.images_of(path, manifest)
    return Dataset(
        str(path),
        lambda row: Example(image_files.square_bytes(image_of(row), size)),
        _part(manifest.plan.num_images, percent),
        manifest.plan.class_names,
        stored=shards.labels_of(path, manifest),
    )


_READERS = {"folder": _from_folder, "npz": _from_npz, "file": _from_file, "shards": _from_shards}
