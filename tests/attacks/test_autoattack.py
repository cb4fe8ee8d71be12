"""The attacks of evaluation: closed forms on linear classifiers, and the laws of their engines."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax import checks
from rsynth_jax.attacks import apgd, autoattack, fab, square
from rsynth_jax.attacks.threats import Steps, Threat, allowed
from rsynth_jax.synthesis import ascent, objectives
from rsynth_jax.synthesis.norms import L2, LINF, NORMS
from rsynth_jax.synthesis.projections import box

RNG = np.random.default_rng(3)
IMAGE = RNG.random((12, 12, 3), np.float32)
MIDDLE = np.float32(0.4 + 0.2 * IMAGE)  # far from the bounds of the box
WEIGHTS = RNG.normal(size=(5, *IMAGE.shape)).astype(np.float32)
BIAS = -np.tensordot(WEIGHTS, MIDDLE, axes=3) + np.array([4, 1, -1, -2, -5], np.float32)
linear = tiny.classifier(
    logits=lambda image: jnp.tensordot(WEIGHTS, image, axes=3) + BIAS, features=lambda image: image.ravel()
)
EXAMPLE = autoattack.Example(MIDDLE, 0, jnp.array([4, 1, -1, -2, -5], jnp.float32))
LENGTHS = {L2: lambda x: np.linalg.norm(np.ravel(x)), LINF: lambda x: np.abs(x).max()}
every_norm = pytest.mark.parametrize("norm", LENGTHS, ids=NORMS)


def best(norm, towards, radius):
    """The offset of an l2 or linf ball that goes furthest along `towards`."""
    return radius * (towards / np.linalg.norm(towards) if norm == L2 else np.sign(towards))


def gap(norm, target):
    """How far MIDDLE is from the plane on which the target's logit is the label's."""
    normal = WEIGHTS[target] - WEIGHTS[0]
    dual = np.linalg.norm(normal) if norm == L2 else np.abs(normal).sum()
    return float(EXAMPLE.logits[0] - EXAMPLE.logits[target]) / dual


def path(climb, start, num_steps):
    """The state after every step, in a loop that the CPU need not unroll."""
    return jax.lax.scan(lambda state, _: (climb.step(state)[0],) * 2, climb.init(start), length=num_steps)[1]


@functools.partial(jax.jit, static_argnums=(0, 1))
def attempted(make, threat, index=0):
    """The image an attempt ends at, and whether it is adversarial."""
    attack = make(threat)
    start, climb = attack.attempt(jax.random.key(0), linear, EXAMPLE, index)
    image = path(climb, start, attack.num_steps).point[-1]
    return image, autoattack.is_adversarial(threat, linear, EXAMPLE, image)


ATTACKS = {
    "pgd": lambda threat: autoattack.pgd(threat, Steps(threat.epsilon / 4, 20)),
    "apgd": functools.partial(autoattack.auto_pgd, num_steps=20),
    "apgd-dlr": functools.partial(autoattack.auto_pgd, num_steps=20, loss=objectives.dlr),
    "apgd-t": functools.partial(autoattack.auto_pgd_targeted, num_steps=20),
    "fab-t": functools.partial(autoattack.fab_targeted, num_steps=20),
}
every_attack = pytest.mark.parametrize("name", ATTACKS)


def weakest(norm):
    """The class nearest to the label's plane, as `_wrong_class` counts, and its distance."""
    gaps = [gap(norm, target) for target in range(1, 5)]
    return int(np.argmin(gaps)), min(gaps)


@pytest.mark.parametrize("name", tiny.fast(ATTACKS, "pgd", "apgd-t", "fab-t"))
@every_norm
def test_an_attack_succeeds_just_beyond_the_boundary_and_not_before_it(name, norm):
    """A linear network's boundary is at a known distance: none succeeds 3 % short of it, all 12 % past it."""
    index, distance = weakest(norm)
    for factor, expected in ((0.97, False), (1.12, True)):
        threat = Threat(norm, factor * distance)
        image, adversarial = attempted(ATTACKS[name], threat, index=index)
        assert bool(adversarial) == expected
        if expected:
            assert LENGTHS[norm](image - MIDDLE) <= threat.epsilon * (1 + 1e-4)
            assert np.argmax(linear.logits(image)) != 0


@every_norm
def test_square_succeeds_without_a_gradient_and_never_short_of_the_boundary(norm):
    _, distance = weakest(norm)
    attack = functools.partial(autoattack.square_attack, num_queries=300)
    for factor, expected in ((0.97, False), (6.0, True)):
        assert bool(attempted(attack, Threat(norm, factor * distance))[1]) == expected


@every_norm
def test_auto_pgd_reaches_the_closed_form(norm):
    towards = WEIGHTS[2] - WEIGHTS[0]
    objective = objectives.difference(linear, 2, 0)
    within = allowed(Threat(norm, 0.05), MIDDLE)
    climb = apgd.auto_pgd(objective, within, norm, 0.05, 30)
    images = jax.jit(lambda: path(climb, MIDDLE, 30))().point
    assert_allclose(images[-1], MIDDLE + best(norm, towards, 0.05), atol=1e-4)


