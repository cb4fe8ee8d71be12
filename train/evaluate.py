"""rsynth-evaluate: how often a classifier is right, on clean images and under attack.

rsynth-evaluate --classifier cifar10 --data tfds:cifar10 --data-dir DIR --attack autoattack
"""

import dataclasses
import functools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
from tyro.conf import arg

from rsynth_jax import checks, models
from rsynth_jax.attacks import autoattack as attempts
from rsynth_jax.attacks import evaluation
from rsynth_jax.attacks import runner as siege
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.cli import run as console
from rsynth_jax.data import loader as datasets
from rsynth_jax.data import sources as data
from rsynth_jax.metrics import estimates
from rsynth_jax.storage import files
from rsynth_jax.storage import releases as checkpoints
from rsynth_jax.synthesis.norms import NORMS

ATTACKS = {
    "pgd": lambda o, threat, s, classes: (attempts.pgd(threat, s, attempts.LOSSES[o.loss], o.restarts),),
    "apgd": lambda o, threat, s, classes: (
        attempts.auto_pgd(threat, s.num_steps, attempts.LOSSES[o.loss], o.restarts),
    ),
    "apgd-t": lambda o, threat, s, classes: (attempts.auto_pgd_targeted(threat, s.num_steps, classes - 1),),
    "fab-t": lambda o, threat, s, classes: (attempts.fab_targeted(threat, s.num_steps, classes - 1),),
    "square": lambda o, threat, s, classes: (attempts.square_attack(threat, s.num_steps, o.restarts),),
    "autoattack": lambda o, threat, s, classes: attempts.standard(threat, classes),
}
STEPS = {"pgd": 20, "square": attempts.QUERIES}  # else AutoAttack's


@dataclasses.dataclass(frozen=True)
class Options:
    """rsynth-evaluate: how often a classifier is right, on clean images and under attack.

    The threat is the classifier's own unless told otherwise. autoattack is the standard combination of Croce
    and Hein (2020): APGD-CE, APGD-T, FAB-T and Square, each on what the ones before it left standing, with
    their steps, targets and queries. An image counts as lost once any attempt finds an image within the
    threat that is misclassified. The interval is Wilson's, 95 %.
    """

    classifier: str = "cifar10"
    """A bundled classifier by name, a .safetensors file, or a training run."""
    data: Annotated[str, arg(metavar="KIND:PLACE")] = "tfds:cifar10"
    """tfds:NAME, folder:PATH (one folder a class) or npz:FILE."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """Where TFDS data sets lie; TFDS's own default otherwise."""
    image_size: Annotated[int | None, arg(metavar="PIXELS")] = None
    """Resize the central square of every image to this side (Lanczos)."""
    split: str = "test"
    """Which images; all is a folder or file without splits."""
    num: int = 1000
    """How many, from the first on."""
    attack: str = "pgd"
    """pgd, apgd, apgd-t, fab-t, square or autoattack."""
    norm: Annotated[str | None, arg(metavar="NORM")] = None
    """Of the attack: l2 or linf; the classifier's own by default."""
    epsilon: Annotated[float | None, arg(metavar="RADIUS")] = None
    """Its radius, in pixel values of [0, 1]; the classifier's own by default."""
    loss: str = "ce"
    """What pgd and apgd climb: ce, margin or dlr."""
    steps: Annotated[int | None, arg(metavar="STEPS")] = None
    """Steps of an attempt: 20 for pgd, 5000 queries for square, else 100."""
    step_size: Annotated[float | None, arg(metavar="LENGTH")] = None
    """Length of a step of pgd; 4 epsilon / steps by default (0.1 for 20 steps at epsilon 0.5)."""
    restarts: int = 1
    """Random starts of pgd, apgd and square for each image; it must withstand all of them."""
    batch_size: int = siege.BATCH_SIZE
    """Attempts under way together."""
    seed: int = 0
    """Of the random starts."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write every number printed."""


def threat(options: Options, own: Threat) -> tuple[Threat, Steps]:
    """The attack's threat and steps: the flags, else the classifier's own."""
    norm = own.norm.name if options.norm is None else options.norm
    epsilon = own.epsilon if options.epsilon is None else options.epsilon
    steps = STEPS.get(options.attack, attempts.STEPS) if options.steps is None else options.steps
    checks.positive(steps=steps)
    step_size = 4 * epsilon / steps if options.step_size is None else options.step_size
    norm = checks.named("norm", norm, NORMS)
    checks.not_negative(epsilon=epsilon, step_size=step_size)
    return Threat(norm, epsilon), Steps(step_size, steps)


