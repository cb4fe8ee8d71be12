"""The networks for images of twice the side: their first outputs, and training from the smaller one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose

from rsynth_jax import models
from rsynth_jax.models import enlargement
from rsynth_jax.training import build
from rsynth_jax.training import run as runs
from rsynth_jax.training.recipes import RECIPES, replace

RNG = np.random.default_rng(0)


def seen(images, kernel, stride, padding):
    pads = ((padding, padding),) * 2
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def doubled(images):
    return images.repeat(2, axis=1).repeat(2, axis=2)


def test_a_larger_kernel_sees_doubled_pixels_as_the_other_sees_their_halves():
    kernel = RNG.normal(size=(4, 4, 3, 5)).astype(np.float32)
    images = RNG.random((2, 16, 16, 3), np.float32)
    params = {enlargement.FIRST: {"kernel": kernel}}
    larger = enlargement.larger_kernel({"params": params}, {})["params"][enlargement.FIRST]["kernel"]
    assert_allclose(seen(doubled(images), larger, 4, 2), seen(images, kernel, 2, 1), rtol=1e-4, atol=1e-5)


def test_behind_a_halving_the_outputs_of_doubled_pixels_are_those_of_their_halves(small):
    model, variables = small
    larger = models.create(models.Config("resnet11-64", 10))
    images = RNG.random((2, 16, 16, 3), np.float32)
    drawn = larger.init(jax.random.key(1), doubled(images))
    found = enlargement.halving_before(variables, drawn)
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, drawn)
    assert_allclose(
        larger.apply(found, doubled(images)).logits,
        model.apply(variables, images).logits,
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("architecture", ["resnet8-64", "resnet11-64"])
def test_training_goes_on_from_a_classifier_of_images_of_half_the_side(architecture, tmp_path, small):
    release = tiny.release(tmp_path / "c.safetensors", tiny.NAMES, "resnet8", small[1])
    wanted = replace(RECIPES["restricted-imagenet-64"], architecture=architecture)
    recipe = build.recipe_from_release(wanted, release)
    assert recipe.network.architecture == architecture and recipe.network.mean == release.config.mean
    recipe = replace(recipe, batch_size=2, epochs=1)
    images, labels = RNG.integers(0, 256, (6, 32, 32, 3), np.uint8), np.arange(6) % 3
    run = runs.prepare(recipe, images, labels, tiny.NAMES, 6)
    found = dict(runs.start(run, release).variables)
    drawn = models.create(run.config).init(run.keys[0], jnp.zeros((1, 32, 32, 3)))
    enlarge = enlargement.ENLARGEMENTS["resnet8", architecture]
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-6), found, enlarge(release.variables, drawn))
    other = runs.prepare(replace(recipe, architecture="resnet18"), images, labels, tiny.NAMES, 6)
    with tiny.refused(match="another network than the recipe's"):
        runs.start(other, release)


def test_a_recipe_of_another_network_takes_that_of_its_start(tmp_path, small):
    release = tiny.release(tmp_path / "c.safetensors", tiny.NAMES, "resnet8", small[1])
    recipe = build.recipe_from_release(RECIPES["imagenet"], release)
    assert recipe.network.architecture == "resnet8"
