"""The log of a training run: JSON lines, a progress bar, and a stop before weights diverge.

with train_log(path, run, test, step=0, save=save) as log:
    state = fit(run.trainer, state, batches, key=key, devices=run.devices, callback=log)
"""

import contextlib
import functools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np
from rich.progress import Progress

from rsynth_jax import models
from rsynth_jax.attacks import autoattack, evaluation
from rsynth_jax.attacks.autoattack import Attack
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.cli import training_run
from rsynth_jax.cli.run import Clock, progress_bar
from rsynth_jax.data.loader import Arrays
from rsynth_jax.storage import files
from rsynth_jax.training import build
from rsynth_jax.training.classifier import accuracy
from rsynth_jax.training.run import Run
from rsynth_jax.training.state import ClassifierState

Save = Callable[[Any], None]  # called with the state
LOG_EVERY = 20  # steps
PGD_STEPS = 10  # of the attack on the test images
REMEDY = "lower --learning-rate"  # of weights that diverge
_NOW = (
    "loss {loss:.3f}  clean {clean_accuracy:.1%}  adversarial {adversarial_accuracy:.1%}  "
    "{dual}{images_per_second:.0f} images/s"
)
_DUAL = "T {num_steps:.0f}  AUC {auc:.2f}  energy {real_energy:.1f} / {fake_energy:.1f}  "
_EPOCH = "epoch {epoch}/{epochs}: clean {test_clean:.1%}, PGD {test_adversarial:.1%}"


class TrainLog:
    """The JSON lines and the progress bar of a training run."""

    def __init__(self, file: IO[bytes], bar: Progress, run: Run, test: Arrays, step: int, save: Save):
        self._file = file
        self._bar = bar
        self._run = run
        self._model = models.create(run.config)
        self._test = test
        self._save = save
        self._rate: Callable[[int], Any] = build.schedule(run.recipe, run.steps_per_epoch)
        self._clock = Clock()
        total = run.num_epochs * run.steps_per_epoch
        self._task = bar.add_task("training", total=total, completed=step, now="")

    def __call__(self, state: ClassifierState, step: int, metrics: Any, batch: tuple[Any, Any]) -> None:
        """Log a step, and at the end of an epoch evaluate and save: the callback of `fit`."""
        self.step(state, step, metrics, batch)
        if step % self._run.steps_per_epoch == 0:
            self.epoch(state, step, metrics)
            self._save(state)

    def step(self, state: ClassifierState, step: int, metrics: Any, batch: tuple[Any, Any]) -> None:
        """Log every `LOG_EVERY`-th step. Raises ValueError for a loss that is not finite."""
        if step % LOG_EVERY:
            return
        images, labels = batch
        logits = evaluation.logits_program(self._model)(state.variables, images)
        values = {name: float(value) for name, value in metrics._asdict().items()}
        training_run.check_finite(step, values["loss"], REMEDY)
        record = {
            "step": step,
            "epoch": step / self._run.steps_per_epoch,
            "clean_accuracy": float(accuracy(logits, labels)),
            **values,
            "learning_rate": float(self._rate(step)),
            "images_per_second": LOG_EVERY * self._run.recipe.batch_size / self._clock.lap(),
        }
        self._write(record)
        dual = _DUAL.format(**record) if "auc" in record else ""
        self._bar.update(self._task, completed=step, now=_NOW.format(dual=dual, **record))

    def epoch(self, state: ClassifierState, step: int, metrics: Any) -> None:
        """Log the averaged weights' accuracies on test images. Raises ValueError if they are not finite."""
        training_run.check_finite(step, (metrics.loss, self._run.trainer.weights(state)), REMEDY)
        clock = Clock()
        threat = build.threat(self._run.recipe)
        weights = self._run.devices.gather(state.ema)
        where = (self._model, weights, self._test.images, self._test.labels)
        found = evaluation.evaluate(*where, threat, [_pgd(threat)], key=jax.random.key(0))
        record = {
            "step": step,
            "epoch": step // self._run.steps_per_epoch,
            "test_num": len(found.clean),
            "test_clean": float(found.clean.mean()),
            "test_adversarial": float(found.robust.mean()),
        }
        self._write(record)
        self._bar.console.print(_EPOCH.format(epochs=self._run.num_epochs, **record))
        self._clock.pause(clock.lap())

    def _write(self, record: dict[str, Any]) -> None:
        values = {name: value if np.isfinite(value) else None for name, value in record.items()}
        training_run.append(self._file, values)  # null: the AUC before the first fakes are finished


@contextlib.contextmanager
def train_log(path: Path, run: Run, test: Arrays, step: int, save: Save) -> Iterator[TrainLog]:
    """Append to the log of a run that has done `step` steps, without what it has past them; show progress.

    Args:
      save: called with the state at the end of each epoch.
    """
    with continued(path, step) as file, progress_bar("{task.fields[now]}") as bar:
        yield TrainLog(file, bar, run, test, step, save)


@contextlib.contextmanager
def continued(path: Path, step: int) -> Iterator[IO[bytes]]:
    """Open JSON lines to append to, unbuffered, without those past `step` and the last one if it was cut."""
    content = path.read_bytes() if path.exists() else b""
    kept = b"".join(line + b"\n" for line in content.splitlines() if _step_of(line) <= step)
    if kept != content:
        files.write(path, kept)
    with open(path, "ab", buffering=0) as file:
        yield file


def _step_of(line: bytes) -> float:
    """The step of a line; infinity for one that was cut."""
    try:
        return json.loads(line)["step"]
    except (ValueError, TypeError, KeyError):
        return math.inf


@functools.cache
def _pgd(threat: Threat) -> Attack:
    """The attack on the test images; one object, so that it is compiled once."""
    return autoattack.pgd(threat, Steps(2.5 * threat.epsilon / PGD_STEPS, PGD_STEPS))
