"""The training program: it continues bit for bit, repeats itself, stops cleanly, and refuses early."""

import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stores
import tiny
from etils import epath
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax import models
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.cli import classifiers, epoch_run
from rsynth_jax.cli import run as console
from rsynth_jax.cli.options import LabelledDataFlags
from rsynth_jax.cli.training_run import KeepFlags
from rsynth_jax.data import loader
from rsynth_jax.storage import paths, release_files, releases, train_states
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.training import planning
from rsynth_jax.training import run as runs
from rsynth_jax.training.recipes import RECIPES, Recipe, flat, replace
from train import train

ROOT = Path(__file__).parents[2]
RECIPE = replace(
    Recipe(),
    architecture="tiny",
    num_steps=1,
    epochs=2,
    batch_size=16,
    schedule="one-cycle",
    learning_rate=0.05,
    ema_decay=0.5,
    crop_padding=2,
)
STEPS = 4  # of the two epochs of 32 images


class Interrupted(console.Interrupted):
    """Like a signal that arrives in step `step`."""

    def __init__(self, step: int = sys.maxsize - 1):
        self.left = step + 1

    @property
    def signal(self):
        self.left -= 1
        return None if self.left > 0 else signal.SIGTERM


@pytest.fixture(scope="module", autouse=True)
def cheap():
    """A short attack on the test images, every step logged, signals left alone, one program a recipe."""
    prepare, prepared_runs = runs.prepare, {}

    def once(recipe, *data):
        if recipe not in prepared_runs:
            prepared_runs[recipe] = prepare(recipe, *data)
        return prepared_runs[recipe]

    with tiny.network(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(epoch_run, "LOG_EVERY", 1)
        patch.setattr(epoch_run, "PGD_STEPS", 1)
        patch.setattr(epoch_run, "SAMPLE_STEPS", 1)
        patch.setattr(console, "Interrupted", Interrupted)
        patch.setattr(runs, "prepare", once)
        patch.setattr(runs, "prepare_afresh", prepare, raising=False)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return tiny.photos(tmp_path_factory.mktemp("data") / "d.npz", ("cat", "dog"), train=32, test=8)


@pytest.fixture(scope="module")
def watched(tmp_path_factory, data) -> tuple[Path, list]:
    """A run of two epochs without an interruption, and what its summaries got."""
    out = tmp_path_factory.mktemp("straight") / "run"
    with tiny.summaries() as found:
        assert train.train(train.Options(data=data, out=out, settings=RECIPE)) == 0
    return out, found


@pytest.fixture(scope="module")
def straight(watched) -> Path:
    """A run of two epochs without an interruption."""
    return watched[0]


def prepared(data: str, recipe: Recipe) -> runs.Run:
    """Such a run, before its first step."""
    (dataset,) = LabelledDataFlags().load_labelled(data, "train")
    images, labels = loader.in_memory(dataset)
    return runs.prepare(recipe, images, labels, dataset.class_names, len(dataset))


def final_state(out: Path, data: str, recipe: Recipe = RECIPE):
    return train_states.restore_state(out, runs.start(prepared(data, recipe)))


def log(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


# ---- what a run leaves


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(1, id="within an epoch"),
        pytest.param(2, id="at its end", marks=pytest.mark.slow),
        pytest.param(STEPS, id="at the very end", marks=pytest.mark.slow),
    ],
)
def test_a_run_stopped_at_any_step_and_resumed_is_the_straight_run_bit_for_bit(
    tmp_path, monkeypatch, data, straight, step
):
    options = train.Options(data=data, out=tmp_path / "run", settings=RECIPE)
    monkeypatch.setattr(console, "Interrupted", functools.partial(Interrupted, step))
    assert train.train(options) == 128 + signal.SIGTERM
    assert int(final_state(options.out, data).step) == step
    monkeypatch.setattr(console, "Interrupted", Interrupted)
    assert train.train(train.Options(**vars(options) | {"resume": True})) == 0
    for one, other in zip(
        jax.tree.leaves(final_state(options.out, data)),
        jax.tree.leaves(final_state(straight, data)),
        strict=True,
    ):
        assert_array_equal(one, other)
    released = (run / releases.RELEASE for run in (options.out, straight))
    assert next(released).read_bytes() == next(released).read_bytes()
    steps = [record["step"] for record in log(options.out) if "loss" in record]
    assert steps == list(range(1, STEPS + 1))


