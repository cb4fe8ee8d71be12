"""Processes that train together end where one process does: real ones, with Gloo, on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose
from tiny import refused

from rsynth_jax.cli.hosts import HostFlags
from rsynth_jax.storage import files, releases, shards
from train import train

ROOT = Path(__file__).parents[2]
CODE = """
import importlib, sys
sys.path.insert(0, "tests")
import tiny
from rsynth_jax.cli import step_run, epoch_run
epoch_run.LOG_EVERY = epoch_run.PGD_STEPS = step_run.LOG_EVERY = 1
with tiny.network():
    importlib.import_module(sys.argv.pop(1)).main()
"""
CLASSIFIER = (
    *(
        "train.train",
        "--recipe",
        "cifar10",
        "--architecture",
        "tiny",
        "--num-steps",
        "1",
        "--batch-size",
        "16",
    ),
    *("--schedule", "one-cycle", "--learning-rate", "0.05", "--ema-decay", "0.5", "--epochs"),
)
GENERATOR = (
    *(
        "train.train_generator",
        "--recipe",
        "style",
        "--widths",
        "8",
        "8",
        "--latent-size",
        "8",
        "--critic-width",
    ),
    *("8", "--batch-size", "16", "--sample-every", "2", "--num-steps"),
)


TRANSLATOR = (
    *("train.train_translator", "--image-size", "8", "--side", "8", "--widths", "4", "--blocks", "1"),
    *("--style-size", "2", "--mlp-width", "4", "--scales", "1", "--critic-width", "4", "--batch-size", "4"),
    *("--classifier", "None", "--sample-every", "2", "--num-steps", "2"),
)
SEGMENTER = (
    *(
        "train.train_segmenter",
        "--width",
        "2",
        "--batch-size",
        "4",
        "--sample-every",
        "3",
        "--num-steps",
        "3",
    ),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("data") / "images.npz"
    labels = np.arange(32) % 3
    np.savez(
        path,
        train_images=tiny.noise(32),
        train_labels=labels,
        test_images=tiny.noise(6),
        test_labels=labels[:6],
        class_names=tiny.NAMES,
    )
    return f"npz:{path}"


def begin(arguments: Sequence[str], num: int, devices: int = 1) -> list[subprocess.Popen]:
    """Start so many processes of so many devices."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
    }
    command = [sys.executable, "-c", CODE, *arguments]
    joined = [["--coordinator", address, "--process", f"{i}/{num}"] if num > 1 else [] for i in range(num)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [subprocess.Popen([*command, *more], cwd=ROOT, env=environment, **pipes) for more in joined]


def end(processes: list[subprocess.Popen], status: int = 0) -> list[str]:
    """Wait for the processes; the standard output of each."""
    outputs = [process.communicate(timeout=300) for process in processes]
    for process, (_, error) in zip(processes, outputs, strict=True):
        assert process.returncode == status, error
        assert "Traceback" not in error
    return [output for output, _ in outputs]


def losses(out: Path) -> list[float]:
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


@pytest.mark.slow
@pytest.mark.parametrize(("num", "devices", "more"), [(2, 1, ()), (4, 1, ()), (2, 2, ("--shard-weights",))])
def test_processes_train_the_classifier_of_one(data, tmp_path, num, devices, more):
    alone, together = tmp_path / "alone", tmp_path / "together"
    arguments = (*CLASSIFIER, "2", "--data", data, "--out")
    end(begin((*arguments, str(alone)), 1))
    first, *others = end(begin((*arguments, str(together), *more), num, devices))
    assert first.endswith("classifier.safetensors: tiny after 2 epochs\n") and set(others) == {""}
    assert_allclose(losses(together), losses(alone), rtol=1e-4)
    with tiny.network():
        expected, found = (releases.load(out / releases.RELEASE) for out in (alone, together))
    for one, other in zip(*map(jax.tree.leaves, (expected.variables, found.variables)), strict=True):
        assert_allclose(other, one, rtol=1e-3, atol=1e-5)
    assert sorted(path.name for path in together.iterdir()) == sorted(path.name for path in alone.iterdir())
    assert (together / "checkpoints" / "4" / "SHA256SUMS").exists()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [TRANSLATOR, SEGMENTER], ids=lambda words: words[0])
