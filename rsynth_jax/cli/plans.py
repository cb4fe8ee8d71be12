"""Choices that a training program makes by its data and its machine, before the first step.

options = started(options, images, labels)                          # --start nearest
options, run = within(options, run, state, dataset, 100, began)     # --max-minutes

What is chosen is printed, and recorded in place of what was asked, so that --resume measures nothing.
"""

import dataclasses
import functools
import time
from typing import Any

import jax
import numpy as np

from rsynth_jax import sharding
from rsynth_jax.cli import epoch_run, hosts
from rsynth_jax.cli.classifiers import NEAREST
from rsynth_jax.cli.run_log import guarded
from rsynth_jax.data import loader
from rsynth_jax.data.sources import Dataset
from rsynth_jax.storage import releases
from rsynth_jax.training import build, planning
from rsynth_jax.training.run import Run, lasting
from rsynth_jax.types import Bytes

_PROGRAMS = 3  # that are still to be compiled: the step of the planned length, the attack, the samples
_RESERVE = 0.97  # of the time that is left


def started(options: Any, images: Bytes, labels: np.ndarray) -> Any:
    """Return the options with the name and the network of a classifier in place of `--start nearest`."""
    if options.start != NEAREST:
        return options
    name, accuracy = planning.nearest(images, labels)
    _print(f"start: {name}, whose features separate {accuracy:.1%} of the images")
    settings = build.recipe_from_release(options.settings, releases.load(name))
    return dataclasses.replace(options, start=name, settings=settings)


def within(
    options: Any, run: Run, state: Any, dataset: Dataset, num_test: int, began: float
) -> tuple[Any, Run]:
    """Return the options and the run with as many epochs as fit into --max-minutes, counted from `began`.

    Args:
      state: of the run, before its first step.
      num_test: images of an evaluation.
      began: of `time.monotonic`.

    Raises:
      ValueError: not one epoch fits.
    """
    if options.minutes is None or options.resume:
        return options, run
    recipe, epoch = run.recipe, run.steps_per_epoch
    rows = sharding.own_rows(recipe.batch_size)
    batch = run.devices.join(next(loader.batches(dataset, recipe.batch_size, recipe.seed, 0, rows=rows)))
    trainer = guarded(options.keeping, run.trainer)
    compiling, seconds = planning.seconds_a_step(trainer, state, batch, run.keys[1])
    left = options.minutes * 60 - (time.monotonic() - began) - _PROGRAMS * compiling
    num_steps = _agreed(int(_RESERVE * max(left, 0.0) / seconds))
    passes = recipe.batch_size * (recipe.attack.num_steps + 1)  # of images forward and back, in a step
    evaluation = epoch_run.passes(num_test, len(run.class_names)) // passes + 1
    plan = planning.fitted(num_steps, epoch, evaluation)
    if not plan.num_epochs:
        needed = (epoch + evaluation) * seconds + _PROGRAMS * compiling
        times = f"{(time.monotonic() - began) / 60:.1f} are gone, one epoch takes {needed / 60:.1f}"
        remedy = "give more minutes, or fewer images, --train-split train[:10%]"
        raise ValueError(f"max_minutes leaves this run {options.minutes:.3g}, {times}: {remedy}")
    _print(_said(plan, epoch, evaluation, seconds))
    settings = options.settings._replace(epochs=plan.num_epochs)
    options = dataclasses.replace(options, settings=settings, judge_every=plan.judge_every)
    return options, lasting(run, plan.num_epochs)


def _said(plan: planning.Plan, epoch: int, evaluation: int, seconds: float) -> str:
    total = plan.num_epochs * epoch
    num = -(-plan.num_epochs // plan.judge_every)
    minutes = (total + num * evaluation) * seconds / 60
    steps = f"{total} steps of {seconds:.2g} s ({plan.num_epochs} epochs)"
    return f"about {minutes:.1f} minutes from here: {steps}, evaluated {num} times"


def _agreed(number: int) -> int:
    """The least of the numbers of all processes."""
    return number if jax.process_count() == 1 else -hosts.largest(-number)


_print = functools.partial(print, flush=True)
