"""Training of a classifier on clean or adversarial images: one pure step for every method.

    step = jax.jit(make_train_step(Setup(model, optimizer, adversary, loss, augment, ema_decay=0.999)))
    state, metrics = step(init_state(optimizer, variables), key, images, labels)

A method is a pair (adversary, loss); `rsynth_jax.training.build` has the pairs by name.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from rsynth_jax.attacks.adversaries import Adversary
from rsynth_jax.images import decode
from rsynth_jax.models import bind
from rsynth_jax.training.augmentation import Augment
from rsynth_jax.training.losses import BatchLogits, RobustLoss
from rsynth_jax.training.state import Trainer, TrainState, init_state, update, warmed_up
from rsynth_jax.types import Images, Key, Labels, Scalar, Variables

Perturb = Callable[..., tuple[Images, Images]]


class Setup(NamedTuple):
    """The parts of a train step: images are augmented, then attacked; the loss is of the logits of both."""

    model: nn.Module
    optimizer: optax.GradientTransformation
    adversary: Adversary
    loss: RobustLoss
    augment: Augment
    ema_decay: float  # per step


class Metrics(NamedTuple):
    """The loss of a batch, and the accuracy on its adversarial images, in training mode."""

    loss: Scalar
    adversarial_accuracy: Scalar


def accuracy(logits: BatchLogits, labels: Labels) -> Scalar:
    """Measure the share of rows whose logits are finite and the largest is the label's."""
    correct = jnp.isfinite(logits).all(axis=-1) & (jnp.argmax(logits, axis=-1) == labels)
    return jnp.mean(correct, dtype=jnp.float32)


def make_perturb(setup: Setup) -> Perturb:
    """Make (variables, key, images uint8, labels) -> (augmented images, adversarial images).

    The adversary sees batch norm in evaluation mode; every image has a key of its own.
    """

    def perturb_one(variables, key, image, label):
        augment_key, attack_key = jax.random.split(key)
        clean = setup.augment(augment_key, decode(image))
        return clean, setup.adversary(attack_key, bind(setup.model, variables), clean, label)

    def perturb(variables: Variables, key: Key, images, labels) -> tuple[Images, Images]:
        keys = jax.random.split(key, len(images))
        return jax.vmap(perturb_one, (None, 0, 0, 0))(variables, keys, images, labels)

    return perturb


def make_train_step(setup: Setup) -> Callable[..., tuple[TrainState, Metrics]]:
    """Make (state, key, images uint8 (n, h, w, c), labels (n,)) -> (state, metrics).

    The running statistics are those of the adversarial images, in every method; so a loss that does not
    read the clean logits does not pay for them.
    """
    perturb = make_perturb(setup)

    def batch_loss(params, batch_stats, clean, adversarial, labels):
        variables = {"params": params, "batch_stats": batch_stats}
        clean_outputs, _ = setup.model.apply(variables, clean, mutable=["batch_stats"])
        outputs, updates = setup.model.apply(variables, adversarial, mutable=["batch_stats"])
        value = setup.loss(clean_outputs.logits, outputs.logits, labels)
        return value, (updates["batch_stats"], accuracy(outputs.logits, labels))

    def train_step(state: TrainState, key: Key, images, labels) -> tuple[TrainState, Metrics]:
        batch = (*perturb(state.variables, key, images, labels), labels)
        decay = warmed_up(setup.ema_decay, state.step)
        state, loss, correct = update(setup.optimizer, state, batch_loss, batch, decay)
        return state, Metrics(loss, correct)

    return train_step


def make_trainer(setup: Setup) -> Trainer[TrainState]:
    """Make the trainer of a classifier."""
    step = jax.jit(make_train_step(setup), donate_argnums=0)
    return Trainer(functools.partial(init_state, setup.optimizer), step)
