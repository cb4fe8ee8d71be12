"""Networks that are not this package's own, as it runs them: from Flax modules and from pure functions.

    network = from_linen(module, variables)                # any flax.linen module
    network = from_nnx(module)                             # any flax.nnx module
    network = from_function(function, weights)             # function(weights, images) -> logits

Each takes images (n, h, w, c) of values in [0, 1] and returns logits (n, k), or the pair of logits and
features (n, d); where there are no features the logits serve as features. Weights are arguments of the
compiled programs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsynth_jax.types import Images, Outputs, Variables

Function = Callable[[Any, Images], Any]  # (weights, images) -> logits, or logits and features
Maps = Callable[[Any, Images], tuple[jax.Array, ...]]  # (weights, images) -> arrays (n, h, w, c)


class Network(NamedTuple):
    """A module whose outputs are `Outputs`, and its variables."""

    model: nn.Module
    variables: Variables


def without_maps(weights: Any, images: Images) -> tuple[jax.Array, ...]:
    """Show no layers: a classifier of such a network has no perceptual distance."""
    return ()


def from_function(function: Function, weights: Any, maps: Maps = without_maps) -> Network:
    """Make a network of a pure function of weights and images.

    Args:
      function: (weights, images float32 (n, h, w, c)) -> logits (n, k), or (logits, features (n, d)). It is
        traced, for batches of any size; batch norm and dropout must be in evaluation mode.
      weights: any pytree of arrays.
      maps: (weights, images) -> what layers make of the images, arrays (n, h, w, c), for the perceptual
        distance.
    """
    leaves, structure = jax.tree.flatten(weights)
    return Network(_Function(function, maps, structure), {"weights": {"leaves": tuple(leaves)}})


def from_linen(module: nn.Module, variables: Any, maps: Maps = without_maps, **arguments: Any) -> Network:
    """Make a network of a flax.linen module and its variables.

    Args:
      module: `module.apply(variables, images, **arguments)` gives logits, or (logits, features).
      arguments: of the call, such as train=False or method="features".
    """

    def function(variables: Any, images: Images) -> Any:
        return module.apply(variables, images, **arguments)

    return from_function(function, variables, maps)


def from_nnx(module: Any, maps: Maps = without_maps) -> Network:
    """Make a network of a flax.nnx module, in evaluation mode; the module itself does not change.

    Args:
      module: module(images) -> logits, or (logits, features).
      maps: its weights are the `nnx.State` of the module without the random streams.
    """
    from flax import nnx

    graph, streams, state = nnx.split(module, nnx.RngState, ...)

    def function(state: Any, images: Images) -> Any:
        merged: Any = nnx.merge(graph, streams, state)
        merged.eval()
        return merged(images)

    return from_function(function, state, maps)


class _Function(nn.Module):
    """A function as a module, whose variables are the leaves of its weights."""

    function: Function
    maps: Maps
    structure: Any

    @nn.compact
    def __call__(self, images: jax.Array) -> Outputs:
        weights = jax.tree.unflatten(self.structure, self.get_variable("weights", "leaves"))
        found = self.function(weights, images)
        logits, features = found if isinstance(found, tuple) else (found, found)
        maps = self.maps(weights, images)
        return Outputs(logits.astype(jnp.float32), features.astype(jnp.float32), tuple(maps))
