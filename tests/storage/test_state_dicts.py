"""Published weights come out as PyTorch and NumPy would read them, and a file can ask for nothing else."""

import collections
import os
import pickle
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from pytorch_files import Parameter, Runs, Storage, Window, legacy, stand_ins, zipped
from safetensors.flax import save_file
from tiny import refused

from rsynth_jax.storage import state_dicts

BASE = np.arange(24, dtype=np.float32).reshape(4, 6)
PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "weights"


@pytest.fixture(autouse=True)
def torch():
    """Modules of PyTorch's names."""
    with stand_ins():
        yield


def example() -> tuple[dict, list[Storage], dict[str, np.ndarray]]:
    """A state dict with every kind of tensor, its storages, and what must come out."""
    base = Storage("0", "FloatStorage", BASE.ravel())
    half = Storage("1", "HalfStorage", BASE.ravel().astype(np.float16))
    brain = Storage("2", "BFloat16Storage", BASE.ravel().astype(ml_dtypes.bfloat16))
    count = Storage("3", "LongStorage", np.array([2**40]))
    state = collections.OrderedDict(
        whole=Window(base, 0, (4, 6), (6, 1)),
        transposed=Window(base, 0, (6, 4), (1, 6)),
        every_second=Window(base, 6, (2, 3), (6, 2)),
        parameter=Parameter(Window(base, 18, (6,), (1,))),
        half=Window(half, 0, (4, 6), (6, 1)),
        brain=Window(brain, 0, (24,), (1,)),
        count=Window(count, 0, (), ()),
        none=Window(base, 0, (0, 3), (3, 1)),
        epoch=3,
    )
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    expected = {
        "whole": BASE,
        "transposed": BASE.T,
        "every_second": BASE[1:3, ::2],
        "parameter": BASE[3],
        "half": BASE.astype(np.float16),
        "brain": BASE.ravel().astype(ml_dtypes.bfloat16),
        "count": np.array(2**40),
        "none": np.zeros((0, 3), np.float32),
    }
    return state, [base, half, brain, count], expected


def written(folder: Path, content: bytes, name: str = "weights.pth") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("form", [zipped, legacy])
def test_both_formats_come_out_with_their_shapes_strides_and_dtypes(tmp_path, form, protocol):
    state, storages, expected = example()
    read = state_dicts.read_state_dict(written(tmp_path, form(state, storages, protocol)))
    assert read.keys() == expected.keys()
    for key, array in expected.items():
        assert_array_equal(read[key], array)
        assert (read[key].dtype, read[key].shape) == (array.dtype, array.shape)


@pytest.mark.parametrize("form", [zipped, legacy])
def test_a_checkpoint_gives_its_state_dict(tmp_path, form):
    state, storages, expected = example()
    momentum = Storage("4", "FloatStorage", BASE.ravel())
    checkpoint = {"epoch": 3, "state_dict": state, "optimizer": [Window(momentum, 0, (24,), (1,))]}
    content = form(checkpoint, [momentum, *storages])
    assert state_dicts.read_state_dict(written(tmp_path, content)).keys() == expected.keys()


@pytest.mark.parametrize("form", [zipped, legacy])
def test_a_damaged_file_is_refused(tmp_path, form):
    state, storages, _ = example()
    content = form(state, storages)
    for end in [*range(0, len(content), 41), len(content) - 1]:
        with refused(match=r"cannot read weights from .+: .+"):
            state_dicts.read_state_dict(written(tmp_path, content[:end]))


@pytest.mark.parametrize("form", [zipped, legacy])
@pytest.mark.parametrize(
    "window",
    [
        (0, (4, 7), (7, 1)),
        (1, (4, 6), (6, 1)),
        (-1, (4,), (1,)),
        (0, (4,), (-1,)),
        (0, (-4,), (1,)),
        (0, (2**40,), (0,)),  # a little that says it is a lot
        (0, (4, 6), (6,)),
        (0, ("4",), (1,)),
        (0, 4, 1),
        ("touch ran", (4,), (1,)),
    ],
)
def test_a_tensor_beyond_its_storage_or_of_no_shape_is_refused(tmp_path, form, window):
    base = Storage("0", "FloatStorage", BASE.ravel())
    with refused(match="cannot read weights"):
        state_dicts.read_state_dict(written(tmp_path, form({"w": Window(base, *window)}, [base])))


