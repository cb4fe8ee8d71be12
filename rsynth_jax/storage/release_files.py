"""The file of a release: one safetensors file, arrays in bfloat16 and a description in JSON.

    path = locate("cifar10", CLASSIFIER)          # released, by name; or a file; or a training run
    content = read(path, CLASSIFIER)
    write(path, GENERATOR, {"variables": variables}, {"config": config._asdict()})

Reading one runs no code from it, and compiles nothing: its arrays are NumPy's.

The released networks are those of zoo/SHA256SUMS. A clone has the files of all. A wheel has that of `cifar10`
alone: the others are put into the folder `releases` of the user's cache, or downloaded to it from the address
$RSYNTH_RELEASES.
"""

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import ml_dtypes
import numpy as np
from flax import traverse_util

from rsynth_jax import checks, messages
from rsynth_jax.storage import cache, digests, files, paths

# the released classifiers, and in folders the other networks
ZOO = Path(__file__).resolve().parents[1] / "zoo"

_PYTORCH = {".pt", ".pth"}
_MAGIC = {b"PK\3\4", b"\x80\2\x8a\x0a"}  # with which PyTorch's files begin, new and old
_DIGEST = "sha256"  # its name in the metadata
_RELEASES = "releases"  # the cache's folder for their files
_ADDRESS = "RSYNTH_RELEASES"  # of a folder with the files of all released networks
_LARGEST: dict[Any, float] = {int: 2**31 - 1, float: checks.LARGEST}  # of 32 bits


class Kind(NamedTuple):
    """A kind of network that is released."""

    name: str
    folder: Path  # of the released ones, in a clone

    @property
    def file(self) -> str:
        """The name of its file inside a training run."""
        return f"{self.name}.safetensors"

    @property
    def one(self) -> str:
        """The name with its article."""
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"

    @property
    def format(self) -> str:
        """How its file names itself."""
        return f"rsynth_jax {self.name} 1"


CLASSIFIER = Kind("classifier", ZOO)
GENERATOR = Kind("generator", ZOO / "generators")
INVERTER = Kind("inverter", ZOO / "inverters")
SEGMENTER = Kind("segmenter", ZOO / "segmenters")
TRANSLATOR = Kind("translator", ZOO / "translators")
KINDS = (CLASSIFIER, GENERATOR, INVERTER, SEGMENTER, TRANSLATOR)


class Content(NamedTuple):
    """A tree of float32 arrays, finite, and the description: plain values by name, each in JSON."""

    tree: dict[str, Any]
    texts: dict[str, str]


@files.one_line_errors()
def locate(name: str | Path, kind: Kind) -> Path:
    """Find the file of a released network, of a path or of a training run, or raise ValueError."""
    if str(name) in names(kind):
        return _released(kind, str(name))
    path = paths.of(name)
    for candidate in (path / kind.file, path):
        if paths.is_file(candidate):
            return candidate
    for other in KINDS:
        if str(name) in names(other) or paths.is_file(path / other.file):
            raise ValueError(f"{str(name)!r} is {other.one}: give {kind.one}")
    wanted = f"a file, a run, or {messages.listed(names(kind))}"
    raise ValueError(f"no {kind.name} {str(name)[:40]!r}: give {wanted}")


def names(kind: Kind) -> list[str]:
    """Return the names of the released networks of a kind, in order."""
    listed = (ZOO / name for name in digests.read_sums(ZOO / digests.SUMS))
    return sorted(path.stem for path in listed if path.parent == kind.folder)


def available(kind: Kind) -> list[str]:
    """Return the names of the released networks whose files are here, or can be asked for at an address."""
    root = cache.folder()
    folders = [kind.folder, *([root / _RELEASES] if root else [])]
    files_here = {file.stem for folder in folders for file in folder.glob("*.safetensors")}
    return [name for name in names(kind) if name in files_here or os.environ.get(_ADDRESS)]


def _released(kind: Kind, name: str) -> Path:
    """The file of the package, or of the cache, where it may have to be downloaded to."""
    released = kind.folder / f"{name}.safetensors"
    if released.is_file():
        return released
    address = os.environ.get(_ADDRESS, "").rstrip("/")
    digest = digests.read_sums(ZOO / digests.SUMS)[released.relative_to(ZOO).as_posix()]
    download = cache.Download(f"{address}/{released.name}", digest, "SHA256", folder=_RELEASES)
    place = cache.place(download)
    if not address and not place.is_file():
        remedy = f"put {place.name} into {place.parent}, or set {_ADDRESS} to the address that has it"
        raise ValueError(f"{name} does not come with the wheel: {remedy}")
    return cache.fetch(download)


