"""rsynth-train-generator: train a style-based generator by a recipe.

    rsynth-train-generator --recipe faces-style-64 --data folder:FACES --out RUN

RUN then holds generator.safetensors (for rsynth-generate), samples.png, log.jsonl, curves.png, run.json
(everything that made it), snapshots/ and the checkpoints. --resume --out RUN continues it, bit for bit on
the same machine.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from rsynth_jax import checks
from rsynth_jax.cli import classifiers, training_run
from rsynth_jax.cli import run as console
from rsynth_jax.cli.hosts import HostFlags
from rsynth_jax.cli.options import LabelledDataFlags, SystemFlags
from rsynth_jax.cli.training_run import KeepFlags, Place, RecipeName, Resume, RunFolder, TrainSplit
from rsynth_jax.data import loader, sources
from rsynth_jax.training.gan_recipes import RECIPES, GanRecipe
from rsynth_jax.training.recipes import replace


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-train-generator: train a style-based generator by a recipe.

    Recipes: faces-style-64, cifar10-style-32 and facades-style-64, whose critics see the maps of a released
    robust classifier beside the pixels; style, whose critic sees the pixels alone; and faces-egan-32 and
    cifar10-egan-32, of the same networks at 32 pixels, whose generators take a step by each of three
    mutations, of which the fittest is kept. A folder without class folders is one class: image, or what
    --classes names. Every flag of the groups "settings" overrides one value of the recipe that --recipe
    names. Ctrl-C saves and stops.
    """

    recipe: RecipeName = "faces-style-64"
    data: Place = "folder:faces"
    train_split: TrainSplit = "train"
    sample_every: int = 1000
    """Steps between two snapshots of the generator, each with a sheet of samples and a checkpoint."""
    out: RunFolder = Path("runs/generator")
    resume: Resume = False
    settings: GanRecipe = RECIPES["faces-style-64"]
    """The recipe's values."""
    reading: LabelledDataFlags = LabelledDataFlags()
    keeping: KeepFlags = KeepFlags()
    hosts: HostFlags = HostFlags()
    system: SystemFlags = SystemFlags()


def train_generator(options: Options) -> int:
    """Train, draw samples and release after every `sample_every` steps, and report."""
    from rsynth_jax.cli import step_run, training_pages
    from rsynth_jax.storage import generators
    from rsynth_jax.training.gan_run import release, start

    dataset, run, facts = prepared(options)
    make = functools.partial(release, run, data=options.data)
    product = step_run.Product(generators.RELEASE, make, generators.save, training_pages.drawn)
    return step_run.train(options, run, start(run), dataset, facts, product)


def prepared(options: Options) -> tuple[sources.Dataset, Any, dict[str, Any]]:
    """Check everything, and return the data, the run and the facts of its record."""
    from rsynth_jax.storage import class_names, generators
    from rsynth_jax.training.gan_run import prepare, validate

    checks.positive(sample_every=options.sample_every)
    validate(options.settings)
    training_run.check(options, generators.RELEASE)
    name = training_run.made_of(options)["classifier"]
    classifier = None if name is None else classifiers.load(name)
    dataset = sources.with_one_class(options.reading.load(options.data, options.train_split))
    dataset = loader.cached(sources.labelled(dataset, class_names.read(options.reading.classes)))
    images, labels = loader.in_memory(dataset, loader.MEMORY)
    loader.check_classes(dataset, labels, least=1)
    facts = training_run.facts_of(options, dataset)
    settings = replace(options.settings, classifier=name)
    size, names = len(dataset), facts["class_names"]
    run = prepare(settings, images, names, size, classifier, options.hosts.devices)
    return dataset, run, facts


parse_flags = functools.partial(training_run.parse_flags, recipes=RECIPES)
main = functools.partial(console.run, Options, train_generator, parse_flags)

if __name__ == "__main__":
    main()
