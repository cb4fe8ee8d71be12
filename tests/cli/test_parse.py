"""Parsing: flags over defaults, an error in one line with status 2, help and version with status 0."""

import dataclasses
import re
from pathlib import Path
from typing import Annotated

import pytest
import stores
from tyro.conf import UseAppendAction, arg

from rsynth_jax import __version__
from rsynth_jax.cli.options import AscentFlags, SystemFlags
from rsynth_jax.cli.parse import fail, merge_repeated, parse, value_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-try: try something.

    At length.
    """

    num: int = 3
    """How many."""
    share: float | None = None
    """How much."""
    labels: Annotated[tuple[str, ...], arg(name="class")] = ()
    """Which."""
    stroke: UseAppendAction[tuple[str, ...]] = ()
    """Where."""
    ascent: AscentFlags = AscentFlags(radius=6.0, steps=40, step_size=0.5)
    out: Path | None = None
    """Where to."""
    system: SystemFlags = SystemFlags()


def test_flags_replace_the_defaults_of_groups_without_a_prefix():
    asked = parse(Options, ["--step-size", "0.25", "--out", "a/b", "--no-cache"])
    ascent = AscentFlags(radius=6.0, steps=40, step_size=0.25)
    assert asked == Options(ascent=ascent, out=Path("a/b"), system=SystemFlags(no_cache=True))
    assert parse(Options, []) == Options()


def test_a_path_of_a_store_keeps_its_slashes():
    with stores.bucket():
        assert str(parse(Options, ["--out", "gs://bucket/a/b"]).out) == "gs://bucket/a/b"


def test_a_path_of_an_unknown_store_is_refused_in_one_line(capsys):
    with pytest.raises(SystemExit):
        parse(Options, ["--out", "bad://x"])
    assert capsys.readouterr().err.startswith("rsynth-try: --out: cannot use bad://x: bad:// is not known")


def test_a_default_replaces_the_options_own():
    assert parse(Options, ["--out", "a"], default=Options(num=5)) == Options(num=5, out=Path("a"))


def test_a_batch_size_is_a_number_or_auto():
    sizes = [parse(Options, ["--batch-size", word]).ascent.batch_size for word in ("7", "auto")]
    assert sizes == [7, "auto"] and Options().ascent.batch_size == "auto"


def test_a_float_is_a_number_or_a_fraction():
    asked = parse(Options, ["--radius", "8/255", "--step-size=0.5", "--share", "1/4"])
    assert (asked.ascent.radius, asked.ascent.step_size, asked.share) == (8 / 255, 0.5, 0.25)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--class", "cat", "dog", "--num", "4"],
        ["--class", "cat", "--num", "4", "--class", "dog"],
        ["--class=cat", "--num=4", "--class=dog"],
    ],
)
def test_a_repeated_flag_of_many_values_adds_to_them(arguments):
    assert parse(Options, arguments) == Options(num=4, labels=("cat", "dog"))


def test_flags_that_append_and_switches_may_be_repeated():
    asked = parse(Options, ["--stroke", "a", "--no-cache", "--stroke", "b", "--no-cache"])
    assert asked == Options(stroke=("a", "b"), system=SystemFlags(no_cache=True))


def test_words_after_two_dashes_are_no_flags():
    words = ["--num", "1", "--", "--num", "2"]
    assert merge_repeated(Options, words) == words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num", "many"], "many"),
        (["--num", "1.5"], "--num: cannot read '1.5': write a whole number"),
        (["--batch-size", "x"], "--batch-size: cannot read 'x': write a whole number, or auto ("),
        (["--share", "x"], "--share: cannot read 'x': write a number or a fraction, 0.5 or 8/255"),
        (["--num"], "--num"),
        (["--nmu", "3"], "--nmu"),
        (["stray"], "stray"),
        (["--radius", "-1"], "radius is -1.0: give a number above 0"),
        (["--radius", "1/0"], "cannot read '1/0': write a number or a fraction, 0.5 or 8/255"),
        (["--radius", "1", "--radius=2"], "--radius is given twice: give it once"),
        (["--step-size", "1", "--step_size", "2"], "--step-size is given twice: give it once"),
    ],
)
def test_a_wrong_flag_ends_with_status_2_and_one_line_that_names_it(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        parse(Options, arguments)
    output, errors = capsys.readouterr()
    assert stopped.value.code == 2 and output == ""
    assert errors.startswith("rsynth-try: ") and errors.endswith(" (see rsynth-try --help)\n")
    assert errors.count("\n") == 1 and message in errors and "│" not in errors and "─" not in errors


def test_a_long_message_keeps_its_end_and_is_one_line_of_printable_characters(capsys):
    with pytest.raises(SystemExit):
        fail("rsynth-try", "a\n" + "b" * 500 + "\x1b[31m: give one of " + "c" * 40)
    line = capsys.readouterr().err.removesuffix("\n")
    assert len(line) <= 200 and line.isprintable() and line.startswith("rsynth-try: a b")
    assert line.endswith("?[31m: give one of " + "c" * 40) and " ... " in line


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
