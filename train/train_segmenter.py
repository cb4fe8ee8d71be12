"""rsynth-train-segmenter: train a network that gives each pixel a class, on images with masks.

    rsynth-train-segmenter --recipe facades-64 --data folder:IMAGES --masks FOLDER \
        --test-data folder:IMAGES --test-masks FOLDER --out RUN

RUN then holds segmenter.safetensors (for rsynth-dissect), samples.png (image, mask, prediction), log.jsonl
with the IoU of every class on the test images, curves.png, run.json (everything that made it), snapshots/ and
the checkpoints. --resume --out RUN continues it, bit for bit on the same machine.
"""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import plots, training_run
from rsynth_jax.cli import run as console
from rsynth_jax.cli.hosts import HostFlags
from rsynth_jax.cli.options import MASKS, DataFlags, SystemFlags
from rsynth_jax.cli.training_run import KeepFlags, RecipeName, Resume, RunFolder
from rsynth_jax.data import masks
from rsynth_jax.training.segmenter_recipes import RECIPES, SegmenterRecipe

if TYPE_CHECKING:
    from rsynth_jax.cli.step_run import Measured
    from rsynth_jax.storage.segmenters import SegmenterRelease


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-train-segmenter: train a network that gives each pixel a class, on images with masks.

    The recipe is facades-64: a U-Net of 0.48 M parameters, rare classes weighted up. Every flag of the groups
    "settings" overrides one value of the recipe that --recipe names. Ctrl-C saves and stops.
    """

    recipe: RecipeName = "facades-64"
    data: Annotated[str, arg(metavar="A", help="Training images: folder:PATH.")] = "folder:train/images"
    masks: Annotated[str, arg(metavar="FOLDER", help=MASKS)] = "train/masks"
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
    from rsynth_jax.cli import step_run, training_pages
    from rsynth_jax.storage import segmenters
    from rsynth_jax.training.segmentation import prepare, release, start, validate

    checks.positive(sample_every=options.sample_every)
    validate(options.settings)
    training_run.check(options, segmenters.RELEASE)
    data, test = read(options)
    facts = training_run.facts_of(options, data.dataset)
    run = prepare(options.settings, data.images, data.masks, data.class_names, options.hosts.devices)
    product = step_run.Product(
        file=segmenters.RELEASE,
        release=lambda state: release(run, state, test.images, test.masks, data=options.data),
        save=segmenters.save,
        page=functools.partial(training_pages.segmented, test),
        now=step_run.SEGMENTER_NOW,
        remedy="lower --learning-rate",
        measure=functools.partial(measured, len(test.images)),
        write_curves=plots.write_segmenter_curves,
        describe=lambda run, out: segmenters.describe(segmenters.load(out)),
    )
    return step_run.train(options, run, start(run), data, facts, product, masks.batches_between)


def measured(num: int, release: "SegmenterRelease") -> "Measured":
    """The intersection over union of each class on so many test images."""
    from rsynth_jax.cli.step_run import Measured
    from rsynth_jax.storage import segmenters

    classes = zip(release.class_names, release.iou, strict=True)
    numbers = {f"test_iou_{name}": iou for name, iou in classes}
    numbers |= {"test_num": num, "test_iou": float(np.mean(release.iou))}
    return Measured(numbers, segmenters.describe(release))


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
