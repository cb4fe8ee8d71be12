"""Checkpoints of a training run: the newest two states, each written whole or not at all, by Orbax.

    with Saver(run) as save:
        save(state)                              # returns when the state is copied; files follow
    state = restore_state(run, like=trainer.init(variables))

A state is a NamedTuple of arrays, trees and other NamedTuples that has a `.step`. Orbax is imported when a
function needs it, for it takes 0.3 s or more.
"""

import contextlib
import functools
import itertools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import jax

from rsynth_jax import messages
from rsynth_jax.storage import digests, files, paths

if TYPE_CHECKING:
    from orbax.checkpoint import CheckpointManager

FOLDER = "checkpoints"  # its name inside a training run


class State(Protocol):
    """A NamedTuple with the number of steps done."""

    @property
    def step(self) -> Any: ...

    def _asdict(self) -> dict[str, Any]: ...

    def _replace(self, **changes: Any) -> Self: ...


StateT = TypeVar("StateT", bound=State)


class Saver:
    """Write states of one run, on any devices, each in a folder under its step, in the background.

    A call copies the state, so that its buffers may be donated at once, and waits for the state before it,
    not for its own. The SHA-256 of a step's files are written last; a step that a stop leaves without them
    counts as whole. A step that is written stays. The end of the block waits for all.

    A call and the end of the block raise ValueError if a state cannot be written. The steps before it stay,
    and no part of it.
    """

    def __init__(self, run: Path):
        self._run = paths.of(run)
        self._background = ThreadPoolExecutor(1)
        self._written: Future[None] | None = None
        self._hooks = sys.excepthook, sys.unraisablehook

    def __enter__(self) -> Self:
        import orbax.checkpoint  # now, and not after a signal  # noqa: F401

        sys.excepthook = sys.unraisablehook = lambda *_: None  # Orbax's threads print how each of them failed
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._wait()
        finally:
            self._background.shutdown()
            with contextlib.suppress(Exception):  # which was raised before
                if "_checkpoints" in vars(self):
                    self._checkpoints.close()
        sys.excepthook, sys.unraisablehook = self._hooks

    def __call__(self, state: State) -> None:
        """Begin to write a state."""
        from orbax.checkpoint import args

        self._wait()
        step = int(state.step)
        with self._errors(step):
            if step in self._checkpoints.all_steps():
                return
            self._checkpoints.save(step, args=args.StandardSave(state._asdict()))
        self._written = self._background.submit(self._finish, step)

    @functools.cached_property
    def _checkpoints(self) -> "CheckpointManager":
        return _manager(self._run, enable_async_checkpointing=True, cleanup_tmp_directories=True)

    def _wait(self) -> None:
        written, self._written = self._written, None
        if written is not None:
            written.result()

    def _finish(self, step: int) -> None:
        with self._errors(step):
            self._checkpoints.wait_until_finished()  # of all processes that share the run
            if jax.process_index() == 0:
                digests.write_sums(self._run / FOLDER / str(step))

    @contextlib.contextmanager
    def _errors(self, step: int) -> Iterator[None]:
        """Raise every error of the block as a ValueError, without what is written of this step."""
        try:
            yield
        except Exception as error:  # of many kinds, and the threads go on to fail
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            self._hooks = sys.excepthook, sys.unraisablehook
            path = self._run / FOLDER / str(step)
            with contextlib.suppress(Exception):
                for part in path.parent.glob(f"{step}.orbax-checkpoint-tmp*"):
                    paths.remove(part)
            reason = next((known for known in map(os.strerror, files.DISK) if known in str(error)), error)
            failure = f"cannot write {path}: {reason}; the checkpoints before it are whole"
            raise ValueError(messages.one_line(failure)) from error


def save_state(run: Path, state: State) -> None:
    """Write a state, and wait for it. Raises ValueError as a `Saver` does."""
    with Saver(run) as save:
        save(state)


def check_place(run: Path) -> None:
    """Raise ValueError for a run in a store that Orbax does not write."""
    if str(run).startswith(("s3://", "az://", "hf://")):
        raise ValueError(f"cannot write {run}: checkpoints can be on this machine or in gs://")


def has_states(run: Path) -> bool:
    """Whether a run has a checkpoint, whole or not."""
    return any(path.name.isdigit() for path in (paths.of(run) / FOLDER).glob("*"))


@files.one_line_errors()
def restore_state(run: Path, like: StateT, warn: Callable[[str], object] = warnings.warn) -> StateT:
    """Read the newest whole state of a run, with the structure, shapes, types and placement of `like`.

    Newer checkpoints that are broken are renamed to STEP.broken, so that their steps can be saved again.

    Args:
      warn: called with one line for each broken checkpoint.

    Raises:
      ValueError: the run has no whole checkpoint, or one of another network or optimizer.
    """
    folder = paths.of(run) / FOLDER
    if not folder.is_dir():  # Orbax would make it
        raise ValueError(f"nothing to resume in {run}: it has no checkpoints")
    with _manager(run, enable_async_checkpointing=False) as checkpoints:
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
    if paths.is_remote(folder):
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


def _manager(run: Path, **settings: Any) -> "CheckpointManager":
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(max_to_keep=2, **settings)
    folder = paths.of(paths.absolute(run)) / FOLDER
    handler = ocp.StandardCheckpointHandler()  # given, so that `item_metadata` can describe an unread state
    return ocp.CheckpointManager(folder, item_handlers=handler, options=options)


def _shapes(tree: Any) -> list[tuple[tuple[int, ...], str]]:
    return sorted((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(tree))
