"""The state of training, its update, and the form of every way to train.

trainer = build.trainer(recipe, model, steps_per_epoch, class_gaussians, image_shape)
state = trainer.place(devices, trainer.init(variables))
state, metrics = trainer.step(state, key, images, labels)
"""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import optax

from rsynth_jax.sharding import Devices
from rsynth_jax.storage import train_states
from rsynth_jax.types import Scalar, Variables


class State(train_states.State, Protocol):
    """The state of any trainer: a NamedTuple with at least a step and these."""

    @property
    def variables(self) -> Variables: ...
    @property
    def ema(self) -> Variables: ...


class TrainState(NamedTuple):
    """The state that every method of training has.

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


S = TypeVar("S", bound=State)


class Trainer(NamedTuple, Generic[S]):
    """A way to train: all that a training loop needs of it.

    Attributes:
      init: variables -> state before the first step.
      step: (state, key, images uint8 (n, h, w, c), labels (n,)) -> (state, metrics), compiled. It takes over
        the state's buffers. The metrics are a NamedTuple of scalars, the loss among them.
      place: (devices, state) -> the state on the devices: everywhere, or split as a batch is.
      outcome: state -> what a release records about the training besides its recipe, as plain values.
    """

    init: Callable[[Variables], S]
    step: Callable[..., tuple[S, Any]]
    place: Callable[[Devices, S], S]
    outcome: Callable[[S], dict[str, Any]]


def init_state(optimizer: optax.GradientTransformation, variables: Variables) -> TrainState:
    """Return the state before the first step, in buffers of its own."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=jax.tree.map(jnp.array, variables),
        opt_state=optimizer.init(variables["params"]),
        ema=jax.tree.map(jnp.array, variables),
    )


def update(
    optimizer: optax.GradientTransformation,
    state: TrainState,
    grads: Any,
    batch_stats: Any,
    decay: float | Scalar,
) -> TrainState:
    """Return the state after one step of the optimizer.

    ema <- decay * ema + (1 - decay) * variables, with the new variables.

    Args:
      grads: of the loss with respect to the params.
      batch_stats: the new batch statistics.
      decay: of the average of the variables, in [0, 1).
    """
    params = state.variables["params"]
    updates, opt_state = optimizer.update(grads, state.opt_state, params)
    variables: Variables = {"params": optax.apply_updates(params, updates), "batch_stats": batch_stats}
    ema: Any = optax.incremental_update(variables, state.ema, 1 - decay)
    return TrainState(state.step + 1, variables, opt_state, ema)


def warmed_up(decay: float, step: jax.Array) -> Scalar:
    """Return min(decay, (1 + t) / (10 + t)) at step t, so that an average forgets its first values soon."""
    t = step.astype(jnp.float32)
    return jnp.minimum(decay, (1 + t) / (10 + t))
