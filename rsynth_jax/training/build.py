"""What a recipe means: the functions that its values name.

init, step = trainer(recipe, model, steps_per_epoch, class_seeds, shape)
state, metrics = step(init(variables), key, images, labels)
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import optax

from rsynth_jax import checks, images, models
from rsynth_jax.attacks import adversaries as attacks
from rsynth_jax.attacks.adversaries import Adversary, Threat
from rsynth_jax.synthesis import class_gaussians
from rsynth_jax.synthesis.class_gaussians import ClassGaussians
from rsynth_jax.training import classifier as training
from rsynth_jax.training import dual, losses
from rsynth_jax.training.losses import RobustLoss
from rsynth_jax.training.recipes import Recipe
from rsynth_jax.types import Image, Key

METHODS = {
    "natural": lambda r: (attacks.identity(), losses.natural(r.label_smoothing)),
    "pgd": lambda r: (attacks.pgd(threat(r)), losses.pgd(r.label_smoothing)),
    "trades": lambda r: (attacks.trades(threat(r)), losses.trades(r.beta, r.label_smoothing)),
    "dual": lambda r: (attacks.pgd(threat(r)), losses.pgd(r.label_smoothing)),
}

SCHEDULES = {
    "step": lambda r, epoch: optax.piecewise_constant_schedule(
        r.learning_rate, {milestone * epoch: 0.1 for milestone in r.milestones}
    ),
    "cosine": lambda r, epoch: optax.cosine_decay_schedule(r.learning_rate, r.epochs * epoch),
    "one-cycle": lambda r, epoch: optax.cosine_onecycle_schedule(
        r.epochs * epoch, r.learning_rate, pct_start=0.25
    ),
}

OPTIMIZERS = {
    "sgd": lambda r, rate: optax.chain(
        optax.add_decayed_weights(r.weight_decay), optax.sgd(rate, r.momentum, nesterov=True)
    ),
    "adamw": lambda r, rate: optax.adamw(rate, weight_decay=r.weight_decay),
}


def check(recipe: Recipe) -> None:
    """Raise ValueError, in one line, for the first value that makes no sense."""
    r = recipe
    checks.positive(
        least_steps=r.least_steps, batch_size=r.batch_size, num_steps=r.num_steps, step_size=r.step_size
    )
    checks.positive(epochs=1 if r.epochs is None else r.epochs)
    checks.positive(learning_rate=r.learning_rate, seed_factor=r.seed_factor)
    checks.positive(fake_temperature=r.fake_temperature, fake_step_size=r.fake_step_size)
    checks.positive(fake_stride=r.fake_stride)
    if not r.fake_stride <= r.most_fake_steps <= r.fake_stride * r.batch_size:
        span = f"{r.fake_stride} ... {r.fake_stride * r.batch_size}, fake_stride to batch_size as many"
        raise ValueError(f"most_fake_steps is {r.most_fake_steps}: give {span}")
    checks.not_negative(contrast=r.contrast)
    checks.share(seed_share=r.seed_share, auc_threshold=r.auc_threshold)
    checks.not_negative(epsilon=r.epsilon, beta=r.beta, weight_decay=r.weight_decay, seed=r.seed)
    checks.not_negative(crop_padding=r.crop_padding)
    checks.below_one(momentum=r.momentum, label_smoothing=r.label_smoothing, ema_decay=r.ema_decay)
    checks.below_one(fake_noise=r.fake_noise)
    checks.named("method", r.method, METHODS)
    checks.named("schedule", r.schedule, SCHEDULES)
    checks.named("optimizer", r.optimizer, OPTIMIZERS)
    checks.named("norm", r.norm, attacks.BALLS)
    checks.positive(**{f"std {i}": value for i, value in enumerate(r.std)})
    models.create(models.Config(r.architecture, 1, r.mean, r.std, r.dtype))


def planned(recipe: Recipe, steps_per_epoch: int) -> Recipe:
    """The recipe with its epochs, if only with as many as make its least steps."""
    enough = math.ceil(recipe.least_steps / steps_per_epoch)
    return recipe._replace(epochs=enough if recipe.epochs is None else recipe.epochs)


def threat(recipe: Recipe) -> Threat:
    """What the training adversary may do."""
    return Threat(recipe.norm, recipe.epsilon, recipe.step_size, recipe.num_steps)


def method(recipe: Recipe) -> tuple[Adversary, RobustLoss]:
    """The pair that is the training method."""
    return checks.named("method", recipe.method, METHODS)(recipe)


def schedule(recipe: Recipe, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate of every step."""
    return checks.named("schedule", recipe.schedule, SCHEDULES)(recipe, steps_per_epoch)


def optimizer(recipe: Recipe, steps_per_epoch: int) -> optax.GradientTransformation:
    """The optimizer under its schedule."""
    rate = schedule(recipe, steps_per_epoch)
    return checks.named("optimizer", recipe.optimizer, OPTIMIZERS)(recipe, rate)


def augment(recipe: Recipe) -> Callable[[Key, Image], Image]:
    """Random crop and flip of one image."""

    def crop_and_flip(key: Key, image: Image) -> Image:
        crop_key, flip_key = jax.random.split(key)
        return images.random_flip(flip_key, images.random_crop(crop_key, image, recipe.crop_padding))

    return crop_and_flip


class Trainer(NamedTuple):
    """init(variables) -> state; step(state, key, images uint8, labels) -> (state, metrics), compiled."""

    init: Callable
    step: Callable


def trainer(
    recipe: Recipe,
    model: nn.Module,
    steps_per_epoch: int,
    class_seeds: ClassGaussians,
    shape: tuple[int, int, int],
) -> Trainer:
    """The recipe as a pair of functions for images of `shape`; dual training's fakes start at the seeds."""
    rule, parts = optimizer(recipe, steps_per_epoch), (*method(recipe), augment(recipe))
    if recipe.method != "dual":
        step = training.make_train_step(model, rule, *parts, recipe.ema_decay)
        return Trainer(functools.partial(training.init_state, rule), jax.jit(step, donate_argnums=0))
    r, length = recipe, recipe.fake_step_size * shape[0] / 32
    game = dual.Game(r.contrast, r.fake_noise, length, r.fake_stride, r.most_fake_steps, r.auc_threshold)
    init = functools.partial(dual.init_state, rule, game, (recipe.batch_size, *shape))
    step = jax.jit(dual.make_dual_step(model, rule, *parts, game, recipe.ema_decay), donate_argnums=1)
    return Trainer(
        init, functools.partial(step, class_gaussians.with_temperature(class_seeds, recipe.fake_temperature))
    )
