"""The refinement program on an untrained classifier: what it climbs to, writes and refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as Pillow
from tiny import NAMES, refused

from rsynth_jax.cli import sheets
from rsynth_jax.cli.parse import parse
from rsynth_jax.models import embedding
from rsynth_jax.storage import releases
from synth import refinement
from synth.refinement import Options

IMAGES = tiny.noise(5)
LABELS = [2, 0, 1, 1, 2]
pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A classifier, and the same images with and without labels."""
    labelled = {"images": IMAGES, "labels": LABELS, "class_names": NAMES}
    return tiny.bench(tmp_path_factory.mktemp("refinement"), plain={"images": IMAGES}, labelled=labelled)


def refine(folder: Path, out: Path, given: str = "labelled.npz", status: int = 0, **changed) -> dict:
    """The arrays of a run in two steps, three images at a time, unless told otherwise."""
    asked = {"classifier": str(folder / "c.safetensors"), "steps": 2, "step_size": 0.2, "batch_size": 3}
    asked |= {"images": str(folder / given), "out": out / "r.npz"} | changed
    assert refinement.refine(tiny.options(Options, **asked)) == status
    with np.load(out / "r.npz", allow_pickle=False) as file:
        return dict(file)


# ---- what is refined towards what


def test_labels_are_those_asked_for_else_the_file_s_else_the_predicted_ones(folder, tmp_path):
    release = releases.load(str(folder / "c.safetensors"))
    predicted = embedding.predict(release.model, release.variables, IMAGES, 5)
    assert refine(folder, tmp_path)["labels"].tolist() == LABELS
    assert refine(folder, tmp_path, "plain.npz")["labels"].tolist() == predicted.tolist()
    assert refine(folder, tmp_path, label="cat")["labels"].tolist() == [1] * 5


def test_images_rise_and_stay_within_the_radius(folder, tmp_path):
    found = refine(folder, tmp_path, steps=4, radius=0.5, json=tmp_path / "n.json")
    numbers = json.loads((tmp_path / "n.json").read_text())
    assert numbers["log_prob"] > numbers["log_prob_start"]
    gap = (found["images"].astype(float) - IMAGES).reshape(5, -1) / 255
    distances = np.linalg.norm(gap, axis=1)
    assert distances.min() > 0.2 and distances.max() < 0.5 + 0.5 * np.sqrt(768) / 255  # bytes round
    assert_allclose([image["l2_moved"] for image in numbers["images"]], distances)
    assert [image["class"] for image in numbers["images"]] == [NAMES[label] for label in LABELS]


def test_an_image_does_not_depend_on_those_beside_it(folder, tmp_path):
    every = refine(folder, tmp_path)["images"].astype(int)
    first = refine(folder, tmp_path, num=2, batch_size=8)
    assert len(first["images"]) == len(first["labels"]) == 2
    assert np.abs(first["images"] - every[:2]).max() <= 1


def test_a_folder_of_photographs_is_brought_to_the_classifier_s_size(folder, tmp_path):
    Pillow.fromarray(IMAGES[0].repeat(3, 0).repeat(2, 1)).save(tmp_path / "photo.png")
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    own = {"classifier": str(folder / "c.safetensors")}
    assert refine(tmp_path, tmp_path, "", status=1, **own)["images"].shape == (1, *tiny.SHAPE)
    with refused(match="takes no images of 24 x 24 x 3"):
        refine(tmp_path, tmp_path, "photo.png", image_size=24, **own)


# ---- what it writes


def test_the_arrays_name_their_classes_and_the_sheet_shows_the_first_images(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(refinement, "COLUMNS", 3)
    found = refine(folder, tmp_path, sheet=tmp_path / "s.png")
    assert found["class_names"].tolist() == list(NAMES) and found["images"].dtype == np.uint8
    title = "logit, 2 steps of 0.1, l2 radius 0.5"  # 0.2 and 1 at 32 pixels
    cells = np.stack([IMAGES[:3], found["images"][:3]])
    expected = sheets.draw(sheets.Page(cells, ["given", "refined"], title))
    with Pillow.open(tmp_path / "s.png") as picture:
        assert_array_equal(picture, expected)


def test_the_json_holds_every_number_printed(folder, tmp_path, capsys):
    refine(folder, tmp_path, json=tmp_path / "n.json")
    n = json.loads((tmp_path / "n.json").read_text())
    assert capsys.readouterr().out == (
        f"{tmp_path / 'r.npz'}: 5 images refined in {n['seconds']:.1f} s; "
        f"mean log p {n['log_prob_start']:.2f} -> {n['log_prob']:.2f}, l2 moved {n['l2_moved']:.2f}\n"
    )


# ---- what it refuses


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"radius": 0.0}, "radius is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"step_size": float("nan")}, "step_size is nan"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"num": 0}, "num is 0"),
        ({"image_size": 0}, "image_size is 0"),
        ({"label": "unicorn"}, "no class 'unicorn'.*airplane, cat, dog"),
        ({"label": "all"}, "no class 'all'"),
        ({"given": "nowhere"}, "no folder .*nowhere"),
        ({"given": "few.npz"}, "has 2 labels for 5 images"),
        ({"given": "others.npz"}, "images of truck: the classes are airplane, cat, dog"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(folder, tmp_path, changed, said):
    np.savez(folder / "few.npz", images=IMAGES, labels=LABELS[:2])
    np.savez(folder / "others.npz", images=IMAGES[:1], labels=[0], class_names=["truck"])
    with refused(match=said):
        refine(folder, tmp_path, **changed)
    assert list(tmp_path.iterdir()) == []


def test_the_flags_are_named_as_the_readme_has_them():
    asked = parse(Options, ["a.npz", "--class", "cat", "--out", "b.npz"])
    assert asked == tiny.options(Options, images="a.npz", label="cat", out=Path("b.npz"))
    assert parse(Options, ["a.npz"]) == tiny.options(Options, images="a.npz")
