"""Numbers that are none: refused wherever a number is given, in one line that names it."""

import dataclasses
import importlib
import math
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import tiny
from tiny import refused

from rsynth_jax import checks
from rsynth_jax.cli.main import _programs
from rsynth_jax.training import build
from rsynth_jax.training.recipes import Recipe, flat, replace

BAD = (math.nan, math.inf, -math.inf, float("1e400"), 1e300, 10**400)
NEEDED = {"images": "a.png", "generated": "a.npz", "real": "b.npz", "label": "cat", "classifier": "cifar10"}
NEEDED |= {"data": "npz:a.npz", "file": Path("a.pt"), "out": Path("b.safetensors")}


@pytest.mark.parametrize(
    "check", [checks.positive, checks.not_negative, checks.below_one, checks.up_to_one, checks.share]
)
@pytest.mark.parametrize("value", BAD)
def test_a_number_that_is_none_or_too_large_is_refused(check, value):
    with refused(match=r"^radius is .*: give ") as caught:
        check(radius=value)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("value", [math.nan, -math.inf, np.array([0.0, np.nan]), np.full((2, 2), np.inf)])
def test_arrays_and_numbers_must_be_finite(value):
    checks.finite(mean=np.zeros(3), std=1.0)
    with refused(match="mean holds NaN or infinity"):
        checks.finite(mean=value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e20])
def test_features_without_a_finite_distance_are_refused(value):
    """Squares that are infinite in float32 have distances of NaN, which counted as 0: perfect copies."""
    rows = np.ones((8, 3), np.float32)
    checks.features("a comparison", 8, rows, -1e9 * rows)
    rows[3, 1] = value
    with refused(match="finite features"):
        checks.features("a comparison", 8, rows)
    with refused(match="finite features"):
        checks.features("a comparison", 1, np.array([["a", "b"]]))


@pytest.mark.parametrize("batch", [np.zeros((2, 4, 4, 3), np.float32), np.zeros((4, 4, 3), np.uint8)])
def test_images_that_are_not_bytes_are_refused(batch):
    with refused(match="images must be uint8"):
        checks.images(batch)


def floats(kind: type) -> list[str]:
    """The names of the flags that take a float, groups included."""
    names = []
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            names += floats(hint)  # pyright: ignore[reportArgumentType]
        elif hint is float or float in get_args(hint):
            names.append(name)
    return names


@pytest.mark.parametrize("program", sorted(_programs()))
def test_every_flag_of_every_program_refuses_them(program):
    module = importlib.import_module(_programs()[program].module.replace("rsynth_jax_", ""))
    fields = {
        field.name
        for hint in (module.Options, *get_type_hints(module.Options).values())
        if dataclasses.is_dataclass(hint)
        for field in dataclasses.fields(hint)
    }
    needed = {name: value for name, value in NEEDED.items() if name in fields}
    for name in floats(module.Options):
        for value in BAD[:5]:
            given = (value,) if name in ("mean", "std") else value
            with refused(match=f"{name}( 0)? is "):
                tiny.options(module.Options, **needed | {name: given})


NUMBERS = [name for name, value in flat(Recipe()).items() if type(value) is float]


@pytest.mark.parametrize("name", [*NUMBERS, "mean", "std"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_every_value_of_a_recipe_refuses_them(name, value):
    with refused(match=name):
        build.validate(replace(Recipe(), **{name: value if name in NUMBERS else (value,)}))
