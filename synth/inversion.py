"""rsynth-invert: images from their representations alone, and the way between two representations.

rsynth-invert photo.png --to other.png --frames 10 --out morph.gif
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli.options import (
    AscentFlags,
    ClassifierName,
    ClassName,
    InputFlags,
    Inputs,
    OutputFlags,
    Seed,
    SystemFlags,
    read,
)
from rsynth_jax.cli.report import ROWS, Result, report, title_of
from rsynth_jax.cli.run import monitor, run
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

    input: InputFlags
    classifier: ClassifierName = "cifar10"
    label: ClassName = None
    to: Annotated[str | None, arg(metavar="B")] = None
    """Images to go to from A: images as for A, one for all of them, or as many."""
    frames: int = 10
    """Number of frames from A to B, both ends among them."""
    starts: int = 4
    """Number of draws to start each inversion from."""
    seed: Seed = 0
    smooth: float | None = None
    """Weight of the smoothness; by default 1, and 0 with --to, where frames start from photographs."""
    ascent: AscentFlags = AscentFlags(radius=30.0, steps=60, step_size=0.4)
    output: OutputFlags = OutputFlags(out=Path("inverted.png"))
    system: SystemFlags = SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(starts=self.starts)
        checks.not_negative(seed=self.seed)
        checks.given(checks.not_negative, smooth=self.smooth)
        if self.frames < 2:
            raise ValueError(f"frames is {self.frames}: give 2 or more, as both ends are among them")


def invert(options: Options) -> int:
    """Invert or interpolate, and report."""
    from rsynth_jax.storage import releases

    o = options
    o.output.check_writable()
    release = releases.load(o.classifier)
    given = read(o.input, release, o.label)
    make = inverted if o.to is None else interpolated
    return report(o.output, make(o, release, given)._replace(skipped=given.skipped))


def inverted(options: Options, release: "Release", given: Inputs) -> Result:
    """Invert each image. The sheet has a row each: as given, the start, the result."""
    from rsynth_jax.sampling import samplers

    o = options
    smooth = 1.0 if o.smooth is None else o.smooth
    settings = {"starts": o.starts, "seed": o.seed, "smoothness_weight": smooth}
    with monitor(len(given.images) * o.starts, o.ascent.steps, o.output.animated) as watched:
        settings |= o.ascent.settings | watched.run
        found = samplers.invert(release, given.images, given.labels, **settings)
    classes = np.array(release.class_names)
    columns = {"name": given.names, "class": classes[found.labels], "from": classes[found.predicted_given]}
    each = rows_of(columns | {"start": found.chosen, "tried": found.tried}, found, classes)
    captions = ["{name}: {from}, now {ends}, distance {distance:.2f}".format_map(image) for image in each]
    title = title_of("likeness", o.ascent.steps, o.ascent, release)
    kept = np.arange(len(each)) * o.starts + found.chosen

    def page(step: int, images: np.ndarray) -> Page:
        cells = np.stack([given.images, found.starts, images], axis=1)
        return Page(cells, captions, f"given, start, {title.after(step)}")

    share = float((found.predicted == found.predicted_given).mean())
    about = f"{len(each)} images, the best of {o.starts} starts each, {share:.0%} predicted as they were,"
    numbers = {"share": share, "images": each, "seconds": watched.seconds}
    frames = [page(frame.step, frame.images[kept]) for frame in watched.frames]
    return result_of(found, classes, given.names, about, numbers, page(title.steps, found.images), frames)


def interpolated(options: Options, release: "Release", given: Inputs) -> Result:
    """Interpolate. The sheet has two rows for each image: the frames above the blends of the pixels."""
    from rsynth_jax.sampling import samplers

    o = options
    others = read_others(o, given)
    settings = {"frames": o.frames, "smoothness_weight": o.smooth or 0.0}
    with monitor(len(given.images) * o.frames, o.ascent.steps) as watched:
        settings |= o.ascent.settings | watched.run
        found = samplers.interpolate(release, given.images, others.images, **settings)
    classes = np.array(release.class_names)
    times = np.linspace(0, 1, o.frames)
    rows = rows_of({"t": np.tile(times, len(given.images))}, found, classes)
    pairs = list(zip(given.names, others.names * len(given.names), strict=False))
    each = [
        {"name": a, "to": b, "frames": rows[i * o.frames :][: o.frames]} for i, (a, b) in enumerate(pairs)
    ]
    captions = [f"{a} to {b}" for a, b in pairs]
    shape = (len(pairs), o.frames, *given.images.shape[1:])
    cells = np.stack([found.images.reshape(shape), found.starts.reshape(shape)], axis=1)
    names = [f"{name}-{frame:04d}" for name in given.names for frame in range(o.frames)]
    sheet = Page(
        cells.reshape(-1, *cells.shape[2:]),
        [name for caption in captions for name in (caption, "the same in pixels")],
        f"{o.frames} frames of likeness, {o.ascent.steps} steps",
    )
    pages = [Page(cells[:, :, f], captions, f"{t:.0%}, and in pixels") for f, t in enumerate(times)]
    about = f"{o.frames} frames on the way of each of {len(pairs)} images"
    numbers = {"images": each, "seconds": watched.seconds}
    return result_of(found, classes, names, about, numbers, sheet, pages)


def read_others(options: Options, given: Inputs) -> sources.Pictures:
    """Read the images to go to. Raises ValueError for a file that cannot be read."""
    flags = options.input
    dataset = sources.load(str(options.to), None, flags.data_dir, given.images.shape[1])
    others = sources.read_all(dataset.first(flags.num))
    if others.skipped:
        raise ValueError(others.skipped[0])
    return others


def rows_of(columns: Mapping[str, Any], found: "Inversion", classes: np.ndarray) -> list[dict[str, Any]]:
    """Return the columns, the distances and the predicted class as plain values, row by row."""
    named = {"distance_start": found.distance_start, "distance": found.distance}
    named = {**columns, **named, "ends": classes[found.predicted]}
    values = (np.asarray(column).tolist() for column in named.values())
    return [dict(zip(named, row, strict=True)) for row in zip(*values, strict=True)]


def result_of(
    found: "Inversion",
    classes: np.ndarray,
    names: Sequence[str],
    about: str,
    numbers: dict[str, Any],
    sheet: Page,
    frames: Sequence[Page],
) -> Result:
    """Add the mean distances to the numbers and to the closing line, and the images by name."""
    start = float(found.distance_start.mean())
    end = float(found.distance.mean())
    return Result(
        sheet.first(ROWS),
        numbers | {"distance_start": start, "distance": end},
        f"{about} in {numbers['seconds']:.1f} s; relative distance {start:.3f} -> {end:.3f}",
        {"images": found.images, "labels": found.predicted, "class_names": classes},
        dict(zip(names, found.images, strict=True)),
        [page.first(ROWS) for page in frames],
    )


def main() -> None:
    """Run the command."""
    run(Options, invert)


if __name__ == "__main__":
    main()
