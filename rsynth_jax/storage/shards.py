"""A long row of images as shards in a folder, written one by one beside a manifest, and read one by one.

    plan = Plan("npz", 1000, 5000, class_names, {"seed": 0, "classifier": sha256})
    write(folder, plan, batches)                   # continues where an earlier process stopped
    manifest = read(folder)                        # of all 5000 images
    image_of = images_of(folder, manifest)
    image_of(4999)                                 # uint8 (h, w, c); a shard at a time is in memory

A shard is renamed to its name when it is whole, and manifest.json then gets its SHA-256: a process that ends
at any moment leaves whole shards, and at most one whose work is lost. In a store, a shard is there when it is
whole, but for a folder of PNGs, of which the manifest has those that are. One process at a time writes, or
several that share the shards (`Crew`), each with a manifest of its own until all have met.
"""

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rsynth_jax import checks, messages
from rsynth_jax.storage import digests, files, locks, paths
from rsynth_jax.storage.shard_formats import FORMATS, Batch, Format

MANIFEST = "manifest.json"  # its name inside the folder
_MAKING = ".making"  # the shard that a process is writing
_MOST = 1 << 31  # images of a folder


class Plan(NamedTuple):
    """The shards that make a folder whole.

    Attributes:
      format: a name of `FORMATS`.
      shard_size: images of each shard; the last one has the rest.
      num_images: of all shards.
      class_names: label i is class_names[i].
      settings: everything else that decides the images, as plain values by name.
      command: for people; another one may continue.
    """

    format: str
    shard_size: int
    num_images: int
    class_names: tuple[str, ...]
    settings: Mapping[str, Any]
    command: str = ""

    @property
    def num_shards(self) -> int:
        """How many shards there are when the folder is whole."""
        return -(-self.num_images // self.shard_size)


class Shard(NamedTuple):
    """A whole shard: the images from `first` to `end` - 1, in a file or a folder of this name."""

    file: str
    first: int
    end: int
    sha256: str  # of the file; of a folder: of its list of digests, as `digests.of_path` has it


class Manifest(NamedTuple):
    """A plan, and the shards that are whole."""

    plan: Plan
    shards: tuple[Shard, ...]


class Crew(NamedTuple):
    """Processes that share the shards: this one's index, their number, and how it waits for the others."""

    index: int
    num: int
    meet: Callable[[], object]


ALONE = Crew(0, 1, lambda: None)


class Written(NamedTuple):
    """Images that were there, and that were made by all processes."""

    kept: int
    made: int


@files.one_line_errors()
def write(
    folder: Path, plan: Plan, batches: Callable[[list[range]], Iterable[Batch]], crew: Crew = ALONE
) -> Written:
    """Write the shards that the folder lacks, each by another thread while the next one is made.

    Args:
      folder: new, empty, or with shards of the same plan.
      batches: makes the images of these numbers, run after run, in batches of any size, each within a run.
      crew: of which each process writes every so many shards.

    Returns:
      How many images the folder had, and how many were made.

    Raises:
      ValueError: the folder has shards of another plan, or a shard that is changed; another process writes in
        it; it cannot be written; or a batch is not the next one.
    """
    refusal = f"another process writes shards into {folder}: wait for it, or give another folder"
    with locks.held(folder, refusal, _own(locks.LOCK, crew.index)):
        if crew.index == 0:
            _join_manifests(folder, plan, _kept(folder, plan))
            _clean(folder)
        crew.meet()
        whole = {shard.first: shard for shard in _read_manifest(folder / MANIFEST).shards}
        crew.meet()  # the first process writes there from now on
        own = whole if crew.index == 0 else {}

        def store(batch: Batch) -> None:
            own[batch.first] = _stored(folder, plan, batch, crew)
            _write_manifest(folder / _own(MANIFEST, crew.index), plan, own.values())

        missing = [first for first in range(0, plan.num_images, plan.shard_size) if first not in whole]
        made = sum(len(_images(plan, first)) for first in missing)
        mine = [first for first in missing if first // plan.shard_size % crew.num == crew.index]
        runs = _runs(plan, mine)
        _one_ahead(store, _joined(plan, runs, batches(runs) if runs else ()))
        crew.meet()
        if crew.num > 1 and crew.index == 0:
            _join_manifests(folder, plan, _listed(folder))
        crew.meet()
    return Written(plan.num_images - made, made)


def is_folder(path: Path) -> bool:
    """Whether a folder has a manifest."""
    return (path / MANIFEST).is_file()


@files.one_line_errors()
def read(folder: Path) -> Manifest:
    """Read the manifest of a folder. Raises ValueError if it is damaged, or shards are missing."""
    manifest = _read_manifest(folder / MANIFEST)
    have = sum(shard.end - shard.first for shard in manifest.shards)
    if have < manifest.plan.num_images:
        raise ValueError(f"{folder} has {have} of {manifest.plan.num_images} images: run its command again")
    return manifest


@files.one_line_errors()
def labels_of(folder: Path, manifest: Manifest) -> np.ndarray:
    """Read the labels of all images, int32 (n,), from the shards. Raises ValueError if one is damaged."""
    kind = FORMATS[manifest.plan.format]
    parts = []
    for shard in manifest.shards:
        with files.errors_as(f"cannot read {folder / shard.file}"):
            labels = kind.read_labels(folder / shard.file)
            _check_labels(labels, shard, manifest.plan)
            parts.append(labels.astype(np.int32))
    return np.concatenate(parts)


def images_of(folder: Path, manifest: Manifest) -> Callable[[int], np.ndarray]:
    """Make a function of the number of an image to it, uint8 (h, w, c).

    The two shards read last are in memory. It raises ValueError for a shard whose SHA-256 is another.
    """
    plan = manifest.plan

    @functools.lru_cache(maxsize=2)
    def images(index: int) -> np.ndarray:
        return _checked_images(folder, manifest.shards[index], FORMATS[plan.format])

    return lambda row: images(row // plan.shard_size)[row % plan.shard_size]


def _runs(plan: Plan, firsts: Iterable[int]) -> list[range]:
    """The numbers of the images of the shards with these first ones, in order, neighbours joined."""
    runs: list[range] = []
    for first in firsts:
        joins = runs and runs[-1].stop == first
        runs.append(range(runs.pop().start if joins else first, _end(plan, first)))
    return runs


def _images(plan: Plan, first: int) -> range:
    return range(first, _end(plan, first))


def _end(plan: Plan, first: int) -> int:
    return min(first + plan.shard_size, plan.num_images)


def _own(name: str, index: int) -> str:
    """The name of a file of the process of this index: the name itself of the first one."""
    return f"{name}-{index}" if index else name


def _listed(folder: Path) -> tuple[Shard, ...]:
    """The shards in the manifests of all processes."""
    paths = sorted(folder.glob(f"{MANIFEST}*"))
    return tuple(shard for path in paths for shard in _read_manifest(path).shards)


def _join_manifests(folder: Path, plan: Plan, shards: Iterable[Shard]) -> None:
    """Write the one manifest of these shards, in place of those of all processes."""
    _write_manifest(folder / MANIFEST, plan, shards)
    for path in folder.glob(f"{MANIFEST}-*"):
        path.unlink()


def _kept(folder: Path, plan: Plan) -> tuple[Shard, ...]:
    """The whole shards of earlier processes, but for those that are gone."""
    if not is_folder(folder):
        return ()
    _check_same(folder, _values(_read_manifest(folder / MANIFEST).plan), _values(plan))
    there = tuple(shard for shard in _listed(folder) if (folder / shard.file).exists())
    for shard in there:
        if digests.of_path(folder / shard.file) != shard.sha256:
            remedy = "delete it, and the same command makes it again"
            raise ValueError(f"{folder / shard.file} is damaged, as its SHA-256 shows: {remedy}")
    return there


def _check_same(folder: Path, own: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise ValueError for the first value that is not that of the folder."""
    for name in {**own, **given}:
        has, wants = own.get(name), given.get(name)
        if has != wants:
            other, mine = (messages.shown(str(value), 40) for value in (wants, has))
            raise ValueError(f"{name} is {other}: the shards in {folder} have {mine}; give another folder")


def _values(plan: Plan) -> dict[str, Any]:
    """Everything that must be the same, as JSON has it."""
    return json.loads(json.dumps({**plan._asdict(), "settings": None, "command": None, **plan.settings}))


def _clean(folder: Path) -> None:
    """Remove what a killed process left."""
    for path in folder.glob(f"{_MAKING}*"):
        paths.remove(path)
    files.remove_temporaries(folder)


def _one_ahead(store: Callable[[Batch], None], items: Iterable[Batch]) -> None:
    """Call `store` on one item after the other, in another thread, while the next item is made."""
    last: Future | None = None
    with ThreadPoolExecutor(1) as executor:
        for item in items:
            if last is not None:
                last.result()
            last = executor.submit(store, item)
        if last is not None:
            last.result()


def _joined(plan: Plan, runs: list[range], batches: Iterable[Batch]) -> Iterator[Batch]:
    """Join batches, and cut them into shards. Raises ValueError for a batch that is not the next one."""
    stream = iter(batches)
    for run in runs:
        first, have, parts = run.start, run.start, []
        while first < run.stop:
            while have < _end(plan, first):
                batch = next(stream, None)
                if batch is None or batch.first != have:
                    found = "end" if batch is None else f"go on with image {batch.first}"
                    raise ValueError(f"the batches {found}: image {have} is the next one")
                parts.append(batch)
                have += len(batch.images)
            images, labels = (
                np.concatenate(each) for each in zip(*(part[1:] for part in parts), strict=True)
            )
            size = _end(plan, first) - first
            yield Batch(first, images[:size], labels[:size])
            first += size
            parts = [Batch(first, images[size:], labels[size:])]


def _stored(folder: Path, plan: Plan, batch: Batch, crew: Crew) -> Shard:
    """Write a shard, and rename it when it is whole."""
    kind = FORMATS[plan.format]
    name = f"shard-{batch.first // plan.shard_size:05d}-of-{plan.num_shards:05d}"
    path = folder / f"{name}{kind.suffix}"
    making_it = paths.made_beside(folder, _own(_MAKING, crew.index))
    with files.errors_as(f"cannot write {path}"), making_it as making:
        kind.write(making, batch, plan.class_names)
        sha256 = digests.of_path(making)
        paths.remove(path)  # which no manifest has
        paths.move(making, path)
    return Shard(path.name, batch.first, batch.first + len(batch.images), sha256)


def _write_manifest(path: Path, plan: Plan, shards: Iterable[Shard]) -> None:
    entries = [shard._asdict() for shard in sorted(shards, key=lambda shard: shard.first)]
    files.write_json(path, plan._asdict() | {"shards": entries})


def _read_manifest(path: Path) -> Manifest:
    with files.errors_as(f"cannot read {path}"):
        values = json.loads(files.read(path))
        shards = tuple(Shard(**shard) for shard in values.pop("shards"))
        plan = Plan(**values)._replace(class_names=tuple(map(str, values["class_names"])))
        _check_plan(plan)
        for shard in shards:
            _check_shard(shard, plan)
        if len({shard.first for shard in shards}) < len(shards):
            raise ValueError("a shard is in it twice")
        return Manifest(plan, shards)


def _check_plan(plan: Plan) -> None:
    checks.named("format", str(plan.format), FORMATS)
    for number in (plan.num_images, plan.shard_size):
        if type(number) is not int or not 0 < number < _MOST:
            raise ValueError("num_images and shard_size must be whole numbers above 0")
    dict(plan.settings)


def _check_shard(shard: Shard, plan: Plan) -> None:
    fits = (
        type(shard.first) is int and 0 <= shard.first < plan.num_images and shard.first % plan.shard_size == 0
    )
    if not (fits and shard.end == _end(plan, shard.first) and type(shard.sha256) is str):
        raise ValueError("a shard in it is none of its plan")
    if type(shard.file) is not str or Path(shard.file).name != shard.file:
        raise ValueError("a shard in it is not a file of the folder")


def _check_labels(labels: np.ndarray, shard: Shard, plan: Plan) -> None:
    if labels.shape != (shard.end - shard.first,) or not np.isin(labels, range(len(plan.class_names))).all():
        raise ValueError("its labels are not a class for each of its images")


def _checked_images(folder: Path, shard: Shard, kind: Format) -> np.ndarray:
    path = folder / shard.file
    if digests.of_path(path) != shard.sha256:
        raise ValueError(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}")
    with files.errors_as(f"cannot read {path}"):
        images, _ = kind.read(path)
        checks.images(images)
        if len(images) != shard.end - shard.first:
            raise ValueError(f"it has {len(images)} images, not {shard.end - shard.first}")
    return images
