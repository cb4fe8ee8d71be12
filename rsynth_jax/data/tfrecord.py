"""Read TFRecord files, the default format of TFDS, without TensorFlow.

records = Records(["cifar10-train.tfrecord-00000-of-00001"], parse)
records[0]  # parse(record), of bytes, a serialized tf.train.Example
"""

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

_HEADER = struct.Struct("<QI")  # the length of a record and its checksum; four bytes of another follow it


class _Place(NamedTuple):
    path: str | os.PathLike[str]
    start: int
    length: int


class Records:
    """The records of TFRecord files, in order, each read and parsed where it is indexed.

    Raises ValueError if a file is cut, OSError if it cannot be read. Checksums are not compared.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]], parse: Callable[[bytes], Any] = bytes):
        self._parse = parse
        self._places = [place for path in paths for place in _places(path)]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, i: int) -> Any:
        place = self._places[i]
        with open(place.path, "rb") as file:
            file.seek(place.start)
            return self._parse(file.read(place.length))


def _places(path: str | os.PathLike[str]) -> Iterator[_Place]:
    """The places of the records of one file, found by their headers alone."""
    size = os.path.getsize(path)
    end = 0
    with open(path, "rb") as file:
        while end < size:
            file.seek(end)
            header = file.read(_HEADER.size)
            length = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else size
            start = end + _HEADER.size
            end = start + length + 4
            if end > size:
                raise ValueError(f"{path} is cut or damaged")
            yield _Place(path, start, length)
