"""The sketching program: the part of a drawing that is kept, and the rest that becomes the class."""

import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from synth import sketching
from synth.sketching import Options

DRAWING = np.full((2, *tiny.SHAPE), 200, np.uint8)
DRAWING[:, 4, 2:9] = 0
DARK = (DRAWING == 0).all(axis=3)
pytestmark = pytest.mark.usefixtures("networks")


def sketch(folder, **changed) -> np.ndarray:
    np.savez(folder / "a.npz", images=DRAWING)
    tiny.release(folder / "c.safetensors", tiny.NAMES, "linear")
    asked = {"images": str(folder / "a.npz"), "classifier": str(folder / "c.safetensors"), "label": "dog"}
    asked |= {"steps": 2, "out": folder / "s.png", "npz": folder / "t.npz"} | changed
    assert sketching.sketch(tiny.options(Options, **asked)) == 0
    assert (folder / "s.png").exists()
    with np.load(folder / "t.npz", allow_pickle=False) as file:
        return file["images"]


@pytest.mark.parametrize(("keep", "kept"), [("nothing", 0 * DARK), ("strokes", DARK)])
def test_a_drawing_changes_where_it_is_not_kept(tmp_path, keep, kept):
    changed = (sketch(tmp_path, keep=keep) != DRAWING).any(axis=3)
    assert not changed[kept > 0].any() and changed[~DARK].mean() > 0.9
    assert changed[DARK].any() == (keep == "nothing")


def test_edges_are_kept(tmp_path):
    result = sketch(tmp_path, keep="edges")
    assert_array_equal(result[:, 4:6, 3:9], DRAWING[:, 4:6, 3:9])
    assert (result != DRAWING).any()


def test_a_drawing_in_gray_becomes_a_photograph_in_color(tmp_path):
    Pillow.fromarray(DRAWING[0, :, :, 0]).save(tmp_path / "d.png")
    sketch(tmp_path, images=str(tmp_path / "d.png"), photo=tmp_path / "p.png")
    with Pillow.open(tmp_path / "p.png") as picture:
        assert picture.mode == "RGB"
        assert np.ptp(np.asarray(picture), axis=-1).max() > 0


def test_an_unknown_part_is_refused(tmp_path):
    with refused(match="no keep named 'lines': give one of nothing, strokes, edges"):
        sketch(tmp_path, keep="lines")
