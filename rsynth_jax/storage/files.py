"""Write files atomically; read and write arrays as .npz or safetensors, and JSON.

check_writable(out)                            # before the work
write_arrays(out, {"images": images})          # after it: the whole file or none
arrays = read_arrays(out, "images", optional=("labels",))
"""

import contextlib
import errno
import io
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save

from rsynth_jax import messages
from rsynth_jax.storage import npz, paths

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}  # it is full, or fails
_TEMPORARY = "." + 16 * "[0-9a-f]"  # names of files that are being written
_LEAST = 40  # characters of a reason
_DTYPES: dict[str, Any] = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": ml_dtypes.bfloat16, "BOOL": "?"}
_DTYPES |= {"U8": "u1", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}


class Tensors(NamedTuple):
    """The content of a safetensors file: arrays by name, read-only, and texts by name."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]


@contextlib.contextmanager
def errors_as(failure: str) -> Iterator[None]:
    """Raise every error of the block as a ValueError in one line: `failure`, a colon and the reason.

    Damaged files cause errors of many kinds: BadZipFile, struct.error, RecursionError ... A reason may hold
    their bytes: it is cut, so that the line has no more than 200 characters, and loses what cannot be shown.
    """
    try:
        yield
    except Exception as error:
        room = max(messages.LONGEST - len(failure) - 3, _LEAST)
        raise ValueError(messages.one_line(f"{failure}: {messages.shown(_cause(error), room)}")) from error


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Raise ValueErrors of the block, and OSErrors of paths, stores or disks, as a ValueError in one line.

    A path may be too long, without rights, a loop of links, or hold line breaks. The functions of the library
    that take one have this around them, and so has every program.
    """
    try:
        yield
    except ValueError as error:
        line = messages.one_line(str(error))
        raise (error if line == str(error) else ValueError(line)) from error.__cause__
    except OSError as error:
        if error.filename is None and error.errno not in DISK | {None}:  # stores raise them without a number
            raise
        verb = "write" if error.errno in DISK else "use"
        place = error.filename or ("the output" if error.errno else "a path")
        raise ValueError(messages.one_line(f"cannot {verb} {place}: {error.strerror or error}")) from error


@one_line_errors()
def check_writable(*paths: Path | None) -> None:
    """Raise ValueError for a path that `write` cannot write, and for two that meet. Nothing is created."""
    taken: list[Path] = []
    for path in filter(None, paths):
        target = _target(path)
        file = target.file
        if any(file == other or file in other.parents or other in file.parents for other in taken):
            raise ValueError(f"cannot write {path}: another output goes there: give each a path of its own")
        if target.status is None or not stat.S_ISCHR(target.status.st_mode):  # /dev/null takes all
            taken.append(file)


def is_stream(path: Path) -> bool:
    """Whether a path leads to a device, a pipe or an open file, whose names have no suffix."""
    return _target(path).is_stream


def is_output(path: Path) -> bool:
    """Whether a path leads to the standard output, as /dev/stdout."""
    return _target(path).descriptor == 1


@one_line_errors()
def write(path: Path, content: bytes) -> None:
    """Write the file that `path` leads to: whole, by renaming a temporary one, or not at all.

    In a store it is one object. Links are followed, and stay. An existing file keeps its owner and permission
    bits; a new one, and the folders that it needs, follow the umask. A device, a pipe and what is open
    already, as /dev/stdout, are written to directly.

    Raises:
      ValueError: the path cannot be written.
    """
    target = _target(path)
    number = target.descriptor
    try:
        if paths.is_remote(path):
            _put(path, content)
        elif target.is_stream:  # os.open without O_CREAT makes no file of what is gone meanwhile
            opened = os.open(path, os.O_WRONLY) if number is None else os.dup(number)
            with open(opened, "wb") as stream:
                stream.write(content)
        else:
            _replace(target.file, target.status, content)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from error


def remove_temporaries(folder: Path) -> None:
    """Remove what killed processes had begun to write in a folder and below it, where nobody writes now."""
    for path in () if paths.is_remote(folder) else folder.rglob(_TEMPORARY):
        path.unlink(missing_ok=True)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as one compressed .npz."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # pyright: ignore[reportArgumentType]
    write(path, content.getvalue())


def write_json(path: Path, value: Any, indent: int = 2) -> None:
    """Write a value as indented JSON. Raises ValueError for NaN and infinity, which JSON does not have."""
    with errors_as(f"cannot write {path}"):
        text = json.dumps(value, indent=indent, allow_nan=False)
    write(path, f"{text}\n".encode())


