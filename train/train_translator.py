"""rsynth-train-translator: train a translator between two classes, of many styles for one image.

    rsynth-train-translator --recipe cat-dog-munit-64 --data folder:FACES --out RUN

RUN then holds translator.safetensors (for rsynth-translate --translator), samples.png, log.jsonl, curves.png,
run.json (everything that made it), snapshots/ and the checkpoints. --resume --out RUN continues it, bit for
bit on the same machine.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from rsynth_jax import checks
from rsynth_jax.cli import classifiers, training_run
from rsynth_jax.cli import run as console
from rsynth_jax.cli.hosts import HostFlags
from rsynth_jax.cli.options import LabelledDataFlags, SystemFlags
from rsynth_jax.cli.training_run import KeepFlags, Place, RecipeName, Resume, RunFolder, TestSplit, TrainSplit
from rsynth_jax.data import loader, sources
from rsynth_jax.training.recipes import replace
from rsynth_jax.training.translator_recipes import RECIPES, TranslatorRecipe

ROWS = 4  # images of each class on a sheet


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-train-translator: train a translator between two classes, of many styles for one image.

    Recipes: cat-dog-munit-64, summer2winter-munit-64 and horse2zebra-munit-64. An image is a content that
    both classes share and a style of its class (MUNIT, Huang et al. 2018); a translation has the content of
    the image and a style that is drawn or an example's. Every flag of the groups "settings" overrides one
    value of the recipe that --recipe names. Ctrl-C saves and stops.
    """

    recipe: RecipeName = "cat-dog-munit-64"
    data: Place = "folder:faces"
    train_split: TrainSplit = "train"
    test_split: TestSplit = "test"
    sample_every: int = 1000
    """Steps between two snapshots of the translator, each with a sheet of translations and a checkpoint."""
    out: RunFolder = Path("runs/translator")
    resume: Resume = False
    settings: TranslatorRecipe = RECIPES["cat-dog-munit-64"]
    """The recipe's values."""
    reading: LabelledDataFlags = LabelledDataFlags()
    keeping: KeepFlags = KeepFlags()
    hosts: HostFlags = HostFlags()
    system: SystemFlags = SystemFlags()


def train_translator(options: Options) -> int:
    """Train, translate images and release after every `sample_every` steps, and report."""
    from rsynth_jax.cli import step_run, training_pages
    from rsynth_jax.storage import translators
    from rsynth_jax.training.translator_run import release, start

    halves, shown, run, facts = prepared(options)
    make = functools.partial(release, run, data=options.data)
    page = functools.partial(training_pages.translated, shown)
    product = step_run.Product(translators.RELEASE, make, translators.save, page, "pairs")
    return step_run.train(options, run, start(run), halves, facts, product, loader.pairs_between)


def prepared(options: Options) -> tuple[list[sources.Dataset], list[np.ndarray], Any, dict[str, Any]]:
    """Check everything, and return the training images of each class, test images, the run and its facts."""
    from rsynth_jax.storage import translators
    from rsynth_jax.training.translator_run import prepare, validate

    checks.positive(sample_every=options.sample_every)
    validate(options.settings)
    training_run.check(options, translators.RELEASE)
    splits = (options.train_split, options.test_split)
    datasets = list(map(loader.cached, options.reading.load_labelled(options.data, *splits)))
    for dataset in datasets:
        check_pair(dataset)
    facts = training_run.facts_of(options, datasets[0])
    name = training_run.made_of(options)["classifier"]
    classifier = None if name is None else classifiers.load(name)
    halves, tests = map(loader.by_class, datasets)
    images = loader.in_memory(datasets[0], loader.MEMORY).images
    settings = replace(options.settings, classifier=name)
    size, names = min(map(len, halves)), facts["class_names"]
    run = prepare(settings, images, names, size, classifier, options.hosts.devices)
    shown = [loader.in_memory(half.first(ROWS)).images for half in tests]
    return halves, shown, run, facts


def check_pair(dataset: sources.Dataset) -> None:
    """Raise ValueError unless a data set has images of two classes."""
    names = dataset.class_names or ()
    if len(names) != 2:
        raise ValueError(f"{dataset.source} has {len(names)} classes: a translator needs two")
    loader.check_classes(dataset, loader.in_memory(dataset, loader.MEMORY).labels, least=1)


parse_flags = functools.partial(training_run.parse_flags, recipes=RECIPES)
main = functools.partial(console.run, Options, train_translator, parse_flags)

if __name__ == "__main__":
    main()
