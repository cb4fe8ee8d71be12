"""Training: one pure step for every method.

    train_step = jax.jit(make_train_step(model, optimizer, adversary, loss, augment, ema_decay=0.999))
    state, metrics = train_step(state, key, images, labels)

A method is a pair (adversary, loss); see `rsynth_jax.training.build` for the pairs by name.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from rsynth_jax.attacks.adversaries import Adversary
from rsynth_jax.images import decode
from rsynth_jax.models import bind
from rsynth_jax.training.losses import RobustLoss
from rsynth_jax.types import Image, Key, Scalar, Variables

Augment = Callable[[Key, Image], Image]


class TrainState(NamedTuple):
    """All that a step changes, hence all that a checkpoint holds.

    Attributes:
      step: steps done, int32.
      variables: params and batch statistics.
      opt_state: of the optimizer.
      ema: exponential moving average of the variables, for evaluation and release.
    """

    step: jax.Array
    variables: Variables
    opt_state: optax.OptState
    ema: Variables


class Metrics(NamedTuple):
    """Of one batch: the loss, and the accuracy on its adversarial images (training mode)."""

    loss: Scalar
    adversarial_accuracy: Scalar


def init_state(optimizer: optax.GradientTransformation, variables: Variables) -> TrainState:
    """The state before the first step."""
    variables, ema = (jax.tree.map(jnp.array, variables) for _ in range(2))  # own buffers, to be donated
    return TrainState(jnp.zeros((), jnp.int32), variables, optimizer.init(variables["params"]), ema)


def averaged(ema: Variables, variables: Variables, step: jax.Array, decay: float) -> Variables:
    """decay * ema + (1 - decay) * variables, with the decay held to (1 + t) / (10 + t) early on."""
    t = step.astype(jnp.float32)
    decay = jnp.minimum(decay, (1 + t) / (10 + t))
    return optax.incremental_update(variables, ema, 1 - decay)


def perturbed(model: nn.Module, adversary: Adversary, augment: Augment) -> Callable:
    """(variables, keys, images uint8, labels) -> the augmented images, and the adversarial ones."""

    def perturb(variables, key, image, label):
        augment_key, attack_key = jax.random.split(key)
        clean = augment(augment_key, decode(image))
        return clean, adversary(attack_key, bind(model, variables), clean, label)

    return jax.vmap(perturb, (None, 0, 0, 0))


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    adversary: Adversary,
    loss: RobustLoss,
    augment: Augment,
    ema_decay: float,
) -> Callable:
    """(state, key, images uint8 (n, h, w, c), labels (n,)) -> (state, metrics).

    The adversary sees batch norm in evaluation mode. The running statistics are those of the adversarial
    images, in every method; so a loss that does not read the clean logits does not pay for them.
    """
    perturb = perturbed(model, adversary, augment)

    def batch_loss(params, batch_stats, clean, adversarial, labels):
        variables = {"params": params, "batch_stats": batch_stats}
        clean_outputs, _ = model.apply(variables, clean, mutable=["batch_stats"])
        outputs, updates = model.apply(variables, adversarial, mutable=["batch_stats"])
        value = loss(clean_outputs.logits, outputs.logits, labels)
        return value, (updates["batch_stats"], accuracy(outputs.logits, labels))

    def train_step(state: TrainState, key: Key, images, labels) -> tuple[TrainState, Metrics]:
        keys = jax.random.split(key, len(images))
        clean, adversarial = perturb(state.variables, keys, images, labels)
        params, batch_stats = state.variables["params"], state.variables["batch_stats"]
        (value, (batch_stats, correct)), grads = jax.value_and_grad(batch_loss, has_aux=True)(
            params, batch_stats, clean, jax.lax.stop_gradient(adversarial), labels
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, params)
        variables = {"params": optax.apply_updates(params, updates), "batch_stats": batch_stats}
        ema = averaged(state.ema, variables, state.step, ema_decay)
        return TrainState(state.step + 1, variables, opt_state, ema), Metrics(value, correct)

    return train_step


def accuracy(logits: jax.Array, labels: jax.Array) -> Scalar:
    """The share of rows whose largest logit is the label's."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels, dtype=jnp.float32)
