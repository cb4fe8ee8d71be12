"""Summaries: TensorBoard's reader, stand-ins for wandb and trackio get them; what is missing is one line."""

import io
import sys
import types

import numpy as np
import pytest
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.cli import training_run, writers

SHEET = Pillow.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


def test_tensorboard_reads_numbers_and_pictures_and_drops_what_a_resumed_run_goes_over_again(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, steps in ((0, (20, 40, 60)), (40, (60, 80))):  # killed after step 60, resumed from 40
        with writers.tensorboard(tmp_path / "logs", first) as writer:
            for step in steps:
                writer.scalars(step, {"loss": first + step / 8, "auc": float("nan"), "skipped": True})
            writer.images(steps[0], {"samples": SHEET})
    read = EventAccumulator(str(tmp_path / "logs"))
    read.Reload()
    assert [(event.step, event.value) for event in read.Scalars("loss")] == [
        *((20, 2.5), (40, 5.0), (60, 47.5), (80, 50.0))
    ]
    assert set(read.Tags()["scalars"]) == {"loss", "auc", "skipped"}
    picture, *_ = read.Images("samples")
    assert (picture.step, picture.width, picture.height) == (20, 4, 4)
    (tmp_path / "sheet.png").write_bytes(picture.encoded_image_string)
    assert Pillow.open(tmp_path / "sheet.png").tobytes() == SHEET.tobytes()


def test_a_full_disk_ends_summaries_with_one_line(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    full = io.FileIO("/dev/full", "w")
    monkeypatch.setattr(writers, "open", lambda *_, **__: full, raising=False)
    with refused(match="^cannot write .*events.*: .*No space left"), writers.tensorboard(tmp_path, 0):
        pass


@pytest.mark.parametrize(("package", "identity"), [("wandb", "id"), ("trackio", "name")])
def test_a_run_elsewhere_gets_numbers_pictures_and_the_same_identity_when_resumed(
    tmp_path, monkeypatch, package, identity
):
    calls = []
    run = types.SimpleNamespace(
        log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append("finished")
    )
    stand_in = types.SimpleNamespace(
        init=lambda **how: calls.append(how) or run, Image=lambda picture: picture.size
    )
    monkeypatch.setitem(sys.modules, package, stand_in)
    (tmp_path / "run.json").write_text('{"seed": 3}')
    for step in (0, 20, 0):
        with writers.opened(writers.Summaries(**{package: "birds"}), tmp_path, step) as (writer,):
            writer.scalars(step + 20, {"loss": 0.5})
            writer.images(step + 20, {"samples": SHEET})
    begun = [call for call in calls if isinstance(call, dict)]
    assert [how["project"] for how in begun] == ["birds"] * 3 and begun[0]["config"] == {"seed": 3}
    assert begun[0][identity] == begun[1][identity] != begun[2][identity]
    assert calls[1:4] == [(20, {"loss": 0.5}), (20, {"samples": (4, 4)}), "finished"]


@pytest.mark.parametrize(
    ("flag", "package"), [("logdir", "tensorboard"), ("wandb", "wandb"), ("trackio", "trackio")]
)
def test_a_package_that_is_missing_is_named_before_any_work(tmp_path, monkeypatch, flag, package):
    monkeypatch.setitem(sys.modules, package, None)
    with refused(match=f"^--{flag} needs the package {package}: pip install {package}$"):
        training_run.KeepFlags(**{flag: str(tmp_path)}).check()
    assert not list(tmp_path.iterdir())