@pytest.mark.slow
def test_a_run_in_a_store_is_the_one_of_a_folder_and_is_resumed(tmp_path, monkeypatch, data, straight):
    with stores.disk(tmp_path):
        options = train.Options(data=data, out=paths.of("disk://run"), settings=RECIPE)
        monkeypatch.setattr(console, "Interrupted", functools.partial(Interrupted, 2))
        assert train.train(options) == 128 + signal.SIGTERM
        monkeypatch.setattr(console, "Interrupted", Interrupted)
        assert train.train(dataclasses.replace(options, resume=True)) == 0
        assert releases.locate("disk://run") == options.out / releases.RELEASE
    run = tmp_path / "run"
    assert (run / releases.RELEASE).read_bytes() == (straight / releases.RELEASE).read_bytes()
    assert [record["step"] for record in log(run) if "loss" in record] == list(range(1, STEPS + 1))
    assert {path.name for path in run.iterdir()} == {path.name for path in straight.iterdir()}
    assert (run / "checkpoints" / "4" / "SHA256SUMS").exists()


def test_a_store_that_has_no_checkpoints_is_refused(data):
    with refused(match="checkpoints can be on this machine or in gs://"):
        train.train(train.Options(data=data, out=epath.Path("s3://bucket/run"), settings=RECIPE))  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_the_same_command_compiled_afresh_releases_the_same_bytes(tmp_path, monkeypatch, data, straight):
    monkeypatch.setattr(runs, "prepare", runs.prepare_afresh)
    assert train.train(train.Options(data=data, judge=8, out=tmp_path / "run", settings=RECIPE)) == 0
    released = (run / releases.RELEASE for run in (tmp_path / "run", straight))
    assert next(released).read_bytes() == next(released).read_bytes()


@pytest.mark.slow
def test_another_seed_releases_another_classifier(tmp_path, data, straight):
    out = tmp_path / "run"
    assert train.train(train.Options(data=data, out=out, settings=replace(RECIPE, seed=1))) == 0
    kernels = (releases.load(str(run)).variables["params"]["Dense_0"]["kernel"] for run in (out, straight))
    assert np.abs(next(kernels) - next(kernels)).max() > 1e-3


def test_the_log_has_the_loss_the_accuracies_and_the_speed_of_steps_and_the_judgement_of_epochs(straight):
    steps = [record for record in log(straight) if "loss" in record]
    epochs = [record for record in log(straight) if "test_clean" in record]
    assert [record["step"] for record in steps] == [1, 2, 3, 4]
    assert [(record["step"], record["epoch"], record["test_num"]) for record in epochs] == [
        (2, 1, 8),
        (4, 2, 8),
    ]
    for record in steps:
        assert np.isfinite(record["loss"]) and record["images_per_second"] > 0
        assert 0 <= record["clean_accuracy"] <= 1 and 0 <= record["adversarial_accuracy"] <= 1
        assert record["epoch"] == record["step"] / 2
    for record in epochs:
        assert 0 <= record["test_adversarial"] <= 1 and 0 <= record["test_clean"] <= 1
    assert steps[-1]["learning_rate"] < max(record["learning_rate"] for record in steps)


def test_the_summaries_have_the_numbers_of_the_log_and_a_sheet_of_each_epoch(watched):
    out, found = watched
    assert [{"step": step} | values for step, values in found if "samples" not in values] == log(out)
    sheets = [(step, values["samples"]) for step, values in found if "samples" in values]
    assert [step for step, _ in sheets] == [2, STEPS]
    assert all(np.asarray(sheet).std() > 10 for _, sheet in sheets)  # and not blank


def test_the_curves_are_a_png_and_what_made_the_run_is_json(straight):
    with Pillow.open(straight / "curves.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 100
    made_of = json.loads((straight / "run.json").read_text())
    assert made_of.items() >= json.loads(json.dumps(flat(RECIPE))).items()
    assert made_of["class_names"] == ["cat", "dog"] and made_of["num_images"] == 32


def test_the_release_says_how_it_was_made(straight, data):
    released = releases.load(str(straight))
    assert released.class_names == ("cat", "dog") and released.image_shape == tiny.SHAPE
    assert released.threat == Threat(L2, 0.5) and released.steps == Steps(0.1, 1)
    assert released.recipe["steps"] == STEPS and released.recipe["data"] == data
    assert released.class_gaussians.mean.shape == (2, *tiny.SHAPE)


def test_the_release_is_the_averaged_weights(straight, data):
    ema = final_state(straight, data).ema["params"]["Dense_0"]["kernel"]
    released = releases.load(str(straight)).variables["params"]["Dense_0"]["kernel"]
    assert_array_equal(released, np.asarray(ema).astype(jnp.bfloat16).astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"method": "natural", "schedule": "step", "milestones": (1,)},
        {"method": "pgd", "norm": "linf", "epsilon": 8 / 255, "step_size": 10 / 255},
        {"method": "trades", "optimizer": "adamw", "schedule": "cosine", "learning_rate": 1e-3},
    ],
    ids=lambda settings: settings["method"],
)
def test_every_method_norm_optimizer_and_schedule_trains_with_a_finite_loss(tmp_path, data, settings):
    recipe = replace(RECIPE, epochs=1, **settings)
    assert train.train(train.Options(data=data, out=tmp_path / "run", settings=recipe)) == 0
    assert all(np.isfinite(record["loss"]) for record in log(tmp_path / "run") if "loss" in record)
    weights = jax.tree.leaves(releases.load(str(tmp_path / "run")).variables)
    assert all(np.isfinite(leaf).all() for leaf in weights)


