"""rsynth-fit-seeds: the Gaussians of the images given, in the classifier's file, whole or not at all."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from tiny import NAMES, refused

from rsynth_jax.cli.parse import parse
from rsynth_jax.sampling import samplers
from rsynth_jax.storage import releases
from rsynth_jax.synthesis import class_gaussians
from synth import seeding

pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """c.safetensors, a classifier without class Gaussians, and photos.npz, which has its classes."""
    folder = tmp_path_factory.mktemp("seeding")
    release = tiny.release(folder / "c.safetensors", NAMES, "linear")
    release = release._replace(class_gaussians=class_gaussians.grey(channels=3))
    release = releases.with_origin(release, releases.Origin("elsewhere", "MIT", "ab"))
    releases.save(folder / "c.safetensors", release)
    tiny.photos(folder / "photos.npz", NAMES, train=30)
    return folder


def fit(bench, *words: str) -> int:
    data = () if "--data" in words else ("--data", f"npz:{bench / 'photos.npz'}")
    return seeding.fit_seeds(parse(seeding.Options, [str(bench / "c.safetensors"), *data, *words]))


def test_the_file_holds_the_gaussians_of_the_images_and_the_same_network(bench, tmp_path, capsys):
    out = tmp_path / "seeded.safetensors"
    assert fit(bench, "--share", "1", "--out", str(out), "--json", str(tmp_path / "x.json")) == 0
    fitted, given = releases.load(out), releases.load(bench / "c.safetensors")
    with np.load(bench / "photos.npz") as photos:
        images, labels = photos["train_images"], photos["train_labels"]
    for label in range(3):
        assert_allclose(fitted.class_gaussians.mean[label], images[labels == label].mean(0) / 255, atol=3e-3)
    spread = np.square(fitted.class_gaussians.components).sum(1).mean()
    assert_allclose(spread, np.mean([(images[labels == k] / 255).var(0) for k in range(3)]), rtol=0.01)
    jax.tree.map(assert_array_equal, fitted.variables, given.variables)
    assert releases.origin(fitted) == releases.origin(given) and fitted.class_names == NAMES
    numbers = json.loads((tmp_path / "x.json").read_text())
    assert fitted.recipe["seeds"] == {name: numbers[name] for name in ("data", "split", "num", "share")}
    assert numbers["num"] == 30 and numbers["side"] == 16 and numbers["components"] == 9
    assert "3 class Gaussians of 30 images, at most 9 components, 0.015 MB a class" in capsys.readouterr().out
    samples = samplers.generate(fitted, "cat", 2, num_steps=0)
    assert abs(samples.images.mean() / 255 - fitted.class_gaussians.mean[1].mean()) < 0.1


def test_a_classifiers_own_file_is_replaced(bench, tmp_path):
    """In the precision that it has."""
    own = str(shutil.copy(bench / "c.safetensors", tmp_path / "own.safetensors"))
    data = f"npz:{bench / 'photos.npz'}"
    third = {"kernel": np.full((768, 3), 1 / 3, np.float32), "bias": np.zeros(3, np.float32)}
    assert seeding.fit_seeds(parse(seeding.Options, [own, "--data", data, "--out", own, "--num", "9"])) == 0
    assert releases.load(own).class_gaussians.components.shape == (3, 2, 16, 16, 3)
    exact = releases.load(own)._replace(variables={"params": {"Dense_0": third}})
    releases.save(Path(own), exact, np.float32)
    assert seeding.fit_seeds(parse(seeding.Options, [own, "--data", data, "--out", own])) == 0
    assert_array_equal(releases.load(own).variables["params"]["Dense_0"]["kernel"], third["kernel"])


def test_no_share_of_the_variance_takes_5_mb_a_class():
    """At 224 pixels too: the Gaussians are of 16 x 16 pixels, whose images have a rank of 768 at most."""
    rank = seeding.SIDE**2 * 3
    assert 4 * rank * (rank + 1) < 2.4e6 < 5e6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--classes", "cifar10"), "has 3 classes: give as many names"),
        (("--classes", "cat", "dog", "ship"), "the data set's classes .* are not the classifier's"),
        (("--split", "test"), "test"),
        (("--num", "4"), "class 1 has 1 training images: seeds need at least 2"),
        (("--data", "folder:/nowhere"), "nowhere"),
        (("--out", "/proc/x.safetensors"), "cannot write /proc/x.safetensors"),
    ],
)
def test_data_that_do_not_fit_are_refused_and_nothing_is_written(bench, tmp_path, words, said):
    out = () if "--out" in words else ("--out", str(tmp_path / "x.safetensors"))
    with refused(match=said):
        fit(bench, *words, *out)
    assert not list(tmp_path.iterdir())


def test_a_share_above_one_ends_the_command_with_one_line(bench, mistake):
    said = mistake(seeding.main, "c.safetensors", "--data", "npz:x.npz", "--share", "1.5")
    assert said.startswith("rsynth-fit-seeds: share is 1.5")
