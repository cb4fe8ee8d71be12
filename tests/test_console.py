"""The door to the terminal: flags over defaults, mistakes in one line, classes by name or number, signals."""

import dataclasses
import json
import os
import signal
from pathlib import Path

import jax
import pytest

from rsynth_jax.cli import run as console
from rsynth_jax.cli.run import classes, label

NAMES = ("airplane", "cat", "7", "0")


@dataclasses.dataclass(frozen=True)
class Options:
    """rsynth-try: try something.

    At length.
    """

    num: int = 3
    """How many."""
    step_size: float = 0.5
    """How far."""
    out: Path | None = None
    """Where to."""


@pytest.fixture
def handlers():
    """Puts the process's signal handlers back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_flags_stand_over_the_defaults():
    assert console.parse(Options, ["--step-size", "0.25", "--out", "a/b"]) == Options(3, 0.25, Path("a/b"))
    assert console.parse(Options, []) == Options()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--num", "many"], "many"),
        (["--num", "1.5"], "1.5"),
        (["--num"], "--num"),
        (["--nmu", "3"], "--nmu"),
        (["stray"], "stray"),
    ],
)
def test_a_wrong_flag_ends_with_status_2_and_one_line_that_says_it(capsys, arguments, said):
    with pytest.raises(SystemExit) as stopped:
        console.parse(Options, arguments)
    output, errors = capsys.readouterr()
    assert stopped.value.code == 2 and output == ""
    assert errors.startswith("rsynth-try: ") and errors.endswith(" (see rsynth-try --help)\n")
    assert errors.count("\n") == 1 and said in errors and "│" not in errors and "─" not in errors


def test_help_explains_the_command_and_every_flag(capsys):
    with pytest.raises(SystemExit) as stopped:
        console.parse(Options, ["--help"])
    output, errors = capsys.readouterr()
    assert stopped.value.code == 0 and errors == ""
    for said in ("rsynth-try", "At length.", "--num", "How many.", "--step-size", "0.5"):
        assert said in output


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
    assert console.given("recipe", arguments, "default") == value


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (ValueError("two\n  lines"), 2, "rsynth-try: two lines\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_program_that_raises_ends_with_its_status_and_at_most_one_line(
    monkeypatch, capsys, raised, status, said
):
    def program(options):
        raise raised

    monkeypatch.setattr("sys.argv", ["rsynth-try"])
    monkeypatch.setattr(jax.config, "update", lambda *setting: None)
    with pytest.raises(SystemExit) as stopped:
        console.run(Options, program)
    assert stopped.value.code == status and capsys.readouterr().err == said


def test_a_defect_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("sys.argv", ["rsynth-try"])
    monkeypatch.setattr(jax.config, "update", lambda *setting: None)
    with pytest.raises(ZeroDivisionError):
        console.run(Options, lambda options: 1 / 0)


@pytest.mark.parametrize("status", [0, 143])
def test_a_program_s_answer_is_the_exit_status(monkeypatch, status):
    monkeypatch.setattr("sys.argv", ["rsynth-try", "--num", "5"])
    monkeypatch.setattr(jax.config, "update", lambda *setting: None)
    with pytest.raises(SystemExit) as stopped:
        console.run(Options, lambda options: status if options.num == 5 else 1)
    assert stopped.value.code == status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_does_not_interrupt(handlers, number):
    interrupted = console.Interrupted()
    assert interrupted.signal is None
    os.kill(os.getpid(), number)
    assert interrupted.signal == number


def test_one_class_is_named_or_numbered_and_is_not_all():
    assert [label(word, NAMES) for word in ("cat", "1", "7", "0")] == [1, 1, 2, 3]
    with pytest.raises(ValueError, match="no class 'all': give a number, or one of"):
        label("all", NAMES)


def test_classes_are_named_or_numbered_and_a_name_wins():
    assert classes(["cat", "airplane"], NAMES) == [1, 0]
    assert classes(["1", "2"], NAMES) == [1, 2]
    assert classes(["7", "0"], NAMES) == [2, 3]
    assert classes(["all"], NAMES) == [0, 1, 2, 3]


@pytest.mark.parametrize("asked", [["emu"], ["4"], ["-1"], [""], ["cat", "emu"], []])
def test_an_unknown_class_is_refused_with_the_known_ones(asked):
    with pytest.raises(ValueError, match="airplane, cat, 7, 0"):
        classes(asked, NAMES)


def test_a_clock_s_lap_leaves_out_the_pauses(monkeypatch):
    now = iter([10.0, 13.0, 20.0])
    monkeypatch.setattr(console.time, "perf_counter", lambda: next(now))
    clock = console.Clock()
    assert clock.lap() == 3
    clock.pause(5)
    assert clock.lap() == 2


def test_a_report_is_json_where_it_was_asked_for(tmp_path):
    console.report(None, {"share": 0.5})
    console.report(tmp_path / "new" / "n.json", {"share": 0.5})
    assert json.loads((tmp_path / "new" / "n.json").read_text()) == {"share": 0.5}
