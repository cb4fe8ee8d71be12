"""The style-based generator: its layers in closed form, mixing, the mean style, and one image at a time."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax.models import equalized, style
from rsynth_jax.models.style import NORMS, GeneratorConfig
from rsynth_jax.training import gan_run
from rsynth_jax.training.gan_recipes import RECIPES

RNG = np.random.default_rng(0)
CONFIG = GeneratorConfig(num_classes=2, image_size=16, widths=(8, 4), latent_size=8, mapping_depth=2)
KEYS = jax.random.split(jax.random.key(1, impl="rbg"), 3)  # compiles faster than the default
LABELS = jnp.array([0, 1, 0])


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@functools.cache
def variables(norm: str, noise: float = 0.0):
    """Random ones, with this scale of the noise; those of the mapping are as large as its rate is small."""
    shapes = jax.eval_shape(lambda: style.init(CONFIG._replace(norm=norm), jax.random.key(0)))
    rng = np.random.default_rng(0)

    def drawn(path, leaf):
        factor = 1 / style.MAPPING_RATE if path[1].key.startswith("mapping") else 1
        values = rng.normal(0, factor, leaf.shape).astype(np.float32)
        return np.full_like(values, noise) if path[-1].key == "noise" else values

    return jax.tree_util.tree_map_with_path(drawn, shapes)


def code_of(params, latent, label):
    return style.bind(CONFIG, params).code(latent, label)


code, codes = jax.jit(code_of), jax.jit(jax.vmap(code_of, (None, 0, 0)))  # the same for both norms


@functools.cache
def decoders(norm: str):
    """The images of codes and keys, of one image and of a batch."""

    def decode(params, styles, key):
        return style.bind(CONFIG._replace(norm=norm), params).decode(styles, key)

    return jax.jit(decode), jax.jit(jax.vmap(decode, (None, 0, 0)))


# ---- the layers


@pytest.mark.parametrize(("inputs", "outputs", "rate"), [(64, 400, 1.0), (512, 100, 0.01)])
def test_an_equalized_dense_layer_has_unit_variance_at_the_start(inputs, outputs, rate):
    layer, x = equalized.Dense(outputs, bias=0.5, rate=rate), normal(200, inputs)
    params = layer.init(jax.random.key(0), x)
    assert_allclose(np.std(params["params"]["kernel"]) * rate, 1, rtol=0.02)
    y = layer.apply(params, x) - 0.5
    assert_allclose([y.mean(), y.std()], [0, 1], atol=0.05)


def test_an_equalized_convolution_has_unit_variance_at_the_start():
    layer, x = equalized.Conv(32), normal(4, 16, 16, 32)
    y = layer.apply(layer.init(jax.random.key(0), x), x)[:, 1:-1, 1:-1]
    assert_allclose([y.mean(), y.std()], [0, 1], atol=0.05)


def test_the_leaky_relu_keeps_the_power_of_a_normal_variable_to_4_percent():
    power = np.mean(equalized.leaky_relu(normal(10_000)) ** 2)
    assert_allclose(power, equalized.GAIN**2 * (1 + 0.2**2) / 2, rtol=0.05)
    assert_array_equal(equalized.leaky_relu(jnp.array([0.0])), 0)


def test_adain_gives_each_channel_of_each_image_its_mean_and_deviation():
    x, scale, shift = 3 * normal(2, 8, 8, 4) + 5, normal(2, 4), normal(2, 4)
    y = style.adaptive(x, scale, shift)
    assert_allclose(y.mean((1, 2)), shift, atol=1e-5)
    assert_allclose(y.std((1, 2)), abs(scale), rtol=1e-4)


def test_adain_does_not_depend_on_the_input_s_mean_and_scale():
    x, scale, shift = normal(2, 8, 8, 4), normal(2, 4), normal(2, 4)
    assert_allclose(style.adaptive(7 * x - 2, scale, shift), style.adaptive(x, scale, shift), atol=1e-4)


def test_modulation_is_the_convolution_of_each_image_with_weights_of_its_own():
    x, weights, styles = normal(3, 6, 6, 5), normal(3, 3, 5, 4), normal(3, 5)
    for image, own, found in zip(x, styles, style.modulated(x, weights, styles), strict=True):
        scaled = weights * own[:, None]
        scaled /= np.sqrt((scaled**2).sum(axis=(0, 1, 2)))
        assert_allclose(found, equalized.conv(image[None], scaled)[0], atol=1e-5)


def test_smoothing_removes_what_alternates_keeps_the_mean_and_what_is_constant():
    x = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
    assert_allclose(equalized.smoothed(jnp.ones((1, 4, 4, 2))), np.ones((1, 4, 4, 2)))
    assert_allclose(equalized.smoothed(x).mean((1, 2)), x.mean((1, 2)), atol=1e-6)
    rows, columns = np.indices((8, 8))
    for grid in ((-1.0) ** rows, (-1.0) ** columns, (-1.0) ** (rows + columns)):
        inside = equalized.smoothed(jnp.float32(grid)[None, :, :, None])[:, 1:-1, 1:-1]
        assert_allclose(inside, np.zeros_like(inside), atol=1e-6)


def test_a_smooth_generator_smooths_the_detail_of_its_last_size_alone():
    params = variables("demodulated")
    flat = jax.tree.map_with_path(lambda path, leaf: leaf * ("detail" not in path[1].key), params)

    @functools.partial(jax.jit, static_argnums=1)
    def image(params, smooth):
        generator = style.bind(CONFIG._replace(smooth=smooth), params)
        return generator.decode(generator.code(generator.prior(KEYS[0]), LABELS[0]), KEYS[1])

    without, plain, smooth = image(flat, False), image(params, False), image(params, True)
    expected = equalized.smoothed((plain - without)[None])[0]
    assert_allclose(smooth - without, expected, atol=1e-5 * jnp.abs(expected).max())


def test_demodulated_outputs_have_unit_variance_whatever_the_style():
    x, weights, styles = normal(2, 32, 32, 16), normal(3, 3, 16, 8), 10 * normal(2, 16)
    y = style.modulated(x, weights, styles)[:, 1:-1, 1:-1]
    assert_allclose(y.std((1, 2)), np.ones((2, 8)), rtol=0.2)
    assert_allclose(style.modulated(x, weights, 9 * styles), style.modulated(x, weights, styles), atol=1e-5)


def test_halving_a_doubled_constant_gives_it_back():
    x = np.broadcast_to(normal(2, 1, 1, 3), (2, 4, 6, 3))
    assert_allclose(equalized.doubled(x), np.broadcast_to(x[:, :1, :1], (2, 8, 12, 3)), rtol=1e-6)
    assert_allclose(equalized.halved(equalized.doubled(x)), x, rtol=1e-6)


def test_doubling_is_bilinear_and_keeps_the_mean():
    x = normal(2, 4, 6, 3)
    assert_allclose(equalized.doubled(x), jax.image.resize(x, (2, 8, 12, 3), "bilinear"), atol=1e-6)
    assert_allclose(equalized.doubled(x).mean((1, 2)), x.mean((1, 2)), atol=1e-6)


def test_halving_takes_the_means_of_blocks():
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    assert_array_equal(equalized.halved(x)[0, :, :, 0], [[2.5, 4.5], [10.5, 12.5]])


@given(factor=st.sampled_from([1, 2, 4]), height=st.integers(1, 3), width=st.integers(1, 3))
def test_depth_to_space_inverts_space_to_depth_and_the_reverse(factor, height, width):
    x = np.arange(2 * height * width * factor**2 * 3).reshape(2, factor * height, factor * width, 3)
    deep = equalized.space_to_depth(x, factor)
    assert deep.shape == (2, height, width, 3 * factor**2)
    assert_array_equal(equalized.depth_to_space(deep, factor), x)
    assert_array_equal(equalized.space_to_depth(equalized.depth_to_space(deep, factor), factor), deep)
    assert_array_equal(deep[0, 0, 0], x[0, :factor, :factor].ravel())


# ---- the generator


@pytest.mark.parametrize("norm", NORMS)
def test_an_image_of_a_batch_is_the_image_alone(norm):
    params = variables(norm)
    decode, decodes = decoders(norm)
    latents = normal(3, CONFIG.latent_size)
    styles = codes(params, latents, LABELS)
    images = decodes(params, styles, KEYS)
    assert styles.shape == (3, 4, 8) and images.shape == (3, 16, 16, 3) and images.dtype == jnp.float32
    for i in range(3):
        assert_allclose(code(params, latents[i], LABELS[i]), styles[i], atol=1e-5)
        assert_allclose(decode(params, styles[i], KEYS[i]), images[i], atol=1e-5)
    assert np.isfinite(images).all() and np.ptp(images) > 0.1


def test_the_noise_of_an_image_depends_on_its_key_alone_and_has_a_map_for_each_layer():
    keys = jax.random.split(jax.random.key(0), 3)
    batch = jax.jit(jax.vmap(functools.partial(style.noises, CONFIG)))(keys)
    assert [noise.shape[1:] for noise in batch] == [(1, side, side, 1) for side in (4, 4, 8, 8)]
    jax.tree.map(lambda own, all: assert_array_equal(own, all[1]), style.noises(CONFIG, keys[1]), batch)
    values = np.concatenate([np.ravel(noise) for noise in batch])
    assert np.unique(values).size > 0.99 * values.size


@pytest.mark.parametrize("norm", NORMS)
def test_noise_of_scale_0_is_irrelevant_and_of_scale_1_is_not(norm):
    styles = codes(variables(norm), np.tile(normal(CONFIG.latent_size), (3, 1)), jnp.zeros(3, jnp.int32))
    silent, noisy = (decoders(norm)[1](variables(norm, noise), styles, KEYS) for noise in (0.0, 1.0))
    assert_array_equal(silent[0], silent[1])
    assert np.abs(noisy[0] - noisy[1]).max() > 1e-3


@pytest.mark.parametrize("norm", NORMS)
def test_variables_with_half_of_the_noise_are_those_whose_noise_is_halved(norm):
    params = variables(norm, 1.0)
    styles = code(params, normal(CONFIG.latent_size), 0)
    config = CONFIG._replace(norm=norm)
    halved = style.bind(config, style.with_noise(params, 0.5)).decode(styles, KEYS[0])
    other = style.bind(config, params, style.scaled_noises(jnp.full(config.num_layers, 0.5)))
    assert_allclose(halved, other.decode(styles, KEYS[0]), atol=1e-5)
    jax.tree.map(assert_array_equal, style.with_noise(params, 1.0), params)


@pytest.mark.parametrize("norm", NORMS)
def test_the_style_of_every_layer_reaches_the_image(norm):
    params, latent = variables(norm), normal(CONFIG.latent_size)
    first, second = (np.asarray(code(params, sign * latent, 0)) for sign in (1, -1))
    images = [decoders(norm)[0](params, style.mix(first, second, i), KEYS[0]) for i in range(5)]
    assert all(np.abs(one - other).max() > 1e-3 for one, other in itertools.pairwise(images))


def test_a_code_depends_on_the_direction_of_the_latent_and_on_the_class_and_is_the_same_for_each_layer():
    params, latent = variables("demodulated"), normal(CONFIG.latent_size)
    styles = code(params, latent, 0)
    assert_array_equal(styles, np.tile(styles[0], (CONFIG.num_layers, 1)))
    assert_allclose(code(params, 3 * latent, 0), styles, rtol=1e-4, atol=1e-5)
    for other in (code(params, latent, 1), code(params, -latent, 0)):
        assert np.abs(other - styles).max() > 0.1


def numpy_styles(params, latents: np.ndarray, label: int) -> np.ndarray:
    """The mapping network in NumPy."""
    parts = (latents, np.broadcast_to(params["classes"][label], latents.shape))
    x = np.concatenate(
        [part / np.sqrt(np.mean(part**2, -1, keepdims=True) + 1e-8) for part in parts], axis=-1
    )
    for i in range(CONFIG.mapping_depth):
        layer = params[f"mapping_{i}"]
        x = 0.01 * (x @ layer["kernel"] / np.sqrt(x.shape[-1]) + layer["bias"])
        x = np.sqrt(2) * np.where(x > 0, x, 0.2 * x)
    return x


def test_the_mean_style_is_the_mean_in_closed_form():
    drawn = jax.tree.map(np.asarray, variables("demodulated"))["params"]
    params = drawn | {f"mapping_{i}": drawn[f"mapping_{i}"] | {"bias": normal(8)} for i in range(2)}
    means = jax.jit(functools.partial(style.mean_styles, CONFIG, num=50))({"params": params})
    latents = np.stack([jax.random.normal(key, (8,)) for key in jax.random.split(jax.random.key(0), 50)])
    expected = [numpy_styles(params, latents, label).mean(axis=0) for label in range(2)]
    assert_allclose(means, expected, rtol=1e-4, atol=1e-5)


# ---- mixing


@given(crossover=st.integers(0, 4))
def test_mixing_takes_the_first_code_below_the_crossover_and_the_second_from_it_on(crossover):
    first, second = normal(4, 3), normal(4, 3)
    mixed = style.mix(first, second, crossover)
    assert_array_equal(mixed, np.concatenate([first[:crossover], second[crossover:]]))
    assert_array_equal(style.mix(first, first, crossover), first)


def test_crossover_0_is_the_second_code_and_one_past_the_last_layer_the_first():
    first, second = normal(4, 3), normal(4, 3)
    assert_array_equal(style.mix(first, second, 0), second)
    assert_array_equal(style.mix(first, second, 4), first)


def test_the_regularization_mixes_that_share_of_latents_at_every_layer_alike():
    plain = style.bind(CONFIG, variables("demodulated"))
    keys = jax.random.split(jax.random.key(0), 2000)
    _, _, crossovers = jax.jit(jax.vmap(style.mixing(plain, 4, 0.6).prior))(keys)
    counts = np.bincount(crossovers, minlength=5) / len(keys)
    assert_allclose(counts, [0, 0.2, 0.2, 0.2, 0.4], atol=0.03)


def test_without_mixing_the_code_is_that_of_the_first_latent():
    params = variables("demodulated")
    plain = style.bind(CONFIG, params)
    mixed = style.mixing(plain, CONFIG.num_layers, 0.0)
    latent = jax.jit(mixed.prior)(KEYS[0])
    assert_allclose(jax.jit(mixed.code)(latent, LABELS[0]), code(params, latent[0], LABELS[0]), rtol=1e-5)
    assert mixed.decode is plain.decode


# ---- its description


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_classes": 0}, "num_classes is 0: give a number above 0"),
        ({"latent_size": -1}, "latent_size is -1"),
        ({"mapping_depth": 0}, "mapping_depth is 0"),
        ({"widths": (8, 0)}, "width 1 is 0"),
        ({"widths": ()}, "widths is empty: give the channels at 4, 8, 16"),
        ({"image_size": 32}, "2 widths make images of 16 pixels, not 32"),
        ({"norm": "batch"}, "no norm named 'batch': give one of demodulated, adain"),
    ],
    ids=str,
)
def test_a_description_of_no_generator_is_refused(values, message):
    with refused(match=message):
        style.create(CONFIG._replace(**values))


@pytest.mark.parametrize(("name", "count"), [("faces-style-64", 921_944), ("cifar10-style-32", 885_141)])
def test_the_parameters_of_the_recipes_stay_as_they_are_so_that_runs_can_be_resumed(name, count):
    config = gan_run.config(RECIPES[name], 2)
    drawn = jax.eval_shape(functools.partial(style.init, config), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(drawn)) == count
