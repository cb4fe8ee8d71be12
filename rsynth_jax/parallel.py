"""Data parallelism: the batch is split over all devices, everything else is on each of them.

    images = split(images)          # leading axis over the devices
    state = replicate(state)

A jitted function of such arrays runs on all devices, with no change to the function. On a CPU with as
many simulated devices as cores this is also the fastest way to use the cores (1.5 times one device).
"""

from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def sharding(*axes: str) -> NamedSharding:
    """Over all devices: `sharding("batch")` splits the leading axis, `sharding()` copies."""
    mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec(*axes))


def split(tree: Any) -> Any:
    """Leading axes over the devices. Their length must be a multiple of `jax.device_count()`."""
    return jax.device_put(tree, sharding("batch"))


def replicate(tree: Any) -> Any:
    """A copy on every device."""
    return jax.device_put(tree, sharding())
