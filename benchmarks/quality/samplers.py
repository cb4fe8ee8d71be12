"""Settings of the sampler, one change at a time from a base, on any classifier.

    python -m benchmarks.quality.samplers --classifier cifar10 --data-dir DIR

Each row makes 2,000 images, 200 a class, and compares them with the test images: Fréchet distance, KID,
precision and recall on the features of an ImageNet EfficientNet-Lite0, with which neither the classifier nor
the sampler was fitted. Image i of every row starts from the same draw. The Fréchet distance is biased upwards
at 2,000 images: compare rows, not tables. A row already in the JSON is not run again. Writes OUT.json and
OUT.png. Needs the extra `[eval]`.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import common
from benchmarks.common import RESULTS
from rsynth_jax import images as arrays
from rsynth_jax import models
from rsynth_jax.cli.sheets import Page, write_sheet
from rsynth_jax.data.loader import Arrays
from rsynth_jax.sampling import embedding, measures, runner
from rsynth_jax.sampling.samplers import SCHEDULES
from rsynth_jax.storage import files, releases
from rsynth_jax.storage.releases import Release
from rsynth_jax.synthesis import ascent, class_gaussians, objectives, tasks
from rsynth_jax.synthesis.ascent import Ascent
from rsynth_jax.synthesis.class_gaussians import ClassGaussians
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.tasks import AscentFn, ClassObjective
from rsynth_jax.types import Bytes, Classifier, Image, Key, Label, Scalar

BATCH = 100
FITTED = 10000  # training images of which the mean logits are measured
SHOWN = 10  # images of each row on the sheet: the first of each class
COLUMNS = {"fd": "FD", "kid_x1000": "KID x 1000", "precision": "precision", "recall": "recall"}


def bundled(release: Release, train: Arrays) -> ClassGaussians:
    """The classifier's own class Gaussians: low resolution, most of the variance."""
    return release.class_gaussians


def full_covariance(release: Release, train: Arrays) -> ClassGaussians:
    """All of the covariance at full resolution; takes minutes."""
    return class_gaussians.fit(*train, len(release.class_names), factor=1, share=1.0)


class Method(NamedTuple):
    """The settings of a sampler.

    Attributes:
      objective: what to climb.
      gaussians: (release, training images) -> the distributions of the starts.
      temperature: factor of a start's distance from its class's mean.
      schedule, step_size, steps: of the ascent.
      momentum: decay of an average of the directions.
      noise: standard deviation of what each step adds to each value (Langevin).
      max_shift: pixels by which each step's view of the image is shifted, at most.
      stop: stop at the first image whose logit reaches the mean of its class's real images.
    """

    objective: ClassObjective = objectives.logit_plus_log_prob
    gaussians: Callable[[Release, Arrays], ClassGaussians] = bundled
    temperature: float = 1.2
    schedule: str = "cosine"
    step_size: float = 0.75
    steps: int = 15
    momentum: float = 0.0
    noise: float = 0.0
    max_shift: int = 0
    stop: bool = False


