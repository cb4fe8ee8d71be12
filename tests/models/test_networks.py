"""Networks that are not the package's own: the same logits, features and maps as their own code computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import linen, nnx
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax import models
from rsynth_jax.models import embedding, networks
from rsynth_jax.storage import releases

IMAGES = jnp.asarray(np.random.default_rng(0).random((2, *tiny.SHAPE), np.float32))


class Normed(linen.Module):
    """A convolution, batch norm and dropout, in training mode if it is told so."""

    @linen.compact
    def __call__(self, images, train):
        x = linen.BatchNorm(use_running_average=not train)(linen.Conv(4, (3, 3))(images))
        features = linen.Dropout(0.5, deterministic=not train)(linen.relu(x)).mean((1, 2))
        return linen.Dense(3)(features), features


class Streams(nnx.Module):
    """The same in nnx, which starts in training mode."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, images):
        return self.dense(self.drop(nnx.relu(self.norm(self.conv(images)))).mean((1, 2)))


def bound(network):
    return models.bind(network.model, network.variables)


def test_a_linen_module_is_called_with_its_variables_and_arguments():
    module = Normed()
    variables = module.init(jax.random.key(0), IMAGES, train=False)
    network = networks.from_linen(module, variables, train=False)
    logits, features = module.apply(variables, IMAGES, train=False)
    for name, wanted in (("logits", logits), ("features", features)):
        assert_allclose(jax.vmap(getattr(bound(network), name))(IMAGES), wanted, atol=1e-5)


def test_an_nnx_module_runs_in_evaluation_mode_and_stays_as_it_is():
    module = Streams(nnx.Rngs(0))
    network = networks.from_nnx(module)
    found = jax.vmap(bound(network).logits)(IMAGES)
    assert not module.drop.deterministic and not module.norm.use_running_average
    module.eval()
    assert_allclose(found, module(IMAGES), atol=1e-5)
    assert_array_equal(jax.vmap(bound(network).features)(IMAGES), found)


def test_weights_are_arguments_of_the_program():
    weights = {"w": np.ones((3, 2), np.float32), "b": [np.float32(1)]}

    def function(weights, images):
        return images.mean((1, 2)) @ weights["w"] + weights["b"][0]

    network = networks.from_function(function, weights)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, network.variables)
    program = embedding.network(network.model)
    images = tiny.noise(2)
    once, twice = (program(variables, images).logits for variables in (network.variables, doubled))
    assert_allclose(twice, 2 * np.asarray(once), rtol=1e-5)
    assert program._cache_size() == 1
    text = program.lower(network.variables, images).as_text()
    assert "dense<1.000000e+00> : tensor<3x2" not in text


def test_maps_are_shown_in_their_order_and_without_them_there_are_none():
    def function(weights, images):
        return images.mean((1, 2))

    maps = networks.from_function(function, (), lambda _, images: tuple(k * images for k in range(12)))
    shown = bound(maps).maps(IMAGES[0])
    assert_allclose(shown, np.arange(12).reshape(-1, 1, 1, 1) * np.asarray(IMAGES[0]), atol=1e-6)
    with refused(match="shows no layers of its own"):
        bound(networks.from_function(function, ())).maps(IMAGES[0])


def test_half_precision_and_images_of_other_sizes_are_taken():
    network = networks.from_function(lambda _, images: images.mean((1, 2)).astype(jnp.bfloat16), ())
    outputs = network.model.apply(network.variables, jnp.ones((3, 9, 7, 3)))
    assert outputs.logits.dtype == outputs.features.dtype == jnp.float32
    assert_allclose(outputs.logits, np.ones((3, 3)))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda _, images: images.mean((1, 2)), r"makes logits \(1, 3\).*must be \(1, 2\)"),
        (lambda _, images: (images.mean((1, 2))[:, :2], images), r"features \(1, 16, 16, 3\)"),
        (lambda _, images: images @ jnp.ones((5, 2)), "takes no images of 16 x 16 x 3: "),
        (lambda _, images: None, "takes no images of 16 x 16 x 3: "),
    ],
)
def test_a_network_that_does_not_fit_its_classes_or_images_is_refused(function, said):
    with refused(match=said):
        releases.classifier(networks.from_function(function, ()), ("cat", "dog"), tiny.SHAPE)


def test_a_network_of_ones_own_cannot_be_written(tmp_path):
    network = networks.from_function(lambda _, images: images.mean((1, 2)), ())
    release = releases.classifier(network, tiny.NAMES, tiny.SHAPE)
    with refused(match="cannot be written"):
        releases.save(tmp_path / "x.safetensors", release)
    assert not (tmp_path / "x.safetensors").exists()
