"""Games and penalties in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from rsynth_jax.training import games
from rsynth_jax.training.games import GAMES

RNG = np.random.default_rng(0)
SCORES = st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=3).map(np.float32)
STEP = jnp.int32(0)


def softplus(x):
    return np.logaddexp(0, np.float64(x))


CLOSED = {  # of the generator, of the critic
    "minimax": (lambda r, f: -softplus(f), lambda r, f: softplus(-r) + softplus(f)),
    "heuristic": (lambda r, f: softplus(-f), lambda r, f: softplus(-r) + softplus(f)),
    "least-squares": (lambda r, f: (f - 1) ** 2, lambda r, f: (r - 1) ** 2 + f**2),
    "hinge": (lambda r, f: -f, lambda r, f: np.maximum(0, 1 - r) + np.maximum(0, 1 + f)),
    "relativistic": (lambda r, f: softplus(r - f), lambda r, f: softplus(f - r)),
}


def test_every_game_has_its_closed_form_here():
    assert set(CLOSED) == set(GAMES)


@pytest.mark.parametrize("name", GAMES)
@given(real=SCORES, fake=SCORES)
def test_the_losses_are_the_sums_of_their_closed_forms_over_the_heads(name, real, fake):
    for loss, closed in zip(GAMES[name], CLOSED[name], strict=True):
        expected = closed(np.float64(real), np.float64(fake)).sum()
        assert_allclose(loss(real, fake), expected, rtol=1e-5, atol=1e-5)


@given(scores=SCORES, shift=st.floats(-5, 5, width=32))
def test_the_relativistic_losses_are_log_2_a_head_at_equal_scores_and_invariant_to_a_shift(scores, shift):
    game, other = GAMES["relativistic"], scores[::-1].copy()
    for loss in game:
        assert_allclose(loss(scores, scores), 3 * np.log(2), rtol=1e-6)
        assert_allclose(loss(scores + shift, other + shift), loss(scores, other), rtol=1e-4, atol=1e-4)
    assert_allclose(game.generator(scores, other), game.critic(other, scores), rtol=1e-6)


def test_the_minimax_and_the_heuristic_gradient_have_the_same_sign_for_each_image():
    """-D and -(1 - D): the one vanishes where images are recognized, the other where they are not."""
    real, fake = jnp.zeros(100), jnp.linspace(-15, 15, 100)
    slopes = [jax.grad(GAMES[name].generator, 1)(real, fake) for name in ("minimax", "heuristic")]
    chance = 1 / (1 + np.exp(-np.float64(fake)))
    assert_allclose(slopes[0], -chance, rtol=1e-4)
    assert_allclose(slopes[1], chance - 1, rtol=1e-4)
    assert (np.sign(slopes[0]) == np.sign(slopes[1])).all()


@pytest.mark.parametrize("name", sorted(GAMES.keys() - {"hinge"}))
def test_the_critic_s_loss_is_least_for_high_real_and_low_generated_scores(name):
    loss = GAMES[name].critic
    good, even, bad = ((jnp.array([r]), jnp.array([f])) for r, f in ((1.0, 0.0), (0.5, 0.5), (0.0, 1.0)))
    assert loss(*good) < loss(*even) < loss(*bad)


def test_the_hinge_is_0_beyond_the_margins():
    assert GAMES["hinge"].critic(jnp.array([1.0, 3.0]), jnp.array([-1.0, -2.0])) == 0


# ---- penalties


def linear(slope):
    return lambda view: sum(jnp.vdot(a, x) for a, x in zip(slope, view, strict=True))


def test_r1_and_r2_of_a_linear_score_are_half_gamma_times_the_squared_length_of_its_slope():
    slope = [RNG.normal(size=shape).astype(np.float32) for shape in ((4, 4, 3), (5,))]
    real, fake = ([RNG.normal(size=a.shape).astype(np.float32) for a in slope] for _ in range(2))
    length = sum(np.sum(np.float64(a) ** 2) for a in slope)
    for penalty in (games.r1(3.0), games.r2(3.0)):
        assert_allclose(penalty(linear(slope), real, fake, STEP), 1.5 * length, rtol=1e-5)
    assert_allclose(games.squared_slope(linear(slope), real), length, rtol=1e-5)


def test_r1_of_a_quadratic_score_is_at_the_real_image_and_r2_at_the_generated_one():
    matrix = RNG.normal(size=(6, 6)).astype(np.float32)
    matrix += matrix.T
    real, fake = RNG.normal(size=(2, 6)).astype(np.float32)

    def score(view):
        return view @ matrix @ view / 2

    for penalty, view in ((games.r1(0.5), real), (games.r2(0.5), fake)):
        assert_allclose(penalty(score, real, fake, STEP), np.sum((matrix @ view) ** 2) / 4, rtol=1e-4)
    assert games.r1(1.0)(score, real, real, STEP) == games.r2(1.0)(score, real, real, STEP)
    total = games.both(games.r1(0.5), games.r2(0.5))(score, real, fake, STEP)
    parts = [penalty(score, real, fake, STEP) for penalty in (games.r1(0.5), games.r2(0.5))]
    assert_allclose(total, sum(parts), rtol=1e-6)


def test_gamma_may_be_a_schedule_of_the_step():
    schedule = optax.linear_schedule(1.0, 0.0, 10)
    score, view = linear([jnp.array([3.0, 4.0])]), [jnp.zeros(2)]
    for step, gamma in ((0, 1.0), (5, 0.5), (10, 0.0), (99, 0.0)):
        for penalty in (games.r1(schedule), games.r2(schedule)):
            assert_allclose(penalty(score, view, view, jnp.int32(step)), 12.5 * gamma, rtol=1e-6)


def test_no_penalty_is_0():
    assert games.no_penalty(linear([jnp.ones(2)]), [jnp.ones(2)], [jnp.ones(2)], STEP) == 0


def test_a_scaled_game_weighs_the_generator_s_part_alone():
    game, scores = games.GAMES["relativistic"], (jnp.array([0.3]), jnp.array([-1.0]))
    scaled = games.scaled(game, 3.0)
    assert scaled.generator(*scores) == 3 * game.generator(*scores)
    assert scaled.critic is game.critic


@pytest.mark.parametrize("name", GAMES)
def test_the_average_over_runs_of_scores_is_the_sum_of_their_means(name):
    real, fake = jnp.array([1.0, 2.0, -1.0]), jnp.array([0.5, -2.0, 3.0])
    for own, mean in zip(GAMES[name], games.averaged(GAMES[name], [2, 1]), strict=True):
        assert_allclose(mean(real, fake), own(real[:2], fake[:2]) / 2 + own(real[2:], fake[2:]), rtol=1e-6)
    for own, mean in zip(GAMES[name], games.averaged(GAMES[name], [1, 1, 1]), strict=True):
        assert_allclose(mean(real, fake), own(real, fake), rtol=1e-6)
