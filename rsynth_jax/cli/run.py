"""Run a program: configure JAX, parse, turn an error into one line, show progress.

    main = functools.partial(run, Options, generate)

A ValueError, a path that cannot be used, a full disk or full memory ends a program with one line on standard
error and exit status 2; any other exception is a defect and keeps its traceback. This module imports nothing
heavy.
"""

import contextlib
import functools
import itertools
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rsynth_jax.cli import hosts
from rsynth_jax.cli.parse import command_name, expand_home, fail, parse, replace_unprintable
from rsynth_jax.storage import cache, files

if TYPE_CHECKING:
    from rich.progress import Progress

    from rsynth_jax.attacks import evaluation
    from rsynth_jax.attacks.autoattack import Attack
    from rsynth_jax.models.embedding import Track
    from rsynth_jax.types import Bytes

SPEED = 600.0  # seconds back to which a progress bar looks for the time that is left
WIDE = 102  # columns of a terminal that shows a bar beside a run's numbers
FRAME_STEPS = 2  # steps between two frames of an animation, at most
EXACT_THREADS = "64"  # of XLA's pool on the CPU, which has no fewer than there are cores and devices
Options = TypeVar("Options")
Item = TypeVar("Item")


def run(
    options: type[Options],
    program: Callable[[Options], int],
    parse: Callable[[type[Options], Sequence[str]], Options] = parse,
) -> None:
    """Parse the command line, run the program, and exit with its status.

    Args:
      options: the program's flags, as `parse` takes them.
      program: returns the exit status.
      parse: a replacement, for a program whose defaults depend on its flags.

    Raises:
      SystemExit: with status 2 after a ValueError, a path that cannot be used or a full disk, 130 after
        Ctrl-C, 143 after SIGTERM.
    """
    replace_unprintable()
    try:
        with _stopped_by_signals(), files.one_line_errors():
            arguments = expand_home(sys.argv[1:])
            os.environ.update(jax_settings(arguments))
            flags = parse(options, arguments)
            hosts.join(getattr(flags, "hosts", hosts.JoinFlags()))
            _check_devices()
            _silence_libraries()
            status = program(flags)
            sys.stdout.flush()
    except ValueError as error:
        if getattr(error.__cause__, "errno", None) in files.DISK:
            _discard_output()  # which may be what is full
        fail(command_name(options), str(error))
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):  # as XLA says it
            raise
        fail(command_name(options), "the memory is not enough: lower --batch-size, --num or --image-size")
    except BrokenPipeError:  # of `| head`
        _discard_output()
        sys.exit(128 + signal.SIGPIPE)
    sys.exit(status)


