"""The generation program on an untrained classifier: which image is which, what it writes and refuses."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image as Pillow
from tiny import NAMES, refused

from rsynth_jax import models
from rsynth_jax.cli import results, sheets
from rsynth_jax.cli.generator_pages import parse_flags
from rsynth_jax.cli.parse import parse
from rsynth_jax.sampling import generators, samplers
from rsynth_jax.storage import generators as generator_files
from rsynth_jax.storage import releases
from rsynth_jax.synthesis.objectives import CLASS_OBJECTIVES
from rsynth_jax.training.recipes import RECIPES
from synth import generation
from synth.generation import Options

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("generation") / "c.safetensors"
    tiny.release(path, NAMES)
    return str(path)


def generate(classifier: str, folder: Path, **changed) -> Path:
    """Three images of a cat in four steps, unless told otherwise; the folder of the sheet and the arrays."""
    asked = {"classes": ("cat",), "num": 3, "steps": 4, "batch_size": 3} | changed
    asked |= {"out": folder / "sheet.png", "npz": folder / "images.npz"}
    assert generation.generate(tiny.options(Options, classifier=classifier, **asked)) == 0
    return folder


def arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "images.npz", allow_pickle=False) as file:
        return dict(file)


def of(folder: Path, label: int) -> np.ndarray:
    """The images of a class, as signed numbers."""
    found = arrays(folder)
    return found["images"][found["labels"] == label].astype(int)


@pytest.fixture(scope="module")
def cats(classifier, tmp_path_factory) -> Path:
    return generate(classifier, tmp_path_factory.mktemp("cats"))


# ---- which image is which


def test_the_same_command_writes_the_same_bytes(classifier, tmp_path, cats):
    again = generate(classifier, tmp_path)
    assert (again / "sheet.png").read_bytes() == (cats / "sheet.png").read_bytes()


def test_a_class_by_number_is_the_class_by_name(classifier, tmp_path, cats):
    numbered = generate(classifier, tmp_path, classes=("1",))
    assert (numbered / "sheet.png").read_bytes() == (cats / "sheet.png").read_bytes()


@pytest.mark.parametrize(
    "changed",
    [
        {"batch_size": 1},
        {"batch_size": 7, "num": 9},
        {"batch_size": 64, "classes": ("dog", "cat")},
        {"batch_size": 7, "num": 9, "classes": ("all",)},
    ],
    ids=["one at a time", "nine in sevens", "after a dog", "nine among all"],
)
def test_an_image_depends_on_the_seed_the_class_and_its_number_alone(classifier, tmp_path, cats, changed):
    """To within 2 of 255: a convolution's rounding depends on its batch."""
    others = of(generate(classifier, tmp_path, **changed), 1)
    assert np.abs(others[:3] - of(cats, 1)).max() <= 2


def test_images_of_another_number_class_or_seed_are_others(classifier, tmp_path, cats):
    first, second, third = of(cats, 1)
    dog = of(generate(classifier, tmp_path, classes=("dog",)), 2)[0]
    reseeded = of(generate(classifier, tmp_path, seed=1), 1)[0]
    for other in (second, third, dog, reseeded):
        assert np.abs(other - first).max() > 10


def test_more_steps_climb_higher_and_stay_within_the_radius(classifier, tmp_path):
    said = {}
    for steps in (1, 8):
        path = tmp_path / f"{steps}.json"
        generate(
            classifier, tmp_path, steps=steps, radius=0.5, step_size=0.1, objective="log-prob", json=path
        )
        said[steps] = json.loads(path.read_text())
    assert said[8]["log_prob_start"] == pytest.approx(said[1]["log_prob_start"], abs=1e-4)
    assert said[8]["log_prob"] > said[1]["log_prob"] > said[1]["log_prob_start"]
    for image in said[8]["images"]:
        assert image["l2_moved"] <= 0.5 + np.sqrt(768) / 255  # bytes round by half of 1 / 255 at each end


