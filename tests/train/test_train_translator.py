"""The program that trains translators: it continues bit for bit, and refuses early; and its runs."""

import dataclasses
import json
import os
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.cli import step_run
from rsynth_jax.cli.options import LabelledDataFlags
from rsynth_jax.storage import releases, train_states, translators
from rsynth_jax.training import translator_run
from rsynth_jax.training.recipes import flat, replace
from rsynth_jax.training.translator_recipes import RECIPES, TranslatorRecipe
from train import train_translator as program
from train.train_translator import Options

STEPS = 3
SHAPE = (8, 8, 3)
SMALL = replace(
    TranslatorRecipe(),
    side=8,
    widths=(4, 4),
    blocks=1,
    style_size=2,
    mlp_width=4,
    critic_width=8,
    game="least-squares",
    batch_size=4,
    num_steps=STEPS,
    ema_decay=0.5,
)


@pytest.fixture(scope="module", autouse=True)
def cheap():
    """One device, one program for each recipe; signal handlers are restored."""
    prepare, made = translator_run.prepare, {}

    def once(recipe, images, *rest):
        key = (recipe, images.shape)
        if key not in made:
            made[key] = prepare(recipe, images, *rest)
        return made[key]

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with jax.numpy_dtype_promotion("standard"), tiny.network(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(translator_run, "prepare", once)
        patch.setattr(jax, "device_count", lambda: 1)
        patch.setattr(step_run, "LOG_EVERY", 1)
        patch.setattr(program, "ROWS", 2)
        yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with images of two classes, d.npz, of which the second has more, of one and of three, and a
    classifier of others, c.safetensors."""
    folder = tmp_path_factory.mktemp("place")
    released = tiny.release(folder / "c.safetensors", ("horse", "zebra", "emu"))
    releases.save(folder / "c.safetensors", released._replace(image_shape=SHAPE))
    tiny.photos(folder / "d.npz", ("cat", "dog"), train=19, test=6)
    tiny.photos(folder / "one.npz", ("cat",), train=8, test=2)
    tiny.photos(folder / "three.npz", tiny.NAMES, train=9, test=3)
    return folder


def flags(place: Path, out: Path, values: dict | None = None, **options) -> Options:
    settings = replace(SMALL, **{"classifier": str(place / "c.safetensors")} | (values or {}))
    reading = LabelledDataFlags(image_size=8)
    own = Options(data=f"npz:{place / 'd.npz'}", out=out, sample_every=2, settings=settings, reading=reading)
    return dataclasses.replace(own, **options)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, place) -> Path:
    """A run without an interruption."""
    out = tmp_path_factory.mktemp("straight") / "run"
    assert program.train_translator(flags(place, out)) == 0
    return out


@pytest.mark.slow
def test_a_run_has_its_release_its_sheet_and_the_terms_of_the_loss(straight, place):
    expected = {"translator.safetensors", "samples.png", "log.jsonl", "curves.png", "run.json"}
    expected |= {"snapshots", "checkpoints"}
    assert {path.name for path in straight.iterdir()} == expected
    assert all(name in program.__doc__ for name in expected)
    records = [json.loads(line) for line in (straight / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3]
    terms = {f"{name}_loss" for name in ("image", "content", "style", "example_style", "cycle", "moment")}
    assert all(set(record) > {"generator_loss", "pairs_per_second", *terms} for record in records)
    assert np.isfinite([value for record in records for value in record.values()]).all()
    assert any(record["example_style_loss"] > 0 for record in records)
    with Pillow.open(straight / "samples.png") as sheet:
        assert sheet.height > 4 * 64 and sheet.width > 8 * 64  # two images of each class, eight columns


@pytest.mark.slow
def test_the_release_is_the_averaged_weights_and_the_recipe(straight, place):
    release = translators.load(straight)
    assert release.class_names == ("cat", "dog") and release.image_shape == SHAPE
    settings = json.loads(json.dumps(flat(flags(place, straight).settings)))
    assert release.recipe == settings | {"data": f"npz:{place / 'd.npz'}", "steps": 3, "pairs": 12}
    run = translator_run.prepare(flags(place, straight).settings, np.empty((19, *SHAPE), np.uint8))
    state = train_states.restore_state(straight, translator_run.start(run))
    jax.tree.map(
        lambda a, b: assert_array_equal(a, np.asarray(b, jnp.bfloat16)), release.variables, state.ema
    )


@pytest.mark.slow  # the loop is that of the other trainers
def test_a_run_that_is_stopped_and_resumed_is_the_straight_run_bit_for_bit(tmp_path, place, straight):
    out, logged = tmp_path / "run", step_run.StepLog.step

    def stopped(self, now, metrics):
        logged(self, now, metrics)
        if now == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_run.StepLog, "step", stopped)
        assert program.train_translator(flags(place, out)) == 130
    again = program.parse_flags(Options, ["--resume", "--out", str(out)])
    assert program.train_translator(again) == 0
    for name in ("run.json", "translator.safetensors", "samples.png", "snapshots/000002.safetensors"):
        assert (out / name).read_bytes() == (straight / name).read_bytes()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cycle_weight": -1.0}, "cycle_weight is -1"),
        ({"example_share": 1.5}, "example_share is 1.5"),
        ({"moment_weight": float("nan")}, "moment_weight is nan"),
        ({"gamma": -1.0}, "gamma is -1"),
        ({"style_size": 0}, "style_size is 0"),
        ({"scales": 4}, "4 critics of 8 pixels cannot be: give a power of two, or fewer --scales"),
        ({"side": 16}, "images are 8 x 8 x 3, the recipe's are 16 x 16 x 3: give --image-size 16 or another"),
        ({"batch_size": 32}, "9 training images do not fill a batch of 32"),
        ({"classifier": "nobody"}, "no classifier 'nobody': give a file, a run, or .*cat-dog-64"),
        ({"classifier": "cat-dog-64"}, "classifier's images are 64 x 64 x 3, the recipe's 8 x 8 x 3"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused_and_nothing_is_written(tmp_path, place, values, message):
    with refused(match=message):
        program.train_translator(flags(place, tmp_path / "run", values))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("file", "num"), [("one", 1), ("three", 3)])
def test_a_translator_needs_two_classes(tmp_path, place, file, num):
    with refused(match=f"has {num} classes: a translator needs two$"):
        program.train_translator(flags(place, tmp_path / "run", data=f"npz:{place / file}.npz"))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_sense_and_is_over_its_flags(name):
    translator_run.validate(RECIPES[name])
    options = program.parse_flags(Options, ["--recipe", name, "--content-weight", "3", "--scales", "1"])
    assert options.settings == replace(RECIPES[name], content_weight=3.0, scales=1)


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_the_step_lowers_for_accelerators_without_a_callback_or_float64(place, straight, platform):
    run = translator_run.prepare(flags(place, straight).settings, np.empty((19, *SHAPE), np.uint8))
    state = jax.eval_shape(lambda: translator_run.start(run))
    pairs, labels = np.zeros((4, 2, *SHAPE), np.uint8), np.zeros(4, np.int32)
    text = run.trainer.step.trace(state, run.step_key, pairs, labels)
    text = text.lower(lowering_platforms=(platform,)).as_text()
    assert "stablehlo.convolution" in text
    assert "callback" not in text and "f64" not in text
