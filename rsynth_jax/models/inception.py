"""Inception-v3 (Szegedy et al. 2016) as the Fréchet inception distance uses it, evaluated.

inception_v3().apply(variables, images).features          # 2,048 numbers an image

The graph of 2015-12-05 that Heusel et al. (2017) measure with, in the form of its PyTorch port
(pytorch-fid): bilinear to 299 pixels without antialiasing, mean pools that leave out the padding, a max pool
in the last block, 1,008 logits. Modules bear the names of the port's state dict (models.pytorch).
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsynth_jax.models import layers

SIDE = 299


class Unit(nn.Module):
    """Convolution, batch norm, ReLU."""

    width: int
    kernel: tuple[int, int]
    stride: int
    padding: str

    @nn.compact
    def __call__(self, x):
        strides = (self.stride, self.stride)
        x = nn.Conv(self.width, self.kernel, strides, self.padding, use_bias=False, name="conv")(x)
        return nn.relu(layers.frozen_norm("bn")(x))


def unit(name: str, width: int, height: int = 1, breadth: int | None = None) -> Unit:
    """A unit that keeps the size, of a kernel `height` x `breadth`, square where that is not given."""
    return Unit(width, (height, breadth or height), 1, "SAME", name=name)


def strided(name: str, width: int) -> Unit:
    """A 3 x 3 unit of stride 2, without padding."""
    return Unit(width, (3, 3), 2, "VALID", name=name)


def inner(x: jax.Array) -> jax.Array:
    """All but the border: makes a padded 3 x 3 unit one without padding.

    XLA on the CPU is three times as fast this way.
    """
    return x[:, 1:-1, 1:-1]


def framed(x: jax.Array, value: float) -> jax.Array:
    """A border of one pixel more."""
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=value)


def mean_pool(x: jax.Array) -> jax.Array:
    """3 x 3, stride 1: the mean of the pixels that are there."""
    there = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    total, num = (functools.reduce(jnp.add, layers.windows(framed(y, 0.0), 3, 1)) for y in (x, there))
    return total / num


def max_pool(x: jax.Array) -> jax.Array:
    """3 x 3, stride 1, keeping the size."""
    return functools.reduce(jnp.maximum, layers.windows(framed(x, -jnp.inf), 3, 1))


def halve(x: jax.Array) -> jax.Array:
    """A 3 x 3 max pool of stride 2, without padding."""
    return functools.reduce(jnp.maximum, layers.windows(x, 3, 2))


def chain(*steps: Callable) -> Callable:
    """One step after the other."""
    return lambda x: functools.reduce(lambda y, step: step(y), steps, x)


def fork(*branches: Callable) -> Callable:
    """Every branch of the same input, their channels side by side."""
    return lambda x: jnp.concatenate([branch(x) for branch in branches], axis=-1)


class A(nn.Module):
    """35 x 35: 1 x 1, 5 x 5, two 3 x 3, and a mean pool."""

    pooled_width: int

    @nn.compact
    def __call__(self, x):
        return fork(
            unit("branch1x1", 64),
            chain(unit("branch5x5_1", 48), unit("branch5x5_2", 64, 5)),
            chain(unit("branch3x3dbl_1", 64), unit("branch3x3dbl_2", 96, 3), unit("branch3x3dbl_3", 96, 3)),
            chain(mean_pool, unit("branch_pool", self.pooled_width)),
        )(x)


class B(nn.Module):
    """From 35 x 35 to 17 x 17."""

    @nn.compact
    def __call__(self, x):
        return fork(
            strided("branch3x3", 384),
            chain(unit("branch3x3dbl_1", 64), unit("branch3x3dbl_2", 96, 3), strided("branch3x3dbl_3", 96)),
            halve,
        )(x)


class C(nn.Module):
    """17 x 17: 7 x 7 convolutions as pairs of 1 x 7 and 7 x 1."""

    width: int

    @nn.compact
    def __call__(self, x):
        return fork(
            unit("branch1x1", 192),
            chain(
                unit("branch7x7_1", self.width),
                unit("branch7x7_2", self.width, 1, 7),
                unit("branch7x7_3", 192, 7, 1),
            ),
            chain(
                unit("branch7x7dbl_1", self.width),
                unit("branch7x7dbl_2", self.width, 7, 1),
                unit("branch7x7dbl_3", self.width, 1, 7),
                unit("branch7x7dbl_4", self.width, 7, 1),
                unit("branch7x7dbl_5", 192, 1, 7),
            ),
            chain(mean_pool, unit("branch_pool", 192)),
        )(x)


class D(nn.Module):
    """From 17 x 17 to 8 x 8."""

    @nn.compact
    def __call__(self, x):
        return fork(
            chain(unit("branch3x3_1", 192), strided("branch3x3_2", 320)),
            chain(
                unit("branch7x7x3_1", 192),
                unit("branch7x7x3_2", 192, 1, 7),
                unit("branch7x7x3_3", 192, 7, 1),
                strided("branch7x7x3_4", 192),
            ),
            halve,
        )(x)


class E(nn.Module):
    """8 x 8: the branches fork once more. The two blocks of this kind differ in their pool."""

    pool: Callable

    @nn.compact
    def __call__(self, x):
        return fork(
            unit("branch1x1", 320),
            chain(
                unit("branch3x3_1", 384),
                fork(unit("branch3x3_2a", 384, 1, 3), unit("branch3x3_2b", 384, 3, 1)),
            ),
            chain(
                unit("branch3x3dbl_1", 448),
                unit("branch3x3dbl_2", 384, 3),
                fork(unit("branch3x3dbl_3a", 384, 1, 3), unit("branch3x3dbl_3b", 384, 3, 1)),
            ),
            chain(self.pool, unit("branch_pool", 192)),
        )(x)


class InceptionV3(nn.Module):
    """A stem of five convolutions, eleven mixed blocks, and a linear readout of their mean."""

    num_classes: int

    @nn.compact
    def __call__(self, images) -> layers.Outputs:
        body = chain(
            strided("Conv2d_1a_3x3", 32),
            unit("Conv2d_2a_3x3", 32, 3),
            inner,
            unit("Conv2d_2b_3x3", 64, 3),
            halve,
            unit("Conv2d_3b_1x1", 80),
            unit("Conv2d_4a_3x3", 192, 3),
            inner,
            halve,
            A(32, name="Mixed_5b"),
            A(64, name="Mixed_5c"),
            A(64, name="Mixed_5d"),
            B(name="Mixed_6a"),
            C(128, name="Mixed_6b"),
            C(160, name="Mixed_6c"),
            C(160, name="Mixed_6d"),
            C(192, name="Mixed_6e"),
            D(name="Mixed_7a"),
            E(mean_pool, name="Mixed_7b"),
            E(max_pool, name="Mixed_7c"),
        )
        features = layers.pooled(body(2.0 * layers.resize(images, SIDE, "bilinear") - 1.0))
        return layers.Outputs(nn.Dense(self.num_classes, name="fc")(features), features)


inception_v3 = functools.partial(InceptionV3, num_classes=1008)
