"""A classifier's training, which is counted in epochs: its loop, its log, its evaluations.

    return train(options, run, state, dataset, test, facts)

`EpochLog.step` logs one step of some; after an epoch come an evaluation, a release and a checkpoint.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from PIL import Image

from rsynth_jax import models, sharding
from rsynth_jax.attacks import autoattack, evaluation
from rsynth_jax.attacks.autoattack import Attack
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.cli import hosts, plots, sheets, training_run
from rsynth_jax.cli import run as console
from rsynth_jax.cli.run_log import RunLog, guarded, run_log
from rsynth_jax.cli.sheets import Page
from rsynth_jax.data import loader
from rsynth_jax.data.loader import Arrays
from rsynth_jax.data.sources import Dataset
from rsynth_jax.sampling import measures, samplers
from rsynth_jax.storage import releases
from rsynth_jax.storage.releases import Release
from rsynth_jax.training import build
from rsynth_jax.training.classifier import accuracy
from rsynth_jax.training.finite import Checked
from rsynth_jax.training.run import Run, fit, release
from rsynth_jax.training.state import ClassifierState

Publish = Callable[..., Release]  # writes the release of a state, with more facts, and returns it
LOG_EVERY = 20  # steps
PGD_STEPS = 10  # of the attack on the test images
SAMPLES = 4  # images of each class on a sheet
SAMPLED = 10  # classes on a sheet: the first ones
SAMPLE_STEPS = 20  # of the ascents to them
REMEDY = "lower --learning-rate"  # of weights that diverge
SHEET = "samples.png"  # its name inside a run
_NOW = "loss {loss:.3f} clean {clean_accuracy:.0%} adv. {adversarial_accuracy:.0%} {images_per_second:.0f}/s"
_DUAL = "adv. {adversarial_accuracy:.0%} AUC {auc:.2f} T {num_steps:.0f} {images_per_second:.0f}/s"
_EPOCH = "epoch {epoch}/{epochs}: clean {test_clean:.1%}, PGD {test_adversarial:.1%}"


def train(
    options: Any, run: Run, new: ClassifierState, dataset: Dataset, test: Arrays, facts: Mapping[str, Any]
) -> int:
    """Train, evaluate and release after every `options.judge_every` epochs, and report.

    Args:
      options: of the program, as `training_run` has them.
      new: the state before the first step.
      facts: of the run's record.

    Returns:
      The exit status.
    """
    path, size, seed = options.out / releases.RELEASE, run.recipe.batch_size, run.recipe.seed

    def publish(state: ClassifierState, **facts: Any) -> Release:
        made = release(run, state, data=options.data, **facts)
        if hosts.is_first():
            releases.save(path, made)
        return made

    with training_run.begun(options, new, epochs=run.num_epochs, **facts) as state:
        interrupted = console.Interrupted()
        first = int(state.step)
        rows = sharding.own_rows(size)
        batches = loader.batches_from(dataset, size, seed, run.num_epochs, first, rows)
        with _epoch_log(options, run, test, first, publish) as log:
            trainer = guarded(options.keeping, run.trainer)
            batches = interrupted.until(batches)
            state = fit(trainer, state, batches, key=run.keys[1], devices=run.devices, callback=log)
            log.save(state)
        closing = f"{path}: {run.config.architecture} after {run.num_epochs} epochs"
        return training_run.finish(options.out, state, interrupted, lambda: closing, plots.write_curves)


class EpochLog:
    """The steps and the epochs of a classifier's training.

    Args:
      every: epochs from one evaluation to the next; the last one is always evaluated.
      has_sheet: whether each evaluation also writes samples into the run's folder.
    """

    def __init__(self, log: RunLog, run: Run, test: Arrays, publish: Publish, every: int, has_sheet: bool):
        self._log = log
        self._every = every
        self._has_sheet = has_sheet
        self._run = run
        self._model = models.create(run.config)
        self._test = test
        self._publish = publish
        self._rate: Callable[[int], Any] = build.schedule(run.recipe, run.steps_per_epoch)
        self.save = log.save

    def __call__(self, state: ClassifierState, step: int, checked: Checked, batch: tuple[Any, Any]) -> None:
        """Log a step, and at the end of an epoch to evaluate do so and save: the callback of `fit`."""
        self._log.note(step, checked)
        self.step(state, step, checked.metrics, batch)
        epoch, rest = divmod(step, self._run.steps_per_epoch)
        ends = rest == 0 and (epoch % self._every == 0 or epoch == self._run.num_epochs)
        if ends:
            self.epoch(state, step)
        if ends or self._log.is_due:
            self.save(state)

    def step(self, state: ClassifierState, step: int, metrics: Any, batch: tuple[Any, Any]) -> None:
        """Log every `LOG_EVERY`-th step and the last. Raises ValueError for a step so far that diverged."""
        if step % LOG_EVERY and step != self._run.num_steps:
            return
        self._log.settle()
        images, labels = batch
        logits = evaluation.logits_program(self._model)(state.variables, images)
        record = {
            "step": step,
            "epoch": step / self._run.steps_per_epoch,
            "clean_accuracy": float(accuracy(logits, labels)),
            **{name: float(value) for name, value in metrics._asdict().items()},
            "learning_rate": float(self._rate(step)),
            "images_per_second": self._run.recipe.batch_size * self._log.steps_per_second(step),
        }
        now = _DUAL if "auc" in record else _NOW
        self._log.record(record, now.format(**record))

    def epoch(self, state: ClassifierState, step: int) -> None:
        """Log the averaged weights' accuracies on test images, and publish. Raises ValueError as `step`."""
        self._log.settle()
        with self._log.paused():
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
            self._log.record(record)
            self._log.print(_EPOCH.format(epochs=self._run.num_epochs, **record))
            low_p = measures.low_p(self._model, weights, self._test.images)
            release = self._publish(state, low_p=low_p)
            sheet = functools.cache(lambda: _sheet(release, step))
            self._log.picture(step, "samples", sheet)
            if self._has_sheet:
                sheets.write_picture(self._log.folder / SHEET, sheet())


@contextlib.contextmanager
def _epoch_log(options: Any, run: Run, test: Arrays, step: int, publish: Publish) -> Iterator[EpochLog]:
    """Log a run that has done `step` steps, as `run_log`.

    Args:
      publish: called with the state at the end of each epoch that is evaluated.
    """
    has_sheet = options.max_minutes is not None
    with run_log(options, run.num_steps, step, REMEDY) as log:
        yield EpochLog(log, run, test, publish, options.judge_every, has_sheet)


def passes(num_images: int, num_classes: int) -> int:
    """Count how often an image goes through the network and back in an evaluation, its sheet included."""
    return num_images * (PGD_STEPS + 1) + min(num_classes, SAMPLED) * SAMPLES * SAMPLE_STEPS


def _sheet(release: Release, step: int) -> Image.Image:
    """Samples of each class, which climb from the class Gaussians."""
    names = release.class_names[:SAMPLED]
    images = samplers.generate(release, names, SAMPLES, num_steps=SAMPLE_STEPS).images
    cells = images.reshape(len(names), SAMPLES, *images.shape[1:])
    return sheets.draw(Page(cells, names, f"samples after {step} steps"))


@functools.cache
def _pgd(threat: Threat) -> Attack:
    """The attack on the test images; one object, so that it is compiled once."""
    return autoattack.pgd(threat, Steps(2.5 * threat.epsilon / PGD_STEPS, PGD_STEPS))
