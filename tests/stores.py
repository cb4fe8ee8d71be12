"""Stand-ins for stores: gs:// in memory, and disk://, a folder of this machine, which Orbax can write too.

with stores.bucket():
    paths.of("gs://bucket/file").write_bytes(b"")
with stores.disk(tmp_path):
    paths.of("disk://bucket/file")  # tmp_path / "bucket/file"
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from etils.epath import backend, gpath, register
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry


class Bucket(MemoryFileSystem):
    """What gcsfs is for Google's store."""

    protocol = ("gs", "gcs")
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path):
        path = path.removeprefix("gs://").strip("/")
        return f"/{path}" if path else ""


@contextlib.contextmanager
def bucket() -> Iterator[None]:
    """Meanwhile gs:// is empty memory of this process."""
    cache: Any = backend.fsspec_backend._get_filesystem
    with (
        mock.patch.dict(_registry, {"gcs": Bucket}),
        mock.patch.object(gpath, "_is_tf_installed", lambda: False),
    ):
        cache.cache_clear()
        yield
    cache.cache_clear()
    Bucket.store.clear()
    Bucket.pseudo_dirs[:] = [""]


@contextlib.contextmanager
def disk(root: Path) -> Iterator[None]:
    """Meanwhile disk:// is a folder, whose files have folders without being told."""

    class Disk(gpath.PosixGPath):
        def __str__(self):
            return f"disk://{super().__str__().removeprefix(f'{root}/')}"

        def as_posix(self):
            return os.fspath(self)

        def open(self, mode="r", **settings):
            if "r" not in mode:
                self.parent.mkdir(parents=True, exist_ok=True)
            return super().open(mode, **settings)

    known: Any = {"disk://": lambda text: Disk(text.replace("disk://", f"{root}/"))}
    with (
        mock.patch.dict(register._URI_PREFIXES_TO_CLS, known),
        mock.patch.object(register, "_PATHLIKE_CLS", (*register._PATHLIKE_CLS, Disk)),
    ):
        yield
