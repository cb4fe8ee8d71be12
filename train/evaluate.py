"""rsynth-evaluate: accuracy of a classifier, on clean images and under attack.

rsynth-evaluate --classifier cifar10 --data cifar10 --attack autoattack
"""

import dataclasses
import functools
from typing import Annotated

from tyro.conf import arg

from rsynth_jax import checks, seeds
from rsynth_jax.cli import classifiers, options, results
from rsynth_jax.cli.hosts import JoinFlags, is_first
from rsynth_jax.cli.report import print_lines
from rsynth_jax.cli.run import attack_progress, run
from rsynth_jax.data import loader


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
    attack: options.AttackFlags = options.AttackFlags()
    batch_size: options.FittingBatchSize = "auto"
    seed: options.Seed = 0
    json: options.JsonFile = None
    reading: options.LabelledDataFlags = options.LabelledDataFlags()
    hosts: JoinFlags = JoinFlags()
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(num=self.num)
        if self.batch_size != "auto":
            checks.positive(batch_size=self.batch_size)
        checks.seed(seed=self.seed)


def evaluate(flags: Options) -> int:
    """Evaluate and report."""
    from rsynth_jax import sharding
    from rsynth_jax.attacks import evaluation

    options.check_outputs(json=flags.json)
    release = classifiers.load(flags.classifier, flags.dtype)
    threat, steps = flags.attack.threat(release.threat)
    attacks = flags.attack.attacks(threat, steps, len(release.class_names))
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
    numbers = {"num": num, "attack": flags.attack.attack, "loss": flags.attack.loss}
    numbers |= {"restarts": flags.attack.restarts, "seed": flags.seed}
    numbers |= {"norm": threat.norm.name, "epsilon": threat.epsilon} | steps._asdict()
    closing = f"{flags.classifier} on {num} images: {closing}"
    return print_lines([*lines, closing], numbers | shares, flags.json if is_first() else None)


main = functools.partial(run, Options, evaluate)

if __name__ == "__main__":
    main()
