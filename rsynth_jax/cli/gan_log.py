"""The log of a generator's training: JSON lines, a progress bar, samples, and a stop before weights diverge.

with gan_log(out, run, step=0) as log:
    log.step(step, metrics)                    # after every step; logs some
    log.snapshot(state, release)               # samples of the averaged weights, their release, a checkpoint
    log.save(state)                            # a checkpoint
"""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np
from rich.progress import Progress

from rsynth_jax.cli import sheets, training_run
from rsynth_jax.cli.hosts import own_folder
from rsynth_jax.cli.run import Clock, progress_bar
from rsynth_jax.cli.train_log import continued
from rsynth_jax.images import encode
from rsynth_jax.models import style
from rsynth_jax.models.style import GeneratorConfig
from rsynth_jax.storage import generators
from rsynth_jax.storage.generators import GeneratorRelease
from rsynth_jax.training import gan
from rsynth_jax.training.gan_run import GanRun
from rsynth_jax.types import Params

LOG_EVERY = 20  # steps
COLUMNS = 8  # of a sheet of samples
ROWS = 8  # of a sheet of samples, several for each class where the classes are fewer
MOST_ROWS = 20  # of a sheet of samples: the first classes, where there are more
REMEDY = "lower --learning-rate or raise --gamma"  # of weights that diverge
_NOW = "critic {loss:.2f}  generator {generator_loss:.2f}  real {real_score:.2f}  fake {fake_score:.2f}"


class GanLog:
    """The JSON lines, the progress bar and the samples of a generator's training."""

    def __init__(self, out: Path, own: Path, file: IO[bytes], bar: Progress, run: GanRun, step: int):
        self._out = out
        self._own = own
        self._file = file
        self._bar = bar
        self._run = run
        self._clock = Clock()
        self._logged = step
        self._task = bar.add_task("training", total=run.recipe.num_steps, completed=step, now="")

    def step(self, step: int, metrics: Any) -> None:
        """Log every `LOG_EVERY`-th step and the last. Raises ValueError for a loss that is not finite."""
        if step % LOG_EVERY and step != self._run.recipe.num_steps:
            return
        columns = metrics._asdict()
        columns |= columns.pop("generator")
        values = {name: float(value) for name, value in columns.items()}
        training_run.check_finite(step, values, REMEDY)
        images = (step - self._logged) * self._run.recipe.images_per_step
        self._logged = step
        record = {"step": step, **values, "images_per_second": images / self._clock.lap()}
        training_run.append(self._file, record)
        rate = f"  {record['images_per_second']:.0f} images/s"
        self._bar.update(self._task, completed=step, now=_NOW.format(**values) + rate)

    def snapshot(self, state: gan.GanState, release: GeneratorRelease) -> None:
        """Write the release and a sheet of its samples, each twice: the newest and this step's; and `save`.

        Raises ValueError for a state that holds NaN or infinity.
        """
        training_run.check_finite(int(state.step), state, REMEDY)
        clock = Clock()
        num = len(release.class_names)
        rows = np.repeat(np.arange(num), max(1, ROWS // num))[:MOST_ROWS]
        labels = np.repeat(rows, COLUMNS).astype(np.int32)
        images = np.asarray(_samples(self._run.config, release.variables, labels))
        cells = images.reshape(len(rows), COLUMNS, *images.shape[1:])
        shown = int(state.step) * self._run.recipe.images_per_step
        page = sheets.Page(cells, [release.class_names[row] for row in rows], f"{shown} images shown")
        sheet = sheets.draw(page)
        snapshot = self._own / "snapshots" / f"{int(state.step):06d}"
        for path in (self._own / generators.RELEASE, snapshot.with_suffix(".safetensors")):
            generators.save(path, release)
        for path in (self._own / "samples.png", snapshot.with_suffix(".png")):
            sheets.write_picture(path, sheet)
        self._clock.pause(clock.lap())
        self.save(state)

    def save(self, state: gan.GanState) -> None:
        """Write a checkpoint. Raises ValueError for a state that holds NaN or infinity."""
        clock = Clock()
        training_run.save(self._out, state, self._run.trainer.weights(state), REMEDY)
        self._clock.pause(clock.lap())


@contextlib.contextmanager
def gan_log(out: Path, run: GanRun, step: int) -> Iterator[GanLog]:
    """Append to the log of a run that has done `step` steps, without what it has past them; show progress."""
    log = "log.jsonl"
    bar = progress_bar("{task.fields[now]}")
    with own_folder(out) as own, continued(own / log, step) as file, bar:
        yield GanLog(out, own, file, bar, run, step)


@functools.partial(jax.jit, static_argnums=0)
def _samples(config: GeneratorConfig, params: Params, labels: jax.Array) -> jax.Array:
    """Images, uint8 (n, h, w, c), whose latents and noise depend on their row alone."""
    keys = jax.random.split(jax.random.key(0), len(labels))
    one = functools.partial(gan.generate, functools.partial(style.bind, config), params)
    return jax.vmap(lambda key, label: encode(one(key, label)))(keys, labels)
