"""The command rsynth: it lists the programs and runs them."""

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from rsynth_jax import __version__
from rsynth_jax.cli import main

ROOT = Path(__file__).parents[2]


def call(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["rsynth", *arguments])
    main.main()


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_without_a_program_it_lists_all_of_them_with_a_line_each(monkeypatch, capsys, arguments):
    call(monkeypatch, *arguments)
    lines = capsys.readouterr().out.splitlines()
    (generate,) = [line for line in lines if line.startswith("  generate ")]
    assert "new images of a class" in generate and "rsynth-generate" not in generate
    listed = {line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("  -")}
    commands = distribution("rsynth_jax").entry_points.select(group="console_scripts")
    assert listed == {name.removeprefix("rsynth-") for name in commands.names} - {"rsynth"}


def test_a_program_gets_the_arguments_after_its_name(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, "generate", "--help")
    assert stopped.value.code == 0 and "usage: rsynth-generate" in capsys.readouterr().out


def test_an_unknown_program_is_refused_with_the_known_ones(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, "dream")
    errors = capsys.readouterr().err
    assert stopped.value.code == 2 and errors.count("\n") == 1
    assert errors.startswith("rsynth: no program 'dream': give one of detect, dissect, evaluate, export")


def test_the_version_is_the_package_s(monkeypatch, capsys):
    call(monkeypatch, "--version")
    assert capsys.readouterr().out == f"rsynth {__version__}\n"


def test_no_program_imports_jax_before_its_flags_are_parsed():
    files = [file for folder in ("synth", "train") for file in (ROOT / folder).glob("[!_]*.py")]
    modules = ", ".join(f"{file.parent.name}.{file.stem}" for file in files)
    code = f"import sys, {modules}; print({{'jax', 'flax', 'optax', 'matplotlib'}} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "set()\n"
