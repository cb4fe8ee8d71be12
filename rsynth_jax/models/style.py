"""The style-based generator (Karras et al. 2019), with demodulated weights (2020) or AdaIN.

    config = GeneratorConfig(num_classes=2, image_size=64)
    generator = bind(config, init(config, key))
    image = generator.decode(generator.code(generator.prior(key), label), noise_key)

The mapping network makes a style w (d,) of a latent z (d,) and a class. The code of an image holds a style
for each layer, (layers, d). Two layers at every size, each with its style and its noise, make the image of a
learned constant of 4 x 4, as a sum of the colors at every size. The last size is reached by depth-to-space,
which costs less than two layers of that size.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rsynth_jax import checks
from rsynth_jax.models.equalized import (
    Conv,
    Dense,
    conv,
    depth_to_space,
    doubled,
    kernel,
    leaky_relu,
    smoothed,
)
from rsynth_jax.models.surgery import on_batch_of_one, untouched
from rsynth_jax.types import Generator, Image, Key, Label, Latent, Surgery, Variables

Styles = Float[Array, "layers d"]
LAYERS = 2  # at every size
CONSTANT = 4  # pixels: the side of the learned constant
MAPPING_RATE = 0.01  # multiplier of the learning rate of the mapping network
NOISE_RATE = 0.1  # of the scales of the noise: as fast as the rest, they cover the images with grain


class GeneratorConfig(NamedTuple):
    """Plain data that determines a style-based generator, stored as JSON.

    Attributes:
      num_classes: of the label.
      image_size: side of the images: twice the last size, a power of two.
      widths: channels at 4, 8, 16 ... pixels; the image has twice the last side.
      latent_size: values of a latent and of a style.
      mapping_depth: layers of the mapping network.
      norm: a key of `NORMS`, "demodulated" or "adain".
      smooth: whether the detail of the last size is smoothed: depth-to-space leaves a grid of 2 pixels.
    """

    num_classes: int
    image_size: int = 64
    widths: tuple[int, ...] = (128, 128, 64, 32)
    latent_size: int = 128
    mapping_depth: int = 4
    norm: str = "demodulated"
    smooth: bool = False

    @property
    def num_layers(self) -> int:
        """Number of layers that take a style."""
        return LAYERS * len(self.widths)


def normalized(x: jax.Array) -> jax.Array:
    """Divide by the root mean square over the last axis."""
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-8)


def instance_norm(x: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    """Scale each channel of each image of x (n, h, w, c) to mean 0 and variance 1, or less near `epsilon`."""
    centered = x - x.mean(axis=(1, 2), keepdims=True)
    return centered / jnp.sqrt(jnp.mean(centered**2, axis=(1, 2), keepdims=True) + epsilon)


def adaptive(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    """AdaIN: instance norm of x (n, h, w, c), then scale and shift, (n, c) each."""
    return instance_norm(x) * scale[:, None, None] + shift[:, None, None]


def modulated(x: jax.Array, weights: jax.Array, style: jax.Array) -> jax.Array:
    """Convolve x (n, h, w, c) with the weights scaled by a style (n, c), and demodulate to unit variance.

    The input is scaled and the output divided, so one plain convolution serves the batch: it equals the
    convolution of each image with weights of its own, for any border of zeros.
    """
    power = jnp.sum(weights**2, axis=(0, 1))
    return conv(x * style[:, None, None], weights) * jax.lax.rsqrt(style**2 @ power + 1e-8)[:, None, None]


class Demodulated(nn.Module):
    """A convolution whose weights the style scales, noise where it is given, bias and a leaky ReLU."""

    features: int

    @nn.compact
    def __call__(self, x, style, noise=None):
        channels = x.shape[-1]
        weights = kernel(self, 3, channels, self.features)
        y = modulated(x, weights, Dense(channels, bias=1.0, name="style")(style))
        return leaky_relu(_with_noise(self, y, noise))


class Adaptive(nn.Module):
    """A convolution, noise, bias, a leaky ReLU, and AdaIN."""

    features: int

    @nn.compact
    def __call__(self, x, style, noise):
        y = leaky_relu(_with_noise(self, conv(x, kernel(self, 3, x.shape[-1], self.features)), noise))
        scale, shift = jnp.split(Dense(2 * self.features, name="style")(style), 2, axis=-1)
        return adaptive(y, 1 + scale, shift)


def _with_noise(module: nn.Module, x: jax.Array, noise: jax.Array | None) -> jax.Array:
    """x plus noise (n, h, w, 1) times a learned scale a channel, 0 at first, and a bias."""
    if noise is not None:
        x = x + NOISE_RATE * module.param("noise", nn.initializers.zeros, x.shape[-1:]) * noise
    return x + module.param("bias", nn.initializers.zeros, x.shape[-1:])


NORMS: dict[str, Callable[..., nn.Module]] = {"demodulated": Demodulated, "adain": Adaptive}


class StyleGenerator(nn.Module):
    """The mapping network and the synthesis network, see `code` and `decode`."""

    config: GeneratorConfig

    def setup(self):
        config, draw = self.config, nn.initializers.normal(1.0)
        block = NORMS[config.norm]
        self.classes = self.param("classes", draw, (config.num_classes, config.latent_size))
        self.mapping = [Dense(config.latent_size, rate=MAPPING_RATE) for _ in range(config.mapping_depth)]
        self.constant = self.param("constant", draw, (CONSTANT, CONSTANT, config.widths[0]))
        self.layers = [[block(width) for _ in range(LAYERS)] for width in config.widths]
        self.colors = [Conv(3, 1) for _ in config.widths]
        self.detail = Conv(12, deviation=0.0)  # or the first images have a grid of 2 pixels

    def __call__(self, latents, labels, noises):
        """Return the images (n, h, w, 3); makes every parameter."""
        return self.decode(self.code(latents, labels), noises)

    def code(self, latents, labels):
        """Map latents (n, d) and labels (n,) to styles, the same for each layer: (n, layers, d)."""
        x = jnp.concatenate([normalized(latents), normalized(jnp.asarray(self.classes)[labels])], axis=-1)
        for layer in self.mapping:
            x = leaky_relu(layer(x))
        return jnp.repeat(x[:, None], self.config.num_layers, axis=1)

    def decode(self, styles, noises, surgery: Surgery = untouched):
        """Make images (n, h, w, 3) of styles (n, layers, d) and a noise (n, h, w, 1) for each layer.

        The surgery is given the maps of layer0, layer1 ... of all images, (n, h, w, c).
        """
        x = jnp.broadcast_to(self.constant, (len(styles), *self.constant.shape))
        color = jnp.zeros(())
        inputs = enumerate(zip(jnp.moveaxis(styles, 1, 0), noises, strict=True))
        for size, (layers, to_color) in enumerate(zip(self.layers, self.colors, strict=True)):
            x = doubled(x) if size else x
            for layer in layers:
                number, given = next(inputs)
                x = surgery(f"layer{number}", layer(x, *given))
            color = doubled(color) + to_color(x) if size else to_color(x)
        detail = depth_to_space(self.detail(x), 2)
        return 0.5 + (doubled(color) + (smoothed(detail) if self.config.smooth else detail)) / 4


def check(config: GeneratorConfig) -> None:
    """Raise ValueError unless the description is one of a generator."""
    checks.positive(num_classes=config.num_classes, latent_size=config.latent_size)
    checks.positive(
        mapping_depth=config.mapping_depth, **{f"width {i}": w for i, w in enumerate(config.widths)}
    )
    checks.named("norm", config.norm, NORMS)
    if not config.widths:
        raise ValueError("widths is empty: give the channels at 4, 8, 16 ... pixels")
    side = CONSTANT * 2 ** len(config.widths)
    if config.image_size != side:
        raise ValueError(f"{len(config.widths)} widths make images of {side} pixels, not {config.image_size}")


def create(config: GeneratorConfig) -> StyleGenerator:
    """Make the module of a `GeneratorConfig`. Raises ValueError as `check` does."""
    check(config)
    return StyleGenerator(config._replace(widths=tuple(config.widths)))


def noises(config: GeneratorConfig, key: Key, num: int = 1) -> tuple[jax.Array, ...]:
    """Draw the noise of every layer, (num, h, w, 1) each."""
    sides = [CONSTANT * 2 ** (layer // LAYERS) for layer in range(config.num_layers)]
    keys = jax.random.split(key, len(sides))
    return tuple(jax.random.normal(own, (num, side, side, 1)) for own, side in zip(keys, sides, strict=True))


def init(config: GeneratorConfig, key: Key) -> Variables:
    """Draw the variables of a generator; of the inputs only the shapes matter."""
    latents = jnp.zeros((1, config.latent_size))
    return dict(create(config).init(key, latents, jnp.zeros(1, jnp.int32), noises(config, key)))


DrawNoises = Callable[[GeneratorConfig, Key], tuple[jax.Array, ...]]


def scaled_noises(scales: Float[Array, " layers"]) -> DrawNoises:
    """Return `noises` times a scale for each layer: 1 keeps the layer's noise, 0 switches it off."""
    return lambda config, key: tuple(x * y for x, y in zip(noises(config, key), scales, strict=True))


