"""The augmentation: its parts in closed form, the identity at 0, one image at a time, and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax.training import augmentation
from rsynth_jax.training.augmentation import GREY, chain, color, cutout, translation

RNG = np.random.default_rng(0)
IMAGE = RNG.random((8, 12, 3), np.float32)
KEYS = jax.random.split(jax.random.key(0), 40)
WHOLE = chain(color(0.25, 1.0, 0.5), translation(1 / 4), cutout(1 / 2))


def many(augment, image=IMAGE):
    """The image augmented by every key."""
    return np.asarray(jax.jit(jax.vmap(augment, (0, None)))(KEYS, image))


@pytest.mark.parametrize(
    "augment",
    [
        augmentation.identity,
        color(0.0, 0.0, 0.0),
        translation(0.0),
        cutout(0.0),
        chain(color(0.0, 0.0, 0.0), translation(0.0), cutout(0.0)),
        chain(),
    ],
    ids=["identity", "color", "translation", "cutout", "all", "none"],
)
def test_amounts_of_0_are_the_identity(augment):
    assert_allclose(many(augment), np.broadcast_to(IMAGE, (40, *IMAGE.shape)), atol=1e-6)


def test_an_image_of_a_batch_is_augmented_as_alone():
    images = RNG.random((40, 8, 12, 3), np.float32)
    batch = jax.jit(jax.vmap(WHOLE))(KEYS, images)
    alone = jax.jit(WHOLE)
    assert_allclose(
        batch, np.stack([alone(key, image) for key, image in zip(KEYS, images, strict=True)]), atol=1e-6
    )
    assert batch.shape == images.shape and batch.dtype == images.dtype


def test_the_parts_of_a_chain_have_keys_of_their_own():
    first, second = cutout(0.5), cutout(0.5)
    keys = jax.random.split(KEYS[0])
    assert_array_equal(chain(first, second)(KEYS[0], IMAGE), second(keys[1], first(keys[0], IMAGE)))


def moved(down: int, right: int) -> np.ndarray:
    """As np.roll, grey where pixels would come back from the other side."""
    height, width, _ = IMAGE.shape
    rolled = np.roll(IMAGE, (down, right), axis=(0, 1))
    rows, columns = np.arange(height) - down, np.arange(width) - right
    kept = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    return np.where(kept[..., None], rolled, np.float32(GREY))


def test_a_translation_moves_by_whole_pixels_up_to_the_share_and_leaves_grey():
    possible = {(down, right): moved(down, right) for down in range(-2, 3) for right in range(-3, 4)}
    found = [
        next(place for place, image in possible.items() if np.abs(image - made).max() < 1e-6)
        for made in many(translation(1 / 4))
    ]
    rows, columns = (set(places) for places in zip(*found, strict=True))
    assert rows == set(range(-2, 3)) and columns == set(range(-3, 4))


def test_a_translation_keeps_the_gradient_of_what_stays():
    place = next(key for key in KEYS if not np.allclose(translation(1 / 4)(key, IMAGE), IMAGE))
    slope = jax.grad(lambda image: translation(1 / 4)(place, image).sum())(IMAGE)
    assert set(np.unique(slope)) == {0.0, 1.0}


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_a_cutout_is_one_grey_rectangle_of_that_share_of_each_side(share):
    cut = (many(cutout(share)) == GREY).all(axis=-1)
    rows, columns = cut.any(axis=2), cut.any(axis=1)
    assert_array_equal(cut, rows[:, :, None] & columns[:, None, :])
    for part, side in ((rows, 8), (columns, 12)):
        for line in part:
            inside = np.flatnonzero(line)
            assert inside.size <= round(share * side) and np.ptp(inside) == inside.size - 1
            at_the_edge = inside[0] == 0 or inside[-1] == side - 1
            assert at_the_edge or inside.size == round(share * side)
    kept = np.where(cut[..., None], np.float32(GREY), IMAGE)
    assert_array_equal(many(cutout(share)), kept)


def test_gradient_reaches_every_pixel_that_is_not_cut():
    augment = chain(color(0.25, 1.0, 0.5), cutout(1 / 2))

    @jax.jit
    @jax.vmap
    def sensitivity(key):
        return jax.grad(lambda image: jnp.sum(augment(key, image) ** 2))(IMAGE)

    cut = (many(augment) == GREY).all(axis=-1)
    assert cut.any() and (np.abs(sensitivity(KEYS)).max(axis=-1)[~cut] > 1e-4).all()


def test_the_color_is_a_shift_then_the_saturation_then_the_contrast():
    draws = np.asarray(jax.random.uniform(KEYS[0], (3,), minval=-1, maxval=1))
    shift, saturate, sharpen = draws * [0.25, 1.0, 0.5]
    image = IMAGE + shift
    grey = image.mean(axis=-1, keepdims=True)
    image = grey + (1 + saturate) * (image - grey)
    expected = image.mean() + (1 + sharpen) * (image - image.mean())
    assert_allclose(color(0.25, 1.0, 0.5)(KEYS[0], IMAGE), expected, atol=1e-6)


def test_brightness_alone_shifts_within_its_amount_and_contrast_alone_keeps_the_mean():
    shifts = many(color(0.25, 0.0, 0.0)) - IMAGE
    assert_allclose(shifts, np.broadcast_to(shifts[:, :1, :1, :1], shifts.shape), atol=1e-6)
    assert 0.2 < shifts.max() <= 0.25 and -0.25 <= shifts.min() < -0.2
    for augment in (color(0.0, 0.0, 0.5), color(0.0, 1.0, 0.0)):
        assert_allclose(many(augment).mean((1, 2, 3)), np.full(40, IMAGE.mean()), rtol=1e-5)
