"""Draw images by a released generator for a program: its flags, its sheets, numbers and animation.

    class Options:
        learned: GeneratorFlags = GeneratorFlags()

    result = generated(flags)

This module imports nothing heavy.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli.class_ascents import ClassAscentFlags
from rsynth_jax.cli.parse import Options, flag_of, parse
from rsynth_jax.cli.report import ROWS, Result, rows
from rsynth_jax.cli.run import Monitor
from rsynth_jax.cli.sheets import Page

if TYPE_CHECKING:
    from rsynth_jax.storage.generators import GeneratorRelease

COLUMNS = 16  # of a sheet at most: --npz and --each have all images
# flags that --generator excludes
_ASCENT = {field.name.replace("_", "-") for field in dataclasses.fields(ClassAscentFlags)}
_ASCENT |= {"classifier", "radius"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneratorFlags:
    """Flags of a learned generator, in place of the classifier and its ascent."""

    generator: Annotated[str | None, arg(metavar="NAME")] = None
    """Draw from a style-based generator, in one pass an image: a released generator's name, a .safetensors
    file, or a training run of rsynth-train-generator."""
    inverter: Annotated[str | None, arg(metavar="NAME")] = None
    """Decode draws of N(0, I) by a variational inverter, in one pass an image of no given class: a released
    inverter's name, a .safetensors file, or a training run of rsynth-train-inverter."""
    truncation: Annotated[float | None, arg(metavar="PSI")] = None
    """Factor of a style's distance from the mean style of its class: 0 or more, by default 1; lower is more
    typical and less varied."""
    mix: Annotated[str | None, arg(metavar="LAYERS")] = None
    """A grid: each image of the left column with the coarse, middle, fine or all styles of each image of the
    first row."""
    interpolate: Annotated[int | None, arg(metavar="FRAMES")] = None
    """So many frames from each image of a class to the next, and from the last to the first: --gif."""
    noise: bool = False
    """Each image under several noises, without noise, with that of some layers, and the deviation."""

    def __post_init__(self) -> None:
        if self.generator is not None and self.inverter is not None:
            raise ValueError("--generator and --inverter are different networks: give one of them")
        others = [name for name in self.given if name != "inverter"]
        if self.generator is None and others:
            raise ValueError(f"--{others[0]} is a flag of a generator: give --generator NAME")
        pages = [f"--{name}" for name in self.given if name in _PAGES]
        if len(pages) > 1:
            raise ValueError(f"{' and '.join(pages)} are different sheets: give one of them")
        checks.given(checks.not_negative, truncation=self.truncation)
        checks.given(checks.positive, interpolate=self.interpolate)

    @property
    def given(self) -> list[str]:
        """The names of the flags that are given."""
        return [name for name, value in vars(self).items() if value is not None and value is not False]


def parse_flags(options: type[Options], arguments: Sequence[str]) -> Options:
    """Parse; raise ValueError for a flag of the ascent that is given beside --generator or --inverter."""
    words = list(map(flag_of, arguments))
    found = next((word for word in words if word.removeprefix("--") in _ASCENT), None)
    for network in ("--generator", "--inverter"):
        if network in words and found:
            raise ValueError(f"{found} is a flag of the classifier's ascent: give it or {network}, not both")
    return parse(options, arguments)


class _Made(NamedTuple):
    """Images (n, h, w, c) with the columns that describe them, and how they are shown."""

    images: np.ndarray
    labels: np.ndarray
    about: dict[str, Any]  # columns (n,), the first of which name the image
    page: Page
    frames: Sequence[Page] = ()
    arrays: dict[str, np.ndarray] = {}  # noqa: RUF012  # more of --npz


def generated(flags: Any) -> Result:
    """Draw, mix, interpolate or vary the noise, as the flags ask, and describe the images.

    Args:
      flags: learned (`GeneratorFlags`), output (`OutputFlags`), classes, num, seed, and ascent.batch_size.

    Raises:
      ValueError: there is no such generator, class or group of layers, or an animation without frames.
    """
    from rsynth_jax.sampling.samplers import labels_of
    from rsynth_jax.storage import generators

    learned: GeneratorFlags = flags.learned
    if flags.output.animated and learned.interpolate is None:
        raise ValueError("a generator makes an image in one pass: give --interpolate N for an animation")
    release = generators.load(str(learned.generator))
    psi = 1.0 if learned.truncation is None else learned.truncation
    draws = flags.num * len(labels_of(release, flags.classes))
    make = next((page for name, page in _PAGES.items() if name in learned.given), _drawn)
    each = {_mixed: draws + 2, _interpolated: learned.interpolate, _noisy: len(release.config.widths[:3]) + 4}
    title = f"{str(learned.generator)[-40:]}, truncation {psi:g}"
    with Monitor(draws, each.get(make) or 1, name="drawing") as monitor:
        size = flags.ascent.batch_size
        run = {"truncation": psi, "callback": monitor} | ({} if size == "auto" else {"batch_size": size})
        made = make(learned, release, title, classes=flags.classes, num=flags.num, seed=flags.seed, **run)
    names = np.array(release.class_names)
    images = rows({"class": names[made.labels], **made.about})
    words = ("-".join(f"{v:04d}" if isinstance(v, int) else str(v) for v in row.values()) for row in images)
    about = {"generator": learned.generator, "truncation": psi, "seed": flags.seed}
    shown = ", ".join(dict.fromkeys(names[made.labels].tolist()))
    return Result(
        made.page,
        about | {"images": images, "seconds": monitor.seconds},
        f"{len(made.images)} images of {shown} in {monitor.seconds:.1f} s, truncation {psi:g}",
        {"images": made.images, "labels": made.labels, "class_names": names} | made.arrays,
        dict(zip(words, made.images, strict=True)),
        made.frames,
    )


