"""The same networks in Flax and in PyTorch, with the same weights. Needs torch."""

import copy
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rsynth_jax.models import layers, pytorch
from rsynth_jax.storage import releases
from rsynth_jax.storage.state_dicts import read_state_dict
from rsynth_jax.types import Bytes, Outputs, Variables

Activation = Callable[[torch.Tensor], torch.Tensor]


class Twin(NamedTuple):
    """A network in Flax, and in PyTorch: images (n, c, h, w) in [0, 1] -> logits (n, k)."""

    model: nn.Module
    variables: Variables
    pytorch: Callable[[torch.Tensor], torch.Tensor]


def channels_first(images: Bytes) -> torch.Tensor:
    """Convert uint8 (n, h, w, c) to float32 (n, c, h, w) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous() / 255


def released(name: str) -> Twin:
    release = releases.load(name)
    return Twin(release.model, release.variables, frozen(ResNet(release.model, release.variables)))


def frozen(network: torch.nn.Module) -> torch.nn.Module:
    """In evaluation mode, with no gradient of its weights."""
    return network.eval().requires_grad_(False)


def folded(network: torch.nn.Module) -> torch.nn.Module:
    """The fastest form of a `ResNet` for images: batch norm in the convolutions, channels last."""
    network = frozen(copy.deepcopy(network))
    for part in network.modules():
        if isinstance(part, Convolution):
            part.conv = fuse_conv_bn_eval(part.conv, part.norm)
            part.norm = torch.nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    return network.to(memory_format=torch.channels_last)


class Convolution(torch.nn.Module):
    """A convolution and its batch norm, with weights of Flax."""

    def __init__(self, variables: Variables, index: int, stride: int) -> None:
        super().__init__()
        kernel, norm, moments = (
            variables[kind][f"{layer}_{index}"]
            for kind, layer in (("params", "Conv"), ("params", "BatchNorm"), ("batch_stats", "BatchNorm"))
        )
        size, _, inputs, width = kernel["kernel"].shape
        self.conv = torch.nn.Conv2d(inputs, width, size, stride, (size - 1) // 2, bias=False)
        self.norm = torch.nn.BatchNorm2d(width)
        _fill(self.conv.weight, kernel["kernel"])
        _fill(self.norm.weight, norm["scale"])
        _fill(self.norm.bias, norm["bias"])
        _fill(self.norm.running_mean, moments["mean"])
        _fill(self.norm.running_var, moments["var"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class Block(torch.nn.Module):
    """Convolutions of these strides, and a shortcut; the activation comes after the sum."""

    def __init__(self, variables: Variables, strides: Sequence[int], activation: Activation) -> None:
        super().__init__()
        parts = [Convolution(variables, i, stride) for i, stride in enumerate(strides)]
        self.main = torch.nn.ModuleList(parts)
        self.activation = activation
        self.shortcut = torch.nn.Identity()
        if f"Conv_{len(strides)}" in variables["params"]:
            self.shortcut = Convolution(variables, len(strides), max(strides))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.main[0](x)
        for part in self.main[1:]:
            y = part(self.activation(y))
        return self.activation(y + self.shortcut(x))


class ResNet(torch.nn.Module):
    """A `rsynth_jax.models.resnet.ResNet` with its weights: images (n, 3, h, w) in [0, 1] -> logits."""

    def __init__(self, model: Any, variables: Variables) -> None:
        super().__init__()
        name = model.block.__name__
        self.activation: Activation = F.silu if model.activation is nn.silu else F.relu
        self.mean = torch.tensor(model.mean).view(1, -1, 1, 1)
        self.std = torch.tensor(model.std).view(1, -1, 1, 1)
        self.stem = Convolution(variables, 0, model.stem.stride)
        self.pool = torch.nn.MaxPool2d(3, 2, 1) if model.stem is layers.IMAGENET_STEM else torch.nn.Identity()
        strides = [
            2 if stage > 0 and index == 0 else 1
            for stage, size in enumerate(model.stage_sizes)
            for index in range(size)
        ]
        self.blocks = torch.nn.Sequential(
            *(
                Block(
                    {kind: variables[kind][f"{name}_{i}"] for kind in variables},
                    (stride, 1) if name == "BasicBlock" else (1, stride, 1),
                    self.activation,
                )
                for i, stride in enumerate(strides)
            )
        )
        head = variables["params"]["Dense_0"]
        self.head = torch.nn.Linear(*head["kernel"].shape)
        _fill(self.head.weight, head["kernel"])
        _fill(self.head.bias, head["bias"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(((x - self.mean) / self.std).to(self.head.weight.dtype))
        x = self.blocks(self.pool(self.activation(x)))
        return self.head(x.mean(dim=(2, 3))).float()


def _fill(parameter: torch.Tensor | None, value: np.ndarray) -> None:
    """Copy an array of Flax, in PyTorch's layout."""
    assert parameter is not None
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(value.transpose(np.argsort(pytorch.AXES[value.ndim])).copy()))


class Small(nn.Module):
    """Two convolutions and two dense layers, as others published their weights."""

    widths: tuple[int, int]
    kernel: int
    stride: int
    pool: int
    hidden: int
    mean: tuple[float, ...] = (0.0,)
    deviation: float = 1.0

    @nn.compact
    def __call__(self, images: jax.Array) -> Outputs:
        x = (images - jnp.array(self.mean, images.dtype)) / self.deviation
        for width in self.widths:
            x = nn.relu(nn.Conv(width, (self.kernel,) * 2, (self.stride,) * 2, padding=1)(x))
            x = nn.max_pool(x, (self.pool,) * 2, (self.pool,) * 2) if self.pool > 1 else x
        x = jnp.moveaxis(x, -1, 1).reshape(len(x), -1)  # channels first, as PyTorch flattens
        features = nn.relu(nn.Dense(self.hidden)(x))
        return Outputs(nn.Dense(10)(features), features)


# l-inf 2/255 robust, of alpha-beta-CROWN; l-inf 0.3 robust, of advertorch, for MNIST
CNN_A = Small((16, 32), 4, 2, 1, 100, (0.485, 0.456, 0.406), 0.225)
LENET5 = Small((32, 64), 3, 1, 2, 200)


def published(path: Path, model: Small) -> Twin:
    arrays = list(read_state_dict(path).values())
    pairs = list(zip(arrays[::2], arrays[1::2], strict=True))
    params = {
        layer: {"kernel": kernel.transpose(pytorch.AXES[kernel.ndim]), "bias": bias}
        for layer, (kernel, bias) in zip(("Conv_0", "Conv_1", "Dense_0", "Dense_1"), pairs, strict=True)
    }
    layers = [tuple(map(torch.from_numpy, pair)) for pair in pairs]
    return Twin(model, {"params": params}, functools.partial(small_logits, model, layers))


def small_logits(model: Small, layers: list[tuple[torch.Tensor, ...]], x: torch.Tensor) -> torch.Tensor:
    x = (x - torch.tensor(model.mean).view(1, -1, 1, 1)) / model.deviation
    for weight, bias in layers[:2]:
        x = F.max_pool2d(F.relu(F.conv2d(x, weight, bias, model.stride, padding=1)), model.pool)
    return F.linear(F.relu(F.linear(x.flatten(1), *layers[2])), *layers[3])
