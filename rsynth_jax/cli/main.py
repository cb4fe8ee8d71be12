"""The command rsynth: list the programs, or run one of them.

rsynth generate --class cat
"""

import importlib
import sys
from importlib.metadata import EntryPoint, distribution

from rsynth_jax import __version__
from rsynth_jax.cli.parse import fail

PREFIX = "rsynth-"


def main() -> None:
    """Run the command."""
    name, *arguments = sys.argv[1:] or ["--help"]
    programs = _programs()
    if name == "--version":
        print(f"rsynth {__version__}")
    elif name in ("-h", "--help"):
        print(_usage(programs))
    elif name in programs:
        sys.argv = [programs[name].name, *arguments]
        programs[name].load()()
    else:
        fail("rsynth", f"no program {name!r}: give one of {', '.join(programs)}")


def _programs() -> dict[str, EntryPoint]:
    """The package's commands by their names without `PREFIX`."""
    commands = distribution("rsynth_jax").entry_points.select(group="console_scripts")
    return {entry.name.removeprefix(PREFIX): entry for entry in commands if entry.name.startswith(PREFIX)}


def _usage(programs: dict[str, EntryPoint]) -> str:
    """A line for each program: the first of its module's docstring."""
    lines = ["usage: rsynth PROGRAM [FLAGS], or rsynth PROGRAM --help", ""]
    for name, entry in programs.items():
        documentation = importlib.import_module(entry.module).__doc__ or ""
        lines.append(f"  {name:<12} {documentation.partition(': ')[2].partition(chr(10))[0]}")
    return "\n".join([*lines, "", "  --version    print the version"])
