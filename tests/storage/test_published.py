"""Published files become classifiers whatever their wrapping; what is hostile in them does not happen."""

import collections
import copy
import io
import json
import os
import random
import tracemalloc
import zipfile

import hypothesis
import jax
import numpy as np
import pytest
from flax import traverse_util
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pytorch_files import Runs, Storage, Window, dill_lambda, legacy, pickled, stand_ins, state_of, zipped
from tiny import refused

import rsynth_jax as rs
from rsynth_jax import models
from rsynth_jax.models import published as forms
from rsynth_jax.storage import files, published

KEYS = {"0.weight": (16, 3, 4, 4), "0.bias": (16,), "2.weight": (32, 16, 4, 4), "2.bias": (32,)}
KEYS |= {"5.weight": (100, 2048), "5.bias": (100,), "7.weight": (10, 100), "7.bias": (10,)}  # of CNN-A
RNG = np.random.default_rng(0)
CNN_A = {key: RNG.normal(0, 0.1, shape).astype(np.float32) for key, shape in KEYS.items()}


@pytest.fixture(autouse=True)
def torch():
    """Modules of the names in PyTorch's files."""
    with stand_ins():
        yield


@pytest.fixture(scope="module")
def eight():
    """(variables, state dict) of a resnet8 of 5 classes, whose names are torchvision's."""
    config = models.Config("resnet8", 5)
    shapes = forms.expected("resnet8", 5, 3)
    variables = jax.tree.map(lambda leaf: RNG.random(leaf.shape, np.float32), shapes)
    return variables, published.exported(config, variables).arrays


def written(folder, value, storages, form=zipped, name="w.pt"):
    (folder / name).write_bytes(form(value, storages))
    return folder / name


def same(found, variables) -> None:
    jax.tree.map(assert_array_equal, found.variables, variables)


# ---- the names


@pytest.fixture
def few(monkeypatch):
    """Only some architectures are known: the shapes of all take seconds."""
    names = ("resnet8", "resnet8-64", "resnet18", "cnn-a")
    monkeypatch.setattr(published, "PUBLISHED", {name: forms.PUBLISHED[name] for name in names})


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_every_array_of_an_architecture_has_one_name_in_each_code_base(name):
    variables = forms.expected(name, 7, forms.PUBLISHED[name].shape[2])
    paths = set(traverse_util.flatten_dict(variables))
    for names in forms.PUBLISHED[name].names:
        keys = forms.keys(variables, names)
        assert set(keys.values()) == paths and len(keys) == len(paths)


@pytest.mark.parametrize("name", ["resnet18", "resnet50-imagenet", "convnext-tiny", "preact-resnet18-bare"])
def test_an_architecture_is_found_by_its_names_and_shapes(name):
    variables = forms.expected(name, 7, 3)
    flat = traverse_util.flatten_dict(variables)
    for names in forms.PUBLISHED[name].names:
        keys = forms.keys(variables, names)
        shapes = {k: published.pytorch.published_shape(flat[path].shape) for k, path in keys.items()}
        arrays = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
        assert published._match(None, arrays, None)[0] == name


def test_two_architectures_that_fit_are_both_named():
    variables = forms.expected("preact-resnet18-gowal", 10, 3)
    flat = traverse_util.flatten_dict(variables)
    keys = forms.keys(variables, forms.PUBLISHED["preact-resnet18-gowal"].names[0])
    shapes = {key: published.pytorch.published_shape(flat[path].shape) for key, path in keys.items()}
    arrays = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
    both = "fits preact-resnet18-gowal and preact-resnet18-gowal-silu: give --architecture"
    with refused(match=both):
        published._match("w.pt", arrays, None)
    assert published._match("w.pt", arrays, "preact-resnet18-gowal-silu")[0].endswith("silu")


# ---- wrappings


def robustness(state: dict) -> dict:
    """A checkpoint's names: the network, its normaliser, and the attacker's copy of both."""
    mean, std = np.full(3, 0.4, np.float32), np.full(3, 0.2, np.float32)
    both = {"normalizer.new_mean": mean[:, None, None], "normalizer.new_std": std[:, None, None]}
    own = both | {f"model.{key}": array for key, array in state.items()}
    copied = {"attacker.normalize.new_mean": mean, "attacker.normalize.new_std": std}
    copied |= {f"attacker.model.{key}": array for key, array in state.items()}
    return {f"module.{key}": array for key, array in (own | copied).items()}


@pytest.mark.parametrize("form", [zipped, legacy])
@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_a_checkpoint_of_robustness_gives_its_network_and_normalisation(
    tmp_path, monkeypatch, eight, form, key
):
    monkeypatch.chdir(tmp_path)
    variables, state = eight
    counters = {"bn1.num_batches_tracked": np.array([7])}
    tensors, storages = state_of(robustness(state | counters))
    extras = {"epoch": 3, "optimizer": {"state": {0: {"step": 1}}}, "schedule": dill_lambda()}
    found = published.read(written(tmp_path, {key: tensors, **extras}, storages, form))
    same(found, variables)
    assert found.config == models.Config("resnet8", 5, (np.float32(0.4),) * 3, (np.float32(0.2),) * 3)
    assert found.skipped[:3] == ("epoch", "optimizer", "schedule")
    assert set(found.skipped[3:]) == {
        f"attacker ({len(state) + 3} tensors)",
        "num_batches_tracked (1 tensors)",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "_orig_mod.", "1."])
