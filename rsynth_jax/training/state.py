"""The state of training, its update, and the form of every way to train.

trainer = build.trainer(recipe, model, steps_per_epoch, class_gaussians, image_shape)
state = trainer.place(devices, trainer.init(variables))
state, metrics = trainer.step(state, key, images, labels)
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import optax

from rsynth_jax import convolutions
from rsynth_jax.sharding import Devices
from rsynth_jax.storage import train_states
from rsynth_jax.types import Scalar, Variables


class State(train_states.State, Protocol):
    """The state of any trainer: a NamedTuple with a step and the average of what is trained."""

    @property
    def ema(self) -> Variables: ...

    def _replace(self, **fields: Any) -> Any: ...


class ClassifierState(State, Protocol):
    """The state of any trainer of a classifier."""

    @property
    def variables(self) -> Variables: ...


class TrainState(NamedTuple):
    """The state of every method; `ema` is the average of the variables, for evaluation and release."""

    step: jax.Array  # steps done, int32
    variables: Variables
    opt_state: optax.OptState
    ema: Variables


S = TypeVar("S", bound=State)
BatchLoss = Callable[..., tuple[Scalar, tuple[Any, Any]]]  # -> the loss, (new batch statistics, any more)
Descent = Callable[
    ..., tuple[tuple[Scalar, tuple[Any, Any]], Any]
]  # -> what a `BatchLoss` returns, gradients


class Trainer(NamedTuple, Generic[S]):
    """A way to train: all that a training loop needs of it.

    Attributes:
      init: variables -> the state before the first step.
      step: (state, key, images uint8 (n, h, w, c), labels (n,)) -> (state, metrics), compiled. It takes over
        the state's buffers. The metrics are a NamedTuple of scalars, the loss among them.
      place: (devices, state) -> the state on the devices: everywhere, or split as a batch is.
      outcome: state -> what a release records about the training besides its recipe, as plain values.
      weights: state -> the part of it that is finite in every training that goes well.
      advance: state -> the same after one step more.
    """

    init: Callable[[Variables], S]
    step: Callable[..., tuple[S, Any]]
    place: Callable[[Devices, S], S] = lambda devices, state: devices.place(state)
    outcome: Callable[[S], dict[str, Any]] = lambda state: {}
    weights: Callable[[S], Any] = lambda state: state
    advance: Callable[[S], S] = lambda state: state._replace(step=state.step + 1)


def init_state(optimizer: optax.GradientTransformation, variables: Variables) -> TrainState:
    """Return the state before the first step, in buffers of its own."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=jax.tree.map(jnp.array, variables),
        opt_state=optimizer.init(variables["params"]),
        ema=jax.tree.map(jnp.array, variables),
    )


def descent(batch_loss: BatchLoss) -> Descent:
    """Make (params, batch statistics, *batch) -> the loss and what comes with it, and the gradients."""
    return jax.value_and_grad(batch_loss, has_aux=True)


def accumulated(descent: Descent, num: int) -> Descent:
    """Take the mean of a descent over `num` equal parts of the batch, one after the other.

    It needs the memory of a part. Batch norm normalizes each part by itself. Part i has the rows i, i + num,
    i + 2 num ..., so that every device has rows of every part.

    Args:
      descent: all that it returns is a mean over its batch.
      num: divides the batch size.
    """
    if num == 1:
        return descent

    def mean(params: Any, batch_stats: Any, *batch: Any) -> Any:
        def add(total: Any, part: Any) -> tuple[Any, None]:
            found = descent(params, batch_stats, *part)
            return jax.tree.map(lambda one, other: one + other / num, total, found), None

        def of_parts(leaf: jax.Array) -> jax.Array:
            return jnp.swapaxes(leaf.reshape(len(leaf) // num, num, *leaf.shape[1:]), 0, 1)

        parts = jax.tree.map(of_parts, batch)
        first = jax.tree.map(lambda leaf: leaf[0], parts)
        shapes = jax.eval_shape(descent, params, batch_stats, *first)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return convolutions.scan(add, zeros, parts)[0]

    return mean


def update(
    optimizer: optax.GradientTransformation,
    state: TrainState,
    descent: Descent,
    batch: Sequence[Any],
    decay: float | Scalar,
) -> tuple[TrainState, Scalar, Any]:
    """Take one step down the loss, and ema <- decay * ema + (1 - decay) * variables, with the new variables.

    Args:
      descent: of the params, the batch statistics and the batch.
      decay: in [0, 1).

    Returns:
      The new state, the loss, and what else comes with it.
    """
    params, batch_stats = state.variables["params"], state.variables["batch_stats"]
    (loss, (batch_stats, more)), grads = descent(params, batch_stats, *batch)
    updates, opt_state = optimizer.update(grads, state.opt_state, params)
    variables: Variables = {"params": optax.apply_updates(params, updates), "batch_stats": batch_stats}
    ema: Any = optax.incremental_update(variables, state.ema, 1 - decay)
    return TrainState(state.step + 1, variables, opt_state, ema), loss, more


def warmed_up(decay: float, step: jax.Array) -> Scalar:
    """Return min(decay, (1 + t) / (10 + t)) at step t, so that an average forgets its first values soon."""
    t = step.astype(jnp.float32)
    return jnp.minimum(decay, (1 + t) / (10 + t))
