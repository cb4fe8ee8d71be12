"""Checkpoints of a training run: the newest two states, each written whole or not at all, by Orbax.

    save_state(run, state)
    state = restore_state(run, like=trainer.init(variables))

A state is a NamedTuple of arrays, trees and other NamedTuples that has a `.step`. Orbax is imported when a
function needs it, for it takes 0.3 s or more.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import jax

if TYPE_CHECKING:
    from orbax.checkpoint import CheckpointManager

FOLDER = "checkpoints"  # its name inside a training run


class State(Protocol):
    """A NamedTuple with the number of steps done."""

    @property
    def step(self) -> Any: ...

    def _asdict(self) -> dict[str, Any]: ...


StateT = TypeVar("StateT", bound=State)


def save_state(run: Path, state: State) -> None:
    """Write the state of a training run under its step, unless that step is written already.

    Args:
      run: the folder of the run.
      state: the state, placed on any devices.
    """
    from orbax.checkpoint import args

    with _manager(run) as checkpoints:
        if int(state.step) not in checkpoints.all_steps():
            checkpoints.save(int(state.step), args=args.StandardSave(state._asdict()))


def restore_state(run: Path, like: StateT) -> StateT:
    """Read the newest state of a training run.

    Args:
      run: the folder of the run.
      like: a state with the structure, shapes, types and placement to restore.

    Raises:
      ValueError: if the run has no whole checkpoint, or one of another network or optimizer.
    """
    import orbax.checkpoint as ocp

    if not (Path(run) / FOLDER).is_dir():
        raise ValueError(f"nothing to resume in {run}: it has no checkpoints")
    with _manager(run) as checkpoints:
        step = checkpoints.latest_step()
        if step is None:
            raise ValueError(f"nothing to resume in {run}: it has no whole checkpoint")
        misfit = f"{run}/{FOLDER}/{step} does not fit this recipe"
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
        if _shapes(checkpoints.item_metadata(step).tree) != _shapes(abstract):  # or Orbax reads half of it
            raise ValueError(f"{misfit}: its arrays have other shapes")
        try:
            restored = checkpoints.restore(step, args=ocp.args.StandardRestore(abstract))
        except Exception as error:  # Orbax raises many kinds, most of them many lines long
            first = str(error).strip().partition("\n")[0]
            raise ValueError(f"{misfit}: {first}") from error
    return type(like)(**restored)


def _manager(run: Path) -> "CheckpointManager":
    """The newest two checkpoints of a training run."""
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    handler = ocp.StandardCheckpointHandler()  # given, so that `item_metadata` can describe an unread state
    return ocp.CheckpointManager((Path(run) / FOLDER).absolute(), item_handlers=handler, options=options)


def _shapes(tree: Any) -> list[tuple[tuple[int, ...], str]]:
    """The sorted shapes and types of a tree's arrays."""
    return sorted((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(tree))
