"""rsynth-train: train a robust classifier by a recipe.

    rsynth-train --recipe cifar10-cpu --data tfds:cifar10 --data-dir DIR --out RUN

RUN then holds classifier.safetensors (for every other command), log.jsonl, curves.png, run.json (everything
that made it) and the checkpoints. --resume --out RUN continues it, bit for bit on the same machine.
"""

import dataclasses
import functools
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import plots, training_run
from rsynth_jax.cli import run as console
from rsynth_jax.cli.options import LabelledDataFlags, SystemFlags
from rsynth_jax.cli.parse import value_of
from rsynth_jax.cli.training_run import RecipeName, Resume, RunFolder
from rsynth_jax.data import loader, sources
from rsynth_jax.storage import files
from rsynth_jax.training.recipes import RECIPES, Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-train: train a robust classifier by a recipe.

    Recipes: the paper's six (cifar10, restricted-imagenet, imagenet, horse2zebra, apple2orange,
    summer2winter: ResNet-50, PGD with 7 steps, SGD), small ResNets for two cores (cifar10-cpu, and of
    64 pixels restricted-imagenet-64, horse2zebra-64, apple2orange-64, summer2winter-64, cat-dog-64), and
    dual, which goes on from a robust classifier given with --start. Every flag of the groups "settings"
    overrides one value of the recipe that --recipe names. Ctrl-C saves and stops.
    """

    recipe: RecipeName = "cifar10-cpu"
    data: Annotated[str, arg(metavar="KIND:PLACE")] = "tfds:cifar10"
    """tfds:NAME, folder:PATH (one folder a class, in train/ and test/, or trainA, trainB, testA, testB) or
    npz:FILE (train_images, ...)."""
    train_split: str = "train"
    """Split to train on; train[:90%] is a part, all is a folder or file without splits."""
    test_split: str = "test"
    """Split to evaluate on after each epoch."""
    judge: int = 1000
    """Number of test images to evaluate on, with PGD-10 in the recipe's threat model."""
    out: RunFolder = Path("runs/classifier")
    start: Annotated[str | None, arg(metavar="CLASSIFIER")] = None
    """Start from the weights of a classifier: a name, a file or a run. Its network is kept, and by the
    recipe dual its threat model; for other classes than its own the last layer is new."""
    resume: Resume = False
    settings: Recipe = RECIPES["cifar10-cpu"]
    """The recipe's values."""
    reading: LabelledDataFlags = LabelledDataFlags()
    system: SystemFlags = SystemFlags()


def train(options: Options) -> int:
    """Train, evaluate and release after every epoch, and report."""
    from rsynth_jax.cli.train_log import train_log
    from rsynth_jax.storage import releases, train_states
    from rsynth_jax.training.run import fit, prepare, release

    check(options)
    out = options.out
    dataset, test = read(options)
    images, labels = loader.in_memory(dataset, loader.MEMORY)
    loader.check_classes(dataset, labels, least=2)
    names = dataset.class_names or ()
    facts = {"num_images": len(dataset), "image_shape": images.shape[1:], "class_names": names}
    if options.resume:
        training_run.check_same(out, facts)
    run = prepare(options.settings, images, labels, names, len(dataset))
    state = first_state(options, run)
    made_of = training_run.made_of(options)
    training_run.write_record(out, made_of | {"epochs": run.num_epochs} | facts)
    interrupted = console.Interrupted()
    first = int(state.step)
    batches = loader.batches_from(dataset, run.recipe.batch_size, run.recipe.seed, run.num_epochs, first)
    batches = itertools.takewhile(lambda _: interrupted.signal is None, batches)
    with train_log(out / "log.jsonl", run, test, first) as log:

        def callback(state: Any, step: int, metrics: Any, batch: Any) -> None:
            log.step(state, step, metrics, batch)
            if step % run.steps_per_epoch == 0:
                log.epoch(state, step, metrics)
                releases.save(out / releases.RELEASE, release(run, state, data=options.data))
                train_states.save_state(out, state)

        state = fit(run.trainer, state, batches, key=run.keys[1], devices=run.devices, callback=callback)
    train_states.save_state(out, state)
    plots.write_curves(out / "curves.png", out / "log.jsonl")
    if interrupted.signal is not None:
        print(f"stopped after step {int(state.step)}; continue with --resume --out {out}")
        return 128 + interrupted.signal
    print(f"{out / releases.RELEASE}: {run.config.architecture} after {run.num_epochs} epochs")
    return 0


def check(options: Options) -> None:
    """Raise ValueError for a flag that makes no sense, or a folder that holds another run."""
    from rsynth_jax.storage import releases
    from rsynth_jax.training import build

    method = options.settings.method
    checks.positive(judge=options.judge)
    build.validate(options.settings)
    if build.METHODS[method].continues and options.start is None and not options.resume:
        raise ValueError(f"{method} training goes on from a robust classifier: give it with --start")
    files.check_writable(options.out / releases.RELEASE)
    if options.resume:
        training_run.check_resumed(options.out, training_run.made_of(options))
    else:
        training_run.check_new(options.out)


def first_state(options: Options, run: Any) -> Any:
    """Return the state to go on from: the newest whole one of a resumed run, else a new one."""
    from rsynth_jax.storage import train_states
    from rsynth_jax.training.run import start

    if options.resume:
        return train_states.restore_state(options.out, start(run), functools.partial(print, file=sys.stderr))
    return start(run, load_start(options.start) if options.start else None)


def read(options: Options) -> tuple[sources.Dataset, loader.Arrays]:
    """Read the training set, and the test images to evaluate on."""
    splits = (options.train_split, options.test_split)
    dataset, test = (options.reading.load_labelled(options.data, split) for split in splits)
    if dataset.class_names != test.class_names:
        raise ValueError("the training and the test split do not have the same classes")
    return loader.cached(dataset), loader.in_memory(test.first(options.judge))


@functools.cache
def load_start(name: str) -> Any:
    """Read the classifier to start from, once."""
    from rsynth_jax.storage import releases

    return releases.load(name)


def from_start(recipe: Recipe, arguments: Sequence[str]) -> Recipe:
    """Return the recipe with the network of the classifier that --start gives, if any."""
    start = value_of("start", arguments, "")
    if not start:
        return recipe
    from rsynth_jax.training import build

    return build.recipe_from_release(recipe, load_start(start))


parse_flags = functools.partial(training_run.parse_flags, recipes=RECIPES, adapt=from_start)
main = functools.partial(console.run, Options, train, parse_flags)

if __name__ == "__main__":
    main()