def test_a_prefix_of_all_names_is_dropped(tmp_path, eight, prefix):
    variables, state = eight
    path = written(tmp_path, *state_of({f"{prefix}{key}": array for key, array in state.items()}))
    same(published.read(path), variables)


def test_a_normaliser_before_the_network_is_read(tmp_path, eight):
    variables, state = eight
    named = {f"model.{key}": array for key, array in state.items()}
    named |= {"normalize.mean": np.full((1, 3, 1, 1), 0.5), "normalize.std": np.full((1, 3, 1, 1), 0.25)}
    found = published.read(written(tmp_path, *state_of(named)))
    same(found, variables)
    assert (found.config.mean, found.config.std) == ((0.5,) * 3, (0.25,) * 3)


def test_a_folder_of_hugging_face_has_its_normalisation_side_and_class_names(tmp_path, eight):
    variables, state = eight
    files.write_tensors(tmp_path / "model.safetensors", state, {})
    own = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5], "input_size": [3, 48, 48]}
    config = {"architecture": "resnet", "pretrained_cfg": own, "label_names": list("abcde")}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = published.read(tmp_path)
    same(found, variables)
    assert found.config.mean == (0.1, 0.2, 0.3) and found.shape == (48, 48, 3)
    assert found.class_names == tuple("abcde")


def test_a_map_renames_and_skips(tmp_path, eight, few):
    variables, state = eight
    theirs = {key.replace("layer", "trunk.stage").replace("fc.", "top."): a for key, a in state.items()}
    path = written(tmp_path, *state_of(theirs | {"ema": np.zeros(2, np.float32)}))
    (tmp_path / "m.json").write_text(json.dumps({"trunk.stage1": "layer1", "top": "fc", "ema": None}))
    with pytest.raises(published.Mismatch):
        published.read(path, names_map=published.read_map(tmp_path / "m.json"))
    names = {f"trunk.stage{i}": f"layer{i}" for i in (1, 2, 3)} | {"top": "fc", "ema": None}
    same(published.read(path, names_map=names), variables)
    starred = {"trunk.stage*.*": "layer*.*", "top": "fc", "ema": None}
    same(published.read(path, names_map=starred), variables)
    with refused(match="has more"):
        published.read(path, names_map={"trunk.*": "a.*.*"})
    (tmp_path / "m.json").write_text("[1]")
    with refused(match="as a map of names"):
        published.read_map(tmp_path / "m.json")


def test_the_report_has_five_tensors_of_each_side_and_the_architectures_that_fit(tmp_path, eight, few):
    _, state = eight
    path = written(tmp_path, *state_of({f"enc.{key}.x": array for key, array in state.items()}))
    with pytest.raises(published.Mismatch, match="its shapes are those of resnet8: give a --map") as raised:
        published.read(path)
    lines = raised.value.report.splitlines()
    assert len(lines) == 15 and lines[1].startswith("  enc.") and "(" in lines[1]
    assert lines[0].startswith("tensors of the file") and lines[7].startswith("tensors of resnet8")
    assert "(" in lines[8] and lines[-1] == "architectures of these shapes: resnet8"
    assert len(str(raised.value).replace(str(path), "")) < 120


def test_in_and_out_again_are_the_same_bytes(tmp_path):
    path = written(tmp_path, *state_of(CNN_A))
    release = rs.import_classifier(path, class_names=tuple("abcdefghij"), epsilon=2 / 255)
    rs.export_classifier(release, tmp_path / "e.safetensors")
    exported = files.read_tensors(tmp_path / "e.safetensors")
    assert exported.arrays.keys() == CNN_A.keys() and exported.metadata["architecture"] == "cnn-a"
    for key, array in CNN_A.items():
        assert_array_equal(exported.arrays[key], array)
    assert release.class_names[1] == "b" and release.image_shape == (32, 32, 3)
    images = RNG.integers(0, 256, (2, 32, 32, 3), np.uint8)
    assert rs.evaluate(release, images, np.array([0, 1])).clean.shape == (2,)


# ---- hostile files


