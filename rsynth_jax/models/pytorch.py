"""A PyTorch state dict as the variables of a Flax network whose modules have the published names.

    variables = from_state_dict(model, state)          # "_bn0.running_var" -> batch_stats/_bn0/var

The number of axes determines the layout: OIHW becomes HWIO, a matrix is transposed, a vector stays.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np
from flax import traverse_util

from rsynth_jax import checks
from rsynth_jax.models import layers
from rsynth_jax.types import Variables

AXES = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}  # number of axes -> our axes among PyTorch's

_NORM = {"scale": "weight", "mean": "running_mean", "var": "running_var"}
LEAVES = {"kernel": "weight", "bias": "bias", **_NORM}
UNUSED = "num_batches_tracked"  # counts the steps of training


def paths(model: nn.Module) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Map each key of the state dict of `model` to the path and the shape of its variable."""
    leaves: dict[Any, Any] = traverse_util.flatten_dict(layers.shapes(model, (32, 32, 3)))
    return {".".join((*path[1:-1], LEAVES[path[-1]])): (path, leaf.shape) for path, leaf in leaves.items()}


def from_state_dict(model: nn.Module, state: Mapping[str, np.ndarray]) -> Variables:
    """Convert a state dict to the variables of `model`, float32.

    Raises:
      ValueError: naming the first key that is missing, unknown, of another shape, or not finite.
    """
    expected = paths(model)
    for key in expected:
        if key not in state:
            raise ValueError(f"there is no {key}, which {type(model).__name__} needs")
    for key in state:
        if key not in expected and not key.endswith(UNUSED):
            raise ValueError(f"there is {key}, which {type(model).__name__} does not have")
    flat = {path: converted(key, state[key], shape) for key, (path, shape) in expected.items()}
    return traverse_util.unflatten_dict(flat)


def published_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in PyTorch's layout of an array that has `shape` in ours."""
    return tuple(shape[axis] for axis in np.argsort(AXES[len(shape)]))


def converted(key: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Convert one array of a state dict to our layout, float32. Raises as `from_state_dict` does."""
    ours = array.transpose(AXES.get(array.ndim, range(array.ndim)))
    if ours.shape != shape:
        raise ValueError(f"{key} is of shape {array.shape}, which does not fit {shape} of the network")
    ours = np.ascontiguousarray(ours, np.float32)
    checks.finite(**{key: ours})
    return ours
