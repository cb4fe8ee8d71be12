"""Closed forms of the ascent, and the laws of its wrappers and of its two loops."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax import checks
from rsynth_jax.synthesis import projections
from rsynth_jax.synthesis.ascent import (
    Ascent,
    best_so_far,
    chunks,
    projected_gradient_ascent,
    run,
    steepest,
    stop_when,
    with_step_keys,
)
from rsynth_jax.synthesis.norms import L2, LINF, NORMS

RNG = np.random.default_rng(2)
WEIGHTS = RNG.normal(size=(4, 4, 3)).astype(np.float32)
START, PEAK = RNG.random((2, 4, 4, 3), np.float32)
everywhere = projections.chain()


def plane(image):
    return jnp.sum(WEIGHTS * image)


def hill(image):
    return -jnp.sum((image - PEAK) ** 2)


def trajectory(ascent, image, num_steps):
    """The states x_0 ... x_T, stacked, and the infos of the T steps."""
    states, infos, step = [ascent.init(image)], [], jax.jit(ascent.step)
    for _ in range(num_steps):
        state, info = step(states[-1])
        states, infos = [*states, state], [*infos, info]
    return stacked(states), stacked(infos)


def stacked(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def lengths(images):
    return np.linalg.norm(np.diff(images, axis=0).reshape(len(images) - 1, -1), axis=1)


def overshooting():
    return projected_gradient_ascent(hill, projections.box(), steepest(L2, 1.1))


def test_a_plane_in_an_l2_ball_is_climbed_to_its_highest_point():
    ascent = projected_gradient_ascent(plane, projections.l2_ball(START, 0.7), steepest(L2, 0.3))
    expected = START + 0.7 * WEIGHTS / np.linalg.norm(WEIGHTS)
    assert_allclose(run(ascent, START, 4)[0], expected, atol=1e-6)


def test_a_plane_in_an_linf_ball_is_climbed_to_its_highest_corner():
    ascent = projected_gradient_ascent(plane, projections.linf_ball(START, 0.7), steepest(LINF, 0.3))
    assert_allclose(run(ascent, START, 4)[0], START + 0.7 * np.sign(WEIGHTS), atol=1e-6)


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_steepest_l2_moves_by_its_step_size_whatever_the_objectives_scale(factor):
    ascent = projected_gradient_ascent(lambda x: factor * hill(x), everywhere, steepest(L2, 0.05))
    states, _ = trajectory(ascent, START, 5)
    assert_allclose(lengths(states.point), np.full(5, 0.05), rtol=1e-4)


def test_steepest_linf_moves_every_pixel_by_its_step_size():
    states, _ = trajectory(projected_gradient_ascent(plane, everywhere, steepest(LINF, 0.05)), START, 3)
    assert_allclose(np.abs(np.diff(states.point, axis=0)), np.full((3, 4, 4, 3), 0.05), rtol=1e-4)


@pytest.mark.parametrize("norm", [L2, LINF], ids=["l2", "linf"])
def test_where_the_gradient_is_zero_steepest_stays(norm):
    ascent = projected_gradient_ascent(lambda x: 0.0 * plane(x), everywhere, steepest(norm, 0.5))
    assert_array_equal(run(ascent, START, 2)[0], START)


def test_an_unknown_norm_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'l1'.*l2, linf"):
        checks.named("norm", "l1", NORMS)


def test_the_step_size_may_be_a_schedule():
    ascent = projected_gradient_ascent(plane, everywhere, steepest(L2, optax.linear_schedule(0.5, 0.1, 4)))
    states, _ = trajectory(ascent, START, 5)
    assert_allclose(lengths(states.point), [0.5, 0.4, 0.3, 0.2, 0.1], rtol=1e-4)


def test_adam_climbs_a_hill():
    ascent = projected_gradient_ascent(hill, everywhere, optax.adam(0.02))
    with jax.numpy_dtype_promotion("standard"):  # optax's own bias correction mixes dtypes
        _, info = run(ascent, START, 20)
    assert (np.diff(info.value) > 0).all()


def test_momentum_lengthens_the_steps_on_a_plane_as_a_geometric_sum():
    momentum = optax.chain(
        optax.normalize_by_update_norm(), optax.trace(0.9), optax.scale_by_learning_rate(0.1)
    )
    states, _ = trajectory(projected_gradient_ascent(plane, everywhere, momentum), START, 4)
    assert_allclose(lengths(states.point), 0.1 * np.cumsum(0.9 ** np.arange(4)), rtol=1e-4)


def test_every_iterate_lies_in_the_set():
    inside = projections.ball_in_box(START, 0.4)
    states, _ = trajectory(projected_gradient_ascent(plane, inside, steepest(L2, 0.3)), START + 5, 4)
    offsets = (states.point - START).reshape(5, -1)
    assert (np.linalg.norm(offsets, axis=1) <= 0.4 + 1e-6).all()
    assert states.point.min() >= 0 and states.point.max() <= 1


def test_best_so_far_answers_with_the_best_image_measured():
    states, infos = trajectory(overshooting(), START, 9)
    best = np.argmax(infos.value)
    assert best < 8  # the ascent does overshoot: its last image is not its best
    image, info = run(best_so_far(overshooting()), START, 9)
    assert_allclose(image, states.point[best], atol=1e-6)
    assert_allclose(info.value, infos.value, rtol=1e-5)


def test_the_best_value_never_falls():
    states, infos = trajectory(best_so_far(overshooting()), START, 9)
    assert (np.diff(infos.value) < 0).any()
    assert_allclose(states.value[1:], np.maximum.accumulate(infos.value))


def test_best_so_far_is_an_ascent_and_wrapping_it_again_changes_nothing():
    once = best_so_far(overshooting())
    assert isinstance(once, Ascent)
    assert_allclose(run(best_so_far(once), START, 9)[0], run(once, START, 9)[0], atol=1e-6)


def test_info_tells_every_step_from_the_projected_start_on():
    _, info = run(overshooting(), START + 3, 7)
    assert info.value.shape == info.grad_norm.shape == (7,)
    first = projections.box()(START + 3)
    assert_allclose(info.value[0], hill(first), rtol=1e-5)
    assert_allclose(info.grad_norm[0], np.linalg.norm((2 * (first - PEAK)).ravel()), rtol=1e-5)


def test_vmap_of_run_is_the_loop():
    starts = RNG.random((3, 4, 4, 3), np.float32)

    def climb(start):
        ascent = projected_gradient_ascent(hill, projections.l2_ball(start, 0.5), steepest(L2, 0.2))
        return run(ascent, start, 5)[0]

    assert_allclose(jax.vmap(climb)(starts), [climb(start) for start in starts], atol=1e-6)


def test_the_loop_equals_a_plain_scan():
    ascent = overshooting()
    state, values = jax.lax.scan(lambda state, _: ascent.step(state), ascent.init(START), length=5)
    image, info = run(ascent, START, 5)
    assert_allclose(image, state.point, atol=1e-6)
    assert_allclose(info.value, values.value, rtol=1e-5)


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_the_steps_are_one_loop(platform):
    climb = jax.jit(lambda start: run(overshooting(), start, 5))
    program = climb.trace(START).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.while") == 1


@pytest.mark.parametrize(
    "wrap", [lambda climb: climb, lambda climb: with_step_keys(jax.random.key(0), lambda _: climb)]
)
def test_to_stop_costs_no_pass_of_its_own(wrap):
    """In a loop, the objective and the test of where to stop look at one point: their passes are one."""
    weights = RNG.random((48, 48), np.float32)

    def score(image):
        return jnp.sum(jnp.tanh(image.ravel() @ weights))

    climb = projected_gradient_ascent(score, projections.box(), steepest(L2, 0.1))
    stopped = stop_when(lambda image: score(image) > 1e9, wrap(climb))
    program = jax.jit(lambda start: run(stopped, start, 5)[0]).lower(START).compile()
    assert len(re.findall(r" dot\(", program.as_text())) == 2  # the score and its gradient


def wandering(key):
    """Adds a normal draw to the image at each step, whatever the objective."""
    noise = optax.stateless(lambda updates, _: jax.random.normal(key, updates.shape))
    return projected_gradient_ascent(plane, everywhere, noise)


def test_an_ascent_with_step_keys_draws_a_new_key_for_every_step():
    walk = with_step_keys(jax.random.key(0), wandering)
    step, state = jax.jit(walk.step), walk.init(START)
    images = [START]
    for _ in range(6):
        state, _ = step(state)
        images.append(state.point)
    moves = np.diff(images, axis=0)
    assert_allclose(np.corrcoef(moves.reshape(6, -1)), np.eye(6), atol=0.5)
    assert 0.7 < moves.std() < 1.3


def test_an_ascent_with_step_keys_depends_on_its_key_alone():
    walk = jax.jit(lambda key: run(with_step_keys(key, wandering), START, 3)[0])
    first, again, other = (walk(jax.random.key(seed)) for seed in (0, 0, 1))
    assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_an_ascent_that_draws_nothing_is_itself():
    plain = projected_gradient_ascent(hill, projections.box(), steepest(L2, 0.2))
    assert_allclose(
        run(with_step_keys(jax.random.key(0), lambda _: plain), START, 5)[0], run(plain, START, 5)[0]
    )


@pytest.mark.parametrize(
    ("num_steps", "most", "expected"),
    [
        (0, 10, ()),
        (1, 10, (1,)),
        (10, 10, (10,)),
        (15, 10, (5, 5, 5)),
        (40, 10, (10, 10, 10, 10)),
        (13, 10, (10, 3)),
        (26, 10, (10, 10, 6)),
        (15, 2, (1,) * 15),
    ],
)
def test_chunks_are_equal_where_a_long_one_divides_and_else_leave_a_remainder(num_steps, most, expected):
    assert chunks(num_steps, most) == expected


# ---- a point is any pytree


def split(image):
    """An image as a tree of two leaves: its first row, and its other rows."""
    return {"row": image[:1], "rest": (image[1:],)}


def joined(tree):
    return jnp.concatenate([tree["row"], *tree["rest"]])


def test_a_plane_in_an_l2_ball_over_a_tree_is_climbed_to_its_highest_point():
    weights, start = split(WEIGHTS), split(START)

    def slope(tree):
        return optax.tree.vdot(weights, tree)

    climb = projected_gradient_ascent(slope, projections.l2_ball(start, 0.7), steepest(L2, 0.3))
    tree, info = run(climb, start, 4)
    assert_allclose(joined(tree), START + 0.7 * WEIGHTS / np.linalg.norm(WEIGHTS), atol=1e-6)
    assert_allclose(info.grad_norm, np.full(4, np.linalg.norm(WEIGHTS)), rtol=1e-5)


@pytest.mark.parametrize("norm", [L2, LINF], ids=["l2", "linf"])
def test_a_step_over_a_tree_is_the_step_over_all_of_its_values(norm):
    whole = projected_gradient_ascent(hill, everywhere, steepest(norm, 0.05))
    parts = projected_gradient_ascent(lambda tree: hill(joined(tree)), everywhere, steepest(norm, 0.05))
    assert_allclose(joined(run(parts, split(START), 5)[0]), run(whole, START, 5)[0], atol=1e-6)


@pytest.mark.parametrize(
    "wrap",
    [
        best_so_far,
        lambda ascent: stop_when(lambda point: hill(as_image(point)) > -3, ascent),
        lambda ascent: with_step_keys(jax.random.key(0), lambda _: ascent),
    ],
    ids=["best", "stopped", "keyed"],
)
def test_a_wrapped_ascent_over_a_tree_is_that_over_the_image_and_keeps_how_to_decode(wrap):
    whole = projected_gradient_ascent(hill, projections.l2_ball(START, 1.5), steepest(L2, 1.1))
    climb = projected_gradient_ascent(
        lambda tree: hill(joined(tree)), projections.l2_ball(split(START), 1.5), steepest(L2, 1.1)
    )
    parts = wrap(climb._replace(decode=joined))
    assert parts.decode is joined
    assert_allclose(joined(run(parts, split(START), 6)[0]), run(wrap(whole), START, 6)[0], atol=1e-6)


def as_image(point):
    return joined(point) if isinstance(point, dict) else point


def test_an_ascent_of_images_is_the_plain_loop_bit_for_bit():
    """For an image, a pytree of one leaf, the same program as of arrays alone."""
    optimizer, inside = steepest(L2, 0.3), projections.ball_in_box(START, 0.8)

    def loop(image):
        image = inside(image)
        state = optimizer.init(image)
        for _ in range(5):
            updates, state = optimizer.update(-jax.grad(hill)(image), state, image)
            image = inside(image + updates)
        return image

    climb = projected_gradient_ascent(hill, inside, optimizer)
    assert_array_equal(jax.jit(lambda image: run(climb, image, 5)[0])(START), jax.jit(loop)(START))
    assert climb.decode(START) is START