@pytest.mark.parametrize("objective", tiny.fast(CLASS_OBJECTIVES, "sum"))
def test_every_objective_raises_itself(classifier, objective, tmp_path):
    release = releases.load(classifier)
    bound = models.bind(release.model, release.variables)
    score = CLASS_OBJECTIVES[objective](bound, 1)
    start = generate(classifier, tmp_path, num=1, steps=0, batch_size=1)
    before = score(of(start, 1)[0].astype(np.float32) / 255)
    end = generate(
        classifier, tmp_path, num=1, batch_size=1, objective=objective, schedule="cosine", momentum=0.5
    )
    assert score(of(end, 1)[0].astype(np.float32) / 255) > before


def test_the_default_steps_follow_those_of_the_fakes(classifier, tmp_path):
    by_default = generate(classifier, tmp_path / "a", num=1, steps=None)
    asked = generate(classifier, tmp_path / "b", num=1, steps=15)
    np.testing.assert_array_equal(of(by_default, 1), of(asked, 1))


def test_the_shift_is_what_is_asked_for_or_that_of_the_fakes(classifier, tmp_path):
    release = releases.load(classifier)
    found = samplers.generate(release, "cat", 3, num_steps=4, max_shift=2, batch_size=3)
    np.testing.assert_array_equal(of(generate(classifier, tmp_path, shift=2), 1), found.images)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("fake_steps", [8, 24, 32, 40])
def test_the_default_way_is_a_quarter_longer_than_that_of_the_fakes(classifier, fake_steps, schedule):
    """n cosine steps sum to (n + 1) / 2 of the first."""
    release = releases.load(classifier)._replace(recipe={"fake_steps": fake_steps})
    climbed = RECIPES["dual"].dual.fake_step_size * fake_steps
    default = samplers.default_steps(release)
    sizes = {
        num: samplers.default_step_size(release, num, samplers.SCHEDULES[schedule])
        for num in (1, default, 60)
    }
    for num in (default, 60):
        way = sizes[num] * (num if schedule == "constant" else (num + 1) / 2)
        assert way == pytest.approx(1.25 * climbed, rel=1e-3)
    assert sizes[1] == sizes[default]


def test_the_default_steps_of_cifar10_are_15_of_0_75():
    release = releases.load("cifar10")
    steps = samplers.default_steps(release)
    assert (steps, samplers.default_step_size(release, steps, samplers.SCHEDULES["cosine"])) == (15, 0.75)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fourier", "pyramid"])
def test_other_coordinates_make_other_images(classifier, tmp_path, cats, name):
    other = of(generate(classifier, tmp_path, parameterization=name), 1)
    assert np.abs(other - of(cats, 1)).max() > 10


# ---- what it writes


def test_the_arrays_are_the_images_their_labels_and_the_names(classifier, tmp_path):
    found = arrays(generate(classifier, tmp_path, classes=("dog", "airplane"), num=2, steps=1))
    assert found["images"].shape == (4, *tiny.SHAPE) and found["images"].dtype == np.uint8
    assert found["labels"].tolist() == [2, 2, 0, 0]
    assert found["class_names"].tolist() == list(NAMES)


def test_the_sheet_shows_the_images_a_row_a_class(classifier, tmp_path):
    folder = generate(classifier, tmp_path, classes=("all",), num=2, steps=1)
    title = "sum, cosine, 1 of 1 steps of 0.375"  # 0.75 at 32 pixels
    cells = arrays(folder)["images"].reshape(3, 2, *tiny.SHAPE)
    expected = sheets.draw(sheets.Page(cells, NAMES, title))
    with Pillow.open(folder / "sheet.png") as picture:
        np.testing.assert_array_equal(picture, expected)


def test_a_sheet_of_many_shows_the_first_of_each_class(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "COLUMNS", 2)
    many, few = (tmp_path / name for name in ("many", "few"))
    for folder, num in ((many, 3), (few, 2)):
        generate(classifier, folder, classes=("cat", "dog"), num=num)
    assert (many / "sheet.png").read_bytes() == (few / "sheet.png").read_bytes()
    assert len(arrays(many)["images"]) == 6


