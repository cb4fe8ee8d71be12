"""Every program, with bad flags and damaged files: it ends with one line, and leaves nothing.

Case i of a program depends on (program, i) alone. Most cases name a classifier or data that do not exist, so
that no value, however large, starts any work. More of them: `pytest -m slow tests/test_fuzz.py`.
"""

import dataclasses
import importlib
import json
import os
import random
import shutil
import signal
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image as Pillow

from rsynth_jax.cli import parse, projection, train_log

SECONDS = 20  # of a case, at most
GONE = "nowhere"  # no classifier, data set or generator
EDIT = {"A": "{a}/a.png", "--classifier": GONE, "--steps": "1", "--out": "{out}/o.png"}
# Positional arguments have names without dashes.
PROGRAMS: dict[str, dict[str, str]] = {
    "train.train": {"--data": f"npz:{GONE}", "--out": "{out}/run", "--architecture": "tiny", "--judge": "4"},
    "train.train_generator": {"--data": f"npz:{GONE}", "--out": "{out}/run", "--recipe": "style"},
    "train.evaluate": {"--classifier": GONE, "--data": "npz:{a}/d.npz", "--json": "{out}/n.json"},
    "train.detect": {"--classifier": GONE, "--in": "{a}/a.npz", "--json": "{out}/n.json"},
    "train.import_classifier": {"FILE": "{a}/d.npz", "--out": "{out}/c.safetensors"},
    "train.export_classifier": {"NAME": GONE, "--out": "{out}/e.safetensors"},
    "synth.generation": {"--classifier": GONE, "--num": "1", "--steps": "1", "--out": "{out}/o.png"},
    "synth.scoring": {"A": "{a}/a.npz", "B": "{a}/a.npz", "--features": GONE, "--json": "{out}/n.json"},
    "synth.refinement": {**EDIT, "--out": "{out}/o.npz"},
    "synth.inpainting": EDIT,
    "synth.painting": {**EDIT, "--stroke": "{a}/m.png:cat"},
    "synth.sketching": EDIT,
    "synth.superresolution": EDIT,
    "synth.translation": {**EDIT, "--to": "dog"},
    "synth.inversion": EDIT,
    "synth.visualisation": {"--classifier": GONE, "--classes": "cat", "--out": "{out}/o.png"},
    "synth.generation by a generator": {"--generator": GONE, "--num": "1", "--out": "{out}/o.png"},
    "synth.inversion by a generator": {**EDIT, "--generator": "{a}/g.safetensors"},
}
# In every other case the classifier is there, and what is read after it is gone.
LATER = {
    "--classifier": "{a}/c.safetensors",
    "--features": "{a}/c.safetensors",
    "--generator": "{a}/g.safetensors",
}
LATER |= {"A": f"{{a}}/{GONE}.png", "--in": f"{GONE}.npz", "--classes": GONE, "--class": GONE}
LATER |= {"--data": f"npz:{{a}}/{GONE}", "FILE": GONE}
NUMBERS = [
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "-0.0",
    "1e400",
    "1e-400",
    "1/0",
    "nan/1",
    "0x10",
    "1_0",
    "9" * 5000,
]
NUMBERS += ["٣", "1e3", "-9223372036854775809", str(1 << 64), "1/3/5", "+1", "1 2", "½", "True", "None"]
WORDS = [
    "",
    " ",
    "x",
    "é",
    "\udcff",
    "a\nb",
    "a\0b",
    "\x1b[31m",
    "\u202eabc",
    "*" * 300,
    "y" * 5000,
    "[]",
    "{}",
]
WORDS += [
    "%s",
    "=",
    ":",
    "a:b:c",
    "tfds:",
    "npz:",
    "folder:",
    "tfds:../x",
    "top:0",
    "feature=x",
    "train[:x%]",
    "~",
]
PATHS = [
    "/",
    ".",
    "..",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/fd/99",
    "/proc/x",
    "/proc/self/mem",
    "/sys/x",
]
PATHS += [
    "/proc/o.png",
    "/sys/o.png",
    "/dev/null/o.png",
    "~nobody/o.png",
    "{a}",
    "{a}/a.png",
    "{a}/o" + "p" * 300,
]
PATHS += [
    "{a}/fifo.png",
    "{a}/empty.npz",
    "{a}/empty.json",
    "{a}/empty.safetensors",
    "{a}/a.png/o.png",
    "{a}/loop",
]
VALUES = NUMBERS + WORDS + PATHS
FORMS = ("apart", "apart", "apart", "joined", "joined", "none", "twice", "longer", "shorter", "stray")


class Hang(BaseException):
    """A case takes too long; no handler of errors catches it."""


