"""Classifiers that others published: their weights as ours, and ours under the published names.

    found = read("imagenet_l2_3_0.pt")             # a Found: architecture, variables, normalisation
    arrays = exported(found.config, found.variables)

The architecture is found by the names and shapes of the tensors, or by a map. No code of a file runs.
"""

import collections
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from rsynth_jax import checks, messages, models
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.models import published, pytorch
from rsynth_jax.models.published import PUBLISHED, Names
from rsynth_jax.storage import digests, files, paths, releases
from rsynth_jax.storage.files import Tensors
from rsynth_jax.storage.releases import Origin, Release
from rsynth_jax.storage.state_dicts import StateDict, read_checkpoint
from rsynth_jax.synthesis import class_gaussians
from rsynth_jax.types import Variables

Shapes = Mapping[str, tuple[int, ...]]
Map = Mapping[str, str | None]  # a name in the file, * for one part -> a published name, or None to skip it

SHOWN = 5  # tensors of each side in a report

_LARGEST_JSON = 1 << 24  # bytes
_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_PREFIXES = {"module", "model", "_orig_mod", "net", "network", "backbone", "1"}  # of all names of a file
_NORMALIZER = re.compile(r"(?:(?:.*\.)?(?:normali[sz]e[r]?|0)\.)?(?:new_)?(mean|std)")


class Mismatch(ValueError):
    """A file fits no architecture, or another than the one named.

    Attributes:
      report: the first tensors of both sides with their shapes, some lines.
    """

    def __init__(self, message: str, report: str):
        super().__init__(message)
        self.report = report


class Found(NamedTuple):
    """A published classifier.

    Attributes:
      config: makes the network.
      variables: its parameters and batch statistics, float32.
      shape: (height, width, channels) of its images, as published.
      class_names: those that the file has, else none.
      skipped: a phrase for each part of the file that is not used.
      digest: SHA-256 of the file.
    """

    config: models.Config
    variables: Variables
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    skipped: tuple[str, ...]
    digest: str


