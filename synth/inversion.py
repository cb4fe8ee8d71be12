"""rsynth-invert: images from their representations alone, and the way between two representations.

rsynth-invert photo.png --to other.png --frames 10 --out morph.gif
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import numpy as np
import optax
from tyro.conf import arg

from rsynth_jax import checks, models
from rsynth_jax.cli import options as studio
from rsynth_jax.cli import report as gallery
from rsynth_jax.cli import run as console
from rsynth_jax.cli import sheets as pictures
from rsynth_jax.cli.sheets import Page
from rsynth_jax.data import unlabelled
from rsynth_jax.sampling import runner as expedition
from rsynth_jax.sampling.runner import Bytes
from rsynth_jax.storage import files
from rsynth_jax.synthesis import ascent
from rsynth_jax.synthesis import tasks as synthesis
from rsynth_jax.synthesis.ascent import steepest
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.objectives import add, feature_match, scale, smoothness
from rsynth_jax.synthesis.projections import box, chain, l2_ball
from rsynth_jax.synthesis.tasks import Task


def inversion(classifier, start, features, *, smooth, radius):
    """From `start`, climb towards an image whose representation is `features`: of those, a smooth one."""
    alike = add(feature_match(classifier, features), scale(smooth, smoothness()))
    return Task(start, alike, chain(l2_ball(start, radius), box()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(studio.Given):
    """rsynth-invert: images from their representations alone, and the way between two representations.

    Looks for the image whose penultimate layer is that of the given one (Engstrom et al. 2019), from draws of
    a class's Gaussian, never from the image, and keeps the nearest of --starts. With --to it goes from each
    image to another: frame t has the representation (1 - t) R(a) + t R(b), and starts from the same blend of
    the pixels, so the ends are the images themselves. Image i depends on (seed, i) alone.
    """

    to: Annotated[str | None, arg(metavar="B")] = None
    """Where to go from A: images as for A, one for all of them, or as many."""
    frames: int = 10
    """Of the way from A to B, both ends among them."""
    starts: int = 4
    """Draws to start each inversion from; the one that ends at the smallest relative distance is kept."""
    label: Annotated[str | None, arg(name="class", metavar="CLASS")] = None
    """The class to draw starts of, by name or number; by default an .npz's own labels, else what is seen."""
    seed: int = 0
    """Of the draws."""
    smooth: float | None = None
    """Weight of the smoothness; by default 1, and 0 with --to, where frames start from photographs."""
    radius: float = 30.0
    """Largest l2 distance from the start, in pixel values of [0, 1] at 32 pixels: as good as free."""
    steps: int = 60
    """Steps of the ascent."""
    step_size: float = 0.4
    """l2 length of the first step, at 32 pixels; it falls to 0 like a cosine."""
    out: Path = Path("inverted.png")
    """The sheet, a PNG of up to 16 rows: as given, the start, the inversion; or the frames of the way to B,
    above the blends of the pixels. An animation where the name ends in .gif."""
    gif: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write an animation, of the ascent or of the way to B."""


class Wanted(NamedTuple):
    """What is looked for: features (r, d), a row a climb, and the starts of the rows asked for."""

    features: np.ndarray
    starts: Callable[[np.ndarray], jax.Array]


class Found(NamedTuple):
    """What the climbs came to, (r,): relative distances at the start and the end, the class seen there."""

    distance_start: np.ndarray
    distance: np.ndarray
    ends: np.ndarray

    def of(self, row: int, class_names: tuple[str, ...]) -> dict:
        """The numbers of one climb, as plain values."""
        start, end, seen = (column[row] for column in self)
        return {"distance_start": float(start), "distance": float(end), "ends": class_names[seen]}


def check(options: Options) -> None:
    """Raise ValueError for a flag that makes no sense."""
    o = options
    studio.check(o)
    checks.positive(starts=o.starts)
    checks.not_negative(seed=o.seed)
    checks.given(checks.not_negative, smooth=o.smooth)
    if o.frames < 2:
        raise ValueError(f"frames is {o.frames}: give 2 or more, as both ends are among them")
    if o.gif is not None and not pictures.moves(o.gif):
        raise ValueError(f"{o.gif} is no animation: end its name in .gif")
    files.check_writable(o.out, o.gif, o.json)


def from_draws(options: Options, subject: studio.Subject, features: np.ndarray) -> Wanted:
    """Each image's representation `starts` times, row (i, k) from the k-th draw of image i."""
    release, images, _, labels, _ = subject
    numbers = np.stack(np.divmod(np.arange(len(images) * options.starts), options.starts), axis=1)
    draw = expedition.draws(jax.random.key(options.seed), release.class_gaussians, images.shape[1:])
    return Wanted(
        features.repeat(options.starts, axis=0), lambda rows: draw(labels[numbers[rows, 0]], numbers[rows])
    )