@pytest.mark.parametrize("log_every", [1, 20])
def test_a_loss_that_is_not_finite_stops_the_run_and_no_such_weights_are_released(
    tmp_path, monkeypatch, data, log_every
):
    monkeypatch.setattr(epoch_run, "LOG_EVERY", log_every)
    recipe = replace(RECIPE, method="natural", learning_rate=1e30)
    with refused(match="learning.rate"):
        train.train(train.Options(data=data, out=tmp_path / "run", settings=recipe))
    if (tmp_path / "run" / releases.RELEASE).exists():
        weights = jax.tree.leaves(releases.load(str(tmp_path / "run")).variables)
        assert all(np.isfinite(leaf).all() for leaf in weights)


# ---- within a time


OWN = replace(RECIPE, epochs=7)


@pytest.mark.slow
def test_a_run_within_a_time_is_the_run_of_as_many_epochs_and_measures_nothing_when_resumed(
    tmp_path, monkeypatch, data, straight
):
    monkeypatch.setattr(planning, "_STEPS", 1)
    monkeypatch.setattr(planning, "_SECONDS", 0.0)
    monkeypatch.setattr(planning, "fitted", lambda *_: planning.Plan(num_epochs=2, judge_every=2))
    options = train.Options(data=data, judge=8, out=tmp_path / "run", settings=OWN, max_minutes=5.0)
    flags = halved(monkeypatch, options)
    made_of = json.loads((options.out / "run.json").read_text())
    assert (made_of["epochs"], made_of["judge_every"], made_of["max_minutes"]) == (2, 2, 5.0)
    monkeypatch.delattr(planning, "seconds_a_step")
    assert resume(flags) == 0
    jax.tree.map(assert_array_equal, final_state(options.out, data), final_state(straight, data))
    assert [record["epoch"] for record in log(options.out) if "test_clean" in record] == [2]
    with Pillow.open(options.out / "samples.png") as sheet:
        assert np.asarray(sheet).std() > 10


def test_a_time_that_is_no_epoch_s_is_refused_and_nothing_is_written(tmp_path, monkeypatch, data):
    monkeypatch.setattr(planning, "seconds_a_step", lambda *_: (6.0, 60.0))
    options = train.Options(data=data, judge=8, out=tmp_path / "run", settings=RECIPE, max_minutes=2.0)
    with refused(match=r"leaves this run 2, 0\.0 are gone, one epoch takes 3\.3: give more minutes"):
        train.train(options)
    with refused(match="max.minutes is 0"):
        train.train(dataclasses.replace(options, max_minutes=0.0))
    assert not (tmp_path / "run").exists()


def test_the_recipe_for_pictures_of_one_s_own_brings_its_side_its_start_and_its_time():
    options = train.parse_flags(train.Options, ["--recipe", "own-64"])
    assert (options.start, options.max_minutes, options.reading.image_size) == ("nearest", 30.0, 64)
    assert (options.then, options.minutes) == ("own-64-dual", 10.0)
    options = train.parse_flags(
        train.Options, ["--recipe", "own-64", "--start", "nearest", "--image-size", "32"]
    )
    assert options.settings == RECIPES["own-64"] and options.reading.image_size == 32
    assert train.parse_flags(train.Options, ["--recipe", "dual"]).max_minutes is None


# ---- one run after another

AFTER = replace(
    RECIPES["own-64-dual"], epochs=2, batch_size=16, crop_padding=2, fake_stride=1, most_fake_steps=2
)


@pytest.fixture
def after(monkeypatch, data, tmp_path) -> train.Options:
    """A run of two epochs, and two of dual training after it."""
    monkeypatch.setitem(RECIPES, "own-64-dual", AFTER)
    return train.Options(data=data, judge=8, out=tmp_path / "run", settings=RECIPE, then="own-64-dual")


def test_a_run_after_another_is_the_run_that_starts_from_it(after, data, straight, tmp_path, capsys):
    assert train.train(after) == 0
    jax.tree.map(assert_array_equal, final_state(after.out, data), final_state(straight, data))
    settings = classifiers.recipe_from(AFTER, str(after.out))
    assert settings.network.architecture == "tiny"
    asked = {"recipe": "own-64-dual", "settings": settings, "start": str(after.out), "then": None}
    alone = dataclasses.replace(after, out=tmp_path / "alone", **asked)
    assert train.train(alone) == 0
    found, wanted = ((path / releases.RELEASE).read_bytes() for path in (after.out / "dual", alone.out))
    assert found == wanted
    records = [json.loads((path / "run.json").read_text()) for path in (after.out / "dual", alone.out)]
    assert records[0] == records[1]
    assert f"{after.out / 'dual' / releases.RELEASE}: tiny after 2 epochs" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, STEPS + 1])  # in the first run, and in the second
