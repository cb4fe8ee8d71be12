"""The attacks of evaluation, each a sequence of attempts at one image, and AutoAttack, their combination.

    for attack in standard(Threat(L2, 0.5), num_classes=10):
        attempt = attack.attempt(key, classifier, Example(image, label, logits), index=0)

The functions are cached: equal arguments give the same attack, whose programs are compiled once
(`rsynth_jax.attacks.runner`).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rsynth_jax import checks
from rsynth_jax.attacks import apgd, fab, square
from rsynth_jax.attacks.threats import Steps, Threat, allowed, check, random_start, usable
from rsynth_jax.synthesis import ascent, objectives
from rsynth_jax.synthesis.ascent import Ascent
from rsynth_jax.types import Classifier, Image, Key, Label, Logits, Objective, Scalar

Loss = Callable[[Classifier, Label], Objective]  # ascended: higher is further from the label

LOSSES: dict[str, Loss] = {"ce": objectives.cross_entropy, "margin": objectives.margin, "dlr": objectives.dlr}
TARGETS = 9  # of the targeted attacks, as in AutoAttack
QUERIES = 5000  # of the Square Attack, as in AutoAttack
STEPS = 100  # of the others, as in AutoAttack


class Example(NamedTuple):
    """A clean image, its label, and the classifier's logits."""

    image: Image
    label: Label
    logits: Logits


class Attempt(NamedTuple):
    """A start and an ascent, which succeeds once its image is adversarial."""

    start: Image
    ascent: Ascent


class Attack(NamedTuple):
    """A method to find an adversarial image, tried on each image until one attempt succeeds.

    Attributes:
      name: for tables.
      attempt: (key, classifier, example, index of the try) -> Attempt.
      num_steps: of an attempt's ascent.
      num_tries: restarts, or targets.
    """

    name: str
    attempt: Callable[[Key, Classifier, Example, Label], Attempt]
    num_steps: int
    num_tries: int = 1


def is_adversarial(threat: Threat, classifier: Classifier, example: Example, image: Image) -> Scalar:
    """Check that an image is misclassified and within the threat, up to the rounding of float32."""
    distance = threat.norm.length(image - example.image)
    wrong = objectives.margin(classifier, example.label)(image) > 0
    return wrong & (distance <= threat.epsilon * (1 + 1e-5) + 1e-6)


@functools.cache
def pgd(threat: Threat, steps: Steps, loss: Loss = objectives.cross_entropy, restarts: int = 1) -> Attack:
    """Climb `loss` by projected gradient ascent (Madry et al. 2018) from random starts."""

    check(threat, steps.step_size)

    def attempt(key: Key, classifier: Classifier, example: Example, index: Label) -> Attempt:
        objective = loss(classifier, example.label)
        follow = optax.stateless(lambda gradient, _: usable(jnp.asarray(gradient)))
        optimizer = optax.chain(follow, ascent.steepest(threat.norm, steps.step_size))
        climb = ascent.projected_gradient_ascent(objective, allowed(threat, example.image), optimizer)
        start = random_start(key, threat, example.image)
        return _attempt(start, threat, classifier, example, climb)

    return Attack(f"PGD-{steps.num_steps}", attempt, steps.num_steps, restarts)


@functools.cache
def auto_pgd(
    threat: Threat, num_steps: int = STEPS, loss: Loss = objectives.cross_entropy, restarts: int = 1
) -> Attack:
    """Climb `loss` by APGD (Croce and Hein 2020), which chooses its own step sizes."""

    names = {function: name.upper() for name, function in LOSSES.items()}
    name = f"APGD-{names.get(loss, 'LOSS')}"
    return _auto_pgd(name, threat, num_steps, restarts, lambda c, example, _: loss(c, example.label))


