"""rsynth-invert --generator: the report of a projection, and flags that do not go together."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.cli import projection
from rsynth_jax.cli.projection import Options
from rsynth_jax.sampling import codes
from synth import inversion

IMAGES = tiny.noise(3)
pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A classifier, generators of its classes and of others, and an .npz of images."""
    place = tmp_path_factory.mktemp("projection")
    tiny.release(place / "c.safetensors", tiny.NAMES)
    tiny.generator(place / "g.safetensors", tiny.NAMES)
    tiny.generator(place / "other.safetensors", ("cat", "dog", "cow"))
    np.savez(place / "a.npz", images=IMAGES)
    return place


def words(folder: Path, place: Path, *more: str) -> list[str]:
    files = ["--out", str(place / "s.png"), "--json", str(place / "n.json"), "--npz", str(place / "t.npz")]
    networks = ["--classifier", str(folder / "c.safetensors"), "--generator", str(folder / "g.safetensors")]
    return [str(folder / "a.npz"), *networks, "--steps", "2", *files, *more]


@pytest.mark.slow
def test_the_report_has_each_image_and_its_distances_to_the_given_one(folder, tmp_path):
    flags = inversion.parse(inversion.Options, words(folder, tmp_path))
    assert isinstance(flags, Options) and inversion.invert(flags) == 0
    numbers = json.loads((tmp_path / "n.json").read_text())
    with np.load(tmp_path / "t.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert arrays["codes"].shape == (3, 4, 8)
    assert_array_equal(arrays["given"], IMAGES)
    rmse = np.sqrt(np.square(arrays["images"] / 255 - IMAGES / 255).mean(axis=(1, 2, 3)))
    assert [row["rmse"] for row in numbers["images"]] == pytest.approx(rmse, rel=1e-4)
    for name in ("perceptual_start", "perceptual", "rmse_start", "rmse"):
        assert numbers[name] == pytest.approx(np.mean([row[name] for row in numbers["images"]]))
    assert numbers["rmse"] < numbers["rmse_start"]
    with Pillow.open(tmp_path / "s.png") as sheet:
        assert sheet.height > 3 * tiny.SHAPE[0]


def test_without_a_generator_it_is_the_inversion(folder):
    assert isinstance(inversion.parse(inversion.Options, [str(folder / "a.npz")]), inversion.Options)


@pytest.mark.parametrize("flag", ["--to", "--frames", "--starts", "--smooth", "--radius"])
def test_a_flag_of_the_inversion_does_not_go_with_a_generator(folder, tmp_path, flag):
    with refused(match=f"{flag} does not go with --generator: give one of them"):
        inversion.parse(inversion.Options, words(folder, tmp_path, f"{flag}=2"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--steps", "0"], "steps is 0"),
        (["--truncation", "-1"], "truncation is -1"),
        (["--generator", "nowhere"], "no generator 'nowhere'"),
        (["--generator", "{folder}/c.safetensors"], "is a classifier: give a generator"),
        (
            ["--generator", "{folder}/other.safetensors"],
            "the generator makes cat, dog, cow, the classifier knows",
        ),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(folder, tmp_path, capsys, more, said):
    given = words(folder, tmp_path)
    for flag in (more[0],):
        if flag in given:
            del given[given.index(flag) : given.index(flag) + 2]
    given += [word.format(folder=folder) for word in more]
    with pytest.raises((ValueError, SystemExit)) as error:
        projection.project(inversion.parse(inversion.Options, given))
    lines = (str(error.value) + capsys.readouterr().err).splitlines()
    assert sum(said in line for line in lines) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_defaults_are_those_of_the_library():
    given = {name: Options.__dataclass_fields__[name].default for name in ("perceptual_weight", "truncation")}
    own = codes.project.__kwdefaults__
    steps = {"num_steps": Options.__dataclass_fields__["steps"].default}
    steps |= {"step_size": Options.__dataclass_fields__["step_size"].default}
    assert given | steps == {name: own[name] for name in given | steps}
