"""Programs that write shards: the images of the command in memory, resumed, read again by other programs."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores
import tiny
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import NAMES, refused

from rsynth_jax.cli import run, sharded
from rsynth_jax.data import sources
from rsynth_jax.sampling import generators, runner
from rsynth_jax.storage import files, paths, shards
from rsynth_jax.storage import generators as generator_files
from synth import generation, inpainting, refinement, scoring, superresolution, translation

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A classifier, and images with labels, one of a folder unreadable."""
    place = tmp_path_factory.mktemp("shards")
    tiny.release(place / "c.safetensors", NAMES, "linear")
    tiny.release(place / "n.safetensors", NAMES)
    tiny.generator(place / "g.safetensors")
    tiny.pictures(place / "photos", tiny.noise(7), "damaged")
    return place


def options(kind: type, folder: Path, place: Path, **changed):
    asked = {"classifier": str(folder / "c.safetensors"), "batch_size": 8, "shard_size": 5}
    asked |= {"shards": place / "shards", "json": place / "n.json"} | changed
    return tiny.options(kind, **asked)


def images_of(folder: Path) -> tuple[np.ndarray, list]:
    """All images and labels of a folder of shards."""
    dataset = sources.labelled(sources.load(str(folder)))
    examples = [dataset[i] for i in range(len(dataset))]
    return np.stack([example.image for example in examples]), [example.label for example in examples]


def digests_of(folder: Path) -> list[str]:
    return [shard.sha256 for shard in shards.read(folder).shards]


def distance(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(np.int16(one) - other).max())


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory) -> Path:
    """Seven images of two classes each, in three shards."""
    out = tmp_path_factory.mktemp("made")
    asked = {"classes": ("cat", "dog"), "num": 7, "steps": 2, "out": out / "sheet.png"}
    assert generation.generate(options(generation.Options, folder, out, **asked)) == 0
    return out


def test_shards_hold_the_images_of_the_command_in_memory(folder, made, tmp_path):
    asked = {"classes": ("cat", "dog"), "num": 7, "steps": 2, "batch_size": 8}
    asked |= {"out": tmp_path / "sheet.png", "npz": tmp_path / "a.npz"}
    generation.generate(tiny.options(generation.Options, classifier=str(folder / "c.safetensors"), **asked))
    images, labels = images_of(made / "shards")
    with np.load(tmp_path / "a.npz") as arrays:
        assert labels == arrays["labels"].tolist() and distance(images, arrays["images"]) <= 1
    with Pillow.open(tmp_path / "sheet.png") as one, Pillow.open(made / "sheet.png") as other:
        assert distance(np.asarray(one), np.asarray(other)) <= 1
    manifest = json.loads((made / "shards/manifest.json").read_text())
    assert manifest["settings"]["class"] == ["cat", "dog"] and manifest["settings"]["seed"] == 0
    assert len(manifest["settings"]["classifier sha256"]) == 64
    numbers = json.loads((made / "n.json").read_text())
    assert (numbers["num"], numbers["kept"], numbers["made"]) == (14, 0, 14)


def test_the_same_command_makes_what_is_missing_and_another_is_refused(folder, made, tmp_path, capsys):
    before = {path.name: path.read_bytes() for path in (made / "shards").iterdir()}
    asked = {"classes": ("cat", "dog"), "num": 7, "steps": 2, "out": tmp_path / "sheet.png"}
    asked |= {"shards": made / "shards", "json": None}
    (made / "shards/shard-00001-of-00003.npz").unlink()
    generation.generate(options(generation.Options, folder, tmp_path, **asked))
    assert ": 14 images in 3 shards; 9 there before, 5 made in" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in (made / "shards").iterdir()} == before
    for changed, said in (
        ({"steps": 3}, "steps is 3: the shards in .* have 2"),
        ({"num": 8}, "num_images is 16"),
        ({"seed": 1}, "seed is 1"),
        ({"exact": True}, "exact is True"),
    ):
        with refused(match=said):
            generation.generate(options(generation.Options, folder, tmp_path, **asked | changed))


