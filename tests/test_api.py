"""What a notebook calls: each measure in one line; test_reference.py runs every task."""

import numpy as np
import pytest
import tiny

import rsynth_jax as rs

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, *tiny.SHAPE), np.uint8)


@pytest.fixture(scope="module")
def release(tmp_path_factory, networks):
    """Loaded by its path, as a user's own classifier is."""
    path = tmp_path_factory.mktemp("release") / "c.safetensors"
    tiny.release(path, tiny.NAMES, "linear")
    return rs.load(path)


def test_evaluation_says_which_images_are_classified_correctly(release):
    labels = np.array([0, 1, 2])
    found = rs.evaluate(release, IMAGES, labels)
    assert found.clean.shape == (3,) and found.clean.dtype == bool
    assert (found.robust <= found.clean).all()


def test_scores_compare_two_sets(release, tmp_path):
    tiny.release(tmp_path / "c.safetensors", tiny.NAMES, "linear")
    many = RNG.integers(0, 256, (8, *tiny.SHAPE), np.uint8)
    scores = rs.score(many, many, features=str(tmp_path / "c.safetensors"))
    assert scores["fd"].value == pytest.approx(0, abs=1e-3)
    assert scores["precision"].value == scores["recall"].value == 1


def test_detection_is_an_area_under_a_curve(release):
    estimate = rs.detect(release, IMAGES, IMAGES)
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.value == pytest.approx(0.5)


def test_every_export_exists_and_nothing_else_does():
    assert all(callable(getattr(rs, name)) for name in rs.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rs.nothing  # noqa: B018