def test_two_runs_that_stop_go_on_by_one_command(after, step, tmp_path, monkeypatch):
    assert train.train(dataclasses.replace(after, out=tmp_path / "whole")) == 0
    stops = iter([Interrupted(step), Interrupted(1)] if step < STEPS else [Interrupted(), Interrupted(1)])
    monkeypatch.setattr(console, "Interrupted", lambda: next(stops))
    assert train.train(after) == 128 + signal.SIGTERM
    monkeypatch.setattr(console, "Interrupted", Interrupted)
    assert resume(["--resume", "--out", str(after.out)]) == 0
    for folder in (Path(), Path("dual")):
        found, wanted = (path / folder / releases.RELEASE for path in (after.out, tmp_path / "whole"))
        assert found.read_bytes() == wanted.read_bytes()


def test_a_run_that_cannot_follow_is_refused_before_the_first(after, tmp_path):
    for name in ("cifar10-cpu", "duel"):
        with refused(match=f"no recipe to go on by named '{name}': give one of dual, own-64-dual"):
            train.train(dataclasses.replace(after, then=name))
    assert not after.out.exists()
    (after.out / "dual" / train_states.FOLDER / "4").mkdir(parents=True)
    with refused(match="dual already holds a run"):
        train.train(after)
    (after.out / "dual/run.json").write_text(json.dumps({"data": after.data}))
    with refused(match="dual already holds a run"):
        train.train(after)


def test_a_run_and_the_one_after_it_divide_the_time(after):
    options = dataclasses.replace(after, max_minutes=30.0)
    assert (options.minutes, train.following(options).minutes) == (10.0, 20.0)
    summed = dataclasses.replace(after, keeping=KeepFlags(logdir="l"))
    assert train.following(summed).keeping.logdir == "l/dual"


def test_a_run_from_the_nearest_classifier_records_its_name(tmp_path, monkeypatch, data, robust):
    def fit(*_, **__):
        raise InterruptedError

    monkeypatch.setattr(release_files, "available", lambda kind: ["c"])
    monkeypatch.setattr(
        releases, "load", lambda name, load=releases.load: load(name if name != "c" else robust)
    )
    options = train.Options(data=data, judge=8, out=tmp_path / "run", settings=RECIPE, start="nearest")
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(epoch_run, "fit", fit)
        train.train(options)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["start"] == "c"


# ---- what it refuses, before it writes anything


