"""The picture that opens the README.

    python -m benchmarks.quality.opening --out docs/opening

Ten images a row, the first ones of seed 0. Classes and constraints were chosen, images were not.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from benchmarks import common
from benchmarks.quality.baseline import PAPER
from rsynth_jax.cli import sheets
from rsynth_jax.data import image_files
from rsynth_jax.sampling import runner, samplers
from rsynth_jax.storage import releases
from rsynth_jax.storage.releases import Release
from rsynth_jax.synthesis import ascent, objectives, tasks
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.projections import box, chain, low_resolution_in_box
from rsynth_jax.synthesis.tasks import Task
from rsynth_jax.types import Bytes, Classifier, Image, Label

NUM = 10  # images a row
STEPS, STEP_SIZE = 30, 0.2  # of the new constraints
BLOCK = 4  # pixels of which the hidden picture has the mean
DRAWINGS = Path(__file__).parents[1] / "drawings"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    out: Path
    """Where the picture is written, without its suffix."""


def mirror(image: Image) -> Image:
    return (image + image[:, ::-1]) / 2


def symmetric(classifier: Classifier, start: Image, label: Label) -> Task:
    return Task(start, objectives.logit(classifier, label), chain(mirror, box()))


def hidden(classifier: Classifier, start: Image, label: Label, small: Image) -> Task:
    """An image of the class whose blocks have the means of another's."""
    return Task(start, objectives.logit(classifier, label), low_resolution_in_box(small, BLOCK))


def climb(release: Release, task: tasks.TaskFn, name: str, *inputs: np.ndarray) -> Bytes:
    """Climb from the draws of a class, under a constraint that the library does not have."""
    starts = samplers.generate(release, name, NUM, num_steps=0, temperature=1.0)
    climbing = tasks.with_optimizer(task, ascent.steepest(L2, STEP_SIZE))
    given = (starts.images, starts.labels, *inputs)
    return runner.sample(release.model, release.variables, climbing, given, num_steps=STEPS).images


def lowered(images: Bytes) -> np.ndarray:
    """Means of blocks, in [0, 1]."""
    num, height, width, channels = images.shape
    blocks = images.reshape(num, height // BLOCK, BLOCK, width // BLOCK, BLOCK, channels)
    return (blocks.mean(axis=(2, 4)) / 255).astype(np.float32)


@common.main(Options(out=Path("docs/opening")))
def benchmark(options: Options) -> None:
    default, robust = releases.load("cifar10"), releases.load("cifar10-robust")
    generate = functools.partial(samplers.generate, num=NUM)
    drawings = np.stack([image_files.read_image(DRAWINGS / f"{name}.png") for name in default.class_names])
    ships = climb(robust, lambda c, x, y: Task(x, objectives.logit(c, y), box()), "ship")
    rows = {
        "ship": generate(default, "ship").images,
        "frog": generate(default, "frog").images,
        "ship, the paper's way": generate(robust, "ship", **PAPER).images,
        "drawings": drawings,
        "sketch to image": samplers.sketch(default, drawings, np.arange(NUM)).images,
        "symmetric automobile": climb(robust, symmetric, "automobile"),
        "deer; from afar, ships": climb(robust, hidden, "deer", lowered(ships)),
    }
    page = sheets.Page(np.stack(list(rows.values())), list(rows), "")
    sheets.write_picture(options.out.with_suffix(".webp"), sheets.draw(page))