def test_the_json_holds_every_number_printed(classifier, tmp_path, capsys):
    generate(classifier, tmp_path, classes=("cat", "dog"), num=2, json=tmp_path / "n.json")
    printed = capsys.readouterr().out
    n = json.loads((tmp_path / "n.json").read_text())
    assert printed == (
        f"{tmp_path / 'sheet.png'}: {len(n['images'])} images of cat, dog in {n['seconds']:.1f} s; "
        f"mean log p {n['log_prob_start']:.2f} -> {n['log_prob']:.2f}, l2 moved {n['l2_moved']:.2f}\n"
    )
    for name in ("log_prob_start", "log_prob", "l2_moved"):
        assert n[name] == pytest.approx(np.mean([image[name] for image in n["images"]]), rel=1e-5)
    assert [(image["class"], image["index"]) for image in n["images"]] == [
        ("cat", 0), ("cat", 1), ("dog", 0), ("dog", 1)
    ]  # fmt: skip


@pytest.mark.parametrize(("steps", "frames"), [(0, 1), (3, 4), (4, 3)])
def test_the_animation_has_a_frame_for_the_start_and_for_every_stage(classifier, tmp_path, steps, frames):
    generate(classifier, tmp_path, steps=steps, gif=tmp_path / "a.gif")
    with Pillow.open(tmp_path / "a.gif") as picture:
        assert picture.format == "GIF" and picture.n_frames == frames


def test_every_image_is_written_on_its_own_where_asked_for(classifier, tmp_path):
    generate(classifier, tmp_path, classes=("cat", "dog"), num=2, steps=1, each=True)
    names = [f"{name}-{i:04d}" for name in ("cat", "dog") for i in range(2)]
    for name, image in zip(names, arrays(tmp_path)["images"], strict=True):
        with Pillow.open(tmp_path / "sheet" / f"{name}.png") as picture:
            np.testing.assert_array_equal(picture, image)


def test_no_steps_write_the_starts(classifier, tmp_path):
    generate(classifier, tmp_path, steps=0, json=tmp_path / "n.json")
    numbers = json.loads((tmp_path / "n.json").read_text())
    assert numbers["l2_moved"] == 0 and numbers["log_prob"] == numbers["log_prob_start"]


# ---- what it refuses


def test_images_to_start_from_replace_the_draws(classifier, tmp_path):
    photos = tiny.noise(2)
    folder = tiny.pictures(tmp_path / "photos", photos)
    generate(classifier, tmp_path, classes=("cat", "dog"), start=str(folder), steps=0)
    for label in (1, 2):
        assert np.array_equal(of(tmp_path, label), photos[[0, 1, 0]])
    changed = generate(classifier, tmp_path, start=str(folder), steps=2)
    assert (of(changed, 1)[:2] != photos).any()


def test_images_to_start_from_of_another_shape_are_refused(classifier):
    with refused(match="start from images of 16 x 16 x 3, not 1 of 8 x 8 x 1"):
        samplers.generate(releases.load(classifier), "cat", 1, starts=np.zeros((1, 8, 8, 1), np.uint8))


