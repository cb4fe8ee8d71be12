"""The program that trains a generator by mutations: it resumes bit for bit and logs the winners."""

import dataclasses
import functools
import json
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.cli import run as console
from rsynth_jax.cli import step_run, training_pages
from rsynth_jax.models import critics
from rsynth_jax.storage import generators, train_states
from rsynth_jax.training import gan_run
from rsynth_jax.training.recipes import replace
from train import train_generator as program
from train.train_generator import Options

pytestmark = pytest.mark.slow
STEPS = 3
FLAGS = (
    "--recipe cifar10-egan-32 --image-size 8 --mutations heuristic least-squares "
    "--widths 4 --latent-size 4 --mapping-depth 1 "
    f"--batch-size 2 --critic-steps 1 --num-steps {STEPS} --sample-every 2"
).split()


@pytest.fixture(scope="module", autouse=True)
def cheap():
    """Few samples, every step logged, a narrow critic, one program for all runs, and no signals."""
    prepare, made = gan_run.prepare, {}
    narrow = functools.partial(critics.pixel_critic, widths=((4,),))

    def once(recipe, *data):
        if recipe not in made:
            made[recipe] = prepare(recipe, *data)
        return made[recipe]

    with tiny.network(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(gan_run, "prepare", once)
        patch.setattr(critics, "pixel_critic", lambda num_classes, widths: narrow(num_classes))
        patch.setattr(console, "Interrupted", Never)
        patch.setattr(step_run, "LOG_EVERY", 1)
        patch.setattr(training_pages, "COLUMNS", 1)
        patch.setattr(training_pages, "ROWS", 2)
        yield


class Never(console.Interrupted):
    """No signal."""

    def __init__(self) -> None:
        pass


class Second(Never):
    """A signal in the second step."""

    left = 3

    @property
    def signal(self):
        self.left -= 1
        return None if self.left > 0 else signal.SIGTERM


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return tiny.photos(tmp_path_factory.mktemp("data") / "d.npz", ("cat", "dog"), train=12)


def flags(data: str, out: Path) -> Options:
    return program.parse_flags(Options, [*FLAGS, "--data", data, "--out", str(out)])


@pytest.fixture(scope="module")
def straight(tmp_path_factory, data) -> Path:
    """A run without an interruption."""
    out = tmp_path_factory.mktemp("straight") / "run"
    assert program.train_generator(flags(data, out)) == 0
    return out


def final_state(options: Options):
    images = np.empty((12, 8, 8, 3), np.uint8)
    run = gan_run.prepare(options.settings, images, ("cat", "dog"), 12)
    return train_states.restore_state(options.out, gan_run.start(run))


def test_a_stopped_run_of_mutations_goes_on_bit_for_bit(tmp_path, monkeypatch, data, straight):
    options = flags(data, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(console, "Interrupted", Second)
        assert program.train_generator(options) == 128 + signal.SIGTERM
    assert int(final_state(options).step) == 2
    again = program.parse_flags(Options, ["--resume", "--out", str(options.out)])
    assert again.settings == options.settings
    assert program.train_generator(again) == 0
    states = (final_state(dataclasses.replace(options, out=out)) for out in (options.out, straight))
    jax.tree.map(assert_array_equal, *states)
    released = [(run / generators.RELEASE).read_bytes() for run in (options.out, straight)]
    assert released[0] == released[1]


def test_the_log_has_the_winners_and_the_fitness_of_every_mutation(straight):
    records = [json.loads(line) for line in (straight / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3]
    for record in records:
        assert record["won_heuristic"] + record["won_least-squares"] == 1
        assert record["mutation"] == record["won_least-squares"] and record["parent"] == 0
        for name in ("heuristic", "least-squares"):
            assert 0 < record[f"quality_{name}"] < 1 and np.isfinite(record[f"diversity_{name}"])
        assert np.isfinite(record["fitness"])


def test_the_curves_are_drawn_and_the_release_names_the_mutations(straight):
    with Pillow.open(straight / "curves.png") as picture:
        assert picture.size == (2500, 400)
    release = generators.load(str(straight))
    assert release.recipe["mutations"] == ["heuristic", "least-squares"] and release.recipe["survivors"] == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mutations": ("heuristics",)}, "no mutation named 'heuristics'"),
        ({"survivors": 3}, "survivors is 3: give at most the batch size, 2"),
        ({"batch_size": 13}, "12 training images do not fill a batch of 13"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_nothing_is_written(tmp_path, data, values, said):
    options = flags(data, tmp_path / "run")
    with refused(match=said):
        program.train_generator(dataclasses.replace(options, settings=replace(options.settings, **values)))
    assert not (tmp_path / "run").exists()
