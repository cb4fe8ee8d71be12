"""Every program, with bad flags and damaged files: it ends with one line, and leaves nothing.

Case i of a program depends on (program, i) alone. Most cases name a classifier or data that do not exist, so
that no value, however large, starts any work. More of them: `pytest -m slow tests/test_fuzz.py`.
"""

import contextlib
import dataclasses
import importlib
import io
import json
import os
import random
import shutil
import signal
import typing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import stores
import tensorflow_datasets as tfds
import tiny
from PIL import EpsImagePlugin
from PIL import Image as Pillow
from tensorflow_datasets.proto import tf_example_pb2

from rsynth_jax import messages
from rsynth_jax.cli import one_pass, parse, projection, run_log, translated
from rsynth_jax.data import tfrecord

SECONDS = 20  # of a case, at most
GONE = "nowhere"  # no classifier, data set or generator
EDIT = {"A": "{a}/a.png", "--classifier": GONE, "--steps": "1", "--out": "{out}/o.png"}
# Positional arguments have names without dashes.
PROGRAMS: dict[str, dict[str, str]] = {
    "train.train": {"--data": f"npz:{GONE}", "--out": "{out}/run", "--architecture": "tiny", "--judge": "4"},
    "train.train_generator": {"--data": f"npz:{GONE}", "--out": "{out}/run", "--recipe": "style"},
    "train.train_inverter": {"--data": f"npz:{GONE}", "--out": "{out}/run"},
    "train.train_segmenter": {"--data": f"folder:{GONE}", "--masks": GONE, "--out": "{out}/run"},
    "train.train_translator": {"--data": f"npz:{GONE}", "--out": "{out}/run"},
    "train.evaluate": {"--classifier": GONE, "--data": "npz:{a}/d.npz", "--json": "{out}/n.json"},
    "train.detect": {"--classifier": GONE, "--in": "{a}/a.npz", "--json": "{out}/n.json"},
    "train.import_classifier": {"FILE": "{a}/d.npz", "--out": "{out}/c.safetensors"},
    "train.export_classifier": {"NAME": GONE, "--out": "{out}/e.safetensors"},
    "synth.generation": {"--classifier": GONE, "--num": "1", "--steps": "1", "--out": "{out}/o.png"},
    "synth.seeding": {
        "NAME": GONE,
        "--data": "npz:{a}/d.npz",
        "--split": "test",
        "--out": "{out}/s.safetensors",
    },
    "synth.scoring": {"A": "{a}/a.npz", "B": "{a}/a.npz", "--features": GONE, "--json": "{out}/n.json"},
    "synth.refinement": {**EDIT, "--out": "{out}/o.npz"},
    "synth.inpainting": EDIT,
    "synth.painting": {**EDIT, "--stroke": "{a}/m.png:cat"},
    "synth.sketching": EDIT,
    "synth.superresolution": EDIT,
    "synth.translation": {**EDIT, "--to": "dog"},
    "synth.inversion": EDIT,
    "synth.visualisation": {"--classifier": GONE, "--classes": "cat", "--out": "{out}/o.png"},
    "synth.dissection": {"--generator": GONE, "--segmenter": GONE, "--out": "{out}/o.png"},
    "synth.generation by a generator": {"--generator": GONE, "--num": "1", "--out": "{out}/o.png"},
    "synth.generation by an inverter": {"--inverter": GONE, "--num": "1", "--out": "{out}/o.png"},
    "synth.inversion by a generator": {**EDIT, "--generator": "{a}/g.safetensors"},
    "synth.inversion by an inverter": {**EDIT, "--inverter": "{a}/i.safetensors"},
    "synth.translation by a translator": {
        "A": "{a}/a.png",
        "--to": "dog",
        "--translator": GONE,
        "--out": "{out}/o.png",
    },
}
VARIANTS = {
    "synth.inversion by a generator": projection.Options,
    "synth.inversion by an inverter": one_pass.Options,
    "synth.translation by a translator": translated.Options,
}
# In every other case the classifier is there, and what is read after it is gone.
LATER = {
    "--classifier": "{a}/c.safetensors",
    "--features": "{a}/c.safetensors",
    "--generator": "{a}/g.safetensors",
    "--inverter": "{a}/i.safetensors",
    "--translator": "{a}/t.safetensors",
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
NUMBERS += [
    "٣",
    "1e3",
    "-9223372036854775809",
    str(1 << 31),
    str(1 << 64),
    "1/3/5",
    "+1",
    "1 2",
    "½",
    "True",
    "none",  # and not None, by which tyro means no value: the program would do its work
]
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
PATHS += [
    "gs://bucket/o.png",
    "gs://bucket/run",
    "gs://bucket/none.npz",
    "gs://",
    "gs:/x",
    "s3://bucket/run",
    "bad://x",
    "://",
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
    pets(folder / "pets/1.0.0")
    with tiny.network(), stores.bucket():
        tiny.inverter(folder / "i.safetensors", tiny.release(folder / "c.safetensors", tiny.NAMES, "linear"))
        tiny.generator(folder / "g.safetensors")
        tiny.segmenter(folder / "s.safetensors")
        tiny.translator(folder / "t.safetensors")
        yield folder


def pets(folder: Path) -> None:
    """A TFDS data set of six images in TFRecord."""
    folder.mkdir(parents=True)
    features = {
        "image": tfds.features.Image(shape=tiny.SHAPE),
        "label": tfds.features.ClassLabel(names=tiny.NAMES),
    }
    features = tfds.features.FeaturesDict(features)
    features.save_metadata(str(folder), None)
    features.save_config(str(folder))
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    split = {"name": "test", "numBytes": "1", "shardLengths": ["6"], "filepathTemplate": template}
    info = {"name": "pets", "version": "1.0.0", "fileFormat": "tfrecord", "splits": [split]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    content = b""
    for i, image in enumerate(tiny.noise(6)):
        message, file = tf_example_pb2.Example(), io.BytesIO()
        Pillow.fromarray(image).save(file, "PNG")
        message.features.feature["image"].bytes_list.value.append(file.getvalue())
        message.features.feature["label"].int64_list.value.append(i % 3)
        record = message.SerializeToString()
        for part in (len(record).to_bytes(8, "little"), record):
            content += part + tfrecord.masked_crc32c(part)
    (folder / "pets-test.tfrecord-00000-of-00001").write_bytes(content)


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


def options_of(program: str) -> type:
    """The flags of a program."""
    if program in VARIANTS:
        return VARIANTS[program]
    return importlib.import_module(program.split()[0]).Options


def words_of(values: Mapping[str, str]) -> list[str]:
    """The words of values by flag; positional arguments first."""
    named = [word for name, value in values.items() if name.startswith("-") for word in (name, value)]
    return [*(value for name, value in values.items() if not name.startswith("-")), *named]


def bad_flags(program: str, i: int) -> list[str]:
    """The words of case i: the program's cheapest command with one or two things wrong."""
    rng = random.Random(f"{program} {i}")
    words = dict(PROGRAMS[program])
    if i % 2 and not program.startswith("train.train"):
        words |= {name: value for name, value in LATER.items() if name in words}
        words |= {"--class": GONE} if program.startswith("synth.generation") else {}
    extra: list[str] = []
    for _ in range(rng.choice((1, 1, 2))):
        flags = [flag for flag, _ in parse._flags(options_of(program))]
        flag = rng.choice([*flags, *(name for name in words if not name.startswith("-"))])
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
    return [*words_of(words), *extra]


def faults(case: Case, left: Sequence[Path]) -> str:
    """Everything wrong with the end of a command; bars of progress may precede its line."""
    lines = case.errors.splitlines()
    said = [line for line in lines if line.startswith("rsynth-")]
    found = {
        f"status {case.status}": case.status not in (0, 1, 2),
        "a traceback": "Traceback" in case.errors,
        "not one line": case.status == 2 and said != lines[-1:],
        "a long line": case.status == 2 and bool(lines) and len(lines[-1]) > messages.LONGEST,
        "output": case.status == 2 and case.output != "",
        "no skipped image": case.status == 1 and "skipped" not in case.errors,
        f"left {[path.name for path in left]}": case.status == 2 and bool(left),
    }
    return ", ".join(name for name, is_wrong in found.items() if is_wrong)


def files_in(out: Path, here: Path) -> list[Path]:
    """What a command left in both folders and in the store, which are empty after this."""
    left = [path for path in (out, *here.iterdir()) if path.exists()]
    for path in left:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    left += map(Path, stores.Bucket.store)
    stores.Bucket.store.clear()
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


# ---- whole numbers

UNREAD = {"view_shift", "fake_stride", "most_fake_steps"}  # by the recipe


def whole_flags(kind: type) -> Iterator[str]:
    """Every flag that is a whole number, or many, but seeds, which have 64 bits."""
    for field, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint) or hasattr(hint, "_fields"):
            yield from whole_flags(hint)
        elif int in (hint, *typing.get_args(hint)) and field not in UNREAD | {"seed"}:
            yield field


@pytest.mark.parametrize("number", [1 << 31, 10**7 + 1, 10**18])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_whole_number_that_no_machine_has_room_for_is_refused(call, place, tmp_path, program, number):
    fixed = fill([*words_of(PROGRAMS[program])], place, tmp_path / "out")
    for name in whole_flags(options_of(program)):
        flag = f"--{name.replace('_', '-')}"
        words = [word for i, word in enumerate(fixed) if flag not in (word, fixed[i - 1])]
        case = call(program, [*words, flag, str(number)])
        assert not faults(case, files_in(tmp_path / "out", tmp_path / "here")), (flag, case)
        assert f"is {number}: give" in case.errors or "is a flag of" in case.errors, case


# ---- damaged files

FLAGS = {"--out": "{out}/o.png", "--classifier": "{a}/c.safetensors", "--steps": "1", "--class": "cat"}
EVALUATE = {"--classifier": "{a}/c.safetensors", "--num": "3", "--steps": "1"}
SHEET = {"--num": "2", "--out": "{out}/o.png"}
DAMAGED = {  # the words of a command that works, by the file that is damaged: {x}
    "a.png": ("synth.inpainting", {"A": "{x}", **FLAGS}),
    "m.png": ("synth.inpainting", {"A": "{a}/a.png", "--mask": "{x}", **FLAGS}),
    "a.npz": ("synth.inpainting", {"A": "{x}", "--num": "2", **FLAGS}),
    "d.npz": ("train.evaluate", {"--data": "npz:{x}", **EVALUATE}),
    "c.safetensors": ("train.evaluate", {"--data": "npz:{a}/d.npz", **EVALUATE, "--classifier": "{x}"}),
    "s.safetensors": (
        "synth.dissection",
        {"--generator": "{a}/g.safetensors", "--segmenter": "{x}", **SHEET},
    ),
    "g.safetensors": ("synth.generation", {"--generator": "{x}", "--num": "1", "--out": "{out}/o.png"}),
    "i.safetensors": ("synth.inversion", {"A": "{a}/a.png", "--inverter": "{x}", "--out": "{out}/o.png"}),
    "t.safetensors": (
        "synth.translation",
        {"A": "{a}/a.png", "--to": "dog", "--translator": "{x}", "--out": "{out}/o.png"},
    ),
}
TFDS = {"--classifier": "{a}/c.safetensors", "--data": "tfds:pets", "--data-dir": "{x}", "--num": "3"}
TFDS_FILES = ("dataset_info.json", "features.json", "label.labels.txt", "pets-test.tfrecord-00000-of-00001")


def damage(content: bytes, rng: random.Random) -> bytes:
    """Bytes cut, changed, zeroed, added, doubled or removed."""
    at = rng.randrange(len(content)) if rng.random() < 0.5 else rng.randrange(min(len(content), 400))
    end = at + rng.choice((1, 2, 8, 64, 1000))
    other = bytes(rng.randrange(256) for _ in content[at:end])
    changed = [content[:at], content[:at] + other + content[end:], content[:at] + other + content[at:]]
    changed += [content[:at] + bytes(len(other)) + content[end:], content[:at] + content[end:], 2 * content]
    return rng.choice(changed)


def check_tfds(call, place: Path, tmp_path: Path, cases: Sequence[int]) -> None:
    """The numbers are those of the whole data set, or there are none; names of classes have no checksum."""
    folder = shutil.copytree(place / "pets", tmp_path / "pets") / "1.0.0"
    wrong, numbers, done = [], set(), 0
    for i in cases:
        out, rng = tmp_path / f"out{i}", random.Random(f"tfds {i}")
        name = rng.choice(TFDS_FILES) if i else None
        if name is not None:
            (folder / name).write_bytes(damage((folder / name).read_bytes(), rng))
        words = [*words_of(TFDS), "--attack", "pgd", "--steps", "1", "--json", "{out}/n.json"]
        case = call(
            "train.evaluate", [word.replace("{x}", str(tmp_path)) for word in fill(words, place, out)]
        )
        if case.status == 0:
            done += 1
            numbers.add(json.loads((out / "n.json").read_text())["clean"] if name != TFDS_FILES[2] else None)
        if found := faults(case, files_in(out, tmp_path / "here")):
            wrong.append(f"{i}: {name} {found}\n{case.errors[-300:]}")
        shutil.copytree(place / "pets/1.0.0", folder, dirs_exist_ok=True)
    assert not wrong, "\n".join(wrong)
    assert len(numbers - {None}) == 1 and done < len(cases) / 2


def test_damage_in_a_tfds_data_set_ends_with_one_line(call, place, tmp_path):
    check_tfds(call, place, tmp_path, range(12))


@pytest.mark.slow
def test_much_damage_in_a_tfds_data_set_ends_with_one_line(call, place, tmp_path):
    check_tfds(call, place, tmp_path, (0, *range(12, 300)))


@pytest.fixture
def ghostscript(tmp_path, monkeypatch) -> Path:
    """The file that a stand-in for Ghostscript makes, first on the path."""
    program = tmp_path / "bin/gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\necho 10.0\n")
    program.chmod(0o755)
    monkeypatch.setitem(os.environ, "PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # unknown, as in a new process
    return tmp_path / "started"


@pytest.mark.parametrize("name", [*DAMAGED, "a folder", "stroke", "data", "sheet.png"])
def test_postscript_at_any_door_starts_no_program(call, ghostscript, place, tmp_path, name):
    """Behind the names of images, arrays and releases."""
    eps = io.BytesIO()
    Pillow.fromarray(tiny.noise(1)[0]).save(eps, "EPS")
    folder = tmp_path / "train/cat"
    folder.mkdir(parents=True)
    file = folder / (name if "." in name else "a.png")
    file.write_bytes(eps.getvalue())
    others = {
        "a folder": ("synth.inpainting", {"A": str(folder), **FLAGS}),
        "stroke": ("synth.painting", {"A": "{a}/a.png", "--stroke": "{x}:cat", **FLAGS}),
        "data": ("train.train", {"--data": f"folder:{tmp_path}", "--out": "{out}/run"}),
        "sheet.png": ("synth.inversion", {"A": "{a}/a.png", "--to": "{x}", **FLAGS}),
    }
    others["stroke"][1].pop("--class")
    program, flags = (DAMAGED | others)[name]
    out = tmp_path / "out"
    case = call(program, [word.replace("{x}", str(file)) for word in fill(words_of(flags), place, out)])
    assert case.status == 2 and not faults(case, files_in(out, tmp_path / "here")), case
    assert not ghostscript.exists()
    with contextlib.suppress(OSError), Pillow.open(io.BytesIO(eps.getvalue())) as picture:
        picture.load()
    assert ghostscript.exists()  # the stand-in was a live one


def check_damage(call, place: Path, tmp_path: Path, name: str, cases: Sequence[int]) -> None:
    """Skipped images end a program with status 1."""
    program, flags = DAMAGED[name]
    words = words_of(flags)
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
        assert len(case.errors) <= messages.LONGEST + 1 and "Traceback" not in case.errors
        assert (out / "run.json").read_bytes() == before and len(list(out.iterdir())) == 2
        (tmp_path / "log.jsonl").write_bytes(damage(log, rng))
        with run_log.continued(tmp_path / "log.jsonl", 5) as file:
            file.write(b"{}\n")
        lines = (tmp_path / "log.jsonl").read_bytes().splitlines()
        assert lines.pop() == b"{}" and all(json.loads(line)["step"] <= 5 for line in lines)


def test_damaged_runs_are_refused_and_damaged_logs_are_mended(call, place, tmp_path):
    check_runs(call, place, tmp_path, range(10))


@pytest.mark.slow
def test_many_damaged_runs_are_refused_and_damaged_logs_are_mended(call, place, tmp_path):
    check_runs(call, place, tmp_path, range(10, 300))
