"""The commands of the README and docs/ parse, the examples run, pictures and files exist."""

import importlib
import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
import stores

from rsynth_jax.cli.parse import parse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SETUP = (ROOT / "setup.cfg").read_text()
PROGRAMS = dict(re.findall(r"^    (rsynth-\S+) = rsynth_jax_(\S+):main$", SETUP, re.MULTILINE))
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "rsynth_jax/zoo").rglob("*.md")),
]
WRITTEN = "\n".join(page.read_text().replace("\\\n", " ") for page in PAGES)
COMMANDS = re.findall(r"^(rsynth-.+)$", WRITTEN, re.MULTILINE) + re.findall(
    r"`(rsynth-[^`\s]+ [^`\n]+)`", WRITTEN
)
LINKS = [
    (page.parent / target).relative_to(ROOT)
    for page in PAGES
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text())
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command):
    name, *flags = shlex.split(command)
    program = importlib.import_module(PROGRAMS[name])
    with stores.bucket():
        getattr(program, "parse", parse)(program.Options, flags)


def test_there_are_commands():
    assert {command.split()[0] for command in COMMANDS} == set(PROGRAMS)


@pytest.mark.parametrize("target", LINKS, ids=str)
def test_every_link_leads_somewhere(target):
    assert (ROOT / target).exists()


def test_the_examples_generate_cats_and_fill_the_hole_alone():
    generation, inpainting = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    photos = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    holes = np.zeros((2, 32, 32, 1), np.float32)
    holes[:, 8:24, 8:24] = 1
    names = {"photos": photos, "holes": holes, "labels": np.array([3, 5])}
    assert "num=16" in generation and "num_steps=20" in inpainting
    with jax.numpy_dtype_promotion("standard"):
        exec(generation.replace("num=16", "num=2"), names)
        exec(inpainting.replace("num_steps=20", "num_steps=2"), names)
    missing = np.broadcast_to(holes == 1, photos.shape)
    assert names["cats"].shape == (2, 32, 32, 3) and names["cats"].dtype == np.uint8
    assert names["filled"].shape == photos.shape and names["filled"].dtype == np.uint8
    assert np.array_equal(names["filled"][~missing], photos[~missing])
    assert np.abs(np.int32(names["filled"]) - photos)[missing].max() > 51
