"""Sheets: every pixel in its place, a frame for every page."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from PIL import ImageFont
from tiny import refused

from rsynth_jax.cli import sheets
from rsynth_jax.cli.sheets import FONT, GAP, LINE, MARGIN, SIDE, Page

RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def length(text: str) -> int:
    return int(ImageFont.load_default(FONT).getlength(text))


def test_small_images_are_enlarged_by_a_whole_factor_and_large_ones_are_not():
    small, wide, large = noise(2, 32, 32, 3), noise(2, 10, 50, 3), noise(2, 100, 90, 3)
    assert_array_equal(sheets.enlarge(small), small.repeat(3, 1).repeat(3, 2))
    assert_array_equal(sheets.enlarge(wide), wide.repeat(2, 1).repeat(2, 2))
    assert_array_equal(sheets.enlarge(large), large)


@given(side=st.integers(1, 200))
def test_an_enlarged_side_is_the_first_multiple_that_is_large_enough(side):
    large = sheets.enlarge(np.zeros((1, side, side, 3), np.uint8)).shape[1]
    assert large % side == 0 and large >= SIDE and (large == side or large - side < SIDE)


def test_gray_images_are_shown_in_gray():
    images = noise(2, 80, 80, 1)
    assert_array_equal(sheets.enlarge(images), images.repeat(3, axis=3))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (3, 3), (1, 8)])
def test_a_sheet_has_room_for_its_rows_and_columns(rows, columns):
    sheet = sheets.draw(Page(noise(rows, columns, 80, 80, 3), ["cat"] * rows, ""))
    left = 2 * MARGIN + length("cat")
    assert sheet.height == LINE + rows * (80 + GAP) + MARGIN
    assert sheet.width == left + columns * (80 + GAP) + MARGIN


def test_a_long_title_widens_the_sheet():
    title = "a title that is much longer than the one image below it"
    assert sheets.draw(Page(noise(1, 1, 80, 80, 3), ["cat"], title)).width >= 2 * MARGIN + length(title)


@pytest.mark.parametrize("shape", [(32, 32, 3), (100, 90, 3), (32, 16, 1)])
def test_every_image_is_in_its_place_on_white(shape):
    cells = noise(3, 2, *shape)
    sheet = np.asarray(sheets.draw(Page(cells, ["cat", "a long name", "dog"], "title")))
    left = 2 * MARGIN + length("a long name")
    shown = np.zeros(sheet.shape[:2], bool)
    for row, images in enumerate(cells):
        for column, picture in enumerate(sheets.enlarge(images)):
            height, width = picture.shape[:2]
            top, start = LINE + row * (height + GAP), left + column * (width + GAP)
            place = np.s_[top : top + height, start : start + width]
            assert_array_equal(sheet[place], picture)
            shown[place] = True
    grid = np.s_[LINE : LINE + 3 * (height + GAP), left : left + 2 * (width + GAP)]
    assert (sheet[grid][~shown[grid]] == 255).all()


def test_the_names_are_beside_their_rows_and_the_title_above():
    cells = np.full((2, 1, 80, 80, 3), 255, np.uint8)
    sheet = np.asarray(sheets.draw(Page(cells, ["cat", ""], "title")))
    inked = (sheet < 128).any(axis=(1, 2))
    assert inked[:LINE].any() and inked[LINE : LINE + 80].any() and not inked[LINE + 84 :].any()


def test_a_bare_sheet_is_the_images_alone():
    cells = noise(2, 3, 80, 80, 3)
    sheet = np.asarray(sheets.draw(sheets.bare(Page(cells, ["cat", "dog"], "title"))))
    assert sheet.shape == (2 * 80 + GAP, 3 * 80 + 2 * GAP, 3)
    assert_array_equal(sheet[80 + GAP :, :80], cells[1, 0])
    assert_array_equal(np.asarray(sheets.draw(Page(cells[:1, :1], (), ""))), cells[0, 0])


def test_a_written_sheet_is_the_sheet_as_a_png_and_twice_the_same(tmp_path):
    page = Page(noise(2, 2, 16, 16, 3), ["cat", "dog"], "title")
    for name in ("one", "two"):
        sheets.write_picture(tmp_path / f"new/{name}.png", sheets.draw(page))
    with Pillow.open(tmp_path / "new/one.png") as picture:
        assert picture.format == "PNG"
        assert_array_equal(picture, sheets.draw(page))
    assert (tmp_path / "new/one.png").read_bytes() == (tmp_path / "new/two.png").read_bytes()


def test_a_written_image_has_the_same_pixels(tmp_path):
    image = noise(16, 12, 3)
    sheets.write_picture(tmp_path / "image.png", Pillow.fromarray(image))
    with Pillow.open(tmp_path / "image.png") as picture:
        assert_array_equal(picture, image)


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".PNG", "PNG"), (".bmp", "BMP"), (".webp", "WEBP"), (".jpeg", "JPEG")]
)
def test_a_picture_has_the_format_of_its_suffix(tmp_path, suffix, kind):
    image = np.full((16, 16, 3), 200, np.uint8)
    sheets.write_picture(tmp_path / f"a{suffix}", Pillow.fromarray(image))
    with Pillow.open(tmp_path / f"a{suffix}") as picture:
        assert picture.format == kind
        assert_array_equal(picture, image)


def test_a_picture_without_a_format_or_too_large_for_it_is_refused_and_a_device_takes_a_png(tmp_path):
    sheets.write_picture(Path(os.devnull), Pillow.fromarray(noise(4, 4, 3)))
    for name in ("a", "a.tif", "a.json"):
        with refused(match=f"cannot write .*{name}: end its name in .png or .jpg"):
            sheets.write_picture(tmp_path / name, Pillow.fromarray(noise(4, 4, 3)))
    with refused(match="cannot write .*a.webp: "):
        sheets.write_picture(tmp_path / "a.webp", Pillow.fromarray(np.zeros((16384, 1, 3), np.uint8)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("num", [1, 2, 5])
def test_an_animation_has_a_frame_for_every_page_and_stays_longest_on_the_last(tmp_path, num):
    pages = [Page(cells, ["cat"], f"{i} steps") for i, cells in enumerate(noise(num, 1, 2, 16, 16, 3))]
    sheets.write_animation(tmp_path / "a.gif", pages)
    durations, sizes = [], set()
    with Pillow.open(tmp_path / "a.gif") as picture:
        assert picture.format == "GIF" and picture.n_frames == num
        for i in range(num):
            picture.seek(i)
            durations.append(picture.info.get("duration"))
            sizes.add(picture.size)
    assert len(sizes) == 1
    assert durations[-1] == 2500 and set(durations[:-1]) <= {250}


def test_pages_that_look_alike_keep_their_frames(tmp_path):
    cells = np.zeros((1, 1, 16, 16, 3), np.uint8)
    sheets.write_animation(tmp_path / "a.gif", [Page(cells, ["cat"], f"{i} of 3") for i in range(4)])
    with Pillow.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 4
