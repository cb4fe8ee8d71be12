"""The inversion program where the representation is the pixels: every end is known in closed form."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.synthesis import ascent, tasks
from rsynth_jax.synthesis.norms import L2
from synth import inversion
from synth.inversion import Options

IMAGES = tiny.noise(3)
pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A classifier, an .npz of images, and another of two more."""
    sets = {"a": IMAGES, "b": IMAGES[:1, ::-1], "two": IMAGES[:2]}
    return tiny.bench(tmp_path_factory.mktemp("inversion"), **{k: {"images": v} for k, v in sets.items()})


def invert(folder: Path, place: Path, **changed) -> dict:
    """The numbers of a run of two starts and four steps, unless told otherwise."""
    asked = {"images": str(folder / "a.npz"), "classifier": str(folder / "c.safetensors"), "starts": 2}
    asked |= {"steps": 4, "batch_size": 6, "smooth": 0.0, "out": place / "s.png", "json": place / "n.json"}
    assert inversion.invert(tiny.options(Options, **asked | changed)) == 0
    return json.loads((place / "n.json").read_text())


@pytest.fixture(scope="module")
def default(folder, tmp_path_factory) -> dict:
    return invert(folder, tmp_path_factory.mktemp("default"))


# ---- the task


def test_the_way_is_straight_to_the_image_and_stops_at_the_radius(linear):
    """Of an orthogonal representation: an image of 48 values that is its own."""
    image, start = np.random.default_rng(1).random((2, 4, 4, 3), np.float32)
    own = tiny.classifier(linear.logits, lambda image: image.ravel())
    task = tasks.invert(own, start, image.ravel(), smoothness_weight=0.0, radius=0.5)
    climb = ascent.projected_gradient_ascent(task.objective, task.projection, ascent.steepest(L2, 0.2))
    towards = (image - start) / np.linalg.norm(image - start)
    image, _ = ascent.run(climb, start, 4)
    assert_allclose(image, start + 0.5 * towards, atol=1e-5)


# ---- from draws


def test_every_start_comes_nearer_by_the_length_of_its_steps(default):
    """The steps follow the cosine down from 0.4 at 32 pixels; the last image is never measured."""
    path = 0.2 * sum((1 + np.cos(np.pi * step / 4)) / 2 for step in range(3))
    for image, given in zip(default["images"], IMAGES, strict=True):
        nearer = path / np.linalg.norm(given / 255)
        assert image["distance_start"] - image["distance"] == pytest.approx(nearer, abs=2e-3)


def test_the_best_start_of_each_image_is_kept(default):
    for image in default["images"]:
        assert image["distance"] == min(image["tried"]) and len(image["tried"]) == 2
        assert image["start"] == np.argmin(image["tried"])
    assert default["distance"] == pytest.approx(np.mean([image["distance"] for image in default["images"]]))
    assert default["share"] == np.mean([image["from"] == image["ends"] for image in default["images"]])


def test_a_start_is_of_the_class_and_the_seed_asked_for(folder, tmp_path):
    cats = invert(folder, tmp_path, label="cat")["images"]
    assert [image["class"] for image in cats] == ["cat"] * 3
    for changed in ({"label": "dog"}, {"label": "cat", "seed": 1}):
        other = invert(folder, tmp_path, **changed)["images"]
        assert other[0]["distance_start"] != pytest.approx(cats[0]["distance_start"], abs=1e-4)


def test_every_result_is_written_where_asked_for(folder, tmp_path):
    numbers = invert(folder, tmp_path, each=True, npz=tmp_path / "t.npz", gif=tmp_path / "a.gif")
    with np.load(tmp_path / "t.npz", allow_pickle=False) as file:
        images = file["images"]
        assert [tiny.NAMES[label] for label in file["labels"]] == [i["ends"] for i in numbers["images"]]
    for image, about in zip(images, numbers["images"], strict=True):
        with Pillow.open(tmp_path / "s" / f"{about['name']}.png") as picture:
            assert_array_equal(picture, image)
    with Pillow.open(tmp_path / "a.gif") as picture:
        assert picture.format == "GIF" and picture.n_frames == 3


# ---- to another image


def test_where_the_representation_is_the_pixels_the_way_is_their_blend(folder, tmp_path, monkeypatch):
    shown, write = [], inversion.report
    monkeypatch.setattr(
        inversion, "report", lambda *asked, **files: shown.append(asked) or write(*asked, **files)
    )
    n = invert(folder, tmp_path, to=str(folder / "b.npz"), frames=3, out=tmp_path / "m.gif", batch_size=9)
    ((_, result),) = shown
    pages = result.frames
    cells = result.sheet.cells.reshape(3, 2, 3, *tiny.SHAPE)
    assert_array_equal(cells[:, 0, 0], IMAGES)
    assert_array_equal(cells[:, 0, 2], np.broadcast_to(IMAGES[0, ::-1], IMAGES.shape))
    blend = (np.float32(IMAGES) + IMAGES[0, ::-1]) / 2
    assert np.abs(cells[:, :, 1] - blend[:, None]).max() <= 0.51
    assert [page.cells.shape for page in pages] == [(3, 1, *tiny.SHAPE)] * 3
    assert [frame["t"] for frame in n["images"][0]["frames"]] == [0, 0.5, 1] and n["distance"] < 0.005
    with Pillow.open(tmp_path / "m.gif") as picture:
        assert picture.format == "GIF" and picture.n_frames == 3
        assert picture.size == (80, 3 * 80 + 2 * 4)  # the three images below each other, nothing else
    assert {file.name for file in tmp_path.iterdir()} == {"m.gif", "n.json"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"frames": 1}, "frames is 1: give 2 or more"),
        ({"starts": 0}, "starts is 0"),
        ({"smooth": -1.0}, "smooth is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"label": "unicorn"}, "no class 'unicorn'"),
        ({"gif": Path("a.png")}, "a.png: end its name in .gif"),
        ({"to": "two.npz"}, "2 images to go to from 3: give one, or as many"),
        ({"to": "nowhere.png"}, "cannot read the image .*nowhere.png"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(folder, tmp_path, changed, said):
    if "to" in changed:
        changed = {"to": str(folder / changed["to"])}
    with refused(match=said):
        invert(folder, tmp_path, **changed)
    assert list(tmp_path.iterdir()) == []
