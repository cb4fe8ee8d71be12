"""Guards of a trainer: a good step is as without one; one that diverges is found, or changes nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_array_equal

from rsynth_jax.training import dual, finite
from rsynth_jax.training import state as states
from rsynth_jax.training.classifier import Metrics
from rsynth_jax.training.recipes import DualValues
from rsynth_jax.training.state import Trainer

OPTIMIZER = optax.sgd(0.5, momentum=0.9)
VARIABLES = {"params": {"w": np.float32([1.0, -2.0])}, "batch_stats": {"mean": np.float32([0.5])}}
GOOD = np.float32([0.3, 0.7])
BAD = {
    "a loss that is NaN": np.float32([np.nan, 0.0]),
    "a loss that is infinite": np.float32([np.inf, 0.0]),
    "a loss that is too large": np.float32([2e6, 0.0]),
    "a weight that is not finite": np.float32([0.0, -1.0]),  # see below
}


def trainer() -> Trainer:
    """Of the loss of two weights, linear in the batch; a negative value makes a gradient infinite."""

    def batch_loss(params, batch_stats, batch):
        stats = {"mean": batch_stats["mean"] + 0.25}
        broken = jnp.where(batch[1] < 0, jnp.inf, 1.0) * (
            params["w"][1] - jax.lax.stop_gradient(params["w"][1])
        )
        return batch @ jnp.abs(params["w"]) + jnp.where(batch[1] < 0, broken, 0.0), (stats, ())

    def step(state, key, batch):
        state, loss, _ = states.update(OPTIMIZER, state, states.descent(batch_loss), (batch,), 0.5)
        return state, Metrics(loss, jnp.zeros(()))

    return Trainer(functools.partial(states.init_state, OPTIMIZER), jax.jit(step, donate_argnums=0))


def trained(guard, *batches):
    made = guard(trainer())
    state, flags = made.init(VARIABLES), []
    for batch in batches:
        state, checked = made.step(state, jax.random.key(0), batch)
        flags.append(checked.good)
    return state, [bool(flag) for flag in flags]


def same(one, other) -> None:
    jax.tree.map(assert_array_equal, one, other)


def test_a_guard_changes_no_bit_of_steps_that_are_good():
    bare, _ = trained(lambda made: made._replace(step=lambda *args: with_flag(made.step(*args))), GOOD, GOOD)
    for guard in (finite.stopping, finite.skipping):
        state, flags = trained(guard, GOOD, GOOD)
        same(state, bare)
        assert flags == [True, True] and state.step == 2


def with_flag(result):
    state, metrics = result
    return state, finite.Checked(metrics, jnp.array(True))


@pytest.mark.parametrize("cause", BAD)
def test_a_step_that_diverges_is_found_and_skipped_as_if_it_had_not_been(cause):
    _, flags = trained(finite.stopping, GOOD, BAD[cause])
    assert flags == [True, False]
    state, flags = trained(finite.skipping, GOOD, BAD[cause], GOOD)
    assert flags == [True, False, True] and state.step == 3
    without, _ = trained(finite.stopping, GOOD, GOOD)
    same(state._replace(step=2), without._replace(step=2))


def test_a_state_that_holds_another_is_advanced_by_its_own_trainer():
    inner = states.init_state(OPTIMIZER, VARIABLES)
    state = dual.init_state(OPTIMIZER, DualValues(), (2, 4, 4, 3), VARIABLES)
    same(state.train, inner)
    advanced = dual.advance(state)
    assert advanced.step == 1 and isinstance(advanced, dual.DualState)
    same(advanced._replace(train=inner), state)
