"""The folder of a run: one trainer at a time, no weights that diverged, and a full disk."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest
import tiny
from tiny import refused

from rsynth_jax.cli import training_run
from rsynth_jax.storage import files, locks, train_states
from rsynth_jax.training.recipes import Recipe, replace
from train import train

ROOT = Path(__file__).parents[2]


class State(NamedTuple):
    step: int
    weights: np.ndarray


def begun(out: Path):
    return training_run.begun(train.Options(out=out), State(0, np.zeros(3)))


HOLD = """
import sys, time
from pathlib import Path
from rsynth_jax.cli import training_run
from train import train
with training_run.begun(train.Options(out=Path(sys.argv[1])), None):
    print("begun", flush=True)
    time.sleep(60)
"""


def test_a_second_trainer_is_refused_until_the_first_is_killed(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout and holder.stdout.readline() == "begun\n"
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        said = f"another trainer is at work in {tmp_path / 'run'}: wait for it, or give another --out"
        with refused(match=said):
            training_run.check(train.Options(out=tmp_path / "run"), "classifier.safetensors")
        with refused(match=said), begun(tmp_path / "run"):
            pass
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    finally:
        holder.kill()
        holder.communicate()
    with begun(tmp_path / "run") as state:
        assert state.step == 0
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_a_lock_that_a_run_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    import fcntl

    flock, calls = fcntl.flock, []

    def removed(number, how):
        flock(number, how)
        calls.append(number)
        if len(calls) == 1:
            (tmp_path / locks.LOCK).unlink()

    monkeypatch.setattr(fcntl, "flock", removed)
    with begun(tmp_path):
        assert len(calls) == 2
        with refused(match="another trainer"):
            training_run.check(train.Options(out=tmp_path), "x")


def test_where_files_cannot_be_locked_the_run_goes_on(tmp_path, monkeypatch):
    import fcntl

    def unsupported(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with begun(tmp_path), begun(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


# ---- weights that diverge, full disks


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trains a tiny network for three epochs of two steps."""
    data = tiny.photos(tmp_path_factory.mktemp("data") / "d.npz", ("cat", "dog"), train=32, test=4)
    settings = {"architecture": "tiny", "method": "natural", "epochs": 3, "batch_size": 16, "num_steps": 1}
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def trained(out: Path, **more) -> int:
        settings_of = replace(Recipe(), **settings)
        return train.train(train.Options(data=data, judge=4, out=out, settings=settings_of, **more))

    with tiny.network():
        yield trained
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def at(monkeypatch):
    """Calls a function after step `step`."""
    from rsynth_jax.training import run as runs

    def patch(step, function):
        fit = runs.fit

        def fitted(trainer, *arguments, **more):
            def called(state, *batch):
                state, metrics = trainer.step(state, *batch)
                if int(state.step) == step:
                    function()
                return state, metrics

            return fit(trainer._replace(step=called), *arguments, **more)

        monkeypatch.setattr(runs, "fit", fitted)

    return patch


@pytest.fixture
def diverge(monkeypatch):
    """Makes a weight NaN in step `step`."""
    from rsynth_jax.training import run as runs

    def patch(step):
        prepare = runs.prepare

        def prepared(*arguments):
            made = prepare(*arguments)

            def diverged(state, *batch):
                state, metrics = made.trainer.step(state, *batch)
                params = state.variables["params"]
                bias = jnp.where(state.step == step, jnp.nan, params["Dense_0"]["bias"])
                params = params | {"Dense_0": params["Dense_0"] | {"bias": bias}}
                return state._replace(variables=state.variables | {"params": params}), metrics

            return made._replace(trainer=made.trainer._replace(step=diverged))

        monkeypatch.setattr(runs, "prepare", prepared)

    return patch


def checkpoints(out: Path) -> set[str]:
    return {path.name for path in (out / train_states.FOLDER).glob("*")}


