"""The same networks in Flax and in PyTorch, with the same weights. Needs torch."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import torch
import torch.nn.functional as F

from rsynth_jax.models import pytorch
from rsynth_jax.storage import releases
from rsynth_jax.storage.state_dicts import read_state_dict
from rsynth_jax.types import Bytes, Outputs, Variables


class Twin(NamedTuple):
    """A network in Flax, and in PyTorch: images (n, c, h, w) in [0, 1] -> logits (n, k)."""

    model: nn.Module
    variables: Variables
    pytorch: Callable[[torch.Tensor], torch.Tensor]


def channels_first(images: Bytes) -> torch.Tensor:
    """Convert uint8 (n, h, w, c) to float32 (n, c, h, w) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous() / 255


def bundled(name: str) -> Twin:
    release = releases.load(name)
    return Twin(release.model, release.variables, functools.partial(resnet8_logits, release.variables))


def resnet8_logits(variables: Variables, x: torch.Tensor) -> torch.Tensor:
    """Apply resnet8 of `rsynth_jax.models` to images (n, 3, h, w) in PyTorch."""
    params, stats = variables["params"], variables["batch_stats"]
    x = F.silu(_convolve(params, stats, 0, (x - 0.5) / 0.25, 2))
    for i, stride in enumerate((1, 2, 2)):
        block = (params[f"BasicBlock_{i}"], stats[f"BasicBlock_{i}"])
        y = _convolve(*block, 1, F.silu(_convolve(*block, 0, x, stride)), 1)
        x = F.silu(y + (_convolve(*block, 2, x, stride) if "Conv_2" in block[0] else x))
    head = params["Dense_0"]
    return x.mean(dim=(2, 3)) @ torch.tensor(head["kernel"]) + torch.tensor(head["bias"])


def _convolve(params: Variables, stats: Variables, i: int, x: torch.Tensor, stride: int) -> torch.Tensor:
    weight = torch.tensor(params[f"Conv_{i}"]["kernel"]).permute(3, 2, 0, 1)
    x = F.conv2d(x, weight, stride=stride, padding=(weight.shape[-1] - 1) // 2)
    scale, moments = params[f"BatchNorm_{i}"], stats[f"BatchNorm_{i}"]
    return F.batch_norm(
        x, *map(torch.tensor, (moments["mean"], moments["var"], scale["scale"], scale["bias"]))
    )


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
