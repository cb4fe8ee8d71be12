"""rsynth-train-inverter: train a network that inverts a classifier's representation in one pass.

    rsynth-train-inverter --recipe faces-deepsim-64 --data folder:FACES --out RUN

RUN then holds inverter.safetensors (for rsynth-invert --inverter), samples.png, log.jsonl, curves.png,
run.json (everything that made it), snapshots/ and the checkpoints. --resume --out RUN continues it, bit for
bit on the same machine.
"""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import classifiers, training_run
from rsynth_jax.cli import run as console
from rsynth_jax.cli.hosts import HostFlags
from rsynth_jax.cli.options import LabelledDataFlags, SystemFlags
from rsynth_jax.cli.training_run import (
    KeepFlags,
    Place,
    RecipeName,
    Resume,
    RunFolder,
    TrainSplit,
)
from rsynth_jax.data import loader, sources
from rsynth_jax.training.inverter_recipes import RECIPES, InverterRecipe
from rsynth_jax.training.recipes import replace

if TYPE_CHECKING:
    from rsynth_jax.storage.releases import Release


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-train-inverter: train a network that inverts a classifier's representation in one pass.

    Recipes: faces-deepsim-64, from the map of the last residual block of cat-dog-64 or, with --layer
    features, from the penultimate features; faces-deepsim-vae-64, whose codes are near N(0, I), so that
    draws of N(0, I) make images too. Three losses are weighed (Dosovitskiy & Brox 2016): the distance of a
    comparator's maps, the game against a critic of the pixels, the distance of the pixels. Every flag of
    the groups "settings" overrides one value of the recipe that --recipe names. Ctrl-C saves and stops.
    """

    recipe: RecipeName = "faces-deepsim-64"
    data: Place = "folder:faces"
    train_split: TrainSplit = "train"
    test_split: Annotated[str, arg(help="Split whose first images are on the sheets.")] = "test"
    sample_every: int = 500
    """Steps between two snapshots of the inverter, each with a sheet of inversions and a checkpoint."""
    out: RunFolder = Path("runs/inverter")
    resume: Resume = False
    settings: InverterRecipe = RECIPES["faces-deepsim-64"]
    """The recipe's values."""
    reading: LabelledDataFlags = LabelledDataFlags()
    keeping: KeepFlags = KeepFlags()
    hosts: HostFlags = HostFlags()
    system: SystemFlags = SystemFlags()


def train_inverter(options: Options) -> int:
    """Train, invert images and release after every `sample_every` steps, and report."""
    from rsynth_jax.cli import step_run, training_pages
    from rsynth_jax.storage import inverters
    from rsynth_jax.training.inverter_run import release, start

    (dataset, test), classifier, run, facts = prepared(options)
    page = functools.partial(training_pages.inverted, classifier, training_pages.first_of_classes(test))
    make = functools.partial(release, run, data=options.data)
    product = step_run.Product(inverters.RELEASE, make, inverters.save, page)
    return step_run.train(options, run, start(run), dataset, facts, product)


def prepared(options: Options) -> tuple[list[sources.Dataset], "Release", Any, dict[str, Any]]:
    """Check everything, and return the splits, the classifier, the run and the facts of its record."""
    from rsynth_jax.storage import inverters
    from rsynth_jax.training.inverter_run import prepare, validate

    checks.positive(sample_every=options.sample_every)
    validate(options.settings)
    training_run.check(options, inverters.RELEASE)
    names = {name: training_run.made_of(options)[name] for name in ("classifier", "comparator")}
    settings = replace(options.settings, **names)
    classifier = classifiers.load(names["classifier"])
    compared = classifiers.comparator(names["comparator"], classifier, settings.seed)
    splits = (options.train_split, options.test_split)
    dataset, test = map(loader.cached, options.reading.load_labelled(options.data, *splits))
    images, labels = loader.in_memory(dataset, loader.MEMORY)
    loader.check_classes(dataset, labels, least=1)
    facts = training_run.facts_of(options, dataset)
    size, names = len(dataset), facts["class_names"]
    run = prepare(settings, images, names, size, classifier, compared, options.hosts.devices)
    return [dataset, test], classifier, run, facts


parse_flags = functools.partial(training_run.parse_flags, recipes=RECIPES)
main = functools.partial(console.run, Options, train_inverter, parse_flags)

if __name__ == "__main__":
    main()