@pytest.mark.parametrize(
    ("settings", "known"),
    [
        ({"method": "trade"}, "natural, pgd, trades"),
        ({"architecture": "resnet9"}, "resnet8, resnet8-64, resnet11-64, resnet18"),
        ({"schedule": "linear"}, "step, cosine, one-cycle"),
        ({"optimizer": "adam"}, "sgd, adamw"),
        ({"norm": "l3"}, "l2, linf"),
        ({"dtype": "float16"}, "float32, bfloat16"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_unknown_name_is_refused_with_the_known_ones_and_nothing_is_written(
    tmp_path, data, settings, known
):
    wrong = next(iter(settings.values()))
    with refused(match=f"{wrong}.*{known}"):
        train.train(train.Options(data=data, out=tmp_path / "run", settings=replace(RECIPE, **settings)))
    assert not (tmp_path / "run").exists()


POSITIVE = ["epochs", "batch_size", "learning_rate", "num_steps", "step_size", "seed_factor", "seed_share"]
NOT_NEGATIVE = [
    "epsilon",
    "beta",
    "momentum",
    "weight_decay",
    "label_smoothing",
    "ema_decay",
    "crop_padding",
    "seed",
]


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in POSITIVE for value in (0, -1, float("nan"), float("inf"))]
    + [(name, value) for name in NOT_NEGATIVE for value in (-1, float("nan"), float("inf"))]
    + [(name, 1.0) for name in ("momentum", "label_smoothing", "ema_decay")]
    + [("seed_share", 95)],
)
def test_a_number_that_makes_no_sense_is_refused_by_name(tmp_path, name, value):
    recipe = replace(RECIPE, method="trades", **{name: value})
    with refused(match=f"{name.replace('_', '.')} is {value}"):
        train.check(train.Options(out=tmp_path / "run", settings=recipe))


@pytest.mark.parametrize("value", [0, -3])
def test_a_judgement_on_no_images_is_refused_by_name(tmp_path, value):
    with refused(match=f"judge is {value}"):
        train.check(train.Options(judge=value, out=tmp_path / "run", settings=RECIPE))


@pytest.mark.parametrize("settings", [{"mean": (0.1, 0.2)}, {"std": (0.0,)}, {"std": (float("nan"),)}])
def test_a_normalisation_that_does_not_fit_the_images_is_refused(tmp_path, data, settings):
    with refused(match=next(iter(settings))):
        train.train(train.Options(data=data, out=tmp_path / "run", settings=replace(RECIPE, **settings)))
    assert not (tmp_path / "run").exists()


def test_sensible_numbers_pass(tmp_path):
    train.check(train.Options(out=tmp_path / "run", settings=replace(RECIPE, epsilon=0.0, momentum=0.0)))


def test_a_folder_that_holds_a_run_is_refused(straight, data):
    with refused(match=r"already holds a run: give --resume or another --out"):
        train.train(train.Options(data=data, out=straight, settings=RECIPE))


def test_an_impossible_folder_is_refused(tmp_path, data):
    (tmp_path / "file").touch()
    with refused(match="cannot write"):
        train.train(train.Options(data=data, out=tmp_path / "file" / "run", settings=RECIPE))


def test_nothing_to_resume_is_refused_and_nothing_is_written(tmp_path, data):
    with refused(match="nothing to resume"):
        train.train(train.Options(data=data, out=tmp_path / "run", resume=True, settings=RECIPE))
    assert not (tmp_path / "run").exists()


def test_a_run_resumed_with_another_optimizer_is_refused_and_left_as_it_was(straight, data):
    before = {path: path.read_bytes() for path in straight.glob("*.*")}
    options = train.Options(data=data, out=straight, resume=True, settings=replace(RECIPE, optimizer="adamw"))
    with refused(match="optimizer is adamw"):
        train.train(options)
    assert {path: path.read_bytes() for path in straight.glob("*.*")} == before


def test_more_images_in_a_batch_than_there_are_is_refused(tmp_path, data):
    with refused(match="32 training images do not fill a batch of 64"):
        train.train(train.Options(data=data, out=tmp_path / "run", settings=replace(RECIPE, batch_size=64)))
    assert not (tmp_path / "run").exists()


def test_pictures_of_one_class_alone_are_refused(tmp_path):
    place = tiny.photos(tmp_path / "d.npz", ("facade",), train=32, test=8)
    with refused(match="the only class is facade: a classifier needs two"):
        train.train(train.Options(data=place, out=tmp_path / "run", settings=replace(RECIPE, seed=5)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0] * 31 + [1], r"d.npz, split 'train', has 1 images of the class '1': training needs 2 of each$"),
        ([1, 2] * 16, "has 0 images of the class '0': .*start at 1[?] subtract 1"),
    ],
)
def test_a_class_with_too_few_images_is_refused_by_name(tmp_path, labels, said):
    images = tiny.noise(32)
    arrays = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    np.savez(tmp_path / "d.npz", **arrays)
    with refused(match=said):
        train.train(train.Options(data=f"npz:{tmp_path / 'd.npz'}", out=tmp_path / "run", settings=RECIPE))
    assert not (tmp_path / "run").exists()


def test_cyclegan_s_layout_is_trained_on_with_names_of_its_own(tmp_path):
    for folder in ("trainA", "trainB", "testA", "testB"):
        (tmp_path / folder).mkdir()
        Pillow.new("RGB", (16, 16)).save(tmp_path / folder / "1.png")
    flags = ["--data", f"folder:{tmp_path}", "--classes", "pony", "okapi"]
    options = train.parse_flags(train.Options, flags)
    datasets = options.reading.load_labelled(options.data, options.train_split, options.test_split)
    assert [dataset.class_names for dataset in datasets] == [("pony", "okapi")] * 2
    assert loader.in_memory(datasets[1]).labels.tolist() == [0, 1]


def test_splits_of_other_classes_are_refused(tmp_path):
    for split, names in {"train": ("cat", "dog"), "test": ("cat", "emu")}.items():
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(16):
                Pillow.new("RGB", (16, 16)).save(tmp_path / split / name / f"{i}.png")
    with refused(match="do not have the same classes"):
        train.train(train.Options(data=f"folder:{tmp_path}", out=tmp_path / "run", settings=RECIPE))


# ---- how it is resumed


def halved(monkeypatch, options: train.Options, step: int = 1) -> list[str]:
    """Stop a run after a step; the flags that continue it."""
    monkeypatch.setattr(console, "Interrupted", functools.partial(Interrupted, step))
    assert train.train(options) == 128 + signal.SIGTERM
    monkeypatch.setattr(console, "Interrupted", Interrupted)
    return ["--resume", "--out", str(options.out)]


def resume(flags: list[str]) -> int:
    return train.train(train.parse_flags(train.Options, flags))


