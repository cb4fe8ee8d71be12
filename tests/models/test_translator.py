"""Translators: an image is the decoding of its own codes, and a pair of translations swaps contents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax.models import translator
from rsynth_jax.models.translator import TranslatorConfig

CONFIG = TranslatorConfig(8, (4, 4), blocks=1, style_size=2, mlp_width=4)
RNG = np.random.default_rng(0)
PAIR = RNG.random((2, 8, 8, 3), np.float32)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(lambda: translator.init(CONFIG, KEY))
    return jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def domains(params):
    return [translator.bind(CONFIG, variables) for variables in params]


def drawn(params, share: float, key=KEY):
    """The codes of the pair and their images, of a generator with this share of examples."""

    def draw(params, pair, key):
        generator = translator.as_generator(CONFIG, params, share)
        codes = generator.code(generator.prior(key), pair)
        return codes, generator.decode(codes, key)

    return jax.jit(draw)(params, PAIR, key)


@pytest.mark.slow
def test_the_content_and_the_style_of_an_image_decode_as_its_autoencoder(params, domains):
    for domain, variables, image in zip(domains, params, PAIR, strict=True):
        content, style = domain.content(image), domain.style(image)
        assert content.shape == (2, 2, 4) and style.shape == (2,)
        whole = translator.create(CONFIG).apply(variables, image[None])[0]
        assert_allclose(domain.decode(content, style), whole, rtol=1e-4, atol=1e-5)


def test_a_pair_of_translations_has_each_other_s_contents_in_its_own_domain(params, domains):
    codes, images = drawn(params, 0.0)
    assert not codes.by_example
    for i, domain in enumerate(domains):
        assert_allclose(codes.contents[i], jax.jit(domain.content)(PAIR[i]), rtol=1e-4, atol=1e-5)
        expected = jax.jit(domain.decode)(codes.contents[1 - i], codes.styles[i])
        assert_allclose(images[i], expected, rtol=1e-4, atol=1e-5)


def test_the_styles_are_drawn_or_those_of_the_images_by_their_share(params, domains):
    own = np.stack([jax.jit(domain.style)(image) for domain, image in zip(domains, PAIR, strict=True)])
    assert_allclose(drawn(params, 1.0)[0].styles, own, rtol=1e-4, atol=1e-5)
    prior = translator.as_generator(CONFIG, params, 0.25).prior
    latents = jax.jit(jax.vmap(prior))(jax.random.split(KEY, 4000))
    assert_allclose(latents.by_example.mean(), 0.25, atol=0.03)
    assert_allclose(latents.styles.mean(0), 0, atol=0.06)
    assert_allclose(latents.styles.std(0), 1, atol=0.06)


@pytest.mark.slow
def test_a_translation_in_the_style_of_an_image_gives_its_style_encoder_no_gradient(params):
    def total(params, share):
        generator = translator.as_generator(CONFIG, params, share)
        return generator.decode(generator.code(generator.prior(KEY), PAIR), KEY).sum()

    slopes = jax.jit(jax.grad(total), static_argnums=1)(params, 1.0)
    for domain in slopes:
        moved = {name: np.abs(leaf["kernel"]).max() for name, leaf in domain["params"].items()}
        assert moved["looks_0"] == moved["look"] == 0 and moved["mlp_0"] > 0 and moved["shapes_0"] > 0


@pytest.mark.slow
def test_each_domain_has_weights_of_its_own():
    first, second = jax.jit(translator.init, static_argnums=0)(CONFIG, KEY)
    assert jax.tree.map(jnp.shape, first) == jax.tree.map(jnp.shape, second)
    kernels = [domain["params"]["look"]["kernel"] for domain in (first, second)]
    with pytest.raises(AssertionError):
        assert_array_equal(*kernels)


def test_the_content_of_a_grey_image_has_no_steep_slope(domains):
    weights = RNG.normal(size=(2, 2, 4)).astype(np.float32)
    slope = jax.jit(jax.grad(lambda image: jnp.sum(weights * domains[0].content(image))))
    grey = 0.5 + 1e-4 * (PAIR[0] - 0.5)  # as the first translations are
    assert np.linalg.norm(slope(grey)) < 20 * np.linalg.norm(slope(PAIR[0]))  # an epsilon of 1e-5: 9,000


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widths": ()}, "widths is empty"),
        ({"widths": (4, 0)}, "width 1 is 0"),
        ({"blocks": 0}, "blocks is 0"),
        ({"style_size": -1}, "style_size is -1"),
        ({"image_size": 12}, "image_size is 12 of 2 widths: give a multiple of 8"),
    ],
    ids=str,
)
def test_an_impossible_translator_is_refused(values, message):
    with refused(match=message):
        translator.check(CONFIG._replace(**values))
