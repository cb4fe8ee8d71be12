"""The user's cache folder: compiled programs, and files that are published on the web.

path = fetch(Download("https://host/digits.gz", "9fb629c4189551a2d022fa330f9573f3"))  # downloaded once

The folder is $XDG_CACHE_HOME/rsynth_jax, or ~/.cache/rsynth_jax; downloads are in its folder `data`.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

from rsynth_jax import messages
from rsynth_jax.storage import files

_LARGEST = 1 << 28  # bytes of a download
_TIMEOUT = 60.0  # seconds without an answer


class Download(NamedTuple):
    """A published file: its address, and the MD5 that its publisher gives for it."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.url.rpartition("/")[2]


def folder() -> Path | None:
    """Return the cache folder, which may have to be made; None where it cannot be written."""
    try:
        found = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rsynth_jax"
        files.check_writable(found / "program")
    except (ValueError, RuntimeError):  # RuntimeError: no home
        return None
    return found


@files.one_line_errors()
def fetch(download: Download) -> Path:
    """Return the path of a file in the cache, which is downloaded first if it is not there.

    The file is written whole or not at all, and compared with its MD5, which finds accidents: readers must
    not trust the content. A download is announced on standard error.

    Raises:
      ValueError: there is no cache folder, the file cannot be downloaded, or its MD5 is another.
    """
    root = folder()
    if root is None:
        raise ValueError(f"no cache folder can be written for {download.name}: set XDG_CACHE_HOME to one")
    path = root / "data" / download.name
    if path.is_file():
        if _md5(files.read(path)) != download.md5:
            raise ValueError(f"{path} is damaged: its MD5 is not {download.md5}: remove it")
        return path
    print(f"downloading {download.url} to {path.parent}", file=sys.stderr)
    content = _downloaded(download, path.parent)
    if _md5(content) != download.md5:
        raise ValueError(f"the download of {download.url} is damaged: its MD5 is not {download.md5}")
    files.write(path, content)
    return path


def _downloaded(download: Download, place: Path) -> bytes:
    """The content at the address; a ValueError tells how to do without."""
    import http.client
    import urllib.request

    try:
        with urllib.request.urlopen(download.url, timeout=_TIMEOUT) as response:
            content = response.read(_LARGEST + 1)
            if len(content) > _LARGEST:
                raise ValueError("it is too large")
            return content
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        reason = messages.shown(str(getattr(reason, "strerror", None) or reason), 24)
        remedy = f"put it into {place}, MD5 {download.md5}"
        raise ValueError(f"cannot download {download.url} ({reason}): {remedy}") from error


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