UNLIKE = {"method": "natural", "norm": "linf", "epsilon": 0.03, "step_size": 0.01, "seed": 7, "mean": (0.4,)}


@pytest.fixture(scope="module")
def pair(tmp_path_factory, data) -> Path:
    """Two runs of other values than the defaults: `whole`, and `halves`, which was stopped in the middle."""
    out = tmp_path_factory.mktemp("pair")
    options = train.Options(data=data, judge=8, out=out / "whole", settings=replace(RECIPE, **UNLIKE))
    assert train.train(options) == 0
    with pytest.MonkeyPatch.context() as patch:
        halved(patch, dataclasses.replace(options, out=out / "halves"))
    return out


@pytest.fixture
def halves(tmp_path, pair) -> Path:
    """A copy of the run that was stopped."""
    return shutil.copytree(pair / "halves", tmp_path / "halves")


def states(data: str, *outs: Path):
    return [final_state(out, data, replace(RECIPE, **UNLIKE)) for out in outs]


@pytest.mark.slow
def test_a_run_is_resumed_by_its_folder_alone_bit_for_bit(data, pair, halves):
    assert resume(["--resume", "--out", str(halves)]) == 0
    jax.tree.map(assert_array_equal, *states(data, pair / "whole", halves))
    for name in ("run.json", releases.RELEASE):
        assert (halves / name).read_bytes() == (pair / "whole" / name).read_bytes()


def test_a_run_is_resumed_on_another_number_of_devices(monkeypatch, data, pair, halves):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(epoch_run.EpochLog, "epoch", lambda *_: None)  # saves the compilation of its attack
    monkeypatch.setattr(runs, "prepare", runs.prepare_afresh)
    assert resume(["--resume", "--out", str(halves)]) == 0
    close = functools.partial(assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, *states(data, pair / "whole", halves))


@pytest.mark.parametrize(
    "flags",
    [
        *(
            ["--batch-size", "8"],
            ["--method", "pgd"],
            ["--norm", "l2"],
            ["--seed", "0"],
            ["--dtype", "bfloat16"],
        ),
        *(["--recipe", "dual"], ["--data", "tfds:cifar10"], ["--train-split", "train[:50%]"]),
        *(["--image-size", "8"], ["--start", "cifar10"], ["--ema-decay", "0.1"], ["--epochs", "1"]),
    ],
    ids=" ".join,
)
def test_a_flag_that_changes_a_resumed_run_is_refused_by_name_and_nothing_is_written(halves, flags):
    before = {path: path.read_bytes() for path in halves.glob("*.*")}
    with refused(match=f"^{flags[0][2:].replace('-', '_')} is .*: the run in {halves} has "):
        resume(["--resume", "--out", str(halves), *flags])
    assert {path: path.read_bytes() for path in halves.glob("*.*")} == before


def test_the_epochs_and_the_judgement_of_a_resumed_run_may_change(halves):
    flags = ["--resume", "--out", str(halves), "--batch-size", "16"]
    options = train.parse_flags(
        train.Options, [*flags, "--epochs", "3", "--judge", "4", "--test-split", "train", "--data-dir", "D"]
    )
    train.check(options)
    assert options.settings == replace(RECIPE, **UNLIKE, epochs=3)
    assert (options.judge, options.test_split, options.reading.data_dir) == (4, "train", "D")


@pytest.mark.parametrize(
    ("names", "num", "wrong"), [(("cat", "emu"), 32, "class_names"), (("cat", "dog"), 48, "num_images")]
)
def test_a_run_whose_data_changed_is_not_resumed(tmp_path, halves, names, num, wrong):
    record = json.loads((halves / "run.json").read_text())
    record["data"] = tiny.photos(tmp_path / "d.npz", names, train=num, test=8)
    (halves / "run.json").write_text(json.dumps(record))
    with refused(match=f"{wrong} is .*: the run in .* has "):
        resume(["--resume", "--out", str(halves)])