@pytest.mark.parametrize("interrupted", [pytest.param(False, marks=pytest.mark.slow), True])
def test_weights_that_diverge_end_the_run_at_their_step_and_are_not_saved(
    tmp_path, run, at, diverge, interrupted
):
    diverge(3)  # which is neither logged nor the end of an epoch
    if interrupted:
        at(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    with refused(match="^the loss or a weight is not finite at step 3: lower --learning-rate$"):
        run(tmp_path / "run")
    assert checkpoints(tmp_path / "run") == {"2"}


def test_a_step_that_diverges_is_dropped_and_counted_by_on_nan_skip(tmp_path, capsys, run, diverge):
    diverge(3)
    keeping = training_run.KeepFlags(on_nan="skip", save_every="0.001s")
    assert run(tmp_path / "run", keeping=keeping) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / training_run.LOG).read_text().splitlines()]
    assert [line["step"] for line in lines if line.get("skipped")] == [3]
    assert capsys.readouterr().out.endswith("tiny after 3 epochs, 1 of its steps skipped\n")
    assert checkpoints(tmp_path / "run") == {"5", "6"}  # one after each step, by the time


@pytest.mark.parametrize("time", ["", "m", "10", "10 d", "-1s", "0s", "nanm", "infh", "1e30h", "m10"])
def test_a_time_that_makes_no_sense_is_refused(tmp_path, time):
    options = train.Options(out=tmp_path / "run", keeping=training_run.KeepFlags(save_every=time))
    with refused(match="save_every is .*: give a time above 0, such as 90s, 10m or 2h"):
        training_run.check(options, "x")
    assert training_run.KeepFlags(save_every="1.5h").seconds == 5400


@pytest.mark.slow
@pytest.mark.parametrize("what", ["classifier.safetensors", "checkpoints/4"])
def test_a_full_disk_ends_the_run_with_one_line_and_the_last_checkpoint(tmp_path, monkeypatch, run, at, what):
    replace_file = files._replace

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    def fill():
        if what == "checkpoints/4":
            monkeypatch.setattr(orbax.checkpoint.CheckpointManager, "save", full)
        else:
            other = lambda file, *more: full() if file.name == what else replace_file(file, *more)  # noqa: E731
            monkeypatch.setattr(files, "_replace", other)

    at(3, fill)
    with refused(match=f"^cannot write .*{what}.*: .*No space left on device"):
        run(tmp_path / "run")
    assert checkpoints(tmp_path / "run") == {"2"}
    assert not (tmp_path / "run" / locks.LOCK).exists()


def test_a_log_on_a_full_disk_is_refused():
    with (
        open("/dev/full", "ab", buffering=0) as log,
        refused(match="cannot write /dev/full: .*No space left"),
    ):
        training_run.append(log, {"step": 1})


FULL = """
import resource, sys
sys.path[:0] = [{tests!r}]
import tiny
from rsynth_jax.storage import train_states
from train import train
class Full(train_states.Saver):
    def __call__(self, state):
        if int(state.step) == 4:
            self._wait()  # for step 2
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
        super().__call__(state)
train_states.Saver = Full
with tiny.network():
    train.main()
"""


@pytest.mark.slow
def test_the_threads_that_write_a_checkpoint_print_nothing_of_a_full_disk(tmp_path):
    data = tiny.photos(tmp_path / "d.npz", ("cat", "dog"), train=32, test=4)
    flags = ["--method", "natural", "--epochs", "3", "--batch-size", "16", "--judge", "4"]
    flags += ["--architecture", "tiny", "--data", data, "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", FULL.format(tests=str(ROOT / "tests")), *flags],
        cwd=ROOT,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr and "ERROR" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("rsynth-train: "))
    assert line.startswith(f"rsynth-train: cannot write {tmp_path / 'run/checkpoints/4'}: File too large")
    assert "2" in checkpoints(tmp_path / "run") and "4" not in checkpoints(tmp_path / "run")
