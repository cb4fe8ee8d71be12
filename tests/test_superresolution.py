"""The super-resolution program: lowered it is the given image, and the rest moves up within the radius."""

import json

import jax
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax import images
from rsynth_jax.synthesis import ascent, objectives
from rsynth_jax.synthesis.norms import L2
from synth import superresolution
from synth.superresolution import Options

RNG = np.random.default_rng(1)


FILTERS = {"bicubic": Pillow.Resampling.BICUBIC, "lanczos": Pillow.Resampling.LANCZOS}


@pytest.mark.parametrize("forward", superresolution.FORWARD)
def test_what_lowers_stays_and_the_rest_moves_up_within_ball_and_box(linear, forward):
    low = np.float32(0.2 + 0.6 * RNG.random((2, 2, 3)))
    start, score, stay = superresolution.superresolution(
        linear, low, 2, factor=2, forward=forward, objective="log-prob", radius=0.3
    )
    climb = ascent.projected_gradient_ascent(score, stay, ascent.steepest(L2, 0.2))
    found = np.asarray(jax.jit(lambda start: ascent.run(climb, start, 3)[0])(start))
    assert_allclose(superresolution.FORWARD[forward].lower(found, 2), low, atol=1e-4)
    assert 0.05 < np.linalg.norm(found - start) <= 0.3 + 1e-5 and found.min() >= 0 and found.max() <= 1
    assert objectives.log_prob(linear, 2)(found) > objectives.log_prob(linear, 2)(start)


@pytest.mark.parametrize("forward", FILTERS)
def test_filters_are_those_of_pillow(forward):
    image = RNG.integers(0, 256, (16, 24, 3), np.uint8)
    theirs = np.asarray(Pillow.fromarray(image).resize((6, 4), FILTERS[forward]))
    ours = superresolution.FORWARD[forward].lower(images.decode(image), 4)
    assert_allclose(255 * np.clip(ours, 0, 1), theirs, atol=1.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("superresolution")
    np.savez(folder / "a.npz", images=RNG.integers(0, 256, (3, 8, 8, 3), np.uint8))
    with tiny.network():
        tiny.release(folder / "c.safetensors", tiny.NAMES)
        yield folder


def superresolve(folder, out, **changed) -> dict:
    asked = {"given": str(folder / "a.npz"), "classifier": str(folder / "c.safetensors")}
    asked |= {"steps": 2, "factor": 2} | changed
    asked |= {"out": out / "s.png", "npz": out / "t.npz", "json": out / "n.json"}
    assert superresolution.superresolve(Options(**asked)) == 0
    return json.loads((out / "n.json").read_text())


def test_the_means_of_what_is_written_are_the_given_image(folder, tmp_path):
    n = superresolve(folder, tmp_path)
    with np.load(tmp_path / "t.npz", allow_pickle=False) as file, np.load(folder / "a.npz") as given:
        assert file["images"].shape == (3, *tiny.SHAPE)
        assert_array_equal(file["given"][:, ::2, ::2], given["images"])
        means = file["images"].reshape(3, 8, 2, 8, 2, 3).mean(axis=(2, 4))
        assert np.abs(means - given["images"]).max() <= 0.5 + 1e-6
    assert n["consistency_error"] <= 0.51 / 255


def test_pillow_lowers_what_is_written_to_the_given_image(folder, tmp_path):
    with np.load(folder / "a.npz") as file:
        muted = np.uint8(64 + file["images"] / 2)
    np.savez(tmp_path / "m.npz", images=muted)
    n = superresolve(folder, tmp_path, given=str(tmp_path / "m.npz"), forward="lanczos", steps=1)
    with np.load(tmp_path / "t.npz", allow_pickle=False) as file:
        lowered = [Pillow.fromarray(image).resize((8, 8), FILTERS["lanczos"]) for image in file["images"]]
    assert np.abs(np.stack(lowered).astype(int) - muted).max() <= 1
    assert all(0 < image["consistency_error"] < 0.5 / 255 for image in n["images"])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"factor": 0}, "factor is 0"),
        ({"factor": 3}, "factor is 3: it does not divide"),
        ({"forward": "nearest"}, "'nearest'.*block, bicubic, lanczos"),
    ],
)
def test_a_factor_that_makes_no_sense_is_refused_and_nothing_is_written(folder, tmp_path, changed, said):
    with refused(match=said):
        superresolve(folder, tmp_path, **changed)
    assert list(tmp_path.iterdir()) == []
