"""Layers of the networks: normalisation, stems, pooling and the readout.

Paddings are symmetric, as in the networks' published PyTorch forms, not XLA's "SAME".
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from rsynth_jax.types import Outputs

BLOCK = "block"  # the name of `block_output` among what a gradient keeps
kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def shapes(model: nn.Module, shape: tuple[int, ...]) -> Any:
    """Compute the shapes of a model's variables for images of this shape, (h, w, c), with nothing drawn."""
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return jax.eval_shape(lambda images: model.init(jax.random.key(0), images), images)


def conv(width: int, kernel: int, stride: int, dtype: Any, pads: tuple[int, int] | None = None) -> nn.Conv:
    """Make a square convolution without bias, padded so that stride 1 and an odd kernel keep the size.

    Other `pads` are before and after, on both axes.
    """
    before, after = ((kernel - 1) // 2,) * 2 if pads is None else pads
    return nn.Conv(
        width,
        (kernel, kernel),
        (stride, stride),
        ((before, after),) * 2,
        use_bias=False,
        kernel_init=kaiming,
        dtype=dtype,
    )


def block_output(x: jax.Array) -> jax.Array:
    """Name the output of a block, so that a gradient can keep it alone (`training.classifier`)."""
    return checkpoint_name(x, BLOCK)


def batch_norm(module: nn.Module) -> Callable:
    """Make batch norms for `module`, in training mode exactly while the running statistics are mutable."""
    running = not module.is_mutable_collection("batch_stats")
    return functools.partial(nn.BatchNorm, use_running_average=running, momentum=0.9, dtype=module.dtype)


def frozen_norm(name: str) -> nn.BatchNorm:
    """Make a batch norm that is never trained, with TensorFlow's epsilon."""
    return nn.BatchNorm(use_running_average=True, epsilon=1e-3, name=name)


def resize(images: jax.Array, side: int, method: str) -> jax.Array:
    """Resize to a square of `side` pixels in three channels, a grey channel repeated.

    Bilinear as PyTorch and TensorFlow 2 do it, without antialiasing; bicubic (a = -0.5) with it.
    """
    shape = (images.shape[0], side, side, images.shape[-1])
    resized = jax.image.resize(images, shape, method, antialias=method == "bicubic")
    return jnp.broadcast_to(resized, (*shape[:3], 3))


def windows(x: jax.Array, size: int, stride: int) -> list[jax.Array]:
    """List the size * size pixels of every unpadded window of `x` (n, h, w, c), an array (n, h', w', c) each.

    XLA fuses their sum or maximum with its neighbours into one loop: on the CPU several times as fast as
    its pools, ten times as fast as a convolution of c groups.
    """
    (n, height, width, c), strides = x.shape, (1, stride, stride, 1)
    down, right = (stride * ((side - size) // stride) + 1 for side in (height, width))
    starts = [(i, j) for i in range(size) for j in range(size)]
    return [jax.lax.slice(x, (0, i, j, 0), (n, i + down, j + right, c), strides) for i, j in starts]


def normalize(images: jax.Array, mean: tuple, std: tuple, dtype: Any) -> jax.Array:
    """Compute (images - mean) / std, a value for all channels or one for each."""
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, images.shape[-1]):
            raise ValueError(f"{name} has {len(values)} values: give 1, or {images.shape[-1]}, one a channel")
    return ((images - jnp.array(mean, images.dtype)) / jnp.array(std, images.dtype)).astype(dtype)


def max_pool(x: jax.Array) -> jax.Array:
    """Pool 3 x 3 with stride 2: the second half of the ImageNet stem."""
    pads = ((1, 1), (1, 1))
    return nn.max_pool(x, (3, 3), (2, 2), pads)  # pyright: ignore[reportArgumentType]  # flax says str


class Stem(NamedTuple):
    """The first convolution's kernel and stride, and the pool after it."""

    kernel: int
    stride: int
    pool: Callable = lambda x: x


CIFAR_STEM = Stem(kernel=3, stride=1)
IMAGENET_STEM = Stem(kernel=7, stride=2, pool=max_pool)
STRIDED_STEM = Stem(kernel=4, stride=2)
QUARTER_STEM = Stem(kernel=8, stride=4)


def pooled(x: jax.Array) -> jax.Array:
    """Average over all positions, in float32."""
    return jnp.mean(x.astype(jnp.float32), axis=(1, 2))


def readout(activation: Callable, x: jax.Array, num_classes: int) -> Outputs:
    """Apply the last nonlinearity, pooling and the linear layer to the pre-activation `x`.

    The features have the values of the true nonlinearity, which the logits use, and the identity's gradient:
    the paper's "fake ReLU", so that a unit that is off can be turned on.
    """
    on = activation(x)
    straight_through = x + jax.lax.stop_gradient(on - x)
    return Outputs(nn.Dense(num_classes)(pooled(on)), pooled(straight_through))
