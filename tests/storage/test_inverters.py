"""A released inverter comes back as it was saved; other kinds, other classifiers and damage are refused."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from tiny import refused

from rsynth_jax.storage import files, generators, inverters, releases

NAMES = ("cat", "dog")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, networks) -> Path:
    """A classifier, a generator and an inverter of the classifier."""
    place = tmp_path_factory.mktemp("inverters")
    released = tiny.release(place / "c.safetensors", NAMES)
    tiny.generator(place / "g.safetensors", NAMES)
    tiny.inverter(place / inverters.RELEASE, released)
    return place


def test_an_inverter_comes_back_from_its_file_or_its_run(folder):
    release = inverters.load(folder)
    inverters.save(folder / "again.safetensors", release)
    assert (folder / "again.safetensors").read_bytes() == (folder / inverters.RELEASE).read_bytes()
    assert release.config.shape == (64,) and release.image_shape == tiny.SHAPE
    assert release.class_names == NAMES and release.classifier.endswith("c.safetensors")
    inverter = release.generator
    image = jax.eval_shape(
        lambda features: inverter.decode(inverter.code(0.0, (0, features)), jax.random.key(0)), jnp.zeros(64)
    )
    assert image.shape == tiny.SHAPE and image.dtype == jnp.float32


def test_the_classifier_is_known_by_its_weights(folder):
    release = inverters.load(folder)
    own = releases.load(folder / "c.safetensors")
    inverters.check_classifier(release, own)
    other = own._replace(variables=jax.tree.map(lambda leaf: leaf + 1, own.variables))
    for each in (other, own._replace(class_names=("dog", "cat"))):
        with refused(
            match="^the inverter reads representations of .*c.safetensors, of SHA-256 .{12}: give that"
        ):
            inverters.check_classifier(release, each)


def test_every_kind_is_refused_as_another(folder):
    loads = {"c": releases.load, "g": generators.load, "inverter": inverters.load}
    kinds = {"c": "a classifier", "g": "a generator", "inverter": "an inverter"}
    for file, kind in kinds.items():
        for own, load in loads.items():
            if own != file:
                with refused(match=f"is {kind}: give {kinds[own]}$"):
                    load(folder / f"{file}.safetensors")


def damaged(folder: Path, place: Path, **texts: str) -> Path:
    file = files.read_tensors(folder / inverters.RELEASE)
    kept = {name: text for name, text in file.metadata.items() if name != "sha256"}
    arrays = {name: np.array(array) for name, array in file.arrays.items()}
    files.write_tensors(place / "damaged.safetensors", arrays, kept | texts)
    return place / "damaged.safetensors"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("config", {"layer": "logits"}),
        ("config", {"shape": [65]}),
        ("config", {"shape": [2**31 - 1]}),
        ("config", {"shape": []}),
        ("config", {"widths": [8, 4]}),
        ("config", {"latent_size": 3}),
        ("config", {"layer": "maps:0", "shape": [8, 8, 64]}),
        ("classifier", 3),
        ("classifier_sha256", "x"),
        ("class_names", []),
        ("recipe", [1]),
    ],
    ids=str,
)
def test_a_description_that_does_not_fit_is_refused(folder, tmp_path, name, value):
    if name == "config":
        value = inverters.load(folder).config._asdict() | value
    with refused(match=r"damaged\.safetensors is damaged: "):
        inverters.load(damaged(folder, tmp_path, **{name: json.dumps(value)}))


def test_moments_of_another_number_of_units_are_refused(folder, tmp_path):
    release = inverters.load(folder)
    moments = release.moments._replace(mean=np.zeros(63, np.float32))
    inverters.save(tmp_path / "x.safetensors", release._replace(moments=moments))
    with refused(match="its moments do not fit 64 units or channels"):
        inverters.load(tmp_path / "x.safetensors")
    assert_array_equal(release.moments.mean.shape, (64,))
