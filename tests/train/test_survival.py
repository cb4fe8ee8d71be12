"""A trainer that is killed at any moment, also while it saves, and resumed, ends as one that ran through.

A process that has imported everything, and computed nothing, forks one trainer after another.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

ROOT = Path(__file__).parents[2]
KILLS = """
import hashlib, json, os, random, signal, sys, time, types
from pathlib import Path
import flax.linen as nn, jax, numpy as np, optax, orbax.checkpoint
from rsynth_jax import models
from rsynth_jax.cli import plots, epoch_run, training_run
from rsynth_jax.types import Outputs
from train import train

class Small(nn.Module):
    @nn.compact
    def __call__(self, images):
        norm = nn.BatchNorm(use_running_average=not self.is_mutable_collection("batch_stats"))
        features = norm(images.reshape(len(images), -1))
        return Outputs(nn.Dense(2, kernel_init=nn.initializers.zeros)(features), features)

models.ARCHITECTURES["small"] = lambda **config: Small()

def finish(out, state, *rest):
    leaves = b"".join(bytes(memoryview(jax.device_get(leaf)).cast("B")) for leaf in jax.tree.leaves(state))
    (out / "digest").write_text(hashlib.sha256(leaves).hexdigest())
    return real(out, state, *rest)

real, training_run.finish = training_run.finish, finish
epoch_run.LOG_EVERY = 1
found = types.SimpleNamespace(clean=np.ones(4), robust=np.zeros(4))
epoch_run.evaluation.evaluate = lambda *_, **__: found  # is half of what is compiled
plots.write_curves = lambda path, log: path.touch()
out, flags = Path(sys.argv[1]), sys.argv[2].split()
num_kills, rng = int(sys.argv[3]), random.Random(int(sys.argv[4]))

def trainer(name, *more):
    child = os.fork()
    if child:
        return child
    sys.argv = ["train", "--out", str(out / name), *flags, *more]
    os.dup2(os.open(out / "errors", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.dup2(2, 1)
    try:
        train.main()
    except SystemExit as stop:
        os._exit(stop.code or 0)
    os._exit(1)

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def more():
    return ["--resume"] * (out / "killed/run.json").exists()

def newest(name="killed"):
    steps = (path.name for path in (out / name).glob("checkpoints/*"))
    return max((int(step) for step in steps if step.isdigit()), default=0)

began = time.monotonic()
assert ended(trainer("straight")) == 0
seconds, saving = time.monotonic() - began, 0
for i in range(num_kills):
    gain = (i + 1) % 4  # steps; every fourth trainer is killed while it starts
    goal = min(newest() + gain, newest("straight"))
    child = trainer("killed", *more())
    while newest() < goal:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.2 if gain else seconds / 2))
    os.kill(child, signal.SIGKILL)
    ended(child)
    steps = [path for path in (out / "killed/checkpoints").glob("*")]
    saving += any(not (path / "SHA256SUMS").exists() for path in steps)
status = ended(trainer("killed", *more()))
print(json.dumps({"status": status, "seconds": seconds, "saving": saving}))
"""
FLAGS = "--architecture small --method natural --schedule step --batch-size 16 --judge 4 --save-every 0.001s"


def killed(out: Path, num_kills: int, epochs: int, seed: int) -> dict:
    """Kill a trainer so often; what the process says of it."""
    data = tiny.photos(out / "d.npz", ("cat", "dog"), train=32, test=4)
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(out / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = subprocess.run(
        [
            *(sys.executable, "-c", KILLS, str(out), f"{FLAGS} --epochs {epochs} --data {data}"),
            *(str(num_kills), str(seed)),
        ],
        cwd=ROOT,
        env=os.environ | cache | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests", "JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr + (out / "errors").read_text()
    return json.loads(done.stdout)


def check_same(out: Path, found: dict) -> None:
    """The killed run ended like the straight one, and left nothing else but one more of the last steps."""
    errors = (out / "errors").read_text()
    assert found["status"] == 0 and "Traceback" not in errors, errors
    straight, run = out / "straight", out / "killed"
    for name in ("digest", "classifier.safetensors"):
        assert (run / name).read_bytes() == (straight / name).read_bytes()
    assert {path.name for path in run.iterdir()} == {path.name for path in straight.iterdir()}
    steps = sorted((path.name for path in run.glob("checkpoints/*")), key=int)
    assert steps[-2:] == sorted((path.name for path in straight.glob("checkpoints/*")), key=int)
    assert len(steps) <= 3
    logs = ((place / "log.jsonl").read_text().splitlines() for place in (straight, run))
    one, other = ([{**json.loads(line), "images_per_second": 0} for line in log] for log in logs)
    assert one == other


@pytest.mark.slow
def test_a_trainer_killed_at_three_moments_ends_bit_for_bit_like_one_that_ran_through(tmp_path):
    check_same(tmp_path, killed(tmp_path, 3, epochs=4, seed=0))


@pytest.mark.slow
def test_a_trainer_killed_at_thirty_moments_ends_bit_for_bit_like_one_that_ran_through(tmp_path):
    found = killed(tmp_path, 30, epochs=50, seed=1)
    check_same(tmp_path, found)
    assert found["saving"] > 0
