"""The super-resolution program: each result lowered again is the given image."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.data import image_files
from synth import superresolution
from synth.superresolution import Options

SMALL = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), np.uint8)
pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.bench(tmp_path_factory.mktemp("superresolution"), a={"images": SMALL})


def superresolve(folder: Path, out: Path, **changed) -> dict:
    """The numbers of a run in two steps."""
    asked = {"images": str(folder / "a.npz"), "classifier": str(folder / "c.safetensors")}
    asked |= {"steps": 2, "factor": 2} | changed
    asked |= {"out": out / "s.png", "npz": out / "t.npz", "json": out / "n.json"}
    assert superresolution.superresolve(tiny.options(Options, **asked)) == 0
    return json.loads((out / "n.json").read_text())


def test_the_means_of_what_is_written_are_the_given_image(folder, tmp_path):
    n = superresolve(folder, tmp_path)
    with np.load(tmp_path / "t.npz", allow_pickle=False) as file:
        assert file["images"].shape == (3, *tiny.SHAPE)
        assert_array_equal(file["given"], SMALL.repeat(2, axis=1).repeat(2, axis=2))
        means = file["images"].reshape(3, 8, 2, 8, 2, 3).mean(axis=(2, 4))
    assert np.abs(means - SMALL).max() <= 0.5 + 1e-6
    assert n["consistency_error_in_255ths"] <= 0.51


def test_pillow_lowers_what_is_written_to_the_given_image(folder, tmp_path):
    muted = np.uint8(64 + SMALL / 2)
    np.savez(tmp_path / "m.npz", images=muted)
    n = superresolve(folder, tmp_path, images=str(tmp_path / "m.npz"), forward="lanczos", steps=1)
    with np.load(tmp_path / "t.npz", allow_pickle=False) as file:
        images = [Pillow.fromarray(image) for image in file["images"]]
    lowered = [image.resize((8, 8), Pillow.Resampling.LANCZOS) for image in images]
    assert np.abs(np.stack(lowered).astype(int) - muted).max() <= 1
    assert all(0 < image["consistency_error_in_255ths"] < 0.5 for image in n["images"])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"factor": 0}, "factor is 0"),
        ({"factor": 3}, "factor is 3: it does not divide the network's 16 pixels"),
        ({"factor": 3, "image_size": 8}, "takes no images of 24 x 24 x 3"),
        ({"factor": 4}, "an image of 8 x 8 is larger than the 4 x 4 enlarged: give --tile .* or --demo"),
        ({"tile": True}, "--tile works on one photograph as it is: give one image file"),
        ({"tile": True, "demo": True}, "--tile keeps every pixel, --demo lowers images first"),
        ({"forward": "nearest"}, "'nearest'.*block, bicubic, lanczos"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(folder, tmp_path, changed, said):
    with refused(match=said):
        superresolve(folder, tmp_path, **changed)
    assert list(tmp_path.iterdir()) == []


def test_a_demo_lowers_larger_images_first(folder, tmp_path):
    superresolve(folder, tmp_path, factor=4, demo=True, steps=1)
    with np.load(tmp_path / "t.npz", allow_pickle=False) as file:
        lowered = np.stack([image_files.square_bytes(image, 4) for image in SMALL])
        assert_array_equal(file["given"], lowered.repeat(4, axis=1).repeat(4, axis=2))


def test_tiles_enlarge_all_of_a_photograph_and_keep_its_means(folder, tmp_path):
    photo = np.random.default_rng(2).integers(60, 196, (11, 19, 3), np.uint8)
    Pillow.fromarray(photo).save(tmp_path / "a.png")
    n = superresolve(folder, tmp_path, images=str(tmp_path / "a.png"), tile=True, photo=tmp_path / "b.png")
    found = np.asarray(Pillow.open(tmp_path / "b.png"))
    means = found.reshape(11, 2, 19, 2, 3).mean(axis=(1, 3))
    assert np.abs(means - photo).max() < 1.01 and len(n["images"]) == 6
    assert (found != photo.repeat(2, axis=0).repeat(2, axis=1)).any()
    with np.load(tmp_path / "t.npz", allow_pickle=False) as file:
        assert_array_equal(file["images"], found[None])


def test_the_photograph_of_a_small_gray_image_is_the_large_one_in_gray(folder, tmp_path, capsys):
    Pillow.fromarray(SMALL[0, :, :, 0]).save(tmp_path / "a.png")
    superresolve(folder, tmp_path, images=str(tmp_path / "a.png"), photo=tmp_path / "b.png")
    with Pillow.open(tmp_path / "b.png") as picture:
        assert (picture.mode, picture.size) == ("L", tiny.SHAPE[:2])
    assert capsys.readouterr().out.startswith("a: 8 x 8, all of it worked on at 16 x 16\na: seen as ")
