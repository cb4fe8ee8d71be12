"""Files are written whole or not at all, and arrays are read without pickle."""

import os
import socket
import stat
import subprocess
import sys
import threading
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


def fail(error):
    def replacement(*arguments, **settings):
        raise error

    return replacement


@pytest.mark.parametrize(("where", "call"), [(os, "replace"), (Path, "chmod")])
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"]
)
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, where, call, error):
    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(where, call, fail(error))
    with pytest.raises((ValueError, KeyboardInterrupt)):
        files.write(tmp_path / "file", b"new")
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"old" and entries(tmp_path) == {"file"}
    monkeypatch.setattr(os, "replace", fail(error))
    with pytest.raises((ValueError, KeyboardInterrupt)):
        files.write(tmp_path / "other", b"new")
    assert entries(tmp_path) == {"file"}


def test_writable_paths_are_the_paths_that_write_can_write(tmp_path):
    (tmp_path / "file").touch()
    files.check_writable(None, tmp_path / "new", tmp_path / "deep" / "new", tmp_path / "file")
    assert entries(tmp_path) == {"file"}


def unwritable(folder: Path) -> dict[str, Path]:
    """Paths that are no place for a file, and links to two of them."""
    (folder / "file").touch()
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "linked").symlink_to(folder / "folder")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "socket"))
    names = ["folder", "linked", "socket", "loop", "file/x", "file/deep/x", "n" * 300]
    others = {
        "root": Path("/"),
        "proc": Path("/proc/x.png"),
        "deep": Path("/proc/sys/x/y"),
        "sys": Path("/sys/x"),
    }
    return {name: folder / name for name in names} | others


def test_what_is_no_place_for_a_file_is_refused_before_and_by_the_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    paths = unwritable(Path())
    before = entries(tmp_path)
    for path in paths.values():
        for call in (files.check_writable, lambda path: files.write(path, b"")):
            with refused(match=f"^cannot write {str(path)[:60]}.*: .+"):
                call(path)
    assert entries(tmp_path) == before and entries(tmp_path / "folder") == set()


def test_without_rights_a_path_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for place, reason in (
        (tmp_path / "file", "it is read-only"),
        (tmp_path, "is not a folder that can be writ"),
    ):
        with monkeypatch.context() as patch:  # root has all rights
            patch.setattr(os, "access", lambda path, mode, place=place: Path(path) != place)
            with refused(match=f"cannot write .*file: .*{reason}"):
                files.check_writable(tmp_path / "file")


def test_two_outputs_do_not_meet(tmp_path):
    (tmp_path / "link").symlink_to("a")
    a = tmp_path / "a"
    for other in (a, tmp_path / "link", tmp_path / "b" / ".." / "a", a / "b", tmp_path):
        with refused(match="cannot write .*"):
            files.check_writable(a, other)
    with refused(match="another output goes there"):
        files.check_writable(a / "b", a)
    files.check_writable(Path(os.devnull), a, Path(os.devnull))


def test_links_are_followed_and_stay(tmp_path):
    (tmp_path / "real").mkdir()
    for name in ("old", "new"):
        (tmp_path / name).symlink_to(Path("real") / name)
    (tmp_path / "real" / "old").write_bytes(b"old")
    for name in ("old", "new"):
        files.write(tmp_path / name, b"content")
        assert (tmp_path / name).is_symlink() and (tmp_path / "real" / name).read_bytes() == b"content"
    assert entries(tmp_path) == {"real", "old", "new"} and entries(tmp_path / "real") == {"old", "new"}


def test_a_replaced_file_keeps_its_permission_bits(tmp_path):
    path = tmp_path / "file"
    path.touch()
    for mode in (0o600, 0o664, 0o755):
        path.chmod(mode)
        files.write(path, b"content")
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_name_of_full_length_can_be_written(tmp_path):
    files.write(tmp_path / ("n" * 255), b"content")
    assert entries(tmp_path) == {"n" * 255}


def test_a_device_and_a_pipe_are_written_to_and_stay(tmp_path):
    null = Path(os.devnull)
    files.check_writable(null)
    files.write(null, b"content")
    assert stat.S_ISCHR(null.stat().st_mode) and files.is_stream(null) and not files.is_stream(tmp_path / "x")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    files.check_writable(pipe)  # does not wait for a reader
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    files.write(pipe, b"content")
    reader.join()
    assert found == [b"content"] and stat.S_ISFIFO(pipe.stat().st_mode) and entries(tmp_path) == {"pipe"}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
def test_an_open_file_is_written_to_where_it_is(tmp_path):
    (tmp_path / "link").symlink_to("/proc/self/fd")
    with (tmp_path / "log").open("w+b") as log:
        log.write(b"before ")
        log.flush()
        (tmp_path / "log").unlink()
        for path in (Path(f"/dev/fd/{log.fileno()}"), tmp_path / "link" / str(log.fileno())):
            assert files.is_stream(path) and not files.is_output(path)
            files.write(path, b"content ")
        log.seek(0)
        assert log.read() == b"before content content " and entries(tmp_path) == {"link"}
    with refused(match="cannot write /dev/fd/999: "):
        files.check_writable(Path("/dev/fd/999"))


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full")
def test_a_full_device_is_named():
    with refused(match="cannot write /dev/full: No space left on device"):
        files.write(Path("/dev/full"), b"content")


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


def test_tensors_come_back_whatever_their_order_in_memory(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    files.write_tensors(tmp_path / "t", {"c": array, "f": array.T, "s": array[:, ::2], "n": array[0, 0]}, {})
    found = files.read_tensors(tmp_path / "t").arrays
    for name, expected in {"c": array, "f": array.T, "s": array[:, ::2], "n": array[0, 0]}.items():
        assert_array_equal(found[name], expected)
        assert found[name].shape == expected.shape


def test_a_reason_is_one_line_that_can_be_shown_and_is_cut():
    with refused(match=r"^it failed: \?\[31mred \.\.\.$"), files.errors_as("it failed"):
        raise TypeError("\x1b[31mred ...\nand more")
    with refused() as caught, files.errors_as("it failed"):
        raise RuntimeError("x" * 1000)
    assert len(str(caught.value)) < 200 and str(caught.value).endswith("x ...")
    with refused(match="^it failed: 'name' is missing, or unknown$"), files.errors_as("it failed"):
        raise KeyError("name")


def test_importing_files_imports_no_jax():
    code = "import sys; import rsynth_jax.storage.files; print(*{'jax', 'flax', 'orbax'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_does_not_have_are_refused(tmp_path, value):
    with refused(match=r"cannot write .*n\.json"):
        files.write_json(tmp_path / "n.json", {"a": [1.0, {"b": value}]})
    assert not list(tmp_path.iterdir())


def test_what_a_killed_write_left_is_removed_and_nothing_else(tmp_path):
    kept = [tmp_path / ".lock", tmp_path / "below" / "a.npz", tmp_path / f".{'0' * 15}"]
    for path in (*kept, tmp_path / f".{'0a' * 8}", tmp_path / "below" / f".{'f' * 16}"):
        files.write(path, b"")
    files.remove_temporaries(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(kept)
