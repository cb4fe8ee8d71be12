"""The program that trains inverters: it continues bit for bit, and refuses early; and its runs."""

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

from rsynth_jax.cli import classifiers, step_run, training_pages
from rsynth_jax.cli.options import LabelledDataFlags
from rsynth_jax.sampling import inverters as passes
from rsynth_jax.storage import inverters, releases, train_states
from rsynth_jax.training import inverter_run
from rsynth_jax.training.inverter_recipes import RECIPES, InverterRecipe
from rsynth_jax.training.recipes import flat, replace
from train import train_inverter as program
from train.train_inverter import Options

STEPS = 3
SHAPE = (8, 8, 3)
SMALL = replace(
    InverterRecipe(),
    widths=(4, 4),
    critic_width=4,
    batch_size=8,
    num_steps=STEPS,
    ema_decay=0.5,
    variational=True,
    latent_size=4,
)


@pytest.fixture(scope="module", autouse=True)
def cheap():
    """Tiny networks on one device, one program for each recipe; signal handlers are restored."""
    prepare, made = inverter_run.prepare, {}

    def once(recipe, images, *rest):
        key = (recipe, images.shape)
        if key not in made:
            made[key] = prepare(recipe, images, *rest)
        return made[key]

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with tiny.network(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(inverter_run, "prepare", once)
        patch.setattr(jax, "device_count", lambda: 1)
        patch.setattr(step_run, "LOG_EVERY", 1)
        patch.setattr(training_pages, "COLUMNS", 2)
        yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with images of two classes, d.npz, and a classifier of three others, c.safetensors."""
    folder = tmp_path_factory.mktemp("place")
    tiny.photos(folder / "d.npz", ("cat", "dog"), train=20, test=6)
    released = tiny.release(folder / "c.safetensors", ("horse", "zebra", "emu"))
    releases.save(folder / "c.safetensors", released._replace(image_shape=SHAPE))
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
    assert program.train_inverter(flags(place, out)) == 0
    return out


@pytest.mark.slow
def test_a_run_has_its_release_its_sheet_and_the_terms_of_the_loss(straight, place):
    expected = {"inverter.safetensors", "samples.png", "log.jsonl", "curves.png", "run.json"}
    expected |= {"snapshots", "checkpoints"}
    assert {path.name for path in straight.iterdir()} == expected
    assert all(name in program.__doc__ for name in expected)
    records = [json.loads(line) for line in (straight / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3]
    terms = {"feature_loss", "image_loss", "kl_loss"}
    assert all(set(record) > {"generator_loss", "fake_score", *terms} for record in records)
    assert np.isfinite([value for record in records for value in record.values()]).all()
    with Pillow.open(straight / "curves.png") as curves:
        assert curves.size == (1500, 400)  # loss, score, the other losses
    with Pillow.open(straight / "samples.png") as sheet:
        assert sheet.height > 6 * 80  # rows: two of each class, two drawn


@pytest.mark.slow
def test_the_release_names_its_classifier_and_inverts_by_the_averaged_weights(straight, place):
    release = inverters.load(straight)
    assert release.class_names == ("cat", "dog") and release.image_shape == SHAPE
    settings = json.loads(json.dumps(flat(flags(place, straight).settings)))
    assert release.recipe == settings | {"data": f"npz:{place / 'd.npz'}", "steps": 3, "images": 24}
    run = inverter_run.prepare(flags(place, straight).settings, np.empty((20, *SHAPE), np.uint8))
    state = train_states.restore_state(straight, inverter_run.start(run))
    jax.tree.map(
        lambda a, b: assert_array_equal(a, np.asarray(b, jnp.bfloat16)), release.variables, state.ema
    )
    found = passes.invert_by(releases.load(release.classifier), release, tiny.noise(2)[:, ::2, ::2])
    assert found.images.shape == (2, *SHAPE)


@pytest.mark.slow
def test_a_run_that_is_stopped_and_resumed_is_the_straight_run_bit_for_bit(tmp_path, place, straight):
    out, logged = tmp_path / "run", step_run.StepLog.step

    def stopped(self, now, metrics):
        logged(self, now, metrics)
        if now == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_run.StepLog, "step", stopped)
        assert program.train_inverter(flags(place, out)) == 130
    again = program.parse_flags(Options, ["--resume", "--out", str(out)])
    assert program.train_inverter(again) == 0
    for name in ("run.json", "inverter.safetensors", "samples.png", "snapshots/000002.safetensors"):
        assert (out / name).read_bytes() == (straight / name).read_bytes()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layer": "logits"}, "no layer 'logits': give features, or maps:N"),
        ({"layer": "maps:7"}, "no layer 'maps:7': the classifier's maps are maps:0 to maps:0"),
        ({"latent_size": 0}, "latent_size is 0"),
        ({"feature_weight": -1.0}, "feature_weight is -1"),
        ({"kl_weight": float("nan")}, "kl_weight is nan"),
        ({"gamma": -1.0}, "gamma is -1"),
        ({"widths": (4, 4, 4)}, "images are 8 x 8 x 3, the recipe's are 16 x 16 x 3"),
        ({"batch_size": 32}, "20 training images do not fill a batch of 32"),
        ({"classifier": "cat-dog-64"}, "classifier's images are 64 x 64 x 3, the recipe's 8 x 8 x 3"),
        ({"comparator": "cat-dog-64"}, "classifier's images are 64 x 64 x 3, the recipe's 8 x 8 x 3"),
        ({"comparator": "nobody"}, "no classifier 'nobody'"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused_and_nothing_is_written(tmp_path, place, values, message):
    with refused(match=message):
        program.train_inverter(flags(place, tmp_path / "run", values))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_inverter_is_refused_as_the_classifier(tmp_path, place, straight):
    with refused(match="is an inverter: give a classifier"):
        program.train_inverter(flags(place, tmp_path / "run", {"classifier": str(straight)}))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_sense_and_is_over_its_flags(name):
    inverter_run.validate(RECIPES[name])
    options = program.parse_flags(Options, ["--recipe", name, "--layer", "maps:2", "--image-weight", "0"])
    assert options.settings == replace(RECIPES[name], layer="maps:2", image_weight=0.0)
    assert program.parse_flags(Options, ["--variational"]).settings.inverter.variational


def test_the_comparator_is_the_named_one_or_has_weights_of_the_seed(place):
    own = releases.load(place / "c.safetensors")
    assert classifiers.comparator(None, own, 0) is None
    found = [
        classifiers.comparator(name, own, 1) for name in (str(place / "c.safetensors"), "random", "random")
    ]
    digests = [releases.digest(each) for each in (own, *found)]
    assert digests[0] == digests[1] != digests[2] == digests[3]
    assert jax.tree.map(jnp.shape, own.variables) == jax.tree.map(jnp.shape, found[1].variables)


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_the_step_lowers_for_accelerators_without_a_callback_or_float64(place, straight, platform):
    run = inverter_run.prepare(flags(place, straight).settings, np.empty((20, *SHAPE), np.uint8))
    state = jax.eval_shape(lambda: inverter_run.start(run))
    images, labels = np.zeros((8, *SHAPE), np.uint8), np.zeros(8, np.int32)
    text = run.trainer.step.trace(state, run.step_key, images, labels)
    text = text.lower(lowering_platforms=(platform,)).as_text()
    assert "stablehlo.convolution" in text
    assert "callback" not in text and "f64" not in text
