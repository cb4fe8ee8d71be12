"""Where arrays lie: a batch is split over the devices, weights are on each of them or in parts.

    devices = over_devices(batch_size=128)          # of this process
    devices = over_hosts(batch_size=1024)           # of all processes that joined
    state, batch = devices.place(state), devices.join(batch)

A jitted function of such arrays runs on all devices, with no change to the function.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

BATCH = "batch"  # the one axis of every mesh
CPU_ROWS = 32  # of a batch of gradients, on a core: more do not fit its caches


class Devices(NamedTuple):
    """Placements on devices, and back. Every process that has one of the devices calls them together.

    Attributes:
      split: a batch, whole on every process -> its leading axes over the devices.
      join: the rows of a batch that belong to this process, see `own_rows` -> the same.
      place: what is no batch -> on each device, or in parts (`in_parts`).
      gather: placed arrays -> whole, in NumPy, on every process.
    """

    split: Callable[[Any], Any]
    join: Callable[[Any], Any]
    place: Callable[[Any], Any]
    gather: Callable[[Any], Any]


MakeDevices = Callable[[int], Devices]  # of a batch size


def over_devices(batch_size: int) -> Devices:
    """Over as many devices of this process as divide `batch_size` evenly."""
    own = jax.local_devices()
    return _over(own[: _divisor(batch_size, len(own))], _everywhere)


def over_hosts(batch_size: int) -> Devices:
    """Over as many devices of each process as divide its share of `batch_size` evenly.

    Raises ValueError if the processes cannot have equal shares.
    """
    return _over(_of_all_hosts(batch_size), _everywhere)


def in_parts(batch_size: int) -> Devices:
    """Like `over_hosts`, but what is no batch lies in parts, not in copies: fully sharded data parallelism.

    Each array is split along its longest axis that the devices divide; one without is on each of them. A
    compiled step gathers the weights where it needs them.
    """
    return _over(_of_all_hosts(batch_size), _longest_axis)


def own_rows(batch_size: int) -> slice:
    """Return the rows of a batch that this process reads. Raises ValueError as `over_hosts` does."""
    hosts = jax.process_count()
    if batch_size % hosts:
        raise ValueError(f"batch_size is {batch_size}: give a multiple of the {hosts} processes")
    own = batch_size // hosts
    return slice(jax.process_index() * own, (jax.process_index() + 1) * own)


def own_part() -> slice:
    """Return every N-th of any rows, N or more, from this process's index on, of N processes."""
    return slice(jax.process_index(), None, jax.process_count())


def merged(rows: np.ndarray, num: int) -> np.ndarray:
    """Join what every process has for its `own_part` of `num` rows; each gets all of them."""
    hosts = jax.process_count()
    if hosts == 1:
        return rows
    from jax.experimental import multihost_utils

    filled = np.resize(rows, (-(-num // hosts), *rows.shape[1:]))
    parts = multihost_utils.process_allgather(filled)
    return np.swapaxes(parts, 0, 1).reshape(-1, *rows.shape[1:])[:num]


def most_rows() -> int:
    """The most rows of a batch that compute gradients together: on a CPU `CPU_ROWS` a core."""
    return CPU_ROWS * jax.local_device_count() if jax.default_backend() == "cpu" else sys.maxsize


def padded(batch_size: int) -> int:
    """Round a batch size up to a multiple of the number of devices, so that none of them is idle.

    A batch smaller than the number of devices stays as it is: it takes as many devices as it has rows.
    """
    num = min(jax.local_device_count(), batch_size)
    return -(-batch_size // num) * num


def _divisor(size: int, most: int) -> int:
    return next(n for n in range(most, 0, -1) if size % n == 0)


def _of_all_hosts(batch_size: int) -> list[Any]:
    """The devices, those of a process next to each other, as its rows are."""
    rows = own_rows(batch_size)
    num = _divisor(rows.stop - rows.start, jax.local_device_count())
    hosts = ([each for each in jax.devices() if each.process_index == i] for i in range(jax.process_count()))
    return [device for host in hosts for device in host[:num]]


def _over(devices: Sequence[Any], spec: Callable[[Any, int], PartitionSpec]) -> Devices:
    mesh = Mesh(np.array(devices), (BATCH,))
    rows, whole = NamedSharding(mesh, PartitionSpec(BATCH)), NamedSharding(mesh, PartitionSpec())

    def place(tree: Any) -> Any:
        shardings = jax.tree.map(lambda leaf: NamedSharding(mesh, spec(leaf, len(devices))), tree)
        return jax.device_put(tree, shardings)

    def gather(tree: Any) -> Any:
        leaves = jax.tree.leaves(tree)
        if not all(leaf.is_fully_addressable for leaf in leaves if isinstance(leaf, jax.Array)):
            tree = jax.jit(lambda tree: tree, out_shardings=whole)(tree)
        return jax.device_get(tree)

    return Devices(
        split=lambda tree: jax.device_put(tree, rows),
        join=lambda tree: jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(rows, leaf), tree),
        place=place,
        gather=gather,
    )


def _everywhere(leaf: Any, num: int) -> PartitionSpec:
    return PartitionSpec()


def _longest_axis(leaf: Any, num: int) -> PartitionSpec:
    axes = [axis for axis, size in enumerate(np.shape(leaf)) if size and size % num == 0]
    if not axes:
        return PartitionSpec()
    longest = max(axes, key=lambda axis: np.shape(leaf)[axis])
    return PartitionSpec(*(BATCH if axis == longest else None for axis in range(longest + 1)))
