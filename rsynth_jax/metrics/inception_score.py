"""The Inception Score (Salimans et al. 2016): each image one class for sure, all of them every class.

    estimate = inception_score(logits, np.random.default_rng(0))

Of any classifier's logits; "Inception" only where the network is. It sees no real image, and an adversary of
the network maximises it: never judge by it alone.
"""

import numpy as np
from jaxtyping import Float

from rsynth_jax import checks
from rsynth_jax.metrics.estimates import Estimate, bootstrapped

REPLICATES = 200


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """- sum p log p over the last axis, in nats; 0 log 0 is 0."""
    logs = np.log(np.where(probabilities > 0, probabilities, 1))
    return np.asarray(-np.sum(probabilities * logs, axis=-1, dtype=np.float64))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (n, k) in single precision."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float32)
    return powers / powers.sum(axis=1, keepdims=True)


def inception_score(logits: Float[np.ndarray, "n k"], rng: np.random.Generator) -> Estimate:
    """exp of the mean KL divergence of p(y | x) from p(y), in 1 ... k, over all images at once.

    As p(y) is estimated from the same images it is biased, downwards in few of them; the interval is the
    value ± 1.96 standard deviations of `REPLICATES` bootstrap replicates.
    """
    checks.features("the Inception Score", 2, logits)
    each = softmax(logits)
    certain, num = entropy(each), len(each)

    def score(weights):
        return np.exp(entropy(weights.astype(np.float32) @ each) - weights @ certain)

    resamples = rng.multinomial(num, np.full(num, 1 / num), REPLICATES) / num
    return bootstrapped(score(np.full(num, 1 / num)), score(resamples), lowest=1.0)
