"""rsynth-evaluate: accuracy of a classifier, on clean images and under attack.

rsynth-evaluate --classifier cifar10 --data tfds:cifar10 --data-dir DIR --attack autoattack
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from rsynth_jax import checks, seeds
from rsynth_jax.cli import options
from rsynth_jax.cli.report import print_lines, rows
from rsynth_jax.cli.run import progress_bar, run
from rsynth_jax.data import loader
from rsynth_jax.metrics import estimates

if TYPE_CHECKING:
    from rsynth_jax.attacks.autoattack import Attack
    from rsynth_jax.attacks.evaluation import Callback
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
    data: Annotated[str, arg(metavar="KIND:PLACE")] = "tfds:cifar10"
    """tfds:NAME, folder:PATH (one folder a class, or testA and testB) or npz:FILE."""
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
    batch_size: options.BatchSize = 100
    seed: options.Seed = 0
    json: options.JsonFile = None
    reading: options.LabelledDataFlags = options.LabelledDataFlags()
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(num=self.num, restarts=self.restarts, batch_size=self.batch_size)
        checks.given(checks.positive, steps=self.steps)
        checks.given(checks.not_negative, epsilon=self.epsilon, step_size=self.step_size)
        checks.seed(seed=self.seed)
        if self.attack == "autoattack" and self.steps is not None:
            raise ValueError("autoattack has steps of its own: leave out --steps, or name one of its attacks")


def evaluate(flags: Options) -> int:
    """Evaluate and report."""
    from rsynth_jax.attacks import evaluation
    from rsynth_jax.storage import releases

    options.check_outputs(json=flags.json)
    release = releases.load(flags.classifier)
    threat, steps = threat_of(flags, release.threat)
    attacks = _attacks(flags, threat, steps, len(release.class_names))
    data = _read(flags, release.class_names)
    settings: dict[str, Any] = {"key": seeds.key(flags.seed), "batch_size": flags.batch_size}
    with _progress() as settings["callback"]:
        network = (release.model, release.variables)
        found = evaluation.evaluate(*network, data.images, data.labels, threat, attacks, **settings)
    names = ["clean", *(attack.name for attack in attacks)]
    shares = [estimates.share(each) for each in (found.clean, *found.remaining)]
    texts = [f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}]" for share in shares]
    num = len(found.clean)
    numbers = {"num": num, "attack": flags.attack, "loss": flags.loss, "restarts": flags.restarts}
    numbers |= {"seed": flags.seed, "norm": threat.norm.name, "epsilon": threat.epsilon} | steps._asdict()
    for name, share in (("clean", shares[0]), ("adversarial", shares[-1])):
        numbers |= {name: share.value, f"{name}_interval": share[1:]}
    columns = {"after": names, "accuracy": [share.value for share in shares]}
    columns |= {"interval": [share[1:] for share in shares], "seconds": found.seconds}
    numbers["rows"] = rows(columns)
    table = zip(names, texts, found.seconds, strict=True)
    lines = [f"{name:10s} {text:24s} {seconds:7.1f} s" for name, text, seconds in table]
    attack = names[-1] if len(attacks) == 1 else "AutoAttack"
    attacked = f"{attack} {threat.norm.name} {threat.epsilon:g} {texts[-1]}"
    closing = f"{flags.classifier} on {num} images: clean {texts[0]}, {attacked}"
    return print_lines([*(lines if len(attacks) > 1 else []), closing], numbers, flags.json)


@contextlib.contextmanager
def _progress() -> "Iterator[Callback]":
    """Show a progress bar for each attack."""
    with progress_bar("{task.fields[remaining]}") as bar:
        task = functools.cache(functools.partial(bar.add_task, remaining=""))

        def show(attack: "Attack", ended: int, total: int, remaining: int) -> None:
            more = f"{remaining} remaining"
            bar.update(task(attack.name), completed=ended, total=total, remaining=more)

        yield show


def threat_of(flags: Options, own: "Threat") -> "tuple[Threat, Steps]":
    """Choose the threat model and the steps of an attempt: by the flags, else the classifier's own."""
    from rsynth_jax.attacks import autoattack
    from rsynth_jax.attacks.threats import Steps, Threat
    from rsynth_jax.synthesis.norms import NORMS

    norm = own.norm if flags.norm is None else checks.named("norm", flags.norm, NORMS)
    epsilon = own.epsilon if flags.epsilon is None else flags.epsilon
    default = {"pgd": 20, "square": autoattack.QUERIES}.get(flags.attack, autoattack.STEPS)
    num_steps = default if flags.steps is None else flags.steps
    step_size = 4 * epsilon / num_steps if flags.step_size is None else flags.step_size
    return Threat(norm, epsilon), Steps(step_size, num_steps)


def _attacks(flags: Options, threat: "Threat", steps: "Steps", num_classes: int) -> "tuple[Attack, ...]":
    from rsynth_jax.attacks import autoattack

    loss = checks.named("loss", flags.loss, autoattack.LOSSES)
    num_steps = steps.num_steps
    attacks = {
        "pgd": (autoattack.pgd(threat, steps, loss, flags.restarts),),
        "apgd": (autoattack.auto_pgd(threat, num_steps, loss, flags.restarts),),
        "apgd-t": (autoattack.auto_pgd_targeted(threat, num_steps, num_classes - 1),),
        "fab-t": (autoattack.fab_targeted(threat, num_steps, num_classes - 1),),
        "square": (autoattack.square_attack(threat, num_steps, flags.restarts),),
        "autoattack": autoattack.standard(threat, num_classes),
    }
    return checks.named("attack", flags.attack, attacks)


def _read(flags: Options, class_names: tuple[str, ...]) -> loader.Arrays:
    """Read the first images and labels. Raises ValueError unless the classes are those of the classifier."""
    dataset = flags.reading.load_labelled(flags.data, flags.split)
    if dataset.class_names != class_names:
        has, needs = ", ".join(dataset.class_names or ()), ", ".join(class_names)
        raise ValueError(f"the data set's classes ({has}) are not the classifier's ({needs})")
    return loader.in_memory(dataset.first(flags.num))


main = functools.partial(run, Options, evaluate)

if __name__ == "__main__":
    main()
