"""rsynth-train: train a robust classifier by a recipe.

    rsynth-train --recipe cifar10-cpu --data cifar10 --out RUN

    rsynth-train --recipe own-64 --data folder:PICTURES --out RUN

RUN then holds classifier.safetensors (for every other command), log.jsonl, curves.png, run.json (everything
that made it) and the checkpoints. --resume --out RUN continues it, bit for bit on the same machine. By own-64
a second run, of dual training, goes on from its classifier in RUN/dual.
"""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import classifiers, training_run
from rsynth_jax.cli import run as console
from rsynth_jax.cli.hosts import HostFlags
from rsynth_jax.cli.options import LabelledDataFlags, SystemFlags
from rsynth_jax.data import loader
from rsynth_jax.storage import paths
from rsynth_jax.training.recipes import RECIPES, Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-train: train a robust classifier by a recipe.

    Recipes: the paper's six (cifar10, restricted-imagenet, imagenet, horse2zebra, apple2orange,
    summer2winter: ResNet-50, PGD with 7 steps, SGD), small ResNets for two cores (cifar10-cpu, and of
    64 pixels restricted-imagenet-64, horse2zebra-64, apple2orange-64, summer2winter-64, cat-dog-64), own-64
    for a few hundred pictures of your own (with --image-size 64 --start nearest --max-minutes 30 --then
    own-64-dual), and dual and own-64-dual, which go on from a robust classifier given with --start. Every
    flag of the groups "settings" overrides one value of the recipe that --recipe names. Ctrl-C saves and
    stops.
    """

    recipe: training_run.RecipeName = "cifar10-cpu"
    data: training_run.Place = "cifar10"
    train_split: training_run.TrainSplit = "train"
    test_split: training_run.TestSplit = "test"
    judge: int = 1000
    """Number of test images to evaluate on, with PGD-10 in the recipe's threat model."""
    judge_every: int = 1
    """Epochs from one evaluation, with a release and a checkpoint, to the next."""
    max_minutes: float | None = None
    """Train for about so many minutes: steps are timed first, then the recipe's schedule is stretched over as
    many epochs as fit, in place of --epochs. Up to ten evaluations, in equal parts of the time, in place of
    --judge-every; each also writes samples.png. With --then a third of them, the rest for what follows."""
    then: Annotated[str | None, arg(metavar="RECIPE")] = None
    """Afterwards go on from the result by this recipe, dual or own-64-dual, in the folder dual of --out. The
    other flags are of both, but the settings only of the first."""
    out: training_run.RunFolder = Path("runs/classifier")
    start: Annotated[str | None, arg(metavar="CLASSIFIER")] = None
    """Start from the weights of a classifier: a name, a file or a run. Its network is kept, and by the
    recipe dual its threat model; for other classes than its own the last layer is new. A recipe of
    resnet8-64 or resnet11-64 enlarges a resnet8. nearest: the released one in whose penultimate features
    the class means separate the training images best."""
    resume: training_run.Resume = False
    settings: Recipe = RECIPES["cifar10-cpu"]
    """The recipe's values."""
    reading: LabelledDataFlags = LabelledDataFlags()
    keeping: training_run.KeepFlags = training_run.KeepFlags()
    hosts: HostFlags = HostFlags()
    system: SystemFlags = SystemFlags()

    @property
    def minutes(self) -> float | None:
        """Of --max-minutes, those for this run."""
        return self.max_minutes if self.then is None or self.max_minutes is None else self.max_minutes / 3

    def __post_init__(self) -> None:
        checks.given(checks.positive, max_minutes=self.max_minutes)


def train(options: Options) -> int:
    """Train by the recipe, and by that of --then from its result."""
    check(options)
    if options.then is None:
        return train_once(options)
    check(following(options))
    return train_once(options) or train_once(following(options))


def train_once(options: Options) -> int:
    """Train, evaluate and release after every epoch, and report."""
    from rsynth_jax.cli import epoch_run, plans
    from rsynth_jax.storage import releases, train_states
    from rsynth_jax.training.run import prepare, start

    began = time.monotonic()
    dataset, test = options.reading.load_labelled(options.data, options.train_split, options.test_split)
    dataset, test = loader.cached(dataset), loader.in_memory(test.first(options.judge))
    images, labels = loader.in_memory(dataset, loader.MEMORY)
    loader.check_classes(dataset, labels, least=2)
    options = plans.started(options, images, labels)
    facts = training_run.facts_of(options, dataset)
    run = prepare(options.settings, images, labels, facts["class_names"], len(dataset), options.hosts.devices)
    begins_from = None if train_states.has_states(options.out) else options.start
    state = start(run, None if begins_from is None else releases.load(begins_from))
    options, run = plans.within(options, run, state, dataset, len(test.labels), began)
    return epoch_run.train(options, run, state, dataset, test, facts)


def check(options: Options) -> None:
    """Raise ValueError for a flag that makes no sense, or a folder that holds another run."""
    from rsynth_jax.storage import releases
    from rsynth_jax.training import build

    method = options.settings.method
    checks.positive(judge=options.judge, judge_every=options.judge_every)
    build.validate(options.settings)
    if build.METHODS[method].continues and options.start is None and not options.resume:
        raise ValueError(f"{method} training goes on from a robust classifier: give it with --start")
    training_run.check(options, releases.RELEASE)


def following(options: Options) -> Options:
    """Return the options of the run that --then names: the recorded ones of one to resume.

    Raises ValueError if no recipe that goes on from a classifier has that name.
    """
    from rsynth_jax.storage import releases
    from rsynth_jax.training import build

    continuing = {name: own for name, own in RECIPES.items() if build.METHODS[own.method].continues}
    settings = checks.named("recipe to go on by", str(options.then), continuing)
    out = options.out / settings.method
    if options.resume and training_run.read_record(out):
        return training_run.recorded(dataclasses.replace(options, out=out))
    if paths.is_file(options.out / releases.RELEASE):
        settings = classifiers.recipe_from(settings, str(options.out))
    minutes = None if options.max_minutes is None else options.max_minutes - (options.minutes or 0)
    logdir = options.keeping.logdir
    return dataclasses.replace(
        options,
        recipe=options.then,
        settings=settings,
        start=str(options.out),
        then=None,
        max_minutes=minutes,
        out=out,
        resume=False,
        keeping=dataclasses.replace(options.keeping, logdir=logdir and f"{logdir}/{settings.method}"),
    )


small = {"reading": LabelledDataFlags(image_size=64)}
own = small | {"start": "nearest", "max_minutes": 30.0, "then": "own-64-dual"}
parse_flags = functools.partial(
    training_run.parse_flags,
    recipes=RECIPES,
    adapt=classifiers.recipe_from,
    presets={"own-64": own, "own-64-dual": small},
)
main = functools.partial(console.run, Options, train, parse_flags)

if __name__ == "__main__":
    main()
