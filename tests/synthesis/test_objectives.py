"""Closed forms of the objectives, and the laws of their algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from rsynth_jax.synthesis import objectives
from rsynth_jax.types import Classifier

RNG = np.random.default_rng(1)
IMAGE, TARGET = RNG.random((2, 4, 4, 3), np.float32)
WHERE = RNG.random((4, 4, 1)) < 0.5
RAVEL = tiny.classifier(logits=jnp.ravel, features=jnp.ravel)  # the image is its own logits


def log_softmax(logits):
    logits = np.float64(logits)
    return logits - np.log(np.exp(logits).sum())


@pytest.mark.parametrize("label", range(5))
def test_log_prob_and_cross_entropy_equal_numpy(linear, label):
    expected = log_softmax(linear.logits(IMAGE))[label]
    assert_allclose(objectives.log_prob(linear, label)(IMAGE), expected, rtol=1e-5)
    assert_allclose(objectives.cross_entropy(linear, label)(IMAGE), -expected, rtol=1e-5)


def test_presence_is_the_mean_log_probability_of_a_class_over_the_pixels_asked_for():
    expected = np.mean([log_softmax(IMAGE[i, j])[2] for i, j in np.argwhere(WHERE[..., 0])])
    objective = objectives.presence(lambda image: image, 2, WHERE)
    assert_allclose(objective(jnp.asarray(IMAGE)), expected, rtol=1e-5)
    slope = np.asarray(jax.grad(objective)(jnp.asarray(IMAGE)))
    assert (slope[..., 2][WHERE[..., 0]] > 0).all() and not slope[~WHERE[..., 0]].any()
    assert objectives.presence(lambda image: image, 2, np.zeros_like(WHERE))(IMAGE) == 0


def test_logit_is_the_class_score(linear):
    assert objectives.logit(linear, 3)(IMAGE) == linear.logits(IMAGE)[3]


def test_activation_is_the_unit_of_the_features(linear):
    assert objectives.activation(linear, 2)(IMAGE) == linear.features(IMAGE)[2]


@given(logits=st.lists(st.integers(-50, 50), min_size=5, max_size=5, unique=True), label=st.integers(0, 4))
def test_the_margin_is_positive_exactly_when_misclassified(logits, label):
    image = np.float32(logits).reshape(1, 1, 5)
    assert (objectives.margin(RAVEL, label)(image) > 0) == (np.argmax(logits) != label)


def test_the_margin_is_the_best_wrong_logit_minus_the_right_one():
    assert objectives.margin(RAVEL, 1)(jnp.array([[[2.0, 5.0, 3.5]]])) == -1.5


def test_kl_divergence_equals_numpy(linear):
    reference = RNG.normal(size=5).astype(np.float32)
    log_p, log_q = log_softmax(reference), log_softmax(linear.logits(IMAGE))
    expected = np.sum(np.exp(log_p) * (log_p - log_q))
    assert_allclose(objectives.kl_divergence(linear, reference)(IMAGE), expected, rtol=1e-5)


def test_kl_divergence_is_zero_and_flat_at_its_reference(linear):
    divergence = objectives.kl_divergence(linear, linear.logits(IMAGE))
    assert_allclose(divergence(IMAGE), 0, atol=1e-6)
    assert_allclose(jax.grad(divergence)(IMAGE), np.zeros_like(IMAGE), atol=1e-5)


def test_fidelity_is_zero_on_its_target():
    assert objectives.fidelity(TARGET, WHERE)(TARGET) == 0


def test_fidelity_ignores_pixels_elsewhere():
    changed = np.where(WHERE, IMAGE, 7)
    fidelity = objectives.fidelity(TARGET, WHERE)
    assert fidelity(changed) == fidelity(IMAGE) != 0


def test_fidelity_is_minus_the_masked_squared_error_over_all_values():
    expected = -np.sum(WHERE * (np.float64(IMAGE) - TARGET) ** 2) / IMAGE.size
    assert_allclose(objectives.fidelity(TARGET, WHERE)(IMAGE), expected, rtol=1e-5)


def test_fidelity_weighs_a_mask_with_soft_edges():
    weights = np.random.default_rng(3).random((*IMAGE.shape[:2], 1), np.float32)
    expected = -np.mean(weights * (np.float64(IMAGE) - TARGET) ** 2)
    assert_allclose(objectives.fidelity(TARGET, weights)(IMAGE), expected, rtol=1e-5)


def test_likeness_is_minus_the_relative_distance_of_representations(linear):
    features = linear.features(TARGET)
    gap = np.linalg.norm(linear.features(IMAGE) - features)
    assert_allclose(
        objectives.feature_match(linear, features)(IMAGE), -gap / np.linalg.norm(features), rtol=1e-5
    )
    alike = jax.value_and_grad(objectives.feature_match(linear, features))(jnp.asarray(TARGET))
    assert all(np.isfinite(part).all() for part in alike) and alike[0] > -1e-6


def test_resemblance_is_minus_the_distance_of_unit_maps_summed_over_the_blocks():
    maps = tiny.classifier(jnp.ravel, jnp.ravel, lambda image: (image, image[:2]))
    found = objectives.perceptual(maps, TARGET)(IMAGE)
    one, other = (image / np.linalg.norm(image, axis=-1, keepdims=True) for image in (IMAGE, TARGET))
    gaps = ((one - other) ** 2).sum(axis=-1)
    assert_allclose(found, -(gaps.mean() + gaps[:2].mean()), rtol=1e-5)


def test_resemblance_is_zero_and_flat_at_its_target_and_blind_to_contrast():
    maps = tiny.classifier(jnp.ravel, jnp.ravel, lambda image: (image,))
    alike = objectives.perceptual(maps, TARGET)
    assert_allclose([alike(TARGET), alike(3 * TARGET)], 0, atol=1e-10)
    assert_allclose(jax.grad(alike)(TARGET), np.zeros_like(TARGET), atol=1e-6)


def test_smoothness_is_minus_the_total_variation():
    slope = np.tile(np.arange(4, dtype=np.float32)[:, None, None], (1, 4, 3))
    assert objectives.smoothness()(slope) == -1 and objectives.smoothness()(jnp.ones((4, 4, 3))) == 0


def test_scale_multiplies(linear):
    assert_allclose(
        objectives.scale(-2.5, objectives.logit(linear, 0))(IMAGE), -2.5 * linear.logits(IMAGE)[0]
    )


def test_add_sums_any_number(linear):
    terms = [objectives.logit(linear, k) for k in range(3)]
    assert_allclose(objectives.add(*terms)(IMAGE), np.sum(linear.logits(IMAGE)[:3]), rtol=1e-5)
    assert objectives.add(terms[0])(IMAGE) == terms[0](IMAGE)


def test_the_gradient_of_a_sum_is_the_sum_of_the_gradients(linear):
    one, other = objectives.log_prob(linear, 1), objectives.scale(10.0, objectives.fidelity(TARGET, WHERE))
    together = jax.grad(objectives.add(one, other))(IMAGE)
    assert_allclose(together, jax.grad(one)(IMAGE) + jax.grad(other)(IMAGE), rtol=1e-5, atol=1e-6)


def test_precompose_transforms_first(linear):
    mirrored = objectives.precompose(objectives.logit(linear, 0), lambda image: image[:, ::-1])
    assert mirrored(IMAGE) == linear.logits(IMAGE[:, ::-1])[0] != linear.logits(IMAGE)[0]


def counted(classifier: Classifier) -> tuple[Classifier, list]:
    """The classifier, and the list of the images of its passes."""
    passes = []

    def outputs(image):
        passes.append(image)
        return classifier.outputs(image)

    return Classifier(outputs), passes


def test_readings_of_one_classifier_share_one_pass_however_they_are_added(linear):
    classifier, passes = counted(linear)
    inner = objectives.add(objectives.smoothness(), objectives.logit_plus_log_prob(classifier, 2))
    feature = objectives.scale(0.5, objectives.activation(classifier, 1))
    together = objectives.add(objectives.scale(3.0, inner), objectives.fidelity(TARGET, WHERE), feature)
    value = jax.grad(together)(jnp.asarray(IMAGE))
    assert len(passes) == 1
    expected = 0
    for weight, term in (
        (3.0, objectives.smoothness()),
        (3.0, objectives.logit(linear, 2)),
        (3.0, objectives.log_prob(linear, 2)),
        (1.0, objectives.fidelity(TARGET, WHERE)),
        (0.5, objectives.activation(linear, 1)),
    ):
        expected = expected + weight * jax.grad(term)(IMAGE)
    assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_each_of_two_classifiers_is_read_in_a_pass_of_its_own(linear):
    (one, passes), (other, others) = counted(linear), counted(linear)
    both = objectives.add(objectives.logit(one, 0), objectives.logit(other, 1), objectives.energy(one))
    expected = linear.logits(IMAGE)[0] + linear.logits(IMAGE)[1] + objectives.energy(linear)(IMAGE)
    assert_allclose(both(IMAGE), expected, rtol=1e-6)
    assert (len(passes), len(others)) == (1, 1)
