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
from rsynth_jax.models import bind, layers
from rsynth_jax.training.augmentation import Augment
from rsynth_jax.training.losses import BatchLogits, RobustLoss
from rsynth_jax.training.state import (
    Trainer,
    TrainState,
    accumulated,
    descent,
    init_state,
    update,
    warmed_up,
)
from rsynth_jax.types import Classifier, Images, Key, Labels, Scalar, Variables

Perturb = Callable[..., tuple[Images, Images]]


def kept(function: Callable) -> Callable:
    """Keep all that a gradient of the function needs: the function itself."""
    return function


def rematerialized(function: Callable) -> Callable:
    """Keep only what the blocks of a network return; a gradient computes the rest again, which saves memory.

    Of networks without `layers.block_output` only the inputs are kept.
    """
    return jax.checkpoint(function, policy=jax.checkpoint_policies.save_only_these_names(layers.BLOCK))


class Setup(NamedTuple):
    """The parts of a train step: images are augmented, then attacked; the loss is of the logits of both.

    Attributes:
      keep: what gradients keep of a pass of the network: `kept` or `rematerialized`.
      num_parts: of a batch, see `state.accumulated`.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    adversary: Adversary
    loss: RobustLoss
    augment: Augment
    ema_decay: float  # per step
    keep: Callable[[Callable], Callable] = kept
    num_parts: int = 1


class Metrics(NamedTuple):
    """The loss of a batch, and the accuracy on its adversarial images, in training mode."""

    loss: Scalar
    adversarial_accuracy: Scalar


def accuracy(logits: BatchLogits, labels: Labels) -> Scalar:
    """Measure the share of rows whose logits are finite and the largest is the label's."""
    correct = jnp.isfinite(logits).all(axis=-1) & (jnp.argmax(logits, axis=-1) == labels)
    return jnp.mean(correct, dtype=jnp.float32)


def make_perturb(setup: Setup) -> Perturb:
    """Make (variables, keys (n,), images uint8, labels) -> (augmented images, adversarial images).

    The adversary sees batch norm in evaluation mode.
    """

    def perturb_one(variables, key, image, label):
        augment_key, attack_key = jax.random.split(key)
        clean = setup.augment(augment_key, decode(image))
        classifier = Classifier(setup.keep(bind(setup.model, variables).outputs))
        return clean, setup.adversary(attack_key, classifier, clean, label)

    def perturb(variables: Variables, keys: jax.Array, images, labels) -> tuple[Images, Images]:
        return jax.vmap(perturb_one, (None, 0, 0, 0))(variables, keys, images, labels)

    return perturb


def make_train_step(setup: Setup) -> Callable[..., tuple[TrainState, Metrics]]:
    """Make (state, key, images uint8 (n, h, w, c), labels (n,)) -> (state, metrics).

    The running statistics are those of the adversarial images, in every method; so a loss that does not
    read the clean logits does not pay for them.
    """
    perturb = make_perturb(setup)

    @setup.keep
    def apply(variables, images):
        return setup.model.apply(variables, images, mutable=["batch_stats"])

    def batch_loss(params, batch_stats, keys, images, labels):
        variables = {"params": params, "batch_stats": batch_stats}
        clean, adversarial = perturb(jax.lax.stop_gradient(variables), keys, images, labels)
        clean_outputs, _ = apply(variables, clean)
        outputs, updates = apply(variables, adversarial)
        value = setup.loss(clean_outputs.logits, outputs.logits, labels)
        return value, (updates.get("batch_stats", {}), accuracy(outputs.logits, labels))

    mean = accumulated(descent(batch_loss), setup.num_parts)

    def train_step(state: TrainState, key: Key, images, labels) -> tuple[TrainState, Metrics]:
        batch = (jax.random.split(key, len(images)), images, labels)
        decay = warmed_up(setup.ema_decay, state.step)
        state, loss, correct = update(setup.optimizer, state, mean, batch, decay)
        return state, Metrics(loss, correct)

    return train_step


def make_trainer(setup: Setup) -> Trainer[TrainState]:
    """Make the trainer of a classifier."""
    step = jax.jit(make_train_step(setup), donate_argnums=0)
    return Trainer(functools.partial(init_state, setup.optimizer), step)