def test_an_image_of_a_generator_depends_on_its_seed_class_and_number_alone(folder, tmp_path):
    asked = {"generator": str(folder / "g.safetensors"), "truncation": 0.7}
    asked |= {"classes": ("dog", "cat"), "num": 6, "format": "array_record", "out": tmp_path / "sheet.png"}
    generation.generate(options(generation.Options, folder, tmp_path, **asked))
    images, labels = images_of(tmp_path / "shards")
    release = generator_files.load(str(folder / "g.safetensors"))
    drawn = generators.draw(release, ["dog", "cat"], 6, truncation=0.7)
    assert labels == drawn.labels.tolist() and distance(images, drawn.images) <= 1
    with refused(match="--mix makes a sheet of its own"):
        generation.generate(options(generation.Options, folder, tmp_path, **asked | {"mix": "all"}))


EDITS = {
    "superresolve": (superresolution, {"factor": 2, "demo": True}),
    "refine": (refinement, {}),
    "inpaint": (inpainting, {}),
    "translate": (translation, {"label": "dog"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", tiny.fast(EDITS, "superresolve", "refine"))
def test_a_folder_is_edited_into_shards_as_in_memory(folder, tmp_path, name):
    program, changed = EDITS[name]
    edit = getattr(program, name)
    asked = {"images": str(folder / "photos"), "steps": 1, "format": "png"} | changed
    sheet = {"sheet": tmp_path / "s.png"} if program is refinement else {"out": tmp_path / "s.png"}
    assert edit(options(program.Options, folder, tmp_path, **asked, **sheet)) == 1  # one is skipped
    images, labels = images_of(tmp_path / "shards")
    npz = {"out": tmp_path / "a.npz"} if program is refinement else {"npz": tmp_path / "a.npz", **sheet}
    edit(options(program.Options, folder, tmp_path, **asked | npz | {"shards": None, "format": "npz"}))
    with np.load(tmp_path / "a.npz") as arrays:
        assert labels == arrays["labels"].tolist() and distance(images, arrays["images"]) <= 1
    assert (tmp_path / "s.png").exists()


def test_shards_are_refined_towards_their_own_labels_and_scored(folder, made, tmp_path):
    asked = {"images": str(made / "shards"), "steps": 1}
    assert refinement.refine(options(refinement.Options, folder, tmp_path, **asked)) == 0
    assert images_of(tmp_path / "shards")[1] == 7 * [1] + 7 * [2]
    scored = {"generated": f"shards:{tmp_path / 'shards'}", "real": str(made / "shards")}
    scored |= {"features": str(folder / "c.safetensors"), "json": tmp_path / "s.json"}
    assert scoring.score(tiny.options(scoring.Options, **scored)) == 0
    assert json.loads((tmp_path / "s.json").read_text())["num_a"] == 14


@pytest.mark.slow
def test_everything_of_a_command_may_be_in_a_store(folder, made):
    with stores.bucket():
        place = paths.of("gs://bucket")
        (place / "c.safetensors").write_bytes((folder / "c.safetensors").read_bytes())
        asked: dict[str, Any] = {
            "classifier": "gs://bucket/c.safetensors",
            "classes": ("cat", "dog"),
            "num": 7,
        }
        asked |= {"steps": 2, "out": place / "sheet.png"}
        assert generation.generate(options(generation.Options, folder, place, **asked)) == 0
        assert digests_of(place / "shards") == digests_of(made / "shards")
        for images in ("gs://bucket/shards", "gs://bucket/each", "gs://bucket/a.npz"):
            flags = {"images": images, "classifier": "gs://bucket/c.safetensors", "steps": 1}
            flags |= {"out": place / "each.png", "each": True, "npz": place / "a.npz", "gif": place / "a.gif"}
            assert inpainting.inpaint(tiny.options(inpainting.Options, **flags)) == 0
        assert len(files.read_arrays(place / "a.npz", "images")["images"]) == 14


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"npz": "a.npz"}, "--npz keeps every image in memory"),
        ({"gif": "a.gif"}, "--gif keeps every image in memory"),
        ({"each": True}, "--each keeps"),
        ({"out": "a.gif"}, "--out FILE.gif keeps"),
        ({"format": "jpg"}, "no format named 'jpg': give one of npz, png, array_record"),
        ({"shard_size": 0}, "shard_size is 0"),
        ({"shards": None, "exact": True}, "--exact is a flag of --shards"),
    ],
)
def test_flags_that_do_not_go_together_are_refused_before_any_work(folder, tmp_path, changed, said):
    paths = {name: tmp_path / changed[name] for name in {"npz", "gif", "out"} & set(changed)}
    asked = {"out": tmp_path / "o.png"} | changed | paths
    with refused(match=said):
        generation.generate(options(generation.Options, folder, tmp_path, **asked))
    assert list(tmp_path.iterdir()) == []


