"""The program that trains generators: it continues bit for bit, stops cleanly, and refuses early."""

import dataclasses
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.cli import step_run, training_pages
from rsynth_jax.cli.options import LabelledDataFlags
from rsynth_jax.storage import generators, releases, train_states
from rsynth_jax.training import gan_run
from rsynth_jax.training.gan_recipes import RECIPES, GanRecipe
from rsynth_jax.training.recipes import flat, replace
from train import train_generator as program
from train.train_generator import Options

STEPS = 3  # of two epochs: 20 images are two batches of 8
SHAPE = (8, 8, 3)  # of the recipe's images: --image-size 8
READING = LabelledDataFlags(image_size=8)
SMALL = replace(
    GanRecipe(),
    widths=(4,),
    latent_size=4,
    mapping_depth=1,
    critic_width=4,
    batch_size=8,
    num_steps=STEPS,
    ema_decay=0.5,
)


@pytest.fixture(scope="module", autouse=True)
def cheap():
    """Tiny networks on one device, few samples, one program for each recipe; signal handlers are restored."""
    prepare, start, made = gan_run.prepare, gan_run.start, {}

    def begun(run):
        """Weights of NumPy, whose random numbers compile nothing."""
        rng, shapes = np.random.default_rng(0), jax.eval_shape(lambda: start(run))
        zeros = jax.tree.map(lambda leaf: jnp.array(np.zeros(leaf.shape, leaf.dtype)), shapes)
        drawn = jax.tree.map(
            lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), (shapes.ema, shapes.critic)
        )
        params, ema, critic = (jax.tree.map(jnp.array, tree) for tree in (drawn[0], *drawn))
        state = zeros._replace(generator=zeros.generator._replace(params=params), ema=ema, critic=critic)
        return run.trainer.place(run.devices, state)

    def once(recipe, images, names, *rest):
        key = (recipe, images.shape, tuple(names))
        if key not in made:
            made[key] = prepare(recipe, images, names, *rest)
        return made[key]

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with tiny.network(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(gan_run, "prepare", once)
        patch.setattr(gan_run, "start", begun)
        patch.setattr(jax, "device_count", lambda: 1)
        patch.setattr(step_run, "LOG_EVERY", 2)
        patch.setattr(training_pages, "COLUMNS", 2)
        patch.setattr(training_pages, "ROWS", 2)
        yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with 20 images of two classes, d.npz, and a classifier of three others, c.safetensors."""
    folder = tmp_path_factory.mktemp("place")
    tiny.photos(folder / "d.npz", ("cat", "dog"), train=20)
    released = tiny.release(folder / "c.safetensors", ("horse", "zebra", "emu"))
    releases.save(folder / "c.safetensors", released._replace(image_shape=SHAPE))
    return folder


def flags(place: Path, out: Path, **values) -> Options:
    settings = replace(SMALL, classifier=str(place / "c.safetensors"))
    options = Options(
        data=f"npz:{place / 'd.npz'}", out=out, sample_every=2, settings=settings, reading=READING
    )
    return dataclasses.replace(options, **values)


@pytest.fixture(scope="module")
def watched(tmp_path_factory, place) -> tuple[Path, list]:
    """A run without an interruption, and what its summaries got."""
    out = tmp_path_factory.mktemp("straight") / "run"
    with tiny.summaries() as found:
        assert program.train_generator(flags(place, out)) == 0
    return out, found


@pytest.fixture(scope="module")
def straight(watched) -> Path:
    """A run without an interruption."""
    return watched[0]


def log(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def interrupt_at(patch: pytest.MonkeyPatch, step: int, number: int = signal.SIGINT) -> None:
    """Send this process a signal in a step."""
    logged = step_run.StepLog.step

    def stopped(self, now, metrics):
        logged(self, now, metrics)
        if now == step:
            os.kill(os.getpid(), number)

    patch.setattr(step_run.StepLog, "step", stopped)


def resume(out: Path, *more: str) -> int:
    return program.train_generator(program.parse_flags(Options, ["--resume", "--out", str(out), *more]))


def content(out: Path) -> dict[Path, bytes]:
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


# ---- what a run leaves


def test_the_summaries_have_the_numbers_of_the_log_and_the_sheets_of_the_snapshots(watched):
    out, found = watched
    assert [(step, {"step": step} | values) for step, values in found if "loss" in values] == [
        (line["step"], line) for line in log(out)
    ]
    sheets = [(step, values["samples"]) for step, values in found if "samples" in values]
    assert [step for step, _ in sheets] == [2, STEPS]
    for step, sheet in sheets:
        assert sheet.tobytes() == Pillow.open(out / f"snapshots/{step:06d}.png").tobytes()


def test_a_run_writes_every_file_it_names(straight, place):
    expected = {"generator.safetensors", "samples.png", "log.jsonl", "curves.png", "run.json"}
    expected |= {"snapshots", "checkpoints"}
    assert {path.name for path in straight.iterdir()} == expected
    assert all(name in program.__doc__ for name in expected)
    steps = ("000002", "000003")
    assert {path.name for path in (straight / "snapshots").iterdir()} == {
        f"{step}.{suffix}" for step in steps for suffix in ("png", "safetensors")
    }
    for name in ("generator.safetensors", "samples.png"):
        last = straight / "snapshots" / f"000003{Path(name).suffix}"
        assert (straight / name).read_bytes() == last.read_bytes()
    with Pillow.open(straight / "samples.png") as sheet:
        assert sheet.format == "PNG" and min(sheet.size) > 100
    assert {int(path.name) for path in (straight / "checkpoints").iterdir()} == {2, 3}


def test_the_log_has_the_losses_the_scores_and_the_speed(straight):
    assert [record["step"] for record in log(straight)] == [2, 3]
    for record in log(straight):
        names = {"step", "loss", "real_score", "fake_score", "generator_loss", "images_per_second"}
        assert set(record) == names and np.isfinite(list(record.values())).all()
        assert record["images_per_second"] > 0


def test_the_release_and_the_record_say_how_it_was_made(straight, place):
    release, record = generators.load(str(straight)), json.loads((straight / "run.json").read_text())
    assert release.class_names == ("cat", "dog") and release.image_shape == SHAPE
    settings = json.loads(json.dumps(flat(flags(place, straight).settings)))
    assert release.recipe == settings | {
        "data": f"npz:{place / 'd.npz'}",
        "steps": STEPS,
        "images": 8 * STEPS,
    }
    assert record.items() >= settings.items() and record["num_images"] == 20
    assert record["class_names"] == ["cat", "dog"] and record["image_shape"] == [8, 8, 3]


def test_the_release_is_the_averaged_weights(straight, place):
    state = last_state(straight, place)
    released = generators.load(str(straight)).variables
    jax.tree.map(lambda a, b: assert_array_equal(a, np.asarray(b, jnp.bfloat16)), released, state.ema)
    assert int(state.step) == STEPS
    assert not np.array_equal(state.ema["params"]["constant"], state.generator.params["params"]["constant"])


def prepared(place: Path) -> gan_run.GanRun:
    """The run of these flags, compiled already where one has been made."""
    settings = flags(place, place).settings
    return gan_run.prepare(settings, np.empty((20, *SHAPE), np.uint8), ("cat", "dog"), 20)


def last_state(out: Path, place: Path):
    return train_states.restore_state(out, gan_run.start(prepared(place)))


# ---- how it is stopped and resumed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "number", "status"),
    [(1, signal.SIGINT, 130), (2, signal.SIGTERM, 143)],
    ids=["before a checkpoint", "at a checkpoint and the end of an epoch"],
)
def test_a_run_that_is_stopped_saves_and_resumed_by_its_folder_alone_is_the_straight_run_bit_for_bit(
    tmp_path, capsys, place, straight, step, number, status
):
    out = tmp_path / "run"
    relative = replace(SMALL, classifier="c.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        interrupt_at(patch, step, number)
        assert program.train_generator(flags(place, out, settings=relative)) == status
    assert f"stopped after step {step}; continue with --resume --out {out}" in capsys.readouterr().out
    assert (out / "checkpoints" / str(step)).is_dir() and not (out / "checkpoints" / str(step + 1)).exists()
    assert resume(out) == 0
    assert f"{out / generators.RELEASE}: 8 pixels after {STEPS} steps" in capsys.readouterr().out
    for name in ("run.json", "generator.safetensors", "samples.png", "snapshots/000002.safetensors"):
        assert (out / name).read_bytes() == (straight / name).read_bytes()
    jax.tree.map(assert_array_equal, *(last_state(run, place) for run in (out, straight)))
    losses = [[(record["step"], record["loss"]) for record in log(run)] for run in (out, straight)]
    assert losses[0] == losses[1]


def test_a_run_that_is_complete_is_resumed_to_the_same(tmp_path, capsys, straight):
    out = shutil.copytree(straight, tmp_path / "run")
    before = content(out)
    assert resume(out, "--sample-every", "3") == 0
    after = content(out)
    record, own = (json.loads(files.pop(Path("run.json"))) for files in (after, before))
    assert record == own | {"sample_every": 3} and after == before


@pytest.mark.parametrize(
    "more",
    [
        *(["--batch-size", "4"], ["--widths", "8", "8"], ["--game", "hinge"], ["--gamma", "2"]),
        *(["--num-steps", "9"], ["--recipe", "style"], ["--classifier", "cat-dog-64"], ["--seed", "1"]),
        *(["--norm", "adain"], ["--data", "tfds:cifar10"], ["--image-size", "16"], ["--critic-width", "8"]),
    ],
    ids=" ".join,
)
def test_a_value_that_changes_a_resumed_run_is_refused_by_name_and_nothing_is_written(straight, more):
    before = content(straight)
    with refused(match=f"^{more[0][2:].replace('-', '_')} is .*: the run in {straight} has "):
        resume(straight, *more)
    assert content(straight) == before


def test_data_that_changed_are_refused(tmp_path, straight):
    out = shutil.copytree(straight, tmp_path / "run")
    record = json.loads((out / "run.json").read_text())
    record["data"] = tiny.photos(tmp_path / "d.npz", ("cat", "emu"), train=20)
    (out / "run.json").write_text(json.dumps(record))
    with refused(match="^class_names is .*emu.*: the run in .* has .*dog"):
        resume(out)


# ---- what it refuses


def check_refused(options: Options, message: str) -> None:
    """One line below 200 characters, and nothing is written."""
    with refused(match=message) as found:
        program.train_generator(options)
    assert len(str(found.value).replace(str(options.out.parent), "")) < 200
    assert not options.out.exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"game": "chess"}, "no game named 'chess': give one of minimax, heuristic"),
        ({"norm": "batch"}, "no norm named 'batch': give one of demodulated, adain"),
        ({"learning_rate": float("nan")}, "learning_rate is nan: give a number above 0"),
        ({"widths": ()}, "widths is empty"),
        ({"widths": (4, 4)}, "images are 8 x 8 x 3, the recipe's are 16 x 16 x 3: give --image-size 16"),
        ({"batch_size": 32}, "20 training images do not fill a batch of 32"),
        ({"critic_steps": 3}, "20 training images do not fill a batch of 24"),
        ({"classifier": "cat-dog-64"}, "classifier's images are 64 x 64 x 3, the recipe's 8 x 8 x 3"),
    ],
    ids=str,
)
def test_a_recipe_that_does_not_fit_is_refused_and_nothing_is_written(tmp_path, place, values, message):
    check_refused(flags(place, tmp_path / "run", settings=replace(SMALL, **values)), message)


def test_a_classifier_that_does_not_exist_is_refused(tmp_path, place):
    with refused(match="^no classifier 'nobody': give a file, a run, or .*cat-dog-64"):
        program.train_generator(flags(place, tmp_path / "run", settings=replace(SMALL, classifier="nobody")))
    assert not (tmp_path / "run").exists()


def test_a_generator_is_refused_as_the_classifier(tmp_path, place, straight):
    for name in (straight, straight / generators.RELEASE):
        settings = replace(SMALL, classifier=str(name))
        check_refused(flags(place, tmp_path / "run", settings=settings), "is a generator: give a classifier")


def test_an_interval_of_0_is_refused(tmp_path, place):
    check_refused(flags(place, tmp_path / "run", sample_every=0), "sample_every is 0")


def test_a_class_without_images_is_refused_by_name(tmp_path, place):
    arrays = {
        "train_images": tiny.noise(16),
        "train_labels": np.zeros(16, int),
        "class_names": ["cat", "dog"],
    }
    np.savez(tmp_path / "d.npz", **arrays)
    options = flags(place, tmp_path / "run", data=f"npz:{tmp_path / 'd.npz'}")
    check_refused(options, "has 0 images of the class 'dog': training needs 1 of each")


def test_data_that_do_not_exist_are_refused(tmp_path, place):
    check_refused(flags(place, tmp_path / "run", data=f"folder:{tmp_path / 'faces'}"), "faces")


def test_a_folder_that_holds_a_run_is_refused_and_left_as_it_was(straight, place):
    before = content(straight)
    with refused(match="already holds a run: give --resume or another --out"):
        program.train_generator(flags(place, straight))
    assert content(straight) == before


def test_a_folder_without_a_run_or_with_one_of_another_program_is_not_resumed(tmp_path, place, straight):
    check_refused(
        flags(place, tmp_path / "run", resume=True), "nothing to resume in .*: it has no checkpoints"
    )
    out = shutil.copytree(straight, tmp_path / "classifier")
    (out / "run.json").write_text(json.dumps({"recipe": "cifar10-cpu", "num_steps": 2, "batch_size": 8}))
    before = content(out)
    with refused(match="recipe is style: the run in .* has cifar10-cpu"):
        program.train_generator(flags(place, out, resume=True, recipe="style"))
    assert content(out) == before


# ---- weights that are not finite


@pytest.mark.slow
@pytest.mark.parametrize(("part", "step", "saved"), [("ema", 1, set()), ("critic", STEPS, {"2"})])
def test_weights_that_are_not_finite_are_never_saved(tmp_path, monkeypatch, place, part, step, saved):
    """Neither when the run is stopped nor with a snapshot."""
    run, out = prepared(place), tmp_path / "run"

    def broken(state, *batch):
        state, metrics = run.trainer.step(state, *batch)
        (leaf, *rest), structure = jax.tree.flatten(getattr(state, part))
        poison = jnp.where(state.step == step, jnp.nan, leaf)
        return state._replace(**{part: jax.tree.unflatten(structure, [poison, *rest])}), metrics

    poisoned = run._replace(trainer=run.trainer._replace(step=broken))
    monkeypatch.setattr(gan_run, "prepare", lambda *_: poisoned)
    interrupt_at(monkeypatch, step)
    with refused(
        match=f"the loss or a weight is not finite at step {step}: lower --learning-rate or raise --gamma"
    ):
        program.train_generator(flags(place, out))
    assert {path.name for path in out.glob("checkpoints/*")} == saved
    assert {path.stem for path in out.glob("snapshots/*")} == {f"{int(name):06d}" for name in saved}


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch, place):
    run = prepared(place)

    def broken(state, *batch):
        state, metrics = run.trainer.step(state, *batch)
        return state, metrics._replace(loss=jnp.float32(jnp.inf))

    monkeypatch.setattr(
        gan_run, "prepare", lambda *_: run._replace(trainer=run.trainer._replace(step=broken))
    )
    with refused(
        match="the loss or a weight is not finite at step 1: lower --learning-rate or raise --gamma"
    ):
        program.train_generator(flags(place, tmp_path / "run"))
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"run.json", "log.jsonl"}


# ---- the command line


def test_the_flags_are_over_the_recipe_that_they_name():
    options = program.parse_flags(
        Options, ["--recipe", "cifar10-style-32", "--widths", "8", "8", "--gamma", "3"]
    )
    assert options.settings == replace(RECIPES["cifar10-style-32"], widths=(8, 8), gamma=3.0)
    assert program.parse_flags(Options, []) == Options() and Options().settings == RECIPES["faces-style-64"]
    assert program.parse_flags(Options, ["--classifier", "None"]).settings.classifier is None


def test_a_mistake_ends_the_command_with_status_2_and_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["rsynth-train-generator", "--out", str(tmp_path / "run"), "--mixing", "2"]
    )
    with pytest.raises(SystemExit) as stopped:
        program.main()
    errors = capsys.readouterr().err
    assert stopped.value.code == 2 and errors.count("\n") == 1
    assert errors.startswith("rsynth-train-generator: mixing is 2.0: give 0 or more, and at most 1")
    assert not (tmp_path / "run").exists()


def test_the_program_is_short_and_has_a_command():
    assert len(Path(program.__file__).read_text().splitlines()) <= 110
    setup = (Path(program.__file__).parents[1] / "setup.cfg").read_text()
    assert "rsynth-train-generator = rsynth_jax_train.train_generator:main" in setup
