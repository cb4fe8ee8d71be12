"""Flags, data, timings, tables and results of all benchmarks.

if __name__ == "__main__":
    run(Options, benchmark)
"""

import dataclasses
import functools
import inspect
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import tyro

from rsynth_jax.data import loader, sources
from rsynth_jax.data.loader import Arrays
from rsynth_jax.metrics import estimates
from rsynth_jax.metrics.estimates import Estimate
from rsynth_jax.sampling import embedding
from rsynth_jax.sampling.embedding import Embedding
from rsynth_jax.storage import extractors, files
from rsynth_jax.types import Bytes

RESULTS = Path(__file__).parent / "results"
BATCH = 50

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The data set."""

    data: str = "tfds:cifar10"
    """The data set of the classifier."""
    data_dir: str | None = None
    """The folder of TFDS data sets."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """The classifier and its data set."""

    classifier: str = "cifar10"
    """A bundled classifier by name, a .safetensors file, or a training run."""


def run(options: Any, benchmark: Callable[[Any], int | None]) -> None:
    """Parse the flags and run the benchmark, with each core as a device; exit with its status."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    sys.exit(benchmark(tyro.cli(options)))


def read(
    options: DataOptions, split: str, rows: slice = slice(None), image_size: int | None = None
) -> Arrays:
    """Read rows of a split of the data set into memory."""
    dataset = sources.labelled(sources.load(options.data, split, options.data_dir, image_size))
    return loader.in_memory(dataset.take(rows))


def embed(images: Bytes) -> Embedding:
    """Embed images by an ImageNet EfficientNet-Lite0, with which nothing here trains or samples.

    Needs the extra `[eval]`.
    """
    extractor = _efficientnet()
    return embedding.embed_images(extractor.model, extractor.variables, images, BATCH)


@functools.cache
def _efficientnet() -> extractors.Extractor:
    return extractors.load("efficientnet-lite0")


# Timings.


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """Call a function; its value, and the seconds until that was computed."""
    began = time.perf_counter()
    value = jax.block_until_ready(function())
    return value, time.perf_counter() - began


def interleaved(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Call every function once to compile, then time them in turn, round after round: seconds (rounds,)."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(1 + rounds):
        for name, function in runs.items():
            seconds[name].append(timed(function)[1])
    return {name: np.array(taken[1:]) for name, taken in seconds.items()}


# Results.


def machine() -> str:
    """Describe where the figures come from."""
    return f"{platform.machine()}, {os.cpu_count()} cores"


def write(path: Path, **content: Any) -> None:
    """Write the content and the machine as JSON."""
    files.write_json(path.with_suffix(".json"), {"machine": machine()} | content, indent=1)


def complete(
    path: Path, names: Iterable[str], measure: Callable[[str], dict], **content: Any
) -> dict[str, dict]:
    """Measure the rows that the JSON at `path` lacks, and write it after each: a run can be continued."""
    path = path.with_suffix(".json")
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for name in names:
        if name not in rows:
            rows[name] = measure(name)
            write(path, **content, rows=rows)
    return rows


def defaults(function: Callable, *names: str) -> dict[str, Any]:
    """The default values of a function's parameters."""
    parameters = inspect.signature(function).parameters
    return {name: parameters[name].default for name in names}


def estimate(samples: np.ndarray) -> Estimate:
    """The share of true samples, or the mean of others, with its 95 % interval."""
    return (estimates.share if samples.dtype == bool else estimates.mean)(samples)


def interval(found: Estimate, form: str = ".3g") -> str:
    """A value and its interval as text."""
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


def intervals(row: dict, columns: Iterable[str]) -> list[str]:
    """Columns of a row of the JSON as text."""
    return [interval(Estimate(**row[column])) for column in columns]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))
