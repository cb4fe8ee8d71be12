"""Summaries of a training run for TensorBoard, Weights & Biases and trackio, each imported where it is used.

check(summaries)                                   # raises ValueError where a package is missing
with opened(summaries, out, step=0) as writers:
    for writer in writers:
        writer.scalars(20, {"loss": 0.5})
        writer.images(20, {"samples": sheet})
"""

import contextlib
import importlib
import importlib.util
import io
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from rsynth_jax.cli import training_run
from rsynth_jax.storage import files, paths

_PROTOS = "tensorboard.compat.proto"
IDENTITY = "{}-id"  # its name inside a run: the identity under which wandb or trackio continues it


class Writer(NamedTuple):
    """A place for summaries: two functions of a step and of numbers, or pictures, by name."""

    scalars: Callable[[int, Mapping[str, float]], object]
    images: Callable[[int, Mapping[str, Image.Image]], object]


class Summaries(NamedTuple):
    """Where summaries are written, each None by default."""

    logdir: str | None = None  # folder of TensorBoard's files.
    wandb: str | None = None  # project in Weights & Biases.
    trackio: str | None = None  # project in trackio, on this machine.


def check(summaries: Summaries) -> None:
    """Raise ValueError for a place whose package is missing, or whose folder cannot be written."""
    for flag, value in summaries._asdict().items():
        package = "tensorboard" if flag == "logdir" else flag
        if value is not None and importlib.util.find_spec(package) is None:
            raise ValueError(f"--{flag} needs the package {package}: pip install {package}")
    if summaries.logdir is not None:
        files.check_writable(paths.on_this_machine(summaries.logdir) / "events")


@contextlib.contextmanager
def opened(summaries: Summaries, out: Path, step: int) -> Iterator[list[Writer]]:
    """Open the places that are asked for, of a run that has done `step` steps.

    Args:
      out: the run's folder.
    """
    with contextlib.ExitStack() as stack:
        writers = [] if summaries.logdir is None else [tensorboard(Path(summaries.logdir), step)]
        writers += [] if summaries.wandb is None else [weights_and_biases(summaries.wandb, out, step)]
        writers += [] if summaries.trackio is None else [trackio(summaries.trackio, out, step)]
        yield [stack.enter_context(writer) for writer in writers]


@contextlib.contextmanager
def tensorboard(folder: Path, step: int) -> Iterator[Writer]:
    """Append a file of events to a folder; TensorBoard then drops what earlier ones have past `step`.

    Every event is in the file when the function returns. TensorFlow is not needed.
    """
    event, summary = (importlib.import_module(f"{_PROTOS}.{name}_pb2") for name in ("event", "summary"))
    records = importlib.import_module("tensorboard.summary.writer.record_writer")
    path = folder / f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
    failure = f"cannot write {path}"

    def encoded(picture: Image.Image) -> Any:
        content = io.BytesIO()
        picture.save(content, "PNG")
        size = {"width": picture.width, "height": picture.height, "colorspace": 3}
        return summary.Summary.Image(encoded_image_string=content.getvalue(), **size)

    with contextlib.ExitStack() as stack:
        with files.errors_as(failure):
            folder.mkdir(parents=True, exist_ok=True)
            file = records.RecordWriter(stack.enter_context(open(path, "ab", buffering=0)))

        def write(**content: Any) -> None:
            with files.errors_as(failure):
                file.write(event.Event(wall_time=time.time(), **content).SerializeToString())

        def values(step: int, kind: str, named: Mapping[str, Any]) -> None:
            found = [summary.Summary.Value(tag=name, **{kind: value}) for name, value in named.items()]
            write(step=step, summary=summary.Summary(value=found))

        write(file_version="brain.Event:2")
        write(step=step + 1, session_log=event.SessionLog(status=event.SessionLog.START))
        yield Writer(
            lambda step, numbers: values(step, "simple_value", numbers),
            lambda step, pictures: values(
                step, "image", {name: encoded(picture) for name, picture in pictures.items()}
            ),
        )


@contextlib.contextmanager
def weights_and_biases(project: str, out: Path, step: int) -> Iterator[Writer]:
    """Begin a run of a project, or go on with the one of this folder, whose run.json describes it."""
    identity = {"id": _identity("wandb", out, step), "name": out.name}
    folder = None if paths.is_remote(out) else out
    with _run("wandb", project, out, dir=folder, **identity) as writer:
        yield writer


@contextlib.contextmanager
def trackio(project: str, out: Path, step: int) -> Iterator[Writer]:
    """The same in trackio, which tells runs apart by their names, and prints where to see them."""
    name = f"{out.name}-{_identity('trackio', out, step)}"
    with (
        contextlib.redirect_stdout(sys.stderr),
        _run("trackio", project, out, name=name, embed=False) as writer,
    ):
        yield writer


def _identity(package: str, out: Path, step: int) -> str:
    """Draw the identity of a run that begins, and read that of one that goes on."""
    path = out / IDENTITY.format(package)
    if step == 0 or not path.exists():
        files.write(path, secrets.token_hex(8).encode())
    return path.read_text()


@contextlib.contextmanager
def _run(package: str, project: str, out: Path, **how: Any) -> Iterator[Writer]:
    """A run of a package with the functions of wandb."""
    imported = importlib.import_module(package)
    config = training_run.read_record(out)
    with files.errors_as(f"cannot begin a run of {package}"):
        run = imported.init(project=project, config=config, resume="allow", **how)
    try:
        yield Writer(
            lambda step, numbers: run.log(dict(numbers), step=step),
            lambda step, pictures: run.log(
                {name: imported.Image(picture) for name, picture in pictures.items()}, step=step
            ),
        )
    finally:
        run.finish()
