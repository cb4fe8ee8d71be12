"""A released segmenter comes back as it was saved; other kinds and unfit parts are refused in words."""

from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from tiny import refused

from rsynth_jax.storage import files, generators, releases, segmenters


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, segmenters.SegmenterRelease]:
    path = tmp_path_factory.mktemp("run") / segmenters.RELEASE
    return path, tiny.segmenter(path)


def test_a_segmenter_comes_back_from_its_file_and_its_run_and_is_saved_to_the_same_bytes(saved, tmp_path):
    path, release = saved
    for name in (path, path.parent):
        loaded = segmenters.load(name)
        jax.tree.map(assert_array_equal, loaded.variables, release.variables)
        assert loaded._replace(variables={}) == release._replace(variables={})
    segmenters.save(tmp_path / "again.safetensors", release)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    assert segmenters.describe(release) == "IoU 0.500 on test images (wall 0.50, door 0.50)"


def test_the_kinds_are_not_taken_for_each_other(saved, tmp_path):
    path, _ = saved
    tiny.generator(tmp_path / "generator.safetensors")
    for load, kind in ((generators.load, "generator"), (releases.load, "classifier")):
        for name in (path, path.parent):
            with refused(match=f"is a segmenter: give a {kind}$"):
                load(name)
    for name in (tmp_path, tmp_path / "generator.safetensors"):
        with refused(match="is a generator: give a segmenter$"):
            segmenters.load(name)
    with refused(match="'cat-dog-64' is a classifier: give a segmenter$"):
        segmenters.load("cat-dog-64")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"iou": "[0.5]"}, "its class names and their IoU are not those of 2 classes"),
        ({"iou": "[0.5, 1.5]"}, "iou of class 1 is 1.5"),
        ({"class_names": '["wall"]'}, "its class names and their IoU are not those of 2 classes"),
        (
            {"image_shape": "[12, 16, 3]"},
            "images of 12 x 16: a segmenter takes sides that",
        ),
        ({"config": '{"num_classes": 3, "width": 2}'}, "its weights are not those of its segmenter"),
        ({"config": '{"num_classes": 2, "width": 0}'}, "width is 0"),
    ],
    ids=str,
)
def test_parts_that_do_not_fit_are_refused(saved, tmp_path, parts, message):
    file = files.read_tensors(saved[0])
    texts = {name: text for name, text in file.metadata.items() if name != "sha256"} | parts
    path = tmp_path / "damaged.safetensors"
    files.write_tensors(path, {name: np.array(each) for name, each in file.arrays.items()}, texts)
    with refused(match=f"is damaged: {message}"):
        segmenters.load(path)