def decoded(flags: Any) -> Result:
    """Decode draws of N(0, I), as the flags ask, and describe the images; the flags are as for `generated`.

    Raises ValueError if there is no such inverter, or it is not variational, or a class is asked for.
    """
    from rsynth_jax.sampling import inverters
    from rsynth_jax.storage import inverters as files

    if flags.classes != ("all",) or flags.output.animated or flags.sharding.shards is not None:
        refused = "leave out --class, --gif and --shards"
        raise ValueError(f"an inverter draws images of no given class, in one pass: {refused}")
    name, size = str(flags.learned.inverter), flags.ascent.batch_size
    release = files.load(name)
    with Monitor(flags.num, 1, name="drawing") as monitor:
        run = {} if size == "auto" else {"batch_size": size}
        images = inverters.decode_prior(release, flags.num, seed=flags.seed, **run)
    return Result(
        Page(images[None, :COLUMNS], ["drawn"], f"{name[-40:]}, seed {flags.seed}"),
        {"inverter": name, "seed": flags.seed, "num": flags.num, "seconds": monitor.seconds},
        f"{flags.num} images of no given class in {monitor.seconds:.1f} s",
        {"images": images},
        {f"{i:04d}": image for i, image in enumerate(images)},
    )


def _drawn(_: GeneratorFlags, release: "GeneratorRelease", title: str, *, num: int, **run: Any) -> _Made:
    from rsynth_jax.sampling import generators

    images, labels = generators.draw(release, num=num, **run)
    cells = images.reshape(-1, num, *images.shape[1:])
    names = [release.class_names[label] for label in labels[::num]]
    about = {"index": np.tile(np.arange(num), len(names))}
    return _Made(images, labels, about, Page(cells[:, :COLUMNS], names, title))


def _mixed(flags: GeneratorFlags, release: "GeneratorRelease", title: str, *, num: int, **run: Any) -> _Made:
    from rsynth_jax.models.style import layer_groups
    from rsynth_jax.sampling import generators

    groups = layer_groups(release.config) | {"all": range(release.config.num_layers)}
    taken = checks.named("layers", str(flags.mix), groups)
    if not taken:
        raise ValueError(f"a generator of {len(release.config.widths)} sizes has no {flags.mix} layers")
    found = generators.mix(release, num=num, taken=taken, **run)
    corner = np.full_like(found.sources[:1], 255)
    first = np.concatenate([corner, found.sources[:COLUMNS]])
    others = np.concatenate([found.targets[:, None], found.mixed[:, :COLUMNS]], axis=1)[:ROWS]
    names = [release.class_names[label] for label in found.target_labels[:ROWS]]
    about = f"{flags.mix} styles of the first row, the rest of the left column"
    page = Page(np.concatenate([first[None], others]), ["", *names], f"{about}; {title}")
    targets, sources = found.mixed.shape[:2]
    column, row = np.tile(np.arange(sources), targets), np.repeat(np.arange(targets), sources)
    images = found.mixed.reshape(-1, *corner.shape[1:])
    labels = np.repeat(found.target_labels, sources)
    arrays = {"sources": found.sources, "targets": found.targets}
    return _Made(images, labels, {"target": row, "source": column}, page, arrays=arrays)


def _interpolated(
    flags: GeneratorFlags, release: "GeneratorRelease", title: str, *, num: int, **run: Any
) -> _Made:
    from rsynth_jax.sampling import generators

    images, labels = generators.loop(release, num=num, frames=flags.interpolate or 0, **run)
    names = [release.class_names[label] for label in labels]
    total = images.shape[1]
    shown = np.arange(0, total, -(-total // COLUMNS))
    order = [*range(1, total), 0]  # an animation stays longest on its last frame: a draw
    return _Made(
        images.reshape(-1, *images.shape[2:]),
        np.repeat(labels, total),
        {"frame": np.tile(np.arange(total), len(labels))},
        Page(images[:, shown], names, f"{total} frames through {num} images; {title}"),
        [Page(images[:, frame, None], names, title) for frame in order],
    )


def _noisy(_: GeneratorFlags, release: "GeneratorRelease", title: str, *, num: int, **run: Any) -> _Made:
    from rsynth_jax.sampling import generators

    found = generators.vary_noise(release, num=num, **run)
    most = float(found.deviation.max())
    grey = np.rint(found.deviation / max(most, 1e-9) * 255).astype(np.uint8)
    cells = np.concatenate([found.images, np.stack([grey] * 3, axis=-1)[:, None]], axis=1)
    names = [release.class_names[label] for label in found.labels]
    about = f"noise: {', '.join(found.names)}; deviation, white {most:.3f}"
    total = len(found.names)
    return _Made(
        found.images.reshape(-1, *found.images.shape[2:]),
        np.repeat(found.labels, total),
        {
            "index": np.repeat(np.tile(np.arange(num), len(names) // num), total),
            "noise": np.tile(np.array(found.names), len(names)),
        },
        Page(cells[:ROWS], names[:ROWS], f"{about}; {title}"),
        arrays={"deviation": found.deviation},
    )


_PAGES: dict[str, Callable[..., _Made]] = {"mix": _mixed, "interpolate": _interpolated, "noise": _noisy}
