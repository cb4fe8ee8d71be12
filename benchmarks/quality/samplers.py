"""Settings of the sampler, one change at a time from a base, on any classifier: docs/samplers.md.

    python -m benchmarks.quality.samplers --classifier cifar10 --data-dir DIR

Image i of every row starts from the same draw. A row already in the JSON is not run again. Needs the extra
`[eval]`.
"""

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import common
from rsynth_jax import images as arrays
from rsynth_jax import models
from rsynth_jax.models import embedding
from rsynth_jax.sampling import runner, samplers
from rsynth_jax.storage import files, releases
from rsynth_jax.synthesis import ascent, class_gaussians, norms, objectives, tasks
from rsynth_jax.types import Bytes, Classifier, Image, Key, Label, Scalar

BATCH = 100
FITTED = 10000  # training images of which the mean logits are measured
SHOWN = 10  # images of each row on the sheet: the first of each class
COLUMNS = {"fd": "FD", "kid_x1000": "KID x 1000", "precision": "precision", "recall": "recall"}


class Method(NamedTuple):
    objective: tasks.ClassObjective = objectives.logit_plus_log_prob
    full_covariance: bool = False  # starts with all of the covariance at full resolution: takes minutes
    temperature: float = 1.2  # factor of a start's distance from its class's mean
    schedule: str = "cosine"
    step_size: float = 0.75
    steps: int = 15
    momentum: float = 0.0  # decay of an average of the directions
    noise: float = 0.0  # standard deviation of what each step adds to each value (Langevin)
    max_shift: int = 0  # pixels by which each step's view of the image is shifted, at most
    stop: bool = False  # at the first image whose logit reaches the mean of its class's real images


PAPER = Method(objectives.log_prob, temperature=1.0, schedule="constant", step_size=0.5, steps=60)
ROWS = {
    "base: temperature 1.2, logit + log p, 15 steps of 0.75, cosine": Method(),
    "the paper's: temperature 1, log p, 60 of 0.5": PAPER,
    "log p": Method(objectives.log_prob),
    "logit": Method(objectives.logit),
    "energy, of no class": Method(objectives.CLASS_OBJECTIVES["energy"]),
    "seeds with all of the covariance": Method(full_covariance=True),
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


def ascent_of(method: Method, real_logits: np.ndarray) -> tasks.AscentFn:
    """The ascent of one image; `real_logits` (k,) are those at which to stop."""
    size = samplers.SCHEDULES[method.schedule].rate(method.step_size, method.steps)
    direction = optax.chain(norms.L2.direction, optax.ema(method.momentum))
    optimizer = optax.chain(direction, optax.scale_by_learning_rate(size))
    task = functools.partial(tasks.generate, objective=method.objective)

    def climb(classifier: Classifier, start: Image, label: Label, key: Key) -> tuple[Image, ascent.Ascent]:
        def step(key: Key) -> ascent.Ascent:
            shift_key, noise_key = jax.random.split(key)
            viewed = classifier
            if method.max_shift:
                shift = functools.partial(arrays.random_shift, shift_key, max_shift=method.max_shift)
                viewed = models.precompose(classifier, shift)
            noise: Any = lambda u, _: u + method.noise * jax.random.normal(noise_key, u.shape)  # noqa: E731
            noisy = optax.chain(optimizer, optax.stateless(noise)) if method.noise else optimizer
            return tasks.with_optimizer(task, noisy)(viewed, start, label)[1]

        def reached(image: Image) -> Scalar:
            return objectives.logit(classifier, label)(image) >= jnp.asarray(real_logits)[label]

        steps = ascent.with_step_keys(key, step)
        return start, ascent.stop_when(reached, steps) if method.stop else steps

    return climb


@functools.partial(jax.jit, static_argnums=0)
def draw(shape: tuple, gaussians: Any, keys: jax.Array, labels: np.ndarray) -> jax.Array:
    return jax.vmap(lambda key, label: class_gaussians.sample(key, gaussians, label, shape))(keys, labels)


def generate(
    release: Any, method: Method, climb: tasks.AscentFn, train: Any, num: int
) -> tuple[Bytes, float]:
    """Make `num` images of each class, class after class; the seconds they took."""
    num_classes = len(release.class_names)
    gaussians = release.class_gaussians
    if method.full_covariance:
        gaussians = class_gaussians.fit(train.images, train.labels, num_classes, factor=1, share=1.0)
    gaussians = class_gaussians.with_temperature(gaussians, method.temperature)
    start = functools.partial(draw, release.image_shape, gaussians)
    labels = np.repeat(np.arange(num_classes), num)
    keys = jax.random.split(jax.random.key(0), (len(labels), 2))
    starts = runner.Rows(len(labels), lambda rows: start(keys[rows, 0], labels[rows]))
    ended = []
    began = time.perf_counter()
    run = functools.partial(runner.sample, callback=lambda *_: ended.append(time.perf_counter()))
    inputs = (starts, labels, keys[:, 1])
    samples = run(release.model, release.variables, climb, inputs, num_steps=method.steps, batch_size=BATCH)
    return samples.images, ended[-1] - began


def cells_of(name: str, row: dict) -> list[str]:
    return [name, *common.intervals(row, COLUMNS), f"{1000 * row['seconds_per_image']:.0f}"]


@common.main(common.Options(num=200, out=common.RESULTS / "samplers"))
def benchmark(options: common.Options) -> None:
    release = releases.load(options.classifier)
    train = common.read(options, "train")
    logits = embedding.embed_images(release.model, release.variables, train.images[:FITTED], BATCH).logits
    real_logits = np.array([logits[train.labels[:FITTED] == k, k].mean() for k in range(logits.shape[1])])
    real = common.embed(common.read(options, "test").images).features
    paths = {name: options.out / f"{name}.npz" for name in ROWS}

    def measure(name: str) -> dict:
        climb = ascent_of(ROWS[name], real_logits)
        images, seconds = generate(release, ROWS[name], climb, train, options.num)
        files.write_arrays(paths[name], {"images": images})
        scores = common.scores(images, real)
        row = {"seconds_per_image": seconds / len(images)} | {key: scores[key] for key in COLUMNS}
        print(" | ".join(cells_of(name, row)), flush=True)
        return row

    rows = common.complete(options.out, ROWS, measure, classifier=options.classifier, per_class=options.num)
    print(common.table(["method", *COLUMNS.values(), "ms / image"], (cells_of(n, rows[n]) for n in ROWS)))
    kept = {name: np.load(path)["images"] for name, path in paths.items() if path.exists()}
    if kept:
        cells = np.stack([images[:: options.num][:SHOWN] for images in kept.values()])
        names = [f"{name}: {rows[name]['fd']['value']:.1f}" for name in kept]
        title = "FD of each method, EfficientNet-Lite0 features; the first image of each class"
        common.sheet(options.out, cells, names, title)
