"""The ascent against the usual way to write it: image-steps a second, in one run, interleaved.

    python -m benchmarks.ascent

The peer is an eager PyTorch loop of the paper's step (gradient of log p, unit l2 length, l2 ball, clip) over
the same network with the same weights. Also shown: the same program on one device, and with the loop left
rolled, which is what a CPU would run without `ascent.advance`. Ratios are medians over the rounds.

Needs torch, which nothing else here does.
"""

import functools
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import record
from benchmarks.twins import torch_logits
from rsynth_jax import models
from rsynth_jax import sharding as parallel
from rsynth_jax.synthesis import ascent, objectives, projections
from rsynth_jax.synthesis import tasks as synthesis
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.tasks import Task

ROUNDS, BATCH, STEPS = 7, 40, 10
RADIUS, STEP_SIZE = 30.0, 0.5


def task(classifier, start, label):
    """Generation, as the paper does it."""
    ball = projections.chain(projections.l2_ball(start, RADIUS), projections.box())
    return Task(start, objectives.log_prob(classifier, label), ball)


def torch_climb(variables, starts, labels):
    """The usual loop."""
    start = torch.from_numpy(starts).permute(0, 3, 1, 2).contiguous()
    x, y = start, torch.from_numpy(labels)
    for _ in range(STEPS):
        x = x.detach().requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(torch_logits(variables, x), y, reduction="sum"), x)
        moved = (
            x.detach() - STEP_SIZE * grad / (grad.flatten(1).norm(dim=1) + 1e-12).view(-1, 1, 1, 1) - start
        )
        x = (start + moved.renorm(2, 0, RADIUS)).clamp(0, 1)
    return x.permute(0, 2, 3, 1).numpy()


def rolled(model, variables, starts, labels):
    """The program of `synthesis.batched` with `lax.scan` kept as a loop."""

    def one(start, label):
        made = task(models.bind(model, variables), start, label)
        optimizer = ascent.steepest(L2, STEP_SIZE)
        climb = ascent.projected_gradient_ascent(made.objective, made.projection, optimizer)
        step = lambda state, _: climb.step(state)  # noqa: E731
        return jax.lax.scan(step, climb.init(start), length=STEPS)[0].image

    return jax.vmap(one)(starts, labels)


def main() -> None:
    """Time every way in turn, round after round."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    rng = np.random.default_rng(0)
    starts = rng.random((BATCH, 32, 32, 3), np.float32)
    labels = rng.integers(0, 10, BATCH)
    model = models.create(models.Config("resnet8", 10))
    variables = jax.device_get(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3))))
    devices, one = parallel.over_devices(BATCH), jax.devices()[0]
    climb = synthesis.batched(model, task, ascent.steepest(L2, STEP_SIZE), STEPS)
    spread = (devices.replicate(variables), *devices.split((starts, labels)))
    alone = jax.device_put((variables, starts, labels), one)
    ways = {
        "rsynth_jax": lambda: climb(*spread),
        "rsynth_jax, one device": lambda: climb(*alone),
        "rsynth_jax, one device, rolled": functools.partial(
            jax.jit(functools.partial(rolled, model)), *alone
        ),
        "PyTorch, eager": lambda: torch_climb(variables, starts, labels),
    }
    answers = [np.asarray(way()) for way in ways.values()]
    seconds = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.perf_counter()
            jax.block_until_ready(way())
            seconds[name].append(time.perf_counter() - began)
    print(f"{record.machine()}, jax {jax.__version__}, torch {torch.__version__}")
    print(f"resnet8, {BATCH} images of 32 x 32, {STEPS} steps, median of {ROUNDS} rounds")
    for (name, taken), answer in zip(seconds.items(), answers, strict=True):
        ratio = np.median(np.array(taken) / np.array(seconds["rsynth_jax"]))
        apart = np.abs(answer - answers[0]).max()
        speed = BATCH * STEPS / np.median(taken)
        print(f"{name:31s} {speed:7.0f} image-steps/s   {ratio:5.2f} times the time   apart by {apart:.0e}")


if __name__ == "__main__":
    main()
