"""Translate by a learned translator, in one pass a translation: rsynth-translate with --translator.

rsynth-translate photo.png --to dog --translator cat-dog-munit-64 --styles 5

This module imports nothing heavy.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import options, photos
from rsynth_jax.cli.report import ROWS, Result, report, rows
from rsynth_jax.cli.run import Clock
from rsynth_jax.cli.sheets import Page
from rsynth_jax.data import sources

if TYPE_CHECKING:
    from rsynth_jax.data.sources import Pictures
    from rsynth_jax.sampling.translators import Translations
    from rsynth_jax.storage.translators import TranslatorRelease

STYLES = 5  # of an image, by default
COLUMNS = 16  # translations of a row of the sheet at most
_TRANSLATOR = (
    "A released translator's name, a .safetensors file, or a training run of rsynth-train-translator."
)
_CAPTION = "{name}: to {to}, differ by {diversity:.2f}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-translate: images turned into another class, each in several styles, by a learned translator.

    A translation has the content of the image and a style of the class (Huang et al. 2018). The sheet has a
    row an image, of up to 16: as given, then its translations; with --example the examples are the first row.
    --photo writes a photograph for each translation: a folder, or the file of the only one. The report has
    the root mean square difference of each translation from the image, how much the translations of an image
    differ, and the error of each one's style, encoded again.
    """

    input: options.InputFlags
    photo: options.PhotoFlags = options.PhotoFlags()
    translator: Annotated[str, arg(metavar="NAME", help=_TRANSLATOR)]
    label: Annotated[str, arg(name="to", metavar="CLASS")] = "1"
    """The class to become, by name or number, by default the translator's second; the images are of the
    other one."""
    styles: Annotated[int | None, arg(metavar="N")] = None
    """Translate each image in so many styles, drawn from N(0, I); by default 5."""
    example: Annotated[str | None, arg(metavar="B")] = None
    """Images of the class: each image is translated in the style of each of them, which is a grid of
    contents and styles."""
    interpolate: Annotated[int | None, arg(metavar="FRAMES")] = None
    """So many frames from each drawn style to the next, and from the last to the first: --gif."""
    seed: options.Seed = 0
    batch_size: options.BatchSize = 40
    output: options.OutputFlags = options.OutputFlags(out=Path("translated.png"))
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.given(checks.positive, styles=self.styles, interpolate=self.interpolate)
        checks.positive(batch_size=self.batch_size)
        checks.seed(seed=self.seed)
        drawn = [f"--{name}" for name in ("styles", "interpolate") if getattr(self, name) is not None]
        if self.example is not None and drawn:
            raise ValueError(f"--example has styles of its own, {drawn[0]} draws them: give one of them")
        if self.output.animated and self.interpolate is None:
            raise ValueError("a translator makes an image in one pass: give --interpolate N for an animation")


def translate_by(flags: Options) -> int:
    """Translate by the translator, and report."""
    from rsynth_jax.models import label_of
    from rsynth_jax.storage import translators

    flags.output.check()
    release = translators.load(flags.translator)
    label = label_of(flags.label, release.class_names)
    given = _given(flags, release)
    examples = _examples(flags, release)
    each = given if flags.photo.photo is None else _for_each_style(given, _styles(flags, examples))
    outputs = [*flags.output.paths.values()]
    targets = photos.targets(flags.photo.photo, each, outputs)
    clock = Clock()
    found = _translated(flags, release, given, examples)
    result = _result(flags, release, given, examples, found, label, clock.lap())
    photos.announce(given, outputs, written=bool(targets))
    if examples is not None:
        photos.announce(examples, outputs)
    photos.write(targets, each, result.arrays["images"], photos.composite)
    return report(flags.output.out, result, **flags.output.written)


def _given(flags: Options, release: "TranslatorRelease") -> "Pictures":
    """Read the part of the images that is worked on."""
    crop = flags.photo.box
    stored = options.open_images(flags.input, release.image_shape[0], crop=crop)
    return options.framed(sources.read_all(stored), crop)


def _examples(flags: Options, release: "TranslatorRelease") -> "Pictures | None":
    """Read the central squares of the examples at the translator's side.

    Raises ValueError for arrays of another size, unless --image-size gives it.
    """
    if flags.example is None:
        return None
    side, place = release.image_shape[0], (flags.example, None, flags.input.data_dir)
    stored = sources.load(*place, flags.input.image_size)
    if stored.files is None and stored[0].image.shape[:2] != (side, side):
        size = " x ".join(map(str, stored[0].image.shape[:2]))
        raise ValueError(f"the examples are {size}, the translator's images {side} x {side}: give its size")
    return options.framed(sources.read_all(sources.load(*place, flags.input.image_size or side)))


def _styles(flags: Options, examples: "Pictures | None") -> tuple[str, ...]:
    """Name the translations of an image."""
    if examples is not None:
        return examples.names
    total = (flags.styles or STYLES) * (flags.interpolate or 1)
    return tuple(f"style-{j:04d}" for j in range(total))


