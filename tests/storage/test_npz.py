"""The arrays of an .npz are read within the memory; a file that claims more, or lies, is refused."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy
from numpy.testing import assert_array_equal
from tiny import refused

from rsynth_jax.storage import files, npz

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    content = io.BytesIO()
    npy.write_array_header_1_0(content, {"shape": shape, "fortran_order": False, "descr": dtype})
    return content.getvalue()


def archive(path: Path, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """An .npz whose one array, `images`, has that content."""
    with zipfile.ZipFile(path, "w", method) as written:
        written.writestr("images.npy", content)
    return path


def claiming(path: Path, size: int) -> Path:
    """The same archive with another size of its array in the directory at its end."""
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", size)
    path.write_bytes(content)
    return path


def refusal(path: Path) -> str:
    with refused(match=f"^cannot read {path} as an .npz of plain arrays: ") as caught:
        files.read_arrays(path, "images")
    return str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("array", [IMAGES, np.asfortranarray(IMAGES), np.array(7), np.array(["cat", "a"])])
def test_arrays_are_read_as_numpy_reads_them(tmp_path, save, array):
    save(tmp_path / "a.npz", images=array, other=IMAGES)
    found = npz.read(tmp_path / "a.npz")
    assert set(found) == {"images", "other"} and set(npz.read(tmp_path / "a.npz", ["other"])) == {"other"}
    assert found["images"].dtype == array.dtype and found["images"].flags.writeable
    assert_array_equal(found["images"], array)


def test_an_archive_that_claims_more_than_the_limit_is_refused_unread(tmp_path, monkeypatch):
    path = archive(tmp_path / "a.npz", header((10**6,)) + bytes(10**6))
    assert path.stat().st_size < 3000
    assert len(files.read_arrays(path, "images")["images"]) == 10**6
    monkeypatch.setattr(npz, "largest", lambda: 10**6)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *given: pytest.fail("it was read"))
    assert "its arrays claim 0.001 GB, more than half of this machine's memory, 0.0 GB" in refusal(path)


def test_only_the_arrays_that_are_read_count(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", images=IMAGES, other=np.zeros(10**6))
    monkeypatch.setattr(npz, "largest", lambda: 10**6)
    assert_array_equal(files.read_arrays(tmp_path / "a.npz", "images")["images"], IMAGES)


def test_the_limit_is_half_of_the_memory():
    assert 1e8 < npz.largest() < 1e14


@pytest.mark.parametrize(
    "shape", [(10**12, 4), (2**40,), (10**19,), (10**30, 10**30), (-6,), (7,), (0,), (2**63, 2)]
)
def test_a_header_that_claims_another_size_than_the_archive_is_refused(tmp_path, shape):
    assert "images claims " in refusal(archive(tmp_path / "a.npz", header(shape) + bytes(6)))


def test_a_type_of_huge_items_is_refused(tmp_path):
    assert "images claims " in refusal(archive(tmp_path / "a.npz", header((1,), "<U500000000") + bytes(8)))


def test_a_bomb_whose_directory_claims_less_is_not_inflated(tmp_path):
    path = archive(tmp_path / "a.npz", header((10**7,)) + bytes(10**7))
    assert "images claims 1e+07 bytes, and the archive 1e+06" in refusal(claiming(path, 10**6))
    small = archive(tmp_path / "b.npz", header((100,)) + bytes(10**7))
    assert "Bad CRC-32" in refusal(claiming(small, len(header((100,))) + 100))


def test_an_archive_that_claims_more_than_it_holds_is_refused(tmp_path):
    size = 10**6
    path = archive(tmp_path / "a.npz", header((size,)) + bytes(6))
    refusal(claiming(path, len(header((size,))) + size))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_zipfile_cannot_bound_is_refused(tmp_path, method):
    path = archive(tmp_path / "a.npz", header((6,)) + bytes(6), method)
    assert "images is compressed in an unknown way" in refusal(path)


def test_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.array([{}, None], object))
    assert "images holds Python objects" in refusal(tmp_path / "a.npz")
