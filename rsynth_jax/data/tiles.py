"""Cut an image into overlapping tiles, and blend them back.

    tiling = plan(*image.shape[:2], side=32)
    whole = blend(rs.translate(release, cut(image, tiling), "dog"), tiling)

`blend(cut(image, tiling), tiling)` is the image.

The weights of a tile are raised cosines, so that no edge of a tile is seen. NumPy alone, nothing is compiled.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from rsynth_jax.types import Bytes


class Tiling(NamedTuple):
    """Where the tiles of an image lie: those of each row of `tops` at each of `lefts`, row after row."""

    height: int  # of the image
    width: int
    side: int  # of a tile
    tops: tuple[int, ...]
    lefts: tuple[int, ...]


def plan(height: int, width: int, side: int, overlap: int | None = None) -> Tiling:
    """Spread tiles evenly, as few as overlap by so many pixels or more, by default a quarter of the side.

    An image smaller than a tile is continued by its edge. Raises ValueError unless 0 <= overlap < side.
    """
    overlap = side // 4 if overlap is None else overlap
    if not 0 <= overlap < side:
        raise ValueError(f"tiles of {side} pixels cannot overlap by {overlap}: give 0 ... {side - 1}")
    tops, lefts = (_starts(length, side, side - overlap) for length in (height, width))
    return Tiling(height, width, side, tops, lefts)


def cut(image: np.ndarray, tiling: Tiling) -> np.ndarray:
    """The tiles of an image (h, w, c): (n, side, side, c)."""
    missing = (max(0, tiling.side - length) for length in image.shape[:2])
    padded = np.pad(image, [*((0, more) for more in missing), (0, 0)], mode="edge")
    side = tiling.side
    return np.stack(
        [padded[top : top + side, left : left + side] for top in tiling.tops for left in tiling.lefts]
    )


def blend(tiles: "Bytes", tiling: Tiling, factor: int = 1) -> "Bytes":
    """Blend tiles (n, factor * side, factor * side, c) into an image `factor` times as large as the one cut.

    The weights are the same over each block of factor x factor pixels: where the means of the blocks of
    every tile are those of a small image, so are the blend's.
    """
    side = factor * tiling.side
    rise = np.sin(np.pi * (np.arange(tiling.side, dtype=np.float32) + 0.5) / tiling.side) ** 2
    weights = np.outer(rise, rise).repeat(factor, 0).repeat(factor, 1)[:, :, None]
    height, width = (factor * max(length, tiling.side) for length in (tiling.height, tiling.width))
    total = np.zeros((height, width, tiles.shape[-1]), np.float32)
    weight = np.zeros((height, width, 1), np.float32)
    places = ((factor * top, factor * left) for top in tiling.tops for left in tiling.lefts)
    for tile, (top, left) in zip(tiles, places, strict=True):
        place = np.s_[top : top + side, left : left + side]
        total[place] += weights * tile
        weight[place] += weights
    whole = np.rint(total / weight)[: factor * tiling.height, : factor * tiling.width]
    return whole.astype(np.uint8)


def _starts(length: int, side: int, step: int) -> tuple[int, ...]:
    num = max(0, -(-(length - side) // step)) + 1
    return tuple(np.rint(np.linspace(0, max(0, length - side), num)).astype(int).tolist())
