"""What a training run says while it runs: a progress bar, JSON lines, and a stop before it diverges.

    watch = Watch(log, bar, plan, step=0)
    watch.step(state, step, metrics, batch)      # after every step; speaks at some
    watch.epoch(state, step, metrics)            # at an epoch's end: judges the averaged weights

Only programs import this module.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple, TextIO

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import Progress

from rsynth_jax.attacks import evaluation
from rsynth_jax.cli import run as console
from rsynth_jax.data import loader as datasets

LOG_EVERY = 20  # steps
NOW = (
    "loss {loss:.3f}  clean {clean_accuracy:.1%}  adversarial {adversarial_accuracy:.1%}  "
    "{game}{images_per_second:.0f} images/s"
)
GAME = "T {num_steps:.0f}  AUC {auc:.2f}  energy {real_energy:.1f} / {fake_energy:.1f}  "
JUDGED = "epoch {epoch}/{epochs}: clean {test_clean:.1%}, PGD {test_adversarial:.1%}"


class Plan(NamedTuple):
    """What is watched.

    Attributes:
      epochs, epoch: how many, and steps in one.
      batch_size: images a step.
      rate: the learning rate of a step.
      test: images to judge on.
      judge: (variables, key, images, labels) -> Right.
      look: (variables, images) -> logits.
    """

    epochs: int
    epoch: int
    batch_size: int
    rate: optax.Schedule
    test: datasets.Arrays
    judge: Callable
    look: Callable


def sound(loss: float, weights: Any, step: int) -> None:
    """Raise ValueError for a loss or weights that are not finite, before anything is made of them."""
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((loss, weights))):
        raise ValueError(f"loss {loss} or a weight is not finite at step {step}: lower --learning-rate")


class Watch:
    """The log and the progress bar of a run."""

    def __init__(self, log: TextIO, bar: Progress, plan: Plan, step: int):
        self.log, self.bar, self.plan, self.clock = log, bar, plan, console.Clock()
        self.task = bar.add_task("training", total=plan.epochs * plan.epoch, completed=step, now="")

    def step(self, state, step: int, metrics: NamedTuple, batch: datasets.Arrays) -> None:
        """Every `LOG_EVERY` steps: one line of the log, one look at the bar."""
        if step % LOG_EVERY:
            return
        clean = evaluation.correct(self.plan.look(state.variables, batch[0]), batch[1])
        seconds = self.clock.lap()
        record = {"step": step, "epoch": step / self.plan.epoch, "clean_accuracy": float(jnp.mean(clean))}
        record |= {name: float(value) for name, value in metrics._asdict().items()}
        record |= {"learning_rate": float(self.plan.rate(step))}
        record |= {"images_per_second": LOG_EVERY * self.plan.batch_size / seconds}
        sound(record["loss"], (), step)
        print(json.dumps(record), file=self.log)
        game = GAME.format(**record) if "auc" in record else ""
        self.bar.update(self.task, completed=step, now=NOW.format(game=game, **record))

    def epoch(self, state, step: int, metrics: NamedTuple) -> None:
        """At an epoch's end: judge the averaged weights on the test images."""
        sound(float(metrics.loss), state.ema, step)
        clock, (images, labels) = console.Clock(), self.plan.test
        right = self.plan.judge(state.ema, jax.random.key(0), images, labels)
        record = {"step": step, "epoch": step // self.plan.epoch, "test_num": len(labels)}
        record |= {
            "test_clean": float(right.clean.mean()),
            "test_adversarial": float(right.adversarial.mean()),
        }
        print(json.dumps(record), file=self.log)
        self.bar.console.print(JUDGED.format(epochs=self.plan.epochs, **record))
        self.clock.pause(clock.lap())
