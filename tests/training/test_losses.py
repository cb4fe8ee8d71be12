"""The batch losses equal their formulas, written out in NumPy and float64."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from rsynth_jax.training import losses

RNG = np.random.default_rng(4)
CLEAN, ADVERSARIAL, OTHER = RNG.normal(scale=3, size=(3, 6, 5)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 4, 0])
every_loss = pytest.mark.parametrize("loss", [losses.natural(0.1), losses.pgd(0.1), losses.trades(6.0, 0.1)])
every_smoothing = pytest.mark.parametrize("smoothing", [0.0, 0.1])


def log_softmax(logits):
    logits = np.float64(logits)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def cross_entropy(logits, smoothing):
    targets = (1 - smoothing) * np.eye(5)[LABELS] + smoothing / 5
    return np.mean(np.sum(-targets * log_softmax(logits), axis=-1))


@every_smoothing
def test_natural_is_the_clean_cross_entropy(smoothing):
    value = losses.natural(smoothing)(CLEAN, ADVERSARIAL, LABELS)
    assert_allclose(value, cross_entropy(CLEAN, smoothing), rtol=1e-5)


@every_smoothing
def test_pgd_is_the_adversarial_cross_entropy(smoothing):
    value = losses.pgd(smoothing)(CLEAN, ADVERSARIAL, LABELS)
    assert_allclose(value, cross_entropy(ADVERSARIAL, smoothing), rtol=1e-5)


@every_smoothing
@pytest.mark.parametrize("beta", [1.0, 6.0])
def test_trades_adds_beta_times_the_divergence_from_clean_to_adversarial(beta, smoothing):
    log_p, log_q = log_softmax(CLEAN), log_softmax(ADVERSARIAL)
    divergence = np.mean(np.sum(np.exp(log_p) * (log_p - log_q), axis=-1))
    value = losses.trades(beta, smoothing)(CLEAN, ADVERSARIAL, LABELS)
    assert_allclose(value, cross_entropy(CLEAN, smoothing) + beta * divergence, rtol=1e-5)


def test_trades_of_an_unchanged_batch_is_natural():
    value = losses.trades(6.0, 0.1)(CLEAN, CLEAN, LABELS)
    assert_allclose(value, losses.natural(0.1)(CLEAN, CLEAN, LABELS), rtol=1e-6)


def test_natural_ignores_the_adversarial_logits_and_pgd_the_clean_ones():
    assert losses.natural()(CLEAN, ADVERSARIAL, LABELS) == losses.natural()(CLEAN, OTHER, LABELS)
    assert losses.pgd()(CLEAN, ADVERSARIAL, LABELS) == losses.pgd()(OTHER, ADVERSARIAL, LABELS)


@every_loss
def test_a_loss_is_a_mean_over_the_batch(loss):
    twice = [np.concatenate([array, array]) for array in (CLEAN, ADVERSARIAL, LABELS)]
    assert_allclose(loss(*twice), loss(CLEAN, ADVERSARIAL, LABELS), rtol=1e-5)