@dataclasses.dataclass
class Case:
    """How a program ended."""

    status: object
    output: str
    errors: str


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Whole inputs, and a few that are none."""
    folder = tmp_path_factory.mktemp("fuzz")
    Pillow.fromarray(tiny.noise(1)[0]).save(folder / "a.png")
    Pillow.new("L", (16, 16), 255).save(folder / "m.png")
    np.savez(folder / "a.npz", images=tiny.noise(20))
    np.savez(
        folder / "d.npz", test_images=tiny.noise(6), test_labels=np.arange(6) % 3, class_names=tiny.NAMES
    )
    for suffix in ("npz", "json", "safetensors"):
        (folder / f"empty.{suffix}").touch()
    os.mkfifo(folder / "fifo.png")
    (folder / "loop").symlink_to(folder / "loop")
    with tiny.network():
        tiny.release(folder / "c.safetensors", tiny.NAMES, "linear")
        tiny.generator(folder / "g.safetensors")
        yield folder


@pytest.fixture
def call(monkeypatch, capfd, tmp_path):
    """Runs a program in an empty folder, within the time; what it does to the process is undone."""
    monkeypatch.setattr(os, "environ", dict(os.environ) | {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}

    def run(program: str, arguments: Sequence[str]) -> Case:
        monkeypatch.setattr("sys.argv", ["program", *arguments])
        signal.signal(signal.SIGALRM, _hang)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            with warnings.catch_warnings():
                importlib.import_module(program.split()[0]).main()
            status: object = "no exit"
        except SystemExit as stopped:
            status = stopped.code or 0
        except (Exception, Hang) as error:
            status = f"{type(error).__name__}: {str(error)[:200]}"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return Case(status, *capfd.readouterr())

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def _hang(number: int, frame: object) -> None:
    raise Hang


def flags_of(program: str) -> list[str]:
    """Every flag of a program that has a value."""
    kind = importlib.import_module(program.split()[0]).Options
    if "by a generator" in program:
        kind = {"synth.generation": kind, "synth.inversion": projection.Options}[program.split()[0]]
    return [flag for flag, _ in parse._flags(kind)]


def bad_flags(program: str, i: int) -> list[str]:
    """The words of case i: the program's cheapest command with one or two things wrong."""
    rng = random.Random(f"{program} {i}")
    words = dict(PROGRAMS[program])
    if i % 2 and not program.startswith("train.train"):
        words |= {name: value for name, value in LATER.items() if name in words}
        words |= {"--class": GONE} if program.startswith("synth.generation") else {}
    extra: list[str] = []
    for _ in range(rng.choice((1, 1, 2))):
        flag = rng.choice([*flags_of(program), *(name for name in words if not name.startswith("-"))])
        value, form = rng.choice(VALUES), rng.choice(FORMS)
        if not flag.startswith("-"):
            words[flag] = value
        elif form == "stray":
            extra.append(value)
        elif form == "apart":
            words[flag] = value
        else:
            words.pop(flag, None)
            changed = {"longer": f"{flag}x", "shorter": flag[:-1]}.get(form, flag)
            joined = [f"{flag}={value}"]
            extra += {"joined": joined, "none": [flag], "twice": 2 * joined}.get(form, [changed, value])
    named = [word for name, value in words.items() if name.startswith("-") for word in (name, value)]
    return [*(value for name, value in words.items() if not name.startswith("-")), *named, *extra]


def faults(case: Case, left: Sequence[Path]) -> str:
    """Everything wrong with the end of a command; bars of progress may precede its line."""
    lines = case.errors.splitlines()
    said = [line for line in lines if line.startswith("rsynth-")]
    found = {
        f"status {case.status}": case.status not in (0, 1, 2),
        "a traceback": "Traceback" in case.errors,
        "not one line": case.status == 2 and said != lines[-1:],
        "a long line": case.status == 2 and bool(lines) and len(lines[-1]) > parse.LONGEST,
        "output": case.status == 2 and case.output != "",
        "no skipped image": case.status == 1 and "skipped" not in case.errors,
        f"left {[path.name for path in left]}": case.status == 2 and bool(left),
    }
    return ", ".join(name for name, is_wrong in found.items() if is_wrong)


def files_in(out: Path, here: Path) -> list[Path]:
    """What a command left in both folders, which are empty after this."""
    left = [path for path in (out, *here.iterdir()) if path.exists()]
    for path in left:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return left


def fill(words: Sequence[str], place: Path, out: Path) -> list[str]:
    return [word.replace("{a}", str(place)).replace("{out}", str(out)) for word in words]


