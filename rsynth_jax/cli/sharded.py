"""Write the images of a program as shards: batch by batch, with progress, resumed by the same command.

    if flags.sharding.shards is not None:
        return generated(flags, release, weights, make, title)

The options of such a program have a field `sharding: ShardFlags`. This module imports nothing heavy.
"""

import functools
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rsynth_jax.cli import hosts, options
from rsynth_jax.cli.generator_pages import COLUMNS
from rsynth_jax.cli.parse import command_name, values_of
from rsynth_jax.cli.report import ROWS, Result, report
from rsynth_jax.cli.run import progress_bar, tracks
from rsynth_jax.cli.sheets import Page
from rsynth_jax.data import image_files, sources
from rsynth_jax.storage import digests, paths, shards
from rsynth_jax.storage.shard_formats import Batch

if TYPE_CHECKING:
    from rsynth_jax.storage.generators import GeneratorRelease
    from rsynth_jax.storage.releases import Release
    from rsynth_jax.types import Bytes

SECONDS = 30  # between two lines of progress where there is no terminal
_FREE = {"bare", "batch-size", "data-dir", "no-cache", "version", "distributed", "coordinator", "process"}
_FREE |= {"out", "sheet", "json", "npz", "gif", "each", "photo"}  # flags that decide no image
_FREE |= {"shards", "shard-size", "format"}  # the plan has the last two
_PLACES = {"images", "start"}  # flags that name images

Make = Callable[[np.ndarray], Any]  # numbers of images -> their `images` and `labels`


class Made(NamedTuple):
    """Images in shards: the folder, numbers to print, the closing line, a line for each unreadable file."""

    folder: Path
    numbers: dict[str, Any]
    closing: str
    skipped: Sequence[str] = ()

    def images(self, numbers: np.ndarray) -> "Bytes":
        """Read the images of these numbers, int (...)."""
        image_of = shards.images_of(self.folder, shards.read(self.folder))
        found = np.stack([image_of(number) for number in numbers.ravel().tolist()])
        return found.reshape(*numbers.shape, *found.shape[1:])

    def report(self, page: Page, sheet: Path | None, json: Path | None, bare: bool) -> int:
        """Write the sheet and the numbers, print the closing line; return the exit status.

        Of several processes that share the shards the first does so.
        """
        if not hosts.is_first():
            return 0
        result = Result(page, self.numbers, self.closing, skipped=self.skipped)
        return report(self.folder, result, sheet=sheet, json=json, bare=bare)


class Edited(NamedTuple):
    """Edited images in shards; the first of them, as given and after."""

    made: Made
    given: sources.Pictures
    after: "Bytes"


def generated(
    flags: Any,
    release: "Release | GeneratorRelease",
    weights: Any,
    make: functools.partial,
    title: str,
    skipped: Sequence[str] = (),
) -> int:
    """Generate images of classes into shards, and report the first of each class.

    Args:
      flags: of `rsynth-generate`.
      weights: everything of the release that decides the images.
      make: the images of `rows=`, int (m,), of all classes; it has a `batch_size`.
      skipped: a line for each file that could not be read.
    """
    from rsynth_jax.sampling.samplers import labels_of

    labels, size = labels_of(release, flags.classes), flags.sharding.batch_size(make.keywords["batch_size"])
    make = functools.partial(make, batch_size=size)
    num = flags.num * len(labels)
    made = write(flags, weights, release.class_names, num, lambda rows: make(rows=rows), size)
    shown = np.add.outer(flags.num * np.arange(len(labels)), np.arange(min(flags.num, COLUMNS)))
    page = Page(made.images(shown), [release.class_names[label] for label in labels], title)
    return made._replace(skipped=skipped).report(page, flags.output.out, flags.output.json, flags.output.bare)


def drawn(flags: Any) -> int:
    """Draw images of classes by a generator into shards, and report the first of each class."""
    from rsynth_jax.sampling import generators
    from rsynth_jax.sampling.runner import BATCH_SIZE
    from rsynth_jax.storage.generators import load

    own = flags.learned
    if page := next((name for name in own.given if name not in ("generator", "truncation")), None):
        raise ValueError(f"--{page} makes a sheet of its own: leave it out, or --shards")
    release = load(own.generator)
    psi = 1.0 if own.truncation is None else own.truncation
    size = BATCH_SIZE if flags.ascent.batch_size == "auto" else flags.ascent.batch_size
    settings = {"seed": flags.seed, "truncation": psi, "batch_size": size}
    make = functools.partial(generators.draw, release, flags.classes, flags.num, **settings)
    weights = (release.variables, release.mean_styles)
    return generated(flags, release, weights, make, f"{own.generator[-40:]}, truncation {psi:g}")


