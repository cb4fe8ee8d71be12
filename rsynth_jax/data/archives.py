"""Read the published files of CIFAR-10, CIFAR-100 and MNIST, without TensorFlow and without pickle.

images, labels, class_names = read("cifar10", "", "train")             # downloaded into the cache once
images, labels, class_names = read("cifar10", "cifar-10-binary.tar.gz", "test")
images, labels, class_names = read("mnist", "FOLDER", "test")           # the .gz files of idx arrays

Nothing is extracted to disk. An archive of more than 256 MiB, unpacked, is refused.
"""

import gzip
import io
import itertools
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rsynth_jax.storage import cache, class_names, files, paths
from rsynth_jax.storage.cache import Download

_LARGEST = 1 << 28  # bytes of an unpacked file
_MEMBERS = 100  # of an archive, at most
_SIDE = 32  # of the images of CIFAR
_KRIZ = "https://www.cs.toronto.edu/~kriz/"
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"


class Archive(NamedTuple):
    """The images of a split, uint8 (n, h, w, c), the number of the class of each, and the classes' names."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


class _Cifar(NamedTuple):
    download: Download
    members: dict[str, tuple[str, ...]]  # files of the archive, by split
    label_bytes: int  # before the pixels of a record, of which the last one is the class


_CIFARS = {
    "cifar10": _Cifar(
        Download(f"{_KRIZ}cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
        {
            "train": tuple(f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)),
            "test": ("cifar-10-batches-bin/test_batch.bin",),
        },
        label_bytes=1,
    ),
    "cifar100": _Cifar(
        Download(f"{_KRIZ}cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
        {"train": ("cifar-100-binary/train.bin",), "test": ("cifar-100-binary/test.bin",)},
        label_bytes=2,
    ),
}
_DIGITS = {  # images and labels, by split
    "train": (
        Download(f"{_MNIST}train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        Download(f"{_MNIST}train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
    ),
    "test": (
        Download(f"{_MNIST}t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        Download(f"{_MNIST}t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    ),
}


@files.one_line_errors()
def read(name: str, place: str, split: str) -> Archive:
    """Read a split of a data set of `NAMES`.

    Args:
      name: cifar10, cifar100 or mnist.
      place: the archive, of MNIST the folder of its files; "" for the user's cache, see `cache.fetch`.
      split: train or test.

    Raises:
      ValueError: there is no such split, the files cannot be downloaded or read, or hold anything else.
    """
    if split not in _DIGITS:
        raise ValueError(f"{name} has no split {split!r}: it has train and test")
    return _READERS[name](name, place, split)


def _read_cifar(name: str, place: str, split: str) -> Archive:
    """Records of the labels and of the three planes of an image each."""
    kind = _CIFARS[name]
    path = paths.on_this_machine(place) if place else cache.fetch(kind.download)
    with files.errors_as(f"cannot read {path} as {kind.download.name}"):
        content = _unpacked(path)
        width = kind.label_bytes + 3 * _SIDE**2
        records = np.concatenate([_records(file, width) for file in _members(content, kind.members[split])])
    planes = records[:, kind.label_bytes :].reshape(-1, 3, _SIDE, _SIDE)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return Archive(images, records[:, kind.label_bytes - 1].copy(), class_names.read([name]))


def _members(content: bytes, names: tuple[str, ...]) -> list[bytes]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        found = {member.name: member for member in itertools.islice(archive, _MEMBERS)}
        files_read = []
        for name in names:
            file = archive.extractfile(found[name]) if name in found else None
            if file is None or found[name].size > len(content):  # a sparse file claims any size
                raise ValueError(f"it has no file {name}")
            files_read.append(file.read())
    return files_read


def _records(content: bytes, width: int) -> np.ndarray:
    if len(content) % width:
        raise ValueError(f"a file has {len(content)} bytes, which are no records of {width}")
    return np.frombuffer(content, np.uint8).reshape(-1, width)


def _read_mnist(name: str, place: str, split: str) -> Archive:
    folder = paths.on_this_machine(place)
    both = [folder / file.name if place else cache.fetch(file) for file in _DIGITS[split]]
    images, labels = (_read_idx(path, num_axes) for path, num_axes in zip(both, (3, 1), strict=True))
    if len(images) != len(labels):
        raise ValueError(f"{both[1]} has {len(labels)} labels for {len(images)} images")
    return Archive(images[..., None], labels, tuple("0123456789"))


def _read_idx(path: Path, num_axes: int) -> np.ndarray:
    """An array of bytes: two zeros, the type 8, the number of axes, their lengths, and the values."""
    with files.errors_as(f"cannot read {path} as an idx file"):
        content = _unpacked(path)
        if content[:4] != bytes((0, 0, 8, num_axes)):
            raise ValueError(f"it holds no bytes of {num_axes} axes")
        start = 4 + 4 * num_axes
        return np.frombuffer(content, np.uint8, offset=start).reshape(np.frombuffer(content[4:start], ">u4"))


def _unpacked(path: Path) -> bytes:
    """The content of a .gz."""
    with files.open_file(path) as packed, gzip.GzipFile(fileobj=packed) as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ValueError(f"it unpacks to more than {_LARGEST >> 20} MiB")
    return content


_READERS: dict[str, Callable[[str, str, str], Archive]] = dict.fromkeys(_CIFARS, _read_cifar)
_READERS |= {"mnist": _read_mnist}
NAMES = tuple(_READERS)
