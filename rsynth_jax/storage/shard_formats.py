"""A shard of images as a file or a folder: .npz, a folder of PNGs, or an array_record file of PNGs.

    FORMATS["npz"].write(path, Batch(0, images, labels), ("cat", "dog"))
    batch = FORMATS["npz"].read(path)              # images uint8 (n, h, w, c), labels int32 (n,)

The same shard makes the same bytes. Shards know their class names only as .npz; `shards` keeps them for all.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as Pillow

from rsynth_jax.storage import files, paths

_LABEL = 4  # bytes of a label after a PNG, little-endian; readers of PNG pass over them


class Batch(NamedTuple):
    """Images of a stream: the one at `first` in it, and those after it."""

    first: int
    images: np.ndarray  # uint8 (n, h, w, c)
    labels: np.ndarray  # int32 (n,)


class Format(NamedTuple):
    """How a shard is kept.

    Attributes:
      suffix: of its name.
      write: (path, shard, class names) writes it, whole or not.
      read: the images and the labels at a path.
      read_labels: the labels alone.
    """

    suffix: str
    write: Callable[[Path, Batch, Sequence[str]], None]
    read: Callable[[Path], tuple[np.ndarray, np.ndarray]]
    read_labels: Callable[[Path], np.ndarray]


def _write_npz(path: Path, shard: Batch, class_names: Sequence[str]) -> None:
    arrays = {"images": shard.images, "labels": shard.labels, "class_names": np.array(class_names)}
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    arrays = files.read_arrays(path, "images", "labels")
    return arrays["images"], arrays["labels"]


def _write_folder(path: Path, shard: Batch, class_names: Sequence[str]) -> None:
    path.mkdir()
    for number, (image, label) in enumerate(zip(shard.images, shard.labels, strict=True), shard.first):
        (path / f"{number:07d}-{label}.png").write_bytes(_png(image))


def _read_folder(path: Path) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([_decoded(files.read(file)) for file in _pictures(path)]), _labels_of_names(path)


def _labels_of_names(path: Path) -> np.ndarray:
    return np.array([int(file.stem.partition("-")[2]) for file in _pictures(path)], np.int32)


def _pictures(path: Path) -> list[Path]:
    return sorted(path.glob("[0-9]*.png"))


def _write_records(path: Path, shard: Batch, class_names: Sequence[str]) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), "group_size:1")  # so that one record is read alone
    for image, label in zip(shard.images, shard.labels, strict=True):
        writer.write(_png(image) + int(label).to_bytes(_LABEL, "little"))
    writer.close()


def _read_records(path: Path) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([_decoded(record) for record in _records(path)]), _labels_of_records(path)


def _labels_of_records(path: Path) -> np.ndarray:
    labels = [int.from_bytes(record[-_LABEL:], "little") for record in _records(path)]
    return np.array(labels, np.int32)


def _records(path: Path) -> list[bytes]:
    from array_record.python.array_record_module import ArrayRecordReader

    with paths.copied(path) as file:
        reader = ArrayRecordReader(str(file))
        try:
            return reader.read_all()
        finally:
            reader.close()


def _png(image: Any) -> bytes:
    content = io.BytesIO()
    Pillow.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(content, "PNG")
    return content.getvalue()


def _decoded(content: bytes) -> np.ndarray:
    with Pillow.open(io.BytesIO(content), formats=("PNG",)) as picture:
        image = np.asarray(picture)
    return image if image.ndim == 3 else image[:, :, None]


FORMATS = {  # for programs
    "npz": Format(".npz", _write_npz, _read_npz, lambda path: files.read_arrays(path, "labels")["labels"]),
    "png": Format("", _write_folder, _read_folder, _labels_of_names),
    "array_record": Format(".array_record", _write_records, _read_records, _labels_of_records),
}
