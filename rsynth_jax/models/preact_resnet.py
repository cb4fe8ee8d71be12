"""Pre-activation residual networks (He et al. 2016b) and wide ones (Zagoruyko and Komodakis 2016)."""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from rsynth_jax.models import layers
from rsynth_jax.types import Outputs


class PreActBlock(nn.Module):
    """Batch norm and ReLU before each of two 3 x 3 convolutions.

    Where the shape changes, the shortcut is a 1 x 1 convolution of the activated input.
    """

    width: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x):
        norm = layers.batch_norm(self)
        y = nn.relu(norm()(x))
        if self.stride > 1 or x.shape[-1] != self.width:
            x = layers.conv(self.width, 1, self.stride, self.dtype)(y)
        y = layers.conv(self.width, 3, self.stride, self.dtype)(y)
        y = layers.conv(self.width, 3, 1, self.dtype)(nn.relu(norm()(y)))
        return x + y


class PreActResNet(nn.Module):
    """A 3 x 3 stem, stages of pre-activation blocks, a last batch norm and ReLU, a linear readout."""

    stem_width: int
    widths: tuple[int, ...]
    blocks_per_stage: int
    num_classes: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images) -> Outputs:
        x = layers.normalize(images, self.mean, self.std, self.dtype)
        x = layers.conv(self.stem_width, 3, 1, self.dtype)(x)
        for stage, width in enumerate(self.widths):
            for index in range(self.blocks_per_stage):
                stride = 2 if stage > 0 and index == 0 else 1
                x = PreActBlock(width, stride, self.dtype)(x)
        return layers.readout(nn.relu, layers.batch_norm(self)()(x), self.num_classes)


def wide_resnet(depth: int, factor: int):
    """Return the builder of WideResNet-`depth`-`factor`: three stages of (depth - 4) / 6 blocks."""
    widths = (16 * factor, 32 * factor, 64 * factor)
    return functools.partial(PreActResNet, 16, widths, (depth - 4) // 6)


preact_resnet18 = functools.partial(PreActResNet, 64, (64, 128, 256, 512), 2)
