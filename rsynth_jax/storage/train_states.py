"""Checkpoints of a training run: the newest two states, each written whole or not at all, by Orbax.

    save_state(run, state)
    state = restore_state(run, like=trainer.init(variables))

A state is a NamedTuple of arrays, trees and other NamedTuples that has a `.step`. Orbax is imported when a
function needs it, for it takes 0.3 s or more.
"""

import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import jax

from rsynth_jax.storage import digests, files

if TYPE_CHECKING:
    from orbax.checkpoint import CheckpointManager

FOLDER = "checkpoints"  # its name inside a training run


class State(Protocol):
    """A NamedTuple with the number of steps done."""

    @property
    def step(self) -> Any: ...

    def _asdict(self) -> dict[str, Any]: ...


StateT = TypeVar("StateT", bound=State)


@files.one_line_errors()
def save_state(run: Path, state: State) -> None:
    """Write the state, on any devices, of the run in a folder under its step, unless that step is written.

    The SHA-256 of its files are written last. A step that a stop leaves without them counts as whole.
    """
    from orbax.checkpoint import args

    step = int(state.step)
    with _manager(run) as checkpoints:
        written = step in checkpoints.all_steps()
        if not written:
            checkpoints.save(step, args=args.StandardSave(state._asdict()))
    if not written and jax.process_index() == 0:  # Orbax ends on all processes together
        digests.write_sums(Path(run) / FOLDER / str(step))


@files.one_line_errors()
def restore_state(run: Path, like: StateT, warn: Callable[[str], object] = warnings.warn) -> StateT:
    """Read the newest whole state of a run, with the structure, shapes, types and placement of `like`.

    Newer checkpoints that are broken are renamed to STEP.broken, so that their steps can be saved again.

    Args:
      warn: called with one line for each broken checkpoint.

    Raises:
      ValueError: the run has no whole checkpoint, or one of another network or optimizer.
    """
    folder = Path(run) / FOLDER
    if not folder.is_dir():  # Orbax would make it
        raise ValueError(f"nothing to resume in {run}: it has no checkpoints")
    with _manager(run) as checkpoints:
        steps = sorted(checkpoints.all_steps(), reverse=True)
        found = ((i, _read(checkpoints, step, like, folder)) for i, step in enumerate(steps))
        num_broken, state = next((pair for pair in found if pair[1] is not None), (0, None))
    if state is None:
        raise ValueError(f"nothing to resume in {run}: {folder.name} has no whole checkpoint")
    for step in steps[:num_broken]:
        (folder / str(step)).rename(_free(folder / f"{step}.broken"))
        warn(f"{folder / str(step)} is broken: going on from step {int(state.step)} instead")
    return state


def _read(checkpoints: "CheckpointManager", step: int, like: StateT, folder: Path) -> StateT | None:
    """Read a state; None if its files are damaged. Raises ValueError if its arrays are others."""
    import orbax.checkpoint as ocp

    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
    try:
        _check_whole(folder / str(step))
        shapes = _shapes(checkpoints.item_metadata(step).tree)
    except Exception:  # of many kinds, as damaged files cause them
        return None
    if shapes != _shapes(abstract):  # or Orbax reads half of it
        raise ValueError(f"{folder / str(step)} does not fit this recipe: its arrays have other shapes")
    try:
        return type(like)(**checkpoints.restore(step, args=ocp.args.StandardRestore(abstract)))
    except Exception:
        return None


def _check_whole(folder: Path) -> None:
    """Compare SHA-256, or without them, in an older run, read every array, by which most changes pass.

    A read that fails in Orbax leaves futures behind.
    """
    if (folder / digests.SUMS).exists():
        digests.check_sums(folder)
        return
    import tensorstore

    base = {"driver": "file", "path": f"{folder.absolute()}/default/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    for name in store.list().result():
        store.read(name).result()


def _free(path: Path) -> Path:
    """The path, or where it exists the first of path.1, path.2 ... that does not."""
    others = (path.with_name(f"{path.name}.{i}") for i in itertools.count(1))
    return next(other for other in itertools.chain([path], others) if not other.exists())


def _manager(run: Path) -> "CheckpointManager":
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    handler = ocp.StandardCheckpointHandler()  # given, so that `item_metadata` can describe an unread state
    return ocp.CheckpointManager((Path(run) / FOLDER).absolute(), item_handlers=handler, options=options)


def _shapes(tree: Any) -> list[tuple[tuple[int, ...], str]]:
    return sorted((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(tree))
