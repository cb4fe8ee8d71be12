"""Pre-activation residual networks (He et al. 2016b) and wide ones (Zagoruyko and Komodakis 2016).

Published definitions differ in the activation, in the padding of strided convolutions and in the shortcut: a
`Form` has these choices.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsynth_jax.models import layers
from rsynth_jax.types import Outputs


class Form(NamedTuple):
    """The choices in which published definitions differ.

    Attributes:
      activation: between the layers.
      pads: of a strided 3 x 3 convolution, before and after.
      shortcut: the kernel of the shortcut's convolution.
      source: (input, activated input) -> the one that this convolution takes.
    """

    activation: Callable = nn.relu
    pads: tuple[int, int] = (1, 1)
    shortcut: int = 1
    source: Callable = lambda x, activated: activated


def _input(x: jax.Array, activated: jax.Array) -> jax.Array:
    return x


class PreActBlock(nn.Module):
    """Batch norm and an activation before each of two 3 x 3 convolutions.

    Where the shape changes, the shortcut is a convolution.
    """

    width: int
    stride: int
    dtype: Any
    form: Form = Form()

    @nn.compact
    def __call__(self, x):
        norm = layers.batch_norm(self)
        y = self.form.activation(norm()(x))
        if self.stride > 1 or x.shape[-1] != self.width:
            x = self._strided(self.form.shortcut)(self.form.source(x, y))
        y = self._strided(3)(y)
        y = layers.conv(self.width, 3, 1, self.dtype)(self.form.activation(norm()(y)))
        return x + y

    def _strided(self, kernel: int) -> nn.Conv:
        pads = self.form.pads if self.stride > 1 and kernel > 1 else None
        return layers.conv(self.width, kernel, self.stride, self.dtype, pads)


def normalized_readout(module: "PreActResNet", x: jax.Array) -> Outputs:
    """Apply a last batch norm and activation, and the linear readout."""
    return layers.readout(module.form.activation, layers.batch_norm(module)()(x), module.num_classes)


def bare_readout(module: "PreActResNet", x: jax.Array) -> Outputs:
    """Apply the linear readout to the sum of the last block."""
    return layers.readout(lambda x: x, x, module.num_classes)


class PreActResNet(nn.Module):
    """A 3 x 3 stem, stages of pre-activation blocks, and an end, `normalized_readout` or `bare_readout`."""

    stem_width: int
    widths: tuple[int, ...]
    blocks_per_stage: int
    num_classes: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    dtype: Any = jnp.float32
    form: Form = Form()
    end: Callable = normalized_readout

    @nn.compact
    def __call__(self, images) -> Outputs:
        x = layers.normalize(images, self.mean, self.std, self.dtype)
        x = layers.conv(self.stem_width, 3, 1, self.dtype)(x)
        for stage, width in enumerate(self.widths):
            for index in range(self.blocks_per_stage):
                stride = 2 if stage > 0 and index == 0 else 1
                x = layers.block_output(PreActBlock(width, stride, self.dtype, self.form)(x))
        return self.end(self, x)


def wide_resnet(depth: int, factor: int, form: Form):
    """Return the builder of WideResNet-`depth`-`factor`: three stages of (depth - 4) / 6 blocks."""
    widths = (16 * factor, 32 * factor, 64 * factor)
    return functools.partial(PreActResNet, 16, widths, (depth - 4) // 6, form=form)


HE = Form()
# Gowal et al. 2020 pad as TensorFlow does; their small network has shortcuts of 3 x 3
GOWAL = Form(pads=(0, 1))
GOWAL_SILU = Form(nn.silu, pads=(0, 1))

preact_resnet18 = functools.partial(PreActResNet, 64, (64, 128, 256, 512), 2)
# of Wong et al. 2020: shortcuts of the block's input, no batch norm before the readout
preact_resnet18_bare = functools.partial(preact_resnet18, form=Form(source=_input), end=bare_readout)
preact_resnet18_gowal = functools.partial(preact_resnet18, form=GOWAL._replace(shortcut=3, source=_input))
preact_resnet18_gowal_silu = functools.partial(
    preact_resnet18, form=GOWAL_SILU._replace(shortcut=3, source=_input)
)
