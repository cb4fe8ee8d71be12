"""Read the arrays of an .npz without pickle, no more of them than memory holds.

    arrays = read(path, ("images", "labels"))      # ValueError before a byte of a zip bomb is inflated

A compressed file of some megabytes can claim terabytes of zeros.
"""

import math
import os
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # `zipfile` inflates these no further than it is asked


def largest() -> int:
    """Return the bytes of arrays that are read: half of the physical memory, the rest is to work on them."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def read(path: Path | IO[bytes], names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Read the arrays of these names that the file has, all for None.

    Raises ValueError if they claim more than `largest()` bytes, or if the sizes that the archive and an
    array claim differ; zipfile.BadZipFile and others for a file that is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        wanted = {name: entry for name, entry in entries.items() if names is None or name in names}
        claimed, most = sum(entry.file_size for entry in wanted.values()), largest()
        if claimed > most:
            reason = f"half of this machine's memory, {most / 1e9:.1f} GB"
            raise ValueError(f"its arrays claim {claimed / 1e9:.4g} GB, more than {reason}")
        return {name: _read_array(archive, name, entry) for name, entry in wanted.items()}


def _read_array(archive: zipfile.ZipFile, name: str, entry: zipfile.ZipInfo) -> np.ndarray:
    """Read an array whose header claims as many bytes as the archive, which `zipfile` never exceeds."""
    if entry.compress_type not in _BOUNDED:
        raise ValueError(f"{name[:40]} is compressed in an unknown way: save it by numpy.savez_compressed")
    with archive.open(entry) as stream:
        shape, _, dtype = _READERS[npy.read_magic(stream)](stream)
        if dtype.hasobject:
            raise ValueError(f"{name[:40]} holds Python objects: save plain arrays")
        size = stream.tell() + math.prod(shape) * dtype.itemsize
    if size != entry.file_size:
        raise ValueError(f"{name[:40]} claims {size:.4g} bytes, and the archive {entry.file_size:.4g} of it")
    with archive.open(entry) as stream:
        return npy.read_array(stream, allow_pickle=False)
