"""The part of a photograph that is worked on, and the way back: nothing else changes by a byte."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.data import crops
from rsynth_jax.data.crops import Box

RNG = np.random.default_rng(0)
BOX = Box(20, 8, 48, 32)


def noise(*shape) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_no_change_changes_no_byte(channels):
    photo, small = noise(60, 90, channels), noise(16, 16, 3)
    assert_array_equal(crops.composite(photo, BOX, small, small), photo)


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_outside_the_box_or_the_weights_changes(channels):
    photo = noise(60, 90, channels)
    before, after = noise(2, 16, 16, 3)
    weights = np.zeros((32, 48, 1), np.float32)
    weights[4:9, 10:20] = 1
    for made in (
        crops.composite(photo, BOX, before, after, weights),
        crops.fill(photo, BOX, after, weights),
    ):
        changed = (made != photo).any(axis=-1)
        inside = np.s_[12:17, 30:40]
        assert changed[inside].mean() > 0.9
        changed[inside] = False
        assert not changed.any()


def test_a_smooth_photograph_becomes_the_result_enlarged():
    """photo = up(before), so that photo + up(after - before) = up(after): resizing is linear."""
    before, after = np.uint8(100 + noise(2, 8, 8, 3) // 8)
    photo = np.uint8(np.rint(crops.resized(before, 32, 32)))
    found = crops.composite(photo, crops.whole(32, 32), before, after)
    assert_allclose(found, crops.resized(after, 32, 32), atol=1.01)
    assert_allclose(
        crops.fill(photo, Box(0, 0, 32, 32), after, np.ones((32, 32, 1), np.float32)), found, atol=1
    )


def test_what_fills_a_hole_does_not_depend_on_what_was_in_it():
    first, second = noise(2, 60, 90, 3)
    hole = np.ones((32, 48, 1), np.float32)
    after = noise(16, 16, 3)
    filled = [crops.cut(crops.fill(photo, BOX, after, hole), BOX) for photo in (first, second)]
    assert_array_equal(*filled)


def test_what_is_known_has_nothing_of_the_hole():
    first, second = noise(2, 60, 90, 3)
    hole = np.zeros((32, 48, 1), np.float32)
    hole[5:21, 7:30] = 1
    crops.cut(second, BOX)[:] = np.where(hole == 1, crops.cut(second, BOX), crops.cut(first, BOX))
    lowered = crops.known(first, BOX, hole, 16)
    assert_array_equal(crops.known(second, BOX, hole, 16), lowered)
    means = crops.resized(crops.cut(first, BOX), 16, 16, Pillow.Resampling.BOX)
    assert_allclose(lowered[11:], means[11:], atol=0.51)
    assert_allclose(lowered[2, 5], crops.cut(first, BOX)[4, 15:18].mean(axis=0), atol=0.51)


def test_without_lowering_known_pixels_stay_and_a_soft_edge_too():
    photo, soft = noise(16, 16, 3), np.float32(noise(16, 16, 1) / 256)
    assert_array_equal(crops.known(photo, crops.whole(16, 16), soft, 16), photo)


def test_a_gray_photograph_gets_the_luma_of_the_change():
    photo, zero = np.full((16, 16, 1), 50, np.uint8), np.zeros((4, 4, 3), np.uint8)
    red = zero + np.uint8([100, 0, 0])
    found = crops.composite(photo, crops.whole(16, 16), zero, red)
    assert found.shape == photo.shape
    expected = np.asarray(Pillow.fromarray(red).convert("L"))[0, 0]
    assert_allclose(found, 50 + int(expected), atol=1)


def test_a_change_fades_at_the_borders_inside_the_photograph_alone():
    inner = crops.feathered(60, 90, BOX)[:, :, 0]
    assert inner[0].max() < 0.3 and inner[:, 0].max() < 0.3 and inner[16, 24] == 1
    assert (crops.feathered(32, 48, Box(0, 0, 48, 32)) == 1).all()
    assert (np.diff(inner[16, :6]) >= 0).all() and (inner >= 0).all() and (inner <= 1).all()


@pytest.mark.parametrize(
    ("box", "said"),
    [
        (Box(0, 0, 0, 4), "is empty"),
        (Box(-1, 0, 4, 4), "is empty"),
        (Box(80, 0, 11, 4), "the crop 80,0,11,4 leaves the photograph of 90 x 60"),
    ],
)
def test_a_box_that_makes_no_sense_is_refused(box, said):
    with refused(match=said):
        crops.box_in(60, 90, box)
    assert crops.box_in(60, 90, None) == Box(15, 0, 60, 60)
