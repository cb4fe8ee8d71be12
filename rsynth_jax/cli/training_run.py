"""The folder of a training run: its record, its lock, its checkpoints, and the flags that resume it.

    flags = parse_flags(Options, ["--resume", "--out", "RUN", "--epochs", "40"], RECIPES)
    check(flags, "classifier.safetensors")
    with begun(flags, start, **facts_of(flags, dataset)) as state:   # no other trainer has the folder
        save(flags.out, state, state, "lower --learning-rate")

The options of a training program are a dataclass with a default for every flag. Among its fields are
`recipe`, `data`, `out`, `resume`, `settings` (the recipe: a NamedTuple of values and groups of values) and
`reading` (`options.DataFlags`). Every field but `out`, `resume` and `system` is recorded. This module imports
nothing heavy.
"""

import contextlib
import dataclasses
import functools
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Annotated, Any, TypeVar

import numpy as np
from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli.parse import parse, value_of
from rsynth_jax.cli.run import Interrupted
from rsynth_jax.data.sources import Dataset
from rsynth_jax.storage import files, locks
from rsynth_jax.training.recipes import flat, replace

RECORD = "run.json"  # its name inside a run
LOG = "log.jsonl"  # its name inside a run
CHANGEABLE = {"epochs", "judge", "test_split", "sample_every", "data_dir"}  # by --resume; epochs upwards
_GROUPS = {"settings", "reading"}  # recorded value by value
_UNRECORDED = {"out", "resume", "system"}

_PLACES = (
    "tfds:NAME, folder:PATH (one folder a class, in train/ and test/, or trainA, trainB, testA, testB) or "
    "npz:FILE (train_images, ...)."
)
_TRAIN_SPLIT = "Split to train on; train[:90%] is a part, all is a folder or file without splits."
_RESUME = (
    "Continue the run in --out from its newest whole checkpoint, with the values of its run.json. Only "
    "--epochs (upwards), --judge, --test-split, --sample-every, --data-dir and the number of devices may be "
    "others; where the data moved, write their new place into run.json."
)
RecipeName = Annotated[str, arg(metavar="NAME", help="Name of the recipe.")]
Place = Annotated[str, arg(metavar="KIND:PLACE", help=_PLACES)]
TrainSplit = Annotated[str, arg(help=_TRAIN_SPLIT)]
TestSplit = Annotated[str, arg(help="Split to evaluate on after each epoch.")]
RunFolder = Annotated[Path, arg(help="The run's folder.")]
Resume = Annotated[bool, arg(help=_RESUME)]
Options = TypeVar("Options")
WriteCurves = Callable[[Path, Path], None]  # such as `plots.write_curves`


def parse_flags(
    options: type[Options],
    arguments: Sequence[str],
    recipes: dict[str, Any],
    adapt: Callable[[Any, str], Any] | None = None,
) -> Options:
    """Parse the flags, over the values of the run that they resume, or of the recipe that they name.

    Args:
      options: see the head of this module.
      arguments: the words after the command's name.
      recipes: the values of `settings`, by the name that --recipe gives.
      adapt: makes a recipe go on from what --start names, before its values become defaults.

    Raises:
      ValueError: no recipe has that name, or the record is damaged.
      SystemExit: see `parse`.
    """
    default: Any = options()
    out = Path(os.path.expanduser(value_of("out", arguments, str(default.out))))
    if "--resume" in arguments and (own := read_record(out)):
        with files.errors_as(f"cannot use {out / RECORD}"):
            default = _with_record(default, own)
    else:
        name = value_of("recipe", arguments, default.recipe)
        recipe = checks.named("recipe", name, recipes)
        if adapt is not None and (start := value_of("start", arguments, "")):
            recipe = adapt(recipe, start)
        default = dataclasses.replace(default, recipe=name, settings=recipe)
    return parse(options, arguments, default=default)


def made_of(options: Any) -> dict[str, Any]:
    """Return every flag that makes a run what it is, by name; a path as it is from any folder.

    Raises ValueError if there is no such classifier.
    """
    values = {name: getattr(options, name) for name in _names(options)} | dataclasses.asdict(options.reading)
    values |= flat(options.settings)
    paths = {name: _absolute(values[name]) for name in ("data", "data_dir") if values[name]}
    if values.get("classifier") is not None:
        paths["classifier"] = _classifier(values["classifier"])
    return values | paths


@contextlib.contextmanager
def begun(options: Any, new: Any, **facts: Any) -> Iterator[Any]:
    """Keep the folder for this run while the block lasts, and write everything that makes the run into it.

    Yields the newest whole state of the run to resume, like the new one, else the new one itself.

    Raises:
      ValueError: another trainer has the folder; nothing is written.
    """
    with locks.held(options.out, _busy(options.out)):
        state = restored(options, new)
        files.write_json(options.out / RECORD, made_of(options) | facts)
        yield state


def read_record(out: Path) -> dict[str, Any]:
    """Return the values that make a run, by name: of a run of 0.1.0 its recipe, and nothing of no run."""
    path = next((path for path in (out / RECORD, out / "recipe.json") if path.is_file()), None)
    if path is None:
        return {}
    with files.errors_as(f"cannot read {path}"):
        values = dict(json.loads(path.read_text()))
        return {name: tuple(value) if type(value) is list else value for name, value in values.items()}


