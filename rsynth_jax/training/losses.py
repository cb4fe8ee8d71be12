"""Batch losses of (clean logits, adversarial logits, labels): the other half of a training method.

A method is a pair: natural = (identity, natural), PGD = (pgd, pgd), TRADES = (trades, trades). Logits
that a loss does not read cost nothing: the compiler drops the pass that would have made them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rsynth_jax.types import Labels, Scalar

BatchLogits = Float[Array, "n k"]
RobustLoss = Callable[[BatchLogits, BatchLogits, Labels], Scalar]


def smoothed_cross_entropy(logits: BatchLogits, labels: Labels, smoothing: float) -> Scalar:
    """Mean cross-entropy to the labels, of which a share `smoothing` is spread over all classes."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), smoothing)
    return jnp.mean(optax.softmax_cross_entropy(logits, targets))


def natural(smoothing: float = 0.0) -> RobustLoss:
    """CE(f(x), y)."""
    return lambda clean, adversarial, labels: smoothed_cross_entropy(clean, labels, smoothing)


def pgd(smoothing: float = 0.0) -> RobustLoss:
    """CE(f(x'), y), x' the adversarial image (Madry et al. 2018)."""
    return lambda clean, adversarial, labels: smoothed_cross_entropy(adversarial, labels, smoothing)


def trades(beta: float, smoothing: float = 0.0) -> RobustLoss:
    """CE(f(x), y) + beta * KL(p(x) || p(x')) (Zhang et al. 2019, eq. 5; their 1/lambda is beta)."""

    def loss(clean, adversarial, labels):
        log_p, log_q = jax.nn.log_softmax(clean), jax.nn.log_softmax(adversarial)
        divergence = jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1))
        return smoothed_cross_entropy(clean, labels, smoothing) + beta * divergence

    return loss


def contrast(real: Float[Array, " n"], fake: Float[Array, " n"]) -> Scalar:
    """softplus(-real) + softplus(fake): the energy of real images is driven up, that of fakes down."""
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))
