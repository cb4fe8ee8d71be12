"""What a number, a name or features must be: each check is silent or raises ValueError in one line.

positive(batch_size=0)         # batch_size is 0: give a number above 0
named("norm", "l3", NORMS)     # no norm named 'l3': give one of l2, linf
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rsynth_jax import messages

LARGEST = 1e19  # of a number that is given: its square is finite in float32
_MOST = 10_000_000  # of a whole number: images, steps, classes ...
_MOST_OF = {  # of those that decide how much memory one array takes
    **dict.fromkeys(("side", "image_size", "width", "latent_size", "critic_width", "mlp_width"), 1 << 14),
    **dict.fromkeys(("crop_padding", "shift", "factor", "seed_factor"), 1 << 10),
    **dict.fromkeys(("frames", "interpolate", "starts", "styles", "style_size"), 10_000),
    **{"batch_size": 1 << 16, "shard_size": 1 << 16, "mapping_depth": 64, "blocks": 64},
}
_LARGEST_FEATURE = 1e15  # a sum of squares of a million of them is finite in float32


def positive(**numbers: float) -> None:
    """Every number is finite and above zero."""
    _demand(lambda number: number > 0, "a number above 0", numbers)


def not_negative(**numbers: float) -> None:
    """Every number is finite and not below zero."""
    _demand(lambda number: number >= 0, "0 or more", numbers)


def below_one(**numbers: float) -> None:
    """Every number is finite and in [0, 1)."""
    _demand(lambda number: 0 <= number < 1, "0 or more, and less than 1", numbers)


def up_to_one(**numbers: float) -> None:
    """Every number is in [0, 1]."""
    _demand(lambda number: 0 <= number <= 1, "0 or more, and at most 1", numbers)


def share(**numbers: float) -> None:
    """Every number is in (0, 1]."""
    _demand(lambda number: 0 < number <= 1, "a share above 0, at most 1", numbers)


def power(**numbers: float) -> None:
    """Every number is a power of the frequency, in [0, 2]; above, a step moves little but the mean color."""
    _demand(lambda number: 0 <= number <= 2, "0 or more, and at most 2", numbers)


def finite(**values: Any) -> None:
    """Every number, and every number of an array, is finite."""
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or infinity: give finite numbers")


def seed(**numbers: int) -> None:
    """Every number is a seed of 64 bits."""
    for name, number in numbers.items():
        if not 0 <= number < 1 << 64:
            raise ValueError(f"{name} is {str(number)[:20]}: give 0 or more, and less than 2^64")


def given(check: Callable[..., None], **numbers: float | None) -> None:
    """`check` holds for every number that is not None."""
    check(**{name: number for name, number in numbers.items() if number is not None})


def named(kind: str, name: str, table: dict[str, Any]) -> Any:
    """table[name], which must be there."""
    if name not in table:
        raise ValueError(f"no {kind} named {name[:40]!r}: give one of {messages.listed(table, 120)}")
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


def images(batch: np.ndarray) -> None:
    """Images are bytes (n, h, w, c)."""
    if batch.ndim != 4 or batch.dtype != np.uint8:
        raise ValueError(f"images must be uint8 (n, h, w, c), not {batch.dtype} {batch.shape}")


def features(what: str, least: int, *sets: np.ndarray) -> None:
    """Each set is (n, d), finite, with n >= `least`, and all have the same d."""
    for rows in sets:
        if rows.ndim != 2:
            raise ValueError(f"{what} needs features (n, d), not of shape {rows.shape}")
        enough(what, least, len(rows))
        if rows.dtype.kind not in "fiu" or not (np.abs(rows) <= _LARGEST_FEATURE).all():
            wanted = f"finite features within +-{_LARGEST_FEATURE:g}"
            raise ValueError(f"{what} needs {wanted}: these hold NaN, infinity or more")
    same_width(*sets)


def _demand(fits: Callable[[float], bool], wanted: str, numbers: dict[str, float]) -> None:
    """Raise ValueError for the first number that does not fit, or is too large.

    A whole number has the bound of its name, up to a space, in `_MOST_OF`; any other one that of float32.
    """
    for name, number in numbers.items():
        is_whole = isinstance(number, int | np.integer)
        largest = _MOST_OF.get(name.partition(" ")[0], _MOST) if is_whole else LARGEST
        if not (fits(number) and number <= largest):
            most = f", at most {largest if is_whole else f'{largest:g}'}" if number > largest else ""
            raise ValueError(f"{name} is {str(number)[:20]}: give {wanted}{most}")


def same_classes(found: Sequence[str], needed: Sequence[str]) -> None:
    """A data set has the classes of a classifier, in their order."""
    if tuple(found) != tuple(needed):
        has, needs = map(messages.listed, (found, needed))
        raise ValueError(f"the data set's classes ({has}) are not the classifier's ({needs})")


def same_channels(needed: Sequence[int], found: Sequence[int]) -> None:
    """Images have the channels, their last axis, that a classifier takes."""
    if needed[-1] != found[-1]:
        raise ValueError(f"images of {found[-1]} channels: the classifier takes {needed[-1]}")
