"""Photographs in, photographs out: at their own resolution, upright, with their metadata, gray if gray."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.data import image_files
from rsynth_jax.storage import releases
from synth import inpainting, painting, refinement, translation

pytestmark = pytest.mark.usefixtures("networks")
PHOTO = np.random.default_rng(1).integers(60, 196, (48, 64, 3), np.uint8)  # as it is seen
PROGRAMS = {
    "inpaint": (inpainting.inpaint, inpainting.Options, {"label": "dog"}),
    "translate": (translation.translate, translation.Options, {"label": "dog"}),
    "paint": (painting.paint, painting.Options, {}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A photograph that is stored lying, with a camera's name, and a gray one."""
    folder = tiny.bench(tmp_path_factory.mktemp("photos"), a={"images": tiny.noise(1)})
    exif = Pillow.Exif()
    exif[0x0112], exif[0x0110] = 6, "Camera"
    (folder / "in").mkdir()
    profile = bytes(16) + b"RGB " + bytes(108)
    Pillow.fromarray(np.rot90(PHOTO)).save(folder / "in" / "a.png", exif=exif, icc_profile=profile)
    Pillow.fromarray(PHOTO[:, :, 0]).save(folder / "in" / "gray.webp", lossless=True)
    return folder


def edit(name: str, folder: Path, out: Path, images: str = "in/a.png", **changed) -> dict:
    program, kind, own = PROGRAMS[name]
    asked = {"classifier": str(folder / "c.safetensors"), "steps": 2, "step_size": 0.5, "radius": 5.0} | own
    asked |= {"images": str(folder / images), "out": out / "s.png", "json": out / "n.json"} | changed
    assert program(tiny.options(kind, **asked)) == 0
    return json.loads((out / "n.json").read_text())


@pytest.mark.parametrize("name", PROGRAMS)
def test_outside_of_the_mask_every_byte_is_that_of_the_photograph(folder, tmp_path, capsys, name):
    rectangle = "25%,12,40,75%"
    mask = {"stroke": (f"{rectangle}:dog",)} if name == "paint" else {"mask": (rectangle,)}
    n = edit(name, folder, tmp_path, crop="8,4,40,40", photo=tmp_path / "out.png", **mask)
    with Pillow.open(tmp_path / "out.png") as picture:
        changed = (np.asarray(picture) != PHOTO).any(axis=-1)
        exif = picture.getexif()
        assert (
            exif[0x0110] == "Camera" and 0x0112 not in exif and picture.info["icc_profile"][16:20] == b"RGB "
        )
    inside = np.zeros(PHOTO.shape[:2], bool)
    inside[12:36, 16:40] = True
    assert changed[inside].mean() > 0.5 and not changed[~inside].any()
    row = n["images"][0]
    assert capsys.readouterr().out.startswith(
        "a: 64 x 48, 40 x 40 at 8,4 worked on at 16 x 16\n"
        f"a: seen as {row['seen']} (p {row['p_seen']:.2f}), now as {row['ends']} (p {row['p_ends']:.2f})\n"
    )


def test_a_photograph_unlike_the_training_images_is_warned_of(folder, tmp_path, capsys):
    path = folder / "c.safetensors"
    release = releases.load(str(path))
    for low_p, warned in ((1.0, True), (0.0, False)):
        releases.save(tmp_path / "c.safetensors", release._replace(recipe=release.recipe | {"low_p": low_p}))
        n = edit("translate", folder, tmp_path, classifier=str(tmp_path / "c.safetensors"))
        (row,) = n["images"]
        line = (
            f"a: unlike the training images: p {row['p_seen']:.2f} is lower than of 95 % of the test images"
        )
        assert (line in capsys.readouterr().out.splitlines()) == row["unlike"] == warned


