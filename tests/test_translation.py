"""The translation program on a linear classifier: where it ends and stops, what it writes and refuses."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from tiny import NAMES, refused

from rsynth_jax import models
from rsynth_jax.cli import run as console
from rsynth_jax.cli import sheets as pictures
from rsynth_jax.metrics import paired
from rsynth_jax.storage import releases as checkpoints
from rsynth_jax.synthesis import ascent
from rsynth_jax.synthesis import tasks as synthesis
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.objectives import CLASS_OBJECTIVES
from rsynth_jax.types import Classifier
from synth import translation
from synth.translation import Options

IMAGES = tiny.noise(5)
pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A classifier, and an .npz of images."""
    return tiny.bench(tmp_path_factory.mktemp("translation"), a={"images": IMAGES})


def translate(folder: Path, out: Path, given: str = "a.npz", **changed) -> dict:
    """The numbers of a run to dogs in four steps, three images at a time, unless told otherwise."""
    asked = {"to": "dog", "classifier": str(folder / "c.safetensors"), "steps": 4, "batch_size": 3}
    asked |= {"out": out / "s.png", "npz": out / "t.npz", "json": out / "n.json"} | changed
    assert translation.translate(Options(str(folder / given), label=asked.pop("to"), **asked)) == 0
    return json.loads((out / "n.json").read_text())


def arrays(out: Path) -> dict[str, np.ndarray]:
    with np.load(out / "t.npz", allow_pickle=False) as file:
        return dict(file)


# ---- where it ends


@pytest.mark.parametrize("objective", CLASS_OBJECTIVES)
def test_of_two_classes_every_objective_climbs_along_one_line_up_to_the_radius(objective):
    """With logits w.x and -w.x, all have gradients along w; the energy goes where it already leans."""
    way = np.random.default_rng(0).normal(size=48).astype(np.float32)
    way /= np.linalg.norm(way)
    linear = Classifier(
        logits=lambda image: np.stack([way, -way]) @ (image.ravel() - 0.5), features=jnp.ravel
    )
    center = np.full((4, 4, 3), 0.5, np.float32) - 0.01 * way.reshape(4, 4, 3)
    free = jnp.ones((4, 4, 1))
    start, score, stay = translation.translation(
        linear, center, 1, free, objective=objective, radius=0.25, most=1.0
    )
    image, _ = ascent.run(ascent.projected_gradient_ascent(score, stay, ascent.steepest(L2, 0.1)), start, 4)
    assert_allclose(image, center - 0.25 * way.reshape(center.shape), atol=1e-5)


def test_images_become_the_class_and_stay_within_the_radius(folder, tmp_path):
    """Lengths are given at 32 pixels: at 16, the radius is half as long."""
    n = translate(folder, tmp_path, steps=60, radius=8.0, shift=0)
    assert n["p"] > n["p_start"] and n["share"] == 1
    for image in n["images"]:
        assert image["to"] == image["ends"] == "dog" and image["l2_moved"] <= 4 + 0.5 * np.sqrt(768) / 255


# ---- what is kept


def test_no_value_moves_by_more_than_most(folder, tmp_path):
    translate(folder, tmp_path, most=0.02, steps=20)
    assert np.abs(arrays(tmp_path)["images"].astype(int) - IMAGES).max() == 5  # 0.02 * 255, as bytes


def test_where_the_mask_is_black_every_pixel_stays_and_grey_is_a_blend(folder, tmp_path):
    shades = np.repeat(np.uint8([0, 51, 255, 255]), 4)[:, None].repeat(16, axis=1)
    pictures.write_image(tmp_path / "m.png", shades[:, :, None].repeat(3, axis=2))
    n = translate(folder, tmp_path, mask=tmp_path / "m.png", steps=60, radius=100.0, step_size=2.0)
    moved = np.abs(arrays(tmp_path)["images"].astype(int) - IMAGES).max(axis=(0, 2, 3))
    assert n["known_error"] == moved[:4].max() == 0
    assert 0 < moved[4:8].max() <= 51 < moved[8:].max()


