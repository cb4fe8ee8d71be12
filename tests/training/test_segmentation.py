"""The training of a segmenter: images move with their masks, rare classes weigh more, bad values end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax.training import segmentation
from rsynth_jax.training.recipes import flat, replace
from rsynth_jax.training.segmenter_recipes import RECIPES, MoveValues, SegmenterRecipe

RNG = np.random.default_rng(0)
STILL = MoveValues(flip=0.0, translation=0.0, zoom=0.0)
IMAGE, MASK = jnp.asarray(RNG.random((8, 8, 3)), jnp.float32), jnp.asarray(RNG.integers(0, 5, (8, 8)))
KEYS = jax.random.split(jax.random.key(0), 20)


def moved(values: MoveValues, image=IMAGE, mask=MASK):
    one = jax.jit(jax.vmap(lambda key: segmentation.moved(values, key, image, mask)))
    return tuple(map(np.asarray, one(KEYS)))


def test_without_amounts_nothing_moves_and_flips_mirror_both():
    for values, image, mask in (
        (STILL, IMAGE, MASK),
        (STILL._replace(flip=1.0), IMAGE[:, ::-1], MASK[:, ::-1]),
    ):
        images, masks = moved(values)
        assert_allclose(images, np.broadcast_to(image, images.shape), atol=1e-6)
        assert_array_equal(masks, np.broadcast_to(mask, masks.shape))


def test_an_image_moves_with_its_mask_and_every_draw_differs():
    mask = jnp.asarray(np.kron(np.eye(4), np.ones((8, 8))), jnp.int32)
    image = jnp.repeat(mask[..., None].astype(jnp.float32), 3, axis=2)
    images, masks = moved(MoveValues(), image, mask)
    assert len({each.tobytes() for each in masks}) > 15
    assert ((images[..., 0] > 0.5) == (masks == 1)).mean() > 0.97
    assert set(np.unique(masks)) == {0, 1} and images.min() >= 0 and images.max() <= 1


def test_the_weights_are_one_over_the_root_of_the_shares_with_mean_1():
    shares = np.array([0.64, 0.36, 0.0])
    weights = segmentation.class_weights(shares)
    assert_allclose(weights[0] / weights[1], 0.6 / 0.8, rtol=1e-6)
    assert_allclose(weights @ shares, 1, rtol=1e-6)
    assert weights[2] == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_steps": 0}, "num_steps is 0"),
        ({"width": -1}, "width is -1"),
        ({"flip": 2.0}, "flip is 2.0: give 0 or more, and at most 1"),
        ({"zoom": 1.0}, "zoom is 1.0: give 0 or more, and less than 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"contrast": -1.0}, "contrast is -1.0"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"seed": -1}, "seed is -1"),
    ],
    ids=str,
)
def test_a_recipe_that_makes_no_sense_is_refused(values, message):
    with refused(match=message):
        segmentation.validate(replace(SegmenterRecipe(), **values))


def test_every_value_of_a_recipe_has_a_name_of_its_own():
    recipe = RECIPES["facades-64"]
    groups = [recipe, recipe.move, recipe.adam]
    assert len(flat(recipe)) == sum(map(len, groups)) - 2


def test_images_that_do_not_fit_are_refused():
    images, masks = np.zeros((4, 12, 16, 3), np.uint8), np.zeros((4, 12, 16), np.uint8)
    with refused(match="4 training images do not fill a batch of 16"):
        segmentation.prepare(SegmenterRecipe(), images, masks, ("wall",))
    with refused(match="images of 12 x 16: a segmenter takes sides that are multiples of 8"):
        segmentation.prepare(SegmenterRecipe(batch_size=2), images, masks, ("wall",))
