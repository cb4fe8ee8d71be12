"""Dual training: the game's rules in closed form, and a step that leaves batch norm alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax import attacks, dual, losses, objectives, synthesis
from rsynth_jax.ascent import steepest
from rsynth_jax.attacks import Threat
from rsynth_jax.projections import box
from rsynth_jax.seeds import Seeds

RNG = np.random.default_rng(0)
SHAPE = (16, 16, 3)
IMAGES = RNG.integers(0, 256, (8, *SHAPE), np.uint8)
LABELS = np.arange(8, dtype=np.int32)
KEY = jax.random.key(0)
GAME = dual.Game(weight=5.0, threshold=0.7, most_steps=3)
SEEDS = Seeds(RNG.random((10, 8, 8, 3), np.float32), 0.05 * RNG.random((10, 4, 8, 8, 3), np.float32))
optax_dtypes = functools.partial(jax.numpy_dtype_promotion, "standard")  # optax itself mixes dtypes
OPTIMIZER = optax.sgd(0.01, 0.9)


@functools.cache
def make_step(model):
    adversary = attacks.pgd(Threat("l2", 0.5, 0.5, 1))
    step = dual.make_dual_step(model, OPTIMIZER, adversary, losses.pgd(), lambda key, x: x, GAME, 0.9)
    return jax.jit(step)


def step(model, state, key, fakes):
    with optax_dtypes():
        return make_step(model)(state, key, IMAGES, LABELS, fakes)


def test_fakes_get_a_step_more_when_a_full_window_is_above_the_threshold():
    num_steps, aucs, seen = jnp.int32(1), jnp.full(dual.WINDOW, jnp.nan), []
    for _ in range(4 * dual.WINDOW):
        num_steps, aucs = dual.raised(GAME, num_steps, jnp.append(aucs[1:], 0.8))
        seen.append(int(num_steps))
    assert seen == [1] * (dual.WINDOW - 1) + [2] * dual.WINDOW + [3] * (2 * dual.WINDOW + 1)


def test_fakes_get_no_more_steps_below_the_threshold():
    num_steps, aucs = dual.raised(GAME, jnp.int32(1), jnp.full(dual.WINDOW, 0.69))
    assert num_steps == 1 and (aucs == jnp.float32(0.69)).all()


def test_the_contrast_equals_its_formula():
    real, fake = jnp.array([2.0, -1.0]), jnp.array([0.5])
    expected = np.mean(np.log1p(np.exp([-2.0, 1.0]))) + np.log1p(np.exp(0.5))
    assert_allclose(losses.contrast(real, fake), expected, rtol=1e-6)


def test_the_evidence_is_the_log_sum_exp_of_the_logits(linear):
    image = RNG.random((4, 4, 3), np.float32)
    assert_allclose(
        objectives.evidence(linear)(image), np.log(np.sum(np.exp(linear.logits(image)))), rtol=1e-5
    )


@pytest.mark.parametrize("num_steps", [0, 1, 6])
def test_fakes_are_what_the_sampler_makes_in_as_many_steps(small, num_steps):
    model, variables = small
    fakes = dual.make_fakes(model, SEEDS, SHAPE, 0.2)
    made = fakes(variables, KEY, LABELS, num_steps)
    start = fakes(variables, KEY, LABELS, 0)

    def task(classifier, start, label):
        return synthesis.Task(start, objectives.logit(classifier, label), box())

    expected = synthesis.batched(model, task, steepest("l2", 0.2), num_steps)(variables, start, LABELS)
    assert_allclose(made, expected, atol=1e-5)
    assert made.min() >= 0 and made.max() <= 1


def test_a_step_moves_the_weights_and_leaves_batch_norm_alone(small):
    model, variables = small
    before = dual.init_state(OPTIMIZER, variables)
    state, metrics = step(model, before, KEY, RNG.random((8, *SHAPE), np.float32))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before.variables, state.variables)
    assert all(jax.tree.leaves(moved["params"])) and not any(jax.tree.leaves(moved["batch_stats"]))
    assert state.step == 1 and all(np.isfinite(value) for value in metrics)
    assert_array_equal(np.isnan(state.aucs), [True] * (dual.WINDOW - 1) + [False])


def test_real_images_and_fakes_are_told_apart_in_the_end(small):
    """Fixed fakes, so that the game can be won."""
    model, variables = small
    state, fakes, seen = dual.init_state(OPTIMIZER, variables), RNG.random((8, *SHAPE), np.float32), []
    for key in jax.random.split(KEY, 25):
        state, metrics = step(model, state, key, fakes)
        seen.append(float(metrics.real_evidence - metrics.fake_evidence))
    assert seen[-1] > seen[0] + 0.5 and metrics.auc > 0.9


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_the_step_lowers_for_accelerators(small, platform):
    model, variables = small
    state, fakes = dual.init_state(OPTIMIZER, variables), np.zeros((8, *SHAPE), np.float32)
    with optax_dtypes():
        traced = make_step(model).trace(state, KEY, IMAGES, LABELS, fakes)
        assert "convolution" in traced.lower(lowering_platforms=(platform,)).as_text()