# ---- the bytes of an image

ALONE = """
import sys, tiny
from pathlib import Path
from synth import generation
flags = dict(classifier=sys.argv[1], classes=("dog",), num=9, steps=3, exact=True)
flags |= dict(shards=Path(sys.argv[2]), out=Path(sys.argv[3]))
with tiny.network():
    generation.generate(tiny.options(generation.Options, **flags))
"""


def test_exact_bytes_do_not_depend_on_batch_size_and_classes(folder, tmp_path, monkeypatch):
    sizes, stream = [], runner.stream

    def counted(make, runs, num, size):
        sizes.append(size)
        return stream(make, runs, num, size)

    monkeypatch.setattr(runner, "stream", counted)
    one = exact_dogs(folder, tmp_path, "a", batch_size=3)
    many = exact_dogs(folder, tmp_path, "b", classes=("cat", "dog", "airplane"), num=11)
    assert sizes == [64, 64]
    assert_array_equal(one, many[11:20])


@pytest.mark.slow  # a process of its own
def test_exact_bytes_do_not_depend_on_devices(folder, tmp_path):
    """Eight devices here, one there, and as many threads."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "NPROC": "8"}
    environment["PYTHONPATH"] = f"{ROOT}:{ROOT / 'tests'}"
    words = [folder / "n.safetensors", tmp_path / "a", tmp_path / "s.png"]
    subprocess.run([sys.executable, "-c", ALONE, *words], env=environment, cwd=ROOT, check=True)
    assert_array_equal(images_of(tmp_path / "a")[0], exact_dogs(folder, tmp_path, "b"))


def exact_dogs(folder: Path, tmp_path: Path, name: str, **changed) -> np.ndarray:
    asked = {"classes": ("dog",), "num": 9, "steps": 3, "exact": True, "out": tmp_path / "s.png"}
    asked |= {"shards": tmp_path / name, "classifier": str(folder / "n.safetensors")} | changed
    generation.generate(options(generation.Options, folder, tmp_path, **asked))
    return images_of(tmp_path / name)[0]


CONTINUED = """
import sys, tiny
from pathlib import Path
from synth import generation
flags = dict(classifier=sys.argv[1], classes=("all",), num=int(sys.argv[4]), steps=1)
flags |= dict(shards=Path(sys.argv[2]), out=Path(sys.argv[3]), shard_size=5, exact=True)
with tiny.network():
    generation.generate(tiny.options(generation.Options, **flags))
"""


def check_kills(folder: Path, place: Path, kills: int) -> None:
    """Kill the program after a random time, again and again; its shards are those of one that was not."""
    rng = random.Random(0)
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-c", CONTINUED, folder / "n.safetensors"]
    for _ in range(kills):
        words = [*command, place / "killed", place / "s.png", str(5 * kills)]
        program = subprocess.Popen(words, cwd=ROOT, env=environment)
        before = len(list((place / "killed").glob("shard-*")))
        while program.poll() is None and len(list((place / "killed").glob("shard-*"))) == before:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.03)
        program.kill()
        program.wait()
    for name in ("killed", "whole"):
        words = [*command, place / name, place / "s.png", str(5 * kills)]
        subprocess.run(words, cwd=ROOT, env=environment, check=True)
    assert digests_of(place / "killed") == digests_of(place / "whole")
    assert sorted(path.name for path in (place / "killed").iterdir()) == sorted(
        path.name for path in (place / "whole").iterdir()
    )


@pytest.mark.slow
def test_a_program_that_is_killed_thirty_times_writes_the_same_shards(folder, tmp_path):
    check_kills(folder, tmp_path, 30)


def test_exact_work_is_divided_in_as_many_parts_on_every_machine(monkeypatch):
    monkeypatch.delenv("NPROC", raising=False)
    assert run.jax_settings(["--exact"])["NPROC"] == run.EXACT_THREADS
    assert "NPROC" not in run.jax_settings([])


def test_progress_without_a_terminal_is_lines_of_text(folder, made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sharded, "SECONDS", 0)
    asked = {"images": str(made / "shards"), "steps": 1, "num": 9}
    refinement.refine(options(refinement.Options, folder, tmp_path, **asked))
    said = capsys.readouterr().err
    (line,) = (line for line in said.splitlines() if line.startswith("shard 2 of 2, 9 of 9 images, "))
    assert line.endswith(" images/s, ETA 0 s") and "\x1b" not in said
