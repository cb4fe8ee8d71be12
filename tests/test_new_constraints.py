"""The code of docs/new-constraints.md runs as written, and each constraint holds."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax import images, models
from rsynth_jax.cli import sheets
from rsynth_jax.storage import releases
from rsynth_jax.synthesis import projections
from rsynth_jax.types import Outputs

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "new-constraints.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
PICTURES = re.findall(r"\]\(new-constraints/(.+?)\)", PAGE)
NUM = 2


class Glance(nn.Module):
    """A convolution, tanh, the mean over places: it takes any size, needs no variables, compiles fast."""

    @nn.compact
    def __call__(self, pixels):
        weights = np.random.default_rng(0).normal(size=(4, 4, 3, 10)).astype(np.float32)
        layout = ("NHWC", "HWIO", "NHWC")
        found = jax.lax.conv_general_dilated(pixels, weights, (2, 2), "SAME", dimension_numbers=layout)
        logits = jnp.tanh(found).mean(axis=(1, 2))
        return Outputs(logits, logits)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator[dict]:
    """The page's names after its blocks, run on a small network with two images a row and two steps."""
    names = {}
    config = models.Config("glance", 10)
    release = releases.load("cifar10-robust")._replace(config=config, variables={})
    with (
        jax.numpy_dtype_promotion("standard"),
        mock.patch.object(releases, "load", {"cifar10-robust": release}.get),
        mock.patch.dict(sheets.FORMATS, {".webp": {"format": "WEBP"}}),  # lossless takes seconds
        mock.patch.dict(models.ARCHITECTURES, {"glance": lambda **config: Glance()}),
    ):
        exec(BLOCKS[0], names)
        assert {"NUM", "STEPS", "OUT"} <= set(names)
        names |= {"NUM": NUM, "STEPS": 2, "OUT": tmp_path_factory.mktemp("pictures")}
        for block in BLOCKS[1:]:
            exec(block, names)
        yield names


def seam(tiles) -> float:
    """The mean difference across a seam over that between neighbours inside a tile."""
    tiles = np.asarray(tiles)
    rims = [np.abs(np.take(tiles, 0, axis) - np.take(tiles, -1, axis)).mean() for axis in (1, 2)]
    return sum(rims) / sum(np.abs(np.diff(tiles, axis=axis)).mean() for axis in (1, 2))


def certainty(page, made, labels):
    return page["probability"](page["release"].variables, made, labels)


def test_every_section_has_code_and_a_picture(page):
    assert len(re.findall("^## ", PAGE, re.MULTILINE)) == len(BLOCKS) - 1 == len(PICTURES) == 6
    assert all(re.search(r"^!\[.+\]\(.+\)$", section, re.M) for section in PAGE.split("\n## ")[1:])


def test_the_pictures_are_those_that_the_code_makes(page):
    kept = {picture.name for picture in (ROOT / "docs" / "new-constraints").iterdir()}
    assert kept == set(PICTURES) == {picture.name for picture in page["OUT"].iterdir()}


@pytest.mark.parametrize("block", BLOCKS[1:])
def test_a_constraint_is_a_dozen_lines(block):
    functions = [node for node in ast.parse(block).body if isinstance(node, ast.FunctionDef)]
    lines = "".join(ast.get_source_segment(block, function) + "\n" for function in functions).splitlines()
    assert 0 < len([line for line in lines if line]) <= 12


def test_mirrored_images_are_symmetric_to_the_last_bit(page):
    assert_array_equal(page["faces"], page["faces"][:, :, ::-1])


def test_a_tile_is_judged_the_same_from_half_a_tile_on(page):
    weights = jnp.array(np.random.default_rng(0).normal(size=(8, 8, 3)), jnp.float32)
    places = tiny.classifier(logits=lambda image: jnp.vdot(weights, image)[None])
    tile = jnp.array(np.random.default_rng(1).random((4, 4, 3)), jnp.float32)
    objective = jax.jit(lambda image: page["tileable"](places, tile, 0).objective(image))
    assert_allclose(objective(page["half_a_tile_on"](tile)), objective(tile), rtol=1e-6)
    assert abs(objective(jnp.roll(tile, 1, axis=0)) - objective(tile)) > 0.1


