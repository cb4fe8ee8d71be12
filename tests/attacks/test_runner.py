"""Running attacks: the same images are broken whatever the batch, and what breaks them is adversarial."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal

from rsynth_jax.attacks import autoattack, evaluation, runner
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.models import bind
from rsynth_jax.synthesis import ascent
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.projections import box

THREAT = Threat(L2, 0.12)
CHUNK = 3  # short programs compile fast
STEPS = Steps(0.08, 5)  # two calls of 3, the last step of which changes nothing
SHAPE = (4, 4, 3)
MODEL = tiny.Linear()
VARIABLES = MODEL.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
NUM = 24
IMAGES = np.random.default_rng(1).integers(0, 256, (NUM, *SHAPE), np.uint8)
LOGITS = evaluation.predict_logits(MODEL, VARIABLES, IMAGES)
GUESSES = LOGITS.argmax(-1)
LABELS = np.where(np.arange(NUM) % 6 == 0, (GUESSES + 1) % 3, GUESSES).astype(np.int32)
EXAMPLES = runner.Examples(IMAGES, LABELS, LOGITS)
REMAINING = evaluation.correct(LOGITS, LABELS)
ROWS = runner.Rows(jax.random.split(jax.random.key(0), NUM), EXAMPLES, np.zeros(NUM, np.int32))


def late(attempt):
    """The attempt with which only the fourth try moves at all."""

    def later(key, classifier, example, index):
        start, climb = attempt(key, classifier, example, index)
        return autoattack.Attempt(start, ascent.stop_when(lambda image: index != 3, climb))

    return later


PGD = autoattack.pgd(THREAT, STEPS)
ATTACKS = {
    "late": PGD._replace(attempt=late(PGD.attempt), num_tries=4),
    "restarts": autoattack.pgd(THREAT, STEPS, restarts=3),
    "targets": autoattack.auto_pgd_targeted(THREAT, 6, num_targets=2),
    "queries": autoattack.square_attack(THREAT, 11),
}
every_attack = pytest.mark.parametrize("name", ATTACKS)


@functools.cache
def programs(name):
    with mock.patch.object(ascent, "CHUNK", CHUNK):
        return runner.make_runner(MODEL, THREAT, ATTACKS[name])


def run_attack(name, batch_size, remaining=REMAINING, **options):
    key = jax.random.key(7)
    return runner.run_attack(
        programs(name), VARIABLES, runner.image_keys(key, NUM), EXAMPLES, remaining, batch_size, **options
    )


@functools.cache
def alone(name):
    """Every attempt at every image, one at a time and to its end."""
    attack, classifier = ATTACKS[name], bind(MODEL, VARIABLES)

    @jax.jit
    def attempt(image, label, logits, key, index):
        example = autoattack.Example(image, label, logits)
        start, climb = attack.attempt(jax.random.fold_in(key, index), classifier, example, index)
        state = jax.lax.fori_loop(0, attack.num_steps, lambda _, s: climb.step(s)[0], climb.init(start))
        return autoattack.is_adversarial(THREAT, classifier, example, state.point)

    def broken(i):
        key, image = jax.random.fold_in(jax.random.key(7), i), IMAGES[i] / np.float32(255)
        tries = range(attack.num_tries)
        return any(attempt(image, LABELS[i], LOGITS[i], key, t) for t in tries)

    return np.array([bool(REMAINING[i] and broken(i)) for i in range(NUM)])


@every_attack
@pytest.mark.parametrize("batch_size", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_the_broken_images_are_those_of_the_plain_loop(name, batch_size):
    expected = alone(name)
    assert expected.any() and (REMAINING & ~expected).any()  # the comparison can fail
    assert_array_equal(run_attack(name, batch_size).broken, expected)


@every_attack
def test_what_breaks_them_is_within_the_threat_and_misclassified(name):
    result, clean = run_attack(name, 4), IMAGES / np.float32(255)
    moved = np.linalg.norm((result.adversarial - clean).reshape(NUM, -1), axis=1)
    guesses = MODEL.apply(VARIABLES, jnp.asarray(result.adversarial)).logits.argmax(-1)
    assert moved.max() <= THREAT.epsilon + 1e-5
    assert result.adversarial.min() >= 0 and result.adversarial.max() <= 1
    assert (np.asarray(guesses)[result.broken] != LABELS[result.broken]).all()
    assert_array_equal(moved[~result.broken], 0)


def test_only_remaining_images_are_attacked():
    remaining = REMAINING & (np.arange(NUM) % 2 == 0)
    every = run_attack("restarts", 4).broken
    assert_array_equal(run_attack("restarts", 4, remaining).broken, every & remaining)
    assert not run_attack("restarts", 4, np.zeros(NUM, bool)).broken.any()


@every_attack
def test_the_callback_ends_with_every_attempt_ended(name):
    calls = []
    result = run_attack(name, 4, callback=lambda *numbers: calls.append(numbers))
    ended, totals, remaining = map(list, zip(*calls, strict=True))
    assert ended == sorted(ended) and ended[-1] <= totals[-1]
    assert set(totals) == {ATTACKS[name].num_tries * REMAINING.sum()}
    assert remaining[-1] == (REMAINING & ~result.broken).sum()


def test_the_network_is_evaluated_once_a_step():
    """The stopping rule and the ascent measure one image: their forward passes are one."""

    def count_products(attack):
        each = runner.make_runner(MODEL, THREAT, attack)
        states = each.init(VARIABLES, ROWS)
        return each.advance.lower(VARIABLES, ROWS, states).compile().as_text().count(" dot(")

    plain = autoattack.pgd(THREAT, STEPS)
    unstopped = plain._replace(
        attempt=lambda *given: (lambda a: a._replace(ascent=endless(a.ascent)))(plain.attempt(*given))
    )
    assert count_products(plain) == count_products(unstopped)


@pytest.mark.parametrize(("num_steps", "num_calls"), [(3, 1), (13, 2), (17, 2), (19, 2), (40, 4)])
def test_an_attempt_takes_as_few_calls_as_its_steps_allow(num_steps, num_calls):
    attack = autoattack.pgd(THREAT, Steps(0.02, num_steps))
    assert runner.make_runner(MODEL, THREAT, attack).num_calls == num_calls


def test_an_ascent_changes_nothing_after_its_last_step():
    climb = ascent.projected_gradient_ascent(jnp.sum, box(), ascent.steepest(L2, 0.1))
    start = jnp.full((2, 2, 1), 0.25)
    image, _ = ascent.run(runner._stop_after(5, climb), start, 8)
    assert_array_equal(image, ascent.run(climb, start, 5)[0])


def test_the_same_attack_is_compiled_once():
    """Equal models, threats and attacks, made anew, have one runner."""
    threat = Threat(L2, 0.12)
    again = runner.make_runner(tiny.Linear(), threat, autoattack.pgd(threat, STEPS, restarts=3))
    assert again is programs("restarts")


def test_every_device_has_rows_of_an_odd_batch():
    devices = []
    each = programs("restarts")
    watched = each._replace(
        init=lambda *rows: devices.append(rows[1].tries.sharding.num_devices) or each.init(*rows)
    )
    runner.run_attack(watched, VARIABLES, runner.image_keys(jax.random.key(7), NUM), EXAMPLES, REMAINING, 37)
    assert set(devices) == {8}


def endless(stopped):
    """The ascent inside a `stop_when`, which nothing stops."""
    return ascent.stop_when(lambda image: jnp.bool_(False), stopped)


@every_attack
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_an_attack_lowers_for_accelerators(name, platform):
    states = jax.eval_shape(programs(name).init, VARIABLES, ROWS)
    lowered = programs(name).advance.trace(VARIABLES, ROWS, states).lower(lowering_platforms=(platform,))
    assert "while" in lowered.as_text()
