"""Run a program: configure JAX, parse, turn an error into one line, show progress.

    main = functools.partial(run, Options, generate)

A ValueError ends a program with one line on standard error and exit status 2; any other exception is a defect
and keeps its traceback. This module imports nothing heavy.
"""

import contextlib
import functools
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rsynth_jax.cli.parse import command_name, expand_home, fail, parse, replace_unprintable
from rsynth_jax.storage import files

if TYPE_CHECKING:
    from rich.progress import Progress

    from rsynth_jax.attacks import evaluation
    from rsynth_jax.attacks.autoattack import Attack
    from rsynth_jax.models.embedding import Track
    from rsynth_jax.types import Bytes

FRAME_STEPS = 2  # steps between two frames of an animation, at most
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
      SystemExit: with status 2 after a ValueError, 130 after Ctrl-C, 143 after SIGTERM.
    """
    replace_unprintable()
    arguments = expand_home(sys.argv[1:])
    os.environ.update(jax_settings(arguments))
    try:
        flags = parse(options, arguments)
        _check_devices()
        _silence_absl()
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # removes temporary files
        sys.exit(program(flags))
    except ValueError as error:
        fail(command_name(options), str(error))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def jax_settings(arguments: Sequence[str]) -> dict[str, str]:
    """Return the environment variables that JAX reads when it is imported; what is set already stays.

    Each core is a device, where there is no accelerator. Compiled programs are kept in the user's cache
    folder from one command to the next, unless --no-cache is given or the folder cannot be written.
    """
    keep = "--no-cache" not in arguments
    settings = {
        "JAX_NUM_CPU_DEVICES": str(os.cpu_count()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    if keep and (folder := _cache_folder()):
        settings["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    settings = {name: value for name, value in settings.items() if name not in os.environ}
    return settings if keep else settings | {"JAX_ENABLE_COMPILATION_CACHE": "false"}


class Monitor:
    """Show a progress bar for images that climb, and keep their frames: the callback of a sampler.

        with Monitor(len(images), num_steps) as monitor:
            samples = sampler(release, images, **monitor.run)

    Attributes:
      seconds: wall time of the ascent, once it is over.
    """

    def __init__(self, num: int, num_steps: int, keep: bool = False, name: str = "climbing"):
        self.seconds = 0.0
        self._keep = keep
        self._frames: dict[int, list[Bytes]] = {}
        self._bar = progress_bar()
        self._task = self._bar.add_task(name, start=False, total=num * num_steps)
        self._began = time.perf_counter()

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began
        if self._bar.live.is_started:
            self._bar.stop()

    def __call__(self, step: int, images: "Bytes") -> None:
        """Note that a batch of images has taken `step` steps."""
        before = max((earlier for earlier in self._frames if earlier < step), default=0)
        self._bar.start()
        self._bar.start_task(self._task)
        self._bar.update(self._task, advance=(step - before) * len(images))
        self._frames.setdefault(step, []).extend([images] * self._keep)

    @property
    def run(self) -> dict[str, Any]:
        """The arguments of a sampler."""
        return {"callback": self} | ({"every": FRAME_STEPS} if self._keep else {})

    @property
    def frames(self) -> "dict[int, Bytes]":
        """All images at the start and after each chunk, by the number of steps; empty unless kept."""
        return {step: np.concatenate(parts) for step, parts in self._frames.items() if parts}


def progress_bar(*columns: str) -> "Progress":
    """Make a progress bar on standard error: steps done, time taken, time left, then the given columns."""
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=20),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("ETA"),
        progress.TimeRemainingColumn(),
        *map(progress.TextColumn, columns),
        console=Console(stderr=True),
    )


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
        """Iterate over the items until a signal arrives."""
        return itertools.takewhile(lambda _: self.signal is None, items)

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


def _cache_folder() -> Path | None:
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rsynth_jax"
        files.check_writable(folder / "program")  # JAX makes the folder when it compiles
    except (ValueError, RuntimeError):  # RuntimeError: no home
        return None
    return folder


def _check_devices() -> None:
    """Raise ValueError if JAX_PLATFORMS names no device of this machine."""
    if platforms := os.environ.get("JAX_PLATFORMS"):
        import jax

        try:
            jax.devices()
        except (AssertionError, RuntimeError) as error:
            wanted = "unset it, or install JAX for that device"
            raise ValueError(f"JAX finds no device for JAX_PLATFORMS={platforms}: {wanted}") from error


def _silence_absl() -> None:
    """TFDS and Orbax log through absl."""
    from absl import logging

    logging.set_verbosity(logging.ERROR)
