"""ConvNeXt (Liu et al. 2022), tiny, with its plain stem or the convolutional one of Singh et al. 2023."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from rsynth_jax.models import layers
from rsynth_jax.types import Outputs

_norm = functools.partial(nn.LayerNorm, epsilon=1e-6)
_gelu = functools.partial(nn.gelu, approximate=False)


class ConvNeXtBlock(nn.Module):
    """7 x 7 a channel, layer norm, four times the width and back, scaled, and added to the input."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x):
        own = {"padding": 3, "feature_group_count": self.width, "dtype": self.dtype}
        y = _norm(dtype=self.dtype)(nn.Conv(self.width, (7, 7), **own)(x))
        y = nn.Dense(4 * self.width, dtype=self.dtype)(y)
        y = nn.Dense(self.width, dtype=self.dtype)(_gelu(y))
        return x + self.param("gamma", nn.initializers.constant(1e-6), (self.width,)).astype(self.dtype) * y


class StemLayer(NamedTuple):
    """A convolution of the stem, before its layer norm and activation."""

    width: int
    kernel: int
    stride: int
    pads: int
    activation: Callable = lambda x: x


PLAIN_STEM = (StemLayer(96, 4, 4, 0),)
CONV_STEM = (StemLayer(48, 3, 2, 1, _gelu), StemLayer(96, 3, 2, 1, _gelu))


class ConvNeXt(nn.Module):
    """A stem, stages of blocks behind a strided 2 x 2 convolution, pooling, layer norm, a linear readout."""

    stem: tuple[StemLayer, ...]
    stage_sizes: tuple[int, ...]
    num_classes: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images) -> Outputs:
        x = layers.normalize(images, self.mean, self.std, self.dtype)
        for layer in self.stem:
            size, strides = (layer.kernel,) * 2, (layer.stride,) * 2
            x = nn.Conv(layer.width, size, strides, layer.pads, dtype=self.dtype)(x)
            x = layer.activation(_norm(dtype=self.dtype)(x))
        for stage, size in enumerate(self.stage_sizes):
            if stage:
                x = nn.Conv(2 * x.shape[-1], (2, 2), (2, 2), 0, dtype=self.dtype)(_norm(dtype=self.dtype)(x))
            for _ in range(size):
                x = layers.block_output(ConvNeXtBlock(x.shape[-1], self.dtype)(x))
        features = _norm()(layers.pooled(x))
        return Outputs(nn.Dense(self.num_classes)(features), features)


convnext_tiny = functools.partial(ConvNeXt, PLAIN_STEM, (3, 3, 9, 3))
convnext_tiny_convstem = functools.partial(ConvNeXt, CONV_STEM, (3, 3, 9, 3))
