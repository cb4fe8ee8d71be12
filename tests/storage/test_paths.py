"""Paths of stores: etils is not needed for others, mistakes are one line, and files are whole."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import stores
import tiny
from numpy.testing import assert_array_equal
from tiny import refused

from rsynth_jax.storage import digests, files, paths, shards

BUCKET = "gs://bucket/folder"


@pytest.fixture
def bucket():
    with stores.bucket():
        yield paths.of(BUCKET)


@pytest.fixture
def disk(tmp_path):
    with stores.disk(tmp_path):
        yield paths.of("disk://bucket/folder")


def test_a_text_without_a_scheme_is_a_path_of_this_machine(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert paths.of("~/a") == Path("/home/me/a") and paths.of("gs:/a") == Path("gs:/a")
    assert type(paths.of("a/b.png")) is type(Path()) and not paths.is_remote(Path("gs://a"))


def test_etils_is_imported_for_a_store_alone():
    code = "import sys; from rsynth_jax.storage import paths; paths.of('a'); print('etils' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("text", ["bad://x", "://", "file:///tmp/a", "http://a/b.png"])
def test_a_store_that_is_not_known_is_refused(text):
    with refused(match="is not known to etils.epath, gs:// is"):
        paths.of(text)


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    def missing(name, **_):
        raise ImportError(f"Please install {name}fs to access Google Storage")

    monkeypatch.setattr("fsspec.filesystem", missing)
    monkeypatch.setattr("etils.epath.gpath._is_tf_installed", lambda: False)
    with refused(match="cannot use gs://bucket/a: Please install gcsfs"):
        paths.of("gs://bucket/a")


def test_paths_of_a_store_keep_their_scheme(bucket):
    assert str(bucket / "a.png") == f"{BUCKET}/a.png" and (bucket / "a.png").suffix == ".png"
    assert paths.of(bucket) is bucket and paths.absolute(BUCKET) == paths.absolute(bucket) == BUCKET


@pytest.mark.parametrize("place", ["bucket", "disk"])
def test_a_file_of_a_store_is_written_and_read(place, request):
    folder = request.getfixturevalue(place)
    out = folder / "a.npz"
    files.check_writable(out, folder / "b.json")
    with refused(match="another output goes there"):
        files.check_writable(out, out)
    images = tiny.noise(2)
    for _ in range(2):  # over what is there
        files.write_arrays(out, {"images": images})
    assert_array_equal(files.read_arrays(out, "images")["images"], images)
    assert digests.of_file(out) == digests.of_file(paths.of(str(out)))
    files.write(folder / "more" / "b.json", b"{}")
    digests.write_sums(folder)
    assert set(digests.read_sums(folder / digests.SUMS)) == {"a.npz", "more/b.json"}
    files.write(out, b"other")
    with refused(match=r"a\.npz is damaged"):
        digests.check_sums(folder)
    with refused(match=rf"no file {folder}"):
        files.read_arrays(folder / "none.npz", "images")


def test_a_write_that_fails_is_one_line(bucket, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("401: no access\nto the bucket")

    monkeypatch.setattr(stores.Bucket, "_open", fail)
    with refused(match="cannot write gs://bucket/folder/a: 401: no access"):
        files.write(bucket / "a", b"")
    with refused(match="cannot use gs://bucket/folder/a: 401: no access"):
        digests.of_file(bucket / "a")


@pytest.mark.parametrize("kind", ["npz", "png", "array_record"])
def test_shards_in_a_store_are_those_of_a_folder(bucket, tmp_path, kind):
    images, labels = tiny.noise(5), np.arange(5, dtype=np.int32) % 3
    plan = shards.Plan(kind, 2, 5, tiny.NAMES, {"seed": 0})

    def batches(runs):
        return (
            shards.Batch(row, images[row : row + 1], labels[row : row + 1]) for run in runs for row in run
        )

    for folder in (tmp_path / "here", bucket):
        assert shards.write(folder, plan, batches) == (0, 5)
    assert shards.read(bucket) == shards.read(tmp_path / "here")
    files.write(bucket / "shard-00001-of-00003.npz", b"damaged") if kind == "npz" else None
    if kind == "npz":
        with refused(match="is damaged, as its SHA-256 shows"):
            shards.write(bucket, plan, batches)
    paths.remove(bucket / shards.read(bucket).shards[1].file)
    assert shards.write(bucket, plan, batches) == (3, 2)
    image_of = shards.images_of(bucket, shards.read(bucket))
    assert_array_equal([image_of(row) for row in range(5)], images)
    assert_array_equal(shards.labels_of(bucket, shards.read(bucket)), labels)
