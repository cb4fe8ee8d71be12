"""Evaluation: every image once whatever the batches."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax import images
from rsynth_jax.attacks import autoattack, evaluation
from rsynth_jax.attacks.runner import Examples, image_keys, make_runner, run_attack
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.synthesis import objectives
from rsynth_jax.synthesis.norms import L2, LINF
from rsynth_jax.training.classifier import accuracy

SHAPE = (4, 4, 3)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (13, *SHAPE), np.uint8)
LABELS = RNG.integers(0, 3, 13).astype(np.int32)
THREAT = Threat(L2, 0.2)

MODEL = tiny.Linear()
VARIABLES = MODEL.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))


def evaluate(*attacks, batch_size=40, **options):
    key = jax.random.key(5)
    given = (MODEL, VARIABLES, IMAGES, LABELS, THREAT, attacks)
    return evaluation.evaluate(*given, key=key, batch_size=batch_size, **options)


@pytest.mark.parametrize("batch_size", [1, 3, 8, 13, 40])
def test_the_clean_count_is_the_plain_one_whatever_the_batch(batch_size):
    found = evaluate(batch_size=batch_size)
    plain = MODEL.apply(VARIABLES, images.decode(jnp.asarray(IMAGES))).logits.argmax(-1) == LABELS
    assert_array_equal(found.clean, plain)
    assert_array_equal(found.robust, plain)
    assert found.remaining == () and len(found.seconds) == 1
    assert plain.any() and not plain.all()  # the comparison can fail


@pytest.mark.slow
def test_attacks_add_up():
    """The images that withstand two attacks are those that withstand each of them alone."""
    one, two = autoattack.pgd(THREAT, Steps(0.1, 4)), autoattack.square_attack(THREAT, 5)
    alone, other, both = (evaluate(*attacks, batch_size=2) for attacks in ((one,), (two,), (one, two)))
    assert_array_equal(both.remaining[0], alone.robust)
    assert_array_equal(both.remaining[1], alone.robust & other.robust)
    assert len(both.seconds) == 3
    assert alone.robust.sum() < alone.clean.sum()


@pytest.mark.slow
def test_a_part_of_the_images_is_found_as_among_all():
    attacks = (autoattack.pgd(THREAT, Steps(0.1, 2)), autoattack.square_attack(THREAT, 5))
    whole = evaluate(*attacks)
    for first in range(3):
        part = slice(first, None, 3)
        found = evaluate(*attacks, part=part)
        assert_array_equal(found.clean, whole.clean[part])
        assert_array_equal(found.remaining, [each[part] for each in whole.remaining])
    with refused(match="one for each"):
        evaluate(part=slice(13, None, 14))


def test_the_callback_names_the_attack():
    calls = []
    attack = autoattack.pgd(THREAT, Steps(0.1, 4))
    found = evaluate(attack, batch_size=4, callback=lambda *call: calls.append(call))
    assert {call[0] for call in calls} == {attack}
    assert calls[-1][1:] == (found.clean.sum(), found.clean.sum(), found.robust.sum())


def test_logits_are_those_of_the_network_whatever_the_batch():
    expected = MODEL.apply(VARIABLES, images.decode(jnp.asarray(IMAGES))).logits
    for batch_size in (1, 5, 100):
        assert_allclose(evaluation.predict_logits(MODEL, VARIABLES, IMAGES, batch_size), expected, atol=1e-5)


# Networks whose outputs are not finite, epsilon 0, and numbers that are none.


class Broken(nn.Module):
    """The linear network, with a fault in the logits: (images, logits) -> logits."""

    fault: Callable

    @nn.compact
    def __call__(self, images):
        outputs = tiny.Linear(name="inner")(images)
        return outputs._replace(logits=self.fault(images, outputs.logits))


def everywhere(images, logits):
    """NaN, which argmax takes for class 0."""
    return logits * jnp.nan


def one_infinite(images, logits):
    """An infinite logit of the right class, for images of class 0."""
    return logits.at[:, 0].set(jnp.inf)


def off_the_bytes(images, logits):
    """NaN wherever an image is not one of bytes: every attacked image."""
    rounding = jnp.abs(images * 255 - jnp.round(images * 255)).max(axis=(1, 2, 3), keepdims=False)
    return jnp.where(rounding[:, None] > 1e-2, jnp.nan, logits)


@jax.custom_jvp
def nan_gradient(logits):
    """The same logits, the first of whose gradient is NaN."""
    return logits


nan_gradient.defjvp(lambda primals, tangents: (primals[0], tangents[0] * jnp.nan))


def without_a_gradient(images, logits):
    return nan_gradient(logits)


def huge(images, logits):
    """Logits whose gradient has an infinite length in float32."""
    return logits * 1e24


WIDE = {norm: Threat(norm, epsilon) for norm, epsilon in ((L2, 1.5), (LINF, 0.3))}
SHORT = {
    "pgd": lambda threat: autoattack.pgd(threat, Steps(threat.epsilon / 2, 3)),
    "pgd-margin": lambda threat: autoattack.pgd(threat, Steps(threat.epsilon / 2, 3), objectives.margin),
    "apgd": lambda threat: autoattack.auto_pgd(threat, 3),
    "apgd-t": lambda threat: autoattack.auto_pgd_targeted(threat, 3, 2),
    "fab-t": lambda threat: autoattack.fab_targeted(threat, 3, 2),
    "square": lambda threat: autoattack.square_attack(threat, 3),
}
every_attack = pytest.mark.parametrize("attack", SHORT.values(), ids=SHORT)
every_norm = pytest.mark.parametrize(
    "norm", [pytest.param(L2, id="l2"), pytest.param(LINF, id="linf", marks=pytest.mark.slow)]
)


def broken(fault, threat, *attacks):
    """The evaluation of a faulty network whose labels are its own predictions without the fault."""
    variables = {"params": {"inner": VARIABLES["params"]}}
    labels = evaluation.predict_logits(MODEL, VARIABLES, IMAGES).argmax(-1)
    return evaluation.evaluate(
        Broken(fault), variables, IMAGES, labels, threat, attacks, key=jax.random.key(0), batch_size=16
    )


@pytest.mark.parametrize("logit", [np.nan, np.inf, -np.inf])
def test_an_image_whose_logits_are_not_finite_is_not_classified_correctly(logit):
    logits = np.array([[logit, 0, 0], [1, 0, logit], [1, 0, 0]], np.float32)
    assert_array_equal(evaluation.correct(logits, np.zeros(3, int)), [False, False, True])
    assert accuracy(jnp.asarray(logits), jnp.zeros(3, jnp.int32)) == jnp.float32(1 / 3)


@pytest.mark.parametrize("fault", [everywhere, one_infinite])
def test_a_broken_network_is_right_on_no_image_and_robust_on_none(fault):
    found = broken(fault, WIDE[L2], SHORT["pgd"](WIDE[L2]))
    assert not found.clean.any() and not found.robust.any()


@pytest.mark.parametrize("attack", [SHORT[name] for name in ("pgd", "apgd", "square")])
def test_a_network_that_breaks_off_the_clean_images_is_not_robust(attack):
    found = broken(off_the_bytes, WIDE[L2], attack(WIDE[L2]))
    assert found.clean.all() and not found.robust.any()


@every_norm
@every_attack
def test_an_attack_stays_finite_where_gradients_are_nan(norm, attack):
    threat = WIDE[norm]
    examples = Examples(IMAGES, LABELS, evaluation.predict_logits(MODEL, VARIABLES, IMAGES))
    variables = {"params": {"inner": VARIABLES["params"]}}
    runner = make_runner(Broken(without_a_gradient), threat, attack(threat))
    result = run_attack(runner, variables, image_keys(jax.random.key(0), 13), examples, np.ones(13, bool), 16)
    assert np.isfinite(result.adversarial).all()
    assert result.broken.any()  # at least those that were wrong from the start


@every_norm
@pytest.mark.parametrize("attack", [SHORT["pgd-margin"]])
def test_a_huge_gradient_does_not_stop_an_attack(norm, attack):
    threat = WIDE[norm]
    plain = broken(lambda images, logits: logits, threat, attack(threat))
    assert plain.robust.sum() < plain.clean.sum()
    assert broken(huge, threat, attack(threat)).robust.sum() <= plain.robust.sum()


@every_norm
@every_attack
def test_within_a_radius_of_zero_every_attack_finds_the_clean_accuracy(norm, attack):
    threat = Threat(norm, 0.0)
    found = evaluation.evaluate(
        MODEL, VARIABLES, IMAGES, LABELS, threat, [attack(threat)], key=jax.random.key(0), batch_size=16
    )
    assert_array_equal(found.robust, found.clean)


@every_attack
@pytest.mark.parametrize("epsilon", [np.nan, np.inf, -0.1, 1e300])
def test_a_radius_that_is_none_is_refused(attack, epsilon):
    with refused(match="epsilon is"):
        evaluate_with(Threat(LINF, epsilon), attack)


@pytest.mark.parametrize("step_size", [np.nan, np.inf, -0.1])
def test_a_step_size_that_is_none_is_refused(step_size):
    with refused(match="step_size is"):
        autoattack.pgd(THREAT, Steps(step_size, 3))


def evaluate_with(threat, attack):
    attacks = [attack(threat)]
    return evaluation.evaluate(MODEL, VARIABLES, IMAGES, LABELS, threat, attacks, key=jax.random.key(0))


def test_images_of_floats_are_refused():
    with refused(match="images must be uint8"):
        evaluation.predict_logits(MODEL, VARIABLES, IMAGES / np.float32(255))
