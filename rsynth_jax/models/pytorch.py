"""A PyTorch state dict as the variables of a Flax network whose modules bear the published names.

    variables = from_state_dict(model, state)          # "_bn0.running_var" -> batch_stats/_bn0/var

Names need no table but that of the leaves, and the number of axes tells a layout: OIHW becomes HWIO,
a matrix is transposed, a vector stays.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
AXES = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}  # our axes among theirs
UNUSED = "num_batches_tracked"  # counts the steps of training

Path = tuple[str, ...]


def paths(model: nn.Module) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """Every key of the state dict of `model`, with the path and the shape of the variable it becomes."""
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    expected = jax.eval_shape(model.init, jax.random.key(0), images)
    leaves = traverse_util.flatten_dict(expected).items()
    return {".".join((*path[1:-1], LEAVES[path[-1]])): (path, leaf.shape) for path, leaf in leaves}


def converted(key: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Our layout of their array, float32. Raises ValueError for one that does not have `shape` in it."""
    ours = array.transpose(AXES.get(array.ndim, range(array.ndim)))
    if ours.shape != shape:
        raise ValueError(f"{key} is of shape {array.shape}, which does not fit {shape} of the network")
    return np.ascontiguousarray(ours, np.float32)


def from_state_dict(model: nn.Module, state: dict[str, np.ndarray]) -> Any:
    """The variables of `model`. Raises ValueError naming the first key that lacks, is too many or validate."""
    expected = paths(model)
    for key in expected:
        if key not in state:
            raise ValueError(f"there is no {key}, which {type(model).__name__} needs")
    for key in state:
        if key not in expected and not key.endswith(UNUSED):
            raise ValueError(f"there is {key}, which {type(model).__name__} does not have")
    flat = {path: converted(key, state[key], shape) for key, (path, shape) in expected.items()}
    return traverse_util.unflatten_dict(flat)