@functools.cache
def auto_pgd_targeted(threat: Threat, num_steps: int = STEPS, num_targets: int = TARGETS) -> Attack:
    """Climb the targeted DLR loss by APGD, towards each of the likeliest wrong classes in turn."""

    def objective(classifier: Classifier, example: Example, index: Label) -> Objective:
        return objectives.dlr_targeted(classifier, _wrong_class(example, index), example.label)

    return _auto_pgd("APGD-T", threat, num_steps, num_targets, objective)


@functools.cache
def fab_targeted(threat: Threat, num_steps: int = STEPS, num_targets: int = TARGETS) -> Attack:
    """Run FAB towards each of the likeliest wrong classes in turn, until it is within the threat."""

    check(threat)

    def attempt(key: Key, classifier: Classifier, example: Example, index: Label) -> Attempt:
        towards = objectives.difference(classifier, _wrong_class(example, index), example.label)
        margin = objectives.margin(classifier, example.label)
        climb = fab.fab(towards, margin, example.image, threat.norm)
        return _attempt(example.image, threat, classifier, example, climb)

    return Attack("FAB-T", attempt, num_steps, num_targets)


@functools.cache
def square_attack(threat: Threat, num_queries: int = QUERIES, restarts: int = 1) -> Attack:
    """Climb the margin by the Square Attack (Andriushchenko et al. 2020)."""

    check(threat)

    def attempt(key: Key, classifier: Classifier, example: Example, index: Label) -> Attempt:
        margin = objectives.margin(classifier, example.label)
        climb = square.square(key, margin, example.image, threat.norm, threat.epsilon, num_queries)
        return Attempt(example.image, climb)

    return Attack("Square", attempt, num_queries, restarts)


def standard(threat: Threat, num_classes: int) -> tuple[Attack, ...]:
    """List the attacks of AutoAttack's standard version (Croce and Hein 2020)."""
    num_targets = min(TARGETS, num_classes - 1)
    return (
        auto_pgd(threat, STEPS),
        auto_pgd_targeted(threat, STEPS, num_targets),
        fab_targeted(threat, STEPS, num_targets),
        square_attack(threat, QUERIES),
    )


def named(
    name: str, threat: Threat, steps: Steps, loss: Loss, restarts: int, num_classes: int
) -> tuple[Attack, ...]:
    """Return the attacks of a name, such as pgd or autoattack. Raises ValueError for an unknown one."""
    num = num_classes - 1
    attacks = {
        "pgd": lambda: (pgd(threat, steps, loss, restarts),),
        "apgd": lambda: (auto_pgd(threat, steps.num_steps, loss, restarts),),
        "apgd-t": lambda: (auto_pgd_targeted(threat, steps.num_steps, num),),
        "fab-t": lambda: (fab_targeted(threat, steps.num_steps, num),),
        "square": lambda: (square_attack(threat, steps.num_steps, restarts),),
        "autoattack": lambda: standard(threat, num_classes),
    }
    return checks.named("attack", name, attacks)()


def _auto_pgd(
    name: str,
    threat: Threat,
    num_steps: int,
    num_tries: int,
    objective: Callable[[Classifier, Example, Label], Objective],
) -> Attack:
    check(threat)

    def attempt(key: Key, classifier: Classifier, example: Example, index: Label) -> Attempt:
        goal = objective(classifier, example, index)
        climb = apgd.auto_pgd(goal, allowed(threat, example.image), threat.norm, threat.epsilon, num_steps)
        start = random_start(key, threat, example.image)
        return _attempt(start, threat, classifier, example, climb)

    return Attack(name, attempt, num_steps, num_tries)


def _attempt(
    start: Image, threat: Threat, classifier: Classifier, example: Example, climb: Ascent
) -> Attempt:
    """The climb from `start` to the first adversarial image."""
    done = functools.partial(is_adversarial, threat, classifier, example)
    return Attempt(start, ascent.stop_when(done, climb))


def _wrong_class(example: Example, index: Label) -> jax.Array:
    """The class of the index-th largest logit, without the example's own."""
    others = example.logits.at[example.label].set(-jnp.inf)
    return jnp.argsort(others, descending=True)[index]
