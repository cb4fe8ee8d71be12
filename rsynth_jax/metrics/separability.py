"""Linear separability of codes (Karras et al. 2019, section 4.2): do attributes of images have a direction?

    estimate = separability(styles, margins, np.random.default_rng(0))

For each attribute a linear classifier is fitted to the codes. exp(sum over attributes of H(Y | X)), Y what a
judge sees in the image, X what the linear classifier predicts from the code, is 1 where every attribute is
on one side of a plane. An attribute that a code does not tell at all multiplies it by exp H(Y), at most 2.
"""

import numpy as np
from jaxtyping import Bool, Float

from rsynth_jax import checks
from rsynth_jax.metrics.estimates import Estimate, bootstrapped

KEPT = 0.5  # share of the codes, the judge's most certain, as in the paper
FEWEST = 8  # codes
RIDGE = 1e-4  # weight of half the squared length of the plane's normal
ROUNDS = 50  # of Newton's method at most
REPLICATES = 200


def separability(
    codes: Float[np.ndarray, "n d"], margins: Float[np.ndarray, "n a"], rng: np.random.Generator
) -> Estimate:
    """Estimate exp of the summed conditional entropies, in [1, 2^a].

    The classifier is a logistic regression. Unlike the paper's support vector machine it is judged on codes
    that it was not fitted to: each half of the codes by the other half, so that chance separates nothing.

    Args:
      codes: latents or styles.
      margins: of each attribute: its sign is the judge's answer, its size how certain the judge is. The most
        certain half of the codes is used.
      rng: of the halves and the bootstrap, which draws codes anew and fits nothing anew.
    """
    checks.features("a separability", FEWEST, codes)
    checks.finite(margins=margins)
    tables = np.stack([_table(codes, column, rng) for column in margins.T])
    num = tables[0].sum()
    replicates = np.stack([rng.multinomial(num, table.ravel() / num, REPLICATES) for table in tables], 1)
    value = float(_score(tables))
    return bootstrapped(value, _score(replicates.reshape(REPLICATES, -1, 2, 2)), lowest=1.0)


def conditional_entropy(tables: np.ndarray) -> Float[np.ndarray, "*b"]:
    """Compute H(Y | X) in nats of tables (..., x, y) of how often X = x and Y = y."""
    joint = tables / tables.sum(axis=(-2, -1), keepdims=True)
    given = joint / np.maximum(joint.sum(axis=-1, keepdims=True), 1e-300)
    return -np.sum(joint * np.log(np.where(given > 0, given, 1)), axis=(-2, -1))


def fit_logistic(codes: Float[np.ndarray, "n d"], answers: Bool[np.ndarray, " n"]) -> np.ndarray:
    """Fit weights (d + 1,), the bias last, to the mean logistic loss and a ridge, by Newton's method."""
    points = np.concatenate([codes, np.ones((len(codes), 1))], axis=1).astype(np.float64)
    signed = np.where(answers, 1.0, -1.0)[:, None] * points

    def loss(weights: np.ndarray) -> float:
        return float(np.mean(np.logaddexp(0, -signed @ weights)) + RIDGE / 2 * weights @ weights)

    weights = np.zeros(points.shape[1])
    for _ in range(ROUNDS):
        wrong = 1 / (1 + np.exp(np.clip(signed @ weights, -500, 500)))
        slope = RIDGE * weights - wrong @ signed / len(points)
        curve = (points.T * (wrong * (1 - wrong))) @ points / len(points) + RIDGE * np.eye(len(weights))
        move = np.linalg.solve(curve, slope)
        rate = next((2.0**-i for i in range(30) if loss(weights - 2.0**-i * move) < loss(weights)), 0.0)
        weights = weights - rate * move
        if rate * np.abs(move).max() < 1e-8:
            break
    return weights


def _table(codes: np.ndarray, margins: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How often the plane, then the judge, answer no or yes, (2, 2)."""
    kept = np.argsort(-np.abs(margins), kind="stable")[: max(FEWEST, round(KEPT * len(margins)))]
    kept = rng.permutation(kept)
    points = codes[kept] - codes[kept].mean(axis=0)
    points = points / (points.std(axis=0) + 1e-12)
    answers = margins[kept] > 0
    halves = np.arange(len(kept)) % 2 == 0
    said = np.empty(len(kept), bool)
    for half in (halves, ~halves):
        weights = fit_logistic(points[~half], answers[~half])
        said[half] = points[half] @ weights[:-1] + weights[-1] > 0
    return np.histogram2d(said, answers, bins=2, range=[[0, 1], [0, 1]])[0].astype(int)


def _score(tables: np.ndarray) -> np.ndarray:
    return np.exp(conditional_entropy(tables).sum(axis=-1))