def write(
    path: Path,
    kind: Kind,
    tree: Mapping[str, Any],
    description: Mapping[str, Any],
    dtype: Any = ml_dtypes.bfloat16,
) -> None:
    """Write a release, its arrays rounded to `dtype`: bfloat16 takes half the size of float32.

    Its metadata hold the description and the SHA-256 of the content. Model cards give the figures of the
    rounded weights. Raises ValueError if the file cannot be written, or a number is not finite.
    """
    flat = traverse_util.flatten_dict(dict(tree), sep="/")
    arrays = {name: np.asarray(leaf).astype(dtype) for name, leaf in flat.items()}
    with files.errors_as(f"cannot write {path}"):
        texts = {name: json.dumps(value, allow_nan=False) for name, value in description.items()}
        checks.finite(**arrays)
    texts = {"format": kind.format, **texts}
    files.write_tensors(path, arrays, texts | {_DIGEST: digests.of_content(arrays, texts)})


@files.one_line_errors()
def read(path: Path, kind: Kind, names: Collection[str]) -> Content:
    """Read a release of this kind, whose description has these names.

    A file without a SHA-256 is older, and cannot be checked, unless it is a released one.

    Raises:
      ValueError: it is of another kind, its content is not that of its SHA-256, or a number is not finite.
    """
    file = files.Tensors({}, {"format": "pt"}) if _is_pytorch(path) else files.read_tensors(path)
    found = file.metadata.get("format")
    for other in KINDS:
        if found == other.format != kind.format:
            raise ValueError(f"{path} is {other.one}: give {kind.one}")
    if found == "pt":  # as Hugging Face's safetensors call it
        hint = ": rsynth-import FILE --out NAME.safetensors makes one" if kind == CLASSIFIER else ""
        name = messages.shown(path.name, 60)
        raise ValueError(f"{name} holds weights of PyTorch, not {kind.one} of rsynth_jax{hint}")
    if found != kind.format:
        raise ValueError(f"{path} was not written by rsynth_jax: its format is {str(found)[:40]!r}")
    _check_content(path, file, names)
    with files.errors_as(f"{path} is damaged"):
        arrays = {name: array.astype(np.float32) for name, array in file.arrays.items()}
        checks.finite(**arrays)
        return Content(traverse_util.unflatten_dict(arrays, sep="/"), file.metadata)


def _is_pytorch(path: Path) -> bool:
    with files.open_file(path) as opened:
        return path.suffix in _PYTORCH or opened.read(4) in _MAGIC


def _check_content(path: Path, file: files.Tensors, names: Collection[str]) -> None:
    """Compare the digest, and refuse other names: a damaged one may have been the digest's."""
    texts = {name: text for name, text in file.metadata.items() if name != _DIGEST}
    if texts.keys() != {"format", *names}:
        found = messages.listed(sorted(texts))
        raise ValueError(f"{path} is damaged: its description has {found}")
    if ZOO in path.resolve().parents:
        name = path.resolve().relative_to(ZOO).as_posix()
        if digests.read_sums(ZOO / digests.SUMS).get(name) != digests.of_file(path):
            raise ValueError(f"{path} is damaged: its SHA-256 is not the one in {digests.SUMS} beside it")
    elif file.metadata.get(_DIGEST, digest := digests.of_content(file.arrays, texts)) != digest:
        raise ValueError(f"{path} is damaged: its content is not what its SHA-256 says")


def parsed(value: Any, kind: Any) -> Any:
    """Read JSON as plain values of exactly the declared types, of 32 bits.

    Raises TypeError, KeyError or ValueError.
    """
    if hasattr(kind, "_fields"):
        hints = get_type_hints(kind)
        return kind(**{name: parsed(part, hints[name]) for name, part in value.items()})
    if get_origin(kind) is tuple and type(value) is list:
        kinds = [get_args(kind)[0]] * len(value) if ... in get_args(kind) else get_args(kind)
        return tuple(parsed(part, each) for part, each in zip(value, kinds, strict=True))
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise TypeError(f"{str(value)[:40]!r} where a {kind.__name__} should be")
    if kind in _LARGEST and not abs(value) <= _LARGEST[kind]:
        raise ValueError(f"{str(value)[:40]} where {_LARGEST[kind]:g} is the most")
    return value
