"""The user's cache folder: compiled programs, and files that are published on the web.

path = fetch(Download("https://host/digits.gz", "9fb629c4189551a2d022fa330f9573f3"))  # downloaded once

The folder is $XDG_CACHE_HOME/rsynth_jax, or ~/.cache/rsynth_jax; data sets are in its folder `data`, released
networks in `releases`.
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
    """A published file.

    Attributes:
      url: its address.
      digest: what its publisher gives for it, in hexadecimal.
      algorithm: of the digest, MD5 or SHA256.
      folder: of the cache that it is kept in.
    """

    url: str
    digest: str
    algorithm: str = "MD5"
    folder: str = "data"

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

    The file is written whole or not at all, and compared with its digest. An MD5 finds accidents alone:
    readers must not trust the content. A download is announced on standard error.

    Raises:
      ValueError: there is no cache folder, the file cannot be downloaded, or its digest is another.
    """
    path = place(download)
    wrong = f"its {download.algorithm} is not {download.digest}"
    if path.is_file():
        if _digest(download, files.read(path)) != download.digest:
            raise ValueError(f"{path} is damaged: {wrong}: remove it")
        return path
    print(f"downloading {download.url} to {path.parent}", file=sys.stderr)
    content = _downloaded(download, path.parent)
    if _digest(download, content) != download.digest:
        raise ValueError(f"the download of {download.url} is damaged: {wrong}")
    files.write(path, content)
    return path


def place(download: Download) -> Path:
    """Return the path of a file in the cache, there or not. Raises ValueError without a cache folder."""
    root = folder()
    if root is None:
        raise ValueError(f"no cache folder can be written for {download.name}: set XDG_CACHE_HOME to one")
    return root / download.folder / download.name


def _downloaded(download: Download, to: Path) -> bytes:
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
        raise ValueError(f"cannot download {download.url} ({reason}): put it into {to}") from error


def _digest(download: Download, content: bytes) -> str:
    return hashlib.new(download.algorithm.lower(), content, usedforsecurity=False).hexdigest()
