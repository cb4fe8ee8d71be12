"""Parsing: flags over defaults, an error in one line with status 2, help and version with status 0."""

import dataclasses
import re
from pathlib import Path

import pytest

from rsynth_jax import __version__
from rsynth_jax.cli.options import AscentFlags, SystemFlags
from rsynth_jax.cli.parse import parse, value_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-try: try something.

    At length.
    """

    num: int = 3
    """How many."""
    ascent: AscentFlags = AscentFlags(radius=6.0, steps=40, step_size=0.5)
    out: Path | None = None
    """Where to."""
    system: SystemFlags = SystemFlags()


def test_flags_replace_the_defaults_of_groups_without_a_prefix():
    asked = parse(Options, ["--step-size", "0.25", "--out", "a/b", "--no-cache"])
    ascent = AscentFlags(radius=6.0, steps=40, step_size=0.25)
    assert asked == Options(ascent=ascent, out=Path("a/b"), system=SystemFlags(no_cache=True))
    assert parse(Options, []) == Options()


def test_a_default_replaces_the_options_own():
    assert parse(Options, ["--out", "a"], default=Options(num=5)) == Options(num=5, out=Path("a"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num", "many"], "many"),
        (["--num", "1.5"], "1.5"),
        (["--num"], "--num"),
        (["--nmu", "3"], "--nmu"),
        (["stray"], "stray"),
        (["--radius", "-1"], "radius is -1.0: give a number above 0"),
    ],
)
def test_a_wrong_flag_ends_with_status_2_and_one_line_that_names_it(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        parse(Options, arguments)
    output, errors = capsys.readouterr()
    assert stopped.value.code == 2 and output == ""
    assert errors.startswith("rsynth-try: ") and errors.endswith(" (see rsynth-try --help)\n")
    assert errors.count("\n") == 1 and message in errors and "│" not in errors and "─" not in errors


def test_help_explains_the_command_and_every_flag(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(Options, ["--help"])
    output, errors = capsys.readouterr()
    assert stopped.value.code == 0 and errors == ""
    for text in ("rsynth-try", "At length.", "--num", "How many.", "--step-size", "0.5", "--version"):
        assert text in output


def test_the_version_is_printed_whatever_else_is_given(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(Options, ["stray", "--version"])
    assert not stopped.value.code and capsys.readouterr().out == f"rsynth-try {__version__}\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ([], "default"),
        (["--recipe", "a"], "a"),
        (["--recipe=a"], "a"),
        (["--recipe", "a", "--recipe", "b"], "b"),
        (["--recipes", "a", "--recip=b"], "default"),
        (["--recipe"], "default"),
    ],
)
def test_one_flag_is_read_ahead_of_the_others(arguments, value):
    assert value_of("recipe", arguments, "default") == value
