"""The visualisation program where a unit is a value of a pixel: what excites it is known beforehand."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as Pillow
from tiny import NAMES, refused

from rsynth_jax import models
from rsynth_jax.cli import options, sheets
from rsynth_jax.storage import releases
from rsynth_jax.synthesis import ascent, objectives, tasks
from rsynth_jax.synthesis.norms import L2
from synth import visualisation
from synth.visualisation import Options

IMAGES = tiny.noise(9)
pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A classifier, an .npz of images, and one of none."""
    sets = {"a": {"images": IMAGES}, "none": {"images": IMAGES[:0]}}
    return tiny.bench(tmp_path_factory.mktemp("visualisation"), **sets)


def visualize(folder: Path, place: Path, **changed) -> dict:
    """The numbers of a run of two starts and two steps, unless told otherwise."""
    asked = {"classifier": str(folder / "c.safetensors"), "starts": 2, "real": 3, "steps": 2}
    asked |= {"step_size": 0.1, "out": place / "s.png", "json": place / "n.json"} | changed
    assert visualisation.visualize(tiny.options(Options, **asked)) == 0
    return json.loads((place / "n.json").read_text())


def test_a_unit_that_is_a_pixel_rises_by_the_steps_alone(linear):
    start = np.full((4, 4, 3), 0.5, np.float32)
    own = tiny.classifier(linear.logits, lambda image: image.ravel())
    task = tasks.visualize(own, start, 7, objective=objectives.activation, radius=0.25)
    climb = ascent.projected_gradient_ascent(task.objective, task.projection, ascent.steepest(L2, 0.1))
    image = np.asarray(ascent.run(climb, start, 4)[0]).ravel()
    assert_allclose(image[7], 0.75, atol=1e-5)
    assert_array_equal(np.delete(image, 7), 0.5)


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """The numbers and the sheet of two units and a class beside real images."""
    with pytest.MonkeyPatch.context() as patch:
        pages, draw = [], sheets.draw
        patch.setattr(sheets, "draw", lambda page: pages.append(page) or draw(page))
        asked = {"features": ("39", "0"), "classes": ("dog",), "data": str(folder / "a.npz")}
        return visualize(folder, tmp_path_factory.mktemp("whole"), **asked), pages[0]


def test_units_then_classes_have_their_rows_and_all_rise(whole):
    n, page = whole
    assert [one["name"] for one in n["shown"]] == ["unit 39", "unit 0", "dog"]
    assert page.cells.shape == (3, 2 + 1 + 3, *tiny.SHAPE) and len(page.names) == 3
    for one in n["shown"]:
        assert (np.array(one["activation"]) > one["activation_start"]).all()
    pixels = page.cells.reshape(3, 6, -1)[0, :2, 39] / 255
    assert_allclose(n["shown"][0]["activation"], pixels, atol=1e-6)


def test_beside_it_are_the_real_images_that_excite_it_most(whole):
    n, page = whole
    cells = page.cells
    assert (cells[:, 2] == 255).all()
    for row, unit in enumerate((39, 0)):
        values = IMAGES.reshape(9, -1)[:, unit]
        most = np.argsort(-values.astype(int), kind="stable")[:3]
        assert_array_equal(cells[row, 3:], IMAGES[most])
        real = n["shown"][row]["real"]
        assert [one["name"] for one in real] == [f"{k:04d}" for k in most]
        assert_allclose([one["activation"] for one in real], values[most] / 255, atol=1e-6)


def test_a_class_is_excited_by_its_logit_and_units_name_their_readers(folder, whole):
    n, _ = whole
    release = releases.load(str(folder / "c.safetensors"))
    logits = release.model.apply(release.variables, np.float32(IMAGES) / 255).logits[:, 2]
    real = n["shown"][2]["real"]
    assert_allclose([one["activation"] for one in real], np.sort(logits)[::-1][:3], atol=1e-4)
    weights, _ = models.readout(release.variables)
    readers = n["shown"][0]["readers"]
    assert readers == {name: pytest.approx(float(weights[39, NAMES.index(name)])) for name in readers}
    assert list(readers.values()) == sorted(readers.values(), reverse=True) and "readers" not in n["shown"][2]


