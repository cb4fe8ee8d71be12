"""The painting program: strokes change what is under their masks, one after the other, and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.cli.parse import parse
from synth import painting
from synth.painting import Options

IMAGES = tiny.noise(2)
LEFT, RIGHT = np.s_[:, :6], np.s_[:, 12:]
pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("painting")
    for name, where in {"left": LEFT, "right": RIGHT, "none": np.s_[:0]}.items():
        mask = np.zeros(tiny.SHAPE[:2], np.uint8)
        mask[where] = 255
        Pillow.fromarray(mask).save(folder / f"{name}.png")
    Pillow.fromarray(np.ones(tiny.SHAPE[:2], np.uint8)).save(folder / "ones.png")
    return tiny.bench(folder, a={"images": IMAGES})


def paint(folder: Path, out: Path, *strokes: str, **changed) -> dict:
    """The numbers of a run in two steps a stroke."""
    words = tuple(f"{folder}/{stroke}" for stroke in strokes)
    asked = {"classifier": str(folder / "c.safetensors"), "steps": 2, "step_size": 0.4, "stroke": words}
    asked |= {"out": out / "s.png", "npz": out / "t.npz", "json": out / "n.json"} | changed
    assert painting.paint(tiny.options(Options, images=str(folder / "a.npz"), **asked)) == 0
    return json.loads((out / "n.json").read_text())


def test_strokes_paint_under_their_masks_and_nowhere_else(folder, tmp_path):
    strokes = ("left.png:dog", "right.png:feature=39")
    n = paint(folder, tmp_path, *strokes, gif=tmp_path / "a.gif")
    with np.load(tmp_path / "t.npz", allow_pickle=False) as file:
        changed = (file["images"] != IMAGES).any(axis=(0, 3))
    assert changed[LEFT].all() and changed[RIGHT].any() and not changed[:, 6:12].any()
    assert n["known_error"] == 0
    assert {image["to"] for image in n["images"]} == {"dog"}  # the last class that a stroke names
    with Pillow.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 3  # the start, and the end of each stroke


def test_where_no_stroke_names_a_class_images_have_the_one_asked_for(folder, tmp_path):
    assert {
        image["to"] for image in paint(folder, tmp_path, "left.png:feature=1", label="cat")["images"]
    } == {"cat"}
    for image in paint(folder, tmp_path, "left.png:feature=1")["images"]:
        assert image["to"] == image["from"]


def test_every_stroke_has_a_flag_of_its_own_and_none_is_lost():
    options = parse(Options, ["a.png", "--stroke", "left.png:dog", "--stroke", "right.png:feature=1"])
    assert options.stroke == ("left.png:dog", "right.png:feature=1")


@pytest.mark.parametrize(
    ("strokes", "said"),
    [
        ([], "nothing to paint: give --stroke MASK:CLASS"),
        (["left.png"], "cannot read the stroke|cannot read the image"),
        (["none.png:dog"], "is black: white is where to paint"),
        (["ones.png:dog"], "its lightest value is 1 of 255"),
        (["left.png:unicorn"], "no class 'unicorn'"),
        (["left.png:feature=768"], "no feature '768': give a number from 0 to 767"),
        (["nowhere.png:dog"], "cannot read the image .*nowhere.png"),
    ],
)
def test_a_stroke_that_makes_no_sense_is_refused_and_nothing_is_written(folder, tmp_path, strokes, said):
    with refused(match=said):
        paint(folder, tmp_path, *strokes)
    assert list(tmp_path.iterdir()) == []
