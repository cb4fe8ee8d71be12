"""The detection program on a linear classifier: its figures, its sets, what it writes and refuses."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.cli.parse import parse
from rsynth_jax.metrics import ranking
from rsynth_jax.storage import releases
from train import detect
from train.detect import Options

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, *tiny.SHAPE), np.uint8)
OTHERS = RNG.integers(0, 90, (9, *tiny.SHAPE), np.uint8)
pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> dict[str, Any]:
    """Twelve images of noise against dark ones, and against sets that are drawn."""
    folder = tiny.bench(tmp_path_factory.mktemp("detect"), a={"images": IMAGES}, b={"images": OTHERS})
    against = ("constant", str(folder / "b.npz"))
    places = {
        "classifier": str(folder / "c.safetensors"),
        "inside": str(folder / "a.npz"),
        "against": against,
    }
    return places | {"num": 10, "batch_size": 4}


def detected(options: dict[str, Any], path: Path, **changed) -> dict:
    """What the program writes, but for the seconds."""
    assert detect.detect(tiny.options(Options, **options | {"json": path} | changed)) == 0
    numbers = json.loads(path.read_text())
    assert numbers.pop("seconds") > 0
    return numbers


@pytest.fixture(scope="module")
def once(options, tmp_path_factory) -> dict:
    return detected(options, tmp_path_factory.mktemp("once") / "n.json")


def test_the_figures_are_those_of_the_log_sum_exp_of_the_logits(options, once):
    release = releases.load(options["classifier"])

    def energy(images):
        logits = release.model.apply(release.variables, np.float32(images) / np.float32(255)).logits
        return np.log(np.exp(np.float64(logits)).sum(axis=1))

    inside, outside = energy(IMAGES[:10]), energy(OTHERS)
    assert once["mean_energy"]["value"] == pytest.approx(inside.mean(), abs=1e-4)
    found = once["against"][options["against"][1]]
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
    assert f"10 images of {options['inside']}: mean energy {numbers['mean_energy']['value']:.2f}" in last
    with Pillow.open(tmp_path / "p.png") as picture:
        assert picture.format == "PNG" and picture.height == 100 * 1 + 80 * 3


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"num": 1}, "num.*2 images or more"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"image_size": -1}, "image_size is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"against": ()}, "no sets to compare with: give --against noise, gaussian, constant"),
        ({"against": ("nowhere",)}, "no folder nowhere"),
        ({"inside": "noise", "against": ("noise",)}, "noise is on both sides"),
        ({"classifier": "nowhere"}, "no classifier 'nowhere'"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(options, tmp_path, changed, said):
    with refused(match=said):
        detected(options, tmp_path / "n.json", **changed)
    assert list(tmp_path.iterdir()) == []


def test_the_flags_are_named_as_the_readme_has_them():
    asked = parse(Options, ["--in", "a.npz", "--against", "noise", "photos/"])
    assert asked == Options(inside="a.npz", against=("noise", "photos/"))
    assert parse(Options, []) == Options()


def test_a_damaged_file_is_named_and_left_out_and_the_others_are_measured(options, tmp_path, capsys):
    sets = {"inside": tmp_path / "in", "other": tmp_path / "out"}
    whole = {"inside": str(tiny.pictures(sets["inside"], IMAGES[:4])), "against": (str(sets["other"]),)}
    tiny.pictures(sets["other"], OTHERS[:4])
    once = detected(options, tmp_path / "n.json", **whole)
    capsys.readouterr()
    tiny.pictures(sets["inside"], [], "00a")
    tiny.pictures(sets["other"], [], "02a", "zz")
    asked = options | whole | {"json": tmp_path / "n.json"}
    assert detect.detect(tiny.options(Options, **asked)) == 1
    numbers = json.loads((tmp_path / "n.json").read_text())
    errors = capsys.readouterr().err.splitlines()
    assert errors[-4:] == [*(f"skipped: {line}" for line in numbers.pop("skipped")), "images skipped: 3"]
    assert [name for line in errors[-4:-1] for name in ("00a", "02a", "zz") if name in line] == [
        "00a",
        "02a",
        "zz",
    ]
    assert numbers.pop("seconds") > 0 and numbers == once
