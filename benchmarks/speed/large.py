"""Speed and memory of the tasks on a ResNet-50 of random weights, 1,000 classes, at 224 pixels.

    python -m benchmarks.speed.large inpaint --batch-size 4

The weights matter to neither. Prints one line of JSON: the seconds of the first call, which compiles, and of
the second, the processor's seconds of the second, and the largest resident memory of the process.
"""

import dataclasses
import functools
import json
import resource
import time
from typing import Any, Literal

import jax
import numpy as np
import tyro
from tyro.conf import Positional

from rsynth_jax import models
from rsynth_jax.models.networks import Network
from rsynth_jax.sampling import samplers
from rsynth_jax.storage import class_names, releases

SIDE = 224


@dataclasses.dataclass(frozen=True)
class Options:
    """Run a task twice on as many images as a batch holds."""

    task: Positional[Literal["generate", "inpaint", "translate"]]
    batch_size: int = 1
    steps: int = 2


def release() -> releases.Release:
    """Draw the weights: kernels with the variance of He et al. (2015), batch norms as the identity."""
    model = models.create(models.Config("resnet50-imagenet", 1000))
    images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), np.float32)
    shapes = jax.eval_shape(lambda images: model.init(jax.random.key(0), images), images)
    rng = np.random.default_rng(0)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key == "kernel":
            scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return scale * rng.standard_normal(leaf.shape, np.float32)
        return np.full(leaf.shape, path[-1].key in ("scale", "var"), np.float32)

    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    return releases.classifier(Network(model, variables), class_names.read(["imagenet"]), (SIDE, SIDE, 3))


def main(options: Options) -> None:
    """Run the task twice and print the figures."""
    classifier = release()
    photos = np.random.default_rng(0).integers(0, 256, (options.batch_size, SIDE, SIDE, 3), np.uint8)
    run: dict[str, Any] = {"num_steps": options.steps, "batch_size": options.batch_size}
    task = {
        "generate": functools.partial(samplers.generate, classifier, "tench", options.batch_size),
        "inpaint": functools.partial(samplers.inpaint, classifier, photos, labels="tench"),
        "translate": functools.partial(samplers.translate, classifier, photos, "tench"),
    }[options.task]
    began = time.perf_counter()
    task(**run)
    compiled, busy = time.perf_counter(), time.process_time()
    task(**run)
    seconds = {"seconds_first": compiled - began, "seconds": time.perf_counter() - compiled}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = seconds | {"processor_seconds": time.process_time() - busy, "peak_mib": peak}
    print(json.dumps(dataclasses.asdict(options) | figures))


if __name__ == "__main__":
    main(tyro.cli(Options))