def test_a_black_mask_is_refused(folder, tmp_path):
    pictures.write_image(tmp_path / "m.png", np.zeros((16, 16, 3), np.uint8))
    with refused(match="m.png is black"):
        translate(folder, tmp_path, mask=tmp_path / "m.png")
    assert len(list(tmp_path.iterdir())) == 1


def test_the_coarse_structure_is_kept(folder, tmp_path):
    """All frequencies up to two cycles an image, but for the rounding to bytes."""
    translate(folder, tmp_path, steps=20, coarse=2.0)
    found = arrays(tmp_path)["images"]
    cycles = np.hypot(np.fft.fftfreq(16, 1 / 16)[:, None], np.fft.rfftfreq(16, 1 / 16))
    moved = np.abs(np.fft.rfft2(np.float64(found) - IMAGES, axes=(1, 2))).max(axis=(0, 3))
    assert moved[cycles <= 2].max() < 40 < moved[cycles > 2].max()


def test_the_penalty_keeps_what_the_layers_see(folder, tmp_path):
    tiny.release(folder / "blocks.safetensors", NAMES)
    release = checkpoints.load(str(folder / "blocks.safetensors"))
    maps = jax.jit(lambda image: models.bind(models.create(release.config), release.variables).maps(image))
    heads = [np.ones(layer.shape[-1], np.float32) for layer in maps(IMAGES[0] / np.float32(255))]

    def distance(**changed) -> float:
        translate(folder, tmp_path, classifier=str(folder / "blocks.safetensors"), steps=10, **changed)
        pairs = zip(np.float32(arrays(tmp_path)["images"]) / 255, np.float32(IMAGES) / 255, strict=True)
        return np.mean([paired.lpips(maps(one), maps(other), heads) for one, other in pairs])

    assert distance(resemble=30.0) < 0.7 * distance()


# ---- where it stops


def test_until_stops_each_image_at_its_first_step_that_is_likely_enough(folder):
    """The plain climb, a step at a time, tells where that is."""
    release = checkpoints.load(str(folder / "c.safetensors"))
    model, free = models.create(release.config), np.ones((5, 16, 16, 1), np.float32)
    inputs = np.float32(IMAGES) / 255, np.full(5, 2), free

    def stages(**changed):
        climb_fn = translation.climber(Options("a.npz", label="dog", **changed))
        return np.stack(list(synthesis.stages(model, climb_fn, 8, 1)(release.variables, *inputs)))

    plain = stages()
    likely = np.stack([jax.nn.softmax(model.apply(release.variables, stage).logits)[:, 2] for stage in plain])
    until = float(np.median(likely[4]))
    stop = np.where((likely >= until).any(axis=0), (likely >= until).argmax(axis=0), 8)
    assert len(set(stop.tolist())) > 1
    for i, (image, last) in enumerate(zip(stages(until=until)[-1], stop, strict=True)):
        assert_allclose(image, plain[last, i], atol=1e-5)


def test_an_image_that_is_likely_enough_already_stays_as_it_is(folder, tmp_path):
    n = translate(folder, tmp_path, until=1e-9)
    found = arrays(tmp_path)
    assert n["l2_moved"] == 0
    assert_array_equal(found["images"], IMAGES)


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
        ({"resemble": 1.0}, "shows no layers"),  # a linear network has none
        ({"to": "unicorn"}, "no class 'unicorn'.*airplane, cat, dog"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(folder, tmp_path, changed, said):
    with refused(match=said):
        translate(folder, tmp_path, **changed)
    assert list(tmp_path.iterdir()) == []


def test_a_class_must_be_named():
    asked = console.parse(Options, ["photo.png", "--to", "dog", "--until", "0.9"])
    assert asked == Options("photo.png", label="dog", until=0.9)
    with pytest.raises(SystemExit) as stop:
        console.parse(Options, ["photo.png"])
    assert stop.value.code == 2
