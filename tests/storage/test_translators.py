"""A released translator comes back as it was saved; other kinds and damage are refused."""

import json

import jax
import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from tiny import refused

from rsynth_jax.storage import files, generators, inverters, releases, translators


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("translators")
    tiny.translator(place / translators.RELEASE)
    tiny.generator(place / "g.safetensors")
    return place


def test_a_translator_comes_back_from_its_file_or_its_run(folder):
    release = translators.load(folder)
    translators.save(folder / "again.safetensors", release)
    assert (folder / "again.safetensors").read_bytes() == (folder / translators.RELEASE).read_bytes()
    assert release.class_names == ("cat", "dog") and release.image_shape == tiny.SHAPE
    again = translators.load(folder / "again.safetensors")
    jax.tree.map(assert_array_equal, release.variables, again.variables)


def test_another_kind_is_refused_as_a_translator_and_the_reverse(folder):
    with refused(match="is a generator: give a translator$"):
        translators.load(folder / "g.safetensors")
    for kind, load in {"a classifier": releases, "a generator": generators, "an inverter": inverters}.items():
        with refused(match=f"is a translator: give {kind}$"):
            load.load(folder / translators.RELEASE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("config", {"widths": [4]}),
        ("config", {"widths": [4, 2**31 - 1]}),
        ("config", {"image_size": 12}),
        ("config", {"style_size": 0}),
        ("config", {"blocks": 2}),
        ("class_names", ["cat"]),
        ("class_names", ["cat", "cat"]),
        ("recipe", [1]),
    ],
    ids=str,
)
def test_a_description_that_does_not_fit_is_refused(folder, tmp_path, name, value):
    if name == "config":
        value = translators.load(folder).config._asdict() | value
    file = files.read_tensors(folder / translators.RELEASE)
    texts = {key: text for key, text in file.metadata.items() if key != "sha256"}
    arrays = {key: np.array(array) for key, array in file.arrays.items()}
    files.write_tensors(tmp_path / "d.safetensors", arrays, texts | {name: json.dumps(value)})
    with refused(match=r"d\.safetensors is damaged: "):
        translators.load(tmp_path / "d.safetensors")