def jax_settings(arguments: Sequence[str]) -> dict[str, str]:
    """Return the environment variables that JAX reads when it is imported; what is set already stays.

    Each core is a device, where there is no accelerator. Compiled programs are kept in the user's cache
    folder from one command to the next, unless --no-cache is given or the folder cannot be written. With
    --exact XLA divides the work of a CPU into as many parts on every machine, of which rounding depends.
    """
    keep = "--no-cache" not in arguments
    settings = {
        "JAX_NUM_CPU_DEVICES": str(os.cpu_count()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    if keep and (folder := cache.folder()):
        settings["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    if "--exact" in arguments:
        settings["NPROC"] = EXACT_THREADS
    settings = {name: value for name, value in settings.items() if name not in os.environ}
    return settings if keep else settings | {"JAX_ENABLE_COMPILATION_CACHE": "false"}


class Monitor:
    """Show a progress bar for images that climb, and keep frames: the callback of a sampler.

        with Monitor(len(images), num_steps) as monitor:
            samples = sampler(release, images, **monitor.run)

    Args:
      shown: bool (num,), the images whose frames are kept; none by default.
      begin: called once, before the first step, when nothing of the input can be refused any more.

    Attributes:
      seconds: wall time of the ascent, once it is over.
    """

    def __init__(
        self,
        num: int,
        num_steps: int,
        shown: np.ndarray | None = None,
        name: str = "climbing",
        begin: Callable[[], object] = lambda: None,
    ):
        self.seconds = 0.0
        self._begin = begin
        self._shown = shown
        self._done: dict[int, int] = {}  # images by steps
        self._frames: dict[int, list[Bytes]] = {}
        self._bar = progress_bar()
        self._task = self._bar.add_task(name, start=False, total=num * num_steps)
        self._began = time.perf_counter()

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began
        if self._bar.tasks[self._task].started:
            self._bar.stop()

    def __call__(self, step: int, images: "Bytes") -> None:
        """Note that a batch of images has taken `step` steps."""
        if not self._done:
            self._begin()
        before = max((earlier for earlier in self._done if earlier < step), default=0)
        self._bar.start()
        self._bar.start_task(self._task)
        self._bar.update(self._task, advance=(step - before) * len(images))
        first = self._done.get(step, 0)
        self._done[step] = first + len(images)
        if self._shown is not None:
            here = self._shown[first : first + len(images)]
            self._frames.setdefault(step, []).append(images[here])

    @property
    def run(self) -> dict[str, Any]:
        """The arguments of a sampler."""
        return {"callback": self} | ({} if self._shown is None else {"every": FRAME_STEPS})

    @property
    def frames(self) -> "dict[int, Bytes]":
        """The shown images at the start and after each chunk, by the number of steps."""
        return {step: np.concatenate(parts) for step, parts in self._frames.items()}


def progress_bar(*columns: str) -> "Progress":
    """Make a progress bar on standard error: steps done, time taken, time left, then the given columns.

    Where that is no terminal, the same in plain lines, one every `progress.INTERVAL` seconds. A line fits
    into 80 columns; a narrow terminal shows no bar.
    """
    from rich import progress
    from rich.console import Console

    from rsynth_jax.cli.progress import PlainProgress

    name = progress.TextColumn("{task.description}")
    numbers = [progress.MofNCompleteColumn(), progress.TimeElapsedColumn()]
    numbers += [progress.TextColumn("ETA"), progress.TimeRemainingColumn()]
    numbers += map(progress.TextColumn, columns)
    if not hosts.is_first():
        return progress.Progress(disable=True)
    console = Console(stderr=True)
    if not console.is_terminal:
        return PlainProgress(name, *numbers, speed_estimate_period=SPEED)
    bar = [progress.BarColumn(bar_width=20)] if console.width >= WIDE or not columns else []
    return progress.Progress(name, *bar, *numbers, console=console, speed_estimate_period=SPEED)


@contextlib.contextmanager
def tracks() -> "Iterator[Callable[[str], Track]]":
    """Show a progress bar for every loop `for item in track("reading A")(items)`."""
    with progress_bar() as bar:
        yield lambda name: functools.partial(bar.track, description=name)


@contextlib.contextmanager
def attack_progress() -> "Iterator[evaluation.Callback]":
    """Show a progress bar for each attack: the callback of `evaluate`."""
    with progress_bar("{task.fields[remaining]}") as bar:
        task = functools.cache(functools.partial(bar.add_task, remaining=""))

        def show(attack: "Attack", ended: int, total: int, remaining: int) -> None:
            more = f"{remaining} remaining"
            bar.update(task(attack.name), completed=ended, total=total, remaining=more)

        yield show


class Interrupted:
    """Catch SIGINT and SIGTERM, so that a loop can end between two steps."""

    signal: int | None = None  # the number of the one that arrived

    def __init__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._catch)

    def until(self, items: Iterable[Item]) -> Iterator[Item]:
        """Iterate over the items until a signal arrives, of several processes at any one of them.

        Those that train together ask each other every `hosts.AGREE_EVERY` items, and end with the same one.
        """
        import jax

        if jax.process_count() == 1:
            return itertools.takewhile(lambda _: self.signal is None, items)
        numbered = enumerate(items)
        return (item for i, item in itertools.takewhile(lambda pair: not self._agreed(pair[0]), numbered))

    def _agreed(self, i: int) -> bool:
        """Whether a signal has arrived at any process; it then has at all of them."""
        if i % hosts.AGREE_EVERY:
            return False
        self.signal = hosts.largest(self.signal or 0) or None
        return self.signal is not None

    def _catch(self, number: int, frame: object) -> None:
        self.signal = number


class Clock:
    """Measure the seconds between laps."""

    def __init__(self) -> None:
        self.since = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds since the last lap, pauses left out."""
        before, self.since = self.since, time.perf_counter()
        return self.since - before

    def pause(self, seconds: float) -> None:
        """Leave these seconds out of the current lap."""
        self.since += seconds


def _check_devices() -> None:
    """Raise ValueError if JAX_PLATFORMS names no device of this machine."""
    if platforms := os.environ.get("JAX_PLATFORMS"):
        import jax

        try:
            jax.devices()
        except (AssertionError, RuntimeError) as error:
            wanted = "unset it, or install JAX for that device"
            raise ValueError(f"JAX finds no device for JAX_PLATFORMS={platforms}: {wanted}") from error


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """End the block and the process at SIGINT and SIGTERM; temporary files are removed.

    Libraries turn the exception that a signal raises inside them into errors of their own, print it, or
    go on: from the signal on, nothing of that is shown, and the exception is raised each second until the
    block ends. A second signal, or one during an import, ends the process at once: extension modules that
    are half imported crash. Nor is the interpreter taken down after the block, while XLA still computes.
    """
    arrived: list[int] = []

    def again(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def stop(number: int, frame: FrameType | None) -> None:
        if arrived or _imports(frame):
            os._exit(128 + number)
        arrived.append(number)
        sys.unraisablehook = lambda _: None
        signal.signal(signal.SIGALRM, again)
        signal.setitimer(signal.ITIMER_REAL, 1, 1)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    shown = sys.unraisablehook
    try:
        yield
    except BaseException as error:
        if not arrived and not isinstance(error, KeyboardInterrupt):
            raise
    else:
        if not arrived:
            return
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = shown
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(128 + (arrived or [signal.SIGINT])[0])


def _imports(frame: FrameType | None) -> bool:
    """Whether a frame belongs to an import."""
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _discard_output() -> None:
    """Send what is left of the standard output nowhere, for Python writes it as it ends."""
    with contextlib.suppress(OSError, ValueError):
        number = sys.stdout.fileno()
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def _silence_libraries() -> None:
    """TFDS and Orbax log through absl; JAX warns where its cache cannot be written."""
    from absl import logging

    logging.set_verbosity(logging.FATAL)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
