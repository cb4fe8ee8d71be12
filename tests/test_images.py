"""Laws of the functions of arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax import images

IMAGE = np.random.default_rng(0).random((6, 4, 3), np.float32)
PIXELS = arrays(np.float32, (4, 6, 3), elements=st.floats(0, 1, width=32))
HOLES = arrays(bool, (4, 6, 1))
fill = jax.jit(images.fill)


@given(image=PIXELS, factor=st.sampled_from([1, 2, 3]))
def test_downsampling_undoes_upsampling(image, factor):
    assert_allclose(images.downsample(images.upsample(image, factor), factor), image, atol=1e-6)


def test_upsampling_repeats_every_pixel():
    assert_array_equal(images.upsample(IMAGE, 3), IMAGE.repeat(3, axis=0).repeat(3, axis=1))


def test_downsampling_takes_the_means_of_blocks():
    expected = [[IMAGE[i : i + 2, j : j + 2].mean((0, 1)) for j in (0, 2)] for i in (0, 2, 4)]
    assert_allclose(images.downsample(IMAGE, 2), expected, rtol=1e-6)


@pytest.mark.parametrize("factor", [3, 4])
def test_a_factor_that_divides_only_one_side_is_refused(factor):
    with pytest.raises(ValueError, match=f"6 x 4 does not divide into blocks of {factor}"):
        images.downsample(IMAGE, factor)


@given(image=PIXELS, hole=HOLES)
def test_filling_keeps_the_known_pixels(image, hole):
    filled = np.asarray(fill(image, hole))
    assert_array_equal(filled[~hole[..., 0]], image[~hole[..., 0]])


@given(image=PIXELS, hole=HOLES.filter(lambda hole: hole.any() and not hole.all()))
def test_filling_takes_the_mean_color_of_the_known_pixels(image, hole):
    filled, known = np.asarray(fill(image, hole)), image[~hole[..., 0]]
    expected = np.broadcast_to(known.mean(0), (hole.sum(), 3))
    assert_allclose(filled[hole[..., 0]], expected, atol=1e-6)


def test_filling_an_image_that_is_all_hole_stays_finite():
    assert np.isfinite(images.fill(IMAGE, np.ones((6, 4, 1), bool))).all()


# ---- the harmonic_fill

RAMP = np.add.outer(np.linspace(0, 0.4, 9), np.linspace(0.1, 0.6, 7)).astype(np.float32)[:, :, None]
HOLE = np.zeros((9, 7, 1), np.float32)
HOLE[2:7, 2:6] = 1
harmonic_fill = jax.jit(images.harmonic_fill)


def noise(*shape) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def test_a_membrane_over_a_hole_in_a_ramp_is_the_ramp_whatever_was_in_the_hole():
    for filling in (0, 1, noise(9, 7, 1)):
        assert_allclose(harmonic_fill(np.where(HOLE > 0, filling, RAMP), HOLE), RAMP, atol=1e-4)


@pytest.mark.parametrize("missing", [HOLE, HOLE * noise(9, 7, 1), noise(9, 7, 1) * (noise(9, 7, 1) > 0.3)])
def test_a_membrane_solves_its_equation_and_keeps_what_is_known_to_the_last_bit(missing):
    image = noise(9, 7, 3)
    found = np.asarray(harmonic_fill(image, missing))
    assert_array_equal(found[missing[..., 0] == 0], image[missing[..., 0] == 0])
    assert_allclose(found, (1 - missing) * image + missing * images.neighbors(found), atol=1e-4)
    assert found.min() >= image.min() - 1e-4 and found.max() <= image.max() + 1e-4


def test_a_membrane_with_nothing_to_hold_it_stays_finite():
    assert np.isfinite(harmonic_fill(IMAGE, np.ones((6, 4, 1), np.float32))).all()


def test_a_membrane_bends_the_same_whichever_image_is_beside_it():
    pictures = noise(3, 9, 7, 1)
    together = jax.vmap(harmonic_fill, (0, None))(pictures, HOLE)
    assert_allclose(together, [harmonic_fill(picture, HOLE) for picture in pictures], atol=1e-5)


def test_blends_hold_every_blend_and_nothing_else_where_nothing_or_everything_is_missing():
    image, missing = noise(5, 5, 3), np.float32(np.arange(5) / 4)[:, None, None]
    least, greatest = images.blends(image, missing)
    assert_array_equal(least[0], image[0])
    assert_array_equal(greatest[0], image[0])
    assert_array_equal(least[4], 0)
    assert_array_equal(greatest[4], 1)
    for new in (0, 1):
        blend = (1 - missing) * image + missing * np.float32(new)
        assert_allclose(blend, (least, greatest)[new], atol=1e-6)


# ---- bytes, augmentation, the grid


def test_encoding_undoes_decoding_for_every_byte():
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    decoded = images.decode(every)
    assert decoded.dtype == jnp.float32 and decoded.min() == 0 and decoded.max() == 1
    assert_array_equal(images.encode(decoded), every)


def test_encoding_clips_and_rounds_to_the_nearest_byte():
    values = jnp.array([-1.0, 2.0, 100.4 / 255, 100.6 / 255])
    assert_array_equal(images.encode(values), np.uint8([0, 255, 100, 101]))


def test_a_crop_without_padding_is_the_identity():
    assert_array_equal(images.random_crop(jax.random.key(0), IMAGE, 0), IMAGE)


def test_crops_are_the_windows_of_the_zero_padded_image_and_every_window_occurs():
    padded = np.pad(IMAGE, ((1, 1), (1, 1), (0, 0)))
    windows = {padded[i : i + 6, j : j + 4].tobytes() for i in range(3) for j in range(3)}
    keys = jax.random.split(jax.random.key(0), 200)
    crops = np.asarray(jax.vmap(lambda key: images.random_crop(key, IMAGE, 1))(keys))
    assert {crop.tobytes() for crop in crops} == windows


def test_shifts_are_the_windows_of_the_mirrored_image_and_every_one_occurs():
    rows = [np.concatenate([IMAGE[::i, ::j] for j in (-1, 1, -1)], axis=1) for i in (-1, 1, -1)]
    tiled = np.concatenate(rows)
    height, width, _ = IMAGE.shape
    windows = [
        tiled[i : i + height, j : j + width]
        for i in range(height - 1, height + 2)
        for j in range(width - 1, width + 2)
    ]
    keys = jax.random.split(jax.random.key(0), 200)
    shifts = np.asarray(jax.vmap(lambda key: images.random_shift(key, IMAGE, 1))(keys))
    assert {shift.tobytes() for shift in shifts} == {window.tobytes() for window in windows}


def test_flips_are_the_image_and_its_mirror_and_both_occur():
    keys = jax.random.split(jax.random.key(0), 50)
    flips = np.asarray(jax.vmap(lambda key: images.random_flip(key, IMAGE))(keys))
    assert {flip.tobytes() for flip in flips} == {IMAGE.tobytes(), IMAGE[:, ::-1].tobytes()}
