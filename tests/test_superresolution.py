"""The super-resolution program: block means are the given image, and the rest moves up within the radius."""

import json

import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax import ascent, images, objectives
from synth import superresolution
from synth.superresolution import Options

RNG = np.random.default_rng(1)


def test_block_means_stay_and_the_rest_moves_up_within_ball_and_box(linear):
    low = RNG.random((2, 2, 3), np.float32)
    start, score, stay = superresolution.superresolution(
        linear, low, 2, factor=2, objective="log-prob", radius=0.3
    )
    climb = ascent.projected_gradient_ascent(score, stay, ascent.steepest("l2", 0.2))
    found = np.asarray(ascent.run(climb, start, 6)[0])
    assert_allclose(images.downsample(found, 2), low, atol=1e-5)
    assert 0.05 < np.linalg.norm(found - start) <= 0.3 + 1e-5 and found.min() >= 0 and found.max() <= 1
    assert objectives.log_prob(linear, 2)(found) > objectives.log_prob(linear, 2)(start)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("superresolution")
    np.savez(folder / "a.npz", images=RNG.integers(0, 256, (3, 8, 8, 3), np.uint8))
    with tiny.network():
        tiny.release(folder / "c.safetensors", ("airplane", "cat", "dog"))
        yield folder


def superresolve(folder, out, **changed) -> dict:
    asked = {"classifier": str(folder / "c.safetensors"), "steps": 2, "factor": 2} | changed
    asked |= {"out": out / "s.png", "npz": out / "t.npz", "json": out / "n.json"}
    assert superresolution.superresolve(Options(str(folder / "a.npz"), **asked)) == 0
    return json.loads((out / "n.json").read_text())


def test_the_means_of_what_is_written_are_the_given_image(folder, tmp_path):
    n = superresolve(folder, tmp_path)
    with np.load(tmp_path / "t.npz", allow_pickle=False) as file, np.load(folder / "a.npz") as given:
        assert file["images"].shape == (3, *tiny.SHAPE)
        assert_array_equal(file["given"][:, ::2, ::2], given["images"])
        means = file["images"].reshape(3, 8, 2, 8, 2, 3).mean(axis=(2, 4))
        assert np.abs(means - given["images"]).max() <= 0.5 + 1e-6
    assert n["consistency_error"] <= 0.51 / 255


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"factor": 0}, "factor is 0"), ({"factor": 3}, "factor is 3: it does not divide")],
)
def test_a_factor_that_makes_no_sense_is_refused_and_nothing_is_written(folder, tmp_path, changed, said):
    with refused(match=said):
        superresolve(folder, tmp_path, **changed)
    assert list(tmp_path.iterdir()) == []
