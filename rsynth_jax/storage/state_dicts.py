"""The door to weights that others published: state dicts of PyTorch, old and new, and arrays of NumPy.

    state = read_state_dict("pt_inception-2015-12-05-6726825d.pth")     # {"fc.weight": array, ...}

Nothing that is read runs: the pickles in such files go through `pickles`, with builders that describe
tensors (PyTorch) or copy bytes (NumPy).
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
import safetensors
from flax import traverse_util

from rsynth_jax.storage import unpickler as pickles

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # what a file of before PyTorch 1.6 begins with

State = dict[str, np.ndarray]


class Storage(NamedTuple):
    """Numbers that lie elsewhere in the file."""

    key: str
    dtype: np.dtype
    num: int


class Tensor(NamedTuple):
    """An array as a window on a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def storage(description: Any) -> Storage:
    """What a persistent id describes."""
    match description:
        case ("storage", pickles.Word(name), str(key), str(), int(num), *rest) if rest in ([], [None]):
            return Storage(key, DTYPES[name], num)
    raise ValueError("it describes a storage in an unknown way")


def tensor(source: Any, offset: Any, shape: Any, strides: Any, *unused: Any) -> Tensor:
    """A window that stays within its storage, and takes no more room than it."""
    numbers = (offset, *shape, *strides)
    if type(source) is not Storage or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("it describes a tensor in an unknown way")
    size = math.prod(shape)
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if size > source.num or (size and last >= source.num):
        raise ValueError("a tensor reaches out of its storage")
    return Tensor(source, offset, tuple(shape), tuple(strides))


def parameter(data: Any, requires_grad: Any, hooks: Any) -> Any:
    """The tensor of a parameter."""
    return data


def ordered(pairs: Any = ()) -> dict:
    """An OrderedDict: dictionaries are ordered. Python 2 wrote its items as its argument."""
    return {key: value for key, value in pairs}


def restored(value: Any, state: Any) -> Any:
    """The value without the attributes that PyTorch gives its dictionaries."""
    return value


DTYPES = {
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
BUILDERS = {
    "collections OrderedDict": ordered,
    "torch._utils _rebuild_tensor_v2": tensor,
    "torch._utils _rebuild_parameter": parameter,
}
PYTORCH = pickles.Vocabulary(BUILDERS | DTYPES, storage, restored)


def tensors(described: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, or of a checkpoint that holds one as "state_dict"."""
    state = described.get("state_dict", described)
    found = {key: value for key, value in state.items() if type(key) is str and type(value) is Tensor}
    if not found:
        raise ValueError("it holds no tensors by name")
    return found


def array(window: Tensor, content: bytes) -> np.ndarray:
    """The numbers of a tensor, from those of its storage."""
    flat = np.frombuffer(content, window.storage.dtype, window.storage.num)
    strides = [stride * flat.itemsize for stride in window.strides]
    view = np.lib.stride_tricks.as_strided(flat[window.offset :], window.shape, strides, writeable=False)
    return view.copy()


def whole(archive: zipfile.ZipFile, name: str) -> bytes:
    """An entry of the archive, which PyTorch never compresses."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError("it is compressed, which PyTorch's files are not")
    return archive.read(name)


def zipped(content: bytes) -> State:
    """A file of PyTorch 1.6 or later: an archive of one pickle, and a file a storage."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        folders = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(folders) != 1:
            raise ValueError(f"it holds {len(folders)} pickles, not 1")
        (folder,) = folders
        if f"{folder}byteorder" in archive.namelist() and whole(archive, f"{folder}byteorder") != b"little":
            raise ValueError("its numbers are not little-endian")
        found = tensors(pickles.read(io.BytesIO(whole(archive, f"{folder}data.pkl")), PYTORCH))
        return {
            name: array(window, whole(archive, f"{folder}data/{window.storage.key}"))
            for name, window in found.items()
        }


def legacy(content: bytes) -> State:
    """An older file: five pickles, the fourth of them the state dict, and every storage with its length."""
    file = io.BytesIO(content)
    magic, protocol, system, described, keys = (pickles.read(file, PYTORCH) for _ in range(5))
    if (magic, protocol, system["little_endian"]) != (MAGIC, PROTOCOL, True):
        raise ValueError("it does not begin as PyTorch's files do")
    found = tensors(described)
    storages = {window.storage.key: window.storage for window in found.values()}
    contents = {}
    for key in keys:
        num = int.from_bytes(file.read(8), "little")
        contents[key] = file.read(num * storages[key].dtype.itemsize)
    return {name: array(window, contents[window.storage.key]) for name, window in found.items()}


def pytorch(path: Path) -> State:
    """A PyTorch file of either format."""
    content = path.read_bytes()
    return zipped(content) if content.startswith(b"PK") else legacy(content)


class Blank(NamedTuple):
    """A NumPy array in a pickle that has not got its numbers yet."""


def blank(kind: Any, shape: Any, code: Any) -> Blank:
    """NumPy's array before its state."""
    return Blank()


def numbers(code: Any, *unused: Any) -> np.dtype:
    """A NumPy dtype of plain little-endian numbers."""
    return {"f2": np.dtype("<f2"), "f4": np.dtype("<f4"), "f8": np.dtype("<f8"), "i8": np.dtype("<i8")}[code]


def filled(value: Any, state: Any) -> Any:
    """NumPy's array with its state, (version, shape, dtype, whether in Fortran's order, bytes)."""
    match value, state:
        case Blank(), (1, tuple(shape), np.dtype() as dtype, bool(fortran), bytes(content)):
            return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C").copy()
        case np.dtype(), (3, "<", *_):
            return value
    raise ValueError("it describes an array in an unknown way")


NUMPY = pickles.Vocabulary(
    {
        "numpy.core.multiarray _reconstruct": blank,
        "numpy._core.multiarray _reconstruct": blank,
        "numpy ndarray": None,
        "numpy dtype": numbers,
    },
    storage,
    filled,
)


def ckpt(path: Path) -> State:
    """A pickled tree of NumPy arrays, by path: {"AlexNet_0/Conv_0/kernel": array, ...}."""
    tree = pickles.read(io.BytesIO(path.read_bytes()), NUMPY)
    if type(tree) is not dict:
        raise ValueError("it holds no tree of arrays")
    flat = traverse_util.flatten_dict(tree, sep="/")
    return {name: leaf for name, leaf in flat.items() if isinstance(leaf, np.ndarray)}


def npz(path: Path) -> State:
    """NumPy's arrays."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def safetensor(path: Path) -> State:
    """Every array of a safetensors file, bfloat16 too."""
    with safetensors.safe_open(path, framework="flax") as file:
        return {key: np.asarray(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118


READERS: dict[str, Callable[[Path], State]] = {".ckpt": ckpt, ".npz": npz, ".safetensors": safetensor}

DAMAGE = (
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    safetensors.SafetensorError,
)


def read_state_dict(path: str | Path) -> State:
    """The arrays of a file by name: .npz, .safetensors, .ckpt (pickled NumPy), or else a PyTorch file.

    Raises ValueError for a file that is not there, not whole, of another format, or that asks for anything
    that weights do not need.
    """
    path = Path(path).expanduser()
    if not os.path.isfile(path):  # unlike Path.is_file, False for a name that no file can have
        raise ValueError(f"there is no file {path}")
    try:
        return READERS.get(path.suffix, pytorch)(path)
    except DAMAGE as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"cannot read weights from {path}: {reason}") from error
