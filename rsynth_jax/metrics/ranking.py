"""How well one number tells two sets apart, by rank alone: the area under the ROC curve.

estimate = auroc(evidence_of_real, evidence_of_noise)     # 1: all real ones above all noise; 1/2: no telling
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from rsynth_jax import checks
from rsynth_jax.metrics.estimates import Estimate, wilson
from rsynth_jax.types import Scalar


def auc(positive: Float[Array, " m"], negative: Float[Array, " n"], where: Bool[Array, " n"]) -> Scalar:
    """The chance that a positive is above a negative, of those `where`; a tie counts half. On the device."""
    above = (jnp.sign(positive[:, None] - negative[None, :]) + 1) / 2
    return jnp.mean(above, where=where[None, :])


def share_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each value the share of the others that lie below it, a tie counting half."""
    ordered = np.sort(others)
    sides = [np.searchsorted(ordered, values, side) for side in ("left", "right")]
    return (sides[0] + sides[1]) / (2 * len(others))


def auroc(positive: np.ndarray, negative: np.ndarray) -> Estimate:
    """`auc` by ranks, for sets of any size, with its interval.

    The variance is that of DeLong, DeLong and Clarke-Pearson (1988): of each value's share of the others
    below it, in both sets, whatever their distributions. The interval is Wilson's of a share of as many
    samples as would have this variance, so that it stays in [0, 1] and does not close at 0 and 1, where the
    smaller set counts as the samples.
    """
    for name, values in (("positive", positive), ("negative", negative)):
        checks.enough(f"an AUROC's {name} set", 2, len(values))
        if not np.isfinite(values).all():
            raise ValueError(f"an AUROC needs finite values: the {name} set holds NaN or infinity")
    above, below = share_below(positive, negative), 1 - share_below(negative, positive)
    value = float(above.mean())
    variance = float(np.var(above, ddof=1) / len(above) + np.var(below, ddof=1) / len(below))
    least = min(len(positive), len(negative))
    samples = value * (1 - value) / variance if variance > 0 else least
    return Estimate(value, *wilson(value * samples, samples))
