"""What to climb: builders of objectives, then their algebra.

    towards_cats = add(logit(classifier, 3), scale(10.0, fidelity(photo, known)))

An objective maps one image to a number, and higher is better, so no task ever writes a minus sign. After
`precompose` with the `decode` of a generator it maps the code of an image.

What is climbed through a classifier is a `Reading` of its outputs: sums of readings share one pass.
"""

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsynth_jax.metrics import paired
from rsynth_jax.types import (
    Classifier,
    Decode,
    Features,
    Image,
    Label,
    Logits,
    Mask,
    Objective,
    Outputs,
    Point,
    Scalar,
    Segmenter,
    maps_of,
)


class Reading(NamedTuple):
    """An objective that reads a classifier's outputs, all of one pass.

    Attributes:
      classifier: whose outputs to read.
      read: (outputs, image) -> the objective's value.
    """

    classifier: Classifier
    read: Callable[[Outputs, Image], Scalar]

    def __call__(self, image: Image) -> Scalar:
        """Return the objective's value at an image."""
        return self.read(self.classifier.outputs(image), image)


def reading(classifier: Classifier, read: Callable[[Outputs], Scalar]) -> Reading:
    """Return the objective that maps the outputs of a classifier to a number."""
    return Reading(classifier, lambda outputs, image: read(outputs))


def log_prob(classifier: Classifier, label: Label) -> Objective:
    """log p(label | image): the paper's objective. Its gradient dies once the network is sure."""
    return reading(classifier, lambda outputs: jax.nn.log_softmax(outputs.logits)[label])


def logit(classifier: Classifier, label: Label) -> Objective:
    """The class score itself, the joint energy log p(image, label) + const (JEAT, CEM).

    Unlike `log_prob` it never saturates, and it does not push the other classes down.
    """
    return reading(classifier, lambda outputs: outputs.logits[label])


def logit_plus_log_prob(classifier: Classifier, label: Label) -> Objective:
    """logit + log p(label | image): the class score, and against the other classes (CEM)."""
    return add(logit(classifier, label), log_prob(classifier, label))


def energy(classifier: Classifier) -> Objective:
    """The log-sum-exp of the logits: log p(image) + const of an energy-based classifier (JEM).

    The sign is that of the energy score (Liu et al. 2020): higher for images like those of training.
    """
    return reading(classifier, lambda outputs: jax.nn.logsumexp(outputs.logits))


def cross_entropy(classifier: Classifier, label: Label) -> Objective:
    """-log p(label | image): what an adversary climbs."""
    return scale(-1.0, log_prob(classifier, label))


def margin(classifier: Classifier, label: Label) -> Objective:
    """The best wrong logit minus the right one: positive exactly when the image is misclassified.

    Infinite where a logit is not finite: the network does not classify that image.
    """

    def read(outputs: Outputs) -> Scalar:
        gap = jnp.max(outputs.logits.at[label].set(-jnp.inf)) - outputs.logits[label]
        return jnp.where(jnp.isfinite(outputs.logits).all(), gap, jnp.inf)

    return reading(classifier, read)


def difference(classifier: Classifier, target: Label, label: Label) -> Objective:
    """The target's logit minus the label's."""
    return reading(classifier, lambda outputs: outputs.logits[target] - outputs.logits[label])


def dlr(classifier: Classifier, label: Label) -> Objective:
    """`margin` over the spread of the logits: the same for c * logits (Croce and Hein 2020, eq. 6)."""

    def read(outputs: Outputs) -> Scalar:
        logits = outputs.logits
        return (jnp.max(logits.at[label].set(-jnp.inf)) - logits[label]) / _logit_range(logits, (2,))

    return reading(classifier, read)


def dlr_targeted(classifier: Classifier, target: Label, label: Label) -> Objective:
    """`difference` over the spread of the logits (Croce and Hein 2020, eq. 7)."""

    def read(outputs: Outputs) -> Scalar:
        logits = outputs.logits
        return (logits[target] - logits[label]) / _logit_range(logits, (2, 3))

    return reading(classifier, read)


def _logit_range(logits: Logits, ranks: tuple[int, ...]) -> Scalar:
    """The largest logit minus the mean of the logits of the given ranks (0 is the largest); 1 for fewer."""
    if logits.size <= max(ranks):
        return jnp.ones((), logits.dtype)
    top, _ = jax.lax.top_k(logits, max(ranks) + 1)
    return top[0] - sum(top[rank] for rank in ranks) / len(ranks) + 1e-12


