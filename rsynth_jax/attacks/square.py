"""Square Attack (Andriushchenko et al. 2020): random search with squares, without a gradient.

    ascent = square(key, margin(classifier, label), image, LINF, epsilon=8 / 255, num_queries=5000)

Each step changes one square window, and is kept where the objective rose. Windows shrink by a schedule.
It checks the other attacks: an image that only this attack breaks has masked gradients.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rsynth_jax.synthesis.ascent import Ascent, AscentInfo, select
from rsynth_jax.synthesis.norms import L2, LINF, Norm
from rsynth_jax.synthesis.projections import box
from rsynth_jax.types import Image, Key, Objective, Scalar

# (draws) -> the first image, and (draws, image, stage) -> another one, of draws uniform in [0, 1)
_Moves = tuple[Callable[[Array], Image], Callable[[Array, Image, Scalar], Image]]

SHARE = 0.8  # of the image that the first window covers, as in AutoAttack
HALVINGS = np.array([10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]) / 10_000  # of the share: paper, sec. 4


class _State(NamedTuple):
    """The best image, its value, and how many windows were tried."""

    point: Image
    value: Scalar
    tried: Scalar


def square(
    key: Key, objective: Objective, center: Image, norm: Norm, epsilon: float, num_queries: int
) -> Ascent:
    """Search randomly for a higher `objective` around `center`, in `num_queries` steps.

    It starts from its own image and ignores that of `init`; the draw of step t depends on (key, t) alone.
    """
    first, propose = _MOVES[norm](center, epsilon)
    thresholds = jnp.array(HALVINGS * num_queries)

    def draws(step: Scalar | int, num: int) -> Array:
        return jax.random.uniform(jax.random.fold_in(key, step), (num,), center.dtype)

    def init(image: Image) -> _State:
        start = first(draws(num_queries, center.size))
        return _State(start, objective(start), jnp.int32(0))

    def step(state: _State) -> tuple[_State, AscentInfo]:
        stage = jnp.sum(state.tried.astype(jnp.float32) > thresholds)
        image = propose(draws(state.tried, 5 + center.shape[-1]), state.point, stage)
        value = objective(image)
        info = AscentInfo(state.value, jnp.zeros((), image.dtype))
        image, value = select(value > state.value, (image, value), (state.point, state.value))
        return _State(image, value, state.tried + 1), info

    return Ascent(init, step)


def _sides(height: int, width: int) -> list[int]:
    """The window's side at each stage of the schedule."""
    shares = SHARE / 2.0 ** np.arange(len(HALVINGS) + 1)
    return [min(max(round(float(np.sqrt(s * height * width))), 1), height, width) for s in shares]


def _window(draws: Array, side: Scalar, height: int, width: int) -> tuple[Image, Scalar, Scalar]:
    """A window placed by two draws: its mask (h, w, 1), its first row and its first column.

    It ends before the last row and column, as in the published code; the paper's may include them.
    """
    row, column = (
        jnp.floor(draw * jnp.maximum(length - side, 1).astype(draw.dtype)).astype(side.dtype)
        for draw, length in zip(draws, (height, width), strict=True)
    )
    rows, columns = jnp.arange(height)[:, None, None], jnp.arange(width)[None, :, None]
    inside = (rows >= row) & (rows < row + side) & (columns >= column) & (columns < column + side)
    return inside, row, column


def _signs(draws: Array) -> Array:
    """-1 or +1, each half the time."""
    return jnp.where(draws < 0.5, -1.0, 1.0).astype(draws.dtype)


def _linf_moves(center: Image, epsilon: float) -> _Moves:
    """Stripes of +-epsilon, then windows of one sign a channel (paper, sec. 4.1 and algorithm 2)."""
    height, width, channels = center.shape
    sides, clip = jnp.array(_sides(height, width)), box()

    def start(draws: Array) -> Image:
        return clip(center + epsilon * _signs(draws[: width * channels]).reshape(1, width, channels))

    def propose(draws: Array, image: Image, stage: Scalar) -> Image:
        inside, _, _ = _window(draws[:2], sides[stage], height, width)
        changed = center + epsilon * _signs(draws[2 : 2 + channels])
        return clip(jnp.where(inside, changed, image))

    return start, propose


def _bumps(height: int, width: int) -> np.ndarray:
    """Nested rectangles around the middle, the k-th adding 1 / k^2 (paper, eq. 1)."""
    middle, reach = (height // 2, width // 2), max(height, width) // 2 + 1
    tails = np.cumsum(1 / np.arange(reach, 0, -1) ** 2)[::-1]
    rows, columns = np.ogrid[:height, :width]
    return tails[np.minimum(np.maximum(abs(rows - middle[0]), abs(columns - middle[1])), reach - 1)]


def _pattern(side: int) -> np.ndarray:
    """A bump above its negative, of unit length: the l2 attack's update (paper, sec. 4.2)."""
    above, below = _bumps(side // 2, side), _bumps(side - side // 2, side)
    both = np.concatenate([above / np.linalg.norm(above), -below / np.linalg.norm(below)])
    return (both / np.linalg.norm(both)).astype(np.float32)


def _l2_moves(center: Image, epsilon: float) -> _Moves:
    """Tiles of patterns, then mass moved from one window to a pattern in another (paper, algorithm 3)."""
    height, width, channels = center.shape
    shorter = min(height, width)
    odd = [max(side, 3) // 2 * 2 + 1 for side in _sides(height, width)]
    sides = [min(side, (shorter - 1) // 2 * 2 + 1) for side in odd]
    table = jnp.stack([jnp.pad(_pattern(side), (0, shorter - side)) for side in sides])
    rest = ((0, height - shorter), (0, width - shorter))
    clip, per_channel = box(), functools.partial(jnp.sum, axis=(0, 1), keepdims=True)

    def at(offset: Image) -> Image:
        return clip(center + epsilon * (offset / jnp.maximum(jnp.linalg.norm(offset.ravel()), 1e-12)))

    def start(draws: Array) -> Image:
        side = max(height // 5, 2)
        shape = (height // side, width // side, channels)
        tiles = jnp.kron(_signs(draws[: math.prod(shape)]).reshape(shape), _pattern(side)[..., None])
        missing = (height - tiles.shape[0], width - tiles.shape[1])
        margins = [(gap // 2, gap - gap // 2) for gap in missing]
        return at(jnp.pad(tiles, (*margins, (0, 0))))

    def propose(draws: Array, image: Image, stage: Scalar) -> Image:
        side, offset = jnp.array(sides)[stage], image - center
        into, row, column = _window(draws[:2], side, height, width)
        out_of, _, _ = _window(draws[2:4], side, height, width)
        turned = jnp.where(draws[4] < 0.5, table[stage], table[stage].T)
        bump = jnp.roll(jnp.pad(turned, rest), jnp.stack([row, column]), (0, 1))[..., None]
        old = jnp.where(into, offset, 0.0)
        new = bump * _signs(draws[5 : 5 + channels])
        new = new + old / (1e-12 + jnp.sqrt(per_channel(old**2)))
        spare = jnp.maximum(epsilon**2 - jnp.sum(offset**2), 0.0) / channels
        freed = jnp.sum(jnp.where(into | out_of, offset, 0.0) ** 2)
        new = new / (1e-12 + jnp.sqrt(per_channel(new**2))) * jnp.sqrt(spare + freed)
        return at(jnp.where(into, new, jnp.where(out_of, 0.0, offset)))

    return start, propose


_MOVES = {L2: _l2_moves, LINF: _linf_moves}