def test_auto_pgd_halves_its_step_where_it_overshoots():
    """|x| has its peak in the middle of a wide ball: only ever smaller steps come near it."""

    def objective(image):
        return -jnp.linalg.norm(image.ravel() - MIDDLE.ravel())

    within = allowed(Threat(L2, 0.4), MIDDLE)
    climb = apgd.auto_pgd(objective, within, L2, 0.4, 60)
    start = MIDDLE + best(L2, WEIGHTS[0], 0.4)
    states = jax.jit(
        lambda: jax.lax.scan(lambda s, _: (climb.step(s)[0],) * 2, climb.init(start), length=60)
    )()[1]
    sizes = np.asarray(states.step_size)
    ratios = np.unique(sizes[1:] / sizes[:-1])
    assert_allclose(ratios, [0.5, 1.0])
    assert states.peak.value[-1] > -0.02
    assert np.all(np.diff(states.peak.value) >= 0)


@every_norm
@given(seed=st.integers(0, 999), residual=st.floats(-3, 3), shift=st.floats(-0.5, 0.5))
def test_the_way_to_a_hyperplane_is_in_the_box_and_reaches_it_where_the_box_does(norm, seed, residual, shift):
    rng = np.random.default_rng(seed)
    image = np.clip(rng.random((5, 4, 3)) + shift, 0, 1).astype(np.float32)
    normal = rng.normal(size=image.shape).astype(np.float32) * (rng.random(image.shape) < 0.7)
    way = np.asarray(jax.jit(fab._to_hyperplane, static_argnums=0)(norm, image, normal, np.float32(residual)))
    assert (image + way).min() >= -1e-6 and (image + way).max() <= 1 + 1e-6
    corner = np.where(-residual * normal > 0, 1 - image, image)
    reach = float(np.sum(np.abs(normal) * corner))
    assert_allclose(abs(np.vdot(normal, way)), min(abs(residual), reach), rtol=1e-4, atol=1e-4)


@every_norm
def test_the_way_to_a_hyperplane_is_the_shortest(norm):
    normal = WEIGHTS[0]
    way = fab._to_hyperplane(norm, MIDDLE, normal, np.float32(1.5))
    dual = np.linalg.norm(normal) if norm == L2 else np.abs(normal).sum()
    assert_allclose(LENGTHS[norm](way), 1.5 / dual, rtol=1e-4)
    assert_allclose(np.vdot(normal, way), -1.5, rtol=1e-4)


@every_norm
def test_fab_comes_back_to_the_nearest_point_of_the_boundary(norm):
    """Overshooting by 5 % and drawing back by 10 %, its best crossing is near the distance itself."""
    towards, margin = objectives.difference(linear, 1, 0), objectives.margin(linear, 0)
    climb = fab.fab(towards, margin, MIDDLE, norm)
    states = jax.jit(
        lambda: jax.lax.scan(lambda s, _: (climb.step(s)[0],) * 2, climb.init(MIDDLE), length=20)
    )()[1]
    crossed = [LENGTHS[norm](x - MIDDLE) for x in np.asarray(states.point) if margin(x) > 0]
    assert gap(norm, 1) <= min(crossed) * (1 + 1e-5) <= 1.06 * gap(norm, 1)


MOVES = {norm: jax.jit(lambda key, t, n=norm: states_of(n, key, t), static_argnums=1) for norm in LENGTHS}


def states_of(norm, key, num_steps):
    margin = objectives.margin(linear, 0)
    climb = square.square(key, margin, IMAGE, norm, 0.3, num_steps)
    return path(climb, IMAGE, num_steps)


@every_norm
def test_square_stays_in_the_threat_and_its_value_never_decreases(norm):
    states = MOVES[norm](jax.random.key(1), 40)
    images = np.asarray(states.point)
    assert images.min() >= 0 and images.max() <= 1
    assert all(LENGTHS[norm](image - IMAGE) <= 0.3 + 1e-5 for image in images)
    assert np.all(np.diff(states.value) >= 0) and states.value[-1] > states.value[0]


def test_square_changes_one_window_of_the_scheduled_side_at_a_time():
    images = np.asarray(MOVES[LINF](jax.random.key(1), 40).point)
    sides = square._sides(12, 12)
    stages = [int(np.sum(t > square.HALVINGS * 40)) for t in range(40)]
    for before, after, stage in zip(images[:-1], images[1:], stages[1:], strict=True):
        rows, columns, _ = np.nonzero(before != after)
        if len(rows):
            assert max(np.ptp(rows), np.ptp(columns)) < sides[stage]