@one_line_errors()
def read_arrays(path: Path, *needed: str, optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read the `needed` arrays of an .npz, and the `optional` ones that it has, without pickle.

    Raises ValueError if there is no file, if a needed array is missing, if the file is damaged, or if its
    arrays claim more than half of the memory.
    """
    if not path.is_file():
        raise ValueError(f"no file {path}: give an .npz")
    with errors_as(f"cannot read {path} as an .npz of plain arrays"), open_file(path) as file:
        arrays = npz.read(file, (*needed, *optional))
    for name in needed:
        if name not in arrays:
            raise ValueError(f"{path} has no array {name}: name them {' and '.join(needed)}")
    return arrays


def open_file(path: str | os.PathLike[str]) -> io.BufferedReader | io.BytesIO:
    """Open a file to read, of a store a copy in memory.

    Raises OSError if that fails, and for a pipe or a device, which may not end.
    """
    if paths.is_remote(path):
        return io.BytesIO(_fetched(paths.of(path)))
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115, the caller's to close
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", os.fspath(path))
    return file


def read(path: str | os.PathLike[str]) -> bytes:
    """Read a file, as `open_file`."""
    with open_file(path) as file:
        return file.read()


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file. The same content makes the same bytes: the metadata is sorted by name."""
    ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}  # `save` writes memory
    content = save(ordered, dict(metadata))
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length]) | {"__metadata__": dict(sorted(metadata.items()))}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write(path, len(text).to_bytes(8, "little") + text + content[8 + length :])


@one_line_errors()
def read_tensors(path: Path) -> Tensors:
    """Read a safetensors file as NumPy arrays, bfloat16 included. Raises ValueError if it is none, or cut."""
    with errors_as(f"{path} is not a whole safetensors file"):
        content = read(path)
        arrays = {
            name: np.frombuffer(view["data"], _DTYPES[view["dtype"]]).reshape(view["shape"])
            for name, view in safetensors.deserialize(content)
        }
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return Tensors(arrays, header.get("__metadata__") or {})


def _fetched(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    except Exception as error:  # of many kinds, as stores and networks cause them
        raise OSError(errno.EPROTO, _cause(error), str(path)) from error


def _put(path: Path, content: bytes) -> None:
    with errors_as(f"cannot write {path}"):
        path.write_bytes(content)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # for the other end of a pipe


def _cause(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    return f"{reason} is missing, or unknown" if isinstance(error, KeyError) else reason


class _Target(NamedTuple):
    file: Path  # without links
    status: os.stat_result | None  # None where there is nothing
    descriptor: int | None  # of the open file that the path names

    @property
    def is_stream(self) -> bool:
        return self.status is not None and not (self.descriptor is None and stat.S_ISREG(self.status.st_mode))


def _target(path: Path) -> _Target:
    """What a path leads to. Raises ValueError if it cannot be written."""
    if paths.is_remote(path):
        return _Target(path, None, None)
    path = Path(path)
    try:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            status = None
        target = _Target(Path(os.path.realpath(path)), status, None if status is None else _descriptor(path))
        reason = _reason(path, target)
    except OSError as error:
        reason = error.strerror
    else:
        if reason is None:
            return target
    raise ValueError(f"cannot write {path}: {reason}")


def _descriptor(path: Path) -> int | None:
    """The number of the open file that /dev/stdout, /dev/fd/3 or a link to them names."""
    while True:
        folder = os.path.realpath(path.parent)
        if folder in ("/dev/fd", f"/proc/{os.getpid()}/fd") and path.name.isdigit():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = Path(folder, os.readlink(path))


def _reason(path: Path, target: _Target) -> str | None:
    """Why a path cannot be written."""
    status = target.status
    mode = stat.S_IFREG if status is None else status.st_mode
    if target.descriptor is not None:
        return None
    if stat.S_ISDIR(mode) or stat.S_ISSOCK(mode):
        return f"it is a {'folder' if stat.S_ISDIR(mode) else 'socket'}: give a file"
    if status is not None and not os.access(path, os.W_OK):
        return "it is read-only"
    if not stat.S_ISREG(mode):
        return None
    if target.file.parts[1] in ("proc", "sys"):
        return "it belongs to the system: give a file elsewhere"
    folder = next(folder for folder in target.file.parents if folder.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} is not a folder that can be written to"
    return None


def _replace(file: Path, status: os.stat_result | None, content: bytes) -> None:
    """Rename a temporary file of this content to `file`, which has that status."""
    temporary = file.with_name(f".{secrets.token_hex(8)}")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(temporary, "xb") as opened:
            opened.write(content)
        if status is not None:
            with contextlib.suppress(OSError):  # only root gives files away
                os.chown(temporary, status.st_uid, status.st_gid)
            temporary.chmod(status.st_mode & 0o777)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
