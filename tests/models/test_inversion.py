"""Inverters: the code of a representation in closed form, the strongest activations, sizes that fit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax.models import inversion
from rsynth_jax.models.inversion import InverterConfig, Moments, Posterior

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
PLAIN = InverterConfig("features", (6,), 8, (4, 4))
VARIATIONAL = PLAIN._replace(latent_size=3)
SEEN = Moments(*np.float32(RNG.random((2, 6)) + 0.5))
FEATURES = RNG.normal(size=6).astype(np.float32)


def drawn(config):
    shapes = jax.eval_shape(functools.partial(inversion.init, config), KEY)
    return jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32), shapes)


def test_moments_are_those_of_the_last_axis_and_standardize_to_mean_0_and_deviation_1():
    values = RNG.normal(3, 2, (5, 4, 4, 6)).astype(np.float32)
    seen = inversion.moments(values)
    assert_allclose(seen.mean, values.mean((0, 1, 2)), rtol=1e-5)
    again = inversion.moments(seen.standardize(values))
    assert_allclose(again.mean, np.zeros(6), atol=1e-5)
    assert_allclose(again.deviation, np.ones(6), rtol=1e-4)


def test_the_code_is_the_standardized_representation_whatever_the_latent():
    inverter = inversion.bind(PLAIN, drawn(PLAIN), SEEN)
    code = inverter.code(inverter.prior(KEY), (jnp.int32(1), FEATURES))
    assert_allclose(code, (FEATURES - SEEN.mean) / SEEN.deviation, rtol=1e-4)
    assert jax.eval_shape(inverter.decode, code, KEY).shape == (8, 8, 3)


def test_a_variational_code_is_the_mean_plus_the_deviation_times_the_latent():
    variables = drawn(VARIATIONAL)
    inverter = inversion.bind(VARIATIONAL, variables, SEEN)
    heads = variables["params"]["heads"]
    values = SEEN.standardize(FEATURES) @ heads["kernel"] + heads["bias"]
    latent = inverter.prior(KEY)
    assert latent.shape == (3,)
    code = inverter.code(latent, (jnp.int32(0), FEATURES))
    assert_allclose(code, values[:3] + np.exp(values[3:]) * latent, rtol=1e-4)


def test_the_divergence_is_that_of_gaussians_and_0_at_the_prior():
    mean, deviation = RNG.normal(size=5).astype(np.float32), np.float32(RNG.random(5) + 0.5)
    expected = np.mean(np.log(1 / deviation) + (deviation**2 + mean**2) / 2 - 0.5)
    assert_allclose(inversion.divergence(Posterior(mean, deviation)), expected, rtol=1e-5)
    assert inversion.divergence(Posterior(jnp.zeros(5), jnp.ones(5))) == 0


def test_the_strongest_activations_are_kept_and_the_others_have_their_mean():
    order = np.argsort(-np.abs(SEEN.standardize(FEATURES)))
    for num in (1, 2, 6, 100):
        kept = inversion.strongest(FEATURES, SEEN, num)
        assert_array_equal(kept[order[:num]], FEATURES[order[:num]])
        assert_array_equal(kept[order[num:]], SEEN.mean[order[num:]])
    values = RNG.normal(size=(2, 2, 6)).astype(np.float32)
    assert np.sum(inversion.strongest(values, SEEN, 5) == values) == 5


@pytest.mark.parametrize(("side", "used"), [(4, (8, 6, 4, 4)), (8, (6, 4, 4)), (16, (4, 4))])
def test_from_a_map_the_decoder_begins_at_its_side(side, used):
    config = InverterConfig("maps:0", (side, side, 5), 32, (8, 6, 4, 4), latent_size=2)
    assert config.used == used and config.code_shape == (side, side, 2)
    images = jax.eval_shape(
        lambda key: inversion.create(config).apply(
            inversion.init(config, key), jnp.zeros((3, side, side, 2)), method="decode"
        ),
        KEY,
    )
    assert images.shape == (3, 32, 32, 3)


def test_a_layer_is_read_from_the_outputs_of_a_pass():
    maps = lambda image: (image[:2, :2], image[::2, ::2])  # noqa: E731
    classifier = tiny.classifier(jnp.ravel, maps=maps)
    image = jnp.asarray(RNG.random((4, 4, 3)), jnp.float32)
    assert_array_equal(inversion.represent(classifier, "features")(image), image.ravel())
    assert_array_equal(inversion.represent(classifier, "maps:1")(image), image[::2, ::2])
    with refused(match="^no layer 'maps:2': the classifier's maps are maps:0 to maps:1$"):
        inversion.represent(classifier, "maps:2")(image)


@pytest.mark.parametrize(
    "layer", ["", "map:1", "maps", "maps:", "maps:-1", "maps:٣", "maps:99999", "x" * 300]
)
def test_another_name_is_no_layer(layer):
    with refused(match="^no layer .*: give features, or maps:N, the map of residual block N$"):
        inversion.reader(layer)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widths": ()}, "widths is empty"),
        ({"widths": (4, 0)}, "width 1 is 0"),
        ({"image_size": 16}, "2 widths make images of 8 pixels, not 16"),
        ({"latent_size": -1}, "latent_size is -1"),
        ({"layer": "maps:0"}, r"maps:0 of shape \(6,\) cannot be"),
        ({"shape": (4, 4, 6)}, r"features of shape \(4, 4, 6\) cannot be"),
        ({"layer": "maps:0", "shape": (16, 16, 6)}, "maps:0 is 16 x 16: an inverter begins at 4 or 8$"),
        ({"layer": "maps:0", "shape": (4, 8, 6)}, "maps:0 is 4 x 8"),
    ],
    ids=str,
)
def test_a_description_of_no_inverter_is_refused(values, message):
    with refused(match=message):
        inversion.create(PLAIN._replace(**values))
