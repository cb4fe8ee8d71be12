"""How well one number separates two sets, by rank alone: the area under the ROC curve."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from rsynth_jax import checks
from rsynth_jax.metrics.estimates import Estimate, wilson
from rsynth_jax.types import Scalar


def auc(positive: Float[Array, " m"], negative: Float[Array, " n"], where: Bool[Array, " n"]) -> Scalar:
    """Compute the chance that a positive is above one of the chosen negatives; a tie counts half. In JAX."""
    above = (jnp.sign(positive[:, None] - negative[None, :]) + 1) / 2
    return jnp.mean(above, where=where[None, :])


def auroc(positive: np.ndarray, negative: np.ndarray) -> Estimate:
    """Estimate `auc` by ranks, for sets of any size.

    The variance is that of DeLong, DeLong and Clarke-Pearson (1988), whatever the distributions. The
    interval is Wilson's of a share of as many samples as have this variance, so that it stays in [0, 1] and
    has a width at 0 and 1, where the smaller set counts as the samples.
    """
    for name, values in (("positive", positive), ("negative", negative)):
        checks.enough(f"an AUROC's {name} set", 2, len(values))
        if not np.isfinite(values).all():
            raise ValueError(f"an AUROC needs finite values: the {name} set holds NaN or infinity")
    above, below = _share_below(positive, negative), 1 - _share_below(negative, positive)
    value = float(above.mean())
    variance = float(np.var(above, ddof=1) / len(above) + np.var(below, ddof=1) / len(below))
    least = min(len(positive), len(negative))
    samples = value * (1 - value) / variance if variance > 0 else least
    return Estimate(value, *wilson(value * samples, samples))


def _share_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each value the share of the others below it; a tie counts half."""
    ordered = np.sort(others)
    sides = [np.searchsorted(ordered, values, side) for side in ("left", "right")]
    return (sides[0] + sides[1]) / (2 * len(others))
