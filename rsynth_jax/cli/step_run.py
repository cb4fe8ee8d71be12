"""A training run that is counted in steps: its loop, its log, its snapshots.

    return train(options, run, start(run), dataset, facts, Product("generator.safetensors", ...))

`StepLog.step` logs one step of some; a snapshot is a sheet and the release of the averaged weights, and a
checkpoint.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rsynth_jax import sharding
from rsynth_jax.cli import plots, sheets, training_run
from rsynth_jax.cli import run as console
from rsynth_jax.cli.run_log import RunLog, guarded, run_log
from rsynth_jax.cli.sheets import Page
from rsynth_jax.cli.training_run import WriteCurves
from rsynth_jax.data import loader
from rsynth_jax.training.finite import Checked
from rsynth_jax.training.run import fit
from rsynth_jax.training.state import State

LOG_EVERY = 20  # steps
SHEET = "samples.png"  # its name inside a run
GAN_NOW = "critic {loss:.2f} generator {generator_loss:.2f}"
SEGMENTER_NOW = "loss {loss:.3f} accuracy {accuracy:.0%}"
GAN_REMEDY = "lower --learning-rate or raise --gamma"


class Measured(NamedTuple):
    """What a snapshot measures of a release: numbers to log, and a line to print."""

    numbers: Mapping[str, float]
    line: str


class Product(NamedTuple):
    """What a run makes.

    Attributes:
      file: name of its release inside the run.
      release: state -> the release.
      save: (path, release) -> None.
      page: (release, how long it was trained, in words) -> the sheet.
      unit: name of what a batch has.
      now: a step's numbers beside the progress.
      remedy: of weights that diverge.
      measure: release -> what a snapshot logs and prints; nothing, by default.
      write_curves: draws the log.
      describe: (run, folder of the run) -> the release, in words.
    """

    file: str
    release: Callable[[Any], Any]
    save: Callable[[Path, Any], None]
    page: Callable[[Any, str], Page]
    unit: str = "images"
    now: str = GAN_NOW
    remedy: str = GAN_REMEDY
    measure: Callable[[Any], Measured] = lambda release: Measured({}, "")
    write_curves: WriteCurves = plots.write_gan_curves
    describe: Callable[[Any, Path], str] = lambda run, out: f"{run.config.image_size} pixels"


def train(
    options: Any,
    run: Any,
    new: State,
    dataset: Any,
    facts: Mapping[str, Any],
    product: Product,
    batches_between: Callable[..., Iterator[Any]] = loader.batches_between,
) -> int:
    """Train, write a snapshot after every `options.sample_every` steps, and report; return the exit status.

    Args:
      options: of the program, as `training_run` has them.
      run: a `GanRun`, or another with its recipe, trainer, step_key and devices.
      new: the state before the first step.
      facts: of the run's record.
      batches_between: of (dataset, images of a step, seed, first step, last step, rows of each batch).
    """
    out, recipe = options.out, run.recipe
    with training_run.begun(options, new, **facts) as state:
        interrupted = console.Interrupted()
        first = int(state.step)
        size = recipe.images_per_step
        rows = sharding.own_rows(size)
        batches = batches_between(dataset, size, recipe.seed, first, recipe.num_steps, rows)
        with step_log(options, run, product, first) as log:
            trainer = guarded(options.keeping, run.trainer)
            batches = interrupted.until(batches)

            def callback(state: Any, step: int, checked: Checked, batch: Any) -> None:
                log.step(step, checked)
                if step % options.sample_every == 0 or step == recipe.num_steps:
                    log.snapshot(state)
                log.save_if_due(state)

            state = fit(trainer, state, batches, key=run.step_key, devices=run.devices, callback=callback)
            log.save(state)

        def closing() -> str:
            return f"{out / product.file}: {product.describe(run, out)} after {recipe.num_steps} steps"

        return training_run.finish(out, state, interrupted, closing, product.write_curves)


class StepLog:
    """The steps and the snapshots of a run."""

    def __init__(self, log: RunLog, run: Any, product: Product):
        self._log = log
        self._run = run
        self._product = product
        self.save = log.save
        self.save_if_due = log.save_if_due

    def step(self, step: int, checked: Checked) -> None:
        """Log every `LOG_EVERY`-th step and the last. Raises ValueError for a step so far that diverged."""
        self._log.note(step, checked)
        if step % LOG_EVERY and step != self._run.recipe.num_steps:
            return
        self._log.settle()
        columns = checked.metrics._asdict()
        columns |= columns.pop("generator", {})
        values = {name: float(value) for name, value in columns.items()}
        speed = self._run.recipe.images_per_step * self._log.steps_per_second(step)
        record = {"step": step, **values, f"{self._product.unit}_per_second": speed}
        self._log.record(record, f"{self._product.now.format(**values)} {speed:.0f}/s")

    def snapshot(self, state: Any) -> None:
        """Write the release and the sheet, each twice: the newest and this step's; and `save`.

        Raises ValueError for a step so far that diverged.
        """
        self._log.settle()
        step, product = int(state.step), self._product
        with self._log.paused():
            release = product.release(state)
            measured = product.measure(release)
            if measured.numbers:
                self._log.record({"step": step, **measured.numbers})
                self._log.print(f"step {step}: {measured.line}")
            shown = step * self._run.recipe.images_per_step
            sheet = sheets.draw(product.page(release, f"{shown} {product.unit} shown"))
            out = self._log.folder
            snapshot = out / "snapshots" / f"{step:06d}"
            for path in (out / product.file, snapshot.with_suffix(".safetensors")):
                product.save(path, release)
            for path in (out / SHEET, snapshot.with_suffix(".png")):
                sheets.write_picture(path, sheet)
            self._log.picture(step, "samples", lambda: sheet)
        self.save(state)


@contextlib.contextmanager
def step_log(options: Any, run: Any, product: Product, step: int) -> Iterator[StepLog]:
    """Log a run that has done `step` steps, as `run_log`."""
    with run_log(options, run.recipe.num_steps, step, product.remedy) as log:
        yield StepLog(log, run, product)