def with_noise(variables: Variables, scale: float) -> Variables:
    """Return the variables of the generator whose noise is `scale` times as strong at every layer."""

    def scaled(path: tuple, leaf: jax.Array) -> jax.Array:
        return leaf * leaf.dtype.type(scale) if path[-1].key == "noise" else leaf

    return jax.tree_util.tree_map_with_path(scaled, variables)


def bind(
    config: GeneratorConfig,
    variables: Variables,
    draw_noises: DrawNoises = noises,
    surgery: Surgery = untouched,
) -> Generator:
    """Close over `variables`: the generator of one image, whose code is (layers, d).

    The surgery changes the maps of layer0 ... on the way to the image, see `rsynth_jax.models.surgery`.
    """
    model = create(config)

    def code(latent: Latent, label: Label) -> Styles:
        return model.apply(variables, latent[None], label[None], method="code")[0]

    def decode(styles: Styles, key: Key) -> Image:
        inputs = (styles[None], draw_noises(config, key), on_batch_of_one(surgery))
        return model.apply(variables, *inputs, method="decode")[0]

    return Generator(lambda key: jax.random.normal(key, (config.latent_size,)), code, decode)


def mix(first: Styles, second: Styles, crossover: jax.Array | int) -> Styles:
    """Take the styles of the first code below layer `crossover`, those of the second from it on."""
    return jnp.where(jnp.arange(len(first))[:, None] < crossover, first, second)


