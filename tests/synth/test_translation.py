"""The translation program: where it ends and stops, what it keeps and refuses."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import NAMES, refused

from rsynth_jax import models
from rsynth_jax.cli.parse import parse
from rsynth_jax.metrics import paired
from rsynth_jax.models import embedding
from rsynth_jax.sampling import samplers
from rsynth_jax.storage import releases
from synth import translation
from synth.translation import Options

IMAGES = tiny.noise(5)
pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A classifier, and an .npz of images."""
    return tiny.bench(tmp_path_factory.mktemp("translation"), a={"images": IMAGES})


def translate(folder: Path, out: Path, **changed) -> dict:
    """The numbers of a run to dogs in four steps, three images at a time, unless told otherwise."""
    asked = {"label": "dog", "classifier": str(folder / "c.safetensors"), "steps": 4, "batch_size": 3}
    asked |= {"out": out / "s.png", "npz": out / "t.npz", "json": out / "n.json"} | changed
    assert translation.translate(tiny.options(Options, images=str(folder / "a.npz"), **asked)) == 0
    return json.loads((out / "n.json").read_text())


def translated(out: Path) -> np.ndarray:
    """The images that were written, as signed numbers."""
    with np.load(out / "t.npz", allow_pickle=False) as file:
        return file["images"].astype(int)


# ---- where it ends


def test_images_become_the_class_and_stay_within_the_radius(folder, tmp_path):
    """Lengths are given at 32 pixels: at 16, the radius is half as long."""
    n = translate(folder, tmp_path, steps=3, step_size=4.0, radius=8.0, shift=0)
    assert n["p"] > n["p_start"] and n["share"] == 1
    for image in n["images"]:
        assert image["to"] == image["ends"] == "dog" and image["l2_moved"] <= 4 + 0.5 * np.sqrt(768) / 255


# ---- what is kept


def test_no_value_moves_by_more_than_most(folder, tmp_path):
    translate(folder, tmp_path, most=0.02, step_size=1.0)
    assert np.abs(translated(tmp_path) - IMAGES).max() == 5  # 0.02 * 255, as bytes


def test_where_the_mask_is_black_every_pixel_stays_and_gray_is_a_blend(folder, tmp_path):
    shades = np.repeat(np.uint8([0, 51, 255, 255]), 4)[:, None].repeat(16, axis=1)
    Pillow.fromarray(shades).save(tmp_path / "m.png")
    n = translate(folder, tmp_path, mask=(str(tmp_path / "m.png"),), radius=100.0, step_size=30.0)
    moved = np.abs(translated(tmp_path) - IMAGES).max(axis=(0, 2, 3))
    assert n["known_error"] == moved[:4].max() == 0
    assert 0 < moved[4:8].max() <= 51 < moved[8:].max()


@pytest.mark.parametrize(("value", "said"), [(0, "m.png is black"), (1, "m.png: its lightest value is 1 of")])
def test_a_mask_without_white_is_refused(folder, tmp_path, value, said):
    Pillow.fromarray(np.full((16, 16), value, np.uint8)).save(tmp_path / "m.png")
    with refused(match=said):
        translate(folder, tmp_path, mask=(str(tmp_path / "m.png"),))
    assert len(list(tmp_path.iterdir())) == 1


def test_the_coarse_structure_is_kept(folder, tmp_path):
    """All frequencies up to two cycles an image, but for the rounding to bytes."""
    translate(folder, tmp_path, steps=2, step_size=2.0, coarse=2.0)
    cycles = np.hypot(np.fft.fftfreq(16, 1 / 16)[:, None], np.fft.rfftfreq(16, 1 / 16))
    moved = np.abs(np.fft.rfft2(np.float64(translated(tmp_path) - IMAGES), axes=(1, 2))).max(axis=(0, 3))
    assert moved[cycles <= 2].max() < 40 < moved[cycles > 2].max()


@pytest.mark.slow
def test_the_penalty_keeps_what_the_layers_see(folder, tmp_path):
    release = tiny.release(folder / "blocks.safetensors", NAMES)
    own = {"classifier": str(folder / "blocks.safetensors"), "num": 2, "steps": 2, "step_size": 1.0}

    @jax.jit
    def lpips(image, other):
        maps = [models.bind(release.model, release.variables).maps(each) for each in (image, other)]
        return paired.lpips(*maps, [np.ones(layer.shape[-1], np.float32) for layer in maps[0]])

    def distance(**changed) -> float:
        translate(folder, tmp_path, **own, **changed)
        pairs = zip(np.float32(translated(tmp_path)) / 255, np.float32(IMAGES[:2]) / 255, strict=True)
        return np.mean([lpips(*pair) for pair in pairs])

    assert distance(resemble=30.0) < 0.7 * distance()


def test_the_seed_draws_the_shifts(folder, tmp_path):
    one, same, other = (translate(folder, tmp_path, seed=seed)["images"] for seed in (0, 0, 1))
    assert one == same != other


# ---- where it stops


def test_until_stops_each_image_at_its_first_step_that_is_likely_enough(folder):
    """The plain ascent, a step at a time, tells where that is."""
    release = releases.load(str(folder / "c.safetensors"))

    def translate(callback=None, **changed):
        settings = {"num_steps": 6, "every": 1, "callback": callback} | changed
        return samplers.translate(release, IMAGES, "dog", **settings)

    stages = []
    translate(lambda step, images: stages.append(images))
    plain = np.stack(stages)
    network = embedding.network(release.model)
    likely = np.stack([jax.nn.softmax(network(release.variables, stage).logits)[:, 2] for stage in plain])
    until = float(np.sort(likely[3])[2:4].mean())
    stop = np.where((likely >= until).any(axis=0), (likely >= until).argmax(axis=0), 6)
    assert len(set(stop.tolist())) > 1
    stopped = translate(until=until).images
    assert np.abs(np.int16(stopped) - plain[stop, np.arange(5)]).max() <= 1


def test_an_image_that_is_likely_enough_already_stays_as_it_is(folder, tmp_path):
    n = translate(folder, tmp_path, until=1e-9)
    assert n["l2_moved"] == 0
    assert_array_equal(translated(tmp_path), IMAGES)


# ---- what it refuses


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"until": 0.0}, "until is 0"),
        ({"until": 1.5}, "until is 1.5"),
        ({"most": 0.0}, "most is 0"),
        ({"coarse": -1.0}, "coarse is -1"),
        ({"resemble": -1.0}, "resemble is -1"),
        ({"shift": -1}, "shift is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"resemble": 1.0}, "shows no layers"),  # a linear network has none
        ({"label": "unicorn"}, "no class 'unicorn'.*airplane, cat, dog"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(folder, tmp_path, changed, said):
    with refused(match=said):
        translate(folder, tmp_path, **changed)
    assert list(tmp_path.iterdir()) == []


def test_a_class_must_be_named():
    asked = parse(Options, ["photo.png", "--to", "dog", "--until", "0.9"])
    assert asked == tiny.options(Options, images="photo.png", label="dog", until=0.9)
    with pytest.raises(SystemExit) as stop:
        parse(Options, ["photo.png"])
    assert stop.value.code == 2
