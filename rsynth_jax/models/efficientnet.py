"""EfficientNet-Lite0 (Tan and Le 2019; the Lite variant of TensorFlow's TPU models, 2020), evaluated.

efficientnet_lite0().apply(variables, images).features    # 1,280 numbers an image, ImageNet's classes

Inverted residual blocks with ReLU6 and no squeeze-and-excitation; TensorFlow's paddings, which are XLA's
"SAME". Modules bear the names of the published PyTorch state dict (models.pytorch).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsynth_jax.models import layers

SIDE = 224


class Stage(NamedTuple):
    """`repeats` blocks of one width: the first has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    width: int


LITE0 = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def prepared(images: jax.Array) -> jax.Array:
    """Bicubic with antialiasing to 224 pixels, clipped to [0, 1]; then (x - 127) / 128 on 0..255."""
    resized = layers.resize(images, SIDE, "bicubic")
    return (255.0 * jnp.clip(resized, 0.0, 1.0) - 127.0) / 128.0


def depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Every channel convolved with its own k x k filter, padding "SAME"; `kernel` is (k, k, 1, c)."""
    size, channels = kernel.shape[0], x.shape[-1]
    pads = jax.lax.padtype_to_pads(x.shape[1:3], (size, size), (stride, stride), "SAME")
    pixels = layers.windows(jnp.pad(x, ((0, 0), *pads, (0, 0))), size, stride)
    weighted = (pixel * weight for pixel, weight in zip(pixels, kernel.reshape(-1, channels), strict=True))
    return functools.reduce(jnp.add, weighted)


class Depthwise(nn.Module):
    """A depthwise convolution without bias."""

    kernel: int
    stride: int

    @nn.compact
    def __call__(self, x):
        shape = (self.kernel, self.kernel, 1, x.shape[-1])
        return depthwise(x, self.param("kernel", layers.kaiming, shape), self.stride)


def pointwise(width: int, name: str) -> nn.Conv:
    """A 1 x 1 convolution without bias."""
    return nn.Conv(width, (1, 1), use_bias=False, name=name)


class Block(nn.Module):
    """Widen, filter each channel, narrow; added to the input where their shapes agree."""

    kernel: int
    stride: int
    expansion: int
    width: int

    @nn.compact
    def __call__(self, x):
        y = x
        if self.expansion > 1:
            y = pointwise(self.expansion * x.shape[-1], "_expand_conv")(y)
            y = nn.relu6(layers.frozen_norm("_bn0")(y))
        y = Depthwise(self.kernel, self.stride, name="_depthwise_conv")(y)
        y = nn.relu6(layers.frozen_norm("_bn1")(y))
        y = layers.frozen_norm("_bn2")(pointwise(self.width, "_project_conv")(y))
        return x + y if x.shape == y.shape else y


def blocks(stages: tuple[Stage, ...]) -> list[Callable]:
    """The builder of every block, in order."""
    return [
        functools.partial(Block, stage.kernel, stage.stride if first else 1, stage.expansion, stage.width)
        for stage in stages
        for first in [True] + [False] * (stage.repeats - 1)
    ]


class EfficientNet(nn.Module):
    """A strided stem, stages of blocks, a 1 x 1 head, and a linear readout of its mean."""

    stages: tuple[Stage, ...]
    num_classes: int

    @nn.compact
    def __call__(self, images) -> layers.Outputs:
        x = nn.Conv(32, (3, 3), (2, 2), use_bias=False, name="_conv_stem")(prepared(images))
        x = nn.relu6(layers.frozen_norm("_bn0")(x))
        for index, block in enumerate(blocks(self.stages)):
            x = block(name=f"_blocks.{index}")(x)
        x = nn.relu6(layers.frozen_norm("_bn1")(pointwise(1280, "_conv_head")(x)))
        features = layers.pooled(x)
        return layers.Outputs(nn.Dense(self.num_classes, name="_fc")(features), features)


efficientnet_lite0 = functools.partial(EfficientNet, LITE0, num_classes=1000)
