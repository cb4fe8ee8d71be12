"""Files are written whole or not at all, and arrays are read without pickle."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tiny import refused

from rsynth_jax.storage import files


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_written_file_has_its_content_and_an_ordinary_mode(tmp_path):
    files.write(tmp_path / "new" / "deep" / "file", b"content")
    (tmp_path / "plain").touch()
    written = tmp_path / "new" / "deep" / "file"
    assert written.read_bytes() == b"content" and entries(written.parent) == {"file"}
    assert written.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(("where", "call"), [(os, "replace"), (Path, "write_bytes")])
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"]
)
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, where, call, error):
    def fail(*arguments):
        raise error

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(where, call, fail)
    for name in ("file", "other"):
        with pytest.raises((ValueError, KeyboardInterrupt)):
            files.write(tmp_path / name, b"new")
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"old" and entries(tmp_path) == {"file"}


def test_a_write_that_cannot_be_is_refused_with_the_reason(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "x", tmp_path / "file" / "deep" / "x"):
        with refused(match=f"cannot write {path}: .+"):
            files.write(path, b"")
    (tmp_path / "folder").mkdir()
    with refused(match="cannot write .*folder: Is a directory"):
        files.write(tmp_path / "folder", b"")
    assert entries(tmp_path) == {"file", "folder"}


def test_writable_paths_are_the_paths_that_write_can_write(tmp_path):
    (tmp_path / "file").touch()
    files.check_writable(None, tmp_path / "new", tmp_path / "deep" / "new", tmp_path / "file")
    for path in (tmp_path, tmp_path / "file" / "x", tmp_path / "file" / "deep" / "x", Path("/")):
        with refused(match=f"cannot write {path}: .+"):
            files.check_writable(tmp_path / "new", path)
    assert entries(tmp_path) == {"file"}


def test_written_arrays_are_read_back_without_pickle(tmp_path):
    arrays = {"images": np.arange(12, dtype=np.uint8).reshape(3, 2, 2), "names": np.array(["cat", "dog"])}
    files.write_arrays(tmp_path / "a.npz", arrays)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert set(file) == set(arrays)
        for name, array in arrays.items():
            assert_array_equal(file[name], array)


def test_optional_arrays_are_read_where_the_file_has_them(tmp_path):
    files.write_arrays(tmp_path / "a.npz", {"images": np.zeros(3), "labels": np.ones(3)})
    assert set(files.read_arrays(tmp_path / "a.npz", "images", optional=("labels", "names"))) == {
        "images",
        "labels",
    }
    with refused(match="has no array names: name them images and names"):
        files.read_arrays(tmp_path / "a.npz", "images", "names")


def test_importing_files_imports_no_jax():
    code = "import sys; import rsynth_jax.storage.files; print(*{'jax', 'flax', 'orbax'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
