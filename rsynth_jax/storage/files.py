"""Write files atomically; read and write arrays as .npz, and JSON.

check_writable(out)                            # before the work
write_arrays(out, {"images": images})          # after it: the whole file or none
arrays = read_arrays(out, "images", optional=("labels",))
"""

import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save

_DTYPES: dict[str, Any] = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": ml_dtypes.bfloat16, "BOOL": "?"}
_DTYPES |= {"U8": "u1", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}


class Tensors(NamedTuple):
    """The content of a safetensors file: arrays by name, read-only, and texts by name."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]


def check_writable(*paths: Path | None) -> None:
    """Check that `write` can write each path that is not None.

    Raises:
      ValueError: if a path is a folder, or if its nearest existing parent is no folder open for writing.
    """
    for path in filter(None, paths):
        if Path(path).is_dir():
            raise ValueError(f"cannot write {path}: it is a folder")
        parent = next(parent for parent in Path(path).absolute().parents if parent.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise ValueError(f"cannot write {path}: {parent} is not a folder that can be written to")


def write(path: Path, content: bytes) -> None:
    """Write a whole file or none: to a temporary file beside it, which is then renamed.

    Raises:
      ValueError: if the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as one compressed .npz."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # pyright: ignore[reportArgumentType]
    write(path, content.getvalue())


def write_json(path: Path, value: Any, indent: int = 2) -> None:
    """Write a value as indented JSON."""
    write(path, (json.dumps(value, indent=indent) + "\n").encode())


def read_arrays(path: Path, *needed: str, optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read arrays of an .npz by name, without pickle.

    Args:
      path: the file.
      *needed: names that the file must have.
      optional: names that are read where the file has them.

    Raises:
      ValueError: if there is no file, if a needed array is missing, or if the file is damaged.
    """
    if not path.is_file():
        raise ValueError(f"no file {path}: give an .npz")
    try:
        with zipfile.ZipFile(path):  # refuse a pickle and a single array
            pass
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in (*needed, *(name for name in optional if name in file))}
    except KeyError as error:
        missing = error.args[0].split()[0]
        raise ValueError(f"{path} has no array {missing}: name them {' and '.join(needed)}") from error
    except Exception as error:  # damage shows in many kinds: BadZipFile, zlib.error, NotImplementedError ...
        raise ValueError(f"cannot read {path} as an .npz of plain arrays: {error}") from error


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file. The same content makes the same bytes: the metadata is sorted by name."""
    content = save(dict(arrays), dict(metadata))
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write(path, len(text).to_bytes(8, "little") + text + content[8 + length :])


def read_tensors(path: Path) -> Tensors:
    """Read a safetensors file as NumPy arrays, bfloat16 included.

    Raises:
      ValueError: if the file is not a whole safetensors file, or has arrays of another type.
    """
    try:
        content = path.read_bytes()
        views = safetensors.deserialize(content)
        arrays = {
            name: np.frombuffer(view["data"], _DTYPES[view["dtype"]]).reshape(view["shape"])
            for name, view in views
        }
    except (safetensors.SafetensorError, OSError, KeyError) as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return Tensors(arrays, header.get("__metadata__") or {})
