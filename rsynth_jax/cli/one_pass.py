"""Invert representations by a learned inverter, in one pass: rsynth-invert with --inverter.

rsynth-invert photo.png --inverter faces-deepsim-64 --rounds 8 --gif rounds.gif

This module imports nothing heavy.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import classifiers, options, photos
from rsynth_jax.cli.report import ROWS, Result, image_arrays, report, rows
from rsynth_jax.cli.run import Clock
from rsynth_jax.cli.sheets import Page

if TYPE_CHECKING:
    from rsynth_jax.data.sources import Pictures
    from rsynth_jax.storage.inverters import InverterRelease
    from rsynth_jax.storage.releases import Release

ALL = "all"  # of the activations
_INVERTER = "A released inverter's name, a .safetensors file, or a training run of rsynth-train-inverter."
_CLASSIFIER = "The classifier whose representations it reads; by default the one that the inverter names."
_CAPTION = "{name}: {from}, now {ends}, distance {distance:.2f}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-invert: images from their representations, by a learned inverter.

    The inverter makes the image of a representation in one pass (Dosovitskiy & Brox 2016). The distance is
    that of the penultimate features, |R(result) - R(given)| / |R(given)|.

    The sheet has a row an image, of up to 16: as given, then the result. With --rounds the results of every
    round, with --strongest one of each number of activations, with --then climb the results of the ascent
    from draws of the class's Gaussian, of one pass, and of the same ascent from the result of one pass.
    """

    input: options.InputFlags
    inverter: Annotated[str, arg(metavar="NAME", help=_INVERTER)]
    classifier: Annotated[str | None, arg(metavar="NAME", help=_CLASSIFIER)] = None
    rounds: Annotated[int | None, arg(metavar="N")] = None
    """Invert each result again, so many passes in all; the animation has a frame a round."""
    strongest: Annotated[tuple[str, ...], arg(metavar="K ...")] = ()
    """Reconstruct from the K activations alone that are farthest from their mean over training images, in
    deviations; the others have their mean. Numbers, or all."""
    then: Literal["climb"] | None = None
    """climb: also start the ascent of rsynth-invert from the result, and compare."""
    starts: int = 4
    """Number of draws to start the compared ascent from."""
    seed: options.Seed = 0
    ascent: options.AscentFlags = options.AscentFlags(radius=30.0, steps=60, step_size=0.4)
    output: options.OutputFlags = options.OutputFlags(out=Path("inverted.png"))
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(starts=self.starts)
        checks.given(checks.positive, rounds=self.rounds)
        checks.seed(seed=self.seed)
        for word in self.strongest:
            if word != ALL and not (word.isascii() and word.isdigit() and len(word) < 10 and int(word)):
                raise ValueError(f"cannot read --strongest {word[:40]!r}: give numbers above 0, or all")
        given = [f"--{name}" for name in _PAGES if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are different sheets: give one of them")
        if self.output.animated and self.rounds is None:
            raise ValueError("an inverter makes an image in one pass: give --rounds N for an animation")


class _Columns(NamedTuple):
    """Images in columns after the given ones, with the numbers of each."""

    names: Sequence[str]
    images: Sequence[np.ndarray]  # (n, h, w, c) each
    distances: Sequence[np.ndarray]  # (n,) each
    predicted: Sequence[np.ndarray]  # (n,) each
    predicted_given: np.ndarray
    seconds: Sequence[float]


def invert_by(flags: Options) -> int:
    """Invert by the inverter, and report."""
    from rsynth_jax.storage import inverters

    flags.output.check()
    inverter = inverters.load(flags.inverter)
    release = classifiers.load(flags.classifier or inverter.classifier)
    inverters.check_classifier(inverter, release)
    given = options.read(flags.input, release)
    make = next((page for name, page in _PAGES.items() if getattr(flags, name)), _once)
    size = options.fitting(flags.ascent.batch_size, release)
    columns = make(flags, release, inverter, given.images, size)
    photos.announce(given, flags.output.paths.values())
    return report(flags.output.out, _result(flags, release, given, columns), **flags.output.written)


def _once(
    flags: Options, release: "Release", inverter: "InverterRelease", images: np.ndarray, size: int
) -> _Columns:
    return _each(release, inverter, images, size, {"one pass": None})


def _few(
    flags: Options, release: "Release", inverter: "InverterRelease", images: np.ndarray, size: int
) -> _Columns:
    numbers = {word: None if word == ALL else int(word) for word in flags.strongest}
    return _each(release, inverter, images, size, numbers)


def _each(
    release: "Release",
    inverter: "InverterRelease",
    images: np.ndarray,
    size: int,
    numbers: Mapping[str, int | None],
) -> _Columns:
    """A column for each number of activations."""
    from rsynth_jax.sampling import inverters

    clock = Clock()
    found, seconds = [], []
    for num in numbers.values():
        found.append(inverters.invert_by(release, inverter, images, strongest=num, batch_size=size))
        seconds.append(clock.lap())
    return _Columns(
        list(numbers),
        [each.images for each in found],
        [each.distance for each in found],
        [each.predicted for each in found],
        found[0].predicted_given,
        seconds,
    )


def _repeated(
    flags: Options, release: "Release", inverter: "InverterRelease", images: np.ndarray, size: int
) -> _Columns:
    from rsynth_jax.sampling import inverters

    clock = Clock()
    found = inverters.reencode(release, inverter, images, flags.rounds or 1, batch_size=size)
    columns = (list(np.moveaxis(each, 1, 0)) for each in (found.images, found.distance, found.predicted))
    made, distances, predicted = columns
    seconds = [clock.lap() / len(made)] * len(made)
    names = [f"round {number + 1}" for number in range(len(made))]
    return _Columns(names, made, distances, predicted, found.predicted_given, seconds)


def _climbed(
    flags: Options, release: "Release", inverter: "InverterRelease", images: np.ndarray, size: int
) -> _Columns:
    from rsynth_jax.sampling import samplers

    settings: dict[str, Any] = flags.ascent.settings(release) | {"batch_size": size}
    clock = Clock()
    noise = samplers.invert(release, images, starts=flags.starts, seed=flags.seed, **settings)
    first = clock.lap()
    once = _once(flags, release, inverter, images, size)
    clock.lap()
    then = samplers.invert_from(release, images, once.images[0], **settings)
    seconds = [first, once.seconds[0], once.seconds[0] + clock.lap()]
    return _Columns(
        ["ascent", "one pass", "one pass then ascent"],
        [noise.images, once.images[0], then.images],
        [noise.distance, once.distances[0], then.distance],
        [noise.predicted, once.predicted[0], then.predicted],
        once.predicted_given,
        seconds,
    )


_PAGES: dict[str, Callable[..., _Columns]] = {"rounds": _repeated, "strongest": _few, "then": _climbed}


def _result(flags: Options, release: "Release", given: "Pictures", found: _Columns) -> Result:
    classes, steps = np.array(release.class_names), len(found.names)
    rmse = [
        np.sqrt(np.mean(np.square(each / 255 - given.images / 255), axis=(1, 2, 3))) for each in found.images
    ]
    each = rows(
        {
            "name": np.repeat(given.names, steps),
            "result": np.tile(found.names, len(given.names)),
            "from": np.repeat(classes[found.predicted_given], steps),
            "ends": classes[np.stack(found.predicted, axis=1).ravel()],
            "distance": np.stack(found.distances, axis=1).ravel(),
            "rmse": np.stack(rmse, axis=1).ravel(),
        }
    )
    captions = [_CAPTION.format_map(row) for row in each[steps - 1 :: steps]][:ROWS]
    cells = np.stack([given.images, *found.images], axis=1)[:ROWS]
    ways = {
        name: {"distance": float(distance.mean()), "rmse": float(error.mean()), "seconds": seconds}
        for name, distance, error, seconds in zip(
            found.names, found.distances, rmse, found.seconds, strict=True
        )
    }
    texts = ("{0} {distance:.3f} in {seconds:.1f} s".format(name, **way) for name, way in ways.items())
    about = flags.inverter[-40:]
    words = [f"{row['name']}-{row['result'].replace(', ', '-').replace(' ', '-')}" for row in each]
    made = np.stack(found.images, axis=1)
    return Result(
        Page(cells, captions, f"{about}: given, {', '.join(found.names)}"),
        {"inverter": flags.inverter, "ways": ways, "images": each},
        f"{len(given.images)} images, distance: {'; '.join(texts)}",
        image_arrays(release, found.images[-1], found.predicted[-1]) | {"given": given.images, "all": made},
        dict(zip(words, made.reshape(-1, *made.shape[2:]), strict=True)),
        [
            Page(cells[:, [0, step + 1]], captions, f"{about}: given, {name}")
            for step, name in enumerate(found.names)
        ],
        given.skipped,
    )