def between(ends: tuple[Bytes, Bytes], features: tuple[np.ndarray, np.ndarray], frames: int) -> Wanted:
    """The representations on the way from images to others, row (i, f) from the same blend of the pixels."""
    numbers, shares = np.arange(len(ends[0])).repeat(frames), np.linspace(0, 1, frames, dtype=np.float32)

    def blend(two: tuple[np.ndarray, np.ndarray], rows: np.ndarray) -> np.ndarray:
        a, b = (np.float32(each[numbers[rows]]) for each in two)
        t = shares[rows % frames].reshape(-1, *(1,) * (a.ndim - 1))
        return (1 - t) * a + t * b

    return Wanted(blend(features, np.arange(len(numbers))), lambda rows: blend(ends, rows) / np.float32(255))


def goals(options: Options, subject: studio.Subject) -> unlabelled.Given:
    """The images to go to, one for each of the subject's."""
    o, (release, images, *_) = options, subject
    found = unlabelled.decoded(release, o.to, None, o.data_dir, images.shape[1], o.num)
    if found.skipped or len(found.images) not in (1, len(images)):
        wrong = f"{o.to} has {len(found.images)} images, {o.given} {len(images)}: give one, or as many"
        raise ValueError(found.skipped[0] if found.skipped else wrong)
    rows = np.arange(len(images)) % len(found.images)
    return unlabelled.Given(found.images[rows], tuple(found.names[row] for row in rows), ())


def climb(options: Options, release, wanted: Wanted, most: int) -> tuple[studio.Painted, Found]:
    """Every row's ascent, which answers with the best image it measured, and what it came to."""
    smooth = options.smooth if options.smooth is not None else float(options.to is None)
    task = functools.partial(inversion, smooth=smooth, radius=options.radius)
    sizes = optax.cosine_decay_schedule(options.step_size, options.steps)
    with_optimizer = synthesis.with_optimizer(task, steepest(L2, sizes))

    def climb_fn(classifier, start, features):
        start, climb = with_optimizer(classifier, start, features)
        return start, ascent.best_so_far(climb)

    def rows_of(rows):
        return wanted.starts(rows), wanted.features[rows]

    painted = studio.climbed(options, release, climb_fn, rows_of, len(wanted.features), most)
    ends = np.concatenate([painted.frames[0], painted.frames[-1]])
    made = expedition.embedded(models.create(release.config), release.variables, ends, options.batch_size)
    gaps = np.linalg.norm(made.features - np.tile(wanted.features, (2, 1)), axis=1)
    start, end = np.split(gaps, 2) / np.maximum(np.linalg.norm(wanted.features, axis=1), 1e-12)
    return painted, Found(start, end, made.logits.argmax(axis=1)[len(start) :])


def invert(options: Options) -> int:
    """Load, climb, write."""
    check(options)
    subject = studio.subject(options)
    release, images, *_ = subject
    options = studio.scaled(options, release)
    model = models.create(release.config)
    given = expedition.embedded(model, release.variables, images, options.batch_size)
    if options.to is None:
        inverted(options, subject, given.features, given.logits.argmax(axis=1))
    else:
        there = goals(options, subject)
        made = expedition.embedded(model, release.variables, there.images, options.batch_size)
        morphed(options, subject, there, (given.features, made.features))
    return console.skipped(subject.skipped)


