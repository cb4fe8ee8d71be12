"""The programs that import and export classifiers: what they write, print and refuse; the published files."""

import json
from pathlib import Path

import numpy as np
import pytest
from pytorch_files import Runs, stand_ins, state_of, zipped

from rsynth_jax import models
from rsynth_jax.attacks import evaluation
from rsynth_jax.data import loader, sources
from rsynth_jax.models import published as forms
from rsynth_jax.models.pytorch import published_shape
from rsynth_jax.storage import digests, files, releases
from train import export_classifier, import_classifier

DATA = Path(__file__).parents[3] / "shared" / "data"
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture
def file(tmp_path) -> Path:
    """A checkpoint of CNN-A beside an epoch."""
    variables = forms.expected("cnn-a", 10, 3)
    rng = np.random.default_rng(0)
    keys = forms.keys(variables, forms.PUBLISHED["cnn-a"].names[0])
    flat = {key: variables[path[0]][path[1]][path[2]].shape for key, path in keys.items()}
    arrays = {key: rng.normal(0, 0.1, published_shape(shape)) for key, shape in flat.items()}
    state, storages = state_of(arrays)
    with stand_ins():
        (tmp_path / "w.pt").write_bytes(zipped({"model": state, "epoch": 7}, storages))
    return tmp_path / "w.pt"


def run(program, monkeypatch, *arguments) -> None:
    monkeypatch.setattr("sys.argv", ["program", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        program.main()
    assert not stopped.value.code


def test_a_file_becomes_a_classifier_and_a_card_and_goes_out_again(tmp_path, monkeypatch, capsys, file):
    out = tmp_path / "c.safetensors"
    words = (
        "--norm",
        "linf",
        "--epsilon",
        "2/255",
        "--classes",
        "cifar10",
        "--mean",
        "0.5",
        "--licence",
        "BSD",
    )
    run(import_classifier, monkeypatch, file, "--out", out, *words, "--json", tmp_path / "n.json")
    printed = capsys.readouterr().out
    assert "skipped: epoch" in printed and printed.count("\n") == 11
    release = releases.load(out)
    assert release.config == models.Config("cnn-a", 10, (0.5,), (0.225,))
    assert (release.threat.norm.name, release.threat.epsilon) == ("linf", pytest.approx(2 / 255))
    assert release.class_names == tuple(CIFAR10) and releases.origin(release).licence == "BSD"
    card = (tmp_path / "c.md").read_text()
    for text in (digests.of_file(file), "linf, epsilon 0.00784314", "BSD", "not given", "32 x 32", "epoch"):
        assert text in card
    assert json.loads((tmp_path / "n.json").read_text())["SHA-256"] == digests.of_file(file)
    run(export_classifier, monkeypatch, out, "--format", "torch", "--out", tmp_path / "e.safetensors")
    assert "input: (x - (0.5)) / (0.225)" in capsys.readouterr().out
    again = files.read_tensors(tmp_path / "e.safetensors")
    run(import_classifier, monkeypatch, tmp_path / "e.safetensors", "--out", tmp_path / "again.safetensors")
    second = releases.load(tmp_path / "again.safetensors")
    assert len(again.arrays) == 8 and second.variables["params"].keys() == release.variables["params"].keys()


@pytest.mark.slow
def test_a_file_that_fits_nothing_prints_its_tensors_before_the_line(tmp_path, monkeypatch, capsys):
    np.savez(tmp_path / "w.npz", **{f"layer{i}": np.zeros((3, i + 1)) for i in range(9)})
    monkeypatch.setattr(
        "sys.argv", ["program", str(tmp_path / "w.npz"), "--out", str(tmp_path / "c.safetensors")]
    )
    with pytest.raises(SystemExit) as stopped:
        import_classifier.main()
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert stopped.value.code == 2 and printed.out == ""
    assert lines[0] == "tensors of the file:" and lines[1] == "  layer0 (3, 1)" and lines[6] == "  and 4 more"
    assert lines[-1].startswith("rsynth-import: ") and len(lines[-1]) <= 200
    assert [path.name for path in tmp_path.iterdir()] == ["w.npz"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--out", "c.png"), "end its name in .safetensors"),
        (("--classes", "a", "b"), "10 classes: give as many names, not 2"),
        (("--architecture", "resnet9"), "resnet9"),
        (("--std", "0"), "std 0"),
        (("--mean", "1", "2"), "mean has 2 values"),
        (("--norm", "l7"), "l7"),
        (("--epsilon", "-1"), "epsilon"),
        (("--map", "nothing.json"), "nothing.json"),
        (("--map", "/dev/zero"), "no such file"),
        (("--image-size", "64"), "weights are not those of a cnn-a"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path, monkeypatch, mistake, file, words, reason):
    monkeypatch.chdir(tmp_path)
    out = () if "--out" in words else ("--out", "c.safetensors")
    assert reason in mistake(import_classifier.main, str(file), *out, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


def test_a_file_that_asks_for_code_is_refused(tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    with stand_ins():
        content = zipped({"model": {}, "extra": Runs(__import__("os").system, "touch ran")}, [])
    Path("w.pt").write_bytes(content)
    assert "asks for 'posix system'" in mistake(import_classifier.main, "w.pt", "--out", "c.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


def test_an_unknown_format_is_refused(tmp_path, mistake):
    out = str(tmp_path / "e.safetensors")
    assert "torch" in mistake(export_classifier.main, "cifar10", "--format", "onnx", "--out", out)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("cifar_cnn_a_adv.model", "cnn-a"),
        ("mnist_lenet5_advtrained.pt", "lenet5"),
        ("mnist_lenet5_clntrained.pt", "lenet5"),
    ],
)
def test_published_files_are_imported(tmp_path, monkeypatch, name, architecture):
    if not (DATA / "weights" / name).exists():
        pytest.skip(f"{DATA / 'weights' / name} is not there")
    run(import_classifier, monkeypatch, DATA / "weights" / name, "--out", tmp_path / "c.safetensors")
    release = releases.load(tmp_path / "c.safetensors")
    assert release.config.architecture == architecture
    if architecture != "cnn-a":
        return
    if not (DATA / "tfds" / "cifar10").exists():
        pytest.skip(f"{DATA / 'tfds' / 'cifar10'} is not there")
    data = loader.in_memory(sources.load("tfds:cifar10", "test", str(DATA / "tfds"), None).first(500))
    logits = evaluation.predict_logits(release.model, release.variables, data.images)
    assert evaluation.correct(logits, data.labels).mean() == 0.66  # PyTorch's figure on these images too
