"""Read TFRecord files, the default format of TFDS, without TensorFlow.

records = Records(["cifar10-train.tfrecord-00000-of-00001"], parse)
records[0]  # parse(record), of bytes, a serialized tf.train.Example
"""

import functools
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, NamedTuple

import numpy as np

from rsynth_jax.storage import files, paths

_HEADER = struct.Struct("<Q4s")  # the length of a record and its checksum; the record's own follows it
_SUM = struct.Struct("<I")
_POLYNOMIAL = 0x82F63B78  # of CRC-32C (Castagnoli), its bits reversed
_ONES = bytes.fromhex("54641f64")  # bytes that fill the register with ones, from zero
_BLOCK = 2048  # bytes that are looked up at once; the table has 1 KiB for each
_ROWS = 256 * np.arange(_BLOCK)


class _Place(NamedTuple):
    path: str | os.PathLike[str]
    start: int
    length: int


class Records:
    """The records of TFRecord files, in order, each read, compared with its checksum and parsed when indexed.

    Raises ValueError if a file cannot be read, is cut, or is not what its checksums say.
    """

    @files.one_line_errors()
    def __init__(self, paths: Sequence[str | os.PathLike[str]], parse: Callable[[bytes], Any] = bytes):
        self._parse = parse
        self._places = [place for path in paths for place in _places(path)]

    def __len__(self) -> int:
        return len(self._places)

    @files.one_line_errors()
    def __getitem__(self, i: int) -> Any:
        place = self._places[i]
        with _opened(place.path) as file:
            file.seek(place.start)
            content, checksum = file.read(place.length), file.read(_SUM.size)
        if checksum != masked_crc32c(content):
            name = os.path.basename(place.path)
            raise ValueError(f"{name} is damaged at byte {place.start}: its checksum is another")
        return self._parse(content)


def masked_crc32c(content: bytes) -> bytes:
    """Compute the checksum of a TFRecord: CRC-32C, rotated by 15 bits, plus a constant; four bytes."""
    crc = crc32c(content)
    return _SUM.pack(((crc >> 15 | crc << 17) + 0xA282EAD8) % (1 << 32))


def crc32c(content: bytes) -> int:
    """Compute the CRC-32C of bytes (RFC 3720, appendix B.4).

    The register is linear in the bytes: the exclusive or of what each adds, by its distance from the end of
    its block. The register after the block before adds as the first four bytes do.
    """
    data = np.frombuffer(_ONES + content, np.uint8)
    first = len(data) % _BLOCK
    register = _register(data[:first])
    for block in data[first:].reshape(-1, _BLOCK):
        head = block[:4] ^ np.frombuffer(_SUM.pack(register), np.uint8)
        register = _register(np.concatenate([head, block[4:]]))
    return register ^ 0xFFFFFFFF


def _register(block: np.ndarray) -> int:
    """The register after a block of at most `_BLOCK` bytes, from zero."""
    table = _table()
    return int(np.bitwise_xor.reduce(table.take(block + _ROWS[_BLOCK - len(block) :])))


@functools.cache
def _table() -> np.ndarray:
    """What each value of each byte of a block adds to the register, uint32 (_BLOCK * 256,)."""
    last = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        last = last >> 1 ^ (last & 1) * np.uint32(_POLYNOMIAL)
    rows = [last]
    while len(rows) < _BLOCK:
        rows.append(rows[-1] >> 8 ^ last[rows[-1] & 255])
    return np.concatenate(rows[::-1])


def _opened(path: str | os.PathLike[str]) -> IO[bytes]:
    """A file to read parts of, in a store too."""
    return paths.of(path).open("rb") if paths.is_remote(path) else files.open_file(path)


def _places(path: str | os.PathLike[str]) -> Iterator[_Place]:
    """The places of the records of one file, found by their headers alone."""
    end = 0
    with _opened(path) as file:
        size = file.seek(0, os.SEEK_END) if paths.is_remote(path) else os.fstat(file.fileno()).st_size
        while end < size:
            file.seek(end)
            header = file.read(_HEADER.size)
            length, checksum = _HEADER.unpack(header) if len(header) == _HEADER.size else (size, b"")
            start = end + _HEADER.size
            end = start + length + _SUM.size
            if end > size or checksum != masked_crc32c(header[: -_SUM.size]):
                raise ValueError(f"{os.path.basename(path)} is cut or damaged at byte {start - _HEADER.size}")
            yield _Place(path, start, length)
