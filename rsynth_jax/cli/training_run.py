"""The folder of a training run: its record, its lock, its checkpoints, and the flags that resume it.

    flags = parse_flags(Options, ["--resume", "--out", "RUN", "--epochs", "40"], RECIPES)
    check(flags, "classifier.safetensors")
    with begun(flags, start, **facts_of(flags, dataset)) as state:   # no other trainer has the folder
        ...

The options of a training program are a dataclass with a default for every flag. Among its fields are
`recipe`, `data`, `out`, `resume`, `settings` (the recipe: a NamedTuple of values and groups of values),
`reading` (`options.DataFlags`), `keeping` (`KeepFlags`) and `hosts` (`HostFlags`). Every field but `out`,
`resume`, `system` and `hosts` is recorded. This module imports nothing heavy.
"""

import contextlib
import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_type_hints

from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import hosts
from rsynth_jax.cli.classifiers import RANDOM
from rsynth_jax.cli.parse import parse, value_of
from rsynth_jax.cli.run import Interrupted
from rsynth_jax.data import archives
from rsynth_jax.data.sources import KINDS, Dataset
from rsynth_jax.storage import files, locks, paths
from rsynth_jax.training.recipes import flat, replace

if TYPE_CHECKING:
    from rsynth_jax.cli.writers import Summaries

RECORD = "run.json"  # its name inside a run
LOG = "log.jsonl"  # its name inside a run
CHANGEABLE = {"epochs", "judge", "test_split", "sample_every", "data_dir"}  # by --resume; epochs upwards
CHANGEABLE |= {"judge_every", "save_every", "on_nan", "logdir", "wandb", "trackio"}
_GROUPS = {"settings", "reading", "keeping"}  # recorded value by value
_PATHS = ("data", "data_dir", "masks", "test_data", "test_masks", "logdir")  # recorded from any folder
_UNRECORDED = {"out", "resume", "system", "hosts"}

_PLACES = (
    "cifar10, cifar100 or mnist (downloaded, or cifar10:FILE.tar.gz, mnist:FOLDER), tfds:NAME, folder:PATH "
    "(one folder a class, in train/ and test/, or trainA, trainB, testA, testB) or npz:FILE (train_images)."
)
_TRAIN_SPLIT = (
    "Split to train on; train[:90%] is a part, all is a folder or file without splits. In a folder without "
    "splits train is 90 % of each class, and test the rest."
)
_RESUME = (
    "Continue the run in --out from its newest whole checkpoint, or from the start where it has none yet, "
    "with the values of its run.json. Only --epochs (upwards), --judge, --judge-every, --test-split, "
    "--sample-every, --data-dir, --save-every, --on-nan, --logdir, --wandb, --trackio and the number of "
    "devices may be others; where the data moved, write their new place into run.json."
)
_RECIPE = "Name of the recipe, or a file: the run.json (recipe.json) of a run, whose recipe is taken."
RecipeName = Annotated[str, arg(metavar="NAME", help=_RECIPE)]
Place = Annotated[str, arg(metavar="KIND:PLACE", help=_PLACES)]
TrainSplit = Annotated[str, arg(help=_TRAIN_SPLIT)]
TestSplit = Annotated[str, arg(help="Split to evaluate on after each epoch.")]
RunFolder = Annotated[Path, arg(help="The run's folder.")]
Resume = Annotated[bool, arg(help=_RESUME)]
_UNITS = {"s": 1, "m": 60, "h": 3600}  # of a time, in seconds
Options = TypeVar("Options")
WriteCurves = Callable[[Path, Path], None]  # such as `plots.write_curves`


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeepFlags:
    """How a run is kept and watched."""

    save_every: Annotated[str | None, arg(metavar="TIME")] = None
    """Also write a checkpoint when so much time has passed since the last: 90s, 10m, 2h."""
    on_nan: Annotated[str, arg(metavar="NAME")] = "stop"
    """After a step whose loss is above 1e6, NaN or infinite, or that leaves a weight so: stop, or skip, which
    drops the step and counts it."""
    logdir: Annotated[str | None, arg(metavar="DIR")] = None
    """Also write the numbers, and a sheet of samples at each epoch or snapshot, for TensorBoard."""
    wandb: Annotated[str | None, arg(metavar="PROJECT")] = None
    """Also send them to a project of Weights & Biases."""
    trackio: Annotated[str | None, arg(metavar="PROJECT")] = None
    """Also write them to a project of trackio, on this machine."""

    @property
    def summaries(self) -> "Summaries":
        """Where summaries are written."""
        from rsynth_jax.cli.writers import Summaries

        return Summaries(self.logdir, self.wandb, self.trackio)

    @property
    def seconds(self) -> float | None:
        """The time of --save-every. Raises ValueError if it is none."""
        if self.save_every is None:
            return None
        number, unit = self.save_every[:-1], self.save_every[-1:]
        with contextlib.suppress(ValueError, KeyError):
            seconds = float(number) * _UNITS[unit]
            if 0 < seconds < checks.LARGEST:
                return seconds
        raise ValueError(f"save_every is {self.save_every:.40}: give a time above 0, such as 90s, 10m or 2h")

    def check(self) -> None:
        """Raise ValueError for a value that makes no sense, and for summaries that cannot be written."""
        from rsynth_jax.cli import run_log, writers

        _ = self.seconds
        checks.named("on_nan", self.on_nan, run_log.GUARDS)
        writers.check(self.summaries)


