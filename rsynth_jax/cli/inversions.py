"""Invert and interpolate for a program, and describe what was found: lines, numbers and sheets.

    result = inverted(flags, release, given)        # or interpolated, with --to
    report(out, result, sheet=out)

This module imports nothing heavy.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rsynth_jax.cli.report import ROWS, Result, Title, image_arrays, rows
from rsynth_jax.cli.run import Monitor
from rsynth_jax.cli.sheets import Page
from rsynth_jax.data import sources

if TYPE_CHECKING:
    from rsynth_jax.sampling.samplers import Inversion
    from rsynth_jax.storage.releases import Release


def inverted(flags: Any, release: "Release", given: sources.Pictures) -> Result:
    """Invert the images, as the flags of rsynth-invert ask."""
    from rsynth_jax.sampling import samplers

    ascent = flags.ascent
    settings = {"starts": flags.starts, "seed": flags.seed} | ascent.settings(release)
    settings["smoothness_weight"] = 1.0 if flags.smooth is None else flags.smooth
    climbing = np.arange(len(given.images) * flags.starts)
    shown = flags.output.animate(climbing < ROWS * flags.starts)
    with Monitor(len(climbing), ascent.steps, shown) as monitor:
        found = samplers.invert(release, given.images, given.labels, **settings, **monitor.run)
    title = Title("feature match", ascent.steps, ascent.step_size * samplers.scale_of(release))
    return _inversions(release, given, found, title, monitor)


def interpolated(flags: Any, release: "Release", given: sources.Pictures) -> Result:
    """Go from the images to those of --to. Raises ValueError for one of them that cannot be read."""
    from rsynth_jax.sampling import samplers

    steps = flags.ascent.steps
    dataset = sources.load(str(flags.to), None, flags.input.data_dir, given.images.shape[1])
    others = sources.read_all(dataset.first(flags.input.num))
    if others.skipped:
        raise ValueError(others.skipped[0])
    settings = {"frames": flags.frames, "smoothness_weight": flags.smooth or 0.0} | flags.ascent.settings(
        release
    )
    with Monitor(len(given.images) * flags.frames, steps) as monitor:
        found = samplers.interpolate(release, given.images, others.images, **settings, **monitor.run)
    return _interpolations(release, given, others.names, found, steps, monitor.seconds)


def _inversions(
    release: "Release", given: sources.Pictures, found: "Inversion", title: Title, monitor: Monitor
) -> Result:
    """Describe inversions; the sheet has a row an image: as given, the start, the inversion."""
    num, starts = found.tried.shape
    classes = np.array(release.class_names)
    about = {"name": given.names, "class": classes[found.labels], "from": classes[found.predicted_given]}
    each = rows(about | {"start": found.chosen, "tried": found.tried} | _outcome(found, classes))
    captions = list(map("{name}: {from}, now {ends}, distance {distance:.2f}".format_map, each[:ROWS]))
    kept = (np.arange(num) * starts + found.chosen)[:ROWS]

    def page(step: int, images: np.ndarray) -> Page:
        columns = (given.images, found.starts, images)
        cells = np.stack([column[:ROWS] for column in columns], axis=1)
        return Page(cells, captions, f"given, start, {title.after(step)}")

    share = float((found.predicted == found.predicted_given).mean())
    result = Result(
        page(title.steps, found.images),
        {"share": share, "images": each},
        f"{num} images, the best of {starts} starts each, {share:.0%} classified as before,",
        each=dict(zip(given.names, found.images, strict=True)),
        frames=[page(step, images[kept]) for step, images in monitor.frames.items()],
    )
    return _with_distances(result, release, given, found, monitor.seconds)


def _interpolations(
    release: "Release",
    given: sources.Pictures,
    others: Sequence[str],
    found: "Inversion",
    steps: int,
    seconds: float,
) -> Result:
    """Describe interpolations; the sheet has two rows a pair: the frames above the blends of the pixels.

    The animation has the frames alone.
    """
    pairs = list(zip(given.names, [*others] * len(given.names), strict=False))
    num = len(found.images) // len(pairs)
    times = np.linspace(0, 1, num)
    frames = rows({"t": np.tile(times, len(pairs))} | _outcome(found, np.array(release.class_names)))
    captions = [f"{a} to {b}" for a, b in pairs][:ROWS]
    shape = (len(pairs), num, *given.images.shape[1:])
    cells = np.stack([found.images.reshape(shape), found.starts.reshape(shape)], axis=1)[:ROWS]
    names = [f"{name}-{frame:04d}" for name in given.names for frame in range(num)]
    sheet = Page(
        cells[: ROWS // 2].reshape(-1, *shape[1:]),
        [name for caption in captions[: ROWS // 2] for name in (caption, "the same in pixels")],
        f"feature match, {num} frames, {steps} steps",
    )
    each = [{"name": a, "to": b, "frames": frames[i * num :][:num]} for i, (a, b) in enumerate(pairs)]
    result = Result(
        sheet,
        {"images": each},
        f"{num} frames on the way of each of {len(pairs)} images",
        each=dict(zip(names, found.images, strict=True)),
        frames=[Page(cells[:, :1, f], (), "") for f in range(num)],  # the images alone
    )
    return _with_distances(result, release, given, found, seconds)


def _outcome(found: "Inversion", classes: np.ndarray) -> dict[str, np.ndarray]:
    ends = classes[found.predicted]
    return {"distance_start": found.distance_start, "distance": found.distance, "ends": ends}


def _with_distances(
    result: Result, release: "Release", given: sources.Pictures, found: "Inversion", seconds: float
) -> Result:
    """The result with the mean distances, the arrays of --npz and the skipped files."""
    means = {name: float(getattr(found, name).mean()) for name in ("distance_start", "distance")}
    distances = "relative distance {distance_start:.3f} -> {distance:.3f}".format_map(means)
    return result._replace(
        numbers={**result.numbers, "seconds": seconds, **means},
        closing=f"{result.closing} in {seconds:.1f} s; {distances}",
        arrays=image_arrays(release, found.images, found.predicted),
        skipped=given.skipped,
    )
