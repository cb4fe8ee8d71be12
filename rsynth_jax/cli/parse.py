"""Parse flags into a program's options; a mistake ends the program with one line and exit status 2.

    options = parse(Options, ["photo.png", "--radius", "2"])

The first word of the docstring of `Options` names the command; each field documents its flag.
"""

import contextlib
import dataclasses
import io
import itertools
import os
import re
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, NoReturn, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from rsynth_jax import __version__, messages
from rsynth_jax.storage import paths

Options = TypeVar("Options")

CONFIG = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
REGISTRY = ConstructorRegistry()


def parse(options: type[Options], arguments: Sequence[str], default: Options | None = None) -> Options:
    """Parse a command's arguments. A flag of many values that is repeated adds to them.

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
        arguments = merge_repeated(options, arguments)
        with contextlib.redirect_stderr(errors):
            return tyro.cli(options, prog=name, args=arguments, config=CONFIG, registry=REGISTRY, **defaults)
    except ValueError as error:
        fail(name, f"{error} (see {name} --help)")
    except SystemExit as stop:
        if stop.code:
            fail(name, f"{_message(errors.getvalue())} (see {name} --help)")
        raise


def parse_variant(options: type, variants: Mapping[str, type], arguments: Sequence[str]) -> Any:
    """Parse as the options of the flag of `variants` that is given, and as `options` without one.

    Raises ValueError for two of those flags, or a flag of `options` that does not go with the one given.
    """
    words = list(map(flag_of, arguments))
    given = [flag for flag in variants if flag in words]
    if not given:
        return parse(options, arguments)
    own = {flag for flag, _ in _flags(variants[given[0]])}
    others = {*variants, *(flag for flag, _ in _flags(options))} - own
    for flag in (word for word in words if word in others):
        raise ValueError(f"{flag} does not go with {given[0]}: give one of them")
    return parse(variants[given[0]], arguments)


def values_of(options: Any) -> dict[str, Any]:
    """Return the value of every flag of parsed options, by its name on the command line, without dashes."""
    hints = typing.get_type_hints(type(options), include_extras=True)
    found: dict[str, Any] = {}
    for field, value in vars(options).items():
        named = (getattr(mark, "name", None) for mark in typing.get_args(hints[field])[1:])
        name = next(filter(None, named), field).replace("_", "-")
        found |= values_of(value) if dataclasses.is_dataclass(value) else {name: value}
    return found


def fail(name: str, message: str) -> NoReturn:
    """Print a message as one line of at most 200 characters on standard error; exit with status 2."""
    print(messages.one_line(f"{name}: {message}"), file=sys.stderr)
    sys.exit(2)


def replace_unprintable() -> None:
    """Print ? for what the locale's encoding lacks, in place of a UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def merge_repeated(options: type, arguments: Sequence[str]) -> list[str]:
    """Join all values of a flag of many values. Raises ValueError for any other flag given twice."""
    many = {flag: many for flag, many in _flags(options) if many is not None}
    groups: list[list[str]] = [[]]  # a flag and the words after it
    uses: dict[str, list[str]] = {}
    current = groups[0]
    rest = list(itertools.dropwhile("--".__ne__, arguments))
    for word in arguments[: len(arguments) - len(rest)]:
        flag, value = flag_of(word), word.split("=", 1)[1:]
        if not flag.startswith("--"):
            current.append(word)
        elif flag not in uses:
            current = [flag, *value] if many.get(flag) else [word]
            groups.append(current)
            uses |= {flag: current} if flag in many else {}
        elif many[flag]:
            current = uses[flag]
            current += value
        else:
            raise ValueError(f"{flag} is given twice: give it once")
    return [*itertools.chain(*groups), *rest]


def flag_of(word: str) -> str:
    """Return the flag that a word of the command line gives, as --help spells it."""
    return word.partition("=")[0].replace("_", "-")


def command_name(options: type) -> str:
    """Return the first word of the docstring of the options."""
    return (options.__doc__ or "").partition(":")[0]


def expand_home(arguments: Sequence[str]) -> list[str]:
    """Replace ~ and ~USER where a word, a flag's value or the place of a KIND:PLACE begins with them."""
    words = (re.fullmatch(r"((?:--[\w-]+=)?(?:[a-z0-9]+:)?)(.*)", word, re.DOTALL) for word in arguments)
    return [start + os.path.expanduser(place) for start, place in (word.groups() for word in words if word)]


def value_of(flag: str, arguments: Sequence[str], default: str) -> str:
    """Return the value of one flag, for a program whose other defaults depend on it."""
    pairs = itertools.chain(itertools.pairwise(arguments), (word.split("=", 1) for word in arguments))
    values = [value for word, *rest in pairs for value in rest if word == f"--{flag}"]
    return values[-1] if values else default


def _flags(options: Any) -> Iterator[tuple[str, bool | None]]:
    """Each flag with values: its name, and whether it takes many; None for one that appends."""
    for field, kind in typing.get_type_hints(options, include_extras=True).items():
        kind, *marks = typing.get_args(kind) if typing.get_origin(kind) is Annotated else (kind,)
        if dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"):
            yield from _flags(kind)
        elif kind is not bool:
            names = [name for mark in marks if (name := getattr(mark, "name", None))]
            many = None if tyro.conf.UseAppendAction in marks else typing.get_args(kind)[1:] == (...,)
            yield f"--{(names or [field])[0].replace('_', '-')}", many


@REGISTRY.primitive_rule
def _float_flag(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[float] | None:
    """Read fractions too, for every flag that is a float."""
    if info.type is not float:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="FLOAT",
        instance_from_str=lambda words: _float(words[0]),
        is_instance=lambda value: isinstance(value, float | int),
        str_from_instance=lambda value: [str(value)],
    )


def _float(text: str) -> float:
    """0.5, or 8/255."""
    above, slash, below = text.partition("/")
    try:
        return float(above) / float(below) if slash else float(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"cannot read {text[:40]!r}: write a number or a fraction, 0.5 or 8/255") from None


@REGISTRY.primitive_rule
def _path_flag(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    """Keep both slashes of gs://bucket/file."""
    if not (isinstance(info.type, type) and issubclass(info.type, PurePath)):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: paths.of(words[0]),
        is_instance=lambda value: isinstance(value, PurePath),
        str_from_instance=lambda value: [str(value)],
    )


@REGISTRY.primitive_rule
def _int_flag(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[int] | None:
    """Refuse a word in the project's own words."""
    if info.type is not int:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: _int(words[0]),
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"cannot read {text[:40]!r}: write a whole number") from None


def _message(box: str) -> str:
    """The text of the first section of the box that tyro draws around an error, in few words.

    In an encoding without frames, its title is followed by a line.
    """
    lines = [line.strip(" │") for line in box.splitlines()]
    begin = next((i + 1 for i, line in enumerate(lines[:2]) if line.startswith(("╭", "--"))), 0)
    ends = (i for i, line in enumerate(lines) if i >= begin and line.startswith(("──", "╰", "--" * 9)))
    text = " ".join(" ".join(lines[begin : next(ends, len(lines))]).split())
    found = re.fullmatch(
        r"Error parsing (--)?([\w-]+).*?: (?:no type matching .*<class '[\w.]+'>: )?(.*)", text
    )
    if found is None:
        return re.sub(r"^(Missing from [\w-]+: \S+) .*", r"\1, which is required", text)
    reason = found[3].replace("Could not find valid parse for arguments:", "cannot read as numbers")
    reason = re.sub(r" - typing.Literal\['(\w+)'\].*", r", or \1", reason)
    return f"--{found[2]}: {reason}" if found[1] else reason
