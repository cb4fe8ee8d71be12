"""Small networks without shortcuts, as published for verification: LeNet5 and CNN-A."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsynth_jax.models import layers
from rsynth_jax.types import Outputs


def _halved(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (2, 2), (2, 2))


class Layer(NamedTuple):
    """A convolution with a bias, padded by one pixel, and the pool after its ReLU."""

    width: int
    kernel: int
    stride: int
    pool: Callable = lambda x: x


class ConvNet(nn.Module):
    """Convolutions, a hidden layer of the channels in PyTorch's order, and a linear readout."""

    convolutions: tuple[Layer, ...]
    hidden: int
    num_classes: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images) -> Outputs:
        x = layers.normalize(images, self.mean, self.std, self.dtype)
        for layer in self.convolutions:
            size, strides = (layer.kernel,) * 2, (layer.stride,) * 2
            x = layer.pool(nn.relu(nn.Conv(layer.width, size, strides, 1, dtype=self.dtype)(x)))
        flat = jnp.moveaxis(x, -1, 1).reshape(len(x), -1)
        hidden = nn.Dense(self.hidden, dtype=self.dtype, name="hidden")(flat)
        return layers.readout(nn.relu, hidden[:, None, None], self.num_classes)


lenet5 = functools.partial(ConvNet, (Layer(32, 3, 1, _halved), Layer(64, 3, 1, _halved)), 200)
cnn_a = functools.partial(ConvNet, (Layer(16, 4, 2), Layer(32, 4, 2)), 100)
