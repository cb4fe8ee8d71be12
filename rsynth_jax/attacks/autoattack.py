"""The attacks of evaluation, each a sequence of attempts at one image, and AutoAttack, their combination.

    for attack in standard(Threat(L2, 0.5), num_classes=10):
        attempt = attack.attempt(key, classifier, Example(image, label, logits), index=0)

An attempt is a start and an `Ascent`, whatever it moves by: gradients with momentum, linear models of the
boundary, or random squares. `rsynth_jax.attacks.runner` runs them on many images. The functions are cached:
equal arguments give the same attack, whose programs are compiled once.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsynth_jax.attacks import apgd, fab, square
from rsynth_jax.attacks.threats import Steps, Threat, allowed, random_start
from rsynth_jax.synthesis import ascent, objectives
from rsynth_jax.synthesis.ascent import Ascent
from rsynth_jax.types import Classifier, Image, Key, Label, Logits, Objective, Scalar

Loss = Callable[[Classifier, Label], Objective]  # ascended: higher is further from the label

LOSSES: dict[str, Loss] = {  # for programs
    "ce": objectives.cross_entropy,
    "margin": objectives.margin,
    "dlr": objectives.dlr,
}
TARGETS = 9  # of the targeted attacks, as in AutoAttack
QUERIES = 5000  # of the Square Attack, as in AutoAttack
STEPS = 100  # of the others, as in AutoAttack


class Example(NamedTuple):
    """What is attacked: a clean image, its label, and the logits the classifier gives it."""

    image: Image
    label: Label
    logits: Logits


class Attempt(NamedTuple):
    """One try: where it starts and how it moves. It succeeds once the ascent's image is adversarial."""

    start: Image
    ascent: Ascent


class Attack(NamedTuple):
    """A method to find an adversarial image, tried on each image until one attempt succeeds.

    Attributes:
      name: as tables show it.
      attempt: (key, classifier, example, index of the try) -> Attempt.
      num_steps: of an attempt's ascent.
      num_tries: restarts, or targets.
    """

    name: str
    attempt: Callable[[Key, Classifier, Example, Label], Attempt]
    num_steps: int
    num_tries: int = 1


def is_adversarial(threat: Threat, classifier: Classifier, example: Example, image: Image) -> Scalar:
    """Whether an image is misclassified and within the threat, up to the rounding of float32."""
    distance = threat.norm.length(image - example.image)
    wrong = objectives.margin(classifier, example.label)(image) > 0
    return wrong & (distance <= threat.epsilon * (1 + 1e-5) + 1e-6)


@functools.cache
def pgd(threat: Threat, steps: Steps, loss: Loss = objectives.cross_entropy, restarts: int = 1) -> Attack:
    """Projected gradient ascent (Madry et al. 2018) of `loss`, from random starts."""

    def attempt(key: Key, classifier: Classifier, example: Example, index: Label) -> Attempt:
        climb = ascent.projected_gradient_ascent(
            loss(classifier, example.label),
            allowed(threat, example.image),
            ascent.steepest(threat.norm, steps.step_size),
        )
        return _from_random_start(key, threat, classifier, example, climb)

    return Attack(f"PGD-{steps.num_steps}", attempt, steps.num_steps, restarts)


@functools.cache
def auto_pgd(
    threat: Threat, num_steps: int = STEPS, loss: Loss = objectives.cross_entropy, restarts: int = 1
) -> Attack:
    """APGD (Croce and Hein 2020) of `loss`; it chooses its own step sizes."""

    def attempt(key: Key, classifier: Classifier, example: Example, index: Label) -> Attempt:
        objective = loss(classifier, example.label)
        return _auto_pgd_attempt(key, threat, num_steps, classifier, example, objective)

    names = {function: name for name, function in LOSSES.items()}
    return Attack(f"APGD-{names.get(loss, 'loss').upper()}", attempt, num_steps, restarts)


@functools.cache
def auto_pgd_targeted(threat: Threat, num_steps: int = STEPS, num_targets: int = TARGETS) -> Attack:
    """APGD of the targeted DLR loss, towards each of the likeliest wrong classes in turn."""

    def attempt(key: Key, classifier: Classifier, example: Example, index: Label) -> Attempt:
        objective = objectives.dlr_targeted(classifier, _wrong_class(example, index), example.label)
        return _auto_pgd_attempt(key, threat, num_steps, classifier, example, objective)

    return Attack("APGD-T", attempt, num_steps, num_targets)


@functools.cache
def fab_targeted(threat: Threat, num_steps: int = STEPS, num_targets: int = TARGETS) -> Attack:
    """FAB towards each of the likeliest wrong classes in turn; success is to end within the threat."""

    def attempt(key: Key, classifier: Classifier, example: Example, index: Label) -> Attempt:
        towards = objectives.difference(classifier, _wrong_class(example, index), example.label)
        margin = objectives.margin(classifier, example.label)
        climb = fab.fab(towards, margin, example.image, threat.norm)
        return Attempt(example.image, _until_adversarial(threat, classifier, example, climb))

    return Attack("FAB-T", attempt, num_steps, num_targets)


@functools.cache
def square_attack(threat: Threat, num_queries: int = QUERIES, restarts: int = 1) -> Attack:
    """The Square Attack (Andriushchenko et al. 2020) of the margin."""

    def attempt(key: Key, classifier: Classifier, example: Example, index: Label) -> Attempt:
        margin = objectives.margin(classifier, example.label)
        climb = square.square(key, margin, example.image, threat.norm, threat.epsilon, num_queries)
        return Attempt(example.image, climb)

    return Attack("Square", attempt, num_queries, restarts)


def standard(threat: Threat, num_classes: int) -> tuple[Attack, ...]:
    """AutoAttack's standard version (Croce and Hein 2020): APGD-CE, APGD-T, FAB-T, Square."""
    num_targets = min(TARGETS, num_classes - 1)
    return (
        auto_pgd(threat, STEPS),
        auto_pgd_targeted(threat, STEPS, num_targets),
        fab_targeted(threat, STEPS, num_targets),
        square_attack(threat, QUERIES),
    )


def _until_adversarial(threat: Threat, classifier: Classifier, example: Example, climb: Ascent) -> Ascent:
    """Stop at the first adversarial image."""
    return ascent.stop_when(functools.partial(is_adversarial, threat, classifier, example), climb)


def _from_random_start(
    key: Key, threat: Threat, classifier: Classifier, example: Example, climb: Ascent
) -> Attempt:
    """The climb from a random start to the first adversarial image."""
    start = random_start(key, threat, example.image)
    return Attempt(start, _until_adversarial(threat, classifier, example, climb))


def _auto_pgd_attempt(
    key: Key, threat: Threat, num_steps: int, classifier: Classifier, example: Example, objective: Objective
) -> Attempt:
    """Auto-PGD of any objective, from a random start."""
    climb = apgd.auto_pgd(objective, allowed(threat, example.image), threat.norm, threat.epsilon, num_steps)
    return _from_random_start(key, threat, classifier, example, climb)


def _wrong_class(example: Example, index: Label) -> jax.Array:
    """The class of the index-th largest logit, the example's own left out."""
    others = example.logits.at[example.label].set(-jnp.inf)
    return jnp.argsort(others, descending=True)[index]