def kl_divergence(classifier: Classifier, reference: Logits) -> Objective:
    """KL(p_reference || p(. | image)): what the TRADES adversary climbs (Zhang et al. 2019, eq. 5)."""
    log_p = jax.nn.log_softmax(reference)

    def read(outputs: Outputs) -> Scalar:
        return jnp.sum(jnp.exp(log_p) * (log_p - jax.nn.log_softmax(outputs.logits)))

    return reading(classifier, read)


def activation(classifier: Classifier, unit: Label) -> Objective:
    """One unit of the penultimate layer: a feature to paint with."""
    return reading(classifier, lambda outputs: outputs.features[unit])


def feature_match(classifier: Classifier, features: Features) -> Objective:
    """-|R(x) - features| / |features|, R the penultimate layer: what inverts a representation.

    Relative as in Engstrom et al. 2019, whose loss it is minus; 0 where the representations agree.
    """
    length = jnp.linalg.norm(features) + 1e-12

    def read(outputs: Outputs) -> Scalar:
        gap = outputs.features - features
        return -jnp.sqrt(jnp.sum(gap**2) + 1e-24) / length

    return reading(classifier, read)


def perceptual(classifier: Classifier, target: Image) -> Objective:
    """Minus the perceptual distance to `target` over the classifier's own layers; 0 where they agree.

    LPIPS with equal weights (Zhang et al. 2018, eq. 1): summed over the residual blocks, the mean over
    positions of |unit(map) - unit(map of target)|^2.
    """
    wanted = classifier.maps(target)
    heads = [jnp.ones(layer.shape[-1]) for layer in wanted]
    return reading(classifier, lambda outputs: -paired.lpips(maps_of(outputs), wanted, heads))


def smoothness() -> Objective:
    """Minus the total variation: the mean of |differences| between neighbours, down and across."""

    def objective(image: Image):
        return -jnp.mean(jnp.abs(jnp.diff(image, axis=0))) - jnp.mean(jnp.abs(jnp.diff(image, axis=1)))

    return objective


def fidelity(target: Image, where: Mask) -> Objective:
    """Minus the mean squared error to `target` on `where`, a mean over the whole image's values.

    `where` is a mask, or weights of 0 ... 1 for one with soft edges.
    """
    weights = jnp.asarray(where, jnp.float32)
    return lambda image: -jnp.mean(weights * (image - target) ** 2)


def presence(segmenter: Segmenter, label: Label, where: Mask) -> Objective:
    """The mean log-probability of a class over the pixels of `where`, as a segmenter sees them.

    `where` is a mask, or weights of 0 ... 1 for one with soft edges. With a classifier's own terms beside it,
    and in pixels or codes, it asks for a window here: insertion without surgery.
    """
    weights = jnp.asarray(where, jnp.float32)[..., 0]

    def objective(image: Image) -> Scalar:
        log_p = jax.nn.log_softmax(segmenter(image))[..., label]
        return jnp.sum(weights * log_p) / jnp.maximum(jnp.sum(weights), 1e-12)

    return objective


def scale(factor: float, objective: Objective) -> Objective:
    """factor * objective."""
    if isinstance(objective, Reading):
        return objective._replace(read=lambda *inputs: factor * objective.read(*inputs))
    return lambda point: factor * objective(point)


def add(*objectives: Objective) -> Objective:
    """The sum of objectives; those that read one classifier are one reading, of one pass."""
    classifier = next((each.classifier for each in objectives if isinstance(each, Reading)), None)
    if classifier is None:
        return lambda point: _sum(each(point) for each in objectives)

    def value(objective: Objective, outputs: Outputs, point: Point) -> Scalar:
        shared = isinstance(objective, Reading) and objective.classifier == classifier
        return objective.read(outputs, point) if shared else objective(point)

    return Reading(classifier, lambda *inputs: _sum(value(each, *inputs) for each in objectives))


def _sum(values: Iterable[Scalar]) -> Scalar:
    return functools.reduce(jnp.add, values)


def precompose(objective: Objective, decode: Decode) -> Objective:
    """The objective of the decoded image, or of the transformed one: decode first, then judge."""
    return lambda point: objective(decode(point))


# What to climb towards a class, by name: (classifier, label) -> Objective.
CLASS_OBJECTIVES = {
    "log-prob": log_prob,
    "logit": logit,
    "sum": logit_plus_log_prob,
    "energy": lambda classifier, _: energy(classifier),
}
