"""The log of a generator's training: its steps, and snapshots of samples, a release and a checkpoint.

with gan_log(options, run, step=0) as log:
    log.step(step, checked)                    # after every step; logs some
    log.snapshot(state, release)               # samples of the averaged weights, their release, a checkpoint
    log.save(state)                            # a checkpoint
"""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rsynth_jax.cli import sheets
from rsynth_jax.cli.run_log import RunLog, run_log
from rsynth_jax.images import encode
from rsynth_jax.models import style
from rsynth_jax.models.style import GeneratorConfig
from rsynth_jax.storage import generators
from rsynth_jax.storage.generators import GeneratorRelease
from rsynth_jax.training import gan
from rsynth_jax.training.finite import Checked
from rsynth_jax.training.gan_run import GanRun
from rsynth_jax.types import Params

LOG_EVERY = 20  # steps
COLUMNS = 8  # of a sheet of samples
ROWS = 8  # of a sheet of samples, several for each class where the classes are fewer
MOST_ROWS = 20  # of a sheet of samples: the first classes, where there are more
REMEDY = "lower --learning-rate or raise --gamma"  # of weights that diverge
_NOW = "critic {loss:.2f}  generator {generator_loss:.2f}  real {real_score:.2f}  fake {fake_score:.2f}"


class GanLog:
    """The steps and the snapshots of a generator's training."""

    def __init__(self, out: Path, log: RunLog, run: GanRun):
        self._out = out
        self._log = log
        self._run = run
        self.save = log.save

    def step(self, step: int, checked: Checked) -> None:
        """Log every `LOG_EVERY`-th step and the last. Raises ValueError for a step so far that diverged."""
        self._log.note(step, checked)
        if step % LOG_EVERY and step != self._run.recipe.num_steps:
            return
        self._log.settle()
        columns = checked.metrics._asdict()
        columns |= columns.pop("generator")
        values = {name: float(value) for name, value in columns.items()}
        speed = self._run.recipe.images_per_step * self._log.steps_per_second(step)
        record = {"step": step, **values, "images_per_second": speed}
        self._log.record(record, f"{_NOW.format(**values)}  {speed:.0f} images/s")

    def snapshot(self, state: gan.GanState, release: GeneratorRelease) -> None:
        """Write the release and a sheet of its samples, each twice: the newest and this step's; and `save`.

        Raises ValueError for a step so far that diverged.
        """
        self._log.settle()
        step = int(state.step)
        with self._log.paused():
            sheet = sheets.draw(self._page(state, release))
            snapshot = self._out / "snapshots" / f"{step:06d}"
            for path in (self._out / generators.RELEASE, snapshot.with_suffix(".safetensors")):
                generators.save(path, release)
            for path in (self._out / "samples.png", snapshot.with_suffix(".png")):
                sheets.write_picture(path, sheet)
            self._log.picture(step, "samples", lambda: sheet)
        self.save(state)

    def save_if_due(self, state: gan.GanState) -> None:
        """Write a checkpoint if --save-every has passed since the last one."""
        if self._log.is_due:
            self.save(state)

    def _page(self, state: gan.GanState, release: GeneratorRelease) -> sheets.Page:
        num = len(release.class_names)
        rows = np.repeat(np.arange(num), max(1, ROWS // num))[:MOST_ROWS]
        labels = np.repeat(rows, COLUMNS).astype(np.int32)
        images = np.asarray(_samples(self._run.config, state.ema, labels))
        cells = images.reshape(len(rows), COLUMNS, *images.shape[1:])
        shown = int(state.step) * self._run.recipe.images_per_step
        return sheets.Page(cells, [release.class_names[row] for row in rows], f"{shown} images shown")


@contextlib.contextmanager
def gan_log(options: Any, run: GanRun, step: int) -> Iterator[GanLog]:
    """Log a run that has done `step` steps, as `run_log`."""
    with run_log(options, run.recipe.num_steps, step, REMEDY) as log:
        yield GanLog(options.out, log, run)


@functools.partial(jax.jit, static_argnums=0)
def _samples(config: GeneratorConfig, params: Params, labels: jax.Array) -> jax.Array:
    """Images, uint8 (n, h, w, c), whose latents and noise depend on their row alone."""
    keys = jax.random.split(jax.random.key(0), len(labels))
    one = functools.partial(gan.generate, functools.partial(style.bind, config), params)
    return jax.vmap(lambda key, label: encode(one(key, label)))(keys, labels)
