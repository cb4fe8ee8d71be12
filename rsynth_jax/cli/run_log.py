"""Everything that a training run writes while it goes: lines, progress, summaries and checkpoints.

    trainer = guarded(options.keeping, run.trainer)
    with run_log(options, num_steps, int(state.step), "lower --learning-rate") as log:
        log.note(step, checked)                    # after every step; raises for one before that diverged
        log.record({"step": step, "loss": 0.5}, "loss 0.500")
        log.save_if_due(state)

`log.jsonl` has a line for each record, and one, {"step": t, "skipped": true}, for each step that
`--on-nan skip` dropped.
"""

import collections
import contextlib
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image
from rich.progress import Progress

from rsynth_jax import checks
from rsynth_jax.cli import hosts, training_run, writers
from rsynth_jax.cli.run import Clock, progress_bar
from rsynth_jax.cli.training_run import KeepFlags
from rsynth_jax.cli.writers import Writer
from rsynth_jax.storage import files, paths
from rsynth_jax.storage.train_states import Saver
from rsynth_jax.training import finite
from rsynth_jax.training.finite import Checked
from rsynth_jax.training.state import State, Trainer

S = TypeVar("S", bound=State)
_NOT_FINITE = "the loss or a weight is not finite"
LATE = 2  # steps after which it is read whether a step was good: a device has these to do meanwhile


class Places(NamedTuple):
    """Where a run writes.

    Attributes:
      folder: of releases and sheets: the run's; a temporary one on all processes but the first that share it.
    """

    folder: Path
    lines: IO[bytes]  # unbuffered; of a store a copy, which `flush` writes
    bar: Progress
    writers: Sequence[Writer]
    save: Saver


class RunLog:
    """The lines, the progress, the summaries and the checkpoints of a run."""

    def __init__(self, places: Places, flags: KeepFlags, num_steps: int, step: int, remedy: str):
        self._places = places
        self._every = flags.seconds
        self._drop = GUARDS[flags.on_nan].drop
        self._remedy = remedy
        self._task = places.bar.add_task("training", total=num_steps, completed=step, now="")
        self._unread: collections.deque[tuple[int, Checked]] = collections.deque()
        self._logged = self._noted = step
        self._clock = Clock()
        self._saved = time.monotonic()

    @property
    def folder(self) -> Path:
        """Where to write releases and sheets, see `Places`."""
        return self._places.folder

    def note(self, step: int, checked: Checked) -> None:
        """Note a step, and read whether the one `LATE` before it was good, as `settle`."""
        self._noted = step
        self._unread.append((step, checked))
        self._settle(LATE)

    def settle(self) -> None:
        """Read whether every step so far was good. Raises ValueError for one to stop at."""
        self._settle(0)

    def record(self, record: Mapping[str, Any], now: str | None = None) -> None:
        """Write the numbers of a step, `record["step"]`, and show `now` beside the progress."""
        values = {name: value if np.isfinite(value) else None for name, value in record.items()}
        training_run.append(self._places.lines, values)  # null: not measured, or of a step that was skipped
        numbers = {name: value for name, value in record.items() if name != "step"}
        for writer in self._places.writers:
            writer.scalars(record["step"], numbers)
        if now is not None:
            self._places.bar.update(self._task, completed=record["step"], now=now)

    def picture(self, step: int, name: str, draw: Callable[[], Image.Image]) -> None:
        """Write a picture to the summaries; it is drawn only if there are any."""
        if self._places.writers:
            picture = draw()
            for writer in self._places.writers:
                writer.images(step, {name: picture})

    def print(self, line: str) -> None:
        """Print a line above the progress."""
        self._places.bar.console.print(line, soft_wrap=True, markup=False, highlight=False)

    def steps_per_second(self, step: int) -> float:
        """Return the speed since the last call, pauses left out."""
        num = step - self._logged
        self._logged = step
        return num / self._clock.lap()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the block's time out of the speed."""
        clock = Clock()
        yield
        self._clock.pause(clock.lap())

    @property
    def is_due(self) -> bool:
        """Whether --save-every has passed since the last checkpoint, or the start.

        Of several processes that train together the first one's clock decides, every `AGREE_EVERY` steps.
        """
        if self._every is None:
            return False
        passed = time.monotonic() - self._saved >= self._every
        return hosts.as_the_first(passed, self._noted)

    def save(self, state: State) -> None:
        """Begin to write a checkpoint. Raises ValueError as `settle`, or if the last one was not written."""
        self.settle()
        with self.paused():
            self._places.lines.flush()
            self._places.save(state)
        self._saved = time.monotonic()

    def save_if_due(self, state: State) -> None:
        """Write a checkpoint if it `is_due`."""
        if self.is_due:
            self.save(state)

    def _settle(self, num_unread: int) -> None:
        while len(self._unread) > num_unread:
            step, checked = self._unread.popleft()
            if not checked.good:
                self._drop(self, step, checked)

    def _refuse(self, step: int, checked: Checked) -> None:
        loss = float(checked.loss)
        is_large = math.isfinite(loss) and abs(loss) > finite.LARGEST
        what = f"the loss is {loss:.3g}" if is_large else _NOT_FINITE
        raise ValueError(f"{what} at step {step}: {self._remedy}")

    def _skip(self, step: int, checked: Checked) -> None:
        self.record({"step": step, "skipped": True})