def test_two_processes_train_the_translator_and_the_segmenter_of_one(tmp_path, arguments):
    pets = tiny.photos(tmp_path / "pets.npz", tiny.NAMES[1:], train=16, test=4)
    place = tiny.masked(tmp_path / "facades", 8, side=16)
    masked = ("--data", f"folder:{place}/images", "--masks", f"{place}/masks")
    masked += ("--test-data", f"folder:{place}/images", "--test-masks", f"{place}/masks")
    words = (*arguments, *(masked if arguments is SEGMENTER else ("--data", pets)))
    alone, together = tmp_path / "alone", tmp_path / "together"
    end(begin((*words, "--out", str(alone)), 1))
    _, other = end(begin((*words, "--shard-weights", "--out", str(together)), 2))
    assert other == "" and len(losses(alone)) > 1
    assert_allclose(losses(together), losses(alone), rtol=1e-3)
    assert sorted(path.name for path in together.iterdir()) == sorted(path.name for path in alone.iterdir())
    (one,), (two,) = (list(out.glob("*.safetensors")) for out in (alone, together))
    one, two = (np.concatenate(list(map(np.ravel, arrays_of(path)))) for path in (one, two))
    assert np.linalg.norm(two - one) < 0.02 * np.linalg.norm(one)  # Adam makes a step of a rounding error


def arrays_of(path: Path) -> list[np.ndarray]:
    arrays = files.read_tensors(path).arrays
    return [arrays[name].astype(np.float32) for name in sorted(arrays)]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(*CLASSIFIER, "12"), (*GENERATOR, "24")], ids=lambda words: words[0])
def test_processes_stop_together_at_a_signal_to_one_and_another_number_resumes(data, tmp_path, arguments):
    out, straight = tmp_path / "run", tmp_path / "straight"
    processes = begin((*arguments, "--data", data, "--out", str(out)), 2)
    while not (out / "checkpoints").exists() or not list((out / "checkpoints").glob("*/SHA256SUMS")):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGTERM)
    first, other = end(processes, 128 + signal.SIGTERM)
    assert first.splitlines()[-1].startswith("stopped after step") and other == ""
    end(begin((arguments[0], "--resume", "--out", str(out)), 1, devices=2))
    end(begin((*arguments, "--data", data, "--out", str(straight)), 1))
    assert_allclose(losses(out), losses(straight), rtol=2e-3)


@pytest.mark.slow
def test_processes_share_an_evaluation_and_shards(data, tmp_path):
    with tiny.network():
        tiny.release(tmp_path / "c.safetensors", tiny.NAMES, "linear")
    classifier = ("--classifier", str(tmp_path / "c.safetensors"))
    for num in (1, 2):
        out = tmp_path / str(num)
        json_file = ("--data", data, "--split", "train", "--attack", "square", "--json", f"{out}.json")
        end(begin(("train.evaluate", *classifier, *json_file, "--steps", "20"), num))
        sheet = ("--shards", str(out), "--out", f"{out}.png")
        sizes = ("--num", "5", "--steps", "3", "--shard-size", "4", "--batch-size", "4")
        first, *others = end(begin(("synth.generation", *classifier, *sizes, *sheet), num))
        assert "15 images in 4 shards" in first and set(others) <= {""}
    one, two = (json.loads((tmp_path / f"{num}.json").read_text()) for num in (1, 2))
    assert [row["accuracy"] for row in one["rows"]] == [row["accuracy"] for row in two["rows"]]
    one, two = (shards.read(tmp_path / str(num)).shards for num in (1, 2))
    assert one == two and [shard.first for shard in one] == [0, 4, 8, 12]


def test_flags_that_do_not_fit_are_refused():
    for flags, said in (
        ({"coordinator": "host:1"}, "go together"),
        ({"process": "0/2"}, "go together"),
        ({"coordinator": "host", "process": "0/2"}, "give HOST:PORT"),
        ({"coordinator": "host:1", "process": "2/2"}, "give I/N"),
        ({"coordinator": "host:1", "process": "0/2", "distributed": True}, "leave out"),
    ):
        with refused(match=said):
            HostFlags(**flags)  # pyright: ignore[reportArgumentType]


def test_without_other_processes_joining_is_refused_in_one_line(mistake, tmp_path):
    assert "cannot join" in mistake(train.main, "--distributed", "--out", str(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []
