"""The attacks of evaluation, each a sequence of attempts at one image, and their standard combination.

    for attack in standard("l2", 0.5, num_classes=10):
        start, climb = attack.attempt(key, classifier, Example(image, label, logits), index=0)

An attempt is a start and an `Ascent`, whatever moves it: gradients with momentum, linear models of the
boundary, or random squares. `rsynth_jax.attacks.runner` carries them out on many images.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from rsynth_jax import checks
from rsynth_jax.attacks import apgd, fab, square
from rsynth_jax.attacks.adversaries import Threat, allowed, random_start
from rsynth_jax.synthesis import ascent, objectives
from rsynth_jax.synthesis.ascent import Ascent
from rsynth_jax.types import Classifier, Image, Key, Label, Logits, Scalar

LOSSES = {"ce": objectives.cross_entropy, "margin": objectives.margin, "dlr": objectives.dlr}
TARGETS = 9  # of the targeted attacks, as in AutoAttack
QUERIES = 5000  # of the Square Attack, as in AutoAttack
STEPS = 100  # of the others, as in AutoAttack


class Example(NamedTuple):
    """What is attacked: a clean image, its label, and the logits the classifier gives it."""

    image: Image
    label: Label
    logits: Logits


class Attempt(NamedTuple):
    """One try: where it starts and how it moves. It has won once the ascent's image is adversarial."""

    start: Image
    ascent: Ascent


class Attack(NamedTuple):
    """A way to break a classifier, tried again and again on one image until a try wins.

    Attributes:
      name: as tables show it.
      attempt: (key, classifier, victim, index of the try) -> Attempt.
      num_steps: of an attempt's ascent.
      num_tries: restarts, or targets.
    """

    name: str
    attempt: Callable[[Key, Classifier, Example, Label], Attempt]
    num_steps: int
    num_tries: int = 1


def adversarial(threat: Threat, classifier: Classifier, victim: Example, image: Image) -> Scalar:
    """Whether an image is misclassified and within the threat, up to the rounding of float32."""
    moved = fab.LENGTHS[threat.norm](image - victim.image)
    wrong = objectives.margin(classifier, victim.label)(image) > 0
    return wrong & (moved <= threat.epsilon * (1 + 1e-5) + 1e-6)


def until_adversarial(threat: Threat, classifier: Classifier, victim: Example, climb: Ascent) -> Ascent:
    """Stop at the first adversarial image."""
    return ascent.stop_when(functools.partial(adversarial, threat, classifier, victim), climb)


def from_random(key: Key, threat: Threat, classifier: Classifier, victim: Example, climb: Ascent) -> Attempt:
    """The climb from a random start, until it has won."""
    start = random_start(key, threat, victim.image)
    return Attempt(start, until_adversarial(threat, classifier, victim, climb))


def runner_up(victim: Example, index: Label) -> Label:
    """The class of the index-th largest logit, the victim's own left out."""
    others = victim.logits.at[victim.label].set(-jnp.inf)
    return jnp.argsort(others, descending=True)[index]


def pgd(threat: Threat, loss: str = "ce", restarts: int = 1) -> Attack:
    """Projected gradient ascent (Madry et al. 2018) on one of `LOSSES`, from random starts."""
    objective = checks.named("loss", loss, LOSSES)

    def attempt(key, classifier, victim, index):
        rule = ascent.steepest(threat.norm, threat.step_size)
        within = allowed(threat, victim.image)
        climb = ascent.projected_gradient_ascent(objective(classifier, victim.label), within, rule)
        return from_random(key, threat, classifier, victim, climb)

    return Attack(f"PGD-{threat.num_steps}", attempt, threat.num_steps, restarts)


def apgd_attempt(key, threat: Threat, classifier, victim: Example, objective) -> Attempt:
    """Auto-PGD of any objective, from a random start."""
    within = allowed(threat, victim.image)
    climb = apgd.auto_pgd(objective, within, threat.norm, threat.epsilon, threat.num_steps)
    return from_random(key, threat, classifier, victim, climb)


def auto_pgd(threat: Threat, loss: str = "ce", restarts: int = 1) -> Attack:
    """APGD (Croce and Hein 2020) on one of `LOSSES`; it chooses its own step sizes."""
    objective = checks.named("loss", loss, LOSSES)

    def attempt(key, classifier, victim, index):
        return apgd_attempt(key, threat, classifier, victim, objective(classifier, victim.label))

    return Attack(f"APGD-{loss.upper()}", attempt, threat.num_steps, restarts)


def auto_pgd_targeted(threat: Threat, num_targets: int = TARGETS) -> Attack:
    """APGD on the targeted DLR loss, towards each of the likeliest wrong classes in turn."""

    def attempt(key, classifier, victim, index):
        target = runner_up(victim, index)
        objective = objectives.dlr_targeted(classifier, target, victim.label)
        return apgd_attempt(key, threat, classifier, victim, objective)

    return Attack("APGD-T", attempt, threat.num_steps, num_targets)


def fab_targeted(threat: Threat, num_targets: int = TARGETS) -> Attack:
    """FAB towards each of the likeliest wrong classes in turn; it wins where it ends within the threat."""

    def attempt(key, classifier, victim, index):
        towards = objectives.difference(classifier, runner_up(victim, index), victim.label)
        margin = objectives.margin(classifier, victim.label)
        climb = fab.fab(towards, margin, victim.image, threat.norm)
        return Attempt(victim.image, until_adversarial(threat, classifier, victim, climb))

    return Attack("FAB-T", attempt, threat.num_steps, num_targets)


def squares(threat: Threat, restarts: int = 1) -> Attack:
    """The Square Attack on the margin, of `num_steps` queries."""

    def attempt(key, classifier, victim, index):
        margin = objectives.margin(classifier, victim.label)
        climb = square.square(key, margin, victim.image, threat.norm, threat.epsilon, threat.num_steps)
        return Attempt(victim.image, climb)

    return Attack("Square", attempt, threat.num_steps, restarts)


def standard(norm: str, epsilon: float, num_classes: int) -> tuple[Attack, ...]:
    """AutoAttack's standard version (Croce and Hein 2020): APGD-CE, APGD-T, FAB-T, Square."""
    threat = Threat(norm, epsilon, step_size=2 * epsilon, num_steps=STEPS)
    num_targets = min(TARGETS, num_classes - 1)
    return (
        auto_pgd(threat),
        auto_pgd_targeted(threat, num_targets),
        fab_targeted(threat, num_targets),
        squares(threat._replace(num_steps=QUERIES)),
    )
