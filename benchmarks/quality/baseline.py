"""Images of two classifiers against real ones, compared by ImageNet features.

    python -m benchmarks.quality.baseline --data-dir DIR

Each row has 10,000 images, 1,000 a class: real training images; of the robust classifier the class seeds
without a step, the paper's procedure, constant steps on the logit, and our default; our default on the
classifier that dual training made of it. They are compared with the 10,000 test images; the class Gaussians
were fitted to training images. FLOPs are XLA's own count of one step. A row already in the JSON is not run
again. The images of each row are kept in WORK, with a sheet of the first 16 of each class. Needs the extra
`[eval]`.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import common
from benchmarks.common import RESULTS
from rsynth_jax import models
from rsynth_jax.cli.sheets import Page, write_sheet
from rsynth_jax.sampling import measures, samplers
from rsynth_jax.storage import extractors, files, releases
from rsynth_jax.storage.releases import Release
from rsynth_jax.synthesis import objectives
from rsynth_jax.types import Bytes

BATCH = 100
SHOWN = 16  # images of each class on the sheet


class Method(NamedTuple):
    """A classifier and what to change of the defaults of `samplers.generate`."""

    classifier: str
    settings: dict[str, Any]


PAPER = {
    "temperature": 1.0,
    "objective": objectives.log_prob,
    "num_steps": 60,
    "step_size": 0.5,
    "schedule": samplers.SCHEDULES["constant"],
}
CONSTANT = PAPER | {"objective": objectives.logit, "num_steps": 20, "step_size": 0.2}
TRAINING_IMAGES = "real, training images"
METHODS = {
    "class seeds, untouched": Method("cifar10-robust", {"temperature": 1.0, "num_steps": 0}),
    "robust, the paper's way: log p, 60 steps of 0.5": Method("cifar10-robust", PAPER),
    "robust, logit: 20 constant steps of 0.2": Method("cifar10-robust", CONSTANT),
    "robust, our default": Method("cifar10-robust", {}),
    "dual, our default": Method("cifar10", {}),
}
HEADER = ("", "FD", "KID x 1000", "IS", "precision", "recall", "density", "coverage", "s / image")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(common.DataOptions):
    """Score the images of the bundled classifiers."""

    num: int = 1000
    """Images of each class."""
    work: Path = Path("baseline")
    """Where the images of every row are kept."""
    out: Path = RESULTS / "quality"
    """Written: OUT.json, a row at a time."""


def step_flops(release: Release) -> float:
    """Floating-point operations of one step of one image: the logit and its gradient, as XLA counts them."""

    def step(variables: Any, image: jax.Array) -> Any:
        return jax.value_and_grad(objectives.logit(models.bind(release.model, variables), jnp.array(0)))(
            image
        )

    compiled = jax.jit(step).lower(release.variables, jnp.zeros(release.image_shape)).compile()
    return float((compiled.cost_analysis() or {})["flops"])


def generate(method: Method, num: int) -> tuple[Bytes, dict[str, float]]:
    """Make the images of a row, `num` of each class; what an image cost."""
    release = releases.load(method.classifier)
    run = functools.partial(samplers.generate, release, num=num, batch_size=BATCH, **method.settings)
    samples, seconds = common.timed(run)
    num_steps = method.settings.get("num_steps", samplers.default_steps(release))
    cost = {
        "seconds_per_image": seconds / len(samples.images),
        "flops_per_image": num_steps * step_flops(release),
    }
    return samples.images, cost


def training_images(options: Options) -> tuple[Bytes, dict[str, float]]:
    """Read the first training images of each class, which cost nothing."""
    images, labels = common.read(options, "train")
    chosen = np.concatenate([np.flatnonzero(labels == k)[: options.num] for k in range(labels.max() + 1)])
    return images[chosen], {"seconds_per_image": 0.0, "flops_per_image": 0.0}


def measure(name: str, options: Options, real: np.ndarray) -> dict:
    """Make and score the images of a row, and keep them."""
    images, cost = (
        training_images(options) if name == TRAINING_IMAGES else generate(METHODS[name], options.num)
    )
    path = options.work / f"{[TRAINING_IMAGES, *METHODS].index(name)}.npz"
    files.write_arrays(path, {"images": images})
    cells = images.reshape(-1, options.num, *images.shape[1:])[:, :SHOWN]
    write_sheet(path.with_suffix(".png"), Page(cells, [str(label) for label in range(len(cells))], name))
    scores = measures.compare(common.embed(images), real)
    about = {"num_a": len(images), "num_b": len(real), "network": "efficientnet-lite0"}
    about |= {"network_digest": extractors.load("efficientnet-lite0").digest, "seed": 0}
    return cost | about | {score: found._asdict() for score, found in scores.items()}


def cells_of(name: str, row: dict) -> list[str]:
    """A row of the table."""
    cost = [f"{row['seconds_per_image']:.3f}", f"{row['flops_per_image'] / 1e9:.1f}"]
    return [name, *common.intervals(row, measures.SCORES), *cost]


def benchmark(options: Options) -> None:
    """Measure every row that is missing, write them as they come, print the table."""
    names = [TRAINING_IMAGES, *METHODS]
    real = common.embed(common.read(options, "test").images).features
    rows = common.complete(options.out, names, lambda name: measure(name, options, real))
    print(common.table([*HEADER, "GFLOP / image"], (cells_of(name, rows[name]) for name in names)))


if __name__ == "__main__":
    common.run(Options, benchmark)