def parse_flags(
    options: type[Options],
    arguments: Sequence[str],
    recipes: dict[str, Any],
    adapt: Callable[[Any, str], Any] | None = None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
) -> Options:
    """Parse the flags, over the values of the run that they resume, or of the recipe that they name.

    Args:
      options: see the head of this module.
      arguments: the words after the command's name.
      recipes: the values of `settings`, by the name that --recipe gives; it may also name a run's record.
      adapt: makes a recipe go on from what --start names, before its values become defaults.
      presets: other defaults that come with a recipe, by its name: fields of the options.

    Raises:
      ValueError: no recipe has that name, or the record is damaged, or another trainer's, or names no data.
      SystemExit: see `parse`.
    """
    default: Any = options()
    out = paths.of(value_of("out", arguments, str(default.out)))
    if "--resume" in arguments and (own := read_record(out)):
        default = recorded(dataclasses.replace(default, out=out))
        if "data" not in own and not value_of("data", arguments, ""):
            raise ValueError(f"{out / RECORD} does not name the data of the run: give --data")
    else:
        asked = value_of("recipe", arguments, default.recipe)
        name, recipe = _recipe(asked, recipes, default)
        if adapt is not None and (start := value_of("start", arguments, "")):
            recipe = adapt(recipe, start)
        preset = (presets or {}).get(asked, {})
        default = dataclasses.replace(default, recipe=name, settings=recipe, **preset)
        if name != asked:  # the name in the record, for the record of this run
            parsed: Any = parse(options, arguments, default=default)
            return dataclasses.replace(parsed, recipe=name)
    return parse(options, arguments, default=default)


def recorded(options: Any) -> Any:
    """Return the options with the values of their folder's record. Raises ValueError if it is damaged."""
    with files.errors_as(f"cannot use {options.out / RECORD}"):
        return _with_record(options, read_record(options.out))


def made_of(options: Any) -> dict[str, Any]:
    """Return every flag that makes a run what it is, by name; a path as it is from any folder.

    Raises ValueError if there is no such classifier.
    """
    values = {name: getattr(options, name) for name in _names(options)} | flat(options.settings)
    values |= dataclasses.asdict(options.reading) | dataclasses.asdict(options.keeping)
    paths = {name: _absolute(values[name]) for name in _PATHS if values.get(name)}
    for name in ("classifier", "comparator"):
        if values.get(name) not in (None, RANDOM):
            paths[name] = _classifier(values[name])
    return values | paths


@contextlib.contextmanager
def begun(options: Any, new: Any, **facts: Any) -> Iterator[Any]:
    """Keep the folder for this run while the block lasts, and write everything that makes the run into it.

    Of several processes that train together the first does so.

    Yields the newest whole state of the run to resume, like the new one, else the new one itself.

    Raises:
      ValueError: another trainer has the folder; nothing is written.
    """
    if not hosts.is_first():
        yield restored(options, new)
        return
    with locks.held(options.out, _busy(options.out)):
        files.remove_temporaries(options.out)
        state = restored(options, new)
        files.write_json(options.out / RECORD, made_of(options) | facts)
        yield state


def read_record(out: Path) -> dict[str, Any]:
    """Return the values that make a run, by name: of a run of 0.1.0 its recipe, and nothing of no run."""
    path = next((path for path in (out / RECORD, out / "recipe.json") if path.is_file()), None)
    return {} if path is None else _values_in(path)


