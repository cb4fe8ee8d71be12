"""Several processes that share the work: how they join, and what only the first of them writes.

    join(flags.hosts)                 # before JAX is asked for its devices
    with own_folder(out) as own:      # out itself on the first process, a temporary folder on every other

All processes run the same program on the same flags, so that they meet in every step and every checkpoint.
The first one prints, and writes all but the checkpoints, of which each process writes its part.
"""

import contextlib
import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from tyro.conf import arg

if TYPE_CHECKING:
    from rsynth_jax.sharding import MakeDevices


AGREE_EVERY = 10  # steps of processes that train together


@dataclasses.dataclass(frozen=True, kw_only=True)
class JoinFlags:
    """How several processes or hosts share the work. Each runs the same command."""

    distributed: bool = False
    """Join the other processes of a TPU pod slice or a Slurm job, which JAX detects."""
    coordinator: Annotated[str | None, arg(metavar="HOST:PORT")] = None
    """Join processes without detection: the address of process 0, with a free port there."""
    process: Annotated[str | None, arg(metavar="I/N")] = None
    """With --coordinator: I is this process, from 0, of N."""

    def __post_init__(self) -> None:
        if (self.coordinator is None) != (self.process is None):
            raise ValueError("--coordinator HOST:PORT and --process I/N go together: give both, or neither")
        if self.distributed and self.coordinator is not None:
            raise ValueError("--distributed detects the coordinator: leave out --coordinator and --process")
        if self.coordinator is not None and not self.coordinator.rpartition(":")[2].isdecimal():
            raise ValueError(
                f"coordinator is {self.coordinator!r:.80}: give HOST:PORT, such as 10.0.0.1:1234"
            )
        if self.process is not None:
            _index_of(self.process)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostFlags(JoinFlags):
    """How several processes or hosts train one model. Each runs the same command."""

    shard_weights: bool = False
    """Keep the weights and the optimizer's state in parts, one a device, not in copies (FSDP)."""

    @property
    def devices(self) -> "MakeDevices":
        """The devices of a batch, and how weights lie on them."""
        from rsynth_jax import sharding

        return sharding.in_parts if self.shard_weights else sharding.over_hosts


def join(flags: JoinFlags) -> None:
    """Join the other processes, if the flags say so. Raises ValueError if none are found."""
    if not flags.distributed and flags.coordinator is None:
        return
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        if flags.process is None:
            jax.distributed.initialize()
        else:
            index, num = _index_of(flags.process)
            jax.distributed.initialize(flags.coordinator, num, index)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"cannot join the other processes: {reason:.120}") from error
    if not is_first():
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # of libraries too


def is_first() -> bool:
    """Whether this process prints, and writes what is no checkpoint."""
    import jax

    return jax.process_index() == 0


def check_alone() -> None:
    """Raise ValueError if several processes run a command that does not share its work."""
    import jax

    if jax.process_count() > 1:
        raise ValueError("several processes share shards alone: give --shards DIR")


def as_the_first(decision: bool, step: int) -> bool:
    """Return the decision of the first process, if the step is one at which they agree; else False."""
    import jax

    if jax.process_count() == 1:
        return decision
    from jax.experimental import multihost_utils

    return step % AGREE_EVERY == 0 and bool(multihost_utils.broadcast_one_to_all(np.bool_(decision)))


def largest(value: int) -> int:
    """Return the largest of the values of all processes, which ask together."""
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(value))))


@contextlib.contextmanager
def own_folder(out: Path) -> Iterator[Path]:
    """Yield `out` on the first process, on every other a temporary folder in its place."""
    if is_first():
        yield out
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _index_of(process: str) -> tuple[int, int]:
    """The two numbers of I/N. Raises ValueError."""
    index, _, num = process.partition("/")
    if not (index.isdecimal() and num.isdecimal() and int(index) < int(num)):
        raise ValueError(f"process is {process!r:.40}: give I/N, process I of N, from 0/N on")
    return int(index), int(num)