def overlapped(value, storages) -> bytes:
    """An archive whose directory names the same bytes a hundred times."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(value, 2))
        for storage in storages:
            archive.writestr(f"archive/data/{storage.key}", storage.array.tobytes())
        largest = max(archive.filelist, key=lambda entry: entry.file_size)
        for i in range(100):
            entry = copy.copy(largest)
            entry.filename = f"archive/data/x{i}"
            archive.filelist.append(entry)
    return file.getvalue()


def hostile_files() -> dict[str, bytes]:
    """Files by what is wrong with them."""
    state, storages = state_of(CNN_A)
    base = storages[0]

    def with_first(value) -> bytes:
        return zipped({**state, "0.weight": value}, storages)

    short = [Storage(each.key, each.kind, each.array[:-1]) for each in storages]
    claimed = zipped(state, short).replace(b"unused", b"")
    traversal = [Storage("../../../../evil", "FloatStorage", np.zeros(3))]
    return {
        "a call in place of a tensor": with_first(Runs(os.system, "touch ran")),
        "a call beside the tensors": zipped(
            {"model": state, "extra": Runs(os.system, "touch ran")}, storages
        ),
        "eval": zipped({"model": state, "x": Runs(eval, "open('ran', 'w')")}, storages),
        "a lambda of dill in place of a tensor": with_first(dill_lambda()),
        "a lambda of dill alone": zipped(dill_lambda(), []),
        "a nested call": with_first([[(Runs(os.system, "touch ran"),)]]),
        "a compressed archive": zipped(state, storages, compression=zipfile.ZIP_DEFLATED),
        "overlapping entries": overlapped(state, storages),
        "a path out of the archive": zipped({"a": Window(traversal[0], 0, (3,), (1,))}, traversal),
        "strides beyond the storage": with_first(Window(base, 0, (16, 3, 4, 4), (9999, 16, 4, 1))),
        "negative strides": with_first(Window(base, 0, (16, 3, 4, 4), (-48, 16, 4, 1))),
        "a shape beyond the storage": with_first(Window(base, 0, (2**40,), (0,))),
        "truncated storages": claimed,
        "NaN": zipped(*state_of(CNN_A | {"0.bias": np.full(16, np.nan)})),
        "an empty file": b"",
        "text": b"hello\n",
        "half a file": zipped(state, storages)[:5000],
    }


with stand_ins():
    HOSTILE = hostile_files()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_and_does_nothing(tmp_path, monkeypatch, few, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").write_bytes(HOSTILE[name])
    with refused():
        published.read(tmp_path / "w.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


def test_tensors_that_share_the_numbers_of_a_small_file_take_no_memory(tmp_path, few):
    base = Storage("0", "FloatStorage", np.zeros(1 << 20, np.float32))
    names = [f"layer1.{i}.conv1.weight" for i in range(300)]
    state = {name: Window(base, 0, (1024, 1024), (1, 1024)) for name in names}
    path = written(tmp_path, state, [base])
    published.fitting({})  # what is kept between calls
    tracemalloc.start()
    with refused():
        published.read(path)
    assert tracemalloc.get_traced_memory()[1] < 5 * path.stat().st_size
    tracemalloc.stop()
    shared, storages = state_of(CNN_A)
    largest = next(each for each in storages if each.array.size == 204_800)
    for name in KEYS:
        size = int(np.prod(KEYS[name]))
        shared[name] = Window(
            largest, 0, KEYS[name], state_of({name: np.zeros(KEYS[name])})[0][name].arguments[3]
        )
        assert size <= largest.array.size
    with refused(match="claim more bytes"):
        published.read(written(tmp_path, shared, [largest]))


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Bytes replaced, removed, doubled or cut, most of them in the kilobytes that describe the rest."""
    at = rng.randrange(min(len(content), rng.choice((200, 1500, len(content)))))
    end = at + rng.choice((1, 1, 2, 8, 64))
    other = bytes(rng.randrange(256) for _ in content[at:end])
    choices = [content[:at] + other + content[end:], content[:at] + content[end:], content[:at]]
    choices += [content[:end] + content[at:], content[:at] + bytes(len(other)) + content[end:]]
    return rng.choice(choices)


@pytest.mark.slow
@hypothesis.settings(max_examples=300, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(seed=st.integers(0, 2**32), form=st.sampled_from(["whole", "pickle", "legacy", "tensors"]))
def test_a_mutated_file_is_read_or_refused_in_one_line(tmp_path, monkeypatch, seed, form):
    monkeypatch.chdir(tmp_path)
    rng = random.Random(seed)
    state, storages = state_of(CNN_A)
    value = collections.OrderedDict(model=state, epoch=3, extra=dill_lambda())
    if form == "pickle":
        content = zipped(None, storages, pickled_value=mutated(pickled(value, rng.choice((2, 4))), rng))
    elif form == "tensors":
        content = mutated(files_bytes(tmp_path), rng)
    else:
        content = mutated((legacy if form == "legacy" else zipped)(value, storages), rng)
    path = tmp_path / ("w.safetensors" if form == "tensors" else "w.pt")
    path.write_bytes(content)
    try:
        found = published.read(path)
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
    else:
        assert found.config.architecture == "cnn-a"
    assert [left.name for left in tmp_path.iterdir()] == [path.name]
    path.unlink()


def files_bytes(folder) -> bytes:
    files.write_tensors(folder / "t.safetensors", CNN_A, {})
    content = (folder / "t.safetensors").read_bytes()
    (folder / "t.safetensors").unlink()
    return content
