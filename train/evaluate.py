"""rsynth-evaluate: accuracy of a classifier, on clean images and under attack.

rsynth-evaluate --classifier cifar10 --data tfds:cifar10 --data-dir DIR --attack autoattack
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli.options import BatchSize, ClassifierName, DataFlags, JsonFile, Seed, SystemFlags
from rsynth_jax.cli.report import print_lines
from rsynth_jax.cli.run import progress_bar, run
from rsynth_jax.data import loader, sources
from rsynth_jax.metrics import estimates
from rsynth_jax.storage import files

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

    classifier: ClassifierName = "cifar10"
    data: Annotated[str, arg(metavar="KIND:PLACE")] = "tfds:cifar10"
    """tfds:NAME, folder:PATH (one folder a class) or npz:FILE."""
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
    batch_size: BatchSize = 100
    seed: Seed = 0
    json: JsonFile = None
    reading: DataFlags = DataFlags()
    system: SystemFlags = SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(num=self.num, restarts=self.restarts, batch_size=self.batch_size)
        checks.given(checks.positive, steps=self.steps)
        checks.given(checks.not_negative, epsilon=self.epsilon, step_size=self.step_size)
        checks.not_negative(seed=self.seed)
        if self.attack == "autoattack" and self.steps is not None:
            raise ValueError("autoattack has steps of its own: leave out --steps, or name one of its attacks")


def evaluate(options: Options) -> int:
    """Evaluate and report."""
    import jax

    from rsynth_jax.attacks import evaluation
    from rsynth_jax.storage import releases

    o = options
    files.check_writable(o.json)
    release = releases.load(o.classifier)
    threat, steps = threat_of(o, release.threat)
    attacks = attacks_of(o, threat, steps, len(release.class_names))
    images, labels = read(o, release.class_names)
    settings: dict[str, Any] = {"key": jax.random.key(o.seed), "batch_size": o.batch_size}
    with attack_progress() as settings["callback"]:
        found = evaluation.evaluate(
            release.model, release.variables, images, labels, threat, attacks, **settings
        )
    names = ["clean", *(attack.name for attack in attacks)]
    shares = [estimates.share(each) for each in (found.clean, *found.remaining)]
    numbers = {"num": len(labels), "attack": o.attack, "loss": o.loss, "restarts": o.restarts, "seed": o.seed}
    numbers |= {"norm": threat.norm.name, "epsilon": threat.epsilon} | steps._asdict()
    for name, share in (("clean", shares[0]), ("adversarial", shares[-1])):
        numbers |= {name: share.value, f"{name}_interval": share[1:]}
    numbers["rows"] = [
        {"after": name, "accuracy": share.value, "interval": share[1:], "seconds": seconds}
        for name, share, seconds in zip(names, shares, found.seconds, strict=True)
    ]
    texts = [f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}]" for share in shares]
    rows = zip(names, texts, found.seconds, strict=True)
    lines = [f"{name:10s} {text:24s} {seconds:7.1f} s" for name, text, seconds in rows]
    last = names[-1] if len(attacks) == 1 else "AutoAttack"
    closing = (
        f"{o.classifier} on {len(labels)} images: clean {texts[0]}, "
        f"{last} {threat.norm.name} {threat.epsilon:g} {texts[-1]}"
    )
    return print_lines([*(lines if len(attacks) > 1 else []), closing], numbers, o.json)


@contextlib.contextmanager
def attack_progress() -> "Iterator[Callback]":
    """Show a progress bar for each attack."""
    with progress_bar("{task.fields[remaining]}") as bar:
        tasks: dict[str, Any] = {}

        def show(attack: "Attack", ended: int, total: int, remaining: int) -> None:
            if attack.name not in tasks:
                tasks[attack.name] = bar.add_task(attack.name, remaining="")
            more = f"{remaining} remaining"
            bar.update(tasks[attack.name], completed=ended, total=total, remaining=more)

        yield show


def threat_of(options: Options, own: "Threat") -> "tuple[Threat, Steps]":
    """Choose the threat model and the steps of an attempt: by the flags, else the classifier's own."""
    from rsynth_jax.attacks import autoattack
    from rsynth_jax.attacks.threats import Steps, Threat
    from rsynth_jax.synthesis.norms import NORMS

    o = options
    norm = own.norm if o.norm is None else checks.named("norm", o.norm, NORMS)
    epsilon = own.epsilon if o.epsilon is None else o.epsilon
    default = {"pgd": 20, "square": autoattack.QUERIES}.get(o.attack, autoattack.STEPS)
    num_steps = default if o.steps is None else o.steps
    step_size = 4 * epsilon / num_steps if o.step_size is None else o.step_size
    return Threat(norm, epsilon), Steps(step_size, num_steps)


def attacks_of(options: Options, threat: "Threat", steps: "Steps", num_classes: int) -> "tuple[Attack, ...]":
    """Look up the attacks by name. Raises ValueError for an unknown attack or loss."""
    from rsynth_jax.attacks import autoattack

    o = options
    loss = checks.named("loss", o.loss, autoattack.LOSSES)
    num_steps = steps.num_steps
    attacks = {
        "pgd": (autoattack.pgd(threat, steps, loss, o.restarts),),
        "apgd": (autoattack.auto_pgd(threat, num_steps, loss, o.restarts),),
        "apgd-t": (autoattack.auto_pgd_targeted(threat, num_steps, num_classes - 1),),
        "fab-t": (autoattack.fab_targeted(threat, num_steps, num_classes - 1),),
        "square": (autoattack.square_attack(threat, num_steps, o.restarts),),
        "autoattack": autoattack.standard(threat, num_classes),
    }
    return checks.named("attack", o.attack, attacks)


def read(options: Options, class_names: tuple[str, ...]) -> loader.Arrays:
    """Read the first images and labels. Raises ValueError unless the classes are those of the classifier."""
    o = options
    dataset = sources.labelled(sources.load(o.data, o.split, o.reading.data_dir, o.reading.image_size))
    if dataset.class_names != class_names:
        has, needs = ", ".join(dataset.class_names or ()), ", ".join(class_names)
        raise ValueError(f"the data set's classes ({has}) are not the classifier's ({needs})")
    return loader.in_memory(dataset.first(o.num))


def main() -> None:
    """Run the command."""
    run(Options, evaluate)


if __name__ == "__main__":
    main()