def truncate(styles: Styles, mean: Float[Array, " d"], psi: jax.Array | float, num_layers: int) -> Styles:
    """Scale the distance from a mean style: mean + psi (w - mean) at the first `num_layers` layers.

    Karras et al. 2019 use psi 0.7 and the first 8 layers: lower is more typical and less varied. 1 is the
    identity, 0 the mean style.
    """
    near = psi * styles + (1 - psi) * mean
    return jnp.where(jnp.arange(len(styles))[:, None] < num_layers, near, styles)


def layer_groups(config: GeneratorConfig) -> dict[str, range]:
    """Split the sizes into three runs, coarse, middle and fine, as even as possible: the layers of each.

    At 64 pixels they have 4 and 8, 16, and 32 pixels. In Karras et al. 2019 (figure 3, at 1024 pixels) they
    have 4 to 8, 16 to 32, and 64 to 1024. A generator of fewer than three sizes has empty runs.
    """
    sizes = len(config.widths)
    ends = [LAYERS * -(-sizes // 3), LAYERS * -(-2 * sizes // 3), LAYERS * sizes]
    return {
        name: range(first, last)
        for name, first, last in zip(("coarse", "middle", "fine"), [0, *ends], ends, strict=False)
    }


def mixing(generator: Generator, num_layers: int, probability: float) -> Generator:
    """Return a generator whose code mixes two latents with this probability: the mixing regularization.

    The crossover is uniform over 1 ... num_layers - 1, so that both latents take part.
    """

    def prior(key: Key) -> Latent:
        first, second, cut, pick = jax.random.split(key, 4)
        crossover = jax.random.randint(cut, (), 1, num_layers)
        mixed = jax.random.bernoulli(pick, probability)
        return generator.prior(first), generator.prior(second), jnp.where(mixed, crossover, num_layers)

    def code(latent: Latent, label: Label) -> Styles:
        first, second, crossover = latent
        return mix(generator.code(first, label), generator.code(second, label), crossover)

    return Generator(prior, code, generator.decode)


def mean_styles(config: GeneratorConfig, variables: Variables, num: int = 4096) -> jax.Array:
    """Estimate the mean style of each class, (classes, d), by the same `num` latents for each.

    The latents are those of the seed 0, so that the estimate depends on the variables alone.
    """
    generator = bind(config, variables)
    latents = jax.vmap(generator.prior)(jax.random.split(jax.random.key(0), num))

    def mean(label: Label) -> jax.Array:
        return jax.vmap(lambda latent: generator.code(latent, label)[0])(latents).mean(axis=0)

    return jax.lax.map(mean, jnp.arange(config.num_classes))
