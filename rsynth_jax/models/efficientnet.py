"""EfficientNet-Lite0 (Tan and Le 2019; the Lite variant of TensorFlow's TPU models, 2020), evaluated.

efficientnet_lite0().apply(variables, images).features    # 1,280 values an image, ImageNet's classes

Inverted residual blocks with ReLU6 and no squeeze-and-excitation; paddings are TensorFlow's, XLA's "SAME".
Modules have the names of the published PyTorch state dict (models.pytorch).
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsynth_jax.models import layers
from rsynth_jax.types import Outputs

_STAGES = (  # repeats, kernel, stride of the first block, expansion, width
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_BLOCKS = [
    (kernel, 1 if index else stride, expansion, width)
    for repeats, kernel, stride, expansion, width in _STAGES
    for index in range(repeats)
]


class EfficientNet(nn.Module):
    """A strided stem, blocks, a 1 x 1 head, and a linear readout of its mean."""

    num_classes: int

    @nn.compact
    def __call__(self, images) -> Outputs:
        resized = jnp.clip(layers.resize(images, 224, "bicubic"), 0.0, 1.0)
        x = (255.0 * resized - 127.0) / 128.0
        x = nn.Conv(32, (3, 3), (2, 2), use_bias=False, name="_conv_stem")(x)
        x = nn.relu6(layers.frozen_norm("_bn0")(x))
        for index, block in enumerate(_BLOCKS):
            x = _Block(*block, name=f"_blocks.{index}")(x)
        x = nn.relu6(layers.frozen_norm("_bn1")(_pointwise(1280, "_conv_head")(x)))
        features = layers.pooled(x)
        return Outputs(nn.Dense(self.num_classes, name="_fc")(features), features)


efficientnet_lite0 = functools.partial(EfficientNet, num_classes=1000)


def depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolve every channel with its own filter of `kernel` (k, k, 1, c), padding "SAME"."""
    size, channels = kernel.shape[0], x.shape[-1]
    pads = jax.lax.padtype_to_pads(x.shape[1:3], (size, size), (stride, stride), "SAME")
    pixels = layers.windows(jnp.pad(x, ((0, 0), *pads, (0, 0))), size, stride)
    weighted = (pixel * weight for pixel, weight in zip(pixels, kernel.reshape(-1, channels), strict=True))
    return functools.reduce(jnp.add, weighted)


class _Depthwise(nn.Module):
    kernel: int
    stride: int

    @nn.compact
    def __call__(self, x):
        shape = (self.kernel, self.kernel, 1, x.shape[-1])
        return depthwise(x, self.param("kernel", layers.kaiming, shape), self.stride)


def _pointwise(width: int, name: str) -> nn.Conv:
    return nn.Conv(width, (1, 1), use_bias=False, name=name)


class _Block(nn.Module):
    """Widen, filter each channel, narrow; added to the input where their shapes agree."""

    kernel: int
    stride: int
    expansion: int
    width: int

    @nn.compact
    def __call__(self, x):
        y = x
        if self.expansion > 1:
            y = _pointwise(self.expansion * x.shape[-1], "_expand_conv")(y)
            y = nn.relu6(layers.frozen_norm("_bn0")(y))
        y = _Depthwise(self.kernel, self.stride, name="_depthwise_conv")(y)
        y = nn.relu6(layers.frozen_norm("_bn1")(y))
        y = layers.frozen_norm("_bn2")(_pointwise(self.width, "_project_conv")(y))
        return x + y if x.shape == y.shape else y