def check(options: Options) -> None:
    """Raise ValueError for a flag that makes no sense."""
    checks.positive(num=options.num, restarts=options.restarts, batch_size=options.batch_size)
    checks.not_negative(seed=options.seed)
    checks.named("attack", options.attack, ATTACKS)
    checks.named("loss", options.loss, attempts.LOSSES)
    if options.attack == "autoattack" and options.steps is not None:
        raise ValueError("autoattack has steps of its own: leave out --steps, or name one of its attacks")
    files.check_writable(options.json)


def compatible(release: checkpoints.Release, dataset: datasets.Dataset) -> None:
    """Raise ValueError unless the data set has the classifier's classes, in its order."""
    if dataset.class_names != release.class_names:
        has, needs = ", ".join(dataset.class_names), ", ".join(release.class_names)
        raise ValueError(f"the data set's classes ({has}) are not the classifier's ({needs})")


def evaluate(options: Options) -> int:
    """Load, attack, count."""
    check(options)
    release = checkpoints.load(options.classifier)
    against, steps = threat(options, release.threat)
    dataset = data.load(options.data, options.split, options.data_dir, options.image_size)
    compatible(release, dataset)
    images, labels = datasets.head(dataset, options.num)
    with console.bar("{task.fields[now]}") as bar:
        rows = list(judged(options, release, against, steps, images, labels, bar))
    numbers = {"num": len(labels), "attack": options.attack, "loss": options.loss}
    numbers |= {"restarts": options.restarts, "seed": options.seed, "norm": against.norm.name}
    numbers |= {"epsilon": against.epsilon} | steps._asdict() | {"rows": rows}
    for name, row in (("clean", rows[0]), ("adversarial", rows[-1])):
        numbers |= {name: row["accuracy"], f"{name}_interval": row["interval"]}
    console.report(options.json, numbers)
    print(table(options, against, rows, len(labels)))
    return 0


def judged(options: Options, release, against: Threat, steps: Steps, images, labels, bar) -> Iterator[dict]:
    """A row for the clean images, then one for each attack: what stands, and the seconds it took."""
    model, key, began = models.create(release.config), jax.random.key(options.seed), time.perf_counter()
    logits = jax.jit(evaluation.make_logits(model))
    victims = evaluation.seen(logits, release.variables, images, labels, options.batch_size)
    standing = evaluation.right(victims.logits, labels)
    yield row("clean", standing, time.perf_counter() - began)
    for attack in ATTACKS[options.attack](options, against, steps, len(release.class_names)):
        began, task = time.perf_counter(), bar.add_task(attack.name, total=None, now="")
        each, report = siege.make_siege(model, against, attack), functools.partial(progress, bar, task)
        fallen = siege.run_attack(each, release.variables, key, victims, standing, options.batch_size, report)
        standing = standing & ~fallen.images
        yield row(attack.name, standing, time.perf_counter() - began)


def progress(bar, task, over: int, total: int, standing: int) -> None:
    """Move the bar: attempts over, and how many images still stand."""
    bar.update(task, completed=over, total=total, now=f"{standing} standing")


def row(name: str, standing: np.ndarray, seconds: float) -> dict:
    """The share of images that still stand, and its interval."""
    accuracy, *interval = estimates.share(standing)
    return {"after": name, "accuracy": accuracy, "interval": interval, "seconds": seconds}


def said(row: dict) -> str:
    """A share and its interval in words."""
    low, high = row["interval"]
    return f"{row['accuracy']:.1%} [{low:.1%}, {high:.1%}]"


def table(options: Options, against: Threat, rows: list[dict], num: int) -> str:
    """What stands after each attack, where there are several; then one line."""
    lines = [f"{row['after']:10s} {said(row):24s} {row['seconds']:7.1f} s" for row in rows] * (len(rows) > 2)
    name = "AutoAttack" if len(rows) > 2 else rows[-1]["after"]
    closing = (
        f"{options.classifier} on {num} images: clean {said(rows[0])}, "
        f"{name} {against.norm.name} {against.epsilon:g} {said(rows[-1])}"
    )
    return "\n".join([*lines, closing])


def main() -> None:
    """The command."""
    console.run(Options, evaluate)


if __name__ == "__main__":
    main()