def test_without_a_mask_the_central_square_changes_and_a_gray_photograph_stays_gray(folder, tmp_path):
    edit("translate", folder, tmp_path, "in", photo=tmp_path / "out", each=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "gray.webp"]
    for name, given in (("a.png", PHOTO), ("gray.webp", PHOTO[:, :, :1])):
        found = image_files.read_photograph(tmp_path / "out" / name).pixels
        assert found.shape == given.shape
        changed = (found != given).any(axis=(0, 2))
        assert changed[12:52].all() and not changed[:8].any() and not changed[56:].any()
    moved = found[:, 8:56, 0].astype(float) - PHOTO[:, 8:56, 0]
    before, after = (np.asarray(Pillow.open(tmp_path / "s" / "gray.png")), image_files.read_image)
    assert_array_equal(before, before[:, :, :1].repeat(3, axis=-1))
    small = before - after(folder / "in" / "gray.webp", 16).astype(float)
    assert_allclose(moved.mean(), small.mean(), atol=2)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"photo": "in/a.png"}, "would replace .*a.png"),
        ({"photo": "out.png", "images": "in"}, "is one file for 2 photographs: give a folder"),
        ({"photo": "out.png", "images": "a.npz"}, "give image files or a folder, not arrays"),
        ({"photo": "s.png"}, "another output goes there"),
        ({"crop": "50,0,20,20"}, "the crop 50,0,20,20 leaves the photograph of 64 x 48"),
        ({"crop": "round"}, "cannot read --crop 'round': write left,top,width,height, or square"),
        ({"mask": ("0,0,1,1",), "crop": "20,20,8,8"}, "outside of the part worked on"),
    ],
)
def test_a_mistake_is_refused_and_nothing_is_written(folder, tmp_path, changed, said):
    if "photo" in changed:
        place = folder if changed["photo"].startswith("in") else tmp_path
        changed = changed | {"photo": place / changed["photo"]}
    with refused(match=said):
        edit("translate", folder, tmp_path, **changed)
    assert list(tmp_path.iterdir()) == []


def test_a_photograph_is_read_as_it_is_seen(folder):
    found = image_files.read_photograph(folder / "in" / "a.png")
    assert_array_equal(found.pixels, PHOTO)


def test_a_region_fades_at_the_borders_of_the_crop(folder, tmp_path):
    edit("paint", folder, tmp_path, stroke=("0%,0%,100%,100%:dog",), photo=tmp_path / "out.png")
    changed = np.abs(np.int16(Pillow.open(tmp_path / "out.png")) - PHOTO).max(axis=(0, 2))
    assert changed[24:40].max() > 3 and changed[[8, 55]].max() <= 1  # the crop is 48 columns from 8 on


def test_known_pixels_are_shown_as_they_are_lowered_without_the_hole(folder, tmp_path):
    edit("inpaint", folder, tmp_path, mask=("40%,40%,60%,60%",), npz=tmp_path / "f.npz")
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        changed = (file["given"] != file["images"]).any(axis=(0, 3))
    assert 0 < changed.sum() <= 5 * 5 and not changed[[0, -1]].any()


@pytest.mark.parametrize("name", ["out.gif", "out.tiff"])
def test_a_photograph_of_a_kind_that_is_not_written_is_refused(folder, tmp_path, name):
    with refused(match=rf"cannot write .*{name}: give a name in \.png, \.jpg or \.webp, or a folder"):
        edit("translate", folder, tmp_path, photo=tmp_path / name)
    assert not any(tmp_path.iterdir())


def test_refined_photographs_are_written_too(folder, tmp_path):
    asked = {"classifier": str(folder / "c.safetensors"), "images": str(folder / "in"), "label": "dog"}
    flags = tiny.options(refinement.Options, **asked, out=tmp_path / "r.npz", photo=tmp_path / "out")
    assert refinement.refine(flags) == 0
    found = image_files.read_photograph(tmp_path / "out" / "a.png").pixels
    assert found.shape == PHOTO.shape and (found != PHOTO).any()


def test_tiles_change_a_photograph_at_its_own_scale_inside_the_mask_alone(folder, tmp_path, capsys):
    asked = {"tile": True, "crop": "10,0,50,48", "mask": ("20,10,30,40",), "bare": True}
    edit("translate", folder, tmp_path, photo=tmp_path / "out.png", **asked)
    changed = (np.asarray(Pillow.open(tmp_path / "out.png")) != PHOTO).any(axis=-1)
    assert changed[10:40, 20:30].mean() > 0.5
    changed[10:40, 20:30] = False
    assert not changed.any()
    with Pillow.open(tmp_path / "s.png") as sheet:
        assert sheet.size == (4 * 100 + 3 * 4, 96)  # the images alone, enlarged twice
    said = "a: 64 x 48, 50 x 48 at 10,0 worked on in 16 tiles of 16 x 16\na: "
    assert capsys.readouterr().out.startswith(said)


def test_class_folders_give_the_classes_unless_the_predicted_ones_are_asked_for(folder, tmp_path):
    for name in ("airplane", "cat", "dog"):
        tiny.pictures(tmp_path / "in" / name, tiny.noise(1))
    given = {"images": str(tmp_path / "in"), "steps": 1, "label": None}
    n = edit("inpaint", folder, tmp_path, **given)
    assert [row["to"] for row in n["images"]] == ["airplane", "cat", "dog"]
    n = edit("inpaint", folder, tmp_path, **given | {"label": "predicted"})
    assert len({row["to"] for row in n["images"]}) == 1  # of the same image
