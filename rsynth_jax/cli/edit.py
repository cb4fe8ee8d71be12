"""Run a program that edits images: read, climb, report.

    class Options(EditFlags):
        ascent: AscentFlags = AscentFlags(radius=10.0, steps=40, step_size=0.2)
        output: OutputFlags = OutputFlags(out=Path("sketched.png"))

    def sketch(flags: Options) -> int:
        return edit(flags, sampler)

This module imports nothing heavy.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rsynth_jax import checks
from rsynth_jax.cli import classifiers, options, photos, sharded
from rsynth_jax.cli.hosts import JoinFlags
from rsynth_jax.cli.photos import Paste
from rsynth_jax.cli.report import ROWS, Result, Title, climb_numbers, image_arrays, report
from rsynth_jax.cli.run import Monitor
from rsynth_jax.cli.sheets import Page
from rsynth_jax.data import image_files, tiles
from rsynth_jax.data.sources import Pictures
from rsynth_jax.metrics import estimates

if TYPE_CHECKING:
    from rsynth_jax.sampling.runner import Samples
    from rsynth_jax.storage.releases import Release
    from rsynth_jax.types import Bytes

Extra = Mapping[str, np.ndarray]  # more numbers of each image, (n,) each
EditSampler = Callable[..., "tuple[Samples, Extra]"]  # of (release, given, **arguments of a sampler)
_CAPTION = "{name}: {from} -> {to}, p {p:.2f}, moved {l2_moved:.1f} in l2"
_CLOSING = "{share:.0%} end in their class, mean p {p_start:.2f} -> {p:.2f}, l2 moved {l2_moved:.2f}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EditFlags:
    """Flags of programs that edit images."""

    input: options.InputFlags
    photo: options.PhotoFlags = options.PhotoFlags()
    classifier: options.ClassifierName = "cifar10"
    dtype: options.Dtype = "float32"
    label: options.ClassName = None
    objective: options.ObjectiveName = "log-prob"
    ascent: options.AscentFlags
    output: options.OutputFlags
    sharding: options.ShardFlags = options.ShardFlags()
    hosts: JoinFlags = JoinFlags()
    system: options.SystemFlags = options.SystemFlags()


def edit(
    flags: EditFlags,
    sampler: EditSampler,
    *,
    factor: int = 1,
    rounds: int = 1,
    fit: options.Fit = image_files.square_bytes,
    prepare: Callable[[Pictures], Pictures] = lambda given: given,
    paste: Paste = photos.composite,
    in_color: bool = False,
) -> int:
    """Read the images, run the sampler on them, and report. Returns the exit status.

    Args:
      flags: the program's flags.
      sampler: given the release, the `Pictures`, and objective, radius, num_steps ... by keyword.
      factor, fit: see `options.open_images`.
      rounds: how often the sampler climbs the number of steps that the flags give.
      prepare: what is made of the images that were read before the sampler gets them.
      paste: how a photograph is made of a result, see `photos.write`.
      in_color: whether gray images get colors; by default they stay gray.
    """
    sampler = sampler if in_color else staying_gray(sampler)
    steps = flags.ascent.steps
    release, title, settings = _begun(flags)
    if flags.sharding.shards is not None:
        settings |= {"factor": factor, "fit": fit, "prepare": prepare}
        done = sharded.edited(flags, release, lambda *given, **by: sampler(*given, **by)[0], **settings)
        before, after = done.given.images, done.after
        cells = np.stack([before, after, _difference(before, after)], axis=1)
        page = Page(cells, done.given.names, f"given, {title.after(steps)}, difference")
        return done.made.report(page, flags.output.out, flags.output.json, flags.output.bare)
    given = prepare(options.read(flags.input, release, flags.label, factor, flags.photo.box, fit))
    outputs = [*flags.output.paths.values()]
    targets = photos.targets(flags.photo.photo, given, outputs)
    begin = functools.partial(photos.announce, given, outputs, written=bool(targets))
    shown = flags.output.animate(np.arange(len(given.images)) < ROWS)
    with Monitor(len(given.images), rounds * steps, shown, begin=begin) as monitor:
        samples, extra = sampler(release, given, **settings | monitor.run)
    lines, columns = photos.described(release, given, samples, settings["batch_size"])
    photos.write(targets, given, samples.images, paste, in_color=in_color)
    result = _result(release, given, samples, extra, columns, title, monitor)._replace(lines=lines)
    return report(flags.output.out, result, **flags.output.written)


def edit_tiles(
    flags: EditFlags, sampler: EditSampler, *, factor: int = 1, paste: Paste = photos.composite
) -> int:
    """Edit one photograph in tiles at the classifier's own scale, blend them, and report; see `edit`."""
    if flags.sharding.shards is not None:
        raise ValueError("--tile makes one image of all tiles: leave it out, or --shards")
    sampler = staying_gray(sampler)
    release, title, settings = _begun(flags)
    tiled = photos.read_tiled(flags, release, factor)
    (name,), num = tiled.whole.names, len(tiled.tiles.images)
    outputs = [*flags.output.paths.values()]
    targets = photos.targets(flags.photo.photo, tiled.whole, outputs)
    begin = functools.partial(photos.announce_tiles, tiled, outputs, written=bool(targets))
    shown = flags.output.animate(np.ones(num, bool))
    with Monitor(num, title.steps, shown, begin=begin) as monitor:
        samples, extra = sampler(release, tiled.tiles, **settings | monitor.run)
    blended = functools.partial(tiles.blend, tiling=tiled.tiling, factor=factor)
    before, start, made = tiled.whole.images[0], blended(samples.starts), blended(samples.images)
    photos.write(targets, tiled.whole, made[None], paste)
    numbers = _numbers(release, tiled.tiles, samples, extra, {}, monitor.seconds)

    def page(step: int, after: "Bytes") -> Page:
        cells = np.stack([before, start, after, _difference(before, after)])[None]
        caption = f"{name}: {num} tiles, mean p {numbers['p']:.2f}"
        return Page(cells, [caption], f"given, start, {title.after(step)}, difference")

    result = Result(
        page(title.steps, made),
        numbers,
        f"{num} tiles in {monitor.seconds:.1f} s; {_CLOSING.format_map(numbers)}{_means(numbers, extra)}",
        image_arrays(release, made[None], np.array([np.bincount(samples.labels).argmax()])),
        {name: made},
        [page(step, blended(images)) for step, images in monitor.frames.items()],
        lines=photos.described_tiles(tiled, numbers["images"]),
    )
    return report(flags.output.out, result, **flags.output.written)


