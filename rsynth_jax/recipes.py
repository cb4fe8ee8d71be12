"""Recipes: everything a training run depends on besides its data, as plain values under a name.

    recipe = RECIPES["cifar10-cpu"]._replace(epochs=2)
    init, step = trainer(recipe, model, steps_per_epoch=390)

`cifar10-cpu` and those of 64 pixels are this project's own, for two cores; the radius grows with the side.
The six under the paper's names (Santurkar et al. 2019) are its published settings as remembered, not checked
against its appendix here, but for restricted-imagenet, which its authors confirmed for a sister paper; none
of the six has been run to its end by this project.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import optax

from rsynth_jax import attacks, checks, dual, images, losses, models, training
from rsynth_jax.attacks import Adversary, Threat
from rsynth_jax.losses import RobustLoss
from rsynth_jax.seeds import Seeds
from rsynth_jax.types import Image, Key


class Recipe(NamedTuple):
    """How to train.

    Attributes:
      architecture: a key of `rsynth_jax.models.ARCHITECTURES`.
      method: natural, pgd, trades, or dual (from a robust classifier on).
      beta: weight of the divergence in TRADES.
      contrast: weight in dual training of telling real images from fakes.
      fake_step_size: length of a fake's step at 32 pixels; it grows with the side.
      fake_stride: steps that a fake climbs between two updates.
      most_fake_steps: that it climbs in all, once T has grown; a stride at first.
      auc_threshold: above which T grows.
      norm: l2 or linf, of the training adversary.
      epsilon: its radius, in pixel values of [0, 1].
      step_size: of one of its steps.
      num_steps: of its ascent.
      epochs: passes over the training images.
      batch_size: images a step.
      optimizer: sgd (Nesterov momentum) or adamw.
      learning_rate: the peak.
      momentum: of SGD.
      weight_decay: in the loss for SGD, decoupled for AdamW.
      schedule: step (a tenth at each milestone), cosine, or one-cycle (peak at a quarter).
      milestones: epochs at which the step schedule divides the rate by ten.
      label_smoothing: share of a label spread over all classes.
      ema_decay: of the weight average used for evaluation and release, a step.
      crop_padding: of the random crop, in pixels; 0 for none.
      mean, std: the network's first layer computes (x - mean) / std.
      dtype: of the computation, float32 or bfloat16.
      seed_factor: downsampling of the class Gaussians.
      seed_share: share of their variance to keep.
      seed: of the weights, the order, the augmentation and the attacks.
    """

    architecture: str = "resnet50"
    method: str = "pgd"
    beta: float = 6.0
    contrast: float = 1.0
    fake_step_size: float = 0.2
    fake_stride: int = 4
    most_fake_steps: int = 20
    auc_threshold: float = 0.7
    norm: str = "l2"
    epsilon: float = 0.5
    step_size: float = 0.1
    num_steps: int = 7
    epochs: int = 350
    batch_size: int = 256
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "step"
    milestones: tuple[int, ...] = (150, 250)
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    crop_padding: int = 4
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    dtype: str = "float32"
    seed_factor: int = 1
    seed_share: float = 0.95
    seed: int = 0


CIFAR10 = Recipe(epochs=350, learning_rate=0.01, batch_size=256, milestones=(150, 250))
LARGE = Recipe(
    architecture="resnet50-imagenet",
    epsilon=3.0,
    step_size=0.5,
    epochs=110,
    learning_rate=0.1,
    crop_padding=28,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    seed_factor=4,
)
PAIR = LARGE._replace(
    epsilon=5.0, step_size=0.9, epochs=350, learning_rate=0.01, batch_size=64, milestones=(50, 100)
)

SMALL = Recipe(
    architecture="resnet8",
    step_size=0.4,
    num_steps=2,
    epochs=20,
    batch_size=128,
    learning_rate=0.2,
    schedule="one-cycle",
    label_smoothing=0.05,
    ema_decay=0.998,
    seed_factor=2,
)  # for two cores
SMALL_64 = SMALL._replace(architecture="resnet8-64", crop_padding=8, seed_factor=4)
PAIR_64 = SMALL_64._replace(  # 5 * 64 / 224
    epsilon=1.429, step_size=1.143, epochs=60, batch_size=64, learning_rate=0.1
)

DUAL = SMALL._replace(
    method="dual",
    epochs=4,
    batch_size=64,
    learning_rate=0.006,
    schedule="cosine",
    ema_decay=0.999,
    crop_padding=0,  # fakes have no borders, which would tell them from real images
)

RECIPES = {
    "cifar10-cpu": SMALL,
    "restricted-imagenet-64": SMALL_64._replace(epsilon=0.857, step_size=0.7, epochs=30),  # 3 * 64 / 224
    "horse2zebra-64": PAIR_64,
    "apple2orange-64": PAIR_64,
    "summer2winter-64": PAIR_64,
    "cat-dog-64": PAIR_64._replace(epochs=20),  # four times the images
    "dual": DUAL,
    "cifar10": CIFAR10,
    "restricted-imagenet": LARGE._replace(batch_size=128, milestones=(30, 60)),
    "imagenet": LARGE._replace(batch_size=256, milestones=(100,)),
    "horse2zebra": PAIR,
    "apple2orange": PAIR,
    "summer2winter": PAIR,
}

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
    checks.positive(epochs=r.epochs, batch_size=r.batch_size, num_steps=r.num_steps, step_size=r.step_size)
    checks.positive(learning_rate=r.learning_rate, seed_factor=r.seed_factor)
    checks.positive(fake_step_size=r.fake_step_size, fake_stride=r.fake_stride)
    if not r.fake_stride <= r.most_fake_steps <= r.fake_stride * r.batch_size:
        span = f"{r.fake_stride} ... {r.fake_stride * r.batch_size}, fake_stride to batch_size as many"
        raise ValueError(f"most_fake_steps is {r.most_fake_steps}: give {span}")
    checks.not_negative(contrast=r.contrast)
    checks.share(seed_share=r.seed_share, auc_threshold=r.auc_threshold)
    checks.not_negative(epsilon=r.epsilon, beta=r.beta, weight_decay=r.weight_decay, seed=r.seed)
    checks.not_negative(crop_padding=r.crop_padding)
    checks.below_one(momentum=r.momentum, label_smoothing=r.label_smoothing, ema_decay=r.ema_decay)
    checks.named("method", r.method, METHODS)
    checks.named("schedule", r.schedule, SCHEDULES)
    checks.named("optimizer", r.optimizer, OPTIMIZERS)
    checks.named("norm", r.norm, attacks.BALLS)
    checks.positive(**{f"std {i}": value for i, value in enumerate(r.std)})
    models.create(models.Config(r.architecture, 1, r.mean, r.std, r.dtype))


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
    recipe: Recipe, model: nn.Module, steps_per_epoch: int, class_seeds: Seeds, shape: tuple[int, int, int]
) -> Trainer:
    """The recipe as a pair of functions for images of `shape`; dual training's fakes start at the seeds."""
    rule, parts = optimizer(recipe, steps_per_epoch), (*method(recipe), augment(recipe))
    if recipe.method != "dual":
        step = training.make_train_step(model, rule, *parts, recipe.ema_decay)
        return Trainer(functools.partial(training.init_state, rule), jax.jit(step, donate_argnums=0))
    r, length = recipe, recipe.fake_step_size * shape[0] / 32
    game = dual.Game(r.contrast, length, r.fake_stride, r.most_fake_steps, r.auc_threshold)
    init = functools.partial(dual.init_state, rule, game, (recipe.batch_size, *shape))
    step = jax.jit(dual.make_dual_step(model, rule, *parts, game, recipe.ema_decay), donate_argnums=1)
    return Trainer(init, functools.partial(step, class_seeds))
