"""rsynth-invert --inverter: the report of one pass, of rounds, of few activations, and of three ways."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.cli import one_pass
from rsynth_jax.cli.generator_pages import parse_flags
from rsynth_jax.sampling import inverters as passes
from rsynth_jax.storage import inverters, releases
from synth import generation, inversion

IMAGES = tiny.noise(2)
pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A classifier and another one, an inverter of the first, a generator, and an .npz of images."""
    place = tmp_path_factory.mktemp("one-pass")
    tiny.inverter(place / "i.safetensors", tiny.release(place / "c.safetensors", tiny.NAMES))
    tiny.release(place / "other.safetensors", ("cat", "dog", "cow"))
    tiny.generator(place / "g.safetensors")
    np.savez(place / "a.npz", images=IMAGES)
    return place


@pytest.fixture
def run(folder, tmp_path):
    """Runs the program; returns its numbers and its arrays."""

    def run(*more: str) -> tuple[dict, dict]:
        files = ["--out", str(tmp_path / "s.png"), "--json", str(tmp_path / "n.json")]
        files += ["--npz", str(tmp_path / "t.npz"), "--inverter", str(folder / "i.safetensors")]
        words = [str(folder / "a.npz"), *files, *(word.format(folder=folder) for word in more)]
        assert inversion.invert(inversion.parse(inversion.Options, words)) == 0
        with np.load(tmp_path / "t.npz", allow_pickle=False) as file:
            return json.loads((tmp_path / "n.json").read_text()), dict(file)

    return run


@pytest.fixture(scope="module")
def once(folder):
    release = releases.load(folder / "c.safetensors")
    return passes.invert_by(release, inverters.load(folder / "i.safetensors"), IMAGES)


def test_one_pass_by_the_classifier_that_the_inverter_names(run, once, tmp_path):
    numbers, arrays = run()
    assert_array_equal(arrays["images"], once.images)
    assert_array_equal(arrays["given"], IMAGES)
    assert [row["distance"] for row in numbers["images"]] == pytest.approx(once.distance)
    rmse = np.sqrt(np.square(once.images / 255 - IMAGES / 255).mean(axis=(1, 2, 3)))
    assert [row["rmse"] for row in numbers["images"]] == pytest.approx(rmse)
    assert numbers["ways"]["one pass"]["distance"] == pytest.approx(once.distance.mean())
    with Pillow.open(tmp_path / "s.png") as sheet:
        assert sheet.height > 2 * 80


def test_rounds_are_a_strip_and_an_animation_with_a_frame_each(run, once, tmp_path):
    numbers, arrays = run("--rounds", "3", "--gif", str(tmp_path / "r.gif"), "--each")
    assert list(numbers["ways"]) == ["round 1", "round 2", "round 3"] and len(numbers["images"]) == 6
    assert arrays["all"].shape == (2, 3, *tiny.SHAPE)
    assert_array_equal(arrays["all"][:, 0], once.images)
    with Pillow.open(tmp_path / "r.gif") as gif:
        assert gif.n_frames == 3
    assert len(list((tmp_path / "s").glob("*.png"))) == 6


def test_a_column_for_each_number_of_activations_the_last_one_the_plain_pass(run, once):
    numbers, arrays = run("--strongest", "1", "5", "all")
    assert list(numbers["ways"]) == ["1", "5", "all"]
    assert_array_equal(arrays["all"][:, 2], once.images)
    assert (arrays["all"][:, 0] != once.images).any()


@pytest.mark.slow
def test_the_three_ways_are_side_by_side_with_their_seconds_and_errors(run, once, capsys):
    numbers, arrays = run("--then", "climb", "--steps", "2", "--starts", "1")
    ways = numbers["ways"]
    assert list(ways) == ["ascent", "one pass", "one pass then ascent"]
    assert_array_equal(arrays["all"][:, 1], once.images)
    assert ways["one pass then ascent"]["distance"] < ways["one pass"]["distance"]
    assert ways["one pass then ascent"]["seconds"] > ways["one pass"]["seconds"] > 0
    assert (
        f"one pass then ascent {ways['one pass then ascent']['distance']:.3f} in" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--rounds", "0"], "rounds is 0"),
        (["--strongest", "0"], "cannot read --strongest '0': give numbers above 0, or all"),
        (["--rounds", "2", "--strongest", "1"], "--rounds and --strongest are different sheets"),
        (["--gif", "{folder}/r.gif"], "an inverter makes an image in one pass: give --rounds N"),
        (["--classifier", "{folder}/other.safetensors"], "the inverter reads representations of "),
        (["--image-size", "8"], "the inverter makes images of 16 x 16 x 3, these are 8 x 8 x 3"),
        (["--to", "b.png"], "--to does not go with --inverter: give one of them"),
        (["--generator", "g"], "does not go with"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(run, tmp_path, capsys, more, said):
    with pytest.raises((ValueError, SystemExit)) as error:
        run(*more)
    lines = (str(error.value) + capsys.readouterr().err).splitlines()
    assert sum(said in line for line in lines) == 1
    assert list(tmp_path.iterdir()) == []


def test_draws_of_a_variational_inverter(folder, tmp_path):
    variational = tiny.inverter(
        tmp_path / "v.safetensors", releases.load(folder / "c.safetensors"), latent_size=2
    )
    words = f"--num 3 --seed 5 --out {tmp_path / 'd.png'} --npz {tmp_path / 'd.npz'} --inverter".split()

    def run(name: str, *more: str) -> int:
        return generation.generate(parse_flags(generation.Options, [*words, name, *more]))

    assert run(str(tmp_path / "v.safetensors")) == 0
    with np.load(tmp_path / "d.npz", allow_pickle=False) as file:
        assert_array_equal(file["images"], passes.decode_prior(variational, 3, seed=5))
    with refused(match="^this inverter is not variational"):
        run(str(folder / "i.safetensors"))
    with refused(match="^an inverter draws images of no given class"):
        run(str(tmp_path / "v.safetensors"), "--class", "cat")
    with refused(match="^--steps is a flag of the classifier's ascent: give it or --inverter"):
        run(str(tmp_path / "v.safetensors"), "--steps", "3")


def test_another_kind_is_refused_as_the_inverter(folder):
    for name, kind in {"c": "a classifier", "g": "a generator"}.items():
        flags = one_pass.Options(
            input=inversion.options.InputFlags(images="a.png"), inverter=str(folder / f"{name}.safetensors")
        )
        with refused(match=f"is {kind}: give an inverter$"):
            one_pass.invert_by(flags)
