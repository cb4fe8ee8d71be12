"""Image-steps a second of the ascent, beside PyTorch, on the same networks, weights and images.

    python -m benchmarks.speed.ascent

PyTorch runs in its fastest form (channels last, batch norm folded into the convolutions) in float32 and in
bfloat16, as its programs are mostly written, and as robustness 1.2.1 climbs: with a pass more for its
prediction, and with its `custom_loss`, for which it runs the network twice a step. Its loop is written out
here, for its package needs CUDA. Rounds are interleaved; ratios are of the same round. Needs torch.
"""

import functools
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import common
from benchmarks.common import RESULTS
from benchmarks.pytorch_networks import ResNet, folded, frozen
from rsynth_jax import models, sharding
from rsynth_jax.metrics.estimates import Estimate
from rsynth_jax.synthesis import ascent, objectives, tasks
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.types import Variables

RADIUS = 30.0
STEP_SIZE = 0.5
SETTLING = 40  # passes until the running statistics, of momentum 0.9, are those of the images
OURS = "rsynth_jax"
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (images, labels) -> the loss of each


class Case(NamedTuple):
    """A network, and the images that it climbs with."""

    architecture: str
    side: int
    batch: int
    steps: int
    rounds: int


CASES = (
    Case("resnet8", 32, 40, steps=10, rounds=9),
    Case("resnet8", 32, 128, steps=10, rounds=7),
    Case("resnet18", 32, 32, steps=5, rounds=5),
    Case("resnet50-imagenet", 224, 8, steps=2, rounds=5),
)


class Options(NamedTuple):
    """No flags."""


def network(case: Case) -> tuple[Any, Variables]:
    """An untrained network, with the running statistics of random images."""
    model = models.create(models.Config(case.architecture, 10))
    images = np.random.default_rng(1).random((2, case.side, case.side, 3), np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images)

    @jax.jit
    def settle(variables: Variables) -> Variables:
        return {**variables, **model.apply(variables, images, mutable=["batch_stats"])[1]}

    for _ in range(SETTLING):
        variables = settle(variables)
    return model, jax.device_get(variables)


def program(model: Any, num_steps: int) -> Callable:
    """Compile the paper's generation: (variables, starts, labels) -> images."""
    task = functools.partial(tasks.generate, objective=objectives.log_prob, radius=RADIUS)
    climb = tasks.with_optimizer(task, ascent.steepest(L2, STEP_SIZE))

    def one(variables: Any, start: jax.Array, label: jax.Array) -> jax.Array:
        start, steps = climb(models.bind(model, variables), start, label)
        return ascent.run(steps, start, num_steps)[0]

    return jax.jit(jax.vmap(one, (None, 0, 0)))


def climb(loss: Loss, start: torch.Tensor, labels: torch.Tensor, num_steps: int) -> np.ndarray:
    """The same steps, as PyTorch programs write them."""
    x = start
    for _ in range(num_steps):
        x = x.detach().requires_grad_()
        (grad,) = torch.autograd.grad(loss(x, labels).sum(), x)
        step = STEP_SIZE * grad / (grad.flatten(1).norm(dim=1) + 1e-12).view(-1, 1, 1, 1)
        x = (start + (x.detach() - step - start).renorm(2, 0, RADIUS)).clamp(0, 1)
    return x.permute(0, 2, 3, 1).numpy()


def peers(case: Case, model: Any, variables: Variables, starts: np.ndarray, labels: np.ndarray) -> dict:
    plain = frozen(ResNet(model, variables))
    best = folded(plain)
    half = folded(plain).to(torch.bfloat16)
    first = torch.from_numpy(starts).permute(0, 3, 1, 2).contiguous()
    last = first.contiguous(memory_format=torch.channels_last)
    wanted = torch.from_numpy(labels)

    def cross_entropy(net: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(net(x), y, reduction="none")

    def custom_loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        plain(x)  # robustness computes its own output before it calls the custom loss
        return cross_entropy(plain, x, y)

    def with_prediction(loss: Loss) -> np.ndarray:
        images = climb(loss, first, wanted, case.steps)
        with torch.no_grad():
            plain(torch.from_numpy(images).permute(0, 3, 1, 2))
        return images

    def run(net: torch.nn.Module, images: torch.Tensor) -> Callable[[], np.ndarray]:
        loss = functools.partial(cross_entropy, net)
        return lambda: climb(loss, images, wanted, case.steps)

    return {
        "PyTorch, channels last, folded": run(best, last),
        "PyTorch": run(plain, first),
        "robustness, cross-entropy": lambda: with_prediction(functools.partial(cross_entropy, plain)),
        "robustness, custom loss": lambda: with_prediction(custom_loss),
        "PyTorch, bfloat16": run(half, last),
    }


def measure(case: Case) -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(0)
    starts = rng.random((case.batch, case.side, case.side, 3), np.float32)
    labels = rng.integers(0, 10, case.batch)
    model, variables = network(case)
    size = min(case.batch, sharding.most_rows())  # as `runner.sample` has it
    devices = sharding.over_devices(size)
    weights = devices.place(variables)
    parts = [devices.split((starts[i : i + size], labels[i : i + size])) for i in range(0, case.batch, size)]
    ours = program(model, case.steps)
    runs = {
        OURS: lambda: np.concatenate([np.asarray(ours(weights, *part)) for part in parts]),
        **peers(case, model, variables, starts, labels),
    }
    images = {name: np.asarray(function()) for name, function in runs.items()}
    seconds = common.interleaved(runs, case.rounds)

    def row(name: str) -> dict[str, Any]:
        speed = case.batch * case.steps / np.median(seconds[name])
        error = np.abs(images[name] - images[OURS]).max()
        ratio = common.ratio(seconds[name], seconds[OURS])._asdict()
        return {"image_steps_a_second": float(speed), "error": float(error), "ratio": ratio}

    return {name: row(name) for name in runs}


def cells(case: Case, rows: dict[str, dict[str, Any]]) -> list[str]:
    """A row of the table: our speed, and how many times the time of ours each peer takes."""
    ratios = [common.interval(Estimate(**row["ratio"]), ".2f") for row in rows.values()]
    title = f"{case.architecture}, {case.side} px, batch {case.batch}"
    return [title, f"{rows[OURS]['image_steps_a_second']:.1f}", *ratios[1:]]


@common.main(Options())
def benchmark(options: Options) -> None:
    found = {}
    for case in CASES:
        found[case] = measure(case)
        print(json.dumps({case.architecture: found[case]}, indent=1), flush=True)
    header = ["network", "image-steps a second", *list(found[CASES[0]])[1:]]
    versions = f"jax {jax.__version__}, torch {torch.__version__}"
    print(f"{common.MACHINE}, {versions}; time over that of {OURS}, medians and quartiles")
    print(common.table(header, [cells(case, rows) for case, rows in found.items()]))
    content = [{**case._asdict(), "rows": rows} for case, rows in found.items()]
    common.write(RESULTS / "ascent", versions=versions, cases=content)
