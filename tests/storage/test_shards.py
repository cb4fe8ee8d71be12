"""Shards of images: every image once, whatever the batches, the kills and the order; nothing else is read."""

import itertools
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tiny import refused

from rsynth_jax.data import sources
from rsynth_jax.storage import digests, locks, paths, shards
from rsynth_jax.storage.shard_formats import FORMATS, Batch
from rsynth_jax.storage.shards import MANIFEST, Plan

ROOT = Path(__file__).parents[2]
NAMES = ("cat", "hoofed vehicle", "日本")
PLAN = Plan("npz", 4, 10, NAMES, {"seed": 0, "classes": ("cat",)})


def images(rows: range, channels: int = 3) -> np.ndarray:
    """Image i depends on i alone."""
    return np.stack([np.random.default_rng(i).integers(0, 256, (6, 5, channels), np.uint8) for i in rows])


def stream(runs: list[range], size: int = 3, channels: int = 3) -> Iterator[Batch]:
    for run in runs:
        for first in range(run.start, run.stop, size):
            rows = range(first, min(first + size, run.stop))
            yield Batch(first, images(rows, channels), np.array(rows, np.int32) % 3)


def content(folder: Path) -> dict[str, bytes]:
    """Every file, by its name."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def examples(dataset: sources.Dataset) -> list[sources.Example]:
    return [dataset[i] for i in range(len(dataset))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "shards"
    assert shards.write(folder, PLAN, stream) == (0, 10)
    return folder


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", FORMATS)
def test_any_batches_make_the_same_shards_of_every_format(tmp_path, name, channels):
    plan = PLAN._replace(format=name)
    for size in (1, 4, 7, 20):
        shards.write(tmp_path / str(size), plan, lambda runs, size=size: stream(runs, size, channels))
    first, *others = (content(tmp_path / str(size)) for size in (1, 4, 7, 20))
    assert all(other == first for other in others)
    manifest = shards.read(tmp_path / "1")
    assert manifest.plan._replace(settings=PLAN.settings) == plan
    assert [(shard.first, shard.end) for shard in manifest.shards] == [(0, 4), (4, 8), (8, 10)]
    for shard in manifest.shards:
        assert digests.of_path(tmp_path / "1" / shard.file) == shard.sha256
    image_of = shards.images_of(tmp_path / "1", manifest)
    order = [9, 0, 5, 4, 1, 8, 2, 3, 7, 6]
    assert_array_equal(np.stack([image_of(i) for i in order]), images(range(10), channels)[order])
    assert_array_equal(shards.labels_of(tmp_path / "1", manifest), np.arange(10) % 3)


@pytest.mark.parametrize("num", [2, 3])
def test_processes_that_share_the_shards_make_those_of_one(whole, tmp_path, num):
    barrier = threading.Barrier(num)

    def work(index: int, num: int) -> shards.Written:
        return shards.write(tmp_path, PLAN, stream, shards.Crew(index, num, barrier.wait))

    with ThreadPoolExecutor(num) as executor:
        assert set(executor.map(work, range(num), [num] * num)) == {(0, 10)}
        assert content(tmp_path) == content(whole)
        (tmp_path / "shard-00001-of-00003.npz").unlink()
        assert set(executor.map(work, range(num), [num] * num)) == {(6, 4)}
    assert content(tmp_path) == content(whole)


def test_a_killed_crew_is_continued_by_one_process(whole, tmp_path):
    shards.write(tmp_path, PLAN, stream)
    for index in range(2):  # as two processes leave it that never met
        manifest = json.loads((whole / MANIFEST).read_text())
        manifest["shards"] = manifest["shards"][index : index + 1]
        (tmp_path / (f"{MANIFEST}-{index}" if index else MANIFEST)).write_text(json.dumps(manifest))
    (tmp_path / "shard-00002-of-00003.npz").unlink()
    assert shards.write(tmp_path, PLAN, stream) == (8, 2)
    assert content(tmp_path) == content(whole)


def test_a_folder_of_shards_is_a_data_set_of_which_two_shards_are_in_memory(whole, monkeypatch):
    dataset = sources.load(str(whole))
    assert dataset.class_names == NAMES and len(dataset) == 10
    reads = []
    read = FORMATS["npz"].read
    monkeypatch.setitem(
        FORMATS, "npz", FORMATS["npz"]._replace(read=lambda path: (reads.append(path.name), read(path))[1])
    )
    found = examples(sources.labelled(dataset))
    assert_array_equal(np.stack([example.image for example in found]), images(range(10)))
    assert [example.label for example in found] == [i % 3 for i in range(10)] and len(reads) == 3
    labels = sources.labels_for(dataset.first(4), ("日本", "cat", "dog", "hoofed vehicle"))
    assert labels is not None and labels.tolist() == [1, 3, 0, 1]
    assert sources.load(f"shards:{whole}", image_size=2)[9].image.shape == (2, 2, 3)
    part = sources.load(str(whole), "all[:50%]")
    assert len(part) == 5
    with refused(match="holds shards: it has no split 'test'"):
        sources.load(str(whole), "test")


@pytest.mark.parametrize("after", range(4))
def test_a_stopped_writer_goes_on_where_it_stopped(tmp_path, whole, after):
    def stopped(runs):
        yield from itertools.islice(stream(runs), after)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards.write(tmp_path, PLAN, stopped)
    with refused(match=rf"has {3 * after // 4 * 4} of 10 images: run its command again"):
        shards.read(tmp_path)
    asked = []
    kept, made = shards.write(tmp_path, PLAN, lambda runs: (asked.extend(runs), stream(runs, 5))[1])
    assert kept == 3 * after // 4 * 4 and kept + made == 10
    assert asked == [range(kept, 10)] and content(tmp_path) == content(whole)


def test_only_what_is_gone_is_made_again(tmp_path, whole):
    for name, data in content(whole).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "shard-00001-of-00003.npz").unlink()
    (tmp_path / ".making").mkdir()
    asked = []
    shards.write(tmp_path, PLAN, lambda runs: (asked.extend(runs), stream(runs))[1])
    assert asked == [range(4, 8)] and content(tmp_path) == content(whole)
    assert shards.write(tmp_path, PLAN._replace(command="again"), lambda runs: pytest.fail("made")) == (10, 0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"settings": {"seed": 1, "classes": ["cat"]}}, "seed is 1: the shards in .* have 0"),
        ({"settings": {"seed": 0}}, r"classes is None: the shards in .* have \['cat'\]"),
        ({"num_images": 11}, "num_images is 11: .* have 10"),
        ({"format": "png"}, "format is png: .* have npz"),
        ({"shard_size": 5}, "shard_size is 5: .* have 4"),
    ],
)
def test_another_plan_is_refused_by_the_setting_and_changes_nothing(whole, changed, said):
    before = content(whole)
    with refused(match=said):
        shards.write(whole, PLAN._replace(**changed), stream)
    assert content(whole) == before


@pytest.mark.parametrize("name", FORMATS)
def test_a_changed_shard_is_named_and_made_again_when_it_is_deleted(tmp_path, name):
    plan = PLAN._replace(format=name)
    shards.write(tmp_path, plan, stream)
    before = content(tmp_path)
    path = tmp_path / next(file for file in before if file.startswith("shard-00001"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with refused(match="shard-00001-of-00003"):
        examples(sources.load(str(tmp_path)))
    with refused(match="shard-00001-of-00003.* is damaged.*: delete it, and the same command makes it again"):
        shards.write(tmp_path, plan, stream)
    paths.remove(tmp_path / path.relative_to(tmp_path).parts[0])
    assert shards.write(tmp_path, plan, stream) == (6, 4) and content(tmp_path) == before


def test_one_process_at_a_time_writes(tmp_path):
    with locks.held(tmp_path, "busy"), refused(match="another process writes shards into"):
        shards.write(tmp_path, PLAN, stream)
    assert shards.write(tmp_path, PLAN, stream).made == 10 and not (tmp_path / locks.LOCK).exists()


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        (lambda runs: itertools.islice(stream(runs), 2), "the batches end: image 6 is the next one"),
        (lambda runs: itertools.islice(stream(runs), 1, None), "go on with image 3: image 0 is the next"),
    ],
)
def test_batches_that_leave_images_out_are_refused(tmp_path, batches, said):
    with refused(match=said):
        shards.write(tmp_path, PLAN, batches)


def test_a_shard_that_cannot_be_written_is_named_and_the_others_stay(tmp_path, monkeypatch):
    def full(path, shard, names):
        if shard.first == 4:
            raise OSError(28, "No space left on device")
        FORMATS["png"].write(path, shard, names)

    monkeypatch.setitem(FORMATS, "npz", FORMATS["npz"]._replace(write=full))
    with refused(match="cannot write .*shard-00001-of-00003.npz: No space left on device"):
        shards.write(tmp_path, PLAN, stream)
    assert (tmp_path / "shard-00000-of-00003.npz").exists() and not (tmp_path / ".making").exists()


def check_damage(folder: Path, whole: Path, cases: range) -> None:
    """A changed byte of any file is refused in one line, or changes no image and no label."""
    shown = [
        (example.image.tobytes(), example.label) for example in sources.labelled(sources.load(str(whole)))
    ]
    files = content(whole)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    for i in cases:
        rng = random.Random(i)
        name = rng.choice([MANIFEST, MANIFEST, *files])
        at = rng.randrange(len(files[name]))
        changed = (
            files[name][:at] + bytes([rng.randrange(256)]) * rng.choice((1, 1, 3)) + files[name][at + 1 :]
        )
        (folder / name).write_bytes(changed)
        try:
            found = examples(sources.labelled(sources.load(str(folder))))
            assert [(image.tobytes(), label) for image, label in found] == shown, (i, name, at)
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) <= 200
        (folder / name).write_bytes(files[name])


def test_a_damaged_folder_is_refused_or_read_as_it_was(tmp_path, whole):
    check_damage(tmp_path, whole, range(60))


@pytest.mark.slow
def test_a_folder_damaged_in_many_ways_is_refused_or_read_as_it_was(tmp_path, whole):
    check_damage(tmp_path, whole, range(60, 3000))


@pytest.mark.parametrize("file", ["../x.npz", "/etc/passwd", "a/b"])
def test_a_manifest_names_no_file_elsewhere(tmp_path, whole, file):
    manifest = json.loads((whole / MANIFEST).read_text())
    manifest["shards"][0]["file"] = file
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with refused(match="not a file of the folder"):
        sources.load(str(tmp_path))


# ---- kills

WRITE = """
import sys, time
from pathlib import Path
import numpy as np
from rsynth_jax.storage import shards
def batches(runs):
    for run in runs:
        for i in run:
            print(i, flush=True)
            time.sleep(0.002)
            yield shards.Batch(i, np.full((1, 4, 4, 3), i, np.uint8), np.zeros(1, np.int32))
shards.write(Path(sys.argv[1]), shards.Plan("npz", 4, 100, ("cat",), {}), batches)
"""


def check_kills(folder: Path, kills: int) -> None:
    """Kill the writer after a random time, again and again; its shards are those of one that was not."""
    rng = random.Random(0)
    command = [sys.executable, "-c", WRITE]
    for _ in range(kills):
        writer = subprocess.Popen([*command, folder / "killed"], cwd=ROOT, stdout=subprocess.PIPE)
        assert writer.stdout is not None and writer.stdout.readline()
        time.sleep(rng.random() * 0.02)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert writer.returncode == -signal.SIGKILL
    for name in ("killed", "whole"):
        subprocess.run([*command, folder / name], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert content(folder / "killed") == content(folder / "whole")
    manifest = shards.read(folder / "killed")
    image_of = shards.images_of(folder / "killed", manifest)
    assert [int(image_of(i).max()) for i in range(100)] == list(range(100))


def test_a_writer_that_is_killed_leaves_whole_shards_and_goes_on(tmp_path):
    check_kills(tmp_path, 2)


@pytest.mark.slow
def test_a_writer_that_is_killed_thirty_times_writes_the_same_shards(tmp_path):
    check_kills(tmp_path, 30)