class Guard(NamedTuple):
    """A choice of --on-nan: the trainer's guard, and the answer of the log to a step that was not good."""

    trainer: Callable[[Trainer[Any]], Trainer[Any]]
    drop: Callable[[RunLog, int, Checked], None]


GUARDS = {"stop": Guard(finite.stopping, RunLog._refuse), "skip": Guard(finite.skipping, RunLog._skip)}


def guarded(flags: KeepFlags, trainer: Trainer[S]) -> Trainer[S]:
    """Return the trainer with the guard of --on-nan. Raises ValueError if it names none."""
    return checks.named("on_nan", flags.on_nan, GUARDS).trainer(trainer)


@contextlib.contextmanager
def run_log(options: Any, num_steps: int, step: int, remedy: str) -> Iterator[RunLog]:
    """Append to the log of a run that has done `step` steps, without what it has past them; show progress.

    The end of the block waits for the last checkpoint.

    Args:
      options: of the program, as `training_run` has them.
      num_steps: of the whole run.
      remedy: what helps against a loss that diverges.

    Raises:
      ValueError: a file cannot be written.
    """
    flags, out = options.keeping, options.out
    summaries = flags.summaries if hosts.is_first() else writers.Summaries()
    with (
        hosts.own_folder(out) as own,
        Saver(out) as save,
        continued(own / training_run.LOG, step) as lines,
        writers.opened(summaries, out, step) as places,
        progress_bar("{task.fields[now]}") as bar,
    ):
        yield RunLog(Places(own, lines, bar, places, save), flags, num_steps, step, remedy)


@contextlib.contextmanager
def continued(path: Path, step: int) -> Iterator[IO[bytes]]:
    """Open JSON lines to append to, unbuffered, without those past `step` and the last one if it was cut."""
    content = path.read_bytes() if path.is_file() else b""
    kept = b"".join(line + b"\n" for line in content.splitlines() if _step_of(line) <= step)
    if kept != content:
        files.write(path, kept)
    if not paths.is_remote(path):
        with open(path, "ab", buffering=0) as file:
            yield file
        return
    file = _Copy(path, kept)
    try:
        yield file
    finally:
        file.flush()


class _Copy(io.BytesIO):
    """The content of a file in a store, which `flush` writes: nothing can be appended there."""

    def __init__(self, path: Path, content: bytes):
        super().__init__()
        self.name = str(path)
        self._path = path
        self.write(content)

    def flush(self) -> None:
        files.write(self._path, self.getvalue())


def _step_of(line: bytes) -> float:
    """The step of a line; infinity for one that was cut."""
    try:
        return json.loads(line)["step"]
    except (ValueError, TypeError, KeyError):
        return math.inf
