"""Checkpoints of a training run: the newest two states, each written whole or not at all, by Orbax.

    save_state(run, state)
    state = restore_state(run, like=trainer.init(variables))

A state is a NamedTuple of arrays, trees and other NamedTuples that has a `.step`. Orbax is imported when a
function needs it, for it takes 0.3 s or more.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import jax

from rsynth_jax.storage import files

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
    """Write the state, on any devices, of the run in a folder under its step, unless that step is written."""
    from orbax.checkpoint import args

    with _manager(run) as checkpoints:
        if int(state.step) not in checkpoints.all_steps():
            checkpoints.save(int(state.step), args=args.StandardSave(state._asdict()))


def restore_state(run: Path, like: StateT) -> StateT:
    """Read the newest state of a run, with the structure, shapes, types and placement of `like`.

    Raises ValueError if the run has no whole checkpoint, or one of another network or optimizer.
    """
    import orbax.checkpoint as ocp

    if not (Path(run) / FOLDER).is_dir():  # Orbax would make it
        raise ValueError(f"nothing to resume in {run}: it has no checkpoints")
    with _manager(run) as checkpoints:
        step = checkpoints.latest_step()
        if step is None:
            raise ValueError(f"nothing to resume in {run}: it has no whole checkpoint")
        with files.errors_as(f"{run}/{FOLDER}/{step} does not fit this recipe"):
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
            if _shapes(checkpoints.item_metadata(step).tree) != _shapes(
                abstract
            ):  # or Orbax reads half of it
                raise ValueError("its arrays have other shapes")
            restored = checkpoints.restore(step, args=ocp.args.StandardRestore(abstract))
    return type(like)(**restored)


def _manager(run: Path) -> "CheckpointManager":
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    handler = ocp.StandardCheckpointHandler()  # given, so that `item_metadata` can describe an unread state
    return ocp.CheckpointManager((Path(run) / FOLDER).absolute(), item_handlers=handler, options=options)


def _shapes(tree: Any) -> list[tuple[tuple[int, ...], str]]:
    return sorted((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(tree))