@pytest.mark.parametrize("content", ["{", "[1, 2]", '{"image_size": "x"}'])
def test_a_damaged_record_of_a_run_is_refused_by_its_file(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with refused(match="run.json: "):
        resume(["--resume", "--out", str(tmp_path)])


def test_a_run_of_the_first_version_is_resumed_with_its_recipe_and_the_flags_for_its_data(tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps(flat(replace(RECIPE, **UNLIKE))))
    options = train.parse_flags(train.Options, ["--resume", "--out", str(tmp_path), "--data", "folder:D"])
    assert options.settings == replace(RECIPE, **UNLIKE) and options.data == "folder:D"


@pytest.mark.slow
def test_the_log_of_a_killed_run_is_cut_to_the_step_that_is_restored(tmp_path, monkeypatch, data, straight):
    options = train.Options(data=data, out=tmp_path / "run", settings=RECIPE)
    logged = epoch_run.EpochLog.step

    def killed(self, state, step, *more):
        logged(self, state, step, *more)
        if step == 3:
            raise InterruptedError  # as SIGKILL, it saves nothing

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(epoch_run.EpochLog, "step", killed)
        train.train(options)
    with (options.out / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    assert resume(["--resume", "--out", str(options.out)]) == 0
    assert [record["step"] for record in log(options.out)] == [record["step"] for record in log(straight)]
    assert (options.out / releases.RELEASE).read_bytes() == (straight / releases.RELEASE).read_bytes()


def test_a_run_with_a_broken_checkpoint_goes_on_from_the_one_before(tmp_path, capsys, data, straight):
    shutil.copytree(straight, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/4")
    (tmp_path / "run/checkpoints/4").mkdir()
    assert resume(["--resume", "--out", str(tmp_path / "run")]) == 0
    said = f"{tmp_path}/run/checkpoints/4 is broken: going on from step 2 instead"
    assert capsys.readouterr().err.splitlines()[0] == said
    states = (final_state(run, data) for run in (tmp_path / "run", straight))
    jax.tree.map(assert_array_equal, next(states), next(states))
    assert [record["step"] for record in log(tmp_path / "run")] == [
        record["step"] for record in log(straight)
    ]


def test_values_that_only_another_method_reads_are_not_checked(tmp_path):
    options = train.parse_flags(train.Options, ["--batch-size", "8", "--out", str(tmp_path / "run")])
    train.check(options)


# ---- the command line


@pytest.mark.parametrize("flags", [["--recipe", "cifar10"], ["--recipe=cifar10"]], ids=" ".join)
def test_the_flags_stand_over_the_recipe_they_name(flags):
    options = train.parse_flags(train.Options, [*flags, "--epochs", "3"])
    assert options.recipe == "cifar10" and options.settings == replace(RECIPES["cifar10"], epochs=3)


def test_the_recipe_of_a_run_is_taken_from_its_record_under_the_flags(straight):
    values = json.loads((straight / "run.json").read_text())
    options = train.parse_flags(train.Options, ["--recipe", str(straight / "run.json"), "--epochs", "3"])
    assert options.settings == replace(RECIPE, epochs=3) and options.recipe == values["recipe"]
    assert options.data == train.Options().data  # the recipe, and no more


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"batch_size": 8, "seed": 1}', "is no record of a run of this trainer"),
        (json.dumps(flat(RECIPE) | {"batch_size": "8"}), "cannot use .*: '8' where a int should be"),
        ("[", "cannot read"),
    ],
)
def test_a_file_that_holds_no_recipe_is_refused(tmp_path, content, said):
    (tmp_path / "recipe.json").write_text(content)
    with refused(match=f"{said}"):
        train.parse_flags(train.Options, ["--recipe", str(tmp_path / "recipe.json")])


@pytest.fixture(scope="module")
def robust(tmp_path_factory, data) -> str:
    """A classifier to go on from."""
    path = tmp_path_factory.mktemp("robust") / "c.safetensors"
    tiny.release(path, ("cat", "dog"))
    return str(path)


SHORT = ["--fake-stride", "1", "--most-fake-steps", "8"]
DUAL = ["--recipe", "dual", "--epochs", "2", "--batch-size", "16", "--auc-threshold", "0.01"]


@pytest.mark.slow
def test_dual_training_goes_on_from_a_classifier_and_resumes_bit_for_bit(tmp_path, monkeypatch, data, robust):
    moved = str(shutil.copy(robust, tmp_path / "c.safetensors"))
    flags = [*DUAL, "--data", data, "--start", moved, "--num-steps", "1", *SHORT]
    options = train.parse_flags(train.Options, [*flags, "--out", str(tmp_path / "straight")])
    assert train.train(options) == 0
    monkeypatch.setattr(console, "Interrupted", functools.partial(Interrupted, 1))
    halves = dataclasses.replace(options, out=tmp_path / "halves")
    assert train.train(halves) == 128 + signal.SIGTERM
    monkeypatch.setattr(console, "Interrupted", Interrupted)
    Path(moved).rename(tmp_path / "gone")  # the start is not read again
    assert resume(["--resume", "--out", str(halves.out)]) == 0
    files = [releases.load(str(tmp_path / out)).variables for out in ("straight", "halves")]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*map(jax.tree.leaves, files), strict=True))
    logged = (tmp_path / "straight/log.jsonl").read_text().splitlines()
    last = [record for record in map(json.loads, logged) if "num_steps" in record][-1]
    assert releases.load(str(tmp_path / "straight")).recipe["fake_steps"] == last["num_steps"]


