"""Every function of the library that takes a path: what cannot be used is a ValueError in one line.

The same for a user without rights, in a process of its own: the library and the programs.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image as Pillow

from rsynth_jax import checks, messages
from rsynth_jax.data import image_files, masks, sources, tfrecord
from rsynth_jax.storage import (
    digests,
    extractors,
    files,
    generators,
    inverters,
    releases,
    segmenters,
    shards,
    state_dicts,
    train_states,
    translators,
)

ROOT = Path(__file__).parents[1]


def records(path: str) -> tfrecord.Records:
    """As `load`, which refuses an empty data set."""
    found = tfrecord.Records([path])
    checks.positive(num=len(found))
    return found


READERS: dict[str, Callable[[str], Any]] = {
    "a data set": sources.load,
    "a folder": lambda path: sources.load(f"folder:{path}", "train"),
    "arrays": lambda path: sources.load(f"npz:{path}"),
    "tfds": lambda path: sources.load("tfds:cifar10", data_dir=path),
    "an image": image_files.read_image,
    "a mask": image_files.read_mask,
    "a list": lambda path: image_files.listed(Path(path or "nowhere")),
    "tfrecord": lambda path: records(path),
    "a classifier": releases.load,
    "a generator": generators.load,
    "an inverter": inverters.load,
    "a segmenter": segmenters.load,
    "a folder of masks": lambda path: masks.load(path, path),
    "the classes of masks": lambda path: masks.read_classes(Path(path)),
    "a mask of classes": image_files.read_indices,
    "a translator": translators.load,
    "an extractor": extractors.load,
    "inception": lambda path: extractors.load(f"inception:{path}"),
    "lpips": extractors.load_lpips,
    "a state dict": state_dicts.read_state_dict,
    "an npz": lambda path: files.read_arrays(Path(path), "images"),
    "tensors": lambda path: files.read_tensors(Path(path)),
    "a checkpoint": lambda path: train_states.restore_state(Path(path), like=None),
    "shards": lambda path: shards.read(Path(path)),
    "a digest": lambda path: digests.of_file(Path(path)),
    "digests": lambda path: digests.check_sums(Path(path)),
}
WRITERS: dict[str, Callable[[str], Any]] = {
    "a file": lambda path: files.write(Path(path), b"x"),
    "an archive": lambda path: files.write_arrays(Path(path), {"a": np.zeros(2)}),
    "JSON": lambda path: files.write_json(Path(path), [1]),
    "a check": lambda path: files.check_writable(Path(path)),
}
PATHS = ["", "nowhere", "x" * 300, "y/" * 3000, "a\nb", "a\0b", "\udcff", "\x1b[31m", "~nobody/x", "/proc/x"]
PATHS += ["{loop}", "{loop}/x", "{file}/x", "{fifo}", "/dev/null", "/dev/zero", "/proc/self/mem", "/sys/x"]


def refusal(door: Callable[[str], Any], path: str) -> str:
    """The line that refuses a path."""
    with pytest.raises(ValueError) as caught:
        door(path)
    line = str(caught.value)
    assert line and len(line) <= messages.LONGEST and line.isprintable(), line
    return line


@pytest.fixture
def place(tmp_path, monkeypatch) -> Callable[[str], str]:
    """Puts the folder into a path, and the process into an empty one."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return lambda path: path.format_map({name: tmp_path / name for name in ("loop", "file", "fifo")})


@pytest.mark.parametrize("door", READERS)
def test_a_path_that_cannot_be_read_is_refused_in_one_line(place, door):
    for path in PATHS:
        refusal(READERS[door], place(path))
    assert not list(Path().iterdir())


@pytest.mark.parametrize("door", WRITERS)
def test_a_path_that_cannot_be_written_is_refused_in_one_line(place, door):
    for path in ("x" * 300, "a\0b", "{loop}", "{loop}/x", "{file}/x", "/proc/x", "/sys/x", "."):
        refusal(WRITERS[door], place(path))
    assert not list(Path().iterdir())


# ---- without rights

