"""The door to the terminal: how every program parses, shows progress, reports and fails.

    if __name__ == "__main__":
        console.run(Options, generate)

Only programs import this module. A ValueError ends a program with one line on standard error and exit
status 2; anything else is a defect and keeps its traceback.
"""

import contextlib
import io
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import rich.console
import tyro
from rich import progress

from rsynth_jax import checkpoints


def fail(program: str, message: str) -> None:
    """One line on standard error; exit status 2."""
    print(f"{program}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def said(box: str) -> str:
    """The message inside the box in which tyro says what is wrong with the flags."""
    lines = [line.strip(" │") for line in box.splitlines() if "╭" not in line and "╰" not in line]
    end = next((i for i, line in enumerate(lines) if line.startswith("──")), len(lines))
    return " ".join(lines[:end])


def parse(options: type, arguments: Sequence[str], **defaults: Any) -> Any:
    """The options from the flags; every flag's documentation is its field's."""
    program = options.__doc__.split(":")[0]
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                options,
                prog=program,
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
                **defaults,
            )
    except SystemExit as stop:
        if stop.code:
            fail(program, f"{said(errors.getvalue())} (see {program} --help)")
        raise


def run(program: str, act: Callable[[], int | None]) -> None:
    """Run a program to its exit status: what it returns, or 2 for a ValueError, said in one line."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count())  # read where there is no accelerator
    try:
        sys.exit(act())
    except ValueError as error:
        fail(program, str(error))


def positive(**numbers: float) -> None:
    """Raise ValueError for the first number that is not finite and above zero."""
    for name, number in numbers.items():
        if not (math.isfinite(number) and number > 0):
            raise ValueError(f"--{name.replace('_', '-')} is {number}: give a number above 0")


def not_negative(**numbers: float) -> None:
    """Raise ValueError for the first number that is not finite or below zero."""
    for name, number in numbers.items():
        if not (math.isfinite(number) and number >= 0):
            raise ValueError(f"--{name.replace('_', '-')} is {number}: give 0 or more")


def bar(*fields: str) -> progress.Progress:
    """A progress bar on standard error: steps, the named fields, elapsed and remaining time."""
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        *(progress.TextColumn(f"{name} {{task.fields[{name}]}}") for name in fields),
        progress.TimeElapsedColumn(),
        progress.TextColumn("ETA"),
        progress.TimeRemainingColumn(),
        console=rich.console.Console(stderr=True),
    )


def report(path: Path | None, numbers: dict[str, Any]) -> None:
    """Write every number a program prints as JSON, where it was asked to."""
    if path is not None:
        checkpoints.write(path, (json.dumps(numbers, indent=2) + "\n").encode())
