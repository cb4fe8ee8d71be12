"""Adversaries of training: an ascent of a loss inside a small ball around one clean image.

adversary = pgd(Threat(L2, epsilon=0.5), Steps(step_size=0.1, num_steps=20))
adversarial = adversary(key, classifier, image, label)        # batch norm in evaluation mode
"""

from collections.abc import Callable

import jax

from rsynth_jax.attacks.threats import Steps, Threat, allowed, random_start
from rsynth_jax.synthesis import ascent, objectives
from rsynth_jax.types import Classifier, Image, Key, Label, Objective

Adversary = Callable[[Key, Classifier, Image, Label], Image]


def identity() -> Adversary:
    """Return the clean image: natural training."""
    return lambda key, classifier, image, label: image


def pgd(threat: Threat, steps: Steps) -> Adversary:
    """Climb the cross-entropy from a random start (Madry et al. 2018)."""

    def adversary(key: Key, classifier: Classifier, image: Image, label: Label) -> Image:
        start = random_start(key, threat, image)
        return _climb(threat, steps, objectives.cross_entropy(classifier, label), image, start)

    return adversary


def trades(threat: Threat, steps: Steps) -> Adversary:
    """Climb KL(p(clean) || p(.)) from the clean image plus 0.001 N(0, I) (Zhang et al. 2019, sec. 5)."""

    def adversary(key: Key, classifier: Classifier, image: Image, label: Label) -> Image:
        start = image + 0.001 * jax.random.normal(key, image.shape, image.dtype)
        objective = objectives.kl_divergence(classifier, classifier.logits(image))
        return _climb(threat, steps, objective, image, start)

    return adversary


def _climb(threat: Threat, steps: Steps, objective: Objective, image: Image, start: Image) -> Image:
    optimizer = ascent.steepest(threat.norm, steps.step_size)
    climb = ascent.projected_gradient_ascent(objective, allowed(threat, image), optimizer)
    return ascent.run(climb, start, steps.num_steps)[0]