class _Notes(NamedTuple):
    """The config.json of a folder, as far as it helps."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    side: int = 0
    class_names: tuple[str, ...] = ()


@files.one_line_errors()
def read(path: str | Path, architecture: str | None = None, names_map: Map | None = None) -> Found:
    """Read a classifier from a PyTorch file, a .safetensors, an .npz, or a folder of Hugging Face.

    Args:
      path: a state dict, or a checkpoint that holds one beside an optimizer, an attacker, objects of dill.
      architecture: a key of `models.ARCHITECTURES`; by default the one whose names and shapes are the file's.
      names_map: renames what a file names in its own way.

    Raises:
      Mismatch: the tensors are not those of the architecture, or of any.
      ValueError: there is no such file, it is damaged, it asks for code, or two architectures fit it.
    """
    path = paths.on_this_machine(path)
    file, notes = (path / _WEIGHTS, _notes(path / _CONFIG)) if path.is_dir() else (path, _Notes())
    checkpoint = read_checkpoint(file)
    arrays, beside = _split(_renamed(checkpoint.arrays, names_map or {}))
    if architecture is not None:
        checks.named("architecture", architecture, models.ARCHITECTURES)
    name, names = _match(path, arrays, architecture)
    with files.errors_as(f"cannot read {path} as {name}"):
        variables = _variables(name, names, arrays, file.stat().st_size)
        form = PUBLISHED[name]
        mean, std = (_values(beside, kind) or own for kind, own in (("mean", notes.mean), ("std", notes.std)))
        num_classes, channels = _sizes(names, arrays)
        config = models.Config(name, num_classes, mean or form.mean, std or form.std)
        checks.finite(mean=config.mean, std=config.std)
        checks.positive(std=min(config.std))
    shape = (notes.side or form.shape[0], notes.side or form.shape[1], channels)
    own_names = notes.class_names if len(notes.class_names) == num_classes else ()
    skipped = (*checkpoint.passed, *_counted(beside))
    return Found(config, variables, shape, own_names, skipped, digests.of_file(file))


@files.one_line_errors()
def read_map(path: Path) -> Map:
    """Read a map of names from a JSON file. Raises ValueError if it is none."""
    with files.errors_as(f"cannot read {path} as a map of names"):
        found = _json(path)
        if type(found) is not dict or not all(type(new) in (str, type(None)) for new in found.values()):
            raise ValueError('give an object of strings, or null for what to skip: {"enc.*": "layer*"}')
    return found


def with_input(found: Found, mean: Sequence[float], std: Sequence[float], side: int | None) -> Found:
    """Replace the normalisation and the side of the images, where they are given."""
    config = found.config._replace(mean=tuple(mean) or found.config.mean, std=tuple(std) or found.config.std)
    return found._replace(config=config, shape=(side, side, found.shape[2]) if side else found.shape)


def as_release(
    found: Found, class_names: Sequence[str], threat: Threat, source: str = "", licence: str = ""
) -> Release:
    """Make a release of a published classifier.

    Args:
      class_names: label i is class_names[i]; where there are none those of the file, else the numbers.
      threat: the threat model that it was trained against.
      source, licence: of the weights, kept beside the file's SHA-256.

    Raises:
      ValueError: there is another number of class names than of classes, or of means than of channels, or the
        network is made for another side.
    """
    num_classes = found.config.num_classes
    names = tuple(class_names) or found.class_names or tuple(map(str, range(num_classes)))
    if len(names) != num_classes:
        raise ValueError(f"the classifier has {num_classes} classes: give as many names, not {len(names)}")
    release = Release(
        config=found.config,
        variables=found.variables,
        class_gaussians=class_gaussians.grey(found.shape[2]),
        class_names=names,
        image_shape=found.shape,
        threat=threat,
        steps=Steps(threat.epsilon / 5, 20),
        recipe={},
    )
    releases.check_parts(release)
    return releases.with_origin(release, Origin(source, licence, found.digest))


def exported(config: models.Config, variables: Variables) -> Tensors:
    """Return the variables as a state dict in PyTorch's layouts, under the first published names.

    The metadata hold the architecture and the normalisation.
    """
    names = PUBLISHED[config.architecture].names[0]
    flat = traverse_util.flatten_dict(variables)
    keys = published.keys(variables, names)
    arrays = {key: np.asarray(flat[path], np.float32) for key, path in keys.items()}
    axes = {key: np.argsort(pytorch.AXES[array.ndim]) for key, array in arrays.items()}
    metadata = {"format": "pt", "architecture": config.architecture}
    metadata |= {name: json.dumps(getattr(config, name)) for name in ("mean", "std")}
    return Tensors({key: array.transpose(axes[key]) for key, array in arrays.items()}, metadata)


def fitting(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """List the architectures that have arrays of these shapes, whatever their names."""
    shapes = collections.Counter(array.shape for array in arrays.values())
    return [name for name in PUBLISHED if _has_shapes(name, shapes)]


# ---- the tensors of a file


def _renamed(arrays: StateDict, names_map: Map) -> StateDict:
    """The arrays by their new names; of several entries the one of most parts holds."""
    entries = sorted(names_map.items(), key=lambda entry: entry[0].count("."), reverse=True)
    renamed: StateDict = {}
    for key, array in arrays.items():
        new = next((made for old, new in entries if (made := _substituted(key, old, new)) != ""), key)
        if new in renamed:
            raise ValueError(f"the map gives two tensors the name {new[:80]!r}: make the names different")
        if new is not None:
            renamed[new] = array
    return renamed


def _substituted(key: str, old: str, new: str | None) -> str | None:
    """The new name of a tensor, None to skip it, or nothing where its name does not begin with `old`."""
    pattern = re.escape(old).replace(r"\*", r"([^.]+)")
    found = re.fullmatch(rf"{pattern}(\..+)?", key)
    if found is None or new is None:
        return "" if found is None else None
    *parts, rest = found.groups()
    if new.count("*") > len(parts):
        raise ValueError(f"the map's {new[:60]!r} has more * than {old[:60]!r}: give it as many")
    for part in parts:
        new = new.replace("*", part, 1)
    return f"{new}{rest or ''}".removeprefix(".")


def _split(arrays: StateDict) -> tuple[StateDict, StateDict]:
    """The tensors of a classifier, without a common prefix, and the others."""
    beside = {key: array for key, array in arrays.items() if _is_beside(key, arrays)}
    own = {key: array for key, array in arrays.items() if key not in beside}
    while len(tops := {key.partition(".")[0] for key in own}) == 1 and tops <= _PREFIXES:
        own = {key.partition(".")[2]: array for key, array in own.items()}
    flat = {key: array.reshape(-1) if array.shape[1:] == (1, 1) else array for key, array in own.items()}
    return flat, beside


def _is_beside(key: str, arrays: StateDict) -> bool:
    """Whether a tensor is of a normaliser, an attacker, a counter, or of a block that is never used."""
    parts = key.split(".")
    if "sub_block1" in parts:  # TRADES makes it and does not apply it
        return key.replace("sub_block1", "block1") in arrays
    counts = parts[-1] in (pytorch.UNUSED, "n_averaged")
    return counts or "attacker" in parts or _normalizes(key) is not None


def _normalizes(key: str) -> str | None:
    """The name "mean" or "std", of a normaliser's tensor."""
    plain = re.sub(r"^(module\.|model\.)+", "", key)
    found = None if "attacker" in key.split(".") else _NORMALIZER.fullmatch(plain)
    return found[1] if found else None


