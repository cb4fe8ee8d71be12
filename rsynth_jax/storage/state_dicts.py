"""Read the weights that others published: PyTorch's state dicts, old and new, and arrays of NumPy.

    state = read_state_dict("pt_inception-2015-12-05-6726825d.pth")     # {"fc.weight": array, ...}

No code of a file runs: `unpickler` reads the pickles, with functions that describe tensors (PyTorch) or copy
bytes (NumPy).
"""

import io
import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from flax import traverse_util

from rsynth_jax.storage import files, unpickler

StateDict = dict[str, np.ndarray]


def read_state_dict(path: str | Path) -> StateDict:
    """Read the arrays of a file by name: .npz, .safetensors, .ckpt (pickled NumPy), or else a PyTorch file.

    Raises:
      ValueError: if there is no file, if it is truncated or of another format, or if it asks for anything
        that weights do not need.
    """
    path = Path(path).expanduser()
    if not os.path.isfile(path):  # unlike Path.is_file, False for a name that no file can have
        raise ValueError(f"there is no file {path}")
    try:
        return _READERS.get(path.suffix, _read_pytorch)(path)
    except Exception as error:  # damage shows in many kinds: BadZipFile, RecursionError, OverflowError ...
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"cannot read weights from {path}: {reason}") from error


# ---- PyTorch


class _Storage(NamedTuple):
    """Numbers elsewhere in the file."""

    key: str
    dtype: np.dtype
    num: int


class _Tensor(NamedTuple):
    """An array as a window on a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _storage(description: Any) -> _Storage:
    """The storage that a persistent id describes."""
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
_PROTOCOL = 1001  # the second
_DTYPES = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch LongStorage": np.dtype("<i8"),
    "torch IntStorage": np.dtype("<i4"),
    "torch ShortStorage": np.dtype("<i2"),
    "torch CharStorage": np.dtype("i1"),
    "torch ByteStorage": np.dtype("u1"),
    "torch BoolStorage": np.dtype("?"),
}
_BUILDERS = {
    "collections OrderedDict": dict,  # of nothing, or of its items as Python 2 wrote them
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": lambda data, requires_grad, hooks: data,
}
_PYTORCH = unpickler.Vocabulary(_BUILDERS | _DTYPES, _storage, lambda value, state: value)


def _tensors(described: Any) -> dict[str, _Tensor]:
    """The tensors of a state dict, or of a checkpoint that holds one as "state_dict"."""
    state = described.get("state_dict", described)
    found = {key: value for key, value in state.items() if type(key) is str and type(value) is _Tensor}
    if not found:
        raise ValueError("it holds no tensors by name")
    return found


def _array(window: _Tensor, content: bytes) -> np.ndarray:
    """The numbers of a tensor, from the bytes of its storage."""
    flat = np.frombuffer(content, window.storage.dtype, window.storage.num)
    strides = [stride * flat.itemsize for stride in window.strides]
    view = np.lib.stride_tricks.as_strided(flat[window.offset :], window.shape, strides, writeable=False)
    return view.copy()


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """An entry of the archive, which PyTorch never compresses."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError("it is compressed, which PyTorch's files are not")
    return archive.read(name)


def _read_zip(content: bytes) -> StateDict:
    """A file of PyTorch 1.6 or later: an archive of one pickle, and one entry for each storage."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        folders = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(folders) != 1:
            raise ValueError(f"it holds {len(folders)} pickles, not 1")
        (folder,) = folders
        if f"{folder}byteorder" in archive.namelist() and _entry(archive, f"{folder}byteorder") != b"little":
            raise ValueError("its numbers are not little-endian")
        found = _tensors(unpickler.read(io.BytesIO(_entry(archive, f"{folder}data.pkl")), _PYTORCH))
        return {
            name: _array(window, _entry(archive, f"{folder}data/{window.storage.key}"))
            for name, window in found.items()
        }


def _read_legacy(content: bytes) -> StateDict:
    """An older file: five pickles, the fourth of them the state dict, then each storage with its length."""
    file = io.BytesIO(content)
    magic, protocol, system, described, keys = (unpickler.read(file, _PYTORCH) for _ in range(5))
    if (magic, protocol, system["little_endian"]) != (_MAGIC, _PROTOCOL, True):
        raise ValueError("it does not begin as PyTorch's files do")
    found = _tensors(described)
    storages = {window.storage.key: window.storage for window in found.values()}
    contents = {}
    for key in keys:
        num = int.from_bytes(file.read(8), "little")
        contents[key] = file.read(num * storages[key].dtype.itemsize)
    return {name: _array(window, contents[window.storage.key]) for name, window in found.items()}


def _read_pytorch(path: Path) -> StateDict:
    """A PyTorch file of either format."""
    content = path.read_bytes()
    return _read_zip(content) if content.startswith(b"PK") else _read_legacy(content)


# ---- NumPy


class _Empty(NamedTuple):
    """A NumPy array in a pickle, before its numbers."""


def _dtype(code: Any, *unused: Any) -> np.dtype:
    """A NumPy dtype of plain little-endian numbers."""
    return {"f2": np.dtype("<f2"), "f4": np.dtype("<f4"), "f8": np.dtype("<f8"), "i8": np.dtype("<i8")}[code]


def _with_state(value: Any, state: Any) -> Any:
    """NumPy's array with its state, (version, shape, dtype, whether in Fortran's order, bytes)."""
    match value, state:
        case _Empty(), (1, tuple(shape), np.dtype() as dtype, bool(fortran), bytes(content)):
            return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C").copy()
        case np.dtype(), (3, "<", *_):
            return value
    raise ValueError("it describes an array in an unknown way")


_ARRAYS = {
    "numpy.core.multiarray _reconstruct": lambda kind, shape, code: _Empty(),
    "numpy._core.multiarray _reconstruct": lambda kind, shape, code: _Empty(),
    "numpy ndarray": None,
    "numpy dtype": _dtype,
}
_NUMPY = unpickler.Vocabulary(_ARRAYS, _storage, _with_state)


def _read_ckpt(path: Path) -> StateDict:
    """A pickled tree of NumPy arrays, by path: {"AlexNet_0/Conv_0/kernel": array, ...}."""
    tree = unpickler.read(io.BytesIO(path.read_bytes()), _NUMPY)
    if type(tree) is not dict:
        raise ValueError("it holds no tree of arrays")
    flat = traverse_util.flatten_dict(tree, sep="/")
    return {name: leaf for name, leaf in flat.items() if isinstance(leaf, np.ndarray)}


def _read_npz(path: Path) -> StateDict:
    """NumPy's arrays."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


_READERS: dict[str, Callable[[Path], StateDict]] = {
    ".ckpt": _read_ckpt,
    ".npz": _read_npz,
    ".safetensors": lambda path: files.read_tensors(path).arrays,
}