def test_the_top_units_move_the_probabilities_most_and_not_all_logits_alike():
    weights, features = np.array([[3, -4], [8, 9], [0, 2.0], [6, -8]]), np.array([[1, 9, 2, 0.1]])
    features = np.concatenate([features, -features])  # of mean 0
    assert options.units_of(["top:3"], weights, features) == [1, 0, 2]
    assert options.units_of(["1", "top:3"], weights) == [1, 3, 0, 2]
    assert options.units_of(["top:3"], weights + np.array([[5], [0], [-7], [2]]), features) == [1, 0, 2]


def test_units_that_are_on_for_every_image_come_last():
    weights = np.array([[5.0, -5], [4, -4], [3, -3], [2, -2]])
    features = np.array([[9.0, 0, -8, 0], [11, 0, -8.5, 0], [10, 2, -9, 1]])
    assert options.units_of(["top:4"], weights, features) == [1, 3, 0, 2]


@pytest.mark.parametrize("name", ["fourier", "pyramid"])
def test_other_coordinates_make_other_images_that_rise(folder, tmp_path, whole, name):
    (one,) = visualize(folder, tmp_path, features=("39",), parameterization=name)["shown"]
    first = whole[0]["shown"][0]
    assert one["activation_start"] == pytest.approx(first["activation_start"], abs=1e-6)
    assert (np.array(one["activation"]) > one["activation_start"]).all()
    assert one["activation"] != pytest.approx(first["activation"], abs=1e-3)


def test_without_data_only_the_painted_are_shown_and_starts_are_their_own(folder, tmp_path, whole):
    n = visualize(folder, tmp_path, features=("39",), starts=1)
    assert "real" not in n["shown"][0] and (tmp_path / "s.png").exists()
    assert n["shown"][0]["activation"] == whole[0]["shown"][0]["activation"][:1]


def test_a_sheet_may_be_a_gif(folder, tmp_path):
    visualize(folder, tmp_path, features=("39",), starts=1, out=tmp_path / "s.gif")
    with Pillow.open(tmp_path / "s.gif") as picture:
        assert picture.format == "GIF"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "nothing to visualize"),
        ({"features": ("768",)}, "no feature '768': give a number from 0 to 767"),
        ({"features": ("768",), "data": "none.npz"}, "no feature '768'"),
        ({"features": ("top:0",)}, "cannot read 'top:0': write top:K, with K from 1 to 768"),
        ({"classes": ("unicorn",)}, "no class 'unicorn'"),
        ({"features": ("1",), "parameterization": "wavelet"}, "'wavelet'.*pixel, fourier, pyramid"),
        ({"features": ("1",), "num": 0}, "num is 0"),
        ({"features": ("1",), "starts": 0}, "starts is 0"),
        ({"features": ("1",), "real": 0}, "real is 0"),
        ({"features": ("1",), "data": "none.npz"}, "none.npz has no images"),
        ({"features": ("1",), "image_size": 24}, "takes no images of 24 x 24 x 3"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(folder, tmp_path, changed, said):
    if "data" in changed:
        changed = changed | {"data": str(folder / changed["data"])}
    with refused(match=said):
        visualize(folder, tmp_path, **changed)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_of_the_real_images_is_named_and_left_out(folder, tmp_path, capsys):
    asked = {"features": ("39",), "data": str(tiny.pictures(tmp_path / "photos", IMAGES, "04a"))}
    flags = {
        "classifier": str(folder / "c.safetensors"),
        "out": tmp_path / "s.png",
        "json": tmp_path / "n.json",
    }
    assert visualisation.visualize(tiny.options(Options, steps=1, real=9, **flags, **asked)) == 1
    numbers = json.loads((tmp_path / "n.json").read_text())
    assert sorted(real["name"] for real in numbers["shown"][0]["real"]) == [f"{i:02d}" for i in range(9)]
    assert len(numbers["skipped"]) == 1 and "04a.png" in capsys.readouterr().err
