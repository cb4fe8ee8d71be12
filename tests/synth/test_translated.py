"""rsynth-translate --translator: the report of drawn styles, of examples, and of the way between styles."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.cli import translated
from rsynth_jax.data import image_files
from rsynth_jax.data.crops import Box
from rsynth_jax.sampling import translators as passes
from rsynth_jax.storage import translators
from synth import translation

IMAGES = tiny.noise(3)
DOG = ["--to", "dog"]
pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A translator of cats and dogs, a generator, images, and two examples."""
    place = tmp_path_factory.mktemp("translated")
    tiny.translator(place / "t.safetensors")
    tiny.generator(place / "g.safetensors")
    np.savez(place / "a.npz", images=IMAGES[:2])
    np.savez(place / "b.npz", images=IMAGES[1:])
    np.savez(place / "small.npz", images=IMAGES[1:, ::2, ::2])
    return place


@pytest.fixture
def run(folder, tmp_path):
    """Runs the program; returns its numbers and its arrays."""

    def run(*more: str) -> tuple[dict, dict]:
        words = [] if more[0].endswith("p.png") else [str(folder / "a.npz")]
        words += ["--out", str(tmp_path / "s.png"), "--json", str(tmp_path / "n.json")]
        words += ["--npz", str(tmp_path / "t.npz"), "--translator", str(folder / "t.safetensors")]
        words += [word.format(folder=folder, out=tmp_path) for word in more]
        assert translation.translate(translation.parse(translation.Options, words)) == 0
        with np.load(tmp_path / "t.npz", allow_pickle=False) as file:
            return json.loads((tmp_path / "n.json").read_text()), dict(file)

    return run


