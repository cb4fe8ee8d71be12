"""Guards of a trainer: look at every step in the compiled program, and keep or drop what has diverged.

    trainer = skipping(trainer)                # the same trainer; a step that diverges changes nothing
    state, checked = trainer.step(state, key, images, labels)
    checked.metrics, checked.good              # `good` may be read some steps later, without a wait

A step is good if its loss is at most `LARGEST` in size, and every weight after it finite.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from rsynth_jax.training.state import State, Trainer
from rsynth_jax.types import Scalar

S = TypeVar("S", bound=State)
LARGEST = 1e6  # size of a loss, on every scale in use here; weights at rest give 0.1 to 100


class Checked(NamedTuple):
    """The metrics of a step, and whether it was good, a bool."""

    metrics: Any
    good: jax.Array

    @property
    def loss(self) -> Scalar:
        """That of the metrics."""
        return self.metrics.loss


def stopping(trainer: Trainer[S]) -> Trainer[S]:
    """Return the trainer whose metrics are `Checked`, for a loop that stops at a step that is not good."""
    return _guarded(trainer, lambda good, before, after: after)


def skipping(trainer: Trainer[S]) -> Trainer[S]:
    """Return the trainer that leaves the state of a step that is not good as it was, but for its number.

    So weights, optimizer, averages and running statistics stay, and the next step has its own batch and key.
    """

    def choose(good: jax.Array, before: S, after: S) -> S:
        return jax.tree.map(functools.partial(jnp.where, good), after, trainer.advance(before))

    return _guarded(trainer, choose)


def _guarded(trainer: Trainer[S], choose: Callable[[jax.Array, S, S], S]) -> Trainer[S]:
    """The barrier leaves the step's own program as it is, so that every guard gives the same weights."""

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: S, *batch: Any) -> tuple[S, Checked]:
        after, metrics = jax.lax.optimization_barrier(trainer.step(state, *batch))
        weights = [
            leaf
            for leaf in jax.tree.leaves(trainer.weights(after))
            if jnp.isdtype(leaf.dtype, "real floating")
        ]
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in weights]).all()
        good = finite & (jnp.abs(metrics.loss) <= LARGEST)
        return choose(good, state, after), Checked(metrics, good)

    return trainer._replace(step=step)
