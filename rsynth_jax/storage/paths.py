"""A path of this machine, or of a store that `etils.epath` knows, such as gs://bucket/folder.

    path = of("runs/cifar10")                      # a pathlib.Path
    path = of("gs://bucket/runs/cifar10")          # an etils.epath.Path, which has most of its methods
    content = path.read_bytes()

A store has no links, devices, permissions, locks or appending. etils is imported for a text with :// alone.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Text = str | os.PathLike[str]


def is_remote(path: Text) -> bool:
    """Whether a path, or its text, names a place in a store."""
    return not isinstance(path, Path) and "://" in str(path)


def of(text: Text) -> Path:
    """Return the path of a text, whose ~ is the home.

    Raises ValueError for a store that is not known, whose package is not installed, or that does not answer.
    """
    if not is_remote(text):
        return Path(os.path.expanduser(text))
    if not isinstance(text, str):
        return text  # pyright: ignore[reportReturnType]
    from etils import epath

    try:
        path: Any = epath.Path(text)
    except KeyError:
        scheme = text.partition("://")[0]
        raise ValueError(f"cannot use {text}: {scheme}:// is not known to etils.epath, gs:// is") from None
    try:
        path.is_dir()  # the first request: its errors are of many kinds, and name a package that is missing
    except Exception as error:
        reason, *_ = str(error).splitlines() or [type(error).__name__]
        raise ValueError(f"cannot use {text}: {reason}") from error
    return path


def on_this_machine(text: Text) -> Path:
    """Return the path of a text, as `of`. Raises ValueError for one in a store."""
    if is_remote(text):
        raise ValueError(f"cannot use {text}: it must be on this machine: copy it there first")
    return of(text)


def absolute(text: Text) -> str:
    """Return the text of a path as it is from any folder; one in a store is so already."""
    return str(text) if is_remote(text) else os.path.abspath(text)


def is_file(text: Text) -> bool:
    """Whether there is a file; unlike `Path.is_file`, False for a name that no file can have."""
    return of(text).is_file() if is_remote(text) else os.path.isfile(text)


def children(folder: Path) -> list[Path]:
    """List what is in a folder. A store may count the folder among it."""
    return [path for path in folder.iterdir() if path != folder]


def files_below(folder: Path) -> Iterator[Path]:
    """List the files in a folder of a store, and in its folders, but those whose names begin with a dot."""
    for path in children(folder):
        if path.is_dir():
            yield from files_below(path)
        elif not path.name.startswith("."):
            yield path


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
    elif is_remote(path):
        path.rmtree()  # pyright: ignore[reportAttributeAccessIssue]
    else:
        shutil.rmtree(path)


@contextlib.contextmanager
def copied(path: Path) -> Iterator[Path]:
    """Yield a file for what reads files of this machine alone: itself, or a copy while the block lasts."""
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(path.read_bytes())
        yield copy


@contextlib.contextmanager
def made_beside(folder: Path, name: str) -> Iterator[Path]:
    """Yield a path of this machine to make what `move` then brings into the folder.

    It is in the folder, under this name; for one in a store in a temporary folder.
    """
    if not is_remote(folder):
        yield folder / name
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary) / name


def move(made: Path, path: Path) -> None:
    """Rename a file or a folder to `path`, or write it there, file by file, where that is in a store."""
    if not is_remote(path):
        os.replace(made, path)
    elif made.is_file():
        path.write_bytes(made.read_bytes())
    else:
        for file in made.iterdir():
            (path / file.name).write_bytes(file.read_bytes())
