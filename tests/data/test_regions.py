"""Regions: rectangles in pixels and percent, and mask files that follow the crop and the orientation."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.data import crops, image_files, regions
from rsynth_jax.data.crops import Box, Frame

WIDE = Frame(40, 80, Box(20, 0, 40, 40))  # the central square


def region(words, frame=WIDE) -> np.ndarray:
    return regions.read(words).within(frame, frame.box.height, frame.box.width)[:, :, 0]


@pytest.mark.parametrize("word", ["30,10,50,20", "37.5%,25%,62.5%,50%", "30, 25%, 62.5%, 20"])
def test_a_rectangle_is_left_top_right_bottom_of_the_photograph(word):
    expected = np.zeros((40, 40))
    expected[10:20, 10:30] = 1
    assert_array_equal(region([word]), expected)


def test_several_are_their_union_and_a_small_one_has_the_means():
    both = region(["30,10,50,20", "40,15,60,30"])
    expected = np.zeros((40, 40))
    expected[10:20, 10:30] = expected[15:30, 20:40] = 1
    assert_array_equal(both, expected)
    small = regions.read(["21,0,22,4"]).within(WIDE, 10, 10)[:, :, 0]
    assert small[0, 0] == 0.25 and small.sum() == 0.25


@pytest.mark.parametrize("orientation", [1, 6, 8, 5, 7])
def test_a_mask_of_the_photographs_size_follows_it(tmp_path, orientation):
    """The mask is the photograph itself, as it is stored and as it is seen."""
    stored, exif = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8), Pillow.Exif()
    stored[0, 0] = 255
    exif[0x0112] = orientation
    photo, mask, seen = (tmp_path / f"{name}.png" for name in ("photo", "mask", "seen"))
    Pillow.fromarray(stored).save(photo, exif=exif)
    Pillow.fromarray(stored).save(mask)
    upright = image_files.read_photograph(photo).pixels
    Pillow.fromarray(upright[:, :, 0]).save(seen)
    frame = image_files.frame(photo, Box(5, 3, 30, 20))
    assert (frame.height, frame.width) == upright.shape[:2]
    expected = np.float32(crops.cut(upright, frame.box)[:, :, 0]) / np.float32(255)
    assert_array_equal(region([str(mask)], frame), expected)
    assert_array_equal(region([str(seen)], frame), expected)


def test_any_other_mask_is_of_the_part_worked_on(tmp_path):
    mask = np.zeros((4, 8), np.uint8)
    mask[:2, 2:4] = 255  # the upper left quarter of its central square
    Pillow.fromarray(mask).save(tmp_path / "m.png")
    expected = np.zeros((40, 40))
    expected[:20, :20] = 1
    assert_array_equal(region([str(tmp_path / "m.png")]), expected)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("40%,30%,60%", "cannot read the rectangle 40%,30%,60%: give left,top,right,bottom, four numbers"),
        ("50,10,30,20", "the rectangle 50,10,30,20 is empty"),
        ("0,0,10,10", "outside of the part worked on"),
        ("1,2,3", "cannot read the rectangle 1,2,3"),
    ],
)
def test_a_rectangle_that_makes_no_sense_is_refused(word, said):
    with refused(match=said):
        region([word])
