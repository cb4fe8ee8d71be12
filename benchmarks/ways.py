"""Ways up: what to climb, from which seeds, how fast, with what noise, and when to stop.

    made = painted(ground, Way("logit", steps=20, step_size=0.5), per_class=200)

Image i of every way starts from the same draw.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rsynth_jax import images, models
from rsynth_jax.data import loader as datasets
from rsynth_jax.sampling import embedding
from rsynth_jax.sampling import runner as expedition
from rsynth_jax.storage import releases as checkpoints
from rsynth_jax.synthesis import ascent, class_gaussians, objectives
from rsynth_jax.synthesis import tasks as synthesis
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.objectives import CLASS_OBJECTIVES
from rsynth_jax.synthesis.projections import box
from synth.generation import SCHEDULES

BATCH = 100


class Way(NamedTuple):
    """A way up.

    Attributes:
      objective: what to climb.
      seeds: truncated (the classifier's own), or full: all of the covariance, at full resolution.
      temperature: times a seed's distance from its class's mean.
      schedule, step_size, steps: of the ascent.
      momentum: decay of an average of the directions.
      noise: standard deviation of what each step adds to each value (Langevin).
      shift: pixels by which each step shifts its look at the image, at most.
      stop: stay at the first image whose logit is above its class's real images' mean by this.
    """

    objective: str = "sum"
    seeds: str = "truncated"
    temperature: float = 1.2
    schedule: str = "cosine"
    step_size: float = 0.75
    steps: int = 15
    momentum: float = 0.0
    noise: float = 0.0
    shift: int = 0
    stop: float = math.inf


class Ground(NamedTuple):
    """What every row stands on: a classifier, its seeds by kind, the mean real logit of each class."""

    release: checkpoints.Release
    model: nn.Module
    seeds: dict[str, Callable[[], class_gaussians.ClassGaussians]]
    real_logits: np.ndarray


def ground_of(classifier: str, train: datasets.Arrays) -> Ground:
    """The classifier of that name, both kinds of seeds, and the mean logits of real images."""
    release = checkpoints.load(classifier)
    model = models.create(release.config)
    batches = embedding.in_batches(train.images[:10000], BATCH)
    logits = embedding.embed(model, release.variables, batches, BATCH).logits
    labels = train.labels[:10000]
    own = np.array([logits[labels == k, k].mean() for k in range(len(release.class_names))])
    kinds = {
        "truncated": lambda: release.class_gaussians,
        "full": lambda: class_gaussians.fit(*train, len(release.class_names), factor=1, share=1.0),  # minutes
    }
    return Ground(release, model, kinds, own)


def noisy(key, deviation: float) -> optax.GradientTransformation:
    """Adds noise to an update of one image."""
    return optax.stateless(lambda update, _: update + deviation * jax.random.normal(key, update.shape))


def step_of(way: Way, score, key) -> ascent.Ascent:
    """One step up, with the key of its noise and of where it looks from."""
    look_key, noise_key = jax.random.split(key)
    size = SCHEDULES[way.schedule](way.step_size, way.steps)
    steps = [L2.direction, optax.ema(way.momentum), optax.scale_by_learning_rate(size)]
    if way.noise:
        steps.append(noisy(noise_key, way.noise))
    if way.shift:
        look = functools.partial(images.random_shift, look_key, reach=way.shift)
        score = objectives.precompose(score, look)
    return ascent.projected_gradient_ascent(score, box(), optax.chain(*steps))


def climb_of(ground: Ground, way: Way) -> synthesis.ClimbFn:
    """The way up as a start and an ascent of one image; what a way does not ask for costs it nothing."""

    def climb(classifier, start, label, key):
        score = CLASS_OBJECTIVES[way.objective](classifier, label)
        steps = ascent.drawn(key, functools.partial(step_of, way, score))

        def reached(image):
            own = objectives.logit(classifier, label)(image)
            return own >= jnp.asarray(ground.real_logits)[label] + way.stop

        return start, ascent.stop_when(reached, steps) if math.isfinite(way.stop) else steps

    return climb


def starts_of(ground: Ground, way: Way):
    """(keys, labels) -> the seeds of a row, at its temperature."""
    spread, shape = (
        class_gaussians.with_temperature(ground.seeds[way.seeds](), way.temperature),
        ground.release.image_shape,
    )
    draw = functools.partial(class_gaussians.sample, shape=shape)
    starts = jax.jit(jax.vmap(lambda spread, key, label: draw(key, spread, label), (None, 0, 0)))
    return functools.partial(starts, spread)


def painted(ground: Ground, way: Way, per_class: int) -> np.ndarray:
    """`per_class` images of each class, a class after the other."""
    starts, climb = starts_of(ground, way), synthesis.stages(ground.model, climb_of(ground, way), way.steps)
    labels = np.repeat(np.arange(len(ground.release.class_names)), per_class)
    keys = jax.random.split(jax.random.key(0), (len(labels), 2))

    def rows_of(rows: np.ndarray) -> tuple:
        return starts(keys[rows, 0], labels[rows]), labels[rows], keys[rows, 1]

    return expedition.frames(climb, ground.release.variables, rows_of, len(labels), BATCH)[-1]
