"""Reports: what a program that edits images reads, writes, prints and refuses."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import NAMES, refused

from rsynth_jax.cli import edit, report, sheets
from rsynth_jax.cli.edit import EditFlags
from rsynth_jax.cli.options import AscentFlags, ClassName, InputFlags, OutputFlags, read, unit_number
from rsynth_jax.sampling import samplers
from rsynth_jax.storage import releases

IMAGES = tiny.noise(5)
pytestmark = pytest.mark.usefixtures("networks")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(EditFlags):
    """Flags of a program that edits."""

    label: ClassName = "dog"
    ascent: AscentFlags = AscentFlags(radius=10.0, steps=4, step_size=0.4, batch_size=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A classifier, an .npz of images, and the first two of them as photographs in a folder."""
    folder = tiny.bench(tmp_path_factory.mktemp("report"), a={"images": IMAGES})
    (folder / "photos").mkdir()
    for name, image in zip(("one", "two"), IMAGES, strict=False):
        Pillow.fromarray(image).save(folder / "photos" / f"{name}.png")
    return folder


def work(
    folder: Path, out: Path, images: str | Path = "a.npz", extra=None, status: int = 0, **changed
) -> dict:
    """The numbers of a run in four steps, three images at a time, unless told otherwise."""
    inputs, output, ascent = (changed.pop(name, {}) for name in ("input", "output", "ascent"))
    files = {"out": out / "s.png", "npz": out / "t.npz", "json": out / "n.json"} | output
    flags = {"input": InputFlags(images=str(folder / images), **inputs), "output": OutputFlags(**files)}
    options = Options(classifier=str(folder / "c.safetensors"), **flags, **changed)
    options = dataclasses.replace(options, ascent=dataclasses.replace(options.ascent, **ascent))
    assert edit.edit(options, lambda *given, **settings: (sketch(*given, **settings), extra or {})) == status
    return json.loads((out / "n.json").read_text())


def sketch(release, given, **settings):
    return samplers.sketch(release, given.images, given.labels, **settings)


def arrays(out: Path) -> dict[str, np.ndarray]:
    with np.load(out / "t.npz", allow_pickle=False) as file:
        return dict(file)


