"""The super-resolution program: each result lowered again is the given image."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import refused

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
    assert n["consistency_error"] <= 0.51 / 255


def test_pillow_lowers_what_is_written_to_the_given_image(folder, tmp_path):
    muted = np.uint8(64 + SMALL / 2)
    np.savez(tmp_path / "m.npz", images=muted)
    n = superresolve(folder, tmp_path, images=str(tmp_path / "m.npz"), forward="lanczos", steps=1)
    with np.load(tmp_path / "t.npz", allow_pickle=False) as file:
        images = [Pillow.fromarray(image) for image in file["images"]]
    lowered = [image.resize((8, 8), Pillow.Resampling.LANCZOS) for image in images]
    assert np.abs(np.stack(lowered).astype(int) - muted).max() <= 1
    assert all(0 < image["consistency_error"] < 0.5 / 255 for image in n["images"])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"factor": 0}, "factor is 0"),
        ({"factor": 3}, "factor is 3: it does not divide the classifier's 16 pixels"),
        ({"factor": 3, "image_size": 8}, "takes no images of 24 x 24 x 3"),
        ({"forward": "nearest"}, "'nearest'.*block, bicubic, lanczos"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(folder, tmp_path, changed, said):
    with refused(match=said):
        superresolve(folder, tmp_path, **changed)
    assert list(tmp_path.iterdir()) == []
