"""The command rsynth: list the programs, or run one of them.

rsynth generate --class cat
"""

import sys
from importlib import resources
from importlib.metadata import EntryPoint, distribution

from rsynth_jax import __version__
from rsynth_jax.cli.parse import fail, replace_unprintable

PREFIX = "rsynth-"


def main() -> None:
    """Run the command."""
    replace_unprintable()
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
        fail("rsynth", f"no program {name[:40]!r}: give one of {', '.join(programs)}")


def _programs() -> dict[str, EntryPoint]:
    """The package's commands by their names without `PREFIX`."""
    commands = distribution("rsynth_jax").entry_points.select(group="console_scripts")
    return {entry.name.removeprefix(PREFIX): entry for entry in commands if entry.name.startswith(PREFIX)}


def _usage(programs: dict[str, EntryPoint]) -> str:
    width = max(map(len, programs))
    lines = [f"  {name:<{width}} {_summary(entry.module)}" for name, entry in programs.items()]
    usage = "usage: rsynth PROGRAM [FLAGS], or rsynth PROGRAM --help"
    return "\n".join([usage, "", *lines, "", "  --version    print the version"])


def _summary(module: str) -> str:
    """The first line of a module's docstring after the command's name; the module is not imported."""
    package, _, name = module.rpartition(".")
    first = resources.files(package).joinpath(f"{name}.py").read_text("utf-8").partition("\n")[0]
    return first.partition(": ")[2]
