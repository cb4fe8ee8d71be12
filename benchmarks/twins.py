"""The same networks twice: in Flax and in PyTorch, with the same weights.

    twin = bundled("cifar10-robust")
    twin.model.apply(twin.variables, images).logits, twin.torch(images)

Needs torch.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

from rsynth_jax import models
from rsynth_jax.models import pytorch
from rsynth_jax.models.layers import Outputs
from rsynth_jax.storage import releases as checkpoints
from rsynth_jax.storage import state_dicts as weights


class Twin(NamedTuple):
    """model and variables in Flax; torch: images (n, 3, h, w) in [0, 1] -> logits (n, k)."""

    model: nn.Module
    variables: Any
    torch: Callable


def convolve(x, kernel, stride):
    """A Flax convolution's kernel at work in PyTorch."""
    weight = torch.from_numpy(np.array(kernel)).permute(3, 2, 0, 1)
    return F.conv2d(x, weight, stride=stride, padding=(weight.shape[-1] - 1) // 2)


def normalize(x, params, stats):
    """Batch norm in evaluation mode."""
    tensors = (stats["mean"], stats["var"], params["scale"], params["bias"])
    return F.batch_norm(x, *(torch.from_numpy(np.array(t)) for t in tensors))


def torch_logits(variables, x):
    """resnet8 of `rsynth_jax.models` on images (n, 3, h, w), written over again."""
    params, stats = variables["params"], variables["batch_stats"]
    x = convolve((x - 0.5) / 0.25, params["Conv_0"]["kernel"], 2)
    x = F.silu(normalize(x, params["BatchNorm_0"], stats["BatchNorm_0"]))
    for i, stride in enumerate((1, 2, 2)):
        p, s = params[f"BasicBlock_{i}"], stats[f"BasicBlock_{i}"]
        y = normalize(convolve(x, p["Conv_0"]["kernel"], stride), p["BatchNorm_0"], s["BatchNorm_0"])
        y = normalize(convolve(F.silu(y), p["Conv_1"]["kernel"], 1), p["BatchNorm_1"], s["BatchNorm_1"])
        if "Conv_2" in p:
            x = normalize(convolve(x, p["Conv_2"]["kernel"], stride), p["BatchNorm_2"], s["BatchNorm_2"])
        x = F.silu(x + y)
    head = {name: torch.from_numpy(np.array(value)) for name, value in params["Dense_0"].items()}
    return x.mean(dim=(2, 3)) @ head["kernel"] + head["bias"]


def bundled(name: str) -> Twin:
    """A released resnet8."""
    release = checkpoints.load(name)
    model, variables = models.create(release.config), release.variables
    return Twin(model, variables, lambda x: torch_logits(variables, x))


def flattened(x: jnp.ndarray) -> jnp.ndarray:
    """Rows, channels first, as PyTorch flattens."""
    return jnp.moveaxis(x, -1, 1).reshape(len(x), -1)


class CnnA(nn.Module):
    """CNN-A of alpha-beta-CROWN: two strided convolutions and two dense layers."""

    @nn.compact
    def __call__(self, images) -> Outputs:
        x = (images - jnp.array([0.485, 0.456, 0.406], images.dtype)) / 0.225
        for width in (16, 32):
            x = nn.relu(nn.Conv(width, (4, 4), (2, 2), padding=1)(x))
        features = nn.relu(nn.Dense(100)(flattened(x)))
        return Outputs(nn.Dense(10)(features), features)


class LeNet5(nn.Module):
    """LeNet5 of advertorch: two pooled convolutions and two dense layers, for MNIST."""

    @nn.compact
    def __call__(self, images) -> Outputs:
        x = images
        for width in (32, 64):
            x = nn.max_pool(nn.relu(nn.Conv(width, (3, 3), padding=1)(x)), (2, 2), (2, 2))
        features = nn.relu(nn.Dense(200)(flattened(x)))
        return Outputs(nn.Dense(10)(features), features)


def torch_cnn_a(state: dict, x):
    """CNN-A, written over again."""
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / 0.225
    x = F.relu(F.conv2d(x, state["0.weight"], state["0.bias"], stride=2, padding=1))
    x = F.relu(F.conv2d(x, state["2.weight"], state["2.bias"], stride=2, padding=1))
    x = F.relu(F.linear(x.flatten(1), state["5.weight"], state["5.bias"]))
    return F.linear(x, state["7.weight"], state["7.bias"])


def torch_lenet5(state: dict, x):
    """LeNet5, written over again."""
    for name in ("conv1", "conv2"):
        x = F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)
        x = F.max_pool2d(F.relu(x), 2)
    x = F.relu(F.linear(x.flatten(1), state["linear1.weight"], state["linear1.bias"]))
    return F.linear(x, state["linear2.weight"], state["linear2.bias"])


LAYERS = ("Conv_0", "Conv_1", "Dense_0", "Dense_1")


def published(path: Path, model: nn.Module, function: Callable) -> Twin:
    """A network of two convolutions and two dense layers, in that order, from its PyTorch file."""
    state = weights.read_state_dict(path)
    values = iter(state.values())
    params = {
        layer: {"kernel": kernel.transpose(pytorch.AXES[kernel.ndim]), "bias": bias}
        for layer, kernel, bias in zip(LAYERS, values, values, strict=True)
    }
    tensors = {name: torch.from_numpy(value) for name, value in state.items()}
    return Twin(model, {"params": params}, functools.partial(function, tensors))


def cnn_a(path: Path) -> Twin:
    """The published l-inf 2/255 robust CNN-A."""
    return published(path, CnnA(), torch_cnn_a)


def lenet5(path: Path) -> Twin:
    """The published l-inf 0.3 robust LeNet5."""
    return published(path, LeNet5(), torch_lenet5)


class Module(torch.nn.Module):
    """A function as the module that attack packages ask for."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function, self.anchor = function, torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        """The function."""
        return self.function(x)


def to_torch(images: np.ndarray) -> torch.Tensor:
    """uint8 (n, h, w, c) -> float32 (n, c, h, w) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous() / 255
