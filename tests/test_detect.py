"""The detection program on a linear classifier: its figures, its sets, what it writes and refuses."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax import models
from rsynth_jax.metrics import ranking
from rsynth_jax.storage import releases as checkpoints
from train import detect
from train.detect import Options

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, *tiny.SHAPE), np.uint8)
OTHERS = RNG.integers(0, 90, (9, *tiny.SHAPE), np.uint8)
pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> Options:
    """Twelve images of noise against dark ones, and against sets that are drawn."""
    folder = tiny.bench(tmp_path_factory.mktemp("detect"), a={"images": IMAGES}, b={"images": OTHERS})
    against = ("constant", str(folder / "b.npz"))
    return Options(str(folder / "c.safetensors"), str(folder / "a.npz"), against, num=10, batch_size=4)


def detected(options: Options, path: Path, **changed) -> dict:
    """What the program writes, but for the seconds."""
    assert detect.detect(Options(**vars(options) | {"json": path} | changed)) == 0
    numbers = json.loads(path.read_text())
    assert numbers.pop("seconds") > 0
    return numbers


@pytest.fixture(scope="module")
def once(options, tmp_path_factory) -> dict:
    return detected(options, tmp_path_factory.mktemp("once") / "n.json")


def test_the_figures_are_those_of_the_log_sum_exp_of_the_logits(options, once):
    release = checkpoints.load(options.classifier)
    model = models.create(release.config)

    def energy(images):
        logits = model.apply(release.variables, np.float32(images) / np.float32(255)).logits
        return np.log(np.exp(np.float64(logits)).sum(axis=1))

    inside, outside = energy(IMAGES[:10]), energy(OTHERS)
    assert once["mean_energy"]["value"] == pytest.approx(inside.mean(), abs=1e-4)
    found = once["against"][options.against[1]]
    assert found["mean_energy"]["value"] == pytest.approx(outside.mean(), abs=1e-4)
    assert_allclose(list(found["auroc"].values()), ranking.auroc(inside, outside), atol=1e-6)
    assert (once["num"], found["num"]) == (10, 9)


def test_the_same_command_gives_the_same_numbers_in_any_batch(options, tmp_path, once):
    assert detected(options, tmp_path / "n.json") == once
    other = detected(options, tmp_path / "n.json", batch_size=7)
    leaves, others = jax.tree.leaves(once), jax.tree.leaves(other)
    numbers = [(a, b) for a, b in zip(leaves, others, strict=True) if isinstance(a, float)]
    assert_allclose(*zip(*numbers, strict=True), atol=1e-4)


def test_a_set_against_its_own_copy_is_not_told_apart(options, tmp_path):
    np.savez(tmp_path / "copy.npz", images=IMAGES)
    found = detected(options, tmp_path / "n.json", against=(str(tmp_path / "copy.npz"),))
    assert found["against"][str(tmp_path / "copy.npz")]["auroc"]["value"] == pytest.approx(0.5)


@pytest.mark.parametrize("name", detect.DRAWS)
def test_a_drawn_image_depends_on_the_seed_and_its_number_alone(name):
    many, few = detect.drawn(name, 3, 9, tiny.SHAPE), detect.drawn(name, 3, 2, tiny.SHAPE)
    assert (len(many), len(few)) == (9, 2)
    assert_array_equal(many[1], few[1])
    assert many[0].dtype == np.uint8 and many[0].shape == tiny.SHAPE
    for other in (many[0], detect.drawn(name, 4, 2, tiny.SHAPE)[1]):
        assert (other != many[1]).any()


def test_what_is_drawn_is_what_it_is_called():
    shape = (200, 200, 3)
    noise, gaussian, constant = (detect.drawn(name, 0, 1, shape)[0] / 255 for name in detect.DRAWS)
    assert abs(noise.mean() - 0.5) < 0.01 and abs(noise.std() - 12**-0.5) < 0.01
    inner = gaussian[(gaussian > 0) & (gaussian < 1)]
    assert (
        abs(gaussian.mean() - 0.5) < 0.01
        and abs((np.abs(inner - 0.5) < 0.25).sum() / noise.size - 0.683) < 0.02
    )
    assert (constant == constant[0, 0]).all() and len(set(constant[0, 0])) == 3


def test_images_of_another_size_are_brought_to_the_classifier_s(options, tmp_path):
    large = str(tmp_path / "large.npz")
    np.savez(large, images=OTHERS.repeat(2, 1).repeat(2, 2))
    assert detected(options, tmp_path / "n.json", against=(large,))["against"][large]["num"] == 9
    with refused(match="takes no images of 24 x 24 x 3"):
        detected(options, tmp_path / "n.json", image_size=24)


def test_the_json_holds_every_number_printed_and_the_plot_is_drawn(options, tmp_path, capsys):
    numbers = detected(options, tmp_path / "n.json", plot=tmp_path / "p.png")
    *rows, last = capsys.readouterr().out.splitlines()
    for (name, found), row in zip(numbers["against"].items(), rows, strict=True):
        value, low, high = found["auroc"].values()
        assert row.startswith(name) and f"AUROC {value:.4f} [{low:.4f}, {high:.4f}]" in row
        assert row.endswith(f"mean energy {found['mean_energy']['value']:7.2f}")
    assert f"10 images of {options.inside}: mean energy {numbers['mean_energy']['value']:.2f}" in last
    with Pillow.open(tmp_path / "p.png") as picture:
        assert picture.format == "PNG" and picture.height == 100 * 1 + 80 * 3


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"num": 1}, "num.*2 images or more"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"image_size": -1}, "image_size is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"against": ()}, "nothing to tell apart: give --against noise, gaussian, constant"),
        ({"against": ("nowhere",)}, "no folder nowhere"),
        ({"inside": "noise", "against": ("noise",)}, "noise stands on both sides"),
        ({"classifier": "nowhere"}, "no classifier 'nowhere'"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(options, tmp_path, changed, said):
    with refused(match=said):
        detected(options, tmp_path / "n.json", **changed)
    assert list(tmp_path.iterdir()) == []


def test_the_flags_are_named_as_the_readme_has_them():
    asked = detect.console.parse(Options, ["--in", "a.npz", "--against", "noise", "photos/"])
    assert asked == Options(inside="a.npz", against=("noise", "photos/"))
    assert detect.console.parse(Options, []) == Options()
