"""Pictures: every pixel where it belongs, a frame for every stage, curves from a log."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from PIL import ImageFont

from rsynth_jax.cli import sheets as pictures
from rsynth_jax.cli.sheets import FONT, GAP, LINE, MARGIN, SIDE

RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def length(text: str) -> int:
    return int(ImageFont.load_default(FONT).getlength(text))


def test_small_images_are_enlarged_by_a_whole_factor_and_large_ones_are_not():
    small, wide, large = noise(2, 32, 32, 3), noise(2, 10, 50, 3), noise(2, 100, 90, 3)
    assert_array_equal(pictures.enlarged(small), small.repeat(3, 1).repeat(3, 2))
    assert_array_equal(pictures.enlarged(wide), wide.repeat(2, 1).repeat(2, 2))
    assert_array_equal(pictures.enlarged(large), large)


@given(side=st.integers(1, 200))
def test_an_enlarged_side_is_the_first_multiple_that_is_large_enough(side):
    large = pictures.enlarged(np.zeros((1, side, side, 3), np.uint8)).shape[1]
    assert large % side == 0 and large >= SIDE and (large == side or large - side < SIDE)


def test_gray_images_are_shown_in_gray():
    images = noise(2, 80, 80, 1)
    assert_array_equal(pictures.enlarged(images), images.repeat(3, axis=3))


@pytest.mark.parametrize(("num", "columns", "rows"), [(1, 1, 1), (6, 3, 2), (7, 3, 3), (4, 8, 1)])
def test_a_sheet_has_room_for_its_rows_and_columns(num, columns, rows):
    page = pictures.sheet(noise(num, 80, 80, 3), columns, ["cat"] * rows, "")
    left = 2 * MARGIN + length("cat")
    assert page.height == LINE + rows * (80 + GAP) + MARGIN
    assert page.width == left + columns * (80 + GAP) + MARGIN


def test_a_long_title_widens_the_sheet():
    title = "a title that is much longer than the one image below it"
    assert pictures.sheet(noise(1, 80, 80, 3), 1, ["cat"], title).width >= MARGIN + length(title) + MARGIN


@pytest.mark.parametrize("shape", [(32, 32, 3), (100, 90, 3), (32, 16, 1)])
def test_every_image_stands_in_its_place(shape):
    images = noise(7, *shape)
    page = np.asarray(pictures.sheet(images, 3, ["cat", "a long name", "dog"], "title"))
    left = 2 * MARGIN + length("a long name")
    for i, picture in enumerate(pictures.enlarged(images)):
        row, column = divmod(i, 3)
        top, start = LINE + row * (picture.shape[0] + GAP), left + column * (picture.shape[1] + GAP)
        assert_array_equal(page[top : top + picture.shape[0], start : start + picture.shape[1]], picture)


def test_the_names_stand_beside_their_rows_and_the_title_above():
    page = np.asarray(pictures.sheet(np.full((2, 80, 80, 3), 255, np.uint8), 1, ["cat", ""], "title"))
    inked = (page < 128).any(axis=(1, 2))
    assert inked[:LINE].any() and inked[LINE : LINE + 80].any() and not inked[LINE + 84 :].any()


def test_a_written_sheet_is_the_sheet_as_a_png_and_twice_the_same(tmp_path):
    images = noise(4, 16, 16, 3)
    for name in ("one", "two"):
        pictures.write_sheet(tmp_path / f"new/{name}.png", images, 2, ["cat", "dog"], "title")
    with Pillow.open(tmp_path / "new/one.png") as picture:
        assert picture.format == "PNG"
        assert_array_equal(picture, pictures.sheet(images, 2, ["cat", "dog"], "title"))
    assert (tmp_path / "new/one.png").read_bytes() == (tmp_path / "new/two.png").read_bytes()


@pytest.mark.parametrize("num", [1, 2, 5])
def test_an_animation_has_a_frame_for_every_stage_and_rests_on_the_last(tmp_path, num):
    frames = noise(num, 2, 16, 16, 3)
    pictures.write_animation(tmp_path / "a.gif", frames, 2, ["cat"], [f"{i} steps" for i in range(num)])
    durations, sizes = [], set()
    with Pillow.open(tmp_path / "a.gif") as picture:
        assert picture.format == "GIF" and picture.n_frames == num
        for i in range(num):
            picture.seek(i)
            durations.append(picture.info.get("duration"))
            sizes.add(picture.size)
    assert len(sizes) == 1
    assert durations[-1] == 2500 and set(durations[:-1]) <= {250}


def test_stages_that_look_alike_keep_their_frames(tmp_path):
    frames = np.zeros((4, 1, 16, 16, 3), np.uint8)
    pictures.write_animation(tmp_path / "a.gif", frames, 1, ["cat"], [f"{i} of 3" for i in range(4)])
    with Pillow.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 4


def test_titles_count_the_steps_of_equal_stages():
    assert pictures.titles("logit", 20, 0.2, 3) == [f"logit, {n} of 20 steps of 0.2" for n in (0, 10, 20)]
    assert pictures.titles("logit", 0, 0.2, 1) == ["logit, 0 of 0 steps of 0.2"]


def test_histograms_are_a_row_a_set_over_the_outline_of_the_first(tmp_path):
    left, right = {"a": np.full(50, 0.0)}, {"b": np.full(30, 300.0)}
    pictures.write_histograms(tmp_path / "one.png", left, "energy")
    pictures.write_histograms(tmp_path / "two.png", left | right, "energy")
    with Pillow.open(tmp_path / "one.png") as one, Pillow.open(tmp_path / "two.png") as two:
        assert one.format == "PNG" and one.size == (800, 180) and two.size == (800, 260)
        drawn = np.asarray(two.convert("RGB"), int)
    blue, orange = (np.abs(drawn - color).max(axis=2) < 40 for color in ((31, 119, 180), (255, 127, 14)))
    top, bottom = slice(0, 110), slice(130, 240)
    assert blue[top, :400].any() and not blue[top, 400:].any()
    assert blue[bottom, 400:].any() and not blue[bottom, :400].any()
    assert orange[top, :400].any() and orange[bottom, :400].any()


STEP = {"loss": 1.0, "clean_accuracy": 0.5, "adversarial_accuracy": 0.25, "learning_rate": 0.1}
EPOCH = {"test_clean": 0.5, "test_adversarial": 0.25}


@pytest.mark.parametrize(
    "records",
    [[], [{"step": 20} | STEP], [{"step": 20} | STEP, {"step": 30} | EPOCH, {"step": 40} | STEP]],
    ids=["empty", "one step", "steps and an epoch"],
)
def test_curves_are_drawn_from_a_log_of_any_length(tmp_path, records):
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    pictures.write_curves(tmp_path / "curves.png", tmp_path / "log.jsonl")
    with Pillow.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG" and picture.size == (1500, 400)


def test_the_curves_show_the_log(tmp_path):
    drawn = []
    for loss in (1.0, 3.0):
        records = [{"step": 0} | STEP, {"step": 20} | STEP | {"loss": loss}]
        (tmp_path / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        pictures.write_curves(tmp_path / "curves.png", tmp_path / "log.jsonl")
        with Pillow.open(tmp_path / "curves.png") as picture:
            drawn.append(np.asarray(picture.convert("L"), np.int16))
    changed = (drawn[0] != drawn[1]).any(axis=0)
    assert changed[:500].any() and not changed[500:].any()  # the loss is the left third


def test_pages_are_an_animation_or_the_still_one_by_the_name_of_the_file(tmp_path):
    cells = noise(3, 2, 8, 8, 3)
    pages = [pictures.Page(cells[::way], ("a", "b", "c"), str(way)) for way in (1, -1)]
    for name in ("p.png", "p.GIF"):
        pictures.write_pages(tmp_path / name, pages[1], pages, 2)
    still = pictures.sheet(cells[:0:-1].reshape(-1, 8, 8, 3), 2, ("a", "b"), "-1")
    with Pillow.open(tmp_path / "p.png") as picture:
        assert_array_equal(picture, still)
    with Pillow.open(tmp_path / "p.GIF") as picture:
        assert picture.format == "GIF" and picture.n_frames == 2
