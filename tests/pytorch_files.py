"""PyTorch's files without PyTorch: stand-ins under its names, pickled as it does.

with stand_ins():
    content = zipped(*state_of({"weight": array}))
"""

import collections
import contextlib
import io
import pickle
import struct
import sys
import types
import zipfile
from unittest import mock

import numpy as np

from rsynth_jax.storage import state_dicts


class Storage:
    """The numbers of a tensor, by a key; pickled as a persistent id."""

    def __init__(self, key: str, kind: str, array: np.ndarray):
        self.key, self.kind, self.array = key, kind, array


class Window:
    """A tensor, or a parameter that is one; pickled as a call."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = storage, offset, shape, strides, False, collections.OrderedDict()

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class Parameter:
    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_parameter, (self.data, True, collections.OrderedDict())


MODULES = {
    "torch._utils": ("_rebuild_tensor_v2", "_rebuild_parameter"),
    "torch": ("FloatStorage", "HalfStorage", "BFloat16Storage", "LongStorage", "BoolStorage", "Secret"),
    "dill": (),
    "dill._dill": ("_create_function", "_create_code", "_load_type"),
}


@contextlib.contextmanager
def stand_ins():
    """Meanwhile there are modules of these names, whose functions would say so if anybody called them."""

    def called(*arguments):
        raise AssertionError("something of the file was called")

    modules = {name: types.ModuleType(name) for name in MODULES}
    for module, names in MODULES.items():
        for name in names:
            function = types.FunctionType(called.__code__, globals(), name)
            function.__module__, function.__qualname__ = module, name
            setattr(modules[module], name, function)
    with mock.patch.dict(sys.modules, modules):
        yield


class Runs:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def dill_lambda() -> Runs:
    """What dill makes of a function, with a call inside its code."""
    inner = sys.modules["dill._dill"]
    code = Runs(inner._create_code, 0, 0, 0, b"import os; os.system('touch ran')")
    return Runs(inner._create_function, code, {"__name__": "__main__"}, "<lambda>", None, None)


def state_of(arrays) -> tuple[collections.OrderedDict, list[Storage]]:
    """A state dict of float32 arrays, with a storage each, and these storages."""
    state = collections.OrderedDict()
    storages = []
    for name, array in arrays.items():
        numbers = np.ascontiguousarray(array, np.float32)
        storages.append(Storage(str(len(storages)), "FloatStorage", numbers.ravel()))
        state[name] = Window(storages[-1], 0, numbers.shape, tuple(step // 4 for step in numbers.strides))
    return state, storages


def pickled(value, protocol: int, extra: tuple = ()) -> bytes:
    """The stream that torch.save makes of a value."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if isinstance(item, Storage):
                kind = getattr(sys.modules["torch"], item.kind)
                return ("storage", kind, item.key, "cuda:0", item.array.size, *extra)

    file = io.BytesIO()
    Pickler(file, protocol).dump(value)
    return file.getvalue()


def zipped(value, storages, protocol=2, pickled_value=None, **options) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        archive.writestr("archive/data.pkl", pickled_value or pickled(value, protocol))
        archive.writestr("archive/byteorder", "little")
        for storage in storages:
            archive.writestr(f"archive/data/{storage.key}", storage.array.tobytes())
    return file.getvalue()


def legacy(value, storages, protocol=2, little=True) -> bytes:
    system = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"short": 2}}
    head = [pickle.dumps(each, 2) for each in (state_dicts._MAGIC, 1001, system)]
    body = [pickled(value, protocol, (None,)), pickle.dumps([storage.key for storage in storages], 2)]
    tail = [struct.pack("<q", storage.array.size) + storage.array.tobytes() for storage in storages]
    return b"".join([*head, *body, *tail])
