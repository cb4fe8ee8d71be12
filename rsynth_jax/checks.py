"""What a number or a name must be: each check passes in silence or raises ValueError in one line.

positive(batch_size=0)         # batch_size is 0: give a number above 0
named("norm", "l3", BALLS)     # no norm named 'l3': give one of l2, linf
"""

import math
from typing import Any


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


def named(kind: str, name: str, table: dict[str, Any]) -> Any:
    """table[name], which must be there."""
    if name not in table:
        raise ValueError(f"no {kind} named {name!r}: give one of {', '.join(table)}")
    return table[name]
