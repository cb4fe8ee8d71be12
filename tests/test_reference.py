"""docs/reference.md and the guides: every public name has its example, and the examples run."""

import functools
import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny
from flax import linen, nnx

import rsynth_jax as rs
from rsynth_jax.attacks.evaluation import Evaluation

DOCS = Path(__file__).parents[1] / "docs"
REFERENCE = (DOCS / "reference.md").read_text()
EXAMPLES = re.findall(r"^### (\w+)\n\n```python\n(.*?)```", REFERENCE, re.DOTALL | re.MULTILINE)
GUIDES = sorted((DOCS / "guides").glob("*.md"))


def quick(function):
    """The function, taking two steps unless told otherwise, where it takes steps."""
    few = "num_steps" in inspect.signature(function).parameters
    return functools.partial(function, num_steps=2) if few else function


@pytest.fixture(scope="module")
def names(tmp_path_factory, networks):
    """What the examples use, of 16 pixels; `rs.load...` give untrained networks."""
    folder = tmp_path_factory.mktemp("reference")
    release = tiny.release(folder / "linear.safetensors", tiny.NAMES, "linear")
    robust = tiny.release(folder / "robust.safetensors", ("cat", "dog"))
    generator = tiny.generator(folder / "generator.safetensors", ("cat", "dog"))
    inverter = tiny.inverter(folder / "inverter.safetensors", robust, latent_size=2)
    translator = tiny.translator(folder / "translator.safetensors")
    published = tiny.release(folder / "published.safetensors", ("cat", "dog"), "resnet8")
    loads = {"load_generator": generator, "load_inverter": inverter, "load_translator": translator}
    offered = {name: quick(getattr(rs, name)) for name in rs.__all__}
    offered |= {name: lambda _, found=found: found for name, found in loads.items()}
    offered["load"] = lambda name: published if name == "cat-dog-64" else release
    masks = np.zeros((*tiny.SHAPE[:2], 1), np.float32)
    masks[4:12, 4:12] = 1
    return {
        "rs": SimpleNamespace(**offered),
        **{"jax": jax, "np": np, "linen": linen, "nnx": nnx},
        **{"photos": tiny.noise(2), "real": tiny.noise(8), "generated": tiny.noise(8)[::-1]},
        **{"labels": np.array([0, 1]), "masks": masks, "holes": masks, "release": release, "robust": robust},
    }


def test_every_public_name_has_an_example_that_names_it_and_its_docstring():
    assert sorted(name for name, _ in EXAMPLES) == sorted(rs.__all__)
    for name, example in EXAMPLES:
        assert name == "Release" or f"rs.{name}(" in example
        assert re.search(rf"^\.\. auto(function|class):: rsynth_jax\.{name}$", REFERENCE, re.MULTILINE)


IMAGES = {  # names of results, and the axes between the number of images and the shape of one
    **dict.fromkeys(("cats", "filled", "large", "dogs", "painted", "better", "inverted", "closer"), ()),
    **dict.fromkeys(("faces", "projected", "climbed", "other", "whole", "once", "faint", "drawn"), ()),
    **dict.fromkeys(("shown", "mixed", "rounds", "several"), (2,)),
    **{"frames": None, "loops": (4,), "alike": (1,), "way": (2,)},
}


@pytest.mark.slow
def test_the_examples_of_the_reference_run_in_order(names, tmp_path, monkeypatch):
    names = dict(names)
    monkeypatch.chdir(tmp_path)
    offered = vars(names["rs"])
    codes = np.zeros((2, 4, 8), np.float32)  # or each image is projected first
    monkeypatch.setitem(
        offered, "translate_in_code", functools.partial(offered["translate_in_code"], codes=codes)
    )
    with jax.numpy_dtype_promotion("standard"):
        for _, example in EXAMPLES:
            exec(example, names)
    for name, between in IMAGES.items():
        shape = (6, *tiny.SHAPE) if between is None else (2, *between, *tiny.SHAPE)
        assert names[name].dtype == np.uint8 and names[name].shape == shape, name
    assert isinstance(names["found"], Evaluation) and names["found"].clean.shape == (2,)
    assert 0 <= names["auroc"] <= 1 and np.isfinite(names["distance"])
    assert names["own"].class_names == ("red", "green")
    assert names["again"].threat.epsilon == 0.5


@pytest.mark.slow  # the reference has the same calls
@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_the_examples_of_the_guides_run(names, page):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    with jax.numpy_dtype_promotion("standard"):
        for block in blocks:
            exec(block, dict(names))