PROGRAMS = {  # by the path that is closed to the user
    "closed.png": "synth.inpainting closed.png --out /dev/null",
    "closed": "synth.inpainting closed --out /dev/null",
    "closed/a.png": "synth.inpainting closed/a.png --out /dev/null",
    "closed.npz": "synth.inpainting closed.npz --out /dev/null",
    "mask": "synth.inpainting a.png --mask closed.png --out /dev/null",
    "closed.safetensors": "synth.inpainting a.png --classifier closed.safetensors --out /dev/null",
    "closed/c.safetensors": "synth.inpainting a.png --classifier closed/c.safetensors --out /dev/null",
    "generator": "synth.generation --generator closed.safetensors --out /dev/null",
    "inverter": "synth.inversion a.png --inverter closed.safetensors --out /dev/null",
    "segmenter": "synth.dissection --generator faces --segmenter closed.safetensors --out /dev/null",
    "masks": "train.train_segmenter --data closed --masks closed --out run",
    "translator": "synth.translation a.png --to cat --translator closed.safetensors --out /dev/null",
    "data": "train.evaluate --data npz:closed.npz",
    "folder": "train.evaluate --data folder:closed",
    "tfds": "train.evaluate --data tfds:cifar10 --data-dir closed",
    "weights": "synth.scoring a.npz a.npz --features inception:closed.npz",
    "a run": "train.train --resume --out closed",
    "a new run": "train.train --data npz:a.npz --out closed/run",
    "output": "synth.inpainting a.png --out closed/o.png",
    "an output that exists": "synth.inpainting a.png --out closed.png",
    "json": "train.evaluate --data npz:a.npz --json closed/n.json",
    "npz": "synth.generation --class cat --num 1 --npz closed/n.npz",
    "shards": "synth.generation --class cat --num 1 --shards closed --out /dev/null",
    "here": "synth.inpainting a.png --out o.png --json o.json",
}
WITHOUT_RIGHTS = """
import contextlib, ctypes, importlib, io, json, sys
programs, closed = json.load(sys.stdin)
everything = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capset(*everything) == 0  # root without capabilities has no more rights than others
ended = {}
for name, words in programs.items():
    program, *sys.argv[1:] = words.split()
    errors, output = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
        try:
            importlib.import_module(program).main()
        except SystemExit as stopped:
            status = stopped.code
    ended[name] = [status, output.getvalue(), errors.getvalue()]
from test_doors import READERS, WRITERS
for name, door in [*READERS.items(), *WRITERS.items()]:
    for path in closed:
        try:
            door(path)
            ended[f"{name} {path}"] = [0, "", ""]
        except ValueError as error:
            ended[f"{name} {path}"] = [2, "", f"{error}\\n"]
json.dump(ended, sys.stdout)
"""


@pytest.fixture
def closed():
    """A folder that others may read but not write to, with files and a folder that they may not read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "closed").mkdir()
        Pillow.fromarray(tiny.noise(1)[0]).save(folder / "a.png")
        np.savez(folder / "a.npz", images=tiny.noise(2), test_images=tiny.noise(2), test_labels=[0, 1])
        for path in ("a.png", "c.safetensors"):
            (folder / "closed" / path).write_bytes((folder / "a.png").read_bytes())
        for suffix in ("png", "npz", "safetensors"):
            (folder / f"closed.{suffix}").write_bytes((folder / "a.png").read_bytes())
        for path in folder.glob("closed*"):
            path.chmod(0)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        for path in folder.glob("closed*"):
            path.chmod(0o755)


def listing(folder: Path) -> list[tuple]:
    return [(str(path), *path.stat()[:2], path.stat().st_mtime) for path in sorted(folder.rglob("*"))]


def test_a_user_without_rights_gets_one_line_and_writes_nothing(closed):
    before = listing(closed)
    names = [
        "closed",
        "closed.png",
        "closed.npz",
        "closed.safetensors",
        "closed/a.png",
        "closed/c.safetensors",
    ]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RIGHTS],
        input=json.dumps([PROGRAMS, names]),
        cwd=closed,
        env={
            "PYTHONPATH": f"{ROOT}:{ROOT}/tests",
            "HOME": str(closed / "closed"),
            "PATH": os.environ["PATH"],
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout)
    assert len(ended) == len(PROGRAMS) + len(names) * (len(READERS) + len(WRITERS))
    wrong = {name: end for name, end in ended.items() if end[:2] != [2, ""] or end[2].count("\n") != 1}
    assert wrong == {} and done.stderr == ""
    assert all(len(end[2]) <= messages.LONGEST + 1 for end in ended.values())
    assert listing(closed) == before
