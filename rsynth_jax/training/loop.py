"""The training loop.

state = fit(trainer, state, batches, key=jax.random.key(0), devices=devices)
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax

from rsynth_jax.sharding import Devices
from rsynth_jax.training.state import State, Trainer
from rsynth_jax.types import Key

S = TypeVar("S", bound=State)


def _ignore(state: Any, step: int, metrics: Any, batch: Any) -> None:
    """Do nothing after a step."""


def fit(
    trainer: Trainer[S],
    state: S,
    batches: Iterable[tuple[Any, Any]],
    *,
    key: Key,
    devices: Devices,
    callback: Callable[[S, int, Any, tuple[Any, Any]], None] = _ignore,
) -> S:
    """Train on every batch in turn.

    The step from t to t + 1 uses `fold_in(key, t)`, so a run that continues from a stored state with the
    batches that are left equals one without a pause, bit for bit.

    Args:
      trainer: as `build.trainer` makes it.
      state: placed on the devices; its buffers are taken over.
      batches: (images uint8 (n, h, w, c), labels int32 (n,)) of each step, from the state's own step on.
      key: of the augmentation and the attacks.
      devices: over which to split each batch.
      callback: called with the state, its step, the metrics and the batch after every step.

    Returns:
      The state after the last batch.
    """
    first = int(state.step)
    for step, batch in enumerate(map(devices.split, batches), start=first):
        state, metrics = trainer.step(state, jax.random.fold_in(key, step), *batch)
        callback(state, step + 1, metrics, batch)
    return state
