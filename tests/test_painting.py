"""The painting program: strokes change what is under their masks, one after the other, and nothing else."""

import json

import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.cli import run as console
from rsynth_jax.synthesis import ascent, objectives
from rsynth_jax.synthesis.norms import L2
from synth import painting
from synth.painting import Options

IMAGES = tiny.noise(2)
LEFT, RIGHT = np.s_[:, :6], np.s_[:, 12:]


def test_a_stroke_moves_up_under_its_mask_and_leaves_the_rest(linear):
    image, where = np.random.default_rng(1).random((4, 4, 3), np.float32), np.zeros((4, 4, 1), np.float32)
    where[:2] = 1
    start, score, stay = painting.painting(linear, image, 3, where, score=objectives.activation, radius=0.3)
    climb = ascent.projected_gradient_ascent(score, stay, ascent.steepest(L2, 0.2))
    found = np.asarray(ascent.run(climb, start, 4)[0])
    assert_array_equal(found[2:], image[2:])
    assert linear.features(found)[3] > linear.features(image)[3]
    assert 0.1 < np.linalg.norm(found - image) <= 0.3 + 1e-6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("painting")
    for name, where in {"left": LEFT, "right": RIGHT, "none": np.s_[:0]}.items():
        mask = np.zeros(tiny.SHAPE[:2], np.uint8)
        mask[where] = 255
        Pillow.fromarray(mask).save(folder / f"{name}.png")
    with tiny.network():
        yield tiny.bench(folder, a={"images": IMAGES})


def paint(folder, out, *strokes) -> dict:
    words = tuple(f"{folder}/{stroke}" for stroke in strokes)
    asked = {"classifier": str(folder / "c.safetensors"), "steps": 2, "step_size": 0.4, "stroke": words}
    asked |= {"out": out / "s.png", "npz": out / "t.npz", "json": out / "n.json"}
    assert painting.paint(Options(str(folder / "a.npz"), **asked)) == 0
    return json.loads((out / "n.json").read_text())


def test_strokes_paint_under_their_masks_and_nowhere_else(folder, tmp_path):
    n = paint(folder, tmp_path, "left.png:dog", "right.png:feature=39")
    with np.load(tmp_path / "t.npz", allow_pickle=False) as file:
        changed = (file["images"] != IMAGES).any(axis=(0, 3))
    assert changed[LEFT].all() and changed[RIGHT].any() and not changed[:, 6:12].any()
    assert n["known_error"] == 0
    assert {image["to"] for image in n["images"]} == {"dog"}  # the last class that a stroke names


def test_every_stroke_has_a_flag_of_its_own_and_none_is_lost():
    options = console.parse(Options, ["a.png", "--stroke", "left.png:dog", "--stroke", "right.png:feature=1"])
    assert options.stroke == ("left.png:dog", "right.png:feature=1")


@pytest.mark.parametrize(
    ("stroke", "said"),
    [
        ("left.png", "cannot read the stroke|cannot read the image"),
        ("none.png:dog", "is black: white is where to paint"),
        ("left.png:unicorn", "no class 'unicorn'"),
        ("left.png:feature=768", "no feature '768': give a number from 0 to 767"),
        ("nowhere.png:dog", "cannot read the image .*nowhere.png"),
    ],
)
def test_a_stroke_that_makes_no_sense_is_refused_and_nothing_is_written(folder, tmp_path, stroke, said):
    with refused(match=said):
        paint(folder, tmp_path, stroke)
    assert list(tmp_path.iterdir()) == []
