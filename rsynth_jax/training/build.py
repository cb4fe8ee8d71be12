"""From a recipe's values to the functions that they name.

trainer = build.trainer(recipe, model, steps_per_epoch, class_gaussians, (32, 32, 3))
state, metrics = trainer.step(trainer.init(variables), key, images, labels)
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import optax

from rsynth_jax import checks, images, models
from rsynth_jax.attacks import adversaries, threats
from rsynth_jax.attacks.adversaries import Adversary
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.models import enlargement
from rsynth_jax.storage.releases import Release, config_of
from rsynth_jax.synthesis.class_gaussians import ClassGaussians
from rsynth_jax.synthesis.norms import NORMS
from rsynth_jax.training import augmentation, classifier, dual, losses
from rsynth_jax.training.augmentation import Augment
from rsynth_jax.training.classifier import Setup
from rsynth_jax.training.losses import RobustLoss
from rsynth_jax.training.recipes import DualValues, GaussianValues, Recipe, flat, replace
from rsynth_jax.training.state import Trainer

Shape = tuple[int, int, int]  # of an image: (height, width, channels)
MakeTrainer = Callable[[Setup, Recipe, ClassGaussians, Shape], Trainer[Any]]


class Method(NamedTuple):
    """A method of training, each part made from the recipe.

    One that `continues` starts from a robust classifier of the same classes, and keeps its threat model and
    class Gaussians.
    """

    adversary: Callable[[Recipe], Adversary]
    loss: Callable[[Recipe], RobustLoss]
    make_trainer: MakeTrainer = lambda setup, *_: classifier.make_trainer(setup)
    continues: bool = False


_PGD = Method(lambda r: adversaries.pgd(threat(r), steps(r)), lambda r: losses.pgd(r.label_smoothing))

METHODS = {
    "natural": Method(lambda r: adversaries.identity(), lambda r: losses.natural(r.label_smoothing)),
    "pgd": _PGD,
    "trades": Method(
        lambda r: adversaries.trades(threat(r), steps(r)), lambda r: losses.trades(r.beta, r.label_smoothing)
    ),
    "dual": _PGD._replace(make_trainer=dual.make_trainer, continues=True),
}

SCHEDULES = {
    "step": lambda o, num_epochs, epoch: optax.piecewise_constant_schedule(
        o.learning_rate, {milestone * epoch: 0.1 for milestone in o.milestones}
    ),
    "cosine": lambda o, num_epochs, epoch: optax.cosine_decay_schedule(o.learning_rate, num_epochs * epoch),
    "one-cycle": lambda o, num_epochs, epoch: optax.cosine_onecycle_schedule(
        num_epochs * epoch, o.learning_rate, pct_start=0.25
    ),
}

OPTIMIZERS = {
    "sgd": lambda o, rate: optax.chain(
        optax.add_decayed_weights(o.weight_decay), optax.sgd(rate, o.momentum, nesterov=True)
    ),
    "adamw": lambda o, rate: optax.adamw(rate, weight_decay=o.weight_decay),
}


_TABLES = {"method": METHODS, "schedule": SCHEDULES, "optimizer": OPTIMIZERS, "norm": NORMS}

_RANGES = {
    checks.positive: (
        *(
            "least_steps",
            "batch_size",
            "accumulation",
            "num_steps",
            "step_size",
            "learning_rate",
            "seed_factor",
        ),
        *("fake_temperature", "fake_step_size", "fake_stride"),
    ),
    checks.not_negative: ("epsilon", "beta", "weight_decay", "contrast", "crop_padding", "view_shift"),
    checks.seed: ("seed",),
    checks.below_one: ("momentum", "label_smoothing", "ema_decay", "fake_noise"),
    checks.share: ("seed_share", "auc_threshold"),
}

_READERS = {"beta": ("method", "trades"), "momentum": ("optimizer", "sgd")}  # all else is read by all
_READERS |= {name: ("method", "dual") for name in DualValues._fields}


def validate(recipe: Recipe) -> None:
    """Check every value that is read. Raises ValueError for the first one that makes no sense."""
    values = flat(recipe)
    unread = {name for name, (kind, reader) in _READERS.items() if values[kind] != reader}
    for check, names in _RANGES.items():
        check(**{name: values[name] for name in names if name not in unread})
    for kind, table in _TABLES.items():
        checks.named(kind, values[kind], table)
    checks.given(checks.positive, epochs=recipe.epochs)
    _check_accumulation(recipe)
    numbers = {name: value for name, value in values.items() if isinstance(value, float)}
    checks.finite(mean=recipe.network.mean, **numbers)  # those that are not read too: files hold them
    checks.not_negative(**{f"milestone {i}": epoch for i, epoch in enumerate(recipe.optimizer.milestones)})
    checks.positive(**{f"std {i}": value for i, value in enumerate(recipe.network.std)})
    stride = recipe.dual.fake_stride
    most = range(stride, stride * recipe.batch_size + 1)
    if "most_fake_steps" not in unread and recipe.dual.most_fake_steps not in most:
        span = f"{stride} ... {most[-1]}, fake_stride to batch_size as many"
        raise ValueError(f"most_fake_steps is {recipe.dual.most_fake_steps}: give {span}")
    threats.check(threat(recipe))
    models.create(config(recipe, num_classes=1))


def _check_accumulation(recipe: Recipe) -> None:
    num = recipe.accumulation
    if num > 1 and recipe.method == "dual":
        raise ValueError("dual training compares all fakes of a batch: leave out --accumulation")
    if recipe.batch_size % num:
        raise ValueError(f"accumulation is {num}: give a divisor of the batch size, {recipe.batch_size}")


def with_epochs(recipe: Recipe, steps_per_epoch: int) -> Recipe:
    """Return the recipe with its number of epochs, if it has none as many as make its least steps."""
    return recipe._replace(epochs=recipe.epochs or math.ceil(recipe.least_steps / steps_per_epoch))


def recipe_from_release(recipe: Recipe, release: Release) -> Recipe:
    """Return the recipe with the network of the classifier from which it goes on, or with it enlarged.

    A method that continues a classifier also keeps its threat model, adversary and class Gaussians.
    """
    own = config_of(release)
    if (own.architecture, recipe.network.architecture) in enlargement.ENLARGEMENTS:
        own = own._replace(architecture=recipe.network.architecture)
    recipe = replace(recipe, architecture=own.architecture, mean=own.mean, std=own.std)
    if not method(recipe).continues:
        return recipe
    kept = {name: release.recipe[name] for name in GaussianValues._fields if name in release.recipe}
    kept |= {"norm": release.threat.norm.name, "epsilon": release.threat.epsilon}
    return replace(recipe, **release.steps._asdict(), **kept)


def config(recipe: Recipe, num_classes: int) -> models.Config:
    """Return the network's description."""
    return models.Config(num_classes=num_classes, **recipe.network._asdict())


