"""The state of training: it starts in buffers of its own, and one update moves and averages the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax.training import state as states

VARIABLES = {"params": {"w": np.float32([1.0, -2.0])}, "batch_stats": {"mean": np.float32([0.5])}}
OPTIMIZER = optax.sgd(0.5)


def updated(decay):
    """The state after a step of gradient 2 and new statistics."""

    def batch_loss(params, batch_stats, factor):
        return jnp.sum(factor * params["w"]), ({"mean": batch_stats["mean"] + 0.25}, "more")

    state = states.init_state(OPTIMIZER, VARIABLES)
    state, loss, more = states.update(
        OPTIMIZER, state, states.descent(batch_loss), (jnp.float32(2.0),), decay
    )
    assert loss == -2 and more == "more"
    return state


@pytest.mark.parametrize("step, decay", [(0, 0.1), (8, 0.5), (10**6, 0.9)])
def test_a_decay_is_warmed_up_with_the_age_of_the_run(step, decay):
    """min(0.9, (1 + t) / (10 + t))."""
    assert_allclose(states.warmed_up(0.9, jnp.array(step)), decay, rtol=1e-6)


def test_the_first_state_shares_no_buffer_so_that_it_can_be_donated():
    state = states.init_state(OPTIMIZER, jax.tree.map(jnp.array, VARIABLES))
    leaves = jax.tree.leaves((state.variables, state.ema))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)
    assert state.step == 0 and state.step.dtype == jnp.int32


def test_an_update_counts_descends_and_keeps_the_new_statistics():
    state = updated(0.0)
    assert state.step == 1
    assert_array_equal(state.variables["params"]["w"], [0.0, -3.0])
    assert_array_equal(state.variables["batch_stats"]["mean"], [0.75])


@pytest.mark.parametrize("decay", [0.0, 0.25])
def test_an_update_averages_the_new_variables_into_the_old_average(decay):
    ema = updated(jnp.float32(decay)).ema
    assert_allclose(ema["params"]["w"], decay * np.array([1.0, -2.0]) + (1 - decay) * np.array([0.0, -3.0]))
    assert_allclose(ema["batch_stats"]["mean"], decay * np.array([0.5]) + (1 - decay) * np.array([0.75]))
