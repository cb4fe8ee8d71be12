"""Carrying attacks out: the same images fall whatever the batch, and what they fell to is adversarial."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from test_evaluation import MODEL, SHAPE, VARIABLES, logits

from rsynth_jax.attacks import autoattack as attempts
from rsynth_jax.attacks import evaluation
from rsynth_jax.attacks import runner as siege
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.models import bind
from rsynth_jax.synthesis import ascent
from rsynth_jax.synthesis.norms import L2

THREAT, STEPS = Threat(L2, 0.12), Steps(0.02, 22)  # in chunks of 2, which compile soon
NUM = 24
IMAGES = np.random.default_rng(1).integers(0, 256, (NUM, *SHAPE), np.uint8)
GUESSES = evaluation.seen(logits, VARIABLES, IMAGES, np.zeros(NUM, np.int32)).logits.argmax(-1)
LABELS = np.where(np.arange(NUM) % 6 == 0, (GUESSES + 1) % 3, GUESSES).astype(np.int32)
VICTIMS = evaluation.seen(logits, VARIABLES, IMAGES, LABELS)
STANDING = evaluation.right(VICTIMS.logits, LABELS)


def late(attempt):
    """The attempt with which only the fourth try moves at all."""

    def later(key, classifier, victim, index):
        start, climb = attempt(key, classifier, victim, index)
        return attempts.Attempt(start, ascent.stop_when(lambda image: index != 3, climb))

    return later


PGD = attempts.pgd(THREAT, STEPS)
ATTACKS = {
    "late": PGD._replace(attempt=late(PGD.attempt), num_tries=4),
    "restarts": attempts.pgd(THREAT, STEPS, restarts=3),
    "targets": attempts.auto_pgd_targeted(THREAT, STEPS.num_steps, num_targets=2),
    "queries": attempts.square_attack(THREAT, 34),
}
every_attack = pytest.mark.parametrize("name", ATTACKS)


@functools.cache
def programs(name):
    return siege.make_siege(MODEL, THREAT, ATTACKS[name])


def run_attack(name, batch_size, standing=STANDING, **options):
    key = jax.random.key(7)
    return siege.run_attack(programs(name), VARIABLES, key, VICTIMS, standing, batch_size, **options)


@functools.cache
def alone(name):
    """Every attempt at every image, one at a time and to its end."""
    attack, classifier = ATTACKS[name], bind(MODEL, VARIABLES)

    @jax.jit
    def attempt(image, label, logits, key, index):
        victim = attempts.Example(image, label, logits)
        start, climb = attack.attempt(jax.random.fold_in(key, index), classifier, victim, index)
        state = jax.lax.fori_loop(0, attack.num_steps, lambda _, s: climb.step(s)[0], climb.init(start))
        return attempts.is_adversarial(THREAT, classifier, victim, state.image)

    def falls(i):
        key, image = jax.random.fold_in(jax.random.key(7), i), IMAGES[i] / np.float32(255)
        tries = range(attack.num_tries)
        return any(attempt(image, LABELS[i], VICTIMS.logits[i], key, t) for t in tries)

    return np.array([bool(STANDING[i] and falls(i)) for i in range(NUM)])


@every_attack
@pytest.mark.parametrize("batch_size", [4, 40])
def test_the_images_that_fall_are_those_of_the_plain_loop(name, batch_size):
    expected = alone(name)
    assert expected.any() and (STANDING & ~expected).any()  # the comparison can fail
    assert_array_equal(run_attack(name, batch_size).images, expected)


@every_attack
def test_what_they_fell_to_is_within_the_threat_and_misclassified(name):
    fallen, clean = run_attack(name, 8), IMAGES / np.float32(255)
    moved = np.linalg.norm((fallen.adversarial - clean).reshape(NUM, -1), axis=1)
    guesses = MODEL.apply(VARIABLES, jnp.asarray(fallen.adversarial)).logits.argmax(-1)
    assert moved.max() <= THREAT.epsilon + 1e-5
    assert fallen.adversarial.min() >= 0 and fallen.adversarial.max() <= 1
    assert (np.asarray(guesses)[fallen.images] != LABELS[fallen.images]).all()
    assert_array_equal(moved[~fallen.images], 0)


def test_only_what_stands_is_attacked():
    standing = STANDING & (np.arange(NUM) % 2 == 0)
    assert_array_equal(
        run_attack("restarts", 4, standing).images, run_attack("restarts", 4).images & standing
    )
    assert not run_attack("restarts", 4, np.zeros(NUM, bool)).images.any()


@every_attack
def test_the_report_ends_with_every_attempt_over(name):
    seen = []
    fallen = run_attack(name, 4, report=lambda *numbers: seen.append(numbers))
    over, totals, standing = map(list, zip(*seen, strict=True))
    assert over == sorted(over) and over[-1] <= totals[-1]
    assert set(totals) == {ATTACKS[name].num_tries * STANDING.sum()}
    assert standing[-1] == (STANDING & ~fallen.images).sum()


def test_the_network_is_asked_once_a_step():
    """Looking whether to stop and climbing see one image: their forward passes are one."""

    def flops(attack):
        each = siege.make_siege(MODEL, THREAT, attack)
        rows = siege.Examples(IMAGES, LABELS, VICTIMS.logits)
        keys = jax.random.split(jax.random.key(0), NUM)
        places = siege.Places(keys, rows, np.zeros(NUM, np.int32))
        states = each.begin(VARIABLES, places)
        return each.more.lower(VARIABLES, places, states).compile().as_text().count(" dot(")

    plain = attempts.pgd(THREAT, STEPS)
    heedless = plain._replace(
        attempt=lambda *given: (lambda a: a._replace(ascent=endless(a.ascent)))(plain.attempt(*given))
    )
    assert flops(plain) == flops(heedless)


def endless(stopped):
    """The ascent inside a `stop_when`, which nothing stops."""
    return ascent.stop_when(lambda image: jnp.bool_(False), stopped)


@every_attack
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_a_siege_lowers_for_accelerators(name, platform):
    rows, keys = VICTIMS, jax.random.split(jax.random.key(0), NUM)
    places = siege.Places(keys, rows, np.zeros(NUM, np.int32))
    states = jax.eval_shape(programs(name).begin, VARIABLES, places)
    lowered = programs(name).more.trace(VARIABLES, places, states).lower(lowering_platforms=(platform,))
    assert "while" in lowered.as_text()