def test_a_tile_has_no_seam(page):
    starts, _ = page["draws"]("deer", "frog")
    assert seam(page["tiles"]) < 1.5 < 4 < seam(starts)


def test_the_mean_color_is_the_one_asked_for(page):
    means = page["tints"].mean(axis=(1, 2)).reshape(-1, NUM, 3)
    assert_allclose(means, np.broadcast_to(page["colors"], means.shape), atol=1e-5)


def test_grey_levels_are_grey_and_inks_mix(page):
    grey, mixed = np.split(np.asarray(page["prints"]), 2)
    assert_array_equal(grey, np.broadcast_to(grey[..., :1], grey.shape))
    ink, paper = page["inks"][-1], page["papers"][-1]
    share = (mixed - ink) / (paper - ink)
    assert_allclose(share, np.broadcast_to(share[..., :1], share.shape), atol=1e-5)
    assert -1e-5 < share.min() < 0.4 and 0.6 < share.max() < 1 + 1e-5


def test_turning_the_image_exchanges_its_two_readings(page, linear):
    image, start = jnp.array(np.random.default_rng(1).random((2, 4, 4, 3)), jnp.float32)
    one, other = (page["two_faced"](linear, start, a, start, b).objective for a, b in ((1, 3), (3, 1)))
    assert_allclose(other(page["turned"](image)), one(image), rtol=1e-5)
    assert abs(one(page["turned"](image)) - one(image)) > 0.1


def test_both_readings_become_more_likely(page):
    horses, ships = page["draws"]("horse"), page["draws"]("ship")
    start = (horses[0] + ships[0][:, ::-1, ::-1]) / 2
    labels = jnp.concatenate([horses[1], ships[1]])
    before, after = (
        certainty(page, jnp.concatenate([made, made[:, ::-1, ::-1]]), labels)
        for made in (start, page["upright"])
    )
    assert (after > before).all()


def test_the_hidden_picture_is_the_thumbnail(page):
    means = jax.vmap(lambda image: images.downsample(image, 4))(page["hidden"])
    assert_allclose(means, page["thumbnails"], atol=1e-5)
    assert np.abs(page["hidden"] - jax.vmap(page["from_afar"])(page["hidden"])).max() > 0.02


INK, PAPER = np.float32([[0.1, 0.15, 0.4], [1, 0.93, 0.7]])
SETS = {
    "mirror": lambda page: page["mirror"],
    "mirror in the box": lambda page: projections.chain(page["mirror"], projections.box()),
    "two inks": lambda page: page["between"](INK, PAPER),
    "grey": lambda page: page["between"](np.zeros(3, np.float32), np.ones(3, np.float32)),
}


@pytest.mark.parametrize("name", SETS)
def test_a_new_set_keeps_the_laws_of_projections(name, page):
    """Idempotent, non-expansive, and the nearest point: <x - p(x), p(y) - p(x)> <= 0."""
    x, y = np.random.default_rng(0).uniform(-1, 2, (2, 100, 4, 6, 3)).astype(np.float32)
    project = jax.jit(jax.vmap(SETS[name](page)))
    near_x, near_y = np.asarray(project(x)), np.asarray(project(y))
    assert_allclose(project(near_x), near_x, atol=1e-6)
    lengths = [np.linalg.norm(moved.reshape(100, -1), axis=1) for moved in (near_x - near_y, x - y)]
    assert (lengths[0] <= lengths[1] + 1e-5).all()
    assert np.sum((x - near_x) * (near_y - near_x), axis=(1, 2, 3)).max() <= 1e-4