def inverted(options: Options, subject: studio.Subject, features: np.ndarray, seen: np.ndarray) -> None:
    """Each image from the best of its starts."""
    release, images, names, labels, _ = subject
    most = studio.GIF_CHUNK if options.gif or pictures.moves(options.out) else ascent.CHUNK
    painted, found = climb(options, release, from_draws(options, subject, features), most)
    best = (tried := found.distance.reshape(-1, options.starts)).argmin(axis=1)
    kept = np.arange(len(tried)) * options.starts + best
    frames, found = [frame[kept] for frame in painted.frames], Found(*(column[kept] for column in found))
    classes = release.class_names
    each = [
        {"name": name, "class": classes[label], "from": classes[start], "start": int(k)}
        | {"tried": tried[i].tolist()}
        | found.of(i, classes)
        for i, (name, label, start, k) in enumerate(zip(names, labels, seen, best, strict=True))
    ]
    called = ["{name}: {from}, now {ends}, distance {distance:.2f}".format(**one) for one in each]
    titles = pictures.titles("feature_match", options.steps, options.step_size, len(frames))
    pages = [
        Page(np.stack([images, frames[0], frame], axis=1), called, f"given, start, {title}")
        for frame, title in zip(frames, titles, strict=True)
    ]
    share = float((found.ends == seen).mean())
    what = f"{len(each)} images, the best of {options.starts} starts each, {share:.0%} seen as they were,"
    numbers = {"share": share, "images": each, "seconds": painted.seconds}
    publish(options, pages[-1], pages, found, numbers, what)


def morphed(options: Options, subject: studio.Subject, there: unlabelled.Given, features: tuple) -> None:
    """The way from each image to the other, its frames above those of the pixels' blend."""
    release, images, names, *_ = subject
    wanted = between((images, there.images), features, options.frames)
    painted, found = climb(options, release, wanted, ascent.CHUNK)
    shares, num = np.linspace(0, 1, options.frames), options.frames
    each = [
        {"name": a, "to": b}
        | {"frames": [{"t": t} | found.of(i * num + f, release.class_names) for f, t in enumerate(shares)]}
        for i, (a, b) in enumerate(zip(names, there.names, strict=True))
    ]
    stages = [frame.reshape(-1, num, *images.shape[1:]) for frame in (painted.frames[-1], painted.frames[0])]
    cells = np.stack(stages, axis=1)
    called = [f"{one['name']} to {one['to']}" for one in each]
    rows = [name for one in called for name in (one, "the same in pixels")]
    title = f"{num} frames of feature_match, {options.steps} steps"
    still = Page(cells.reshape(-1, *cells.shape[2:]), rows, title)
    pages = [Page(cells[:, :, f], called, f"{t:.0%}, and in pixels") for f, t in enumerate(shares)]
    what = f"{num} frames on the way of each of {len(each)} images"
    publish(options, still, pages, found, {"images": each, "seconds": painted.seconds}, what)


def publish(options: Options, still: Page, pages: list[Page], found: Found, numbers: dict, what: str) -> None:
    """The sheet or the animation, whichever OUT is, the other files asked for, and the closing line."""
    for path in filter(None, (options.out, options.gif)):
        pictures.write_pages(path, still, pages, gallery.ROWS)
    start, end = float(found.distance_start.mean()), float(found.distance.mean())
    console.report(options.json, {"distance_start": start, "distance": end} | numbers)
    seconds = numbers["seconds"]
    print(f"{options.out}: {what} in {seconds:.1f} s; relative distance {start:.3f} -> {end:.3f}")


def main() -> None:
    """The command."""
    console.run(Options, invert)


if __name__ == "__main__":
    main()
