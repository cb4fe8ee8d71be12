"""Image-steps a second of the ascent, beside an eager PyTorch loop, on one network with the same weights.

    python -m benchmarks.speed.ascent

The same program is also timed on one device, and with its loop rolled, as a CPU would run it without
`ascent.advance`. Ratios are medians over the rounds, interleaved. Needs torch.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import common
from benchmarks.pytorch_networks import resnet8_logits
from rsynth_jax import models, sharding
from rsynth_jax.synthesis import ascent, objectives, tasks
from rsynth_jax.synthesis.norms import L2

ROUNDS = 7
BATCH = 40
STEPS = 10
RADIUS = 30.0
STEP_SIZE = 0.5


class Options(NamedTuple):
    """No flags."""


def program(model: nn.Module, advance: Callable) -> Callable:
    """Compile the paper's generation: (variables, starts, labels) -> images."""
    task = functools.partial(tasks.generate, objective=objectives.log_prob, radius=RADIUS)
    climb = tasks.with_optimizer(task, ascent.steepest(L2, STEP_SIZE))

    def one(variables: Any, start: jax.Array, label: jax.Array) -> jax.Array:
        start, steps = climb(models.bind(model, variables), start, label)
        return advance(steps, steps.init(start), STEPS)[0].point

    return jax.jit(jax.vmap(one, (None, 0, 0)))


def rolled(steps: ascent.Ascent, state: Any, num_steps: int) -> tuple:
    """`ascent.advance`, with the loop kept on every platform."""
    return jax.lax.scan(lambda state, _: steps.step(state), state, length=num_steps)


def pytorch_loop(variables: Any, starts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The same steps, as PyTorch programs write them."""
    start = torch.from_numpy(starts).permute(0, 3, 1, 2).contiguous()
    x, y = start, torch.from_numpy(labels)
    for _ in range(STEPS):
        x = x.detach().requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(resnet8_logits(variables, x), y, reduction="sum"), x)
        step = STEP_SIZE * grad / (grad.flatten(1).norm(dim=1) + 1e-12).view(-1, 1, 1, 1)
        x = (start + (x.detach() - step - start).renorm(2, 0, RADIUS)).clamp(0, 1)
    return x.permute(0, 2, 3, 1).numpy()


@common.main(Options())
def benchmark(options: Options) -> None:
    rng = np.random.default_rng(0)
    starts = rng.random((BATCH, 32, 32, 3), np.float32)
    labels = rng.integers(0, 10, BATCH)
    model = models.create(models.Config("resnet8", 10))
    variables = jax.device_get(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3))))
    devices = sharding.over_devices(BATCH)
    split = (devices.place(variables), *devices.split((starts, labels)))
    alone = jax.device_put((variables, starts, labels), jax.devices()[0])
    runs = {
        "rsynth_jax": functools.partial(program(model, ascent.advance), *split),
        "rsynth_jax, one device": functools.partial(program(model, ascent.advance), *alone),
        "rsynth_jax, one device, rolled": functools.partial(program(model, rolled), *alone),
        "PyTorch, eager": functools.partial(pytorch_loop, variables, starts, labels),
    }
    images = {name: np.asarray(function()) for name, function in runs.items()}
    seconds = common.interleaved(runs, ROUNDS)
    print(f"{common.MACHINE}, jax {jax.__version__}, torch {torch.__version__}")
    print(f"resnet8, {BATCH} images of 32 x 32, {STEPS} steps, median of {ROUNDS} rounds")
    for name, taken in seconds.items():
        speed = BATCH * STEPS / np.median(taken)
        ratio = np.median(taken / seconds["rsynth_jax"])
        error = np.abs(images[name] - images["rsynth_jax"]).max()
        print(f"{name:31s} {speed:7.0f} image-steps/s   {ratio:5.2f} times the time   error {error:.0e}")