def edited(
    flags: Any,
    release: "Release",
    sampler: Callable[..., Any],
    *,
    factor: int = 1,
    fit: options.Fit = image_files.square_bytes,
    prepare: Callable[[sources.Pictures], sources.Pictures] = lambda given: given,
    **settings: Any,
) -> Edited:
    """Edit images of a data set into shards, each batch read when it is edited.

    Args:
      flags: of a program that edits images.
      sampler: of (release, `Pictures`, **settings), has `images` and `labels`.
      factor, fit: see `options.open_images`.
      prepare: see `edit.edit`.
      settings: of the sampler.
    """
    crop = flags.photo.box
    opened = options.open_images(flags.input, release.image_shape[0], factor, crop, fit)
    with tracks() as track:
        dataset, skipped = sources.readable(opened, track("reading"), room=0)
    size = settings["batch_size"] = flags.sharding.batch_size(settings["batch_size"])

    def given(rows: np.ndarray) -> sources.Pictures:
        return prepare(options.pictures(dataset.take(rows), release, flags.label, factor, crop))

    def make(rows: np.ndarray) -> Any:
        return sampler(release, given(rows), **settings)

    weights = (release.variables, release.class_gaussians)
    made = write(flags, weights, release.class_names, len(dataset), make, size)
    first = np.arange(min(len(dataset), ROWS))
    return Edited(made._replace(skipped=skipped), given(first), made.images(first))


def write(
    flags: Any, weights: Any, class_names: tuple[str, ...], num: int, make: Make, batch_size: int
) -> Made:
    """Write images 0 ... num - 1 as shards, those that are not there yet, and show the progress."""
    from rsynth_jax.sampling import runner

    own = flags.sharding
    command = shlex.join([command_name(type(flags)), *sys.argv[1:]])
    plan = shards.Plan(own.format, own.shard_size, num, class_names, settings_of(flags, weights), command)

    def batches(runs: list[range]) -> Iterator[Batch]:
        return _watched(runner.stream(make, runs, num, batch_size), plan, sum(map(len, runs)))

    began = time.perf_counter()
    written = shards.write(own.shards, plan, batches, _crew())
    seconds = time.perf_counter() - began
    rate = written.made / seconds
    numbers = {"num": num, "kept": written.kept, "made": written.made, "seconds": seconds}
    about = f"{num} images in {plan.num_shards} shards"
    now = f"{written.kept} there before, {written.made} made in {seconds:.1f} s, {rate:.1f} images/s"
    return Made(own.shards, numbers, f"{about}; {now}")


def _crew() -> shards.Crew:
    """All processes that joined."""
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return shards.ALONE
    meet = functools.partial(multihost_utils.sync_global_devices, "shards")
    return shards.Crew(jax.process_index(), jax.process_count(), meet)


def settings_of(flags: Any, weights: Any) -> dict[str, Any]:
    """Return everything that decides the images: flags by name, files and weights by their SHA-256."""
    from rsynth_jax.storage import extractors

    values = {name: value for name, value in values_of(flags).items() if name not in _FREE}
    for name, value in values.items():
        if name == "mask":
            values[name] = [_content(word) for word in value]
        elif isinstance(value, PurePath):
            values[name] = f"sha256 {digests.of_file(paths.of(value))}"
        elif name in _PLACES and value is not None and os.path.exists(value):
            values[name] = os.path.abspath(value)
    own = "generator" if values.get("generator") else "classifier"
    made_by = {"program": command_name(type(flags)), f"{own} sha256": extractors.digest(weights)}
    return made_by | {
        name: value for name, value in values.items() if name not in ("classifier", "generator")
    }


def _content(word: str) -> str:
    """A rectangle, or a file by its SHA-256."""
    return f"sha256 {digests.of_file(paths.of(word))}" if paths.is_file(word) else word


def _watched(batches: Iterable[Batch], plan: shards.Plan, total: int) -> Iterator[Batch]:
    """Pass batches on, and show the shard, the rate and the time left."""
    began = said = time.perf_counter()
    done = 0
    with progress_bar("{task.fields[rate]:.1f} images/s") as bar:
        task = bar.add_task("", total=total, rate=0.0)
        for batch in batches:
            now = time.perf_counter()
            done += len(batch.images)
            rate = done / (now - began)
            shard = f"shard {batch.first // plan.shard_size + 1} of {plan.num_shards}"
            bar.update(task, completed=done, description=shard, rate=rate)
            if not bar.console.is_terminal and now - said >= SECONDS:
                left = f"ETA {(total - done) / rate:.0f} s"
                print(f"{shard}, {done} of {total} images, {rate:.1f} images/s, {left}", file=sys.stderr)
                said = now
            yield batch
