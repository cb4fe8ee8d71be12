"""Parse flags into a program's options; a mistake ends the program with one line and exit status 2.

    options = parse(Options, ["photo.png", "--radius", "2"])

The first word of the docstring of `Options` names the command; each field documents its flag.
"""

import contextlib
import io
import itertools
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

import tyro

from rsynth_jax import __version__

Options = TypeVar("Options")

CONFIG = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)


def parse(options: type[Options], arguments: Sequence[str], default: Options | None = None) -> Options:
    """Parse a command's arguments.

    Args:
      options: a dataclass of flags and of groups of flags, whose names carry no prefix.
      arguments: the words after the command's name.
      default: replaces the dataclass's own defaults.

    Raises:
      SystemExit: with status 0 after --help and --version, with status 2 after an error.
    """
    name = command_name(options)
    if "--version" in arguments:
        print(f"{name} {__version__}")
        sys.exit(0)
    defaults: dict[str, Any] = {} if default is None else {"default": default}
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(options, prog=name, args=arguments, config=CONFIG, **defaults)
    except SystemExit as stop:
        if stop.code:
            fail(name, f"{_message(errors.getvalue())} (see {name} --help)")
        raise


def fail(name: str, message: str) -> NoReturn:
    """Print a message as one line on standard error, and exit with status 2."""
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def command_name(options: type) -> str:
    """Return the first word of the docstring of the options."""
    return (options.__doc__ or "").partition(":")[0]


def expand_home(arguments: Sequence[str]) -> list[str]:
    """Replace ~ and ~USER where a word, a flag's value or the place of a KIND:PLACE begins with them."""
    words = (re.fullmatch(r"((?:--[\w-]+=)?(?:[a-z]+:)?)(.*)", word, re.DOTALL) for word in arguments)
    return [start + os.path.expanduser(place) for start, place in (word.groups() for word in words if word)]


def value_of(flag: str, arguments: Sequence[str], default: str) -> str:
    """Return the value of one flag, for a program whose other defaults depend on it."""
    pairs = itertools.chain(itertools.pairwise(arguments), (word.split("=", 1) for word in arguments))
    values = [value for word, *rest in pairs for value in rest if word == f"--{flag}"]
    return values[-1] if values else default


def _message(box: str) -> str:
    """The text of the first section of the box that tyro draws around an error."""
    lines = [line.strip(" │") for line in box.splitlines() if "╭" not in line and "╰" not in line]
    end = next((i for i, line in enumerate(lines) if line.startswith("──")), len(lines))
    return " ".join(lines[:end])
