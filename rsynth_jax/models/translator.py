"""Translators between two domains: an image is a content that both share and a style of its domain.

    config = TranslatorConfig(image_size=64)
    first, second = (bind(config, each) for each in init(config, key))   # variables of each domain
    dog = second.decode(first.content(cat), style)                       # style drawn from N(0, I)
    same = first.decode(first.content(cat), first.style(cat))
    pairs = as_generator(config, init(config, key), example_share=0.5)   # for training

Each domain has an autoencoder: a content encoder with instance norm, a style encoder without a norm, and a
decoder whose AdaIN takes scales and shifts that a small network makes of the style (MUNIT, Huang et al.
2018). Halvings are means and the last doubling is depth-to-space, as in this project's other networks; the
paper has strides and a layer norm after the AdaIN. No weights are shared.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rsynth_jax import checks
from rsynth_jax.models.equalized import (
    Conv,
    Dense,
    depth_to_space,
    doubled,
    halved,
    leaky_relu,
    smoothed,
    space_to_depth,
)
from rsynth_jax.models.style import adaptive, instance_norm
from rsynth_jax.types import Generator, Image, Key, Map, Params, Variables

# Beside the variances of a content. The first translations are grey, where 1e-5 would make the slope of the
# content loss 1e11 times that of the image loss: Adam's averages then hold the decoder for hundreds of steps.
EPSILON = 0.1
Style = Float[Array, " d"]
Pair = Float[Array, "2 h w c"]  # an image of each domain, in [0, 1]
Domains = tuple[Variables, Variables]  # the variables of both autoencoders


class TranslatorConfig(NamedTuple):
    """Plain data that determines a translator, stored as JSON.

    Attributes:
      image_size: side of the images, a multiple of 2 ** len(widths).
      widths: channels at a half, a quarter ... of the side; the content has the last size.
      blocks: residual blocks of the content encoder, and of the decoder.
      style_size: values of a style.
      mlp_width: units of each of the two hidden layers that make the AdaIN's scales and shifts of a style.
    """

    image_size: int = 64
    widths: tuple[int, ...] = (48, 96)
    blocks: int = 2
    style_size: int = 8
    mlp_width: int = 128


class Domain(NamedTuple):
    """The autoencoder of one domain with its variables closed over, as pure functions of one image."""

    content: Callable[[Image], Map]
    style: Callable[[Image], Style]
    decode: Callable[[Map, Style], Image]


class Latent(NamedTuple):
    """What makes a pair of translations beside a pair of images.

    Attributes:
      styles: of the translations into each domain, drawn from N(0, I), (2, d).
      by_example: whether the pair's own styles are taken in their place.
    """

    styles: Float[Array, "2 d"]
    by_example: Bool[Array, ""]


class Codes(NamedTuple):
    """What a pair of translations is decoded of.

    Attributes:
      contents: of the images of the pair, by domain; each is decoded in the other domain.
      styles: of the translations into each domain, (2, d).
      by_example: whether the styles are those of the pair's images.
    """

    contents: tuple[Map, Map]
    styles: Float[Array, "2 d"]
    by_example: Bool[Array, ""]


class Autoencoder(nn.Module):
    """The networks of one domain, see `content`, `style` and `decode`."""

    config: TranslatorConfig

    def setup(self):
        config = self.config
        last = config.widths[-1]
        self.shapes = [Conv(width) for width in config.widths]
        self.shape_blocks = [[Conv(last) for _ in range(2)] for _ in range(config.blocks)]
        self.looks = [Conv(width) for width in (*config.widths, last)]
        self.look = Dense(config.style_size)
        self.mlp = [Dense(config.mlp_width) for _ in range(2)]
        self.scales = Dense(config.blocks * 2 * 2 * last)
        self.blocks = [[Conv(last) for _ in range(2)] for _ in range(config.blocks)]
        self.rises = [Conv(width) for width in config.widths[-2::-1]]
        # the first images are grey: random colors, and a grid of 2 pixels, take long to unlearn
        self.colors = [Conv(3, 1, deviation=0.0) for _ in config.widths]
        self.detail = Conv(12, deviation=0.0)

    def __call__(self, images):
        """Return the images (n, h, w, 3), encoded and decoded; makes every parameter."""
        return self.decode(self.content(images), self.style(images))

    def content(self, images):
        """Encode images (n, h, w, 3) as contents (n, h / 2^k, w / 2^k, c)."""
        x = space_to_depth(4 * images - 2, 2)
        for size, layer in enumerate(self.shapes):
            x = leaky_relu(instance_norm(layer(halved(x) if size else x), EPSILON))
        for first, second in self.shape_blocks:
            x += instance_norm(second(leaky_relu(instance_norm(first(x), EPSILON))), EPSILON)
        return x

    def style(self, images):
        """Encode images (n, h, w, 3) as styles (n, d)."""
        x = space_to_depth(4 * images - 2, 2)
        for size, layer in enumerate(self.looks):
            x = leaky_relu(layer(halved(x) if size else x))
        return self.look(x.mean(axis=(1, 2)))

    def decode(self, contents, styles):
        """Make images (n, h, w, 3) of contents and styles (n, d)."""
        x, values = contents, styles
        for layer in self.mlp:
            values = leaky_relu(layer(values))
        parts = iter(jnp.split(self.scales(values), 4 * len(self.blocks), axis=-1))
        for first, second in self.blocks:
            y = leaky_relu(adaptive(first(x), 1 + next(parts), next(parts)))
            x += adaptive(second(y), 1 + next(parts), next(parts))
        color = self.colors[0](x)
        for layer, to_color in zip(self.rises, self.colors[1:], strict=True):
            x = leaky_relu(layer(doubled(x)))
            color = doubled(color) + to_color(x)
        return 0.5 + (doubled(color) + smoothed(depth_to_space(self.detail(x), 2))) / 4


def check(config: TranslatorConfig) -> None:
    """Raise ValueError unless the description is one of a translator."""
    checks.positive(blocks=config.blocks, style_size=config.style_size, mlp_width=config.mlp_width)
    if not config.widths:
        raise ValueError("widths is empty: give the channels at a half, a quarter ... of the side")
    checks.positive(**{f"width {i}": width for i, width in enumerate(config.widths)})
    checks.positive(image_size=config.image_size)
    least = 2 ** (len(config.widths) + 1)  # the style encoder halves once more
    if config.image_size % least:
        wanted = f"give a multiple of {least}"
        raise ValueError(f"image_size is {config.image_size} of {len(config.widths)} widths: {wanted}")


def create(config: TranslatorConfig) -> Autoencoder:
    """Make the module of one domain. Raises ValueError as `check` does."""
    check(config)
    return Autoencoder(config._replace(widths=tuple(config.widths)))


def init(config: TranslatorConfig, key: Key) -> Domains:
    """Draw the variables of both domains."""
    images = jnp.zeros((1, config.image_size, config.image_size, 3))
    first, second = (dict(create(config).init(own, images)) for own in jax.random.split(key))
    return first, second


def bind(config: TranslatorConfig, variables: Variables) -> Domain:
    """Close over the variables of one domain."""
    model = create(config)
    return Domain(
        lambda image: model.apply(variables, image[None], method="content")[0],
        lambda image: model.apply(variables, image[None], method="style")[0],
        lambda content, style: model.apply(variables, content[None], style[None], method="decode")[0],
    )


def as_generator(config: TranslatorConfig, params: Params, example_share: float = 0.0) -> Generator:
    """Return the generator of pairs: its condition is a pair of images, its image a pair of translations.

    The first of a pair of translations has the content of the second image in the first domain, and the
    second one that of the first image in the second domain.

    Args:
      params: variables of both domains, see `init`.
      example_share: chance of a translation in the style of the pair's image of its domain, whose style
        encoder gets no gradient from it; else the style is drawn from N(0, I).
    """
    domains = tuple(bind(config, variables) for variables in params)

    def prior(key: Key) -> Latent:
        style_key, share_key = jax.random.split(key)
        styles = jax.random.normal(style_key, (2, config.style_size))
        return Latent(styles, jax.random.bernoulli(share_key, example_share))

    def code(latent: Latent, pair: Pair) -> Codes:
        first, second = (domain.content(image) for domain, image in zip(domains, pair, strict=True))
        own = jnp.stack([domain.style(image) for domain, image in zip(domains, pair, strict=True)])
        styles = jnp.where(latent.by_example, jax.lax.stop_gradient(own), latent.styles)
        return Codes((first, second), styles, latent.by_example)

    def decode(codes: Codes, key: Key) -> Pair:
        return decode_pair(domains, codes.contents[::-1], codes.styles)

    return Generator(prior, code, decode)


def decode_pair(domains: Sequence[Domain], contents: Sequence[Map], styles: Array) -> Pair:
    """Decode a content and a style in each domain."""
    triples = zip(domains, contents, styles, strict=True)
    return jnp.stack([domain.decode(content, style) for domain, content, style in triples])
