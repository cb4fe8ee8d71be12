"""The code of docs/your-network.md runs: each network in five lines, in every task and in the programs."""

import functools
import importlib
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from tiny import refused

import rsynth_jax as rs
from rsynth_jax.attacks.threats import Threat
from rsynth_jax.cli import classifiers
from rsynth_jax.cli.parse import parse
from rsynth_jax.sampling import samplers
from rsynth_jax.synthesis.norms import L2

PAGE = (Path(__file__).parents[1] / "docs/your-network.md").read_text()
*BLOCKS, USE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^rsynth-(.+ mine:.+)$", PAGE, re.MULTILINE)
MADE = ("of_linen", "of_nnx", "of_function")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The page's code as mine.py in the current folder, as the page says."""
    (tmp_path / "mine.py").write_text("\n".join(BLOCKS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    sys.modules.pop("mine", None)
    assert str(tmp_path) not in sys.path


@pytest.fixture(autouse=True)
def mixed_dtypes():
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_each_network_takes_five_lines_at_most():
    made = [block for block in BLOCKS if "def of_" in block]
    assert [re.findall(r"def (of_\w+)", block)[0] for block in made] == list(MADE)
    assert all(len(block.strip().splitlines()) - 1 <= 5 for block in made)


@pytest.mark.parametrize("name", MADE)
def test_it_generates_and_climbs(mine, name):
    release = classifiers.load(f"mine:{name}")
    samples = samplers.generate(release, ["cat", "dog"], 1, num_steps=3)
    end, start = (outputs.logits[[0, 1], [0, 1]] for outputs in (samples.summary.end, samples.summary.start))
    assert (end > start).all() and abs(samples.starts.mean() / 255 - 0.5) < 0.1


def test_the_page_generates(mine):
    names = {}
    exec("\n".join([*BLOCKS, USE]), names)
    assert names["cats"].shape == (2, *tiny.SHAPE) and names["cats"].dtype == np.uint8


@pytest.mark.parametrize("name", ["inpaint", "superresolve", "invert"])
def test_every_task_takes_a_function(mine, name):
    images = tiny.noise(3)
    task = {
        "inpaint": functools.partial(rs.inpaint, images=images),
        "superresolve": functools.partial(rs.superresolve, images=images[:, ::2, ::2], factor=2),
        "invert": functools.partial(rs.invert, images=images, starts=2),
    }[name]
    assert task(classifiers.load("mine:of_function"), num_steps=2).shape == images.shape


@pytest.mark.slow
def test_it_is_attacked_measured_and_compared_layer_by_layer(mine):
    release = classifiers.load("mine:of_function")
    images = tiny.noise(8)
    labels = rs.evaluate(release, images, np.zeros(8, np.int32), threat=Threat(L2, 10.0))
    assert labels.clean.any() and not labels.robust.any()
    assert 0 <= rs.detect(release, images, 0 * images).value <= 1
    near = samplers.translate(release, images, "dog", perceptual_weight=100.0, num_steps=3)
    far = samplers.translate(release, images, "dog", num_steps=3)
    assert near.summary.l2_moved.mean() < far.summary.l2_moved.mean()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_runs(mine, command, tmp_path):
    tiny.pictures(tmp_path / "photos" / "cat", tiny.noise(2))
    tiny.pictures(tmp_path / "photos" / "dog", tiny.noise(2))
    tiny.pictures(tmp_path, tiny.noise(1))
    (tmp_path / "00.png").rename(tmp_path / "photo.png")
    program, *words = command.split()
    module, function = {
        "generate": ("synth.generation", "generate"),
        "inpaint": ("synth.inpainting", "inpaint"),
        "evaluate": ("train.evaluate", "evaluate"),
    }[program]
    module = importlib.import_module(module)
    assert getattr(module, function)(parse(module.Options, words)) == 0
    assert not {"cats.png", "filled.png"} & set(words) or (tmp_path / words[-1]).exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("yours:of_linen", "no module 'yours': give package.module:function"),
        ("mine.inner:of_linen", "no module 'mine.inner'"),
        ("mine:of_torch", "mine has no function 'of_torch'"),
        ("mine:__name__", "mine has no function '__name__'"),
        ("mine:functools", "mine has no function 'functools'"),
        ("mine:a-b", "no classifier 'mine:a-b'"),
        ("builtins:dict", "builtins:dict returned a dict: it must return what rsynth_jax.classifier makes"),
    ],
)
def test_a_name_that_makes_no_classifier_is_refused(mine, name, said):
    with refused(match=said):
        classifiers.load(name)


def test_a_bad_name_ends_the_command_with_one_line(mine, mistake, tmp_path):
    from synth import generation

    said = mistake(generation.main, "--classifier", "mine:of_torch", "--out", "x.png")
    assert said.startswith("rsynth-generate: mine has no function 'of_torch'")
    assert not (tmp_path / "x.png").exists()


def test_a_module_that_its_own_code_lacks_is_no_bad_name(mine, tmp_path):
    (tmp_path / "broken.py").write_text("import not_installed_anywhere\n")
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        classifiers.load("broken:f")


def test_units_go_by_number_and_training_does_not_go_on(mine):
    from rsynth_jax.cli import options
    from rsynth_jax.sampling import measures
    from rsynth_jax.training import build, recipes

    release = classifiers.load("mine:of_nnx")
    weights = measures.unit_weights(release)
    assert weights.shape == (2, 0) and options.units_of(["1"], weights) == [1]
    assert measures.readers(weights[1], release.class_names) == {}
    with refused(match="no top:1: the last layer of this network is not known"):
        options.units_of(["top:1"], weights)
    assert rs.visualize(release, [1], "cat", starts=2, num_steps=1).shape == (2, 2, *tiny.SHAPE)
    with refused(match="no feature 2: give a number from 0 to 1"):
        rs.visualize(release, [2])
    with refused(match="trained further"):
        build.recipe_from_release(next(iter(recipes.RECIPES.values())), release)