@pytest.mark.parametrize("asked", [("unicorn",), ("cat", "unicorn"), ("3",), ("-1",), ("",), ()])
def test_an_unknown_class_is_refused_with_the_known_ones_and_nothing_is_written(classifier, tmp_path, asked):
    with refused(match="class.*airplane, cat, dog"):
        generate(classifier, tmp_path, classes=asked)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"objective": "loss"}, "'loss'.*log-prob, logit, sum"),
        ({"schedule": "linear"}, "'linear'.*constant, cosine"),
        ({"parameterization": "wavelet"}, "'wavelet'.*pixel, fourier, pyramid"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"momentum": -0.5}, "momentum is -0.5"),
        ({"momentum": float("nan")}, "momentum is nan"),
        ({"step_size": float("nan")}, "step.size is nan"),
        ({"step_size": 0.0}, "step.size is 0"),
        ({"radius": -1.0}, "radius is -1"),
        ({"radius": float("inf")}, "radius is inf"),
        ({"num": 0}, "num is 0"),
        ({"steps": -1}, "steps is -1"),
        ({"shift": -1}, "shift is -1"),
        ({"batch_size": 0}, "batch.size is 0"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused_by_name_and_nothing_is_written(
    classifier, tmp_path, changed, said
):
    with refused(match=said):
        generate(classifier, tmp_path, **changed)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_classifier_is_refused(tmp_path):
    with refused(match="no classifier 'nowhere'"):
        generate("nowhere", tmp_path)


def test_a_sheet_below_a_file_is_refused_and_nothing_else_is_written(classifier, tmp_path):
    (tmp_path / "file").touch()
    with refused(match="cannot write .*sheet.png"):
        generate(classifier, tmp_path / "file", steps=0)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_classes_are_asked_for_as_words_after_one_flag():
    options = parse(Options, ["--class", "cat", "dog", "--num", "2"])
    assert options.classes == ("cat", "dog") and options.num == 2
    assert parse(Options, []) == Options()


def test_a_bad_flag_ends_the_command_with_status_2_one_line_and_no_file(tmp_path):
    flags = ["--out", str(tmp_path / "sheet.png"), "--num", "several"]
    command = [sys.executable, "-m", "synth.generation", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2 and done.stdout == "" and list(tmp_path.iterdir()) == []
    assert done.stderr.count("\n") == 1 and re.match("rsynth-generate: .*several", done.stderr)


def test_a_bad_class_ends_the_command_with_status_2_one_line_and_no_file(tmp_path, classifier, mistake):
    flags = ("--classifier", classifier, "--out", str(tmp_path / "sheet.png"), "--class", "unicorn")
    assert mistake(generation.main, *flags).startswith("rsynth-generate: no class 'unicorn'")
    assert list(tmp_path.iterdir()) == []


# ---- by a learned generator


@pytest.fixture(scope="module")
def generator(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("generator") / "g.safetensors"
    tiny.generator(path)
    return str(path)


def drawn(generator: str, folder: Path, **changed) -> dict[str, np.ndarray]:
    """Two images of a cat and of a dog, unless told otherwise; the arrays."""
    asked = {"classes": ("cat", "dog"), "num": 2, "out": folder / "sheet.png", "npz": folder / "images.npz"}
    options = tiny.options(Options, generator=generator, **asked | changed)
    assert generation.generate(options) == 0
    return arrays(folder)


@pytest.fixture
def pages(monkeypatch) -> list[sheets.Page]:
    """The pages that are written, one after another."""
    written: list[sheets.Page] = []
    draw = sheets.draw
    monkeypatch.setattr(sheets, "draw", lambda page: written.append(page) or draw(page))
    return written


def test_a_generator_writes_its_draws(generator, tmp_path, pages, capsys):
    found = drawn(generator, tmp_path, truncation=0.5, seed=3, each=True, json=tmp_path / "n.json")
    made = generators.draw(generator_files.load(generator), ("cat", "dog"), 2, seed=3, truncation=0.5)
    np.testing.assert_array_equal(found["images"], made.images)
    assert found["labels"].tolist() == [1, 1, 2, 2] and found["class_names"].tolist() == list(NAMES)
    assert pages[0].names == ["cat", "dog"] and pages[0].cells.shape == (2, 2, *tiny.SHAPE)
    with Pillow.open(tmp_path / "sheet" / "dog-0001.png") as picture:
        np.testing.assert_array_equal(picture, found["images"][3])
    n = json.loads((tmp_path / "n.json").read_text())
    assert (n["truncation"], n["seed"], n["images"][3]) == (0.5, 3, {"class": "dog", "index": 1})
    assert f"4 images of cat, dog in {n['seconds']:.1f} s, truncation 0.5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("group", "taken"), [("coarse", range(2)), ("middle", range(2, 4)), ("all", range(4))]
)
def test_a_mix_is_a_grid_below_its_sources_and_beside_its_targets(generator, tmp_path, pages, group, taken):
    found = drawn(generator, tmp_path, mix=group)
    made = generators.mix(generator_files.load(generator), ("cat", "dog"), 2, taken=taken)
    np.testing.assert_array_equal(found["images"], made.mixed.reshape(-1, *tiny.SHAPE))
    cells = pages[0].cells
    assert cells.shape == (5, 5, *tiny.SHAPE) and (cells[0, 0] == 255).all()
    np.testing.assert_array_equal(cells[0, 1:], made.sources)
    np.testing.assert_array_equal(cells[1:, 0], made.targets)
    np.testing.assert_array_equal(cells[1:, 1:], made.mixed)
    assert found["labels"].tolist() == [1] * 8 + [2] * 8


def test_an_interpolation_is_an_animation_that_ends_where_it_began(generator, tmp_path):
    found = drawn(generator, tmp_path, interpolate=3, gif=tmp_path / "loop.gif")
    assert found["images"].shape == (12, *tiny.SHAPE) and found["labels"].tolist() == [1] * 6 + [2] * 6
    with Pillow.open(tmp_path / "loop.gif") as picture:
        assert picture.format == "GIF" and picture.n_frames == 6


def test_the_noise_has_a_column_each_and_its_deviation(generator, tmp_path, pages):
    found = drawn(generator, tmp_path, noise=True)
    assert pages[0].cells.shape == (4, 7, *tiny.SHAPE) and pages[0].cells[:, -1].max() == 255
    assert found["deviation"].shape == (4, *tiny.SHAPE[:2])
    np.testing.assert_array_equal(pages[0].cells[:, :-1].reshape(-1, *tiny.SHAPE), found["images"])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"truncation": -0.5}, "truncation is -0.5"),
        ({"interpolate": 0}, "interpolate is 0"),
        ({"interpolate": 2, "num": 1}, "a loop needs 2"),
        ({"mix": "broad"}, "no layers named 'broad': give one of coarse, middle, fine, all"),
        ({"mix": "fine"}, "2 sizes has no fine layers"),
        ({"mix": "all", "noise": True}, "--mix and --noise are different sheets"),
        ({"gif": Path("a.gif")}, "give --interpolate N"),
        ({"classes": ("unicorn",)}, "no class 'unicorn'.*airplane, cat, dog"),
        ({"generator": None, "truncation": 0.7}, "--truncation is a flag of a generator: give --generator"),
        ({"generator": None, "truncation": 0.0}, "--truncation is a flag of a generator"),
        ({"mix": ""}, "no layers named ''"),
        ({"generator": None, "noise": True}, "--noise is a flag of a generator"),
    ],
)
def test_a_flag_of_a_generator_that_makes_no_sense_is_refused(generator, tmp_path, changed, said):
    with refused(match=said):
        drawn(**{"generator": generator, "folder": tmp_path} | changed)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["--steps", "4"], ["--objective=sum"], ["--temperature", "1.2"], ["--step_size", "1"], ["--radius=3"],
        ["--classifier", "cifar10"], ["--schedule=cosine"], ["--momentum=0"], ["--parameterization=pixel"],
        ["--shift=2"],
    ],
)  # fmt: skip
def test_a_flag_of_the_ascent_beside_a_generator_is_refused(words):
    flag = words[0].partition("=")[0].replace("_", "-")
    with refused(match=f"{flag} is a flag of the classifier's ascent"):
        parse_flags(Options, ["--generator", "g", *words])
    parse_flags(Options, words)
    parse_flags(Options, ["--generator", "g", "--batch-size", "8"])


def test_a_classifier_is_no_generator_and_the_reverse(classifier, generator, tmp_path):
    with refused(match="is a classifier: give a generator"):
        drawn(classifier, tmp_path)
    with refused(match="is a generator: give a classifier"):
        generate(generator, tmp_path)
    with refused(match="'cifar10' is a classifier: give a generator"):
        drawn("cifar10", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_classifier_given_as_generator_ends_the_command_with_one_line(classifier, tmp_path):
    words = ["--generator", classifier, "--truncation", "0.7", "--out", str(tmp_path / "sheet.png")]
    command = [sys.executable, "-m", "synth.generation", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2 and done.stdout == "" and list(tmp_path.iterdir()) == []
    assert done.stderr.count("\n") == 1 and "is a classifier: give a generator" in done.stderr
