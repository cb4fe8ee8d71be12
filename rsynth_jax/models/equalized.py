"""Layers with an equalized learning rate (Karras et al. 2018): weights drawn from N(0, 1), scaled when used.

Adam then moves every layer at the same relative speed, whatever the number of its inputs.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

GAIN = 2**0.5  # of a leaky ReLU, so that variances stay


def leaky_relu(x: jax.Array) -> jax.Array:
    """A slope of 0.2 below zero, times `GAIN`."""
    return GAIN * nn.leaky_relu(x, 0.2)


class Dense(nn.Module):
    """x @ kernel + bias.

    Attributes:
      features: number of outputs.
      bias: its initial value.
      rate: multiplier of the learning rate.
    """

    features: int
    bias: float = 0.0
    rate: float = 1.0

    @nn.compact
    def __call__(self, x):
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(1 / self.rate), shape)
        bias = self.param("bias", nn.initializers.constant(self.bias / self.rate), shape[1:])
        return x @ (kernel * (self.rate / shape[0] ** 0.5)) + bias * self.rate


class Conv(nn.Module):
    """A square convolution of stride 1 that keeps the size by a border of zeros, and a bias.

    A critic has no strided convolution: on a CPU, XLA's second derivative of one costs 16 times as much.
    """

    features: int  # number of outputs
    size: int = 3  # side of the kernel
    deviation: float = 1.0  # of the initial weights

    @nn.compact
    def __call__(self, x):
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return conv(x, kernel(self, self.size, x.shape[-1], self.features, self.deviation)) + bias


def kernel(module: nn.Module, size: int, channels: int, features: int, deviation: float = 1.0) -> jax.Array:
    """The kernel of a convolution of `module`, scaled, (size, size, channels, features)."""
    shape = (size, size, channels, features)
    return module.param("kernel", nn.initializers.normal(deviation), shape) / (size**2 * channels) ** 0.5


def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve x (n, h, w, c) with a kernel (size, size, c, features), keeping the size."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def space_to_depth(x: jax.Array, factor: int) -> jax.Array:
    """(n, h, w, c) -> (n, h / factor, w / factor, factor^2 c)."""
    n, height, width, channels = x.shape
    blocks = x.reshape(n, height // factor, factor, width // factor, factor, channels)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(n, height // factor, width // factor, -1)


def depth_to_space(x: jax.Array, factor: int) -> jax.Array:
    """(n, h, w, factor^2 c) -> (n, factor h, factor w, c): the inverse of `space_to_depth`."""
    n, height, width, channels = x.shape
    blocks = x.reshape(n, height, width, factor, factor, channels // factor**2)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(n, factor * height, factor * width, -1)


def halved(x: jax.Array) -> jax.Array:
    """The means of 2 x 2 blocks."""
    n, height, width, channels = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


def smoothed(x: jax.Array) -> jax.Array:
    """Blurred by [1, 2, 1] / 4 each way: what alternates from pixel to pixel is gone."""
    for axis in (1, 2):
        before, after = _beside(x, axis)
        x = 0.5 * x + 0.25 * (before + after)
    return x


def doubled(x: jax.Array) -> jax.Array:
    """Twice the height and the width, bilinear: nearest neighbours blurred by [1, 2, 1] / 4 each way."""
    for axis in (1, 2):
        before, after = _beside(x, axis)
        pair = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)
        x = pair.reshape(*(2 * side if i == axis else side for i, side in enumerate(x.shape)))
    return x


def _beside(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """The values before and after each along an axis; at the ends the value itself."""
    pads = [(0, 0)] * 4
    pads[axis] = (1, 1)
    wide = jnp.pad(x, pads, mode="edge")
    before, after = (jax.lax.slice_in_dim(wide, i, i + x.shape[axis], axis=axis) for i in (0, 2))
    return before, after
