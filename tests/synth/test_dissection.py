"""The program that dissects a generator, and a classifier: sheet, numbers, lines, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.cli import dissections, sheets
from synth import dissection as program
from synth.dissection import Options


@pytest.fixture(scope="module")
def place(networks, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    tiny.generator(folder / "g.safetensors")
    tiny.segmenter(folder / "s.safetensors")
    tiny.release(folder / "c.safetensors", tiny.NAMES)
    tiny.masked(folder / "facades", 4)
    return folder


def flags(place: Path, out: Path, **values) -> Options:
    given = {"generator": str(place / "g.safetensors"), "segmenter": str(place / "s.safetensors"), "num": 4}
    given |= {"layer": "3", "units": 2, "batch_size": 4}
    return tiny.options(Options, out=out, json=out.with_suffix(".json"), **(given | values))


def of_classifier(place: Path, out: Path, **values) -> Options:
    given = {"generator": None, "segmenter": None, "classifier": str(place / "c.safetensors"), "layer": "0"}
    given |= {"data": str(place / "facades/images"), "masks": place / "facades/masks"}
    return flags(place, out, **(given | values))


def made(options: Options) -> dict:
    """Every number of a run, whose sheet is a picture."""
    assert program.dissect(options) == 0
    with Pillow.open(options.output.out) as sheet:
        assert sheet.format == "PNG" and min(sheet.size) > 200
    return json.loads(options.output.out.with_suffix(".json").read_text())


@pytest.mark.slow
def test_a_generator_is_dissected_and_its_units_are_inserted(place, tmp_path, capsys):
    real, judge = str(place / "facades/images"), str(place / "c.safetensors")
    more = {"insert": True, "optimize": 2, "classes": ("door",), "real": real, "features": judge}
    numbers = made(flags(place, tmp_path / "o.png", **more))
    artefacts = numbers["artefacts"]
    assert len(artefacts["units"]) == 2 and artefacts["scores"][0] >= artefacts["scores"][1] > 0
    assert min(artefacts[name] for name in ("before", "after", "random")) > 0
    assert numbers["segmenter_iou"] == {"wall": 0.5, "door": 0.5}
    assert (numbers["layer"], numbers["shape"], numbers["images"]) == ("layer3", [8, 8, 8], 6)
    (door,) = numbers["classes"].values()
    first, second = door["units"]
    assert set(first) == {"unit", "iou", "iou_by_chance", "ratio", "level", "iou_at_tail"}
    assert first["iou"] >= second["iou"] and 0 <= first["ratio"] <= 1
    effect = numbers["effects"]["door"]
    assert effect["order"]["chosen"] == [first["unit"], second["unit"]]
    assert len(effect["order"]["optimized"]) == 2
    assert set(effect["scores"]) == {"before", "chosen", "optimized", "random"}
    assert set(effect["effects"]) == {"chosen units", "optimized units", "random units"}
    assert list(effect["effects"]["chosen units"]) == ["1", "2"]
    assert sum(each["images"] for each in effect["gains"].values()) == 6
    printed = capsys.readouterr().out
    assert "IoU 0.500 on test images (wall 0.50, door 0.50): its errors bound what is below" in printed
    assert "artefact units by Fréchet distance: " in printed
    assert "door, 2 units inserted: score before" in printed and "gain by what was there" in printed


@pytest.mark.slow
def test_a_classifier_is_dissected_by_human_masks_and_its_units_are_ablated(place, tmp_path, capsys):
    numbers = made(of_classifier(place, tmp_path / "o.png", ablate=True))
    assert list(numbers["classes"]) == list(numbers["effects"]) == ["wall", "door"]
    assert numbers["shape"] == [8, 8, 64] and numbers["images"] == 4 and "segmenter_iou" not in numbers
    masks = np.stack([np.asarray(Pillow.open(path)) for path in (place / "facades/masks").glob("*.png")])
    assert numbers["classes"]["door"]["pixels"] == pytest.approx((masks == 1).mean())
    assert numbers["effects"]["wall"]["scores"]["before"] < 0
    assert "classes by human masks of 4 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layer": "4"}, r"no layer '4': give a number from 0 to 3 \(layer0 to layer3\)"),
        ({"classes": ("roof",)}, "no class 'roof': give a number, or one of wall, door"),
        ({"segmenter": "g.safetensors"}, "is a generator: give a segmenter"),
        ({"generator": "s.safetensors"}, "is a segmenter: give a generator"),
        ({"units": 0}, "units is 0"),
        ({"units": 9}, "units is 9: the layer has 8"),
        ({"num": 1}, "a dissection needs 2 images or more, not 1"),
        ({"generator": None}, "give --generator NAME with --segmenter NAME, or --classifier NAME with"),
        ({"segmenter": None}, "a generator's images have no masks: give --segmenter NAME"),
        ({"generator": None, "classifier": "c.safetensors"}, "give --data A and --masks FOLDER"),
        ({"ablate": True, "insert": True}, "--ablate and --insert are different sheets"),
        (
            {"generator": None, "classifier": "c", "data": "x", "masks": Path("y"), "real": "z"},
            "--real is compared",
        ),
        ({"optimize": 3}, "give --ablate or --insert too"),
        ({"out": Path("o.txt")}, "cannot write o.txt: end its name in"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_in_one_line(place, tmp_path, monkeypatch, values, message):
    monkeypatch.chdir(place)
    with refused(match=message):
        program.dissect(flags(place, **({"out": tmp_path / "o.png"} | values)))
    assert not list(tmp_path.iterdir())


def test_masks_that_do_not_match_are_refused(place, tmp_path):
    (tmp_path / "classes.txt").write_text("wall\ndoor")
    with refused(match="no mask .*00.png: every image needs one of its name"):
        program.dissect(of_classifier(place, tmp_path / "o.png", masks=tmp_path))


def test_a_region_is_outlined_inside_and_not_along_the_sides():
    images = np.full((1, 6, 6, 3), 100, np.uint8)
    inside = np.zeros((1, 6, 6), bool)
    inside[0, :4, 1:5] = True
    found = sheets.outlined(sheets.darkened(images, inside), inside)
    yellow = (found == sheets.YELLOW).all(axis=-1)[0]
    expected = inside[0].copy()
    expected[:3, 2:4] = False
    assert np.array_equal(yellow, expected)
    assert (found[0][~inside[0]] == 50).all() and (found[0, :3, 2:4] == 100).all()
    assert dissections.ROWS * dissections.COLUMNS == 32
