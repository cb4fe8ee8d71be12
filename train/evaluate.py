"""rsynth-evaluate: accuracy of a classifier, on clean images and under attack.

rsynth-evaluate --classifier cifar10 --data cifar10 --attack autoattack
"""

import dataclasses
import functools
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from rsynth_jax import checks, seeds
from rsynth_jax.cli import classifiers, options, results
from rsynth_jax.cli.hosts import JoinFlags, is_first
from rsynth_jax.cli.report import print_lines
from rsynth_jax.cli.run import attack_progress, run
from rsynth_jax.data import loader

if TYPE_CHECKING:
    from rsynth_jax.attacks.threats import Steps, Threat


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-evaluate: accuracy of a classifier, on clean images and under attack.

    The threat model is the classifier's own by default. autoattack is the standard combination of Croce and
    Hein (2020): APGD-CE, APGD-T, FAB-T and Square, each on the images that are still classified correctly,
    with their steps, targets and queries. An image counts as lost once any attempt finds an image within the
    threat model that is misclassified. The interval is Wilson's, 95 %.
    """

    classifier: options.ClassifierName = "cifar10"
    dtype: options.Dtype = "float32"
    data: Annotated[str, arg(metavar="KIND:PLACE")] = "cifar10"
    """cifar10, cifar100 or mnist, tfds:NAME, folder:PATH (one folder a class, or testA and testB) or
    npz:FILE."""
    split: str = "test"
    """Split of the data; all is a folder or file without splits."""
    num: int = 1000
    """Only the first N images."""
    attack: str = "pgd"
    """pgd, apgd, apgd-t, fab-t, square or autoattack."""
    norm: Annotated[str | None, arg(metavar="NORM")] = None
    """Norm of the threat model: l2 or linf; the classifier's own by default."""
    epsilon: Annotated[float | None, arg(metavar="RADIUS")] = None
    """Radius of the threat model, in pixel values of [0, 1]; the classifier's own by default."""
    loss: str = "ce"
    """Loss of pgd and apgd: ce, margin or dlr."""
    steps: Annotated[int | None, arg(metavar="STEPS")] = None
    """Number of steps of an attempt: 20 for pgd, 5000 queries for square, else 100."""
    step_size: Annotated[float | None, arg(metavar="LENGTH")] = None
    """Length of a step of pgd; 4 epsilon / steps by default (0.1 for 20 steps at epsilon 0.5)."""
    restarts: int = 1
    """Random starts of pgd, apgd and square for each image, which must withstand all of them."""
    batch_size: options.FittingBatchSize = "auto"
    seed: options.Seed = 0
    json: options.JsonFile = None
    reading: options.LabelledDataFlags = options.LabelledDataFlags()
    hosts: JoinFlags = JoinFlags()
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(num=self.num, restarts=self.restarts)
        checks.given(checks.positive, steps=self.steps)
        if self.batch_size != "auto":
            checks.positive(batch_size=self.batch_size)
        checks.given(checks.not_negative, epsilon=self.epsilon, step_size=self.step_size)
        checks.seed(seed=self.seed)
        if self.attack == "autoattack" and self.steps is not None:
            raise ValueError("autoattack has steps of its own: leave out --steps, or name one of its attacks")


def evaluate(flags: Options) -> int:
    """Evaluate and report."""
    from rsynth_jax import sharding
    from rsynth_jax.attacks import autoattack, evaluation

    options.check_outputs(json=flags.json)
    release = classifiers.load(flags.classifier, flags.dtype)
    threat, steps = threat_of(flags, release.threat)
    loss = checks.named("loss", flags.loss, autoattack.LOSSES)
    attacks = autoattack.named(flags.attack, threat, steps, loss, flags.restarts, len(release.class_names))
    (dataset,) = flags.reading.load_labelled(flags.data, flags.split)
    checks.same_classes(dataset.class_names or (), release.class_names)
    data = loader.in_memory(dataset.first(flags.num))
    size = options.fitting(flags.batch_size, release, most=100)
    with attack_progress() as callback:
        where = (release.model, release.variables, data.images, data.labels, threat, attacks)
        settings = {"batch_size": size, "callback": callback, "part": sharding.own_part()}
        found = evaluation.evaluate(*where, key=seeds.key(flags.seed), **settings)
    num = len(data.images)
    found = evaluation.merged(found, num)
    lines, closing, shares = results.accuracies(found, attacks, threat)
    numbers = {"num": num, "attack": flags.attack, "loss": flags.loss, "restarts": flags.restarts}
    numbers |= {"seed": flags.seed, "norm": threat.norm.name, "epsilon": threat.epsilon} | steps._asdict()
    closing = f"{flags.classifier} on {num} images: {closing}"
    return print_lines([*lines, closing], numbers | shares, flags.json if is_first() else None)


def threat_of(flags: Options, own: "Threat") -> "tuple[Threat, Steps]":
    """Choose the threat model and the steps of an attempt: by the flags, else the classifier's own."""
    from rsynth_jax.attacks import autoattack
    from rsynth_jax.attacks.threats import Steps, Threat
    from rsynth_jax.synthesis.norms import NORMS

    norm = own.norm if flags.norm is None else checks.named("norm", flags.norm, NORMS)
    epsilon = own.epsilon if flags.epsilon is None else flags.epsilon
    default = {"pgd": 20, "square": autoattack.QUERIES}.get(flags.attack, autoattack.STEPS)
    num_steps = flags.steps or default
    step_size = 4 * epsilon / num_steps if flags.step_size is None else flags.step_size
    return Threat(norm, epsilon), Steps(step_size, num_steps)


main = functools.partial(run, Options, evaluate)

if __name__ == "__main__":
    main()
