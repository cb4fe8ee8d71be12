"""The same networks in Flax and in PyTorch, with the same weights. Needs torch.

twin = bundled("cifar10-robust")
twin.model.apply(twin.variables, images).logits, twin.pytorch(channels_first)
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

from rsynth_jax.models import pytorch
from rsynth_jax.models.layers import Outputs
from rsynth_jax.storage import releases
from rsynth_jax.storage.state_dicts import read_state_dict
from rsynth_jax.types import Bytes, Variables

MEAN = (0.485, 0.456, 0.406)  # of CNN-A's inputs
DEVIATION = 0.225


class Twin(NamedTuple):
    """A network twice.

    Attributes:
      model, variables: in Flax.
      pytorch: images (n, c, h, w) in [0, 1] -> logits (n, k).
    """

    model: nn.Module
    variables: Variables
    pytorch: Callable[[torch.Tensor], torch.Tensor]


class Module(torch.nn.Module):
    """A function as the module that attack packages ask for."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.function = function
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the function."""
        return self.function(x)


def channels_first(images: Bytes) -> torch.Tensor:
    """Convert uint8 (n, h, w, c) to float32 (n, c, h, w) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous() / 255


def bundled(name: str) -> Twin:
    """Load a bundled resnet8."""
    release = releases.load(name)
    return Twin(release.model, release.variables, functools.partial(resnet8_logits, release.variables))


def cnn_a(path: Path) -> Twin:
    """Load the published l-inf 2/255 robust CNN-A of alpha-beta-CROWN."""
    return _published(path, CnnA(), _cnn_a_logits)


def lenet5(path: Path) -> Twin:
    """Load the published l-inf 0.3 robust LeNet5 of advertorch, for MNIST."""
    return _published(path, LeNet5(), _lenet5_logits)


def _published(path: Path, model: nn.Module, function: Callable) -> Twin:
    """A network of two convolutions and two dense layers, in that order, from its PyTorch file."""
    state = read_state_dict(path)
    values = iter(state.values())
    params = {
        layer: {"kernel": kernel.transpose(pytorch.AXES[kernel.ndim]), "bias": bias}
        for layer, kernel, bias in zip(
            ("Conv_0", "Conv_1", "Dense_0", "Dense_1"), values, values, strict=True
        )
    }
    tensors = {name: torch.from_numpy(value) for name, value in state.items()}
    return Twin(model, {"params": params}, functools.partial(function, tensors))


# resnet8.


def resnet8_logits(variables: Variables, x: torch.Tensor) -> torch.Tensor:
    """Apply resnet8 of `rsynth_jax.models` to images (n, 3, h, w) in PyTorch."""
    params, stats = variables["params"], variables["batch_stats"]
    x = _convolve((x - 0.5) / 0.25, params["Conv_0"]["kernel"], 2)
    x = F.silu(_normalize(x, params["BatchNorm_0"], stats["BatchNorm_0"]))
    for i, stride in enumerate((1, 2, 2)):
        p, s = params[f"BasicBlock_{i}"], stats[f"BasicBlock_{i}"]
        y = _normalize(_convolve(x, p["Conv_0"]["kernel"], stride), p["BatchNorm_0"], s["BatchNorm_0"])
        y = _normalize(_convolve(F.silu(y), p["Conv_1"]["kernel"], 1), p["BatchNorm_1"], s["BatchNorm_1"])
        if "Conv_2" in p:
            x = _normalize(_convolve(x, p["Conv_2"]["kernel"], stride), p["BatchNorm_2"], s["BatchNorm_2"])
        x = F.silu(x + y)
    head = params["Dense_0"]
    return x.mean(dim=(2, 3)) @ _tensor(head["kernel"]) + _tensor(head["bias"])


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def _convolve(x: torch.Tensor, kernel: Any, stride: int) -> torch.Tensor:
    weight = _tensor(kernel).permute(3, 2, 0, 1)
    return F.conv2d(x, weight, stride=stride, padding=(weight.shape[-1] - 1) // 2)


def _normalize(x: torch.Tensor, params: Variables, stats: Variables) -> torch.Tensor:
    return F.batch_norm(x, *map(_tensor, (stats["mean"], stats["var"], params["scale"], params["bias"])))


# Published networks.


def _flatten(x: jax.Array) -> jax.Array:
    """Rows, channels first, as PyTorch flattens."""
    return jnp.moveaxis(x, -1, 1).reshape(len(x), -1)


class CnnA(nn.Module):
    """Two strided convolutions and two dense layers."""

    @nn.compact
    def __call__(self, images: jax.Array) -> Outputs:
        x = (images - jnp.array(MEAN, images.dtype)) / DEVIATION
        for width in (16, 32):
            x = nn.relu(nn.Conv(width, (4, 4), (2, 2), padding=1)(x))
        features = nn.relu(nn.Dense(100)(_flatten(x)))
        return Outputs(nn.Dense(10)(features), features)


class LeNet5(nn.Module):
    """Two pooled convolutions and two dense layers."""

    @nn.compact
    def __call__(self, images: jax.Array) -> Outputs:
        x = images
        for width in (32, 64):
            x = nn.max_pool(nn.relu(nn.Conv(width, (3, 3), padding=1)(x)), (2, 2), (2, 2))
        features = nn.relu(nn.Dense(200)(_flatten(x)))
        return Outputs(nn.Dense(10)(features), features)


def _cnn_a_logits(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    x = (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / DEVIATION
    for layer in ("0", "2"):
        x = F.relu(F.conv2d(x, state[f"{layer}.weight"], state[f"{layer}.bias"], stride=2, padding=1))
    x = F.relu(F.linear(x.flatten(1), state["5.weight"], state["5.bias"]))
    return F.linear(x, state["7.weight"], state["7.bias"])


def _lenet5_logits(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    for layer in ("conv1", "conv2"):
        x = F.conv2d(x, state[f"{layer}.weight"], state[f"{layer}.bias"], padding=1)
        x = F.max_pool2d(F.relu(x), 2)
    x = F.relu(F.linear(x.flatten(1), state["linear1.weight"], state["linear1.bias"]))
    return F.linear(x, state["linear2.weight"], state["linear2.bias"])
