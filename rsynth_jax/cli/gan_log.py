"""An adversarial training run: its loop, its log, its snapshots, and a stop before weights diverge.

    return train(options, run, start(run), dataset, facts, Product("generator.safetensors", ...))

After every step `GanLog.step` logs some; a snapshot is a sheet of the averaged weights, their release and a
checkpoint.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rsynth_jax import sharding
from rsynth_jax.cli import plots, sheets, training_run
from rsynth_jax.cli import run as console
from rsynth_jax.cli.run_log import RunLog, guarded, run_log
from rsynth_jax.cli.sheets import Page
from rsynth_jax.data import loader
from rsynth_jax.images import encode
from rsynth_jax.models import style
from rsynth_jax.models.style import GeneratorConfig
from rsynth_jax.sampling import inverters, translators
from rsynth_jax.storage.generators import GeneratorRelease
from rsynth_jax.storage.inverters import InverterRelease
from rsynth_jax.storage.releases import Release
from rsynth_jax.storage.translators import TranslatorRelease
from rsynth_jax.training import gan
from rsynth_jax.training.finite import Checked
from rsynth_jax.training.gan import GanState
from rsynth_jax.training.run import fit
from rsynth_jax.types import Bytes, Params

LOG_EVERY = 20  # steps
COLUMNS = 8  # of a sheet of samples
STYLES = 5  # drawn for each image of a sheet of translations
ROWS = 8  # of a sheet of samples, several for each class where the classes are fewer
MOST_ROWS = 20  # of a sheet of samples: the first classes, where there are more
REMEDY = "lower --learning-rate or raise --gamma"  # of weights that diverge
_NOW = "critic {loss:.2f} generator {generator_loss:.2f}"


class Product(NamedTuple):
    """What a run makes.

    Attributes:
      file: name of its release inside the run.
      release: state -> the release.
      save: (path, release) -> None.
      page: (state, release) -> rows of images and their names, of the averaged weights.
      unit: name of what a batch has.
    """

    file: str
    release: Callable[[GanState], Any]
    save: Callable[[Path, Any], None]
    page: Callable[[GanState, Any], tuple[Bytes, list[str]]]
    unit: str = "images"


def train(
    options: Any,
    run: Any,
    new: GanState,
    dataset: Any,
    facts: Mapping[str, Any],
    product: Product,
    batches_between: Callable[..., Iterator[loader.Arrays]] = loader.batches_between,
) -> int:
    """Train, write a snapshot after every `options.sample_every` steps, and report; return the exit status.

    Args:
      options: of the program, as `training_run` has them.
      run: a `GanRun`, or another with its recipe, trainer, step_key, devices and config.
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
        with gan_log(options, run, product, first) as log:
            trainer = guarded(options.keeping, run.trainer)
            batches = interrupted.until(batches)

            def callback(state: Any, step: int, checked: Checked, batch: Any) -> None:
                log.step(step, checked)
                if step % options.sample_every == 0 or step == recipe.num_steps:
                    log.snapshot(state)
                log.save_if_due(state)

            state = fit(trainer, state, batches, key=run.step_key, devices=run.devices, callback=callback)
            log.save(state)
        closing = f"{out / product.file}: {run.config.image_size} pixels after {recipe.num_steps} steps"
        return training_run.finish(out, state, interrupted, closing, plots.write_gan_curves)


class GanLog:
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
        columns |= columns.pop("generator")
        values = {name: float(value) for name, value in columns.items()}
        speed = self._run.recipe.images_per_step * self._log.steps_per_second(step)
        unit = self._product.unit
        record = {"step": step, **values, f"{unit}_per_second": speed}
        self._log.record(record, f"{_NOW.format(**values)} {speed:.0f}/s")

    def snapshot(self, state: GanState) -> None:
        """Write the release and the sheet, each twice: the newest and this step's; and `save`.

        Raises ValueError for a step so far that diverged.
        """
        self._log.settle()
        step = int(state.step)
        with self._log.paused():
            release = self._product.release(state)
            cells, names = self._product.page(state, release)
            shown = step * self._run.recipe.images_per_step
            sheet = sheets.draw(Page(cells, names, f"{shown} {self._product.unit} shown"))
            out = self._log.folder
            snapshot = out / "snapshots" / f"{step:06d}"
            for path in (out / self._product.file, snapshot.with_suffix(".safetensors")):
                self._product.save(path, release)
            for path in (out / "samples.png", snapshot.with_suffix(".png")):
                sheets.write_picture(path, sheet)
            self._log.picture(step, "samples", lambda: sheet)
        self.save(state)