def test_the_sheet_has_given_start_result_and_difference_of_the_first_images(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(edit, "ROWS", 3)
    n = work(folder, tmp_path)
    result = arrays(tmp_path)["images"][:3]
    gray = np.uint8(np.clip(128 + result.astype(int) - IMAGES[:3], 0, 255))
    cells = np.stack([IMAGES[:3], IMAGES[:3], result, gray], axis=1)
    rows = [
        f"{i:04d}: {image['from']} -> dog, p {np.exp(image['log_prob']):.2f}, "
        f"moved {image['l2_moved']:.1f} in l2"
        for i, image in enumerate(n["images"][:3])
    ]
    title = "given, start, log-prob, 4 of 4 steps of 0.2, difference"  # 0.4 at 32 pixels
    with Pillow.open(tmp_path / "s.png") as picture:
        assert_array_equal(picture, sheets.draw(sheets.Page(cells, rows, title)))


def test_an_image_does_not_depend_on_those_beside_it(folder, tmp_path):
    work(folder, tmp_path)
    every = arrays(tmp_path)["images"].astype(int)
    work(folder, tmp_path, input={"num": 2}, ascent={"batch_size": 8})
    assert np.abs(arrays(tmp_path)["images"] - every[:2]).max() <= 1


def test_a_folder_is_edited_and_each_result_bears_the_name_of_its_file(folder, tmp_path):
    n = work(folder, tmp_path, "photos", output={"each": True, "gif": tmp_path / "a.gif"})
    found = arrays(tmp_path)
    assert [image["name"] for image in n["images"]] == ["one", "two"] and found["labels"].tolist() == [2, 2]
    assert_array_equal(found["given"], IMAGES[:2])
    assert found["class_names"].tolist() == list(NAMES)
    for name, image in zip(("one", "two"), found["images"], strict=True):
        with Pillow.open(tmp_path / "s" / f"{name}.png") as picture:
            assert_array_equal(picture, image)
    with Pillow.open(tmp_path / "a.gif") as picture:
        assert picture.format == "GIF" and picture.n_frames == 3


def test_a_sheet_whose_name_ends_in_gif_is_the_animation(folder, tmp_path):
    work(folder, tmp_path, output={"out": tmp_path / "s.GIF", "gif": tmp_path / "a.gif"})
    assert (tmp_path / "s.GIF").read_bytes() == (tmp_path / "a.gif").read_bytes()


def test_a_damaged_file_is_named_and_left_out_and_the_others_are_done(folder, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("one", "two"):
        (photos / f"{name}.png").write_bytes((folder / "photos" / f"{name}.png").read_bytes())
    (photos / "damaged.png").write_bytes(b"no picture")
    n = work(folder, tmp_path, photos, status=1, ascent={"steps": 1})
    assert [image["name"] for image in n["images"]] == ["one", "two"]
    errors = capsys.readouterr().err.splitlines()
    assert [
        line for line in errors if line.startswith("skipped: cannot read the image") and "damaged" in line
    ] == [f"skipped: {line}" for line in n["skipped"]]
    assert errors[-1] == "images skipped: 1"


def test_files_of_one_name_in_several_folders_keep_apart(folder, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Pillow.fromarray(IMAGES[0]).save(tmp_path / name / "1.png")
    release = releases.load(str(folder / "c.safetensors"))
    assert read(InputFlags(images=str(tmp_path)), release).names == ("cat-1", "dog-1")


def test_without_a_class_each_image_climbs_to_its_predicted_class(folder, tmp_path):
    n = work(folder, tmp_path, label=None)
    assert all(image["to"] == image["from"] for image in n["images"])


def test_without_a_class_the_labels_of_an_npz_are_climbed_to(folder, tmp_path):
    np.savez(tmp_path / "b.npz", images=IMAGES, labels=[0, 1, 2, 1, 0])
    n = work(folder, tmp_path, tmp_path / "b.npz", label=None)
    assert [NAMES.index(image["to"]) for image in n["images"]] == [0, 1, 2, 1, 0]


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


def test_a_title_counts_the_steps_of_each_stroke():
    title = report.Title("logit", 40, 0.1)
    titles = [title.after(step) for step in (0, 2, 40, 42, 80)]
    assert titles == [f"logit, {step} of 40 steps of 0.1" for step in (0, 2, 40, 2, 40)]


def test_the_largest_change_is_measured_on_the_mask():
    given = np.full((2, 4, 4, 3), 100, np.uint8)
    result = given.copy()
    result[0, 0, 0], result[1, 3, 3] = [90, 100, 130], 0
    where = np.ones((4, 4, 1), bool)
    where[3] = False
    assert edit.largest_change(given, result, where).tolist() == [30, 0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ascent": {"radius": 0.0}}, "radius is 0"),
        ({"ascent": {"steps": 0}}, "steps is 0"),
        ({"ascent": {"step_size": float("nan")}}, "step_size is nan"),
        ({"ascent": {"batch_size": -1}}, "batch_size is -1"),
        ({"input": {"num": 0}}, "num is 0"),
        ({"input": {"image_size": 24}}, "takes no images of 24 x 24 x 3"),
        ({"input": {"image_size": -1}}, "image_size is -1"),
        ({"output": {"gif": Path("a.png")}}, "cannot write a.png: end its name in .gif"),
        ({"objective": "loss"}, "'loss'.*log-prob, logit, sum"),
        ({"label": "unicorn"}, "no class 'unicorn'.*airplane, cat, dog"),
        ({"images": "nowhere.png"}, "cannot read the image .*nowhere.png"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(folder, tmp_path, changed, message):
    with refused(match=message):
        work(folder, tmp_path, **changed)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"out": "file/s.png"}, "Not a directory"),
        ({"out": "s.jpg", "each": True}, "s/image.jpg"),
        ({"out": "/dev/null", "each": True}, "Not a directory"),
        ({"out": "s"}, "s: end its name in .bmp or .gif or .jpeg or .jpg or .png or .webp"),
        ({"out": "s.tif"}, "s.tif: end its name in"),
        ({"npz": "a.png"}, "a.png: end its name in .npz"),
        ({"json": "a.npz"}, "a.npz: end its name in .json"),
        ({"gif": "a.webp"}, "a.webp: end its name in .gif"),
        ({"out": "a.gif", "gif": "./a.gif"}, "another output goes there"),
    ],
)
def test_an_output_that_cannot_be_or_is_of_another_format_is_refused(tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    for name in ("file", "s"):
        Path(name).touch()
    flags = {name: value if value is True else Path(value) for name, value in flags.items()}
    with refused(match=f"cannot write .*{message}"):
        OutputFlags(**{"out": Path("o.png")} | flags).check()
    assert sorted(os.listdir()) == ["file", "s"]


def test_results_have_the_format_of_the_sheet_and_png_beside_an_animation(folder, tmp_path):
    for out, kind in (("s.jpg", "JPEG"), ("t.gif", "PNG")):
        work(folder, tmp_path, "photos", output={"out": tmp_path / out, "each": True}, ascent={"steps": 1})
        for file in (*(tmp_path / out[0]).iterdir(), tmp_path / "s.jpg"):
            with Pillow.open(file) as picture:
                assert picture.format == (kind if file.parent != tmp_path else "JPEG")
        assert len(list((tmp_path / out[0]).iterdir())) == 2


def test_lines_do_not_mix_with_an_output_to_the_standard_output(tmp_path, capfd):
    report.print_lines(["closing"], {"num": 1}, Path("/dev/stdout"))
    report.print_lines(["closing"], {}, None, (), None, tmp_path / "x")
    report.print_lines(["closing"], {}, None, (), Path("/dev/stdout"))
    assert capfd.readouterr() == ('{\n  "num": 1\n}\nclosing\n', "closing\nclosing\n")


def test_devices_take_any_output(folder, tmp_path):
    null = Path(os.devnull)
    work(folder, tmp_path, output={"out": null, "npz": null, "gif": null}, ascent={"steps": 1})
    assert null.is_char_device() and [file.name for file in tmp_path.iterdir()] == ["n.json"]


@pytest.mark.parametrize("text", ["8", "-1", "one", "", "²"])
def test_a_unit_is_a_number_below_their_count(text):
    assert unit_number("7", 8) == 7
    with refused(match=f"no feature {text!r}: give a number from 0 to 7"):
        unit_number(text, 8)