def test_the_windows_shrink_as_published():
    """The share starts at 0.8 and has been halved nine times at the end."""
    assert square._sides(32, 32) == [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(("side", "last"), [(3, 4), (7, 0), (8, 0)])
def test_windows_end_before_the_last_column_as_published_unless_they_fill_the_image(side, last):
    draws = np.float32([0.0, np.nextafter(np.float32(1), np.float32(0))])
    inside, row, column = square._window(draws, jnp.int32(side), 8, 8)
    assert (int(row), int(column)) == (0, last)
    assert inside[:side, last : last + side].all() and inside.sum() == side**2


@pytest.mark.parametrize("side", [2, 3, 5, 9])
def test_a_pattern_is_a_unit_bump_above_its_negative(side):
    pattern = square._pattern(side)
    assert_allclose(np.linalg.norm(pattern), 1, rtol=1e-6)
    assert (pattern[: side // 2] > 0).all() and (pattern[side // 2 :] < 0).all()


@every_norm
def test_square_takes_images_that_are_not_square(norm):
    image = np.full((8, 14, 1), 0.5, np.float32)
    climb = square.square(jax.random.key(0), lambda x: jnp.sum(x[:4]), image, norm, 0.2, 30)
    states = jax.jit(lambda: path(climb, image, 30))()
    assert LENGTHS[norm](states.point[-1] - image) <= 0.2 + 1e-5 and states.value[-1] > states.value[0]


def test_targets_are_the_other_classes_by_their_logits():
    example = autoattack.Example(MIDDLE, 2, jnp.array([0.5, 3.0, 9.0, 1.0]))
    assert [int(autoattack._wrong_class(example, i)) for i in range(3)] == [1, 3, 0]


def test_the_standard_combination_is_autoattacks():
    attacks = autoattack.standard(Threat(LINF, 8 / 255), 10)
    assert [(a.name, a.num_steps, a.num_tries) for a in attacks] == [
        ("APGD-CE", 100, 1),
        ("APGD-T", 100, 9),
        ("FAB-T", 100, 9),
        ("Square", 5000, 1),
    ]
    assert [a.num_tries for a in autoattack.standard(Threat(L2, 0.5), 2)] == [1, 1, 1, 1]


def test_the_restarts_of_an_attack_draw_from_their_own_keys():
    attack = autoattack.pgd(Threat(L2, 0.1), Steps(0.1, 1))
    one, other = (attack.attempt(jax.random.key(k), linear, EXAMPLE, 0).start for k in (0, 1))
    assert np.abs(one - other).max() > 0


def test_stop_when_stays_at_the_first_image_that_holds():
    climb = ascent.projected_gradient_ascent(jnp.sum, box(), ascent.steepest(LINF, 0.125))
    stopped = ascent.stop_when(lambda image: image[0, 0, 0] > 0.3, climb)
    image, info = ascent.run(stopped, jnp.zeros((1, 1, 1)), 6)
    assert_array_equal(image, jnp.full((1, 1, 1), 0.375))
    assert_allclose(info.value, [0, 0.125, 0.25, 0.375, 0.375, 0.375])


@given(
    logits=st.lists(st.floats(-5, 5, width=32), min_size=5, max_size=5, unique=True),
    factor=st.floats(0.5, 20),
    shift=st.floats(-5, 5),
)
def test_dlr_does_not_see_the_scale_or_the_shift_of_the_logits(logits, factor, shift):
    if np.ptp(np.sort(logits)[-3:]) < 0.1 or np.ptp(np.sort(logits)[-4:]) < 0.1:
        return

    def value(objective, logits):
        fixed = tiny.classifier(logits=lambda image: jnp.asarray(logits, jnp.float32))
        return objective(fixed)(MIDDLE)

    for objective in (lambda c: objectives.dlr(c, 1), lambda c: objectives.dlr_targeted(c, 3, 1)):
        changed = value(objective, factor * np.array(logits) + shift)
        assert_allclose(value(objective, logits), changed, rtol=2e-3, atol=1e-4)


def test_dlr_equals_its_formula():
    fixed = tiny.classifier(logits=lambda image: jnp.array([1.0, 7.0, 4.0, 2.0, 3.0]))
    assert_allclose(objectives.dlr(fixed, 1)(MIDDLE), (4 - 7) / (7 - 3))
    assert_allclose(objectives.dlr(fixed, 2)(MIDDLE), (7 - 4) / (7 - 3))
    assert_allclose(objectives.dlr_targeted(fixed, 0, 1)(MIDDLE), (1 - 7) / (7 - (3 + 2) / 2))


def test_dlr_of_few_classes_is_the_margin():
    fixed = tiny.classifier(logits=lambda image: jnp.array([1.0, 7.0]))
    assert objectives.dlr(fixed, 0)(MIDDLE) == objectives.margin(fixed, 0)(MIDDLE) == 6
    assert objectives.dlr_targeted(fixed, 1, 0)(MIDDLE) == 6


def test_an_unknown_loss_is_refused():
    with refused(match=r"'xent'.*ce, margin, dlr"):
        checks.named("loss", "xent", autoattack.LOSSES)