@pytest.mark.parametrize("form", [zipped, legacy])
@pytest.mark.parametrize(
    "call",
    [
        lambda: Runs(os.system, "touch ran"),
        lambda: Runs(eval, "open('ran', 'w')"),
        lambda: Runs(sys.modules["torch"].Secret),
        lambda: Runs(sys.modules["torch"].FloatStorage, 3),
        lambda: Runs(sys.modules["torch._utils"]._rebuild_tensor_v2, "storage", 0, (1,), (1,)),
        lambda: Runs(sys.modules["torch._utils"]._rebuild_parameter),
        lambda: Runs(collections.OrderedDict, 3),
    ],
    ids=["system", "eval", "torch.Secret", "a storage", "no storage", "no arguments", "odd arguments"],
)
def test_what_a_file_asks_for_is_refused_and_does_not_happen(tmp_path, monkeypatch, form, call):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, form({"w": call()}, []))
    with refused(match="cannot read weights"):
        state_dicts.read_state_dict(path)
    assert list(tmp_path.iterdir()) == [path]


def test_other_archives_and_orders_are_refused(tmp_path):
    state, storages, _ = example()
    for content, reason in (
        (zipped(state, storages, compression=zipfile.ZIP_DEFLATED), "compressed"),
        (zipped({"epoch": 3}, []), "no tensors"),
        (zipped([1], []), "attribute"),
        (legacy(state, storages, little=False), "does not begin"),
        (zipped(state, storages[1:]), "archive/data/0"),
    ):
        with refused(match=reason):
            state_dicts.read_state_dict(written(tmp_path, content))
    with refused(match="there is no file"):
        state_dicts.read_state_dict(tmp_path / "nothing.pth")


def test_npz_and_safetensors_are_read(tmp_path):
    np.savez(tmp_path / "w.npz", a=BASE)
    save_file({"a": BASE, "b": BASE.astype(ml_dtypes.bfloat16)}, tmp_path / "w.safetensors")
    for name in ("w.npz", "w.safetensors"):
        assert_array_equal(state_dicts.read_state_dict(tmp_path / name)["a"], BASE)
    assert state_dicts.read_state_dict(tmp_path / "w.safetensors")["b"].dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize("name", ["w.npz", "w.safetensors", "w.ckpt", "w.pth"])
def test_a_file_of_another_kind_is_refused(tmp_path, name):
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    for content in (b"", b"hello\n", (tmp_path / "objects.npz").read_bytes(), pickle.dumps([{}])):
        with refused(match="cannot read weights"):
            state_dicts.read_state_dict(written(tmp_path, content, name))


def test_pickled_numpy_is_read_by_path(tmp_path):
    tree = {"layer": {"kernel": BASE, "bias": np.asfortranarray(BASE).T}, "scale": BASE[0].astype(np.float16)}
    content = pickle.dumps(tree | {"step": 3}, 3)
    read = state_dicts.read_state_dict(written(tmp_path, content, "w.ckpt"))
    assert read.keys() == {"layer/kernel", "layer/bias", "scale"}
    assert_array_equal(read["layer/kernel"], BASE)
    assert_array_equal(read["layer/bias"], BASE.T)


@pytest.mark.parametrize("name", ["mnist_lenet5_advtrained.pt", "cifar_cnn_a_adv.model"])
def test_published_files_are_read(name):
    if not (PUBLISHED / name).exists():
        pytest.skip(f"{PUBLISHED / name} is not there")
    state = state_dicts.read_state_dict(PUBLISHED / name)
    assert len(state) == 8 and all(np.isfinite(array).all() and array.std() > 0 for array in state.values())
