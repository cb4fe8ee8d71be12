"""What a number, a name or features must be: each check is silent or raises ValueError in one line.

positive(batch_size=0)         # batch_size is 0: give a number above 0
named("norm", "l3", NORMS)     # no norm named 'l3': give one of l2, linf
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np


def positive(**numbers: float) -> None:
    """Every number is finite and above zero."""
    for name, number in numbers.items():
        if not (math.isfinite(number) and number > 0):
            raise ValueError(f"{name} is {number}: give a number above 0")


def not_negative(**numbers: float) -> None:
    """Every number is finite and not below zero."""
    for name, number in numbers.items():
        if not (math.isfinite(number) and number >= 0):
            raise ValueError(f"{name} is {number}: give 0 or more")


def below_one(**numbers: float) -> None:
    """Every number is finite and in [0, 1)."""
    for name, number in numbers.items():
        if not 0 <= number < 1:
            raise ValueError(f"{name} is {number}: give 0 or more, and less than 1")


def share(**numbers: float) -> None:
    """Every number is in (0, 1]."""
    for name, number in numbers.items():
        if not 0 < number <= 1:
            raise ValueError(f"{name} is {number}: give a share above 0, at most 1")


def seed(**numbers: int) -> None:
    """Every number is a seed of 64 bits."""
    for name, number in numbers.items():
        if not 0 <= number < 1 << 64:
            raise ValueError(f"{name} is {number}: give 0 or more, and less than 2^64")


def given(check: Callable[..., None], **numbers: float | None) -> None:
    """`check` holds for every number that is not None."""
    check(**{name: number for name, number in numbers.items() if number is not None})


def named(kind: str, name: str, table: dict[str, Any]) -> Any:
    """table[name], which must be there."""
    if name not in table:
        raise ValueError(f"no {kind} named {name!r}: give one of {', '.join(table)}")
    return table[name]


def enough(what: str, least: int, num: int) -> None:
    """There are `least` images or more."""
    if num < least:
        raise ValueError(f"{what} needs {least} images or more, not {num}")


def same_width(*sets: np.ndarray) -> None:
    """The last axes are of one length."""
    widths = [rows.shape[-1] for rows in sets]
    if len(set(widths)) > 1:
        raise ValueError(f"features of {' and '.join(map(str, widths))} dimensions cannot be compared")


def same_size(first: tuple[int, ...], other: tuple[int, ...]) -> None:
    """Raise ValueError where two images' shapes differ."""
    if first != other:
        sizes = f"{first[0]} x {first[1]} and {other[0]} x {other[1]}"
        raise ValueError(f"images of mixed size ({sizes}): give one with --image-size")


def features(what: str, least: int, *sets: np.ndarray) -> None:
    """Each set is (n, d), finite, with n >= `least`, and all have the same d."""
    for rows in sets:
        if rows.ndim != 2:
            raise ValueError(f"{what} needs features (n, d), not of shape {rows.shape}")
        enough(what, least, len(rows))
        if not np.isfinite(rows).all():
            raise ValueError(f"{what} needs finite features: these hold NaN or infinity")
    same_width(*sets)