def check(options: Any, output: str) -> None:
    """Raise ValueError unless the run's file `output` can be written, and a run is there only to resume."""
    from rsynth_jax.storage import train_states

    out = options.out
    train_states.check_place(out)
    if options.resume:
        _check_same(out, made_of(options))
    options.keeping.check()
    files.check_writable(out / output)
    held = train_states.has_states(out)
    if held and not options.resume:
        raise ValueError(f"{out} already holds a run: give --resume or another --out")
    if options.resume and not held and not read_record(out):
        raise ValueError(f"nothing to resume in {out}: it has no checkpoints")
    if hosts.is_first():
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

    if not train_states.has_states(options.out):
        return new
    return train_states.restore_state(options.out, new, functools.partial(print, file=sys.stderr))


def append(log: IO[bytes], record: Mapping[str, Any]) -> None:
    """Write a line of JSON to an unbuffered log. Raises ValueError if it cannot be written."""
    line = f"{json.dumps(record)}\n".encode()
    with files.errors_as(f"cannot write {log.name}"):
        if log.write(line) < len(line):
            raise OSError("the disk is full")


def finish(
    out: Path,
    state: Any,
    interrupted: Interrupted,
    closing: Callable[[], str],
    write_curves: WriteCurves,
) -> int:
    """Draw the log, print the closing line or how to continue; return the exit status.

    Of several processes that train together the first does so. `closing` is called of a run that is complete.
    """
    if not hosts.is_first():
        return 128 + interrupted.signal if interrupted.signal else 0
    write_curves(out / "curves.png", out / LOG)
    if interrupted.signal is None:
        skipped = (out / LOG).read_bytes().count(b'"skipped": true')
        print(f"{closing()}, {skipped} of its steps skipped" if skipped else closing())
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


def _values_in(path: Path) -> dict[str, Any]:
    with files.errors_as(f"cannot read {path}"):
        values = dict(json.loads(files.read(path)))
        return {name: tuple(value) if type(value) is list else value for name, value in values.items()}


def _recipe(name: str, recipes: Mapping[str, Any], options: Any) -> tuple[str, Any]:
    """The name and the values of a recipe, by its name or the path of a record that holds it."""
    if name in recipes or not paths.is_file(name):
        return name, checks.named("recipe", name, dict(recipes))
    path = paths.of(name)
    own = _values_in(path)
    names = flat(options.settings).keys()
    if 2 * len(names & own.keys()) < len(names):  # of an older version: it may lack a few
        raise ValueError(f"{path} is no record of a run of this trainer: give the run.json of one")
    with files.errors_as(f"cannot use {path}"):
        return str(own.get("recipe", name)), _values_of(type(options.settings)(), own)


def _values_of(recipe: Any, own: Mapping[str, Any]) -> Any:
    """The recipe with the recorded values in place of its own. Raises an error for one of another type."""
    groups = [recipe, *(group for group in recipe if hasattr(group, "_fields"))]
    hints = {name: hint for group in groups for name, hint in get_type_hints(type(group)).items()}
    return replace(recipe, **{name: _typed(own[name], hints[name]) for name in flat(recipe) if name in own})


def _typed(value: Any, hint: Any) -> Any:
    """A value of JSON, if it is of the declared type, which may have None too."""
    from rsynth_jax.storage.release_files import parsed

    if value is None and type(None) in get_args(hint):
        return None
    plain = next((kind for kind in get_args(hint) if type(None) in get_args(hint)), hint)
    return parsed(list(value) if type(value) is tuple else value, plain)


def _with_record(options: Any, own: Mapping[str, Any]) -> Any:
    """The options with the recorded values in place of their own."""

    def pick(names: Any) -> dict[str, Any]:
        return {name: own[name] for name in names if name in own}

    settings = _values_of(type(options.settings)(), own)
    reading = dataclasses.replace(options.reading, **pick(dataclasses.asdict(options.reading)))
    return dataclasses.replace(options, settings=settings, reading=reading, **pick(_names(options)))


def _classifier(name: str) -> str:
    """The name of a released classifier, or the path of another as it is from any folder."""
    from rsynth_jax.storage.release_files import CLASSIFIER, locate, names

    locate(name, CLASSIFIER)
    return name if name in names(CLASSIFIER) else paths.absolute(name)


def _absolute(place: str) -> str:
    """A path, or the path of folder:PATH, npz:PATH ..., as it is from any folder."""
    kind, colon, path = place.partition(":")
    if kind not in KINDS:
        kind, colon, path = "", "", place
    if kind == "tfds" or place in archives.NAMES or not os.path.exists(path):
        return place
    return f"{kind}{colon}{os.path.abspath(path)}"