@contextlib.contextmanager
def gan_log(options: Any, run: Any, product: Product, step: int) -> Iterator[GanLog]:
    """Log a run that has done `step` steps, as `run_log`."""
    with run_log(options, run.recipe.num_steps, step, REMEDY) as log:
        yield GanLog(log, run, product)


def drawn(state: GanState, release: GeneratorRelease) -> tuple[Bytes, list[str]]:
    """Draw rows of samples of each class by a generator's averaged weights."""
    num = len(release.class_names)
    rows = np.repeat(np.arange(num), max(1, ROWS // num))[:MOST_ROWS]
    labels = np.repeat(rows, COLUMNS).astype(np.int32)
    images = np.asarray(_samples(release.config, release.variables, labels))
    cells = images.reshape(len(rows), COLUMNS, *images.shape[1:])
    return cells, [release.class_names[row] for row in rows]


def inverted(
    classifier: Release, images: Bytes, state: GanState, release: InverterRelease
) -> tuple[Bytes, list[str]]:
    """Draw rows of images (rows, columns, h, w, c), each above its inversions by the averaged weights.

    The name of a row of inversions is the mean distance of their features. Two rows of draws of N(0, I)
    follow where the inverter is variational.
    """
    flat = images.reshape(-1, *images.shape[2:])
    found = inverters.invert_by(classifier, release, flat, batch_size=len(flat))
    cells = np.stack([images, found.images.reshape(images.shape)], axis=1).reshape(-1, *images.shape[1:])
    distances = found.distance.reshape(images.shape[:2]).mean(axis=1)
    names = [name for distance in distances for name in ("given", f"distance {distance:.2f}")]
    if release.config.latent_size:
        drawn = inverters.decode_prior(release, 2 * images.shape[1])
        cells = np.concatenate([cells, drawn.reshape(2, *images.shape[1:])])
        names += ["drawn", "drawn"]
    return cells, names


def translated(
    images: Sequence[Bytes], state: GanState, release: TranslatorRelease
) -> tuple[Bytes, list[str]]:
    """Draw a row for each image of each domain, by the averaged weights.

    A row has the image, its translations in `STYLES` drawn styles, then an example, the same row's image of
    the other domain, and the translation in its style. Its name is of the translations, with the mean error
    of the drawn styles and that of the example's.

    Args:
      images: of the first domain, and of the second.
    """
    rows, names = [], []
    for given, others, to in zip(images, images[::-1], release.class_names[::-1], strict=True):
        examples = others[np.arange(len(given)) % len(others)]
        drawn = translators.translate_by(release, given, to, styles=STYLES, batch_size=len(given))
        each = [
            translators.translate_like(release, image[None], to, example[None])
            for image, example in zip(given, examples, strict=True)
        ]
        like = np.concatenate([found.images for found in each])
        rows.append(np.concatenate([given[:, None], drawn.images, examples[:, None], like], axis=1))
        errors = drawn.style_error.mean(axis=1), [float(found.style_error.mean()) for found in each]
        names += [f"{to}, style {a:.2f}, {b:.2f}" for a, b in zip(*errors, strict=True)]
    return np.concatenate(rows), names


@functools.partial(jax.jit, static_argnums=0)
def _samples(config: GeneratorConfig, params: Params, labels: jax.Array) -> jax.Array:
    """Images, uint8 (n, h, w, c), whose latents and noise depend on their row alone."""
    keys = jax.random.split(jax.random.key(0), len(labels))
    one = functools.partial(gan.generate, functools.partial(style.bind, config), params)
    return jax.vmap(lambda key, label: encode(one(key, label)[1]))(keys, labels)
