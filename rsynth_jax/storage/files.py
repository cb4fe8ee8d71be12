"""Write files atomically; read and write arrays as .npz or safetensors, and JSON.

check_writable(out)                            # before the work
write_arrays(out, {"images": images})          # after it: the whole file or none
arrays = read_arrays(out, "images", optional=("labels",))
"""

import contextlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
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


@contextlib.contextmanager
def errors_as(failure: str) -> Iterator[None]:
    """Raise every error of the block as a ValueError in one line: `failure`, a colon and the reason.

    Damaged files cause errors of many kinds: BadZipFile, struct.error, RecursionError ...
    """
    try:
        yield
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{failure}: {reason}") from error


def check_writable(*paths: Path | None) -> None:
    """Raise ValueError if a path is a folder, or its nearest existing parent no folder open for writing."""
    for path in filter(None, paths):
        if Path(path).is_dir():
            raise ValueError(f"cannot write {path}: it is a folder")
        parent = next(parent for parent in Path(path).absolute().parents if parent.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise ValueError(f"cannot write {path}: {parent} is not a folder that can be written to")


def write(path: Path, content: bytes) -> None:
    """Write a whole file, by renaming a temporary one, or none. Raises ValueError if it cannot be written."""
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
    """Read the `needed` arrays of an .npz, and the `optional` ones that it has, without pickle.

    Raises ValueError if there is no file, if a needed array is missing, or if the file is damaged.
    """
    if not path.is_file():
        raise ValueError(f"no file {path}: give an .npz")
    with (
        errors_as(f"cannot read {path} as an .npz of plain arrays"),
        zipfile.ZipFile(path),  # refuses a pickle and a single array
        np.load(path, allow_pickle=False) as file,
    ):
        arrays = {name: file[name] for name in (*needed, *optional) if name in file}
    for name in needed:
        if name not in arrays:
            raise ValueError(f"{path} has no array {name}: name them {' and '.join(needed)}")
    return arrays


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file. The same content makes the same bytes: the metadata is sorted by name."""
    content = save(dict(arrays), dict(metadata))
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length]) | {"__metadata__": dict(sorted(metadata.items()))}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write(path, len(text).to_bytes(8, "little") + text + content[8 + length :])


def read_tensors(path: Path) -> Tensors:
    """Read a safetensors file as NumPy arrays, bfloat16 included. Raises ValueError if it is none, or cut."""
    with errors_as(f"{path} is not a whole safetensors file"):
        content = path.read_bytes()
        arrays = {
            name: np.frombuffer(view["data"], _DTYPES[view["dtype"]]).reshape(view["shape"])
            for name, view in safetensors.deserialize(content)
        }
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return Tensors(arrays, header.get("__metadata__") or {})
