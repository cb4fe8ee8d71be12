"""The program that trains segmenters: what it leaves, that it continues bit for bit, what it refuses."""

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.cli import step_run
from rsynth_jax.data import masks
from rsynth_jax.storage import segmenters
from rsynth_jax.training import segmentation
from rsynth_jax.training.recipes import flat, replace
from rsynth_jax.training.segmenter_recipes import SegmenterRecipe
from train import train_segmenter as program
from train.train_segmenter import Options

SMALL = replace(SegmenterRecipe(), width=2, batch_size=4, num_steps=3, ema_decay=0.5)  # an epoch and a half


@pytest.fixture(scope="module", autouse=True)
def cheap():
    """One device, one program; optax may mix dtypes; signal handlers are restored."""
    prepare, made = segmentation.prepare, {}

    def once(recipe, images, *rest):
        key = (recipe, images.shape)
        if key not in made:
            made[key] = prepare(recipe, images, *rest)
        return made[key]

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with tiny.network(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentation, "prepare", once)
        patch.setattr(jax, "device_count", lambda: 1)
        patch.setattr(step_run, "LOG_EVERY", 2)
        yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Eight images of 8 pixels with masks of wall and door."""
    return tiny.masked(tmp_path_factory.mktemp("place") / "facades", 8, side=8)


def flags(place: Path, out: Path, **values) -> Options:
    data, folder = f"folder:{place / 'images'}", str(place / "masks")
    options = Options(
        data=data, masks=folder, test_data=data, test_masks=folder, out=out, sample_every=2, settings=SMALL
    )
    return dataclasses.replace(options, **values)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, place) -> Path:
    """A run without an interruption."""
    out = tmp_path_factory.mktemp("straight") / "run"
    assert program.train_segmenter(flags(place, out)) == 0
    return out


def log(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_writes_every_file_it_names_and_the_iou_of_each_class(straight, place):
    expected = {
        "segmenter.safetensors",
        "samples.png",
        "log.jsonl",
        "curves.png",
        "run.json",
        "checkpoints",
        "snapshots",
    }
    assert {path.name for path in straight.iterdir()} == expected
    assert all(name in program.__doc__ for name in expected)
    release = segmenters.load(straight)
    data = masks.load(f"folder:{place / 'images'}", place / "masks")
    iou = segmentation.measure(release.config, release.variables, data.images, data.masks)
    assert release.iou == tuple(iou.tolist())
    last = log(straight)[-1]
    assert (last["step"], last["test_num"], last["test_iou"]) == (3, 8, pytest.approx(np.mean(iou)))
    assert_allclose([last["test_iou_wall"], last["test_iou_door"]], iou)
    assert [record["step"] for record in log(straight) if "loss" in record] == [2, 3]
    assert release.recipe == json.loads(json.dumps(flat(SMALL))) | {
        "steps": 3,
        "data": f"folder:{place / 'images'}",
    }
    with Pillow.open(straight / "samples.png") as sheet:
        assert sheet.format == "PNG" and min(sheet.size) > 100


@pytest.mark.slow
def test_a_run_that_is_stopped_and_resumed_is_the_straight_run_bit_for_bit(tmp_path, capsys, place, straight):
    out, logged = tmp_path / "run", step_run.StepLog.step

    def stopped(self, step, metrics):
        logged(self, step, metrics)
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_run.StepLog, "step", stopped)
        assert program.train_segmenter(flags(place, out)) == 130
    assert "stopped after step 1; continue with --resume" in capsys.readouterr().out
    assert program.train_segmenter(program.parse_flags(Options, ["--resume", "--out", str(out)])) == 0
    for name in ("run.json", "segmenter.safetensors", "samples.png"):
        assert (out / name).read_bytes() == (straight / name).read_bytes()
    with refused(match="batch_size is 8: the run in .* has 4, which --resume cannot change"):
        program.train_segmenter(
            program.parse_flags(Options, ["--resume", "--out", str(out), "--batch-size", "8"])
        )


def check_refused(options: Options, message: str) -> None:
    """In one line, and nothing is written."""
    with refused(match=message):
        program.train_segmenter(options)
    assert not options.out.exists()


def test_data_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path, place):
    out = tmp_path / "run"
    other = tiny.masked(tmp_path / "other", 8, ("wall", "roof"), side=8)
    check_refused(flags(place, out, test_masks=str(other / "masks")), "do not have the same classes")
    check_refused(flags(place, out, masks=str(tmp_path)), "no classes.txt in .* or the two folders above it")
    large = shutil.copytree(place, tmp_path / "large")
    Pillow.fromarray(np.zeros((8, 16), np.uint8)).save(large / "masks/00.png")
    check_refused(flags(place, out, masks=str(large / "masks")), "00.png is 8 x 16: its image is 8 x 8")
    settings = replace(SMALL, batch_size=9)
    check_refused(flags(place, out, settings=settings), "8 training images do not fill a batch of 9")
    check_refused(flags(place, out, sample_every=0), "sample_every is 0")


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_the_step_lowers_for_accelerators_without_a_callback_or_float64(platform):
    run = segmentation.prepare(
        SMALL, np.zeros((8, 8, 8, 3), np.uint8), np.zeros((8, 8, 8), np.uint8), ("a", "b")
    )
    state = jax.eval_shape(lambda: segmentation.start(run))
    images, classes = np.zeros((4, 8, 8, 3), np.uint8), np.zeros((4, 8, 8), np.uint8)
    text = run.trainer.step.trace(state, run.step_key, images, classes)
    text = text.lower(lowering_platforms=(platform,)).as_text()
    assert "stablehlo.convolution" in text
    assert "callback" not in text and "f64" not in text


def test_training_finds_the_bright_class():
    """40 steps on images whose mask is their brightness."""
    images = np.random.default_rng(0).integers(0, 2, (16, 4, 4), np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    shown = np.repeat(images[..., None] * 200 + 20, 3, axis=-1)
    recipe = replace(SMALL, width=8, batch_size=8, num_steps=40, ema_decay=0.9, learning_rate=2e-2)
    run = segmentation.prepare(recipe, shown, images, ("dark", "bright"))
    state = segmentation.start(run)
    for step in range(40):
        rows = np.random.default_rng(step).permutation(16)[:8]
        state, _ = run.trainer.step(state, jax.random.key(step), shown[rows], images[rows])
    assert segmentation.measure(run.config, state.ema, shown, images).min() > 0.9
    assert_array_equal(segmentation.segment(run.config, state.ema, shown).shape, images.shape)
