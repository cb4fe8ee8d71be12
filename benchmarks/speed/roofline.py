"""Roofline on paper: the most images a second that an accelerator could make, by a ResNet-50 at 224 pixels.

    python -m benchmarks.speed.roofline

Counts a step of the ascent on the default objective, as it is traced: floating-point operations of the
convolutions and products, and the bytes that they must at least read and write in bfloat16, each operand once
and everything between them fused. Peaks are the makers': dense bfloat16, and memory bandwidth. A run reaches
a part of it: `python -m benchmarks.speed.large generate` measures which.
"""

import dataclasses
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.extend.core import jaxprs_in_params

from benchmarks import common
from rsynth_jax import models
from rsynth_jax.synthesis import objectives

SIDE = 224
BYTES = 2  # of a bfloat16
DEVICES = {  # devices, and of one: 1e12 operations a second, 1e12 bytes a second
    "H100 SXM (NVIDIA data sheet)": (1, 989, 3.35),
    "TPU v5e-8 (Google Cloud documentation)": (8, 197, 0.819),
    "TPU v5p (Google Cloud documentation)": (1, 459, 2.765),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Count a step, and divide."""

    batch_size: int = 64
    steps: int = 60


def count(jaxpr: Any) -> np.ndarray:
    """Operations and bytes of the convolutions and matrix products of a jaxpr, and of those inside it."""
    total = np.zeros(2)
    for equation in jaxpr.eqns:
        for inner in jaxprs_in_params(equation.params):
            total += count(inner)
        shapes = [value.aval.shape for value in (*equation.invars, *equation.outvars)]
        moved = BYTES * sum(map(math.prod, shapes)) if len(shapes) == 3 else 0
        if equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            total += 2 * math.prod(shapes[2]) * math.prod(shapes[0][i] for i in contracted), moved
        if equation.primitive.name == "conv_general_dilated":
            total += convolution(equation.params, *shapes), moved
    return total


def convolution(params: Any, image: tuple, kernel: tuple, out: tuple) -> float:
    """Operations of a convolution, without those on the zeros that dilate a gradient."""
    numbers = params["dimension_numbers"]
    depth = kernel[numbers.rhs_spec[1]]
    window = math.prod(kernel[i] for i in numbers.rhs_spec[2:])
    return 2 * math.prod(out) * depth * window / math.prod(params["lhs_dilation"])


def main(options: Options) -> None:
    """Print the counts and the table."""
    model = models.create(models.Config("resnet50-imagenet", 1000))
    image = jax.ShapeDtypeStruct((SIDE, SIDE, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x[None]), image)

    def value(variables: Any, image: jax.Array) -> jax.Array:
        classifier = models.bind(model, variables)
        label = jnp.int32(0)
        objective = objectives.add(
            objectives.logit(classifier, label), objectives.log_prob(classifier, label)
        )
        return objective(image)

    step = jax.vmap(jax.grad(value, argnums=1), in_axes=(None, 0))
    batch = jax.ShapeDtypeStruct((options.batch_size, *image.shape), image.dtype)
    operations, moved = count(jax.make_jaxpr(step)(variables, batch).jaxpr)
    counted = {"tflop_per_image": options.steps * operations / options.batch_size / 1e12}
    counted |= {"gb_per_image": options.steps * moved / options.batch_size / 1e9}
    print(json.dumps(dataclasses.asdict(options) | counted))
    lines = []
    for name, (devices, peak, bandwidth) in DEVICES.items():
        seconds = np.array([counted["tflop_per_image"] / peak, counted["gb_per_image"] / bandwidth / 1e3])
        bound = ("operations", "memory")[seconds.argmax()]
        lines.append(
            [name, *(f"{1000 * s / devices:.2f}" for s in seconds), f"{devices / seconds.max():.0f}", bound]
        )
    print(
        common.table(
            ["device", "operations, ms / image", "memory, ms / image", "images / s", "bound by"], lines
        )
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
