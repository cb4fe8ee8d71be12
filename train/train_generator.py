"""rsynth-train-generator: train a style-based generator by a recipe.

    rsynth-train-generator --recipe faces-style-64 --data folder:FACES --out RUN

RUN then holds generator.safetensors (for rsynth-generate), samples.png, log.jsonl, run.json (everything that
made it), snapshots/ and the checkpoints. --resume --out RUN continues it, bit for bit on the same machine.
"""

import dataclasses
import functools
import itertools
import sys
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import run as console
from rsynth_jax.cli import training_run
from rsynth_jax.cli.options import LabelledDataFlags, SystemFlags
from rsynth_jax.cli.training_run import RecipeName, Resume, RunFolder
from rsynth_jax.data import loader
from rsynth_jax.storage import files
from rsynth_jax.training.gan_recipes import RECIPES, GanRecipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-train-generator: train a style-based generator by a recipe.

    Recipes: faces-style-64 and cifar10-style-32, whose critics see the maps of a bundled robust classifier
    beside the pixels, and style, whose critic sees the pixels alone. Every flag of the groups "settings"
    overrides one value of the recipe that --recipe names. Ctrl-C saves and stops.
    """

    recipe: RecipeName = "faces-style-64"
    data: Annotated[str, arg(metavar="KIND:PLACE")] = "folder:faces"
    """tfds:NAME, folder:PATH (one folder a class) or npz:FILE (train_images, ...), of the recipe's size."""
    train_split: str = "train"
    """Split to train on; train[:90%] is a part, all is a folder or file without splits."""
    sample_every: int = 1000
    """Steps between two snapshots of the generator, each with a sheet of samples and a checkpoint."""
    out: RunFolder = Path("runs/generator")
    resume: Resume = False
    settings: GanRecipe = RECIPES["faces-style-64"]
    """The recipe's values."""
    reading: LabelledDataFlags = LabelledDataFlags()
    system: SystemFlags = SystemFlags()


def train_generator(options: Options) -> int:
    """Train, draw samples and release after every `sample_every` steps, and report."""
    from rsynth_jax.cli.gan_log import gan_log
    from rsynth_jax.storage import generators, releases, train_states
    from rsynth_jax.training.gan_run import prepare, release, start
    from rsynth_jax.training.run import fit

    check(options)
    out, recipe = options.out, options.settings
    classifier = recipe.critic.classifier and releases.load(recipe.critic.classifier)
    dataset = loader.cached(options.reading.load_labelled(options.data, options.train_split))
    images, labels = loader.in_memory(dataset, loader.MEMORY)
    loader.check_classes(dataset, labels, least=1)
    names = dataset.class_names or ()
    facts = {"num_images": len(dataset), "image_shape": images.shape[1:], "class_names": names}
    if options.resume:
        training_run.check_same(out, facts)
    run = prepare(recipe, images, names, len(dataset), classifier or None)
    state = start(run)
    if options.resume:
        state = train_states.restore_state(out, state, functools.partial(print, file=sys.stderr))
    training_run.write_record(out, training_run.made_of(options) | facts)
    interrupted = console.Interrupted()
    first = int(state.step)
    batch_size = recipe.batch_size * recipe.critic.critic_steps
    num_epochs = -(-recipe.num_steps // (len(dataset) // batch_size))
    batches = loader.batches_from(dataset, batch_size, recipe.seed, num_epochs, first)
    batches = itertools.islice(batches, max(0, recipe.num_steps - first))
    batches = itertools.takewhile(lambda _: interrupted.signal is None, batches)
    with gan_log(out, run, first) as log:

        def callback(state: Any, step: int, metrics: Any, batch: Any) -> None:
            log.step(step, metrics)
            if step % options.sample_every == 0 or step == recipe.num_steps:
                log.snapshot(state, release(run, state, data=options.data))
                train_states.save_state(out, state)

        state = fit(run.trainer, state, batches, key=run.keys[1], devices=run.devices, callback=callback)
    train_states.save_state(out, state)
    if interrupted.signal is not None:
        print(f"stopped after step {int(state.step)}; continue with --resume --out {out}")
        return 128 + interrupted.signal
    print(f"{out / generators.RELEASE}: {run.config.image_size} pixels after {recipe.num_steps} steps")
    return 0


def check(options: Options) -> None:
    """Raise ValueError for a flag that makes no sense, or a folder that holds another run."""
    from rsynth_jax.storage import generators
    from rsynth_jax.training import gan_run

    checks.positive(sample_every=options.sample_every)
    gan_run.validate(options.settings)
    files.check_writable(options.out / generators.RELEASE)
    if options.resume:
        training_run.check_resumed(options.out, training_run.made_of(options))
    else:
        training_run.check_new(options.out)


parse_flags = functools.partial(training_run.parse_flags, recipes=RECIPES)
main = functools.partial(console.run, Options, train_generator, parse_flags)

if __name__ == "__main__":
    main()