def check(options: Any, output: str) -> None:
    """Raise ValueError unless the run's file `output` can be written, and a run is there only to resume."""
    from rsynth_jax.storage import train_states

    out = options.out
    if options.resume:
        _check_same(out, made_of(options))
    files.check_writable(out / output)
    held = (out / train_states.FOLDER).exists()
    if held and not options.resume:
        raise ValueError(f"{out} already holds a run: give --resume or another --out")
    if options.resume and not held:
        raise ValueError(f"nothing to resume in {out}: it has no checkpoints")
    locks.check_free(out, _busy(out))


def facts_of(options: Any, dataset: Dataset) -> dict[str, Any]:
    """Describe the training images for the record. Raises ValueError if the run to resume had others."""
    facts = {"num_images": len(dataset), "image_shape": dataset[0].image.shape}
    facts["class_names"] = dataset.class_names or ()
    if options.resume:
        _check_same(options.out, facts)
    return facts


def restored(options: Any, new: Any) -> Any:
    """Return the newest whole state of the run to resume, like the new one, else the new one itself."""
    from rsynth_jax.storage import train_states

    if not options.resume:
        return new
    return train_states.restore_state(options.out, new, functools.partial(print, file=sys.stderr))


def append(log: IO[bytes], record: Mapping[str, Any]) -> None:
    """Write a line of JSON to an unbuffered log. Raises ValueError if it cannot be written."""
    line = f"{json.dumps(record)}\n".encode()
    with files.errors_as(f"cannot write {log.name}"):
        if log.write(line) < len(line):
            raise OSError("the disk is full")


def check_finite(step: int, values: Any, remedy: str) -> None:
    """Raise ValueError if a number of a tree is NaN or infinite after `step` steps."""
    import jax

    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values)):
        raise ValueError(f"the loss or a weight is not finite at step {step}: {remedy}")


def save(out: Path, state: Any, weights: Any, remedy: str) -> None:
    """Write a checkpoint. Raises ValueError if a weight is not finite, or the disk is full.

    The checkpoints before it stay, and no part of it.
    """
    from rsynth_jax.storage import train_states

    check_finite(int(state.step), weights, remedy)
    path = out / train_states.FOLDER / str(int(state.step))
    hooks = sys.excepthook, sys.unraisablehook
    sys.excepthook = sys.unraisablehook = lambda *_: None  # Orbax's threads print how each of them failed
    try:
        train_states.save_state(out, state)
    except Exception as error:  # of many kinds, and the threads go on to fail
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        for part in path.parent.glob(f"{path.name}.orbax-checkpoint-tmp*"):
            shutil.rmtree(part, ignore_errors=True)
        known = [reason for reason in map(os.strerror, files.DISK) if reason in str(error)]
        raise ValueError(
            f"cannot write {path}: {(known or [error])[0]}; the checkpoints before it are whole"
        ) from error
    sys.excepthook, sys.unraisablehook = hooks


def finish(out: Path, state: Any, interrupted: Interrupted, closing: str, write_curves: WriteCurves) -> int:
    """Draw the log, print the closing line or how to continue; return the exit status."""
    write_curves(out / "curves.png", out / LOG)
    if interrupted.signal is None:
        print(closing)
        return 0
    print(f"stopped after step {int(state.step)}; continue with --resume --out {out}")
    return 128 + interrupted.signal


def _busy(out: Path) -> str:
    return f"another trainer is at work in {out}: wait for it, or give another --out"


def _check_same(out: Path, values: Mapping[str, Any]) -> None:
    """Raise ValueError for the first value that is not the run's own, unless it may change."""
    own = read_record(out)
    for name in (name for name in values if name in own and name not in CHANGEABLE):
        if values[name] != own[name]:
            mine, others = (f"{value!s:.40}" for value in (own[name], values[name]))
            raise ValueError(f"{name} is {others}: the run in {out} has {mine}, which --resume cannot change")
    least = own.get("epochs") or 0
    if (values.get("epochs") or least) < least:
        raise ValueError(f"epochs is {values['epochs']}: the run in {out} has {least}, give as many or more")


def _names(options: Any) -> list[str]:
    """The flags that are recorded, but for the groups."""
    names = (field.name for field in dataclasses.fields(options))
    return [name for name in names if name not in _GROUPS | _UNRECORDED]


def _with_record(options: Any, own: Mapping[str, Any]) -> Any:
    """The options with the recorded values in place of their own."""

    def pick(names: Any) -> dict[str, Any]:
        return {name: own[name] for name in names if name in own}

    recipe = type(options.settings)()
    settings = replace(recipe, **pick(flat(recipe)))
    reading = dataclasses.replace(options.reading, **pick(dataclasses.asdict(options.reading)))
    return dataclasses.replace(options, settings=settings, reading=reading, **pick(_names(options)))


def _classifier(name: str) -> str:
    """The name of a bundled classifier, or the path of another as it is from any folder."""
    from rsynth_jax.storage.release_files import CLASSIFIER, locate

    bundled = locate(name, CLASSIFIER).parent == CLASSIFIER.folder
    return name if bundled else os.path.abspath(name)


def _absolute(place: str) -> str:
    """A path, or the path of folder:PATH or npz:PATH, as it is from any folder."""
    kind, _, path = place.partition(":")
    if kind in ("folder", "npz"):
        return f"{kind}:{_absolute(path)}"
    return os.path.abspath(place) if kind != "tfds" and os.path.exists(place) else place
