"""The folder of a training run: the record of everything that made it, and the flags that resume it.

    flags = parse_flags(Options, ["--resume", "--out", "RUN", "--epochs", "40"], RECIPES)
    check_resumed(flags.out, made_of(flags))
    write_record(flags.out, made_of(flags) | {"num_images": 50_000})

The options of a training program are a dataclass with a default for every flag. Among its fields are
`recipe`, `data`, `out`, `resume`, `settings` (the recipe: a NamedTuple of values and groups of values) and
`reading` (`options.DataFlags`). Every field but `out`, `resume` and `system` is recorded. This module imports
nothing heavy.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli.parse import parse, value_of
from rsynth_jax.storage import files
from rsynth_jax.training.recipes import flat, replace

RECORD = "run.json"  # its name inside a run
CHANGEABLE = {"epochs", "judge", "test_split", "data_dir"}  # by --resume; epochs upwards
_GROUPS = {"settings", "reading"}  # recorded value by value
_UNRECORDED = {"out", "resume", "system"}

_RESUME = (
    "Continue the run in --out from its newest whole checkpoint, with the values of its run.json. Only "
    "--epochs (upwards), --judge, --test-split, --data-dir and the number of devices may be others; where "
    "the data moved, write their new place into run.json."
)
RecipeName = Annotated[str, arg(metavar="NAME", help="Name of the recipe.")]
RunFolder = Annotated[Path, arg(help="The run's folder.")]
Resume = Annotated[bool, arg(help=_RESUME)]
Options = TypeVar("Options")


def parse_flags(
    options: type[Options],
    arguments: Sequence[str],
    recipes: dict[str, Any],
    adapt: Callable[[Any, Sequence[str]], Any] = lambda recipe, _: recipe,
) -> Options:
    """Parse the flags, over the values of the run that they resume, or of the recipe that they name.

    Args:
      options: see the head of this module.
      arguments: the words after the command's name.
      recipes: the values of `settings`, by the name that --recipe gives.
      adapt: changes a named recipe by the arguments, before its values become defaults.

    Raises:
      ValueError: no recipe has that name, or the record is damaged.
      SystemExit: see `parse`.
    """
    default: Any = options()
    out = Path(value_of("out", arguments, str(default.out))).expanduser()
    if "--resume" in arguments and (own := read_record(out)):
        with files.errors_as(f"cannot use {out / RECORD}"):
            default = _resumed(default, own)
    else:
        name = value_of("recipe", arguments, default.recipe)
        recipe = adapt(checks.named("recipe", name, recipes), arguments)
        default = dataclasses.replace(default, recipe=name, settings=recipe)
    return parse(options, arguments, default=default)


def made_of(options: Any) -> dict[str, Any]:
    """Return every flag that makes a run what it is, by name; a path as it is from any folder."""
    values = {name: getattr(options, name) for name in _names(options)} | dataclasses.asdict(options.reading)
    paths = {name: _absolute(values[name]) for name in ("data", "data_dir") if values[name]}
    return values | paths | flat(options.settings)


def write_record(out: Path, values: Mapping[str, Any]) -> None:
    """Write the values that make a run, by name, into its folder."""
    files.write_json(out / RECORD, values)


def read_record(out: Path) -> dict[str, Any]:
    """Return the values that make a run, by name: of a run of 0.1.0 its recipe, and nothing of no run."""
    path = next((path for path in (out / RECORD, out / "recipe.json") if path.is_file()), None)
    if path is None:
        return {}
    with files.errors_as(f"cannot read {path}"):
        values = dict(json.loads(path.read_text()))
        return {name: tuple(value) if type(value) is list else value for name, value in values.items()}


def check_same(out: Path, values: Mapping[str, Any]) -> None:
    """Raise ValueError for the first value that is not the run's own, unless it may change."""
    own = read_record(out)
    for name in (name for name in values if name in own and name not in CHANGEABLE):
        if values[name] != own[name]:
            mine, others = (f"{value!s:.40}" for value in (own[name], values[name]))
            raise ValueError(f"{name} is {others}: the run in {out} has {mine}, which --resume cannot change")
    least = own.get("epochs") or 0
    if (values.get("epochs") or least) < least:
        raise ValueError(f"epochs is {values['epochs']}: the run in {out} has {least}, give as many or more")


def check_resumed(out: Path, values: Mapping[str, Any]) -> None:
    """Raise ValueError unless the folder holds a run of these values that has checkpoints."""
    check_same(out, values)
    if not _has_checkpoints(out):
        raise ValueError(f"nothing to resume in {out}: it has no checkpoints")


def check_new(out: Path) -> None:
    """Raise ValueError if the folder holds a run."""
    if _has_checkpoints(out):
        raise ValueError(f"{out} already holds a run: give --resume or another --out")


def _has_checkpoints(out: Path) -> bool:
    from rsynth_jax.storage import train_states

    return (out / train_states.FOLDER).exists()


def _names(options: Any) -> list[str]:
    """The flags that are recorded, but for the groups."""
    names = (field.name for field in dataclasses.fields(options))
    return [name for name in names if name not in _GROUPS | _UNRECORDED]


def _resumed(options: Any, own: Mapping[str, Any]) -> Any:
    """The options with the recorded values in place of their own."""

    def pick(names: Any) -> dict[str, Any]:
        return {name: own[name] for name in names if name in own}

    recipe = type(options.settings)()
    settings = replace(recipe, **pick(flat(recipe)))
    reading = dataclasses.replace(options.reading, **pick(dataclasses.asdict(options.reading)))
    return dataclasses.replace(options, settings=settings, reading=reading, **pick(_names(options)))


def _absolute(place: str) -> str:
    """A path, or the path of folder:PATH or npz:PATH, as it is from any folder."""
    kind, _, path = place.partition(":")
    if kind in ("folder", "npz"):
        return f"{kind}:{_absolute(path)}"
    return os.path.abspath(place) if kind != "tfds" and os.path.exists(place) else place