def staying_gray(sampler: Callable[..., Any]) -> Callable[..., Any]:
    """The sampler, of (release, `Pictures`, **settings), by which gray images stay gray."""

    def stay(release: "Release", given: Pictures, **settings: Any) -> Any:
        return sampler(release, given, gray=given.gray, **settings)

    return stay


def _begun(flags: EditFlags) -> tuple["Release", Title, dict[str, Any]]:
    """The classifier, the title of the sheet, and the settings of the sampler; the outputs are checked."""
    from rsynth_jax.sampling.samplers import scale_of
    from rsynth_jax.synthesis.objectives import CLASS_OBJECTIVES

    objective = checks.named("objective", flags.objective, CLASS_OBJECTIVES)
    flags.output.check()
    flags.sharding.check(flags.output, flags.photo)
    release = classifiers.load(flags.classifier, flags.dtype)
    title = Title(flags.objective, flags.ascent.steps, flags.ascent.step_size * scale_of(release))
    return release, title, flags.ascent.settings(release) | {"objective": objective}


def _means(numbers: Mapping[str, Any], extra: Extra) -> str:
    return "".join(f", {name.replace('_', ' ')} {numbers[name]:.4g}" for name in extra)


def _result(
    release: "Release",
    given: Pictures,
    samples: "Samples",
    extra: Extra,
    columns: Extra,
    title: Title,
    monitor: Monitor,
) -> Result:
    numbers = _numbers(release, given, samples, extra, columns, monitor.seconds)
    captions = [_CAPTION.format(p=np.exp(row["log_prob"]), **row) for row in numbers["images"][:ROWS]]
    short = [caption.partition(",")[0] for caption in captions]
    before = given.images[:ROWS]

    def page(step: int, images: "Bytes", names: list[str]) -> Page:
        after = images[:ROWS]
        cells = np.stack([before, samples.starts[:ROWS], after, _difference(before, after)], axis=1)
        return Page(cells, names, f"given, start, {title.after(step)}, difference")

    return Result(
        page(title.steps, samples.images, captions),
        numbers,
        f"{len(samples.images)} images in {monitor.seconds:.1f} s; "
        + _CLOSING.format_map(numbers)
        + _means(numbers, extra),
        image_arrays(release, samples.images, samples.labels) | {"given": given.images},
        dict(zip(given.names, samples.images, strict=True)),
        [page(step, images, short) for step, images in monitor.frames.items()],
        given.skipped,
    )


def _difference(before: "Bytes", after: "Bytes") -> "Bytes":
    return np.clip(128 + (np.int16(after) - before), 0, 255).astype(np.uint8)


def _numbers(
    release: "Release", given: Pictures, samples: "Samples", extra: Extra, columns: Extra, seconds: float
) -> dict[str, Any]:
    """The share that ends in its class, means over all images, and the numbers of each."""
    classes = np.array(release.class_names)
    start, end = (classes[outputs.predicted] for outputs in (samples.summary.start, samples.summary.end))
    about = {"name": given.names, "from": start, "to": classes[samples.labels], "ends": end}
    measured = {name: np.asarray(column, np.float64) for name, column in extra.items()}
    climb = climb_numbers(samples, {**about, **columns, **measured}, seconds)
    share, *interval = estimates.share(end == about["to"])
    means = {name: float(column.mean()) for name, column in extra.items()}
    numbers = {"share": share, "interval": interval}
    for name, column in (("p_start", "log_prob_start"), ("p", "log_prob")):
        numbers[name] = float(np.mean([np.exp(row[column]) for row in climb["images"]]))
    return numbers | means | climb


def largest_change(given: "Bytes", result: "Bytes", where: np.ndarray) -> np.ndarray:
    """Measure the largest change of a value of each image on the mask `where`, in bytes, (n,)."""
    return (np.abs(np.int16(result) - given) * where).max(axis=(1, 2, 3))
