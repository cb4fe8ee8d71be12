"""What every benchmark of a classifier is asked, and how it keeps what it found.

rows = record.rows(path)  # of an earlier run
record.write(path, {"classifier": options.classifier, "rows": rows})
"""

import dataclasses
import json
import os
import platform
from pathlib import Path

from rsynth_jax.storage import files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is judged."""

    classifier: str = "cifar10"
    """A bundled classifier by name, a .safetensors file, or a training run."""
    data: str = "tfds:cifar10"
    """The data set of the classifier."""
    data_dir: str | None = None
    """Where TFDS data sets lie."""


def machine() -> str:
    """Where the figures come from."""
    return f"{platform.machine()}, {os.cpu_count()} cores"


def rows(path: Path) -> dict:
    """Those of an earlier run, none where there was none."""
    return json.loads(path.read_text())["rows"] if path.exists() else {}


def write(path: Path, numbers: dict) -> None:
    """The numbers, and the machine they come from, as JSON."""
    files.write_json(path, {"machine": machine()} | numbers, indent=1)
