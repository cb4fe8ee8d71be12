"""rsynth-train-segmenter: train a network that gives each pixel a class, on images with masks.

    rsynth-train-segmenter --recipe facades-64 --data folder:IMAGES --masks FOLDER \
        --test-data folder:IMAGES --test-masks FOLDER --out RUN

RUN then holds segmenter.safetensors (for rsynth-dissect), segmented.png (image, mask, prediction), log.jsonl
with the IoU of every class on the test images, curves.png, run.json (everything that made it) and the
checkpoints. --resume --out RUN continues it, bit for bit on the same machine.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import plots, training_run
from rsynth_jax.cli import run as console
from rsynth_jax.cli.hosts import HostFlags
from rsynth_jax.cli.options import DataFlags, SystemFlags
from rsynth_jax.cli.training_run import KeepFlags, RecipeName, Resume, RunFolder
from rsynth_jax.data import loader, masks
from rsynth_jax.training.segmenter_recipes import RECIPES, SegmenterRecipe

_MASKS = (
    "Folder of masks: NAME.png, indexed or grey, for each image; the names of the classes in classes.txt, a "
    "line each, there or in one of the two folders above."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-train-segmenter: train a network that gives each pixel a class, on images with masks.

    The recipe is facades-64: a U-Net of 0.48 M parameters, rare classes weighted up. Every flag of the groups
    "settings" overrides one value of the recipe that --recipe names. Ctrl-C saves and stops.
    """

    recipe: RecipeName = "facades-64"
    data: Annotated[str, arg(metavar="A", help="Training images: folder:PATH.")] = "folder:train/images"
    masks: Annotated[str, arg(metavar="FOLDER", help=_MASKS)] = "train/masks"
    test_data: Annotated[str, arg(metavar="A", help="Test images: folder:PATH.")] = "folder:test/images"
    test_masks: Annotated[str, arg(metavar="FOLDER", help="Folder of their masks.")] = "test/masks"
    sample_every: int = 500
    """Steps between two measurements on the test images, each with a sheet and a checkpoint."""
    out: RunFolder = Path("runs/segmenter")
    resume: Resume = False
    settings: SegmenterRecipe = RECIPES["facades-64"]
    """The recipe's values."""
    reading: DataFlags = DataFlags()
    keeping: KeepFlags = KeepFlags()
    hosts: HostFlags = HostFlags()
    system: SystemFlags = SystemFlags()


def train_segmenter(options: Options) -> int:
    """Train, measure and release after every `sample_every` steps, and report."""
    from rsynth_jax import sharding
    from rsynth_jax.cli.run_log import guarded
    from rsynth_jax.cli.segmenter_log import segmenter_log
    from rsynth_jax.storage import segmenters
    from rsynth_jax.training.run import fit
    from rsynth_jax.training.segmentation import prepare, release, start, validate

    checks.positive(sample_every=options.sample_every)
    validate(options.settings)
    training_run.check(options, segmenters.RELEASE)
    data, test = read(options)
    facts = training_run.facts_of(options, data.dataset)
    out, recipe = options.out, options.settings
    run = prepare(recipe, data.images, data.masks, data.class_names, options.hosts.devices)
    closing = ""
    with training_run.begun(options, start(run), **facts) as state:
        interrupted = console.Interrupted()
        first = int(state.step)
        steps = recipe.batch_size, recipe.seed, first, recipe.num_steps
        rows = loader.rows_between(len(data.images), *steps, sharding.own_rows(recipe.batch_size))
        with segmenter_log(options, run, test, first) as log:
            trainer = guarded(options.keeping, run.trainer)
            batches = interrupted.until((data.images[chosen], data.masks[chosen]) for chosen in rows)

            def callback(state: Any, step: int, checked: Any, batch: Any) -> None:
                nonlocal closing
                log.step(step, checked)
                if step % options.sample_every == 0 or step == recipe.num_steps:
                    released = release(run, state, test.images, test.masks, data=options.data)
                    log.snapshot(state, released)
                    closing = f"{out / segmenters.RELEASE}: {segmenters.describe(released)}"
                log.save_if_due(state)

            key = run.keys.steps
            state = fit(trainer, state, batches, key=key, devices=run.devices, callback=callback)
            log.save(state)
        if interrupted.signal is None and not closing:  # a run that was complete
            closing = f"{out / segmenters.RELEASE}: {segmenters.describe(segmenters.load(out))}"
        return training_run.finish(out, state, interrupted, closing, plots.write_segmenter_curves)


def read(options: Options) -> list[masks.Masked]:
    """Read the training and the test images. Raises ValueError unless they have the same classes and size."""
    places = ((options.data, options.masks), (options.test_data, options.test_masks))
    data, test = (masks.load(place, folder, options.reading.image_size) for place, folder in places)
    if data.class_names != test.class_names:
        raise ValueError("the training and the test masks do not have the same classes")
    checks.same_size(data.images.shape[1:], test.images.shape[1:])
    return [data, test]


parse_flags = functools.partial(training_run.parse_flags, recipes=RECIPES)
main = functools.partial(console.run, Options, train_segmenter, parse_flags)

if __name__ == "__main__":
    main()