PAPER = Method(objectives.log_prob, temperature=1.0, schedule="constant", step_size=0.5, steps=60)
ROWS = {
    "base: temperature 1.2, logit + log p, 15 steps of 0.75, cosine": Method(),
    "the paper's: temperature 1, log p, 60 of 0.5": PAPER,
    "log p": Method(objectives.log_prob),
    "logit": Method(objectives.logit),
    "energy, of no class": Method(objectives.CLASS_OBJECTIVES["energy"]),
    "seeds with all of the covariance": Method(gaussians=full_covariance),
    "temperature 0.8": Method(temperature=0.8),
    "temperature 1": Method(temperature=1.0),
    "temperature 1.4": Method(temperature=1.4),
    "constant steps of 0.375": Method(schedule="constant", step_size=0.375),
    "momentum 0.9": Method(momentum=0.9),
    "noise 0.005": Method(noise=0.005),
    "noise 0.02": Method(noise=0.02),
    "shift 1": Method(max_shift=1),
    "shift 2": Method(max_shift=2),
    "stop at the real logit": Method(stop=True),
    "15 steps of 0.5": Method(step_size=0.5),
    "15 steps of 1": Method(step_size=1.0),
    "10 steps of 0.75": Method(steps=10),
    "13 steps of 0.75": Method(steps=13),
    "10 steps of 1.125": Method(steps=10, step_size=1.125),
    "20 steps of 0.56": Method(steps=20, step_size=0.5625),
    "30 steps of 0.375": Method(steps=30, step_size=0.375),
    "60 steps of 0.19": Method(steps=60, step_size=0.1875),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(common.Options):
    """Compare settings of the sampler."""

    num: int = 200
    """Images of each class."""
    work: Path = Path("samplers")
    """Where the images of every row are kept."""
    out: Path = RESULTS / "samplers"
    """Written: OUT.png, OUT.json."""


class Setting(NamedTuple):
    """All that the rows share: the classifier, training images, features of the test images."""

    release: Release
    train: Arrays
    real: np.ndarray
    real_logits: np.ndarray  # the mean over each class's real images, (k,)


def setting(options: Options) -> Setting:
    """Load and measure what the rows share."""
    release = releases.load(options.classifier)
    train = common.read(options, "train")
    labels = train.labels[:FITTED]
    logits = embedding.embed_images(release.model, release.variables, train.images[:FITTED], BATCH).logits
    own = np.array([logits[labels == k, k].mean() for k in range(len(release.class_names))])
    real = common.embed(common.read(options, "test").images).features
    return Setting(release, train, real, own)


def ascent_of(method: Method, real_logits: np.ndarray) -> AscentFn:
    """The ascent of one image; a setting that is off costs nothing."""
    size = SCHEDULES[method.schedule](method.step_size, method.steps)
    optimizer = optax.chain(L2.direction, optax.ema(method.momentum), optax.scale_by_learning_rate(size))
    task = functools.partial(tasks.generate, objective=method.objective)

    def climb(classifier: Classifier, start: Image, label: Label, key: Key) -> tuple[Image, Ascent]:
        def step(key: Key) -> Ascent:
            shift_key, noise_key = jax.random.split(key)
            viewed = classifier
            if method.max_shift:
                shift = functools.partial(arrays.random_shift, shift_key, max_shift=method.max_shift)
                viewed = models.precompose(classifier, shift)
            noisy = optax.chain(optimizer, add_noise(noise_key, method.noise)) if method.noise else optimizer
            return tasks.with_optimizer(task, noisy)(viewed, start, label)[1]

        def reached(image: Image) -> Scalar:
            return objectives.logit(classifier, label)(image) >= jnp.asarray(real_logits)[label]

        steps = ascent.with_step_keys(key, step)
        return start, ascent.stop_when(reached, steps) if method.stop else steps

    return climb


def add_noise(key: Key, deviation: float) -> optax.GradientTransformation:
    """Add noise to an update of one image."""

    def add(update: Any, params: Any) -> Any:
        return update + deviation * jax.random.normal(key, update.shape)

    return optax.stateless(add)


@functools.partial(jax.jit, static_argnums=3)
def draw(gaussians: ClassGaussians, keys: jax.Array, labels: np.ndarray, shape: tuple) -> jax.Array:
    """Starts (n, h, w, c)."""
    return jax.vmap(lambda key, label: class_gaussians.sample(key, gaussians, label, shape))(keys, labels)


def generate(shared: Setting, method: Method, num: int) -> tuple[Bytes, float]:
    """Make `num` images of each class, class after class; the seconds they took."""
    release = shared.release
    gaussians = class_gaussians.with_temperature(method.gaussians(release, shared.train), method.temperature)
    labels = np.repeat(np.arange(len(release.class_names)), num)
    keys = jax.random.split(jax.random.key(0), (len(labels), 2))
    starts = runner.Rows(
        len(labels), lambda rows: draw(gaussians, keys[rows, 0], labels[rows], release.image_shape)
    )
    ended = []
    began = time.perf_counter()
    samples = runner.sample(
        release.model,
        release.variables,
        ascent_of(method, shared.real_logits),
        (starts, labels, keys[:, 1]),
        num_steps=method.steps,
        batch_size=BATCH,
        callback=lambda step, images: ended.append(time.perf_counter()),
    )
    return samples.images, ended[-1] - began


def measure(shared: Setting, method: Method, num: int, path: Path) -> dict:
    """The figures of a row, each with its interval; its images go to `path`."""
    images, seconds = generate(shared, method, num)
    files.write_arrays(path, {"images": images})
    scores = measures.compare(common.embed(images), shared.real)
    return {"seconds_per_image": seconds / len(images)} | {key: scores[key]._asdict() for key in COLUMNS}


def cells_of(name: str, row: dict) -> list[str]:
    """A row of the table."""
    return [name, *common.intervals(row, COLUMNS), f"{1000 * row['seconds_per_image']:.0f}"]


def draw_sheet(options: Options, rows: dict, paths: dict[str, Path]) -> None:
    """Write the first image of each class, a row for each method whose images are still there."""
    kept = {name: np.load(path)["images"] for name, path in paths.items() if path.exists()}
    if not kept:
        return
    cells = np.stack([images[:: options.num][:SHOWN] for images in kept.values()])
    names = [f"{name}: {rows[name]['fd']['value']:.1f}" for name in kept]
    title = "FD of each method, EfficientNet-Lite0 features; the first image of each class"
    write_sheet(options.out.with_suffix(".png"), Page(cells, names, title))


def benchmark(options: Options) -> None:
    """Measure every row that is missing, write them as they come, print the table."""
    shared = setting(options)
    paths = {name: options.work / f"{name}.npz" for name in ROWS}

    def measured(name: str) -> dict:
        row = measure(shared, ROWS[name], options.num, paths[name])
        print(" | ".join(cells_of(name, row)), flush=True)
        return row

    about = {"classifier": options.classifier, "per_class": options.num}
    rows = common.complete(options.out, ROWS, measured, **about)
    print(common.table(["method", *COLUMNS.values(), "ms / image"], (cells_of(n, rows[n]) for n in ROWS)))
    draw_sheet(options, rows, paths)


if __name__ == "__main__":
    common.run(Options, benchmark)
