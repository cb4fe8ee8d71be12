"""Inception-v3 (Szegedy et al. 2016) as the Fréchet inception distance uses it, evaluated.

inception_v3().apply(variables, images).features          # 2,048 values an image

The graph of 2015-12-05 that Heusel et al. (2017) measure with, as in its PyTorch port (pytorch-fid): bilinear
to 299 pixels without antialiasing, mean pools that leave out the padding, a max pool in the last block, 1,008
logits. Modules have the names of the port's state dict (models.pytorch).
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsynth_jax.models import layers
from rsynth_jax.types import Outputs

_Function = Callable[[jax.Array], jax.Array]  # of maps (n, h, w, c); it may make modules


class InceptionV3(nn.Module):
    """A stem of five convolutions, eleven mixed blocks, and a linear readout of their mean."""

    num_classes: int

    @nn.compact
    def __call__(self, images) -> Outputs:
        body = _chain(
            _unit("Conv2d_1a_3x3", 32, 3, stride=2),
            _unit("Conv2d_2a_3x3", 32, 3),
            _inner,
            _unit("Conv2d_2b_3x3", 64, 3),
            _halve,
            _unit("Conv2d_3b_1x1", 80),
            _unit("Conv2d_4a_3x3", 192, 3),
            _inner,
            _halve,
            *(_scope(f"Mixed_{name}", block) for name, block in _MIXED.items()),
        )
        features = layers.pooled(body(2.0 * layers.resize(images, 299, "bilinear") - 1.0))
        return Outputs(nn.Dense(self.num_classes, name="fc")(features), features)


inception_v3 = functools.partial(InceptionV3, num_classes=1008)


class _Scope(nn.Module):
    """A submodule that computes `function`, and holds its modules."""

    function: _Function

    @nn.compact
    def __call__(self, x):
        return self.function(x)


def _scope(name: str, function: _Function) -> _Function:
    return lambda x: _Scope(function, name=name)(x)


def _chain(*steps: _Function) -> _Function:
    """One step after the other."""
    return lambda x: functools.reduce(lambda y, step: step(y), steps, x)


def _fork(*branches: _Function) -> _Function:
    """Every branch of the same input, their channels concatenated."""
    return lambda x: jnp.concatenate([branch(x) for branch in branches], axis=-1)


def _unit(name: str, width: int, height: int = 1, breadth: int | None = None, stride: int = 1) -> _Function:
    """Convolution, batch norm, ReLU, of a kernel `height` x `breadth` or square; padded unless strided."""

    def convolve(x):
        kernel = (height, breadth or height)
        padding = "SAME" if stride == 1 else "VALID"
        x = nn.Conv(width, kernel, (stride, stride), padding, use_bias=False, name="conv")(x)
        return nn.relu(layers.frozen_norm("bn")(x))

    return _scope(name, convolve)


def _units(name: str, *units: tuple[int, ...]) -> _Function:
    """A chain of units (width, height, breadth, stride), named name_1, name_2, ..."""
    return _chain(*(_unit(f"{name}_{index}", *unit) for index, unit in enumerate(units, 1)))


def _inner(x: jax.Array) -> jax.Array:
    """All but the border: three times as fast on the CPU as a 3 x 3 convolution without padding."""
    return x[:, 1:-1, 1:-1]


def _windows(x: jax.Array, value: float) -> list[jax.Array]:
    """The pixels of 3 x 3 windows, stride 1, that keep the size by a border of `value`."""
    return layers.windows(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=value), 3, 1)


def _mean_pool(x: jax.Array) -> jax.Array:
    """3 x 3, stride 1: the mean of the pixels inside the image."""
    inside = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    total, num = (functools.reduce(jnp.add, _windows(y, 0.0)) for y in (x, inside))
    return total / num


def _max_pool(x: jax.Array) -> jax.Array:
    """3 x 3, stride 1."""
    return functools.reduce(jnp.maximum, _windows(x, -jnp.inf))


def _halve(x: jax.Array) -> jax.Array:
    """A 3 x 3 max pool of stride 2, without padding."""
    return functools.reduce(jnp.maximum, layers.windows(x, 3, 2))


def _block_a(pooled_width: int) -> _Function:
    """35 x 35: 1 x 1, 5 x 5, two 3 x 3, and a mean pool."""
    return _fork(
        _unit("branch1x1", 64),
        _units("branch5x5", (48,), (64, 5)),
        _units("branch3x3dbl", (64,), (96, 3), (96, 3)),
        _chain(_mean_pool, _unit("branch_pool", pooled_width)),
    )


def _block_c(width: int) -> _Function:
    """17 x 17: 7 x 7 convolutions as pairs of 1 x 7 and 7 x 1."""
    return _fork(
        _unit("branch1x1", 192),
        _units("branch7x7", (width,), (width, 1, 7), (192, 7, 1)),
        _units("branch7x7dbl", (width,), (width, 7, 1), (width, 1, 7), (width, 7, 1), (192, 1, 7)),
        _chain(_mean_pool, _unit("branch_pool", 192)),
    )


def _block_e(pool: _Function) -> _Function:
    """8 x 8: two branches fork once more. The two blocks of this kind differ in their pool."""
    return _fork(
        _unit("branch1x1", 320),
        _chain(_unit("branch3x3_1", 384), _sides("branch3x3_2")),
        _chain(_units("branch3x3dbl", (448,), (384, 3)), _sides("branch3x3dbl_3")),
        _chain(pool, _unit("branch_pool", 192)),
    )


def _sides(name: str) -> _Function:
    return _fork(_unit(f"{name}a", 384, 1, 3), _unit(f"{name}b", 384, 3, 1))


_BLOCK_B = _fork(  # from 35 x 35 to 17 x 17
    _unit("branch3x3", 384, 3, stride=2), _units("branch3x3dbl", (64,), (96, 3), (96, 3, 3, 2)), _halve
)
_BLOCK_D = _fork(  # from 17 x 17 to 8 x 8
    _units("branch3x3", (192,), (320, 3, 3, 2)),
    _units("branch7x7x3", (192,), (192, 1, 7), (192, 7, 1), (192, 3, 3, 2)),
    _halve,
)
_MIXED = {
    **{"5b": _block_a(32), "5c": _block_a(64), "5d": _block_a(64)},
    "6a": _BLOCK_B,
    **{"6b": _block_c(128), "6c": _block_c(160), "6d": _block_c(160), "6e": _block_c(192)},
    "7a": _BLOCK_D,
    **{"7b": _block_e(_mean_pool), "7c": _block_e(_max_pool)},
}
