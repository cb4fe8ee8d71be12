"""Surgery on generators and classifiers: the identity, ablation, insertion, composition, reading."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax import models
from rsynth_jax.models import style, surgery
from rsynth_jax.models.style import GeneratorConfig
from rsynth_jax.models.surgery import at, blend, compose, untouched

CONFIG = GeneratorConfig(2, 8, (6,), latent_size=4, mapping_depth=1)
RNG = np.random.default_rng(0)


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


@functools.cache
def networks() -> dict:
    """Runs (surgery -> output) of a generator of 8 pixels and a classifier of one block, by their layer."""
    shapes = jax.eval_shape(lambda: style.init(CONFIG, jax.random.key(0)))
    variables = jax.tree.map(lambda leaf: normal(*leaf.shape), shapes)
    styles, key = normal(2, 4), jax.random.key(1, impl="rbg")
    with tiny.network():
        model = models.create(models.Config("tiny", 3))
        weights = tiny.untrained(models.Config("tiny", 3))
    image = jnp.asarray(RNG.random(tiny.SHAPE), jnp.float32)
    return {
        "layer1": lambda change: style.bind(CONFIG, variables, surgery=change).decode(styles, key),
        "block0": lambda change: models.bind(model, weights, change).outputs(image).logits,
    }


LAYERS = ("layer1", "block0")


def run(layer: str, *changes) -> np.ndarray:
    network = networks()[layer]
    with jax.numpy_dtype_promotion("standard"):
        return np.asarray(jax.jit(lambda: network(compose(*changes)))())


@functools.cache
def read(layer: str):
    network = networks()[layer]
    with jax.numpy_dtype_promotion("standard"):
        return jax.jit(lambda: surgery.read(network, layer))()


@pytest.mark.parametrize("layer", LAYERS)
def test_the_identity_gives_the_same_bits_and_reading_too(layer):
    output, _ = read(layer)
    for found in (run(layer), run(layer, at("nowhere", jnp.zeros_like)), run(layer, untouched, untouched)):
        assert_array_equal(found, output)


@pytest.mark.parametrize("layer", LAYERS)
def test_ablating_no_unit_and_inserting_with_alpha_0_are_the_identity(layer):
    nothing = jnp.zeros(read(layer)[1].shape[-1])
    assert_array_equal(run(layer, at(layer, blend(nothing, 5.0))), run(layer))


@pytest.mark.parametrize("layer", LAYERS)
def test_ablating_all_units_is_the_network_given_a_zero_map(layer):
    units = jnp.ones(read(layer)[1].shape[-1])
    zeros = run(layer, at(layer, jnp.zeros_like))
    assert_array_equal(run(layer, at(layer, blend(units, 0.0))), zeros)
    assert_array_equal(run(layer, at(layer, blend(units, 7.0)), at(layer, blend(units, 0.0))), zeros)
    assert np.abs(zeros - run(layer)).max() > 1e-3


@pytest.mark.parametrize("layer", LAYERS)
def test_surgeries_of_disjoint_units_compose_to_that_of_their_union(layer):
    num = read(layer)[1].shape[-1]
    first = (jnp.arange(num) < num // 2).astype(jnp.float32)
    parts = [at(layer, blend(units, 0.0)) for units in (first, 1 - first)]
    assert_array_equal(run(layer, *parts), run(layer, at(layer, jnp.zeros_like)))


def test_a_blend_is_the_formula_at_its_places_alone():
    x, alpha, values = normal(4, 4, 3), jnp.array([0.0, 0.25, 1.0]), normal(3)
    places = jnp.zeros((4, 4, 1)).at[1, 2].set(1)
    found = blend(alpha, values, places)(x)
    assert_allclose(found[1, 2], (1 - alpha) * x[1, 2] + alpha * values, rtol=1e-6)
    assert_array_equal(np.delete(found.reshape(16, 3), 6, 0), np.delete(x.reshape(16, 3), 6, 0))
    off = blend(jnp.array([0.0, 1.0, 1.0]), 0.0)
    assert_array_equal(off(off(x)), off(x))  # ablation is idempotent


@pytest.mark.parametrize("layer", LAYERS)
def test_the_layers_have_names_and_shapes_and_another_one_is_refused(layer):
    shapes = surgery.layer_shapes(networks()[layer])
    assert shapes[layer] == read(layer)[1].shape
    assert set(shapes) == ({"layer0", "layer1"} if layer == "layer1" else {"block0"})
    with refused(match="no layer 'layer9': give a number from 0 to"):
        surgery.read(networks()[layer], "layer9")


def test_the_maps_of_a_classifier_are_those_after_surgery():
    with tiny.network():
        config = models.Config("tiny", 3)
        model, weights = models.create(config), tiny.untrained(config)
        off = models.bind(model, weights, at("block0", jnp.zeros_like))
        (found,) = off.maps(jnp.zeros(tiny.SHAPE))
    assert not np.asarray(found).any()


def test_a_network_without_layers_is_refused_in_words():
    with refused(match="no layer '0': this network has none that is known; give one of residual blocks"):
        surgery.read(lambda change: 0, "0")
