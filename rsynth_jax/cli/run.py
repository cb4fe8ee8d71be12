"""The door to the terminal: how every program parses, shows progress, reports and fails.

    console.run(Options, generate)

Only programs import this module. A ValueError ends a program with one line on standard error and exit
status 2; anything else is a defect and keeps its traceback.
"""

import contextlib
import io
import itertools
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import rich.console
import tyro
from rich import progress

from rsynth_jax.storage import files


def fail(program: str, message: str) -> None:
    """One line on standard error; exit status 2."""
    print(f"{program}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def said(box: str) -> str:
    """The message inside the box in which tyro says what is wrong with the flags."""
    lines = [line.strip(" │") for line in box.splitlines() if "╭" not in line and "╰" not in line]
    end = next((i for i, line in enumerate(lines) if line.startswith("──")), len(lines))
    return " ".join(lines[:end])


def name(options: type) -> str:
    """The command's name: the first word of the documentation of its options."""
    return options.__doc__.split(":")[0]


def parse(options: type, arguments: Sequence[str], **defaults: Any) -> Any:
    """The options from the flags; every flag's documentation is its field's."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                options,
                prog=name(options),
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
                **defaults,
            )
    except SystemExit as stop:
        if stop.code:
            fail(name(options), f"{said(errors.getvalue())} (see {name(options)} --help)")
        raise


def given(flag: str, arguments: Sequence[str], default: str) -> str:
    """The value of one flag, for a program whose other defaults depend on it."""
    pairs = itertools.chain(itertools.pairwise(arguments), (word.split("=", 1) for word in arguments))
    values = [value for word, *rest in pairs for value in rest if word == f"--{flag}"]
    return values[-1] if values else default


def run(options: type, program: Callable[[Any], int], parse: Callable = parse) -> None:
    """Parse, run, and exit with what the program returns, or 2 for a ValueError, said in one line."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count())  # read where there is no accelerator
    logging.getLogger("absl").setLevel(logging.ERROR)  # where TFDS and Orbax chat
    try:
        sys.exit(program(parse(options, sys.argv[1:])))
    except ValueError as error:
        fail(name(options), str(error))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


class Interrupted:
    """Catches SIGINT and SIGTERM, so that a loop can end between two steps.

    Attributes:
      signal: None until one of them came, then its number.
    """

    def __init__(self):
        self.signal = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.catch)

    def catch(self, number, frame):
        """The handler."""
        self.signal = number


class Clock:
    """Seconds between laps."""

    def __init__(self):
        self.since = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap, pauses left out."""
        now = time.perf_counter()
        seconds, self.since = now - self.since, now
        return seconds

    def pause(self, seconds: float) -> None:
        """Leave these out of the lap under way."""
        self.since += seconds


def skipped(messages: Sequence[str]) -> int:
    """Say what was left out and why; the exit status, 1 where anything was."""
    for message in messages:
        print(f"skipped: {message}", file=sys.stderr)
    return 1 if messages else 0


def label(asked: str, class_names: Sequence[str]) -> int:
    """The label of one class given by name or number."""
    labels = {str(label): label for label in range(len(class_names))}
    labels |= {name: label for label, name in enumerate(class_names)}
    if asked not in labels:
        raise ValueError(f"no class {asked!r}: give a number, or one of {', '.join(class_names)}")
    return labels[asked]


def classes(asked: Sequence[str], class_names: Sequence[str]) -> list[int]:
    """The labels of classes given by name or number; "all" is every one of them."""
    if not asked:
        raise ValueError(f"no class given: give all, a number, or one of {', '.join(class_names)}")
    if list(asked) == ["all"]:
        return list(range(len(class_names)))
    return [label(word, class_names) for word in asked]


def unit(asked: str, num: int) -> int:
    """The number of one of `num` units of the penultimate layer."""
    if not (asked.isascii() and asked.isdigit()) or int(asked) >= num:
        raise ValueError(f"no feature {asked!r}: give a number from 0 to {num - 1}")
    return int(asked)


def bar(*columns: str) -> progress.Progress:
    """A progress bar on standard error: steps done, elapsed and remaining time, and the columns given."""
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=20),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("ETA"),
        progress.TimeRemainingColumn(),
        *map(progress.TextColumn, columns),
        console=rich.console.Console(stderr=True),
    )


def report(path: Path | None, numbers: dict[str, Any]) -> None:
    """Write every number a program prints as JSON, where it was asked to."""
    if path is not None:
        files.write_json(path, numbers)
