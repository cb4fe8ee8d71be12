"""Adversarial train steps a second, beside PyTorch, on the same networks, weights and images.

    python -m benchmarks.speed.training

PGD-7 and TRADES-10 in an l2 ball, SGD with momentum and weight decay, batch norm in evaluation mode for the
adversary and in training mode for the loss. PyTorch runs with channels last. Rounds are interleaved; ratios
are of the same round. Needs torch.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F

from benchmarks import common
from benchmarks.common import RESULTS
from benchmarks.pytorch_networks import ResNet
from rsynth_jax import models, sharding
from rsynth_jax.attacks import adversaries
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.metrics.estimates import Estimate
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.training import classifier, losses
from rsynth_jax.training.classifier import Setup

EPSILON = 0.5
STEP_SIZE = 0.1
BETA = 6.0
RATE = 0.01
MOMENTUM = 0.9
DECAY = 5e-4
ROUNDS = 5
Step = Callable[[], Any]


class Case(NamedTuple):
    """A network, the batch that it learns from, and the method."""

    architecture: str
    batch: int
    method: str
    attack_steps: int


CASES = (
    Case("resnet8", 128, "PGD", 7),
    Case("resnet8", 128, "TRADES", 10),
    Case("resnet18", 32, "PGD", 7),
    Case("resnet18", 32, "TRADES", 10),
)


class Options(NamedTuple):
    """No flags."""


def ours(case: Case, model: Any, variables: Any, images: np.ndarray, labels: np.ndarray) -> Step:
    threat, steps = Threat(L2, EPSILON), Steps(STEP_SIZE, case.attack_steps)
    pgd = case.method == "PGD"
    setup = Setup(
        model,
        optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE, MOMENTUM)),
        adversaries.pgd(threat, steps) if pgd else adversaries.trades(threat, steps),
        losses.pgd() if pgd else losses.trades(BETA),
        augment=lambda key, image: image,
        ema_decay=0.999,
    )
    trainer = classifier.make_trainer(setup)
    devices = sharding.over_devices(case.batch)
    state = [devices.place(trainer.init(variables))]
    batch = devices.split((images, labels))

    def step() -> Any:
        state[0], metrics = trainer.step(state[0], jax.random.key(0), *batch)
        return metrics

    return step


def pytorch(case: Case, model: Any, variables: Any, images: np.ndarray, labels: np.ndarray) -> Step:
    net = ResNet(model, variables).to(memory_format=torch.channels_last)
    average = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
    clean = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    clean = clean.contiguous(memory_format=torch.channels_last)
    y = torch.from_numpy(labels)

    def divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return F.kl_div(F.log_softmax(q, 1), F.softmax(p, 1), reduction="batchmean")

    def adversarial() -> torch.Tensor:
        net.eval()
        if case.method == "PGD":
            offset = torch.randn_like(clean)
            offset *= (EPSILON * torch.rand(len(y)) / offset.flatten(1).norm(dim=1)).view(-1, 1, 1, 1)
        else:
            offset = 0.001 * torch.randn_like(clean)
            with torch.no_grad():
                reference = net(clean)
        x = (clean + offset).clamp(0, 1)
        for _ in range(case.attack_steps):
            x = x.detach().requires_grad_()
            loss = F.cross_entropy(net(x), y) if case.method == "PGD" else divergence(reference, net(x))
            (grad,) = torch.autograd.grad(loss, x)
            length = grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-12
            moved = x.detach() + STEP_SIZE * grad / length - clean
            x = (clean + moved.renorm(2, 0, EPSILON)).clamp(0, 1)
        net.train()
        return x.detach()

    def step() -> Any:
        x = adversarial()
        if case.method == "PGD":
            loss = F.cross_entropy(net(x), y)
        else:
            logits = net(clean)
            loss = F.cross_entropy(logits, y) + BETA * divergence(logits, net(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for mean, now in zip(average.parameters(), net.parameters(), strict=True):
                mean.lerp_(now, 0.001)
        return loss.item()

    return step


def measure(case: Case) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (case.batch, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 10, case.batch)
    model = models.create(models.Config(case.architecture, 10))
    variables = jax.device_get(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3))))
    given = (case, model, variables, images, labels)
    seconds = common.interleaved({"ours": ours(*given), "theirs": pytorch(*given)}, ROUNDS)
    ratio = common.ratio(seconds["theirs"], seconds["ours"])
    return {"seconds": float(np.median(seconds["ours"])), "ratio": ratio._asdict()}


@common.main(Options())
def benchmark(options: Options) -> None:
    found = {case: measure(case) for case in CASES}
    versions = f"jax {jax.__version__}, torch {torch.__version__}"
    print(f"{common.MACHINE}, {versions}; PyTorch's time over that of rsynth_jax, medians and quartiles")
    rows = (
        (
            f"{case.architecture}, batch {case.batch}, {case.method}-{case.attack_steps}",
            f"{row['seconds']:.2f}",
            common.interval(Estimate(**row["ratio"]), ".2f"),
        )
        for case, row in found.items()
    )
    print(common.table(("train step", "seconds a step", "PyTorch"), rows))
    content = [{**case._asdict(), **row} for case, row in found.items()]
    common.write(RESULTS / "training", versions=versions, cases=content)