def _values(beside: StateDict, kind: str) -> tuple[float, ...]:
    """The values of a normaliser, if there is one."""
    found = [array for key, array in beside.items() if _normalizes(key) == kind and array.size <= 4]
    return tuple(float(value) for value in found[0].reshape(-1)) if found else ()


def _counted(beside: StateDict) -> Iterator[str]:
    """A phrase for each kind of tensors beside the classifier's."""
    kinds = ("attacker", "sub_block1", pytorch.UNUSED, "n_averaged")
    found = collections.Counter(kind for key in beside for kind in kinds[:1] if kind in key.split("."))
    rest = [key for key in beside if "attacker" not in key.split(".")]
    found += collections.Counter(kind for key in rest for kind in kinds[1:] if kind in key.split("."))
    return (f"{kind} ({num} tensors)" for kind, num in found.items())


def _json(path: Path) -> Any:
    """The value in a JSON file. Raises ValueError for a device or a pipe, which may have no end."""
    if not os.path.isfile(path):
        raise ValueError("there is no such file")
    if path.stat().st_size > _LARGEST_JSON:
        raise ValueError(f"it has more than {_LARGEST_JSON} bytes")
    return json.loads(path.read_text("utf-8"))


def _notes(path: Path) -> _Notes:
    """The normalisation, the side and the class names in a config.json, of timm or of transformers."""
    with files.errors_as(f"cannot read {path}"):
        config = _json(path)
        own = config.get("pretrained_cfg") or config
        labels = config.get("label_names") or own.get("label_names") or config.get("id2label") or ()
        if isinstance(labels, dict):
            labels = [labels[str(label)] for label in range(len(labels))]
        mean, std = (tuple(float(value) for value in own.get(kind) or ()) for kind in ("mean", "std"))
        side = int((own.get("input_size") or [0])[-1])
        return _Notes(mean, std, side, tuple(str(label) for label in labels))


# ---- the architecture


def _match(path: Path, arrays: StateDict, architecture: str | None) -> tuple[str, Names]:
    """The architecture of a file and the names that it has there."""
    known = PUBLISHED if architecture is None else [architecture]
    fits = [(name, names) for name in known for names in PUBLISHED[name].names if _fits(name, names, arrays)]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise ValueError(f"{path} fits {' and '.join(name for name, _ in fits)}: give --architecture")
    similar = fitting(arrays)
    needed = architecture or next(iter(similar), None)
    same = f"its shapes are those of {' and '.join(similar)}" if similar else "its shapes fit none"
    wanted = "give a --map of its names" if similar else "give another file or architecture"
    failure = f"does not fit {architecture}" if architecture else "fits no bundled architecture"
    raise Mismatch(f"{path} {failure}, {same}: {wanted}", _report(arrays, needed, similar))