def method(recipe: Recipe) -> Method:
    """Return the method of training. Raises ValueError for an unknown name."""
    return checks.named("method", recipe.method, METHODS)


def threat(recipe: Recipe) -> Threat:
    """Return the threat model of the training adversary."""
    return Threat(checks.named("norm", recipe.attack.norm, NORMS), recipe.attack.epsilon)


def steps(recipe: Recipe) -> Steps:
    """Return the steps of the training adversary."""
    return Steps(recipe.attack.step_size, recipe.attack.num_steps)


def schedule(recipe: Recipe, steps_per_epoch: int) -> optax.Schedule:
    """Return the learning rate as a function of the step. Raises ValueError for an unknown name."""
    make = checks.named("schedule", recipe.optimizer.schedule, SCHEDULES)
    return make(recipe.optimizer, recipe.epochs, steps_per_epoch)


def optimizer(recipe: Recipe, steps_per_epoch: int) -> optax.GradientTransformation:
    """Return the optimizer under its schedule. Raises ValueError for an unknown name."""
    rate = schedule(recipe, steps_per_epoch)
    return checks.named("optimizer", recipe.optimizer.optimizer, OPTIMIZERS)(recipe.optimizer, rate)


def augment(recipe: Recipe) -> Augment:
    """Return the random crop and flip of one image."""
    crop = functools.partial(images.random_crop, padding=recipe.crop_padding)
    return augmentation.chain(crop, images.random_flip)


def trainer(
    recipe: Recipe, model: nn.Module, steps_per_epoch: int, gaussians: ClassGaussians, image_shape: Shape
) -> Trainer[Any]:
    """Build the trainer of a recipe with its epochs, for the network of its `config`."""
    way = method(recipe)
    setup = Setup(
        model=model,
        optimizer=optimizer(recipe, steps_per_epoch),
        adversary=way.adversary(recipe),
        loss=way.loss(recipe),
        augment=augment(recipe),
        ema_decay=recipe.optimizer.ema_decay,
        keep=classifier.rematerialized if recipe.remat else classifier.kept,
        num_parts=recipe.accumulation,
    )
    return way.make_trainer(setup, recipe, gaussians, image_shape)