def test_dual_training_keeps_the_network_and_the_threat_of_its_start(data, robust):
    settings = train.parse_flags(train.Options, [*DUAL, "--data", data, "--start", robust]).settings
    start = releases.load(robust)
    assert settings.network.architecture == start.config.architecture
    assert settings.network.mean == start.config.mean
    assert (settings.attack.norm, settings.attack.epsilon) == (start.threat.norm.name, start.threat.epsilon)
    assert settings.attack.num_steps == start.steps.num_steps
    assert settings.method == "dual" and settings.batch_size == 16


def test_dual_training_without_a_start_is_refused(tmp_path, data):
    options = train.parse_flags(train.Options, [*DUAL, "--data", data, "--out", str(tmp_path / "run")])
    with refused(match="give it with --start"):
        train.train(options)
    assert list(tmp_path.iterdir()) == []


def started(data: str, start: str, out: Path, *flags: str):
    """The weights with which training begins."""
    options = train.parse_flags(train.Options, ["--data", data, "--start", start, "--out", str(out), *flags])
    run = prepared(data, options.settings)
    return runs.start(run, releases.load(start)).variables


@pytest.mark.parametrize("names", [("cat", "dog"), ("horse", "zebra", "emu")], ids=len)
def test_training_goes_on_from_a_classifier_with_a_new_last_layer_for_other_classes(tmp_path, data, names):
    path = str(tmp_path / "c.safetensors")
    tiny.release(path, names)
    begun = started(data, path, tmp_path / "run", "--batch-size", "16")
    params, own = begun["params"], releases.load(path).variables["params"]
    last, own_last = params.pop(models.LAST), own.pop(models.LAST)
    jax.tree.map(assert_array_equal, params, own)
    assert last["kernel"].shape[-1] == 2
    assert (names == ("cat", "dog")) == np.array_equal(last["kernel"], own_last["kernel"])


def test_a_recipe_that_goes_on_has_its_own_threat(robust):
    settings = train.parse_flags(train.Options, ["--recipe", "horse2zebra-64", "--start", robust]).settings
    kept = {"architecture": "tiny", "mean": settings.network.mean, "std": (0.2,)}
    assert settings == replace(RECIPES["horse2zebra-64"], **kept)
    assert settings.network.mean == (0.4, 0.5, 0.6)


def test_a_start_of_another_network_or_for_dual_of_other_classes_is_refused(tmp_path, data, robust):
    with refused(match="another network"):
        started(data, robust, tmp_path / "run", "--architecture", "resnet8", "--batch-size", "16")
    tiny.release(tmp_path / "c.safetensors", ("horse", "zebra"))
    with refused(match="has other classes"):
        started(data, str(tmp_path / "c.safetensors"), tmp_path / "run", *DUAL)


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with refused(match="no recipe named 'cifar'.*cifar10-cpu.*own-64, dual ... \\(15 in all\\)"):
        train.parse_flags(train.Options, ["--recipe", "cifar"])


def test_the_default_settings_are_those_of_the_default_recipe():
    assert train.parse_flags(train.Options, []) == train.Options()
    assert train.Options().settings == RECIPES[train.Options().recipe]


SMALL = ["--method", "natural", "--batch-size", "16", "--epochs", "100000", "--judge", "8"]
TINY = f"""import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import tiny
from train import train
with tiny.network():
    train.main()
"""


def start_command(program: list[str], data: str, out: Path, *flags: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *program, "--data", data, "--out", str(out), *SMALL, *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_bad_flag_ends_the_command_with_status_2_one_line_and_no_file(tmp_path, data):
    process = start_command(["-m", "train.train"], data, tmp_path / "run", "--learning-rate", "nan")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 2 and output == ""
    assert errors.count("\n") == 1 and errors.startswith("rsynth-train: learning_rate is nan")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_sigterm_saves_says_how_to_continue_and_ends_with_status_143(tmp_path, data):
    process = start_command(["-c", TINY], data, tmp_path / "run", "--architecture", "tiny")
    try:
        deadline = time.monotonic() + 300
        while not (tmp_path / "run/log.jsonl").exists() or not log(tmp_path / "run"):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGTERM)
        output, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 143 and "Traceback" not in errors
    assert f"continue with --resume --out {tmp_path / 'run'}" in output
    values = {"architecture": "tiny", "method": "natural", "batch_size": 16, "epochs": 100_000}
    state = final_state(tmp_path / "run", data, replace(RECIPES["cifar10-cpu"], **values))
    assert f"stopped after step {int(state.step)}" in output and int(state.step) > 0


def test_help_imports_no_jax():
    code = (
        "import sys; from train import train\n"
        "try: train.parse_flags(train.Options, ['--help'])\n"
        "except SystemExit: print({'jax', 'flax', 'optax', 'matplotlib'} & sys.modules.keys())"
    )
    output = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    assert output.endswith("set()\n") and "--learning-rate" in output and "--fake-noise" in output
