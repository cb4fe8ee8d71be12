"""The inpainting program: what is known stays to the last bit, and the hole is filled within the radius."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from synth import inpainting
from synth.inpainting import Options

IMAGES = tiny.noise(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inpainting")
    mask = np.zeros(tiny.SHAPE[:2], np.uint8)
    mask[:, 10:] = 255
    soft = mask.copy()
    soft[:, 8:10] = [51, 102]
    masks = {"mask": mask, "soft": soft, "none": 0 * mask, "all": 0 * mask + 255, "ones": mask // 255}
    for name, values in masks.items():
        Pillow.fromarray(values).save(folder / f"{name}.png")
    with tiny.network():
        yield tiny.bench(folder, a={"images": IMAGES})


def inpaint(folder: Path, out: Path, **changed) -> dict:
    asked = {"classifier": str(folder / "c.safetensors"), "steps": 2, "label": "dog"} | changed
    asked = {"images": str(folder / "a.npz")} | asked
    asked |= {"out": out / "s.png", "npz": out / "t.npz", "json": out / "n.json"}
    assert inpainting.inpaint(tiny.options(Options, **asked)) == 0
    return json.loads((out / "n.json").read_text())


@pytest.mark.parametrize(
    ("mask", "hole"), [(None, np.s_[4:12, 4:12]), ("soft.png", np.s_[:, 8:])], ids=["square", "soft mask"]
)
def test_every_known_byte_is_as_it_was(folder, tmp_path, mask, hole):
    n = inpaint(folder, tmp_path, mask=(str(folder / mask),) if mask else ())
    with np.load(tmp_path / "t.npz", allow_pickle=False) as file:
        found = file["images"].astype(int)
    changed = (found != IMAGES).any(axis=(0, 3))
    missing = np.zeros(tiny.SHAPE[:2], bool)
    missing[hole] = True
    assert_array_equal(changed, missing)
    assert n["known_error"] == 0 and n["p"] > n["p_start"]
    if mask is not None:
        assert np.abs(found - IMAGES)[:, :, 8:10].max(axis=(0, 1, 3)).tolist() <= [52, 103]


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ("none.png", "is black: white is the hole"),
        ("all.png", "has no known pixel"),
        ("ones.png", "its lightest value is 1 of 255"),
        ("nowhere.png", "cannot read the image .*nowhere.png"),
    ],
)
def test_a_mask_that_makes_no_sense_is_refused_and_nothing_is_written(folder, tmp_path, mask, said):
    with refused(match=said):
        inpaint(folder, tmp_path, mask=(str(folder / mask),))
    assert list(tmp_path.iterdir()) == []


def test_a_class_is_guessed_from_what_is_known(folder, tmp_path):
    """What was in the hole does not matter."""
    guesses = []
    for filling in (0, 255):
        given = IMAGES.copy()
        given[:, 4:12, 4:12] = filling
        np.savez(tmp_path / "g.npz", images=given)
        n = inpaint(folder, tmp_path, images=str(tmp_path / "g.npz"), label=None, steps=1)
        guesses.append([image["to"] for image in n["images"]])
    assert guesses[0] == guesses[1]
