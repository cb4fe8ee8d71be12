"""The Inception Score (Salimans et al. 2016): every image of one class, together of all classes.

It needs no real image, and an adversary of the network maximises it: never measure quality by it alone.
"""

import numpy as np
from jaxtyping import Float

from rsynth_jax import checks
from rsynth_jax.metrics.estimates import Estimate, bootstrapped

REPLICATES = 200


def inception_score(logits: Float[np.ndarray, "n k"], rng: np.random.Generator) -> Estimate:
    """Estimate exp of the mean KL divergence of p(y | x) from p(y), in [1, k], over all images at once.

    As p(y) is estimated from the same images, it is biased downwards in few of them. The interval is that
    of `REPLICATES` bootstrap replicates.
    """
    checks.features("the Inception Score", 2, logits)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float32)
    each = powers / powers.sum(axis=1, keepdims=True)
    certain, num = _entropy(each), len(each)

    def score(weights):
        return np.exp(_entropy(weights.astype(np.float32) @ each) - weights @ certain)

    resamples = rng.multinomial(num, np.full(num, 1 / num), REPLICATES) / num
    return bootstrapped(score(np.full(num, 1 / num)), score(resamples), lowest=1.0)


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    """- sum p log p over the last axis, in nats; 0 log 0 is 0."""
    logs = np.log(np.where(probabilities > 0, probabilities, 1))
    return np.asarray(-np.sum(probabilities * logs, axis=-1, dtype=np.float64))
