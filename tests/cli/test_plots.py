"""Plots: histograms over one outline, curves of a training log."""

import json

import numpy as np
import pytest
from PIL import Image as Pillow

from rsynth_jax.cli import plots


def test_histograms_are_a_row_a_set_over_the_outline_of_the_first(tmp_path):
    left, right = {"a": np.full(50, 0.0)}, {"b": np.full(30, 300.0)}
    plots.write_histograms(tmp_path / "one.png", left, "energy")
    plots.write_histograms(tmp_path / "two.png", left | right, "energy")
    with Pillow.open(tmp_path / "one.png") as one, Pillow.open(tmp_path / "two.png") as two:
        assert one.format == "PNG" and one.size == (800, 180) and two.size == (800, 260)
        drawn = np.asarray(two.convert("RGB"), int)
    blue, orange = (np.abs(drawn - color).max(axis=2) < 40 for color in ((31, 119, 180), (255, 127, 14)))
    top, bottom = slice(0, 110), slice(130, 240)
    assert blue[top, :400].any() and not blue[top, 400:].any()
    assert blue[bottom, 400:].any() and not blue[bottom, :400].any()
    assert orange[top, :400].any() and orange[bottom, :400].any()


STEP = {"loss": 1.0, "clean_accuracy": 0.5, "adversarial_accuracy": 0.25, "learning_rate": 0.1}
EPOCH = {"test_clean": 0.5, "test_adversarial": 0.25}


def draw(folder, records: list[dict]):
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    plots.write_curves(folder / "curves.png", folder / "log.jsonl")
    return Pillow.open(folder / "curves.png")


@pytest.mark.parametrize(
    "records",
    [[], [{"step": 20} | STEP], [{"step": 20} | STEP, {"step": 30} | EPOCH, {"step": 40} | STEP]],
    ids=["empty", "one step", "steps and an epoch"],
)
def test_curves_are_drawn_from_a_log_of_any_length(tmp_path, records):
    with draw(tmp_path, records) as picture:
        assert picture.format == "PNG" and picture.size == (1500, 400)


def test_dual_training_has_curves_of_its_own(tmp_path):
    record = {"step": 20, "auc": 0.5, "real_energy": 1.0, "fake_energy": 0.0, "num_steps": 5} | STEP
    with draw(tmp_path, [record]) as picture:
        assert picture.size == (3000, 400)


def test_the_curves_show_the_log(tmp_path):
    drawn = []
    for loss in (1.0, 3.0):
        with draw(tmp_path, [{"step": 0} | STEP, {"step": 20} | STEP | {"loss": loss}]) as picture:
            drawn.append(np.asarray(picture.convert("L"), np.int16))
    changed = (drawn[0] != drawn[1]).any(axis=0)
    assert changed[:500].any() and not changed[500:].any()  # the loss is the left third


def test_what_was_not_measured_yet_is_not_drawn(tmp_path):
    """The AUC is null before the first fakes are finished."""
    record = {"step": 20, "auc": None, "real_energy": 1.0, "fake_energy": 0.0, "num_steps": 5} | STEP
    with draw(tmp_path, [record]) as picture:
        assert picture.size == (3000, 400)


GAN_STEP = {"loss": 1.0, "generator_loss": 2.0, "real_score": 0.5, "fake_score": -0.5, "images_per_second": 9}


def draw_gan(folder, records: list[dict]):
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    plots.write_gan_curves(folder / "curves.png", folder / "log.jsonl")
    return Pillow.open(folder / "curves.png")


@pytest.mark.parametrize("num", [0, 1, 2])
def test_a_generator_has_curves_of_its_losses_and_scores(tmp_path, num):
    with draw_gan(tmp_path, [{"step": 20 * i} | GAN_STEP for i in range(num)]) as picture:
        assert picture.format == "PNG" and picture.size == (1000, 400)


def test_the_curves_of_mutations_are_means_over_a_window(tmp_path, monkeypatch):
    """A mutation that wins every second step has the share 0.5: a straight line, but for the first point."""
    drawn = []
    monkeypatch.setattr(plots, "_write_panels", lambda path, records, panels: drawn.append((records, panels)))
    monkeypatch.setattr(plots, "WINDOW", 2)
    names = ("won_hinge", "won_minimax", "quality_hinge", "diversity_hinge")
    records = [{"step": i} | GAN_STEP | dict.fromkeys(names, i % 2) for i in range(6)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    plots.write_gan_curves(tmp_path / "curves.png", tmp_path / "log.jsonl")
    records, panels = drawn[0]
    assert list(panels.values())[2:] == [names[:2], names[2:3], names[3:]]
    assert [record["won_hinge"] for record in records] == [0, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert [record["loss"] for record in records] == [1.0] * 6


def test_mutations_have_three_panels(tmp_path):
    record = {"won_hinge": 1.0, "quality_hinge": 0.5, "diversity_hinge": 2.0, "fitness": 0.7}
    with draw_gan(tmp_path, [{"step": 20} | GAN_STEP | record]) as picture:
        assert picture.size == (2500, 400)