def _for_each_style(given: "Pictures", styles: Sequence[str]) -> "Pictures":
    """Repeat each image for its translations, which have the name of the image and of the style."""
    num = len(styles)
    return given._replace(
        images=given.images.repeat(num, axis=0),
        names=tuple(f"{name}-{style}" for name in given.names for style in styles),
        files=None if given.files is None else tuple(file for file in given.files for _ in styles),
        frames=tuple(frame for frame in given.frames for _ in styles),
    )


def _translated(
    flags: Options, release: "TranslatorRelease", given: "Pictures", examples: "Pictures | None"
) -> "Translations":
    from rsynth_jax.sampling import translators

    common: dict[str, Any] = {"batch_size": flags.batch_size}
    if examples is not None:
        return translators.translate_like(release, given.images, flags.label, examples.images, **common)
    common |= {"styles": flags.styles or STYLES, "seed": flags.seed}
    if flags.interpolate is None:
        return translators.translate_by(release, given.images, flags.label, **common)
    return translators.blend_styles(release, given.images, flags.label, frames=flags.interpolate, **common)


def diversity(images: np.ndarray) -> np.ndarray:
    """Measure the mean root mean square difference of two of the k images of (n, k, h, w, c): (n,).

    Values are in [0, 1]; of one image it is 0.
    """
    values = images.reshape(*images.shape[:2], -1) / np.float32(255)
    first, second = np.triu_indices(values.shape[1], 1)
    if not first.size:
        return np.zeros(len(images))
    pairs = zip(first, second, strict=True)
    return np.mean([np.sqrt(np.mean((values[:, a] - values[:, b]) ** 2, axis=1)) for a, b in pairs], axis=0)


def _result(
    flags: Options,
    release: "TranslatorRelease",
    given: "Pictures",
    examples: "Pictures | None",
    found: "Translations",
    label: int,
    seconds: float,
) -> Result:
    num, total = found.images.shape[:2]
    to = release.class_names[label]
    names = _styles(flags, examples)
    gaps = (found.images.astype(np.float32) - given.images[:, None]) / 255
    spread = diversity(found.images[:, :: flags.interpolate or 1])
    columns = {
        "name": np.repeat(given.names, total),
        "style": np.tile(names, num),
        "rmse": np.sqrt(np.mean(gaps**2, axis=(2, 3, 4))).ravel(),
        "style_error": found.style_error.ravel(),
    }
    means = {"rmse": columns["rmse"].mean(), "style_error": columns["style_error"].mean()}
    means = {name: float(value) for name, value in means.items()} | {"diversity": float(spread.mean())}
    captions = [
        _CAPTION.format(name=name, to=to, diversity=value)
        for name, value in zip(given.names[:ROWS], spread, strict=False)
    ]
    title = (
        f"{flags.translator[-40:]}, {'styles of examples' if examples is not None else f'seed {flags.seed}'}"
    )
    flat = found.images.reshape(-1, *found.images.shape[2:])
    words = [f"{name}-{style}" for name in given.names for style in names]
    return Result(
        _page(given, examples, found, captions, title),
        {"translator": flags.translator, "to": to, "seconds": seconds} | means | {"images": rows(columns)},
        f"{len(flat)} translations of {num} images to {to} in {seconds:.1f} s; "
        "rmse {rmse:.3f}, differ by {diversity:.3f}, style error {style_error:.2f}".format_map(means),
        {
            "images": flat,
            "labels": np.full(len(flat), label, np.int32),
            "class_names": np.array(release.class_names),
            "given": given.images,
            "styles": found.styles,
        },
        dict(zip(words, flat, strict=True)),
        _frames(given, found, captions, title),
        (*given.skipped, *(examples.skipped if examples is not None else ())),
    )


def _page(
    given: "Pictures", examples: "Pictures | None", found: "Translations", captions: list[str], title: str
) -> Page:
    """The images, each beside its translations, below the examples."""
    total = found.images.shape[1]
    shown = np.arange(0, total, -(-total // COLUMNS))
    cells = np.concatenate([given.images[:, None], found.images[:, shown]], axis=1)[:ROWS]
    if examples is None:
        return Page(cells, captions, f"given, translations; {title}")
    first = np.concatenate([np.full_like(examples.images[:1], 255), examples.images[shown]])
    return Page(np.concatenate([first[None], cells]), ["examples", *captions], title)


def _frames(given: "Pictures", found: "Translations", captions: list[str], title: str) -> list[Page]:
    """A page a translation, each image beside it; the last is the first style, shown longest."""
    order = np.roll(np.arange(found.images.shape[1]), -1)
    return [
        Page(np.stack([given.images, found.images[:, frame]], axis=1)[:ROWS], captions, title)
        for frame in order
    ]
