"""SHA-256 of arrays and of files; the digests of a folder are in one file, in the format of `sha256sum`.

    write_sums(folder)                             # folder/SHA256SUMS: every file in it
    check_sums(folder)                             # raises ValueError for another content

`sha256sum -c SHA256SUMS` in the folder compares the same.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rsynth_jax.storage import files, paths

SUMS = "SHA256SUMS"


def of_content(arrays: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> str:
    """Hash the names, dtypes, shapes and bytes of arrays, and texts by name, whatever their order."""
    described = {name: [str(array.dtype), array.shape] for name, array in arrays.items()}
    total = hashlib.sha256(json.dumps([described, dict(texts)], sort_keys=True).encode())
    for name in sorted(arrays):
        total.update(arrays[name].tobytes())
    return total.hexdigest()


@files.one_line_errors()
def of_file(path: Path) -> str:
    """Hash the bytes of a file."""
    with files.open_file(path) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@files.one_line_errors()
def of_path(path: Path) -> str:
    """Hash a file, or the digests of the files of a folder, as `write_sums` lists them."""
    return hashlib.sha256(_listed(path).encode()).hexdigest() if path.is_dir() else of_file(path)


@files.one_line_errors()
def read_sums(path: Path) -> dict[str, str]:
    """Read a file of `sha256sum`: the digest of each name. Raises ValueError if a line is none of its."""
    lines = files.read(path).decode().removesuffix("\n").split("\n")
    pairs = (line.partition("  ") for line in lines)
    sums = {name: digest for digest, _, name in pairs}
    if not all(name and len(digest) == 64 for name, digest in sums.items()):
        raise ValueError(f"{path} is damaged: its lines must be a SHA-256, two spaces and a name")
    return sums


@files.one_line_errors()
def write_sums(folder: Path) -> None:
    """Write the digest of every file in a folder, and in its folders, into its SHA256SUMS."""
    files.write(folder / SUMS, _listed(folder).encode())


def check_sums(folder: Path) -> None:
    """Compare every file with SHA256SUMS. Raises ValueError for one that is missing, changed or not in it.

    Files whose names begin with a dot, which systems leave, are passed over.
    """
    sums = read_sums(folder / SUMS)
    for name in sorted({*sums, *_names(folder)}):
        if name not in sums or not (folder / name).is_file() or of_file(folder / name) != sums[name]:
            raise ValueError(f"{folder / name} is damaged: its SHA-256 is not the one in {SUMS}")


def _listed(folder: Path) -> str:
    return "".join(f"{of_file(folder / name)}  {name}\n" for name in _names(folder))


def _names(folder: Path) -> list[str]:
    remote = paths.is_remote(folder)
    found = paths.files_below(folder) if remote else (p for p in folder.rglob("[!.]*") if p.is_file())
    return sorted(name for path in found if (name := path.relative_to(folder).as_posix()) != SUMS)
