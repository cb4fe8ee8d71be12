"""Residual networks (He et al. 2016), post-activation: small ones, ResNet-18 and -50, and wide ones."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsynth_jax.models import layers
from rsynth_jax.types import Outputs


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions; returns the sum before its activation."""

    width: int
    stride: int
    activation: Callable
    dtype: Any

    @nn.compact
    def __call__(self, x):
        return _residual(self, x, (self.width, 3, self.stride), (self.width, 3, 1))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (strided), 1 x 1 to four times the width; returns the sum before its activation.

    The first two have `factor` times the width.
    """

    width: int
    stride: int
    activation: Callable
    dtype: Any
    factor: int = 1

    @nn.compact
    def __call__(self, x):
        inner = self.factor * self.width
        return _residual(self, x, (inner, 1, 1), (inner, 3, self.stride), (4 * self.width, 1, 1))


class ResNet(nn.Module):
    """A stem, stages of blocks that halve the size from the second on, and a linear readout.

    Each of `halvings` is the width of a strided convolution and a block before the stem.
    """

    block: Callable
    stage_sizes: tuple[int, ...]
    stem: layers.Stem
    num_classes: int
    activation: Callable = nn.relu
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    dtype: Any = jnp.float32
    halvings: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, images) -> Outputs:
        x = layers.normalize(images, self.mean, self.std, self.dtype)
        for width in self.halvings:
            x = self.block(width, 1, self.activation, self.dtype)(layers.conv(width, 4, 2, self.dtype)(x))
            x = self.activation(layers.block_output(x))
        x = layers.batch_norm(self)()(layers.conv(64, self.stem.kernel, self.stem.stride, self.dtype)(x))
        x = self.stem.pool(self.activation(x))
        last = [len(self.stage_sizes) - 1, self.stage_sizes[-1] - 1]
        for stage, size in enumerate(self.stage_sizes):
            for index in range(size):
                stride = 2 if stage > 0 and index == 0 else 1
                x = self.block(64 * 2**stage, stride, self.activation, self.dtype)(x)
                x = layers.block_output(x)
                x = x if [stage, index] == last else self.activation(x)
        return layers.readout(self.activation, x, self.num_classes)


def _residual(block: BasicBlock | Bottleneck, x: jax.Array, *convolutions: tuple[int, int, int]) -> jax.Array:
    """x, projected where the shape changes, plus convolutions (width, kernel, stride) with batch norm."""
    norm = layers.batch_norm(block)
    y = x
    for index, (width, kernel, stride) in enumerate(convolutions):
        y = block.activation(y) if index else y
        y = norm()(layers.conv(width, kernel, stride, block.dtype)(y))
    if x.shape != y.shape:
        x = norm()(layers.conv(y.shape[-1], 1, block.stride, block.dtype)(x))
    return x + y


# widths 64, 128, 256 behind a strided stem: 1.2 M parameters, made for two cores
resnet8 = functools.partial(ResNet, BasicBlock, (1, 1, 1), layers.STRIDED_STEM, activation=nn.silu)
# a stem of twice the stride: 64-pixel images at the cost of 32-pixel ones
resnet8_64 = functools.partial(ResNet, BasicBlock, (1, 1, 1), layers.QUARTER_STEM, activation=nn.silu)
# resnet8 behind 32 channels at half the side
resnet11_64 = functools.partial(resnet8, halvings=(32,))
resnet18 = functools.partial(ResNet, BasicBlock, (2, 2, 2, 2), layers.CIFAR_STEM)
resnet50 = functools.partial(ResNet, Bottleneck, (3, 4, 6, 3), layers.CIFAR_STEM)
resnet18_imagenet = functools.partial(ResNet, BasicBlock, (2, 2, 2, 2), layers.IMAGENET_STEM)
resnet50_imagenet = functools.partial(ResNet, Bottleneck, (3, 4, 6, 3), layers.IMAGENET_STEM)


def wide_resnet50(factor: int):
    """Return the builder of WideResNet-50-`factor` with the ImageNet stem."""
    block = functools.partial(Bottleneck, factor=factor)
    return functools.partial(ResNet, block, (3, 4, 6, 3), layers.IMAGENET_STEM)
