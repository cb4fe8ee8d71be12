"""Summaries of a training run for TensorBoard and Weights & Biases, each imported only where it is asked for.

check(flags)                                       # raises ValueError where a package is missing
with opened(flags, out, step=0) as writers:
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
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from rsynth_jax.cli import training_run
from rsynth_jax.storage import files, paths

_PROTOS = "tensorboard.compat.proto"
WANDB_ID = "wandb-id"  # its name inside a run: the identity under which Weights & Biases continues it


class Writer(NamedTuple):
    """A place for summaries: two functions of a step and of numbers, or pictures, by name."""

    scalars: Callable[[int, Mapping[str, float]], object]
    images: Callable[[int, Mapping[str, Image.Image]], object]


def check(logdir: str | None, wandb: str | None) -> None:
    """Raise ValueError for a place whose package is missing, or whose folder cannot be written."""
    for flag, value, package in (("logdir", logdir, "tensorboard"), ("wandb", wandb, "wandb")):
        if value is not None and importlib.util.find_spec(package) is None:
            raise ValueError(f"--{flag} needs the package {package}: pip install {package}")
    if logdir is not None:
        files.check_writable(paths.on_this_machine(logdir) / "events")


@contextlib.contextmanager
def opened(logdir: str | None, wandb: str | None, out: Path, step: int) -> Iterator[list[Writer]]:
    """Open the places that are asked for, of a run that has done `step` steps.

    Args:
      logdir: folder of TensorBoard's files.
      wandb: project in Weights & Biases.
      out: the run's folder.
    """
    with contextlib.ExitStack() as stack:
        places = [] if logdir is None else [tensorboard(Path(logdir), step)]
        places += [] if wandb is None else [weights_and_biases(wandb, out, step)]
        yield [stack.enter_context(place) for place in places]


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
    wandb = importlib.import_module("wandb")
    path = out / WANDB_ID
    if step == 0 or not path.exists():
        files.write(path, secrets.token_hex(8).encode())
    identity = {"id": path.read_text(), "resume": "allow", "name": out.name}
    with files.errors_as("cannot begin a run of wandb"):
        folder = None if paths.is_remote(out) else out
        run = wandb.init(project=project, dir=folder, config=training_run.read_record(out), **identity)
    try:
        yield Writer(
            lambda step, numbers: run.log(dict(numbers), step=step),
            lambda step, pictures: run.log(
                {name: wandb.Image(picture) for name, picture in pictures.items()}, step=step
            ),
        )
    finally:
        run.finish()
