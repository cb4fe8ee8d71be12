"""Inverters: networks that make an image of a classifier's representation of it, in one pass.

    config = InverterConfig("features", (256,), image_size=64)
    inverter = bind(config, init(config, key), moments)
    code = inverter.code(inverter.prior(key), (label, represent(classifier, "features")(image)))
    again = inverter.decode(code, key)

An inverter is a `Generator` whose condition is the class and the representation (Dosovitskiy & Brox 2016).
The code is the representation, each unit or channel standardized by its `Moments`. A variational inverter
draws it: two small heads on the standardized representation give the mean and the deviation of the code,
which training holds near N(0, I), so that a draw of N(0, I) can be decoded. The decoder is a residual block
with group norm at each size, from 4 pixels for features, and from the side of the map for a map.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsynth_jax import checks
from rsynth_jax.models.equalized import doubled
from rsynth_jax.types import (
    Classifier,
    Code,
    Generator,
    Image,
    Key,
    Label,
    Latent,
    Outputs,
    Representation,
    Scalar,
    Variables,
    maps_of,
)

FEATURES = "features"  # the name of the penultimate layer
FIRST = 4  # pixels: the first size
GROUPS = 8  # of channels, at most, that are normalized together


class InverterConfig(NamedTuple):
    """Plain data that determines an inverter, stored as JSON.

    Attributes:
      layer: the classifier's layer that it inverts, "features" or "maps:N".
      shape: of the representation, (d,) or (h, w, c).
      image_size: side of the images: the last size.
      widths: channels at 4, 8, 16 ... pixels; from a map, those below its side are not used.
      latent_size: values of a variational code, at every position of a map; 0 if the code is the
        representation.
    """

    layer: str
    shape: tuple[int, ...]
    image_size: int = 64
    widths: tuple[int, ...] = (128, 128, 64, 32, 16)
    latent_size: int = 0

    @property
    def code_shape(self) -> tuple[int, ...]:
        """The shape of the code."""
        return (*self.shape[:-1], self.latent_size or self.shape[-1])

    @property
    def used(self) -> tuple[int, ...]:
        """The widths that are used."""
        side = self.shape[0] if len(self.shape) == 3 else FIRST
        return self.widths[(side // FIRST).bit_length() - 1 :]


class Moments(NamedTuple):
    """Mean and deviation of each unit of the features, or of each channel of a map, (c,)."""

    mean: jax.Array
    deviation: jax.Array

    def standardize(self, x: jax.Array) -> jax.Array:
        """(x - mean) / deviation, over the last axis."""
        return (x - self.mean) / (self.deviation + 1e-6)


class Posterior(NamedTuple):
    """Mean and deviation of the code of a representation; the deviation is 0 unless it is variational."""

    mean: jax.Array
    deviation: jax.Array


def last_size(widths: Sequence[int]) -> int:
    """The side of the images of an inverter of these widths."""
    return FIRST * 2 ** (len(widths) - 1)


def moments(values: jax.Array) -> Moments:
    """Measure the last axis of values (n, ..., c) over all others."""
    axes = tuple(range(values.ndim - 1))
    return Moments(values.mean(axes), values.std(axes))


def reader(layer: str) -> Callable[[Outputs], Representation]:
    """Return the function that reads a layer of the outputs of one image: "features" or "maps:N".

    Raises ValueError for another name; the function raises it for a map that the network does not have.
    """
    kind, _, digits = layer.partition(":")
    if layer == FEATURES:
        return lambda outputs: outputs.features
    if kind != "maps" or not (digits.isascii() and digits.isdigit() and len(digits) < 5):
        raise ValueError(f"no layer {layer[:40]!r}: give features, or maps:N, the map of residual block N")
    number = int(digits)

    def read(outputs: Outputs) -> Representation:
        maps = maps_of(outputs)
        if number >= len(maps):
            raise ValueError(f"no layer {layer!r}: the classifier's maps are maps:0 to maps:{len(maps) - 1}")
        return maps[number]

    return read


def represent(classifier: Classifier, layer: str) -> Callable[[Image], Representation]:
    """Return the function from an image to its representation at a layer."""
    read = reader(layer)
    return lambda image: read(classifier.outputs(image))


def divergence(posterior: Posterior) -> Scalar:
    """KL(N(mean, deviation^2) || N(0, I)) over the number of values: their mean."""
    power = posterior.mean**2 + posterior.deviation**2
    return jnp.mean(power - 1 - 2 * jnp.log(posterior.deviation)) / 2


def activate(x: jax.Array) -> jax.Array:
    """A leaky ReLU."""
    return nn.leaky_relu(x, 0.2)


def normalize(width: int) -> nn.GroupNorm:
    """A group norm of so many channels."""
    return nn.GroupNorm(num_groups=math.gcd(width, GROUPS), epsilon=1e-4)


class Residual(nn.Module):
    """Two convolutions, each after a group norm and a leaky ReLU, beside the identity."""

    width: int

    @nn.compact
    def __call__(self, x):
        y = x
        for _ in range(2):
            y = nn.Conv(self.width, (3, 3))(activate(normalize(y.shape[-1])(y)))
        return y + (x if x.shape[-1] == self.width else nn.Dense(self.width, use_bias=False)(x))


class Inverter(nn.Module):
    """The heads of a variational code, and the decoder, see `encode` and `decode`."""

    config: InverterConfig

    def setup(self):
        config = self.config
        first, *_ = config.used
        self.heads = nn.Dense(2 * config.latent_size) if config.latent_size else None
        self.opening = nn.Dense(first if len(config.shape) == 3 else FIRST**2 * first)
        self.blocks = [Residual(width) for width in config.used]
        self.normalize = normalize(config.used[-1])
        self.color = nn.Conv(3, (3, 3))

    def __call__(self, standardized):
        """Return the images (n, h, w, 3) of the mean codes; makes every parameter."""
        return self.decode(self.encode(standardized).mean)

    def encode(self, standardized):
        """Give the `Posterior` of standardized representations (n, ...)."""
        if self.heads is None:
            return Posterior(standardized, jnp.zeros_like(standardized))
        mean, logarithm = jnp.split(self.heads(standardized), 2, axis=-1)
        return Posterior(mean, jnp.exp(logarithm))

    def decode(self, codes):
        """Make images (n, h, w, 3) of codes (n, ...)."""
        x = self.opening(codes)
        x = x.reshape(len(codes), FIRST, FIRST, -1) if x.ndim == 2 else x
        for size, block in enumerate(self.blocks):
            x = block(doubled(x) if size else x)
        return 0.5 + self.color(activate(self.normalize(x))) / 4


def check(config: InverterConfig) -> None:
    """Raise ValueError unless the description is one of an inverter."""
    reader(config.layer)
    if not config.widths:
        raise ValueError("widths is empty: give the channels at 4, 8, 16 ... pixels")
    checks.positive(**{f"width {i}": width for i, width in enumerate(config.widths)})
    checks.not_negative(latent_size=config.latent_size)
    side = last_size(config.widths)
    if config.image_size != side:
        raise ValueError(f"{len(config.widths)} widths make images of {side} pixels, not {config.image_size}")
    checks.positive(**{f"side {i}": side for i, side in enumerate(config.shape)})
    if len(config.shape) != (1 if config.layer == FEATURES else 3):
        raise ValueError(f"{config.layer} of shape {config.shape} cannot be: give (d,) or (h, w, c)")
    sizes = [FIRST * 2**i for i in range(len(config.widths))]
    if config.layer != FEATURES and (config.shape[0] not in sizes or config.shape[0] != config.shape[1]):
        found = f"{config.shape[0]} x {config.shape[1]}"
        raise ValueError(f"{config.layer} is {found}: an inverter begins at {' or '.join(map(str, sizes))}")


def create(config: InverterConfig) -> Inverter:
    """Make the module of an `InverterConfig`. Raises ValueError as `check` does."""
    check(config)
    return Inverter(config._replace(shape=tuple(config.shape), widths=tuple(config.widths)))


def init(config: InverterConfig, key: Key) -> Variables:
    """Draw the variables of an inverter."""
    return dict(create(config).init(key, jnp.zeros((1, *config.shape))))


def encoder(
    config: InverterConfig, variables: Variables, seen: Moments
) -> Callable[[Representation], Posterior]:
    """Close over `variables`: the posterior of the code of one representation."""
    model = create(config)

    def encode(representation: Representation) -> Posterior:
        found = model.apply(variables, seen.standardize(representation)[None], method="encode")
        return jax.tree.map(lambda each: each[0], found)

    return encode


def decoder(config: InverterConfig, variables: Variables) -> Callable[[Code], Image]:
    """Close over `variables`: the image of one code."""
    model = create(config)
    return lambda code: model.apply(variables, code[None], method="decode")[0]


def bind(config: InverterConfig, variables: Variables, seen: Moments) -> Generator:
    """Close over `variables`: the generator of one image, whose condition is (label, representation).

    Its code is mean + deviation * latent, and the latent is drawn from N(0, I): of a variational inverter a
    latent is a code too.
    """
    encode, decode = encoder(config, variables, seen), decoder(config, variables)

    def code(latent: Latent, condition: tuple[Label, Representation]) -> Code:
        found = encode(condition[1])
        if not config.latent_size:
            return found.mean  # without the latent, so that a compiler sees equal passes
        return found.mean + found.deviation * latent

    return Generator(
        lambda key: jax.random.normal(key, config.code_shape), code, lambda code, key: decode(code)
    )


def strongest(representation: Representation, seen: Moments, num: Any) -> Representation:
    """Keep the `num` activations farthest from their mean, in deviations, and set the others to their mean.

    Of equally far ones the first are kept. As many as the representation has change nothing.
    """
    distances = jnp.abs(seen.standardize(representation)).ravel()
    ranks = jnp.argsort(jnp.argsort(-distances, stable=True), stable=True)
    return jnp.where((ranks < num).reshape(representation.shape), representation, seen.mean)
