"""rsynth-evaluate: how often a classifier is right, on clean images and under attack.

rsynth-evaluate --classifier cifar10 --data tfds:cifar10 --data-dir DIR --num 1000
"""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
from tyro.conf import arg

from rsynth_jax import attacks, checkpoints, checks, console, data, datasets, evaluation, models
from rsynth_jax.attacks import Threat
from rsynth_jax.metrics import estimates


@dataclasses.dataclass(frozen=True)
class Options:
    """rsynth-evaluate: how often a classifier is right, on clean images and under attack.

    The attack is PGD from a random start, on the classifier's own threat unless told otherwise. The
    interval is Wilson's, 95 %. The paper's CIFAR-10 threat is l2 with epsilon 0.5.
    """

    classifier: str = "cifar10"
    """A bundled classifier by name, a .safetensors file, or a training run."""
    data: Annotated[str, arg(metavar="KIND:PLACE")] = "tfds:cifar10"
    """tfds:NAME, folder:PATH (one folder a class) or npz:FILE."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """Where TFDS data sets lie; TFDS's own default otherwise."""
    image_size: Annotated[int | None, arg(metavar="PIXELS")] = None
    """Resize the central square of every image to this side."""
    split: str = "test"
    """Which images; all is a folder or file without splits."""
    num: int = 1000
    """How many, from the first on."""
    norm: Annotated[str | None, arg(metavar="NORM")] = None
    """Of the attack: l2 or linf; the classifier's own by default."""
    epsilon: Annotated[float | None, arg(metavar="RADIUS")] = None
    """Its radius, in pixel values of [0, 1]; the classifier's own by default."""
    steps: int = 20
    """Steps of the attack."""
    step_size: Annotated[float | None, arg(metavar="LENGTH")] = None
    """Length of a step; 4 epsilon / steps by default (0.1 for 20 steps at epsilon 0.5)."""
    restarts: int = 1
    """Random starts for each image; it must withstand all of them."""
    batch_size: int = 100
    """Images attacked together."""
    seed: int = 0
    """Of the random starts."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write every number printed."""


def threat(options: Options, own: Threat) -> Threat:
    """The attack's threat: the flags, else the classifier's own."""
    norm = own.norm if options.norm is None else options.norm
    epsilon = own.epsilon if options.epsilon is None else options.epsilon
    step_size = 4 * epsilon / options.steps if options.step_size is None else options.step_size
    checks.named("norm", norm, attacks.BALLS)
    checks.not_negative(epsilon=epsilon, step_size=step_size)
    return Threat(norm, epsilon, step_size, options.steps)


def compatible(release: checkpoints.Release, dataset: datasets.Dataset) -> None:
    """Raise ValueError unless the data set has the classifier's classes, in its order."""
    if dataset.class_names != release.class_names:
        has, needs = ", ".join(dataset.class_names), ", ".join(release.class_names)
        raise ValueError(f"the data set's classes ({has}) are not the classifier's ({needs})")


def evaluate(options: Options) -> int:
    """Load, attack, count."""
    checks.positive(
        num=options.num, steps=options.steps, restarts=options.restarts, batch_size=options.batch_size
    )
    checks.not_negative(seed=options.seed)
    checkpoints.writable(options.json)
    release = checkpoints.load(options.classifier)
    against = threat(options, release.threat)
    dataset = data.load(options.data, options.split, options.data_dir, options.image_size)
    compatible(release, dataset)
    images, labels = datasets.head(dataset, options.num)
    adversary = attacks.restarts(attacks.pgd(against), options.restarts)
    eval_step = jax.jit(evaluation.make_eval_step(models.create(release.config), adversary))
    size = max(1, options.batch_size // options.restarts)
    key = jax.random.key(options.seed)
    with console.bar() as bar:
        track = functools.partial(bar.track, description="attacking")
        right = evaluation.judge(eval_step, release.variables, key, images, labels, size, track)
    numbers = {"num": len(labels), "restarts": options.restarts} | against._asdict()
    numbers |= counted("clean", right.clean) | counted("adversarial", right.adversarial)
    console.report(options.json, numbers)
    print(
        f"{options.classifier} on {len(labels)} images: clean {said(numbers, 'clean')}, "
        f"PGD-{against.num_steps} {against.norm} {against.epsilon:g} {said(numbers, 'adversarial')}"
    )
    return 0


def counted(name: str, right: np.ndarray) -> dict[str, float | list[float]]:
    """The share of the right ones, and its interval."""
    share, *interval = estimates.share(right)
    return {name: share, f"{name}_interval": interval}


def said(numbers: dict, name: str) -> str:
    """A share and its interval in words."""
    low, high = numbers[f"{name}_interval"]
    return f"{numbers[name]:.1%} [{low:.1%}, {high:.1%}]"


def main() -> None:
    """The command."""
    console.run(Options, evaluate)


if __name__ == "__main__":
    main()
