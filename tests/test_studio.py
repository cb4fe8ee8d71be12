"""What programs share that start from given images: who is painted what, what is written and refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import NAMES, refused

from rsynth_jax.cli import options as studio
from rsynth_jax.cli import report as gallery
from rsynth_jax.cli import sheets as pictures
from rsynth_jax.cli.options import Options
from rsynth_jax.synthesis import tasks as synthesis
from rsynth_jax.synthesis.ascent import steepest
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.objectives import log_prob
from rsynth_jax.synthesis.projections import box

IMAGES = tiny.noise(5)
pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A classifier, an .npz of images, and the first two of them as photographs in a folder."""
    folder = tiny.bench(tmp_path_factory.mktemp("studio"), a={"images": IMAGES})
    (folder / "photos").mkdir()
    for name, image in zip(("one", "two"), IMAGES, strict=False):
        Pillow.fromarray(image).save(folder / "photos" / f"{name}.png")
    return folder


def climb(classifier, image, label):
    return synthesis.with_optimizer(task, steepest(L2, 0.2))(classifier, image, label)


def task(classifier, image, label):
    return synthesis.Task(image, log_prob(classifier, label), box())


def work(folder: Path, out: Path, given: str = "a.npz", extra=None, **changed) -> dict:
    """The numbers of a run in four steps, three images at a time, unless told otherwise."""
    asked = {"label": "dog", "classifier": str(folder / "c.safetensors"), "steps": 4, "batch_size": 3}
    asked |= {"out": out / "s.png", "npz": out / "t.npz", "json": out / "n.json"} | changed
    options = Options(str(folder / given), **asked)
    subject = studio.read(options)
    assert gallery.publish(options, subject, studio.paint(options, subject, climb), extra or {}) == 0
    return json.loads((out / "n.json").read_text())


def arrays(out: Path) -> dict[str, np.ndarray]:
    with np.load(out / "t.npz", allow_pickle=False) as file:
        return dict(file)


def test_the_sheet_has_given_start_result_and_difference_of_the_first_images(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "ROWS", 3)
    n = work(folder, tmp_path)
    result = arrays(tmp_path)["images"][:3]
    grey = np.uint8(np.clip(128 + result.astype(int) - IMAGES[:3], 0, 255))
    cells = np.stack([IMAGES[:3], IMAGES[:3], result, grey], axis=1).reshape(-1, *tiny.SHAPE)
    rows = [
        f"{i:04d}: {image['from']} -> dog, p {np.exp(image['log_prob']):.2f}, l2 {image['l2_moved']:.1f}"
        for i, image in enumerate(n["images"][:3])
    ]
    title = "given, start, log-prob, 4 of 4 steps of 0.2, difference"
    with Pillow.open(tmp_path / "s.png") as picture:
        assert_array_equal(picture, pictures.sheet(cells, 4, rows, title))


def test_an_image_does_not_depend_on_those_beside_it(folder, tmp_path):
    work(folder, tmp_path)
    every = arrays(tmp_path)["images"].astype(int)
    work(folder, tmp_path, num=2, batch_size=8)
    assert np.abs(arrays(tmp_path)["images"] - every[:2]).max() <= 1


def test_a_folder_is_painted_and_each_result_bears_the_name_of_its_file(folder, tmp_path):
    n = work(folder, tmp_path, "photos", each=True, gif=tmp_path / "a.gif")
    found = arrays(tmp_path)
    assert [image["name"] for image in n["images"]] == ["one", "two"] and found["labels"].tolist() == [2, 2]
    assert_array_equal(found["given"], IMAGES[:2])
    assert found["class_names"].tolist() == list(NAMES)
    for name, image in zip(("one", "two"), found["images"], strict=True):
        with Pillow.open(tmp_path / "s" / f"{name}.png") as picture:
            assert_array_equal(picture, image)
    with Pillow.open(tmp_path / "a.gif") as picture:
        assert picture.format == "GIF" and picture.n_frames == 3


def test_a_damaged_file_is_named_and_left_out_and_the_others_are_done(folder, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("one", "two"):
        (photos / f"{name}.png").write_bytes((folder / "photos" / f"{name}.png").read_bytes())
    (photos / "damaged.png").write_bytes(b"no picture")
    options = Options(str(photos), classifier=str(folder / "c.safetensors"), steps=1, out=tmp_path / "s.png")
    subject = studio.read(options)
    assert subject.names == ("one", "two")
    assert gallery.publish(options, subject, studio.paint(options, subject, climb), {}) == 1
    errors = capsys.readouterr().err.splitlines()
    assert [
        line for line in errors if line.startswith("skipped: cannot read the image") and "damaged" in line
    ]


def test_files_of_one_name_in_several_folders_keep_apart(folder, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Pillow.fromarray(IMAGES[0]).save(tmp_path / name / "1.png")
    options = Options(str(tmp_path), classifier=str(folder / "c.safetensors"))
    assert studio.read(options).names == ("cat-1", "dog-1")


def test_without_a_class_each_image_is_painted_what_is_seen_in_it(folder, tmp_path):
    n = work(folder, tmp_path, label=None)
    assert all(image["to"] == image["from"] for image in n["images"])


def test_the_json_holds_every_number_printed(folder, tmp_path, capsys):
    n = work(folder, tmp_path, extra={"known_error": np.arange(5)})
    assert capsys.readouterr().out == (
        f"{tmp_path / 's.png'}: 5 images in {n['seconds']:.1f} s; {n['share']:.0%} end in their class, "
        f"mean p {n['p_start']:.2f} -> {n['p']:.2f}, l2 moved {n['l2_moved']:.2f}, known error 2\n"
    )
    low, high = n["interval"]
    assert 0 <= low <= n["share"] <= high <= 1
    assert n["p"] == pytest.approx(np.mean([np.exp(image["log_prob"]) for image in n["images"]]))
    assert [image["known_error"] for image in n["images"]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"radius": 0.0}, "radius is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"step_size": float("nan")}, "step_size is nan"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"num": 0}, "num is 0"),
        ({"objective": "loss"}, "'loss'.*log-prob, logit, sum"),
        ({"label": "unicorn"}, "no class 'unicorn'.*airplane, cat, dog"),
        ({"given": "nowhere.png"}, "cannot read the image .*nowhere.png"),
        ({"image_size": 24}, "takes no images of 24 x 24 x 3"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(folder, tmp_path, changed, said):
    with refused(match=said):
        work(folder, tmp_path, **changed)
    assert list(tmp_path.iterdir()) == []