def test_an_image_has_several_styles_and_the_report_says_how_they_differ(run, folder, tmp_path, capsys):
    numbers, arrays = run("--to", "dog", "--styles", "3", "--seed", "4", "--each")
    release = translators.load(folder / "t.safetensors")
    found = passes.translate_by(release, IMAGES[:2], "dog", styles=3, seed=4)
    assert_array_equal(arrays["images"], found.images.reshape(6, *tiny.SHAPE))
    assert_array_equal(arrays["labels"], np.ones(6))
    assert_array_equal(arrays["styles"], found.styles)
    values = found.images / 255
    gaps = [
        np.sqrt(np.mean((values[:, a] - values[:, b]) ** 2, (1, 2, 3))) for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    assert numbers["diversity"] == pytest.approx(np.mean(gaps), rel=1e-4)
    rmse = np.sqrt(np.mean((values - IMAGES[:2, None] / 255) ** 2, axis=(2, 3, 4))).ravel()
    assert [row["rmse"] for row in numbers["images"]] == pytest.approx(rmse, rel=1e-4)
    assert [row["style_error"] for row in numbers["images"]] == pytest.approx(found.style_error.ravel())
    assert len(list((tmp_path / "s").glob("*.png"))) == 6
    assert "6 translations of 2 images to dog" in capsys.readouterr().out


@pytest.mark.slow
def test_examples_make_a_grid_of_contents_and_styles(run, folder, tmp_path):
    numbers, arrays = run("--to", "0", "--example", "{folder}/b.npz")
    release = translators.load(folder / "t.safetensors")
    found = passes.translate_like(release, IMAGES[:2], "cat", IMAGES[1:])
    assert_array_equal(arrays["images"], found.images.reshape(4, *tiny.SHAPE))
    assert [row["style"] for row in numbers["images"]] == ["0000", "0001"] * 2 and numbers["to"] == "cat"
    with Pillow.open(tmp_path / "s.png") as sheet:
        assert sheet.height > 3 * 64 and sheet.width > 3 * 64  # the examples, then two images


def test_by_default_images_become_the_second_class_like_an_example_of_any_size(run, tmp_path, capsys):
    photo = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Pillow.fromarray(photo).save(tmp_path / "e.png")
    numbers, _ = run("--example", "{out}/e.png")
    assert numbers["to"] == "dog"
    assert "e: 60 x 40, central 40 x 40 worked on at 16 x 16" in capsys.readouterr().out


def test_the_way_between_styles_is_an_animation(run, tmp_path):
    numbers, arrays = run("--to", "dog", "--styles", "2", "--interpolate", "3", "--gif", "{out}/w.gif")
    assert len(numbers["images"]) == 12 and arrays["images"].shape[0] == 12
    with Pillow.open(tmp_path / "w.gif") as gif:
        assert gif.n_frames == 6


def test_photographs_are_written_at_their_own_resolution_one_for_each_style(run, folder, tmp_path, capsys):
    photo = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Pillow.fromarray(photo).save(tmp_path / "p.png")
    words = ["{out}/p.png", *DOG, "--crop", "8,4,32,32", "--styles"]
    _, arrays = run(*words, "2", "--photo", "{out}/whole")
    release = translators.load(folder / "t.safetensors")
    small = image_files.square_bytes(photo, 16, Box(8, 4, 32, 32))
    assert_array_equal(arrays["given"], small[None])
    assert_array_equal(arrays["images"], passes.translate_by(release, small[None], "dog", styles=2).images[0])
    for path in (tmp_path / "whole" / f"p-style-000{j}.png" for j in range(2)):
        whole = np.asarray(Pillow.open(path))
        assert whole.shape == photo.shape
        outside = np.ones(photo.shape[:2], bool)
        outside[4:36, 8:40] = False
        assert_array_equal(whole[outside], photo[outside])
        assert not np.array_equal(whole, photo)
    assert "p: 60 x 40, 32 x 32 at 8,4 worked on at 16 x 16" in capsys.readouterr().out
    run(*words, "1", "--photo", "{out}/one.png")
    assert_array_equal(np.asarray(Pillow.open(tmp_path / "one.png"))[outside], photo[outside])
    with refused(match="is one file for 2 photographs: give a folder"):
        run(*words, "2", "--photo", "{out}/two.png")
    assert not (tmp_path / "two.png").exists()


def test_the_images_of_one_translation_do_not_differ():
    assert_array_equal(translated.diversity(IMAGES[:, None]), np.zeros(3))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--to", "cow"], "no class 'cow'"),
        (
            [*DOG, "--example", "{folder}/small.npz"],
            "the examples are 8 x 8, the translator's images 16 x 16",
        ),
        ([*DOG, "--styles", "0"], "styles is 0"),
        (
            [*DOG, "--example", "{folder}/b.npz", "--styles", "2"],
            "--example has styles of its own, --st",
        ),
        (
            [*DOG, "--gif", "{out}/w.gif"],
            "a translator makes an image in one pass: give --interpolate N",
        ),
        (
            [*DOG, "--image-size", "8"],
            "the translator's images are 16 x 16 x 3, these are 8 x 8",
        ),
        (
            [*DOG, "--interpolate", "2", "--styles", "1"],
            "styles is 1: the way between",
        ),
        ([*DOG, "--until", "0.9"], "--until does not go with --translator: give one of them"),
        ([*DOG, "--mask", "1,2,3,4"], "--mask does not go with --translator: give one of them"),
        ([*DOG, "--classifier", "cifar10"], "--classifier does not go with --translator"),
    ],
    ids=str,
)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(run, tmp_path, capsys, more, said):
    with pytest.raises((ValueError, SystemExit)) as error:
        run(*more)
    lines = (str(error.value) + capsys.readouterr().err).splitlines()
    assert sum(said in line for line in lines) == 1
    assert list(tmp_path.iterdir()) == []


def test_another_kind_is_refused_as_the_translator(folder, tmp_path, mistake):
    words = (str(folder / "a.npz"), "--to", "dog", "--out", str(tmp_path / "o.png"))
    line = mistake(translation.main, *words, "--translator", str(folder / "g.safetensors"))
    assert "is a generator: give a translator" in line