def _sizes(names: Names, arrays: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """The number of classes and of channels by the last and the first layer, (0, 0) without them."""
    last, first = (arrays.get(f"{names[layer]}.weight") for layer in ("Dense_0", "Conv_0"))
    if last is None or first is None or last.ndim != 2 or first.ndim != 4:
        return 0, 0
    return last.shape[0], first.shape[1]


def _fits(architecture: str, names: Names, arrays: StateDict) -> bool:
    """Whether a file has exactly the tensors of an architecture, under these names."""
    num_classes, channels = _sizes(names, arrays)
    if not (num_classes and channels) or not _are_layers(names, arrays):
        return False
    return _shapes(architecture, names, num_classes, channels) == {k: a.shape for k, a in arrays.items()}


def _are_layers(names: Names, arrays: StateDict) -> bool:
    """Whether every tensor is of a layer of these names, which is known before any shape is."""
    known = set(names.values())
    return all(key in known or key.rpartition(".")[0] in known for key in arrays)


def _shapes(architecture: str, names: Names, num_classes: int, channels: int) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of an architecture in PyTorch's layout."""
    variables = published.expected(architecture, num_classes, channels)
    flat: dict[Any, Any] = traverse_util.flatten_dict(variables)
    keys = published.keys(variables, names)
    return {key: pytorch.published_shape(flat[path].shape) for key, path in keys.items()}


def _has_shapes(architecture: str, shapes: Mapping[tuple[int, ...], int]) -> bool:
    """Whether an architecture has so many tensors of each shape, for some number of classes."""
    form = PUBLISHED[architecture]
    own = _shapes(architecture, form.names[0], 1, form.shape[2])
    width = own.pop(f"{form.names[0]['Dense_0']}.weight")[1]
    own.pop(f"{form.names[0]['Dense_0']}.bias")
    left = collections.Counter(shapes)
    left.subtract(own.values())
    readout = sorted(shape for shape, num in left.items() for _ in range(abs(num)))
    return len(readout) == 2 and min(left.values()) >= 0 and readout[1] == (*readout[0], width)


def _variables(architecture: str, names: Names, arrays: StateDict, size: int) -> Variables:
    """The tensors in our layout. Raises ValueError if they share the numbers of a small file."""
    if sum(array.nbytes for array in arrays.values()) > size:
        raise ValueError(f"its tensors claim more bytes than its {size}")
    variables = published.expected(architecture, *_sizes(names, arrays))
    flat: dict[Any, Any] = traverse_util.flatten_dict(variables)
    keys = published.keys(variables, names)
    ours = {path: pytorch.converted(key, arrays[key], flat[path].shape) for key, path in keys.items()}
    return traverse_util.unflatten_dict(ours)


def _report(arrays: StateDict, architecture: str | None, similar: Sequence[str]) -> str:
    """The first tensors that one side has and the other lacks, and the architectures of the same shapes."""
    theirs = {key: array.shape for key, array in arrays.items()}
    needed: dict[str, tuple[int, ...]] = {}
    if architecture is not None:
        names = PUBLISHED[architecture].names[0]
        num_classes, channels = _sizes(names, arrays)
        form = PUBLISHED[architecture].shape
        needed = _shapes(architecture, names, num_classes or 1000, channels or form[2])
    lines = _first("tensors of the file", theirs, needed)
    lines += _first(f"tensors of {architecture}", needed, theirs) if needed else []
    return "\n".join([*lines, f"architectures of these shapes: {', '.join(similar) or 'none'}"])


def _first(title: str, shapes: Shapes, others: Shapes) -> list[str]:
    """A title and the first shapes that the other side does not have."""
    differing = [
        f"  {messages.shown(key, 80)} {shape}" for key, shape in shapes.items() if others.get(key) != shape
    ]
    more = [f"  and {len(differing) - SHOWN} more"] if len(differing) > SHOWN else []
    return [f"{title} that the other lacks:" if others else f"{title}:", *differing[:SHOWN], *more]
