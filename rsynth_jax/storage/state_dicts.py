"""Read the weights that others published: PyTorch's state dicts, old and new, and arrays of NumPy.

    state = read_state_dict("pt_inception-2015-12-05-6726825d.pth")     # {"fc.weight": array, ...}

No code of a file runs: `unpickler` reads the pickles, with functions that describe tensors (PyTorch) or copy
bytes (NumPy).
"""

import functools
import io
import math
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from flax import traverse_util

from rsynth_jax.storage import files, npz, paths, unpickler

StateDict = dict[str, np.ndarray]

_STATES = ("model", "state_dict", "model_state_dict", "net")  # names of a state dict in a checkpoint


class Checkpoint(NamedTuple):
    """The arrays of a state dict by name, read-only, and the names of the rest of the file."""

    arrays: StateDict
    passed: tuple[str, ...]


@files.one_line_errors()
def read_state_dict(path: str | Path) -> StateDict:
    """Read the arrays of a file by name: .npz, .safetensors, .ckpt (pickled NumPy), or else a PyTorch file.

    Raises ValueError if there is none, if it is damaged, or if it asks for anything that weights do not need.
    """
    path = paths.on_this_machine(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    with files.errors_as(f"cannot read weights from {path}"):
        return _READERS.get(path.suffix, _read_pytorch)(path)


@files.one_line_errors()
def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the arrays of a training checkpoint or of a state dict, in the formats of `read_state_dict`.

    The state dict is the checkpoint's "model", "state_dict", "model_state_dict" or "net". Objects of classes
    that training programs leave in their files (of dill, argparse, NumPy, their own) are passed over, not
    made; a file that asks for what acts in Python's own library, as os.system or eval, is refused.

    Raises ValueError as `read_state_dict` does.
    """
    path = paths.on_this_machine(path)
    if path.suffix in _READERS or not os.path.isfile(path):
        return Checkpoint(read_state_dict(path), ())
    with files.errors_as(f"cannot read weights from {path}"):
        return _read_checkpoint(path)


class _Storage(NamedTuple):  # of PyTorch: numbers elsewhere in the file
    key: str
    dtype: np.dtype
    num: int


class _Tensor(NamedTuple):  # of PyTorch: a window on a storage; offset and strides count elements
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _storage(description: Any) -> _Storage:
    match description:
        case ("storage", unpickler.Global(name), str(key), str(), int(num), *rest) if rest in ([], [None]):
            return _Storage(key, _DTYPES[name], num)
    raise ValueError("it describes a storage in an unknown way")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *unused: Any) -> _Tensor:
    """A window inside its storage, of no more elements than it."""
    numbers = (offset, *shape, *strides)
    if type(storage) is not _Storage or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("it describes a tensor in an unknown way")
    size = math.prod(shape)
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if size > storage.num or (size and last >= storage.num):
        raise ValueError("a tensor reaches out of its storage")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


_MAGIC = 0x1950A86A20F9469CFC6C  # the first value of a file older than PyTorch 1.6
_KINDS: dict[str, Any] = {"Float": "<f4", "Double": "<f8", "Half": "<f2", "BFloat16": ml_dtypes.bfloat16}
_KINDS |= {"Long": "<i8", "Int": "<i4", "Short": "<i2", "Char": "i1", "Byte": "u1", "Bool": "?"}
_DTYPES = {f"torch {kind}Storage": np.dtype(code) for kind, code in _KINDS.items()}
_BUILDERS = {
    "collections OrderedDict": unpickler.mapping,  # of nothing, or of its items as Python 2 wrote them
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": lambda data, requires_grad, hooks: data,
}
_PYTORCH = unpickler.Vocabulary(_BUILDERS | _DTYPES, _storage, lambda value, state: value)

# Of Python's own modules, those whose objects training programs leave beside the weights.
_PLAIN_MODULES = {"_codecs", "argparse", "collections", "copyreg", "datetime", "decimal", "enum", "functools"}
_PLAIN_MODULES |= {"pathlib", "types", "typing", "uuid"}
_BUILTIN_MODULES = ("builtins", "__builtin__")  # the second was Python 2's
_BUILTINS = ("__main__", "bytearray", "complex", "frozenset", "object", "range", "set", "slice")
_PLAIN_NAMES = {f"{module} {name}" for module in _BUILTIN_MODULES for name in _BUILTINS}
_OWN_MODULES = {*sys.stdlib_module_names, *_BUILTIN_MODULES} - _PLAIN_MODULES


def _passes(name: str) -> bool:
    """Whether an object is passed over: Python's own that act (of os, subprocess, eval) are refused."""
    return name in _PLAIN_NAMES or name.split(" ")[0].split(".")[0] not in _OWN_MODULES


def _read_pytorch(path: Path) -> StateDict:
    """The tensors of a state dict, or of a checkpoint that holds one as "state_dict"."""
    described, stored = _parts(files.read(path), _PYTORCH)
    return _arrays(described.get("state_dict", described), stored)


def _read_checkpoint(path: Path) -> Checkpoint:
    described, stored = _parts(files.read(path), _PYTORCH._replace(passes=_passes))
    if type(described) is not dict:
        raise ValueError("it holds no tensors by name")
    states = (name for name in _STATES if type(described.get(name)) is dict)
    name = next(states, None)
    state = described if name is None else described[name]
    beside = {str(key) for key in described if key != name} if name else set()
    beside |= {str(key) for key, value in state.items() if type(value) is not _Tensor}
    return Checkpoint(_arrays(state, stored), tuple(sorted(beside)))


def _arrays(state: Any, stored: Callable[[_Storage], bytes]) -> StateDict:
    """The tensors of a dict by name: windows on the storages, read-only, which take no memory."""
    tensors = {key: value for key, value in state.items() if type(key) is str and type(value) is _Tensor}
    if not tensors:
        raise ValueError("it holds no tensors by name")
    stored = functools.cache(stored)
    arrays = {}
    for name, window in tensors.items():
        flat = np.frombuffer(stored(window.storage), window.storage.dtype, window.storage.num)
        strides = [stride * flat.itemsize for stride in window.strides]
        start = flat[window.offset :]
        arrays[name] = np.lib.stride_tricks.as_strided(start, window.shape, strides, writeable=False)
    return arrays


_Parts = tuple[Any, Callable[[_Storage], bytes]]


def _parts(content: bytes, vocabulary: unpickler.Vocabulary) -> _Parts:
    """The pickled value of a file, and the bytes of each storage."""
    return (_zip_parts if content.startswith(b"PK") else _legacy_parts)(content, vocabulary)


def _zip_parts(content: bytes, vocabulary: unpickler.Vocabulary) -> _Parts:
    """Those of a file of PyTorch 1.6 or later: entries of an archive."""
    archive = zipfile.ZipFile(io.BytesIO(content))
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("it is compressed, which PyTorch's files are not")
    if sum(max(entry.compress_size, entry.file_size) for entry in entries) > len(content):
        raise ValueError("its entries claim more bytes than it has")
    names = archive.namelist()
    folders = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(folders) != 1:
        raise ValueError(f"it holds {len(folders)} pickles, not 1")
    folder = folders[0]
    if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("its numbers are not little-endian")
    described = unpickler.read(io.BytesIO(archive.read(f"{folder}data.pkl")), vocabulary)
    return described, lambda storage: archive.read(f"{folder}data/{storage.key}")


def _legacy_parts(content: bytes, vocabulary: unpickler.Vocabulary) -> _Parts:
    """Those of an older file: five pickles, the fourth the value, then each storage with its length."""
    storages: dict[str, _Storage] = {}

    def recorded(description: Any) -> _Storage:
        storage = _storage(description)
        return storages.setdefault(storage.key, storage)

    file = io.BytesIO(content)
    vocabulary = vocabulary._replace(persistent=recorded)
    magic, protocol, system, described, keys = (unpickler.read(file, vocabulary) for _ in range(5))
    if (magic, protocol, system["little_endian"]) != (_MAGIC, 1001, True):
        raise ValueError("it does not begin as PyTorch's files do")
    contents = {}
    for key in keys:
        if type(key) is not str:
            raise ValueError("it names a storage in an unknown way")
        num = int.from_bytes(file.read(8), "little")
        contents[key] = file.read(num * storages[key].dtype.itemsize)
    return described, lambda storage: contents[storage.key]


def _with_state(value: Any, state: Any) -> Any:
    """NumPy's array with its state, (version, shape, dtype, whether in Fortran's order, bytes)."""
    match value, state:
        case None, (1, tuple(shape), np.dtype() as dtype, bool(fortran), bytes(content)):
            return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C").copy()
        case np.dtype(), (3, "<", *_):
            return value
    raise ValueError("it describes an array in an unknown way")


_CODES = {code: np.dtype(f"<{code}") for code in ("f2", "f4", "f8", "i8")}
_ARRAYS = {
    "numpy.core.multiarray _reconstruct": lambda kind, shape, code: None,  # its state is the whole array
    "numpy._core.multiarray _reconstruct": lambda kind, shape, code: None,
    "numpy ndarray": None,
    "numpy dtype": lambda code, *unused: _CODES[code],
}
_NUMPY = unpickler.Vocabulary(_ARRAYS, _storage, _with_state)


def _read_ckpt(path: Path) -> StateDict:
    """A pickled tree of NumPy arrays, by path: {"AlexNet_0/Conv_0/kernel": array, ...}."""
    flat = traverse_util.flatten_dict(unpickler.read(io.BytesIO(files.read(path)), _NUMPY), sep="/")
    return {name: leaf for name, leaf in flat.items() if isinstance(leaf, np.ndarray)}


_READERS: dict[str, Callable[[Path], StateDict]] = {
    ".ckpt": _read_ckpt,
    ".npz": npz.read,
    ".safetensors": lambda path: files.read_tensors(path).arrays,
}
