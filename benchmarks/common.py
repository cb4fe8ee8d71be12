"""Flags, data, timings, sheets, tables and results of all benchmarks."""

import dataclasses
import functools
import inspect
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from rsynth_jax.cli.sheets import Page, draw, write_picture
from rsynth_jax.data import loader, sources
from rsynth_jax.data.loader import Arrays
from rsynth_jax.metrics import estimates
from rsynth_jax.metrics.estimates import Estimate
from rsynth_jax.models import embedding
from rsynth_jax.sampling import measures
from rsynth_jax.storage import extractors, files
from rsynth_jax.types import Bytes

MACHINE = f"{platform.machine()}, {os.cpu_count()} cores"
RESULTS = Path(__file__).parent / "results"
BATCH = 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    data: str = "tfds:cifar10"
    """The data set of the classifier."""
    data_dir: str | None = None
    """The folder of TFDS data sets."""
    num: int
    """Images; of each class where images are generated or translated."""
    out: Path
    """Written: OUT.json, OUT.png; images of the rows in the folder OUT."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    classifier: str = "cifar10"
    """A released classifier by name, a .safetensors file, or a training run."""


def main(options: Any) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Run the function if its file is the program: flags over default options, each core a device."""

    def decorate(benchmark: Callable[..., int | None]) -> Callable[..., int | None]:
        if benchmark.__module__ == "__main__":
            jax.config.update("jax_num_cpu_devices", os.cpu_count())
            cli = functools.partial(tyro.cli, type(options), default=options)
            if isinstance(options, dict):
                cli = functools.partial(tyro.extras.overridable_config_cli, options)
            sys.exit(benchmark(cli(description=sys.modules["__main__"].__doc__)))
        return benchmark

    return decorate


def read(options: DataOptions, split: str, rows: slice = slice(None), side: int | None = None) -> Arrays:
    dataset = sources.load(options.data, split, options.data_dir, side)
    return loader.in_memory(sources.labelled(dataset).take(rows))


def first_of_each_class(labels: np.ndarray, num: int) -> np.ndarray:
    """The rows of the first `num` of each class, class by class."""
    return np.concatenate([np.flatnonzero(labels == label)[:num] for label in range(labels.max() + 1)])


@functools.cache
def efficientnet() -> extractors.Extractor:
    return extractors.load("efficientnet-lite0")  # nothing here trains or samples with it


def embed(images: Bytes) -> embedding.Embedding:
    return embedding.embed_images(efficientnet().model, efficientnet().variables, images, BATCH)


def scores(images: Bytes, real: np.ndarray) -> dict[str, dict[str, float]]:
    """Score images against the features of real ones, as JSON stores the estimates."""
    return {name: found._asdict() for name, found in measures.compare(embed(images), real).items()}


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Call a function; its value, and the seconds until that was computed."""
    began = time.perf_counter()
    value = jax.block_until_ready(function())
    return value, time.perf_counter() - began


def interleaved(runs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Call every function once to compile, then time them in turn, round after round: seconds (rounds,)."""
    taken = [[timed(function)[1] for function in runs.values()] for _ in range(1 + rounds)]
    return dict(zip(runs, np.array(taken[1:]).T, strict=True))


def ratio(seconds: np.ndarray, reference: np.ndarray) -> Estimate:
    """The median and the quartiles of the ratios of two times, round by round."""
    value, low, high = np.quantile(seconds / reference, [0.5, 0.25, 0.75])
    return Estimate(float(value), float(low), float(high))


def write(path: Path, **content: Any) -> None:
    files.write_json(path.with_suffix(".json"), {"machine": MACHINE} | content, indent=1)


def complete(path: Path, names: Iterable[str], measure: Callable[[str], dict], **content: Any) -> dict:
    """Measure the rows that the JSON at `path` lacks, and write it after each: a run can be continued."""
    path = path.with_suffix(".json")
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for name in names:
        if name not in rows:
            rows[name] = measure(name)
            write(path, **content, rows=rows)
    return rows


def defaults(function: Callable, *names: str) -> dict[str, Any]:
    """The default values of a function's parameters, as JSON stores them."""
    values = {name: inspect.signature(function).parameters[name].default for name in names}
    return {name: getattr(value, "__name__", value) for name, value in values.items()}


def estimate(samples: np.ndarray) -> Estimate:
    return (estimates.share if samples.dtype == bool else estimates.mean)(samples)


def interval(found: Estimate, form: str = ".3g") -> str:
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


def intervals(row: dict, columns: Iterable[str]) -> list[str]:
    return [interval(Estimate(**row[column])) for column in columns]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def sheet(path: Path, cells: np.ndarray, names: Iterable[str], title: str) -> None:
    write_picture(path.with_suffix(".png"), draw(Page(cells, list(names), title)))
