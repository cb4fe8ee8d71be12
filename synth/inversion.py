"""rsynth-invert: images from their representations alone, and the way between two representations.

rsynth-invert photo.png --to other.png --frames 10 --out morph.gif
"""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import options
from rsynth_jax.cli.report import ROWS, Result, Title, report, rows
from rsynth_jax.cli.run import Monitor, run
from rsynth_jax.cli.sheets import Page
from rsynth_jax.data import sources

if TYPE_CHECKING:
    from rsynth_jax.sampling.samplers import Inversion
    from rsynth_jax.storage.releases import Release


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-invert: images from their representations alone, and the way between two representations.

    Finds the image whose penultimate features are those of the given one (Engstrom et al. 2019), from draws
    of the Gaussian of --class, never from the image, and keeps the nearest of --starts. With --to it goes
    from each image to another: frame t has the features (1 - t) R(a) + t R(b), and starts from the same blend
    of the pixels, so the ends are the images themselves. Image i depends on (seed, i) alone. The step size
    decreases to 0 like a cosine.

    The sheet has a row an image, of up to 16: as given, the start, the inversion; or the frames of the way to
    B, above the blends of the pixels.
    """

    input: options.InputFlags
    classifier: options.ClassifierName = "cifar10"
    label: options.ClassName = None
    to: Annotated[str | None, arg(metavar="B")] = None
    """Images to go to from A: images as for A, one for all of them, or as many."""
    frames: int = 10
    """Number of frames from A to B, both ends among them."""
    starts: int = 4
    """Number of draws to start each inversion from."""
    seed: options.Seed = 0
    smooth: float | None = None
    """Weight of the smoothness; by default 1, and 0 with --to, where frames start from photographs."""
    ascent: options.AscentFlags = options.AscentFlags(radius=30.0, steps=60, step_size=0.4)
    output: options.OutputFlags = options.OutputFlags(out=Path("inverted.png"))
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(starts=self.starts)
        checks.seed(seed=self.seed)
        checks.given(checks.not_negative, smooth=self.smooth)
        if self.frames < 2:
            raise ValueError(f"frames is {self.frames}: give 2 or more, as both ends are among them")


def invert(flags: Options) -> int:
    """Invert or interpolate, and report."""
    from rsynth_jax.storage import releases

    flags.output.check()
    release = releases.load(flags.classifier)
    given = options.read(flags.input, release, flags.label)
    make = _inverted if flags.to is None else _interpolated
    found, result = make(flags, release, given)
    means = {name: float(getattr(found, name).mean()) for name in ("distance_start", "distance")}
    distances = "relative distance {distance_start:.3f} -> {distance:.3f}".format_map(means)
    arrays = {"images": found.images, "labels": found.predicted}
    result = result._replace(
        numbers={**result.numbers, **means},
        closing=f"{result.closing} in {result.numbers['seconds']:.1f} s; {distances}",
        arrays=arrays | {"class_names": np.array(release.class_names)},
        skipped=given.skipped,
    )
    return report(flags.output.out, result, each=flags.output.each, **flags.output.paths)


def _inverted(flags: Options, release: "Release", given: options.Inputs) -> "tuple[Inversion, Result]":
    """A row an image: as given, the start, the result."""
    from rsynth_jax.sampling import samplers

    num = len(given.images)
    ascent = flags.ascent
    settings = {"starts": flags.starts, "seed": flags.seed} | ascent.settings
    settings["smoothness_weight"] = 1.0 if flags.smooth is None else flags.smooth
    with Monitor(num * flags.starts, ascent.steps, flags.output.animated) as monitor:
        found = samplers.invert(release, given.images, given.labels, **settings, **monitor.run)
    classes = np.array(release.class_names)
    about = {"name": given.names, "class": classes[found.labels], "from": classes[found.predicted_given]}
    each = rows(about | {"start": found.chosen, "tried": found.tried} | _outcome(found, classes))
    captions = list(map("{name}: {from}, now {ends}, distance {distance:.2f}".format_map, each[:ROWS]))
    title = Title("feature match", ascent.steps, ascent.step_size * samplers.scale_of(release))
    kept = np.arange(num) * flags.starts + found.chosen

    def page(step: int, images: np.ndarray) -> Page:
        columns = (given.images, found.starts, images)
        cells = np.stack([column[:ROWS] for column in columns], axis=1)
        return Page(cells, captions, f"given, start, {title.after(step)}")

    share = float((found.predicted == found.predicted_given).mean())
    result = Result(
        page(ascent.steps, found.images),
        {"share": share, "images": each, "seconds": monitor.seconds},
        f"{num} images, the best of {flags.starts} starts each, {share:.0%} classified as before,",
        each=dict(zip(given.names, found.images, strict=True)),
        frames=[page(step, images[kept]) for step, images in monitor.frames.items()],
    )
    return found, result


def _interpolated(flags: Options, release: "Release", given: options.Inputs) -> "tuple[Inversion, Result]":
    """Two rows a pair: the frames above the blends of the pixels."""
    from rsynth_jax.sampling import samplers

    num = flags.frames
    others = _read_others(flags, given)
    settings = {"frames": num, "smoothness_weight": flags.smooth or 0.0} | flags.ascent.settings
    with Monitor(len(given.images) * num, flags.ascent.steps) as monitor:
        found = samplers.interpolate(release, given.images, others.images, **settings, **monitor.run)
    times = np.linspace(0, 1, num)
    frames = rows({"t": np.tile(times, len(given.images))} | _outcome(found, np.array(release.class_names)))
    pairs = list(zip(given.names, others.names * len(given.names), strict=False))
    captions = [f"{a} to {b}" for a, b in pairs][:ROWS]
    shape = (len(pairs), num, *given.images.shape[1:])
    cells = np.stack([found.images.reshape(shape), found.starts.reshape(shape)], axis=1)[:ROWS]
    names = [f"{name}-{frame:04d}" for name in given.names for frame in range(num)]
    sheet = Page(
        cells.reshape(-1, *shape[1:]),
        [name for caption in captions for name in (caption, "the same in pixels")],
        f"feature match, {num} frames, {flags.ascent.steps} steps",
    )
    each = [{"name": a, "to": b, "frames": frames[i * num :][:num]} for i, (a, b) in enumerate(pairs)]
    result = Result(
        sheet.first(ROWS),
        {"images": each, "seconds": monitor.seconds},
        f"{num} frames on the way of each of {len(pairs)} images",
        each=dict(zip(names, found.images, strict=True)),
        frames=[Page(cells[:, :, f], captions, f"{t:.0%}, and in pixels") for f, t in enumerate(times)],
    )
    return found, result


def _outcome(found: "Inversion", classes: np.ndarray) -> dict[str, np.ndarray]:
    ends = classes[found.predicted]
    return {"distance_start": found.distance_start, "distance": found.distance, "ends": ends}


def _read_others(flags: Options, given: options.Inputs) -> sources.Pictures:
    side = given.images.shape[1]
    dataset = sources.load(str(flags.to), None, flags.input.data_dir, side).first(flags.input.num)
    others = sources.read_all(dataset)
    if others.skipped:
        raise ValueError(others.skipped[0])
    return others


main = functools.partial(run, Options, invert)

if __name__ == "__main__":
    main()
