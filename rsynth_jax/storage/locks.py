"""Let one process at a time write into a folder.

    with held(folder, "another trainer is at work in runs/a: wait for it"):
        ...

The lock is the system's: it ends with the process, however that ends. A file system without locks has none,
nor has a store.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from rsynth_jax.storage import paths

LOCK = ".lock"  # its name inside the folder; gone when the work ends


@contextlib.contextmanager
def held(folder: Path, refusal: str, name: str = LOCK) -> Iterator[None]:
    """Hold the lock of this name of a folder, which is made, while the block lasts.

    Raises ValueError, with the text `refusal`, if another process holds it.
    """
    if paths.is_remote(folder):
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder / name, refusal, os.O_CREAT)
    try:
        yield
    finally:
        if lock is not None:
            (folder / name).unlink(missing_ok=True)  # first, for who opens it later gets another file
            os.close(lock)


def check_free(folder: Path, refusal: str) -> None:
    """Raise ValueError, with the text `refusal`, if another process holds the lock. Nothing is made."""
    if not paths.is_remote(folder) and (lock := _lock(folder / LOCK, refusal)) is not None:
        os.close(lock)


def _lock(path: Path, refusal: str, more: int = 0) -> int | None:
    """Open the lock file, with these flags more, and lock it; None where there is none, or no locking."""
    try:
        import fcntl

        lock = os.open(path, os.O_RDWR | more)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        own = os.path.samestat(os.fstat(lock), os.stat(path))
    except BlockingIOError:
        os.close(lock)
        raise ValueError(refusal) from None
    except FileNotFoundError:
        own = False
    except OSError:
        own = True  # and nothing is locked
    if own:
        return lock
    os.close(lock)  # of a process that ended meanwhile, and removed it
    return _lock(path, refusal, more)