def check_flags(call, place: Path, tmp_path: Path, program: str, cases: Sequence[int]) -> None:
    wrong = []
    for i in cases:
        out = tmp_path / f"out{i}"
        words = fill(bad_flags(program, i), place, out)
        case = call(program, words)
        if found := faults(case, files_in(out, tmp_path / "here")):
            wrong.append(f"{i}: {found}: {[word[:60] for word in words]}\n{case.errors[-300:]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("program", PROGRAMS)
def test_bad_flags_end_with_one_line_and_leave_nothing(call, place, tmp_path, program):
    check_flags(call, place, tmp_path, program, range(7))


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_many_bad_flags_end_with_one_line_and_leave_nothing(call, place, tmp_path, program):
    check_flags(call, place, tmp_path, program, range(7, 680))


# ---- damaged files

FLAGS = {"--out": "{out}/o.png", "--classifier": "{a}/c.safetensors", "--steps": "1", "--class": "cat"}
EVALUATE = {"--classifier": "{a}/c.safetensors", "--num": "3", "--steps": "1"}
DAMAGED = {  # the words of a command that works, by the file that is damaged: {x}
    "a.png": ("synth.inpainting", {"A": "{x}", **FLAGS}),
    "m.png": ("synth.inpainting", {"A": "{a}/a.png", "--mask": "{x}", **FLAGS}),
    "a.npz": ("synth.inpainting", {"A": "{x}", "--num": "2", **FLAGS}),
    "d.npz": ("train.evaluate", {"--data": "npz:{x}", **EVALUATE}),
    "c.safetensors": ("train.evaluate", {"--data": "npz:{a}/d.npz", **EVALUATE, "--classifier": "{x}"}),
    "g.safetensors": ("synth.generation", {"--generator": "{x}", "--num": "1", "--out": "{out}/o.png"}),
}


def damage(content: bytes, rng: random.Random) -> bytes:
    """Bytes cut, changed, zeroed, added, doubled or removed."""
    at = rng.randrange(len(content)) if rng.random() < 0.5 else rng.randrange(min(len(content), 400))
    end = at + rng.choice((1, 2, 8, 64, 1000))
    other = bytes(rng.randrange(256) for _ in content[at:end])
    changed = [content[:at], content[:at] + other + content[end:], content[:at] + other + content[at:]]
    changed += [content[:at] + bytes(len(other)) + content[end:], content[:at] + content[end:], 2 * content]
    return rng.choice(changed)


def check_damage(call, place: Path, tmp_path: Path, name: str, cases: Sequence[int]) -> None:
    """Skipped images end a program with status 1."""
    program, flags = DAMAGED[name]
    words = [word for flag, value in flags.items() for word in ((flag, value) if flag != "A" else (value,))]
    wrong = []
    for i in cases:
        file = tmp_path / f"x{i}{Path(name).suffix}"
        file.write_bytes(damage((place / name).read_bytes(), random.Random(f"{name} {i}")))
        out = tmp_path / f"out{i}"
        case = call(program, [word.replace("{x}", str(file)) for word in fill(words, place, out)])
        if found := faults(case, files_in(out, tmp_path / "here")):
            wrong.append(f"{i}: {found}\n{case.errors[-300:]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_ends_with_one_line(call, place, tmp_path, name):
    check_damage(call, place, tmp_path, name, range(6))


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGED)
def test_many_damaged_files_end_with_one_line(call, place, tmp_path, name):
    check_damage(call, place, tmp_path, name, range(6, 120))


def check_runs(call, place: Path, tmp_path: Path, cases: Sequence[int]) -> None:
    """A damaged record of a run is refused, or its data are; a damaged log keeps its whole lines."""
    record = {
        "recipe": "cifar10-cpu",
        "data": "npz:nowhere",
        "batch_size": 16,
        "mean": [0.4],
        "image_size": None,
    }
    record |= {"epochs": 2, "classes": [], "num_images": 32, "data_dir": None, "judge": 4}
    log = b"".join(json.dumps({"step": i, "loss": 0.5}).encode() + b"\n" for i in range(8))
    out = tmp_path / "run"
    (out / "checkpoints").mkdir(parents=True)
    for i in cases:
        rng = random.Random(f"run {i}")
        (out / "run.json").write_bytes(damage(json.dumps(record).encode(), rng))
        before = (out / "run.json").read_bytes()
        case = call("train.train", ["--resume", "--out", str(out)])
        assert case.status == 2 and case.errors.count("\n") == 1, (i, before, case)
        assert len(case.errors) <= parse.LONGEST + 1 and "Traceback" not in case.errors
        assert (out / "run.json").read_bytes() == before and len(list(out.iterdir())) == 2
        (tmp_path / "log.jsonl").write_bytes(damage(log, rng))
        with train_log.continued(tmp_path / "log.jsonl", 5) as file:
            file.write(b"{}\n")
        lines = (tmp_path / "log.jsonl").read_bytes().splitlines()
        assert lines.pop() == b"{}" and all(json.loads(line)["step"] <= 5 for line in lines)


def test_damaged_runs_are_refused_and_damaged_logs_are_mended(call, place, tmp_path):
    check_runs(call, place, tmp_path, range(10))


@pytest.mark.slow
def test_many_damaged_runs_are_refused_and_damaged_logs_are_mended(call, place, tmp_path):
    check_runs(call, place, tmp_path, range(10, 300))
