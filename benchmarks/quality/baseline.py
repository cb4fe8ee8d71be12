"""Images of two classifiers against test images, compared by ImageNet features: docs/quality.md.

    python -m benchmarks.quality.baseline --data-dir DIR

A row already in the JSON is not run again. The folder OUT keeps the images of each row, and a sheet of the
first 16 of each class. Needs the extra `[eval]`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import common
from rsynth_jax import models
from rsynth_jax.sampling import measures, samplers
from rsynth_jax.storage import files, releases
from rsynth_jax.synthesis import objectives
from rsynth_jax.synthesis.parameterization import pixel
from rsynth_jax.types import Bytes

BATCH = 100
SHOWN = 16  # images of each class on the sheet
CONSTANT = {"temperature": 1.0, "schedule": samplers.SCHEDULES["constant"], "parameterization": pixel}
PAPER = {"objective": objectives.log_prob, "num_steps": 60, "step_size": 0.5} | CONSTANT
LOGIT = {"objective": objectives.logit, "num_steps": 20, "step_size": 0.2} | CONSTANT
TRAINING_IMAGES = "real, training images"
METHODS = {  # the classifier, and the changes to the defaults of `samplers.generate`
    "class seeds, untouched": ("cifar10-robust", {"temperature": 1.0, "num_steps": 0}),
    "robust, the paper's way: log p, 60 steps of 0.5": ("cifar10-robust", PAPER),
    "robust, logit: 20 constant steps of 0.2": ("cifar10-robust", LOGIT),
    "robust, our default": ("cifar10-robust", {}),
    "dual, our default": ("cifar10", {}),
}
HEADER = ("", "FD", "KID x 1000", "IS", "precision", "recall", "density", "coverage", "s / image")


def step_flops(release: releases.Release) -> float:
    """Floating-point operations of one step of one image: the logit and its gradient, as XLA counts them."""

    def logit(image: jax.Array, variables: Any) -> jax.Array:
        return objectives.logit(models.bind(release.model, variables), jnp.array(0))(image)

    step = jax.jit(jax.value_and_grad(logit)).lower(jnp.zeros(release.image_shape), release.variables)
    return float((step.compile().cost_analysis() or {})["flops"])


def images_of(name: str, options: common.DataOptions) -> tuple[Bytes, dict[str, float]]:
    """Make the images of a row, or read the training images, class by class; the cost of an image."""
    if name == TRAINING_IMAGES:
        images, labels = common.read(options, "train")
        chosen = common.first_of_each_class(labels, options.num)
        return images[chosen], {"seconds_per_image": 0.0, "flops_per_image": 0.0}
    classifier, settings = METHODS[name]
    release = releases.load(classifier)
    run = functools.partial(samplers.generate, release, num=options.num, batch_size=BATCH, **settings)
    samples, seconds = common.timed(run)
    flops = settings.get("num_steps", samplers.default_steps(release)) * step_flops(release)
    return samples.images, {"seconds_per_image": seconds / len(samples.images), "flops_per_image": flops}


def measure(name: str, options: common.DataOptions, real: np.ndarray) -> dict:
    images, cost = images_of(name, options)
    path = options.out / f"{[TRAINING_IMAGES, *METHODS].index(name)}.npz"
    files.write_arrays(path, {"images": images})
    cells = images.reshape(-1, options.num, *images.shape[1:])[:, :SHOWN]
    common.sheet(path, cells, map(str, range(len(cells))), name)
    network = {"network": "efficientnet-lite0", "network_digest": common.efficientnet().digest, "seed": 0}
    return cost | {"num_a": len(images), "num_b": len(real)} | network | common.scores(images, real)


@common.main(common.DataOptions(num=1000, out=common.RESULTS / "quality"))
def benchmark(options: common.DataOptions) -> None:
    names = [TRAINING_IMAGES, *METHODS]
    real = common.embed(common.read(options, "test").images).features
    rows = common.complete(options.out, names, lambda name: measure(name, options, real))
    cells = []
    for name in names:
        cost = (f"{rows[name]['seconds_per_image']:.3f}", f"{rows[name]['flops_per_image'] / 1e9:.1f}")
        cells.append([name, *common.intervals(rows[name], measures.SCORES), *cost])
    print(common.table([*HEADER, "GFLOP / image"], cells))
