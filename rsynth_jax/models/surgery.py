"""Change what a layer makes of an image, or read it: the same for generators and for classifiers.

    off = at("layer3", blend(alpha, 0.0))                  # ablates the units where alpha is 1
    generator = style.bind(config, variables, surgery=off)
    image, read_map = read(lambda surgery: decode(styles, key, surgery), "layer3")

A `Surgery` is a pure function (name of a layer, its map of one image) -> the map that the next layer is
given. The layers of a generator are layer0, layer1 ..., the blocks of a classifier block0, block1 ...
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rsynth_jax.types import Map, Surgery, Weights

Run = Callable[[Surgery], Any]  # a network applied to an image or a code, under a surgery


def untouched(layer: str, x: Map) -> Map:
    """Return the map itself: the identity of `compose`."""
    return x


def at(layer: str, change: Callable[[Map], Map]) -> Surgery:
    """Change the map of one layer."""
    return lambda name, x: change(x) if name == layer else x


def compose(*surgeries: Surgery) -> Surgery:
    """Apply one surgery after the other."""
    return lambda name, x: functools.reduce(lambda x, surgery: surgery(name, x), surgeries, x)


def blend(
    alpha: Float[Array, " u"], values: Float[Array, " u"] | float, places: Weights | float = 1.0
) -> Callable[[Map], Map]:
    """Blend values into units at places P: r' = (1 - a) r + a k, with a = alpha P.

    Args:
      alpha: 1 for the units to change, 0 for the others, or a share, (u,).
      values: k, one a unit: 0 is ablation; the class's mean is insertion (Bau et al. 2019).
      places: 1 where to change, 0 elsewhere, (h, w, 1) of the layer; everywhere by default.
    """

    def change(x: Map) -> Map:
        share = alpha * jnp.asarray(places, jnp.float32)
        return (1 - share) * x + share * values

    return change


def read(run: Run, layer: str) -> tuple[Any, Map]:
    """Run a network untouched; return its output and the map of a layer, of one pass.

    Raises ValueError if it has no such layer.
    """
    maps: dict[str, Map] = {}

    def keep(name: str, x: Map) -> Map:
        maps[name] = x
        return x

    output = run(keep)
    if layer not in maps:
        raise ValueError(missing(layer, {name: x.shape for name, x in maps.items()}))
    return output, maps[layer]


def on_batch_of_one(surgery: Surgery) -> Callable[[str, Array], Array]:
    """Apply a surgery to the map of the one image of a batch, (1, h, w, c): how networks are bound.

    Without `vmap`, so that a surgery may keep a map, as `read` does.
    """
    return lambda layer, x: surgery(layer, x[0])[None]


def layer_shapes(run: Run) -> dict[str, tuple[int, ...]]:
    """Return the shape (h, w, units) of every layer by name, in order; nothing is computed."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, x: Map) -> Map:
        shapes[name] = x.shape
        return x

    jax.eval_shape(lambda: run(note))
    return shapes


def missing(layer: str, shapes: dict[str, tuple[int, ...]]) -> str:
    """Say that there is no such layer, and which there are."""
    if not shapes:
        return f"no layer {layer[:20]!r}: this network has none that is known; give one of residual blocks"
    *_, last = shapes
    return (
        f"no layer {layer[:20]!r}: give a number from 0 to {len(shapes) - 1} ({next(iter(shapes))} to {last})"
    )
