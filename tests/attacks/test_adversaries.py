"""The adversaries: inside their threat, closed forms on linear classifiers, laws of keys."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax import checks
from rsynth_jax.attacks import adversaries, threats
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.synthesis import objectives
from rsynth_jax.synthesis.norms import L2, LINF, NORMS

RNG = np.random.default_rng(3)
IMAGE = RNG.random((4, 4, 3), np.float32)
MIDDLE = np.float32(0.4 + 0.2 * IMAGE)  # far from the bounds of the box
LENGTHS = {L2: lambda x: np.linalg.norm(x.ravel()), LINF: lambda x: np.abs(x).max()}
WEIGHTS = RNG.normal(size=(2, 4, 4, 3)).astype(np.float32)
two_classes = tiny.classifier(
    logits=lambda image: jnp.tensordot(WEIGHTS, image, axes=3), features=lambda image: image.ravel()
)
every_norm = pytest.mark.parametrize("norm", LENGTHS, ids=NORMS)
every_attack = pytest.mark.parametrize("attack", [adversaries.pgd, adversaries.trades])


def key(seed):
    return jax.random.key(seed)


@functools.partial(jax.jit, static_argnums=(0, 1))
def perturb(attack, norm, epsilon, key):
    return attack(Threat(norm, epsilon), Steps(0.5, 3))(key, two_classes, IMAGE, 1)


@every_attack
@every_norm
@given(epsilon=st.floats(0, 2), seed=st.integers(0, 99))
def test_an_adversarial_image_is_inside_the_ball_and_the_box(attack, norm, epsilon, seed):
    adversarial = np.asarray(perturb(attack, norm, epsilon, key(seed)))
    assert LENGTHS[norm](adversarial - IMAGE) <= epsilon + 1e-5
    assert adversarial.min() >= 0 and adversarial.max() <= 1


@every_attack
@every_norm
def test_an_attack_raises_the_cross_entropy(linear, attack, norm):
    label = jnp.argmax(linear.logits(IMAGE))
    adversarial = attack(Threat(norm, 0.1), Steps(0.05, 3))(key(0), linear, IMAGE, label)
    loss = objectives.cross_entropy(linear, label)
    assert loss(adversarial) > loss(IMAGE)


@pytest.mark.parametrize("label", [0, 1])
def test_pgd_reaches_the_closed_form_in_an_l2_ball(label):
    downhill = WEIGHTS[1 - label] - WEIGHTS[label]
    adversarial = adversaries.pgd(Threat(L2, 0.2), Steps(2.0, 6))(key(0), two_classes, MIDDLE, label)
    assert_allclose(adversarial, MIDDLE + 0.2 * downhill / np.linalg.norm(downhill), atol=1e-5)


@pytest.mark.parametrize("label", [0, 1])
def test_pgd_reaches_the_closed_form_in_an_linf_ball(label):
    downhill = WEIGHTS[1 - label] - WEIGHTS[label]
    adversarial = adversaries.pgd(Threat(LINF, 0.03), Steps(0.01, 7))(key(0), two_classes, MIDDLE, label)
    assert_allclose(adversarial, MIDDLE + 0.03 * np.sign(downhill), atol=1e-6)


def test_one_step_as_long_as_the_diameter_is_enough_in_an_linf_ball():
    """Fast adversarial training's attack: one step of the sign from a random start."""
    adversarial = adversaries.pgd(Threat(LINF, 0.03), Steps(0.06, 1))(key(0), two_classes, MIDDLE, 0)
    assert_allclose(adversarial, MIDDLE + 0.03 * np.sign(WEIGHTS[1] - WEIGHTS[0]), atol=1e-6)


@every_norm
def test_random_starts_are_uniform_in_the_ball(norm):
    """The share of the volume within q epsilon is q^48: the 48th power of the radius is uniform."""
    keys = jax.random.split(key(0), 500)
    starts = jax.jit(jax.vmap(lambda key: threats.random_start(key, Threat(norm, 0.1), MIDDLE)))(keys)
    shares = np.sort([LENGTHS[norm](offset) / 0.1 for offset in np.asarray(starts) - MIDDLE]) ** 48
    assert_allclose(shares, (np.arange(500) + 0.5) / 500, atol=0.08)


@every_norm
def test_a_random_start_is_in_the_ball_and_the_box_and_its_keys_alone(norm):
    threat = Threat(norm, 0.5)
    one, same, other = (np.asarray(threats.random_start(key(s), threat, IMAGE)) for s in (0, 0, 1))
    assert LENGTHS[norm](one - IMAGE) <= 0.5 + 1e-6 and one.min() >= 0 and one.max() <= 1
    assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01


def test_an_unknown_norm_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'l1'.*l2, linf"):
        checks.named("norm", "l1", NORMS)


def test_identity_returns_the_image(linear):
    assert_array_equal(adversaries.identity()(key(0), linear, IMAGE, 0), IMAGE)


def test_trades_starts_a_thousandth_of_a_gaussian_from_the_image():
    image = np.full((32, 32, 3), 0.5, np.float32)
    classifier = tiny.classifier(logits=lambda x: jnp.stack([x.sum(), -x.sum()]), features=jnp.ravel)
    start = adversaries.trades(Threat(L2, 0.5), Steps(0.1, 0))(key(0), classifier, image, 0)
    assert_allclose(np.std(start - image), 0.001, rtol=0.05)


def test_the_first_step_of_trades_leads_further_the_way_its_noise_went():
    """KL(p(clean) || p(.)) of two classes rises from the clean image to both sides along W1 - W0."""
    direction = (WEIGHTS[1] - WEIGHTS[0]) / np.linalg.norm(WEIGHTS[1] - WEIGHTS[0])
    attacks = (adversaries.trades(Threat(L2, 0.5), Steps(0.1, n)) for n in (0, 1))
    start, once = (attack(key(0), two_classes, MIDDLE, 0) for attack in attacks)
    side = np.sign(np.vdot(direction, start - MIDDLE))
    assert_allclose(once - start, 0.1 * side * direction, atol=1e-3)


def test_trades_climbs_the_divergence_from_the_clean_prediction_not_the_label(linear):
    attack = adversaries.trades(Threat(L2, 0.5), Steps(0.1, 5))
    perturb = jax.jit(lambda label: attack(key(0), linear, IMAGE, label))
    one, other = perturb(0), perturb(1)
    assert_array_equal(one, other)
    divergence = objectives.kl_divergence(linear, linear.logits(IMAGE))
    assert divergence(one) > 0.1


def test_vmap_of_an_attack_is_the_loop(linear):
    attack = adversaries.pgd(Threat(L2, 0.5), Steps(0.1, 3))
    images, labels, keys = RNG.random((3, 4, 4, 3), np.float32), np.arange(3), jax.random.split(key(0), 3)
    perturb = jax.jit(lambda key, image, label: attack(key, linear, image, label))
    batch = jax.jit(jax.vmap(perturb))(keys, images, labels)
    loop = [perturb(*example) for example in zip(keys, images, labels, strict=True)]
    assert_allclose(batch, loop, atol=1e-6)
