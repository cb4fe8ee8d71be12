"""The translation program on a linear classifier: where it ends and stops, what it writes and refuses."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax import ascent, checkpoints, models, synthesis
from rsynth_jax.objectives import TOWARDS
from rsynth_jax.types import Classifier
from synth import translation
from synth.translation import Options

NAMES = ("airplane", "cat", "dog")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, *tiny.SHAPE), np.uint8)


@pytest.fixture(scope="module", autouse=True)
def network():
    with tiny.network():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A classifier, an .npz of images, and the first of them as a photograph."""
    folder = tmp_path_factory.mktemp("translation")
    tiny.release(folder / "c.safetensors", NAMES, "linear")
    np.savez(folder / "a.npz", images=IMAGES)
    Pillow.fromarray(IMAGES[0]).save(folder / "photo.png")
    return folder


def translate(folder: Path, out: Path, given: str = "a.npz", **changed) -> dict:
    """The numbers of a run to dogs in four steps, three images at a time, unless told otherwise."""
    asked = {"to": "dog", "classifier": str(folder / "c.safetensors"), "steps": 4, "batch_size": 3}
    asked |= {"out": out / "s.png", "npz": out / "t.npz", "json": out / "n.json"} | changed
    assert translation.translate(Options(str(folder / given), **asked)) == 0
    return json.loads((out / "n.json").read_text())


def arrays(out: Path) -> dict[str, np.ndarray]:
    with np.load(out / "t.npz", allow_pickle=False) as file:
        return dict(file)


# ---- where it ends


@pytest.mark.parametrize("objective", TOWARDS)
def test_of_two_classes_every_objective_climbs_along_one_line_up_to_the_radius(objective):
    """With logits w.x and -w.x, all three have gradients along w."""
    way = np.random.default_rng(0).normal(size=48).astype(np.float32)
    way /= np.linalg.norm(way)
    linear = Classifier(
        logits=lambda image: np.stack([way, -way]) @ image.ravel(), features=lambda image: image.ravel()
    )
    center = np.full((4, 4, 3), 0.5, np.float32)
    start, score, stay = translation.translation(linear, center, 1, objective=objective, radius=0.25)
    image, _ = ascent.run(ascent.projected_gradient_ascent(score, stay, ascent.steepest("l2", 0.1)), start, 4)
    assert_allclose(image, center - 0.25 * way.reshape(center.shape), atol=1e-5)


def test_images_become_the_class_and_stay_within_the_radius(folder, tmp_path):
    n = translate(folder, tmp_path, steps=30, radius=4.0)
    assert n["p"] > n["p_start"] and n["share"] == 1
    for image in n["images"]:
        assert image["to"] == image["ends"] == "dog" and image["l2_moved"] <= 4 + 0.5 * np.sqrt(768) / 255


def test_an_image_does_not_depend_on_those_beside_it(folder, tmp_path):
    translate(folder, tmp_path)
    every = arrays(tmp_path)["images"].astype(int)
    translate(folder, tmp_path, num=2, batch_size=8)
    assert np.abs(arrays(tmp_path)["images"] - every[:2]).max() <= 1


# ---- where it stops


def test_until_stops_each_image_at_its_first_step_that_is_likely_enough(folder):
    """The plain climb, a step at a time, tells where that is."""
    release = checkpoints.load(str(folder / "c.safetensors"))
    model, inputs = models.create(release.config), (np.float32(IMAGES) / 255, np.full(5, 2))

    def stages(**changed):
        climb_fn = translation.climber(Options("a.npz", "dog", **changed))
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


# ---- what it writes


def test_the_sheet_has_a_row_for_each_of_the_first_images_before_and_after(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(translation, "ROWS", 3)
    n = translate(folder, tmp_path, until=0.9)
    found = arrays(tmp_path)
    pairs = np.stack([IMAGES[:3], found["images"][:3]], axis=1).reshape(-1, *tiny.SHAPE)
    rows = [
        f"{image['from']} -> dog, p {np.exp(image['log_prob']):.2f}, l2 {image['l2_moved']:.1f}"
        for image in n["images"][:3]
    ]
    title = "before, and after log-prob, 4 of 4 steps of 0.2, each stopped at p 0.9"
    with Pillow.open(tmp_path / "s.png") as picture:
        assert_array_equal(picture, translation.pictures.sheet(pairs, 2, rows, title))


def test_a_photograph_is_translated_alone(folder, tmp_path):
    n = translate(folder, tmp_path, "photo.png", gif=tmp_path / "a.gif")
    found = arrays(tmp_path)
    assert len(n["images"]) == 1 and found["labels"].tolist() == [2]
    assert_array_equal(found["given"], IMAGES[:1])
    assert found["class_names"].tolist() == list(NAMES)
    with Pillow.open(tmp_path / "a.gif") as picture:
        assert picture.format == "GIF" and picture.n_frames == 3


def test_the_json_holds_every_number_printed(folder, tmp_path, capsys):
    n = translate(folder, tmp_path)
    assert capsys.readouterr().out == (
        f"{tmp_path / 's.png'}: 5 images to dog in {n['seconds']:.1f} s; {n['share']:.0%} end there, "
        f"mean p {n['p_start']:.2f} -> {n['p']:.2f}, l2 moved {n['l2_moved']:.2f}\n"
    )
    low, high = n["interval"]
    assert 0 <= low <= n["share"] <= high <= 1
    assert n["p"] == pytest.approx(np.mean([np.exp(image["log_prob"]) for image in n["images"]]))
    assert n["share"] == np.mean([image["ends"] == "dog" for image in n["images"]])


# ---- what it refuses


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"radius": 0.0}, "radius is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"step_size": float("nan")}, "step_size is nan"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"num": 0}, "num is 0"),
        ({"until": 0.0}, "until is 0"),
        ({"until": 1.5}, "until is 1.5"),
        ({"objective": "loss"}, "'loss'.*log-prob, logit, sum"),
        ({"to": "unicorn"}, "no class 'unicorn'.*airplane, cat, dog"),
        ({"given": "nowhere.png"}, "cannot read the image .*nowhere.png"),
        ({"image_size": 24}, "takes no images of 24 x 24 x 3"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(folder, tmp_path, changed, said):
    with refused(match=said):
        translate(folder, tmp_path, **changed)
    assert list(tmp_path.iterdir()) == []


def test_a_class_must_be_named():
    asked = translation.console.parse(Options, ["photo.png", "--to", "dog", "--until", "0.9"])
    assert asked == Options("photo.png", "dog", until=0.9)
    with pytest.raises(SystemExit) as stop:
        translation.console.parse(Options, ["photo.png"])
    assert stop.value.code == 2
