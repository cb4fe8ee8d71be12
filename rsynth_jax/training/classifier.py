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
from rsynth_jax.training.losses import BatchLogits, RobustLoss
from rsynth_jax.training.state import Trainer, TrainState, init_state, update, warmed_up
from rsynth_jax.types import Image, Images, Key, Labels, Scalar, Variables

Augment = Callable[[Key, Image], Image]
Perturb = Callable[..., tuple[Images, Images]]


class Setup(NamedTuple):
    """The parts of a step of training.

    Attributes:
      model: the network.
      optimizer: of its params.
      adversary: changes the training images.
      loss: of the clean and the adversarial logits.
      augment: (key, image) -> image, before the adversary.
      ema_decay: per step, of the average of the variables.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    adversary: Adversary
    loss: RobustLoss
    augment: Augment
    ema_decay: float


class Metrics(NamedTuple):
    """Metrics of one batch: the loss, and the accuracy on its adversarial images (training mode)."""

    loss: Scalar
    adversarial_accuracy: Scalar


def accuracy(logits: BatchLogits, labels: Labels) -> Scalar:
    """Return the share of rows whose largest logit is the label's."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels, dtype=jnp.float32)


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
        batch = perturb(state.variables, key, images, labels)
        params, batch_stats = state.variables["params"], state.variables["batch_stats"]
        (value, (batch_stats, correct)), grads = jax.value_and_grad(batch_loss, has_aux=True)(
            params, batch_stats, *jax.lax.stop_gradient(batch), labels
        )
        decay = warmed_up(setup.ema_decay, state.step)
        return update(setup.optimizer, state, grads, batch_stats, decay), Metrics(value, correct)

    return train_step


def make_trainer(setup: Setup) -> Trainer[TrainState]:
    """Make the trainer whose step is `make_train_step`'s."""
    return Trainer(
        init=functools.partial(init_state, setup.optimizer),
        step=jax.jit(make_train_step(setup), donate_argnums=0),
        place=lambda devices, state: devices.replicate(state),
        outcome=lambda state: {},
    )
