"""Classes by name or number."""

import pytest
from tiny import refused

from rsynth_jax.models import label_of

NAMES = ("airplane", "cat", "7", "0")


def test_a_class_is_named_or_numbered_and_a_name_comes_first():
    assert [label_of(name, NAMES) for name in ("cat", "1", 1, "7", "0", "2")] == [1, 1, 1, 2, 3, 2]


@pytest.mark.parametrize("name", ["all", "emu", "4", "-1", "", 4])
def test_an_unknown_class_is_refused_with_the_known_ones(name):
    with refused(match=f"no class '{name}': give a number, or one of airplane, cat, 7, 0"):
        label_of(name, NAMES)
