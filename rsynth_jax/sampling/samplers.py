"""The synthesis tasks on whole arrays: a classifier and images in, `Samples` out.

    release = load("cifar10")
    samples = generate(release, "cat", num=16, seed=0)
    samples = inpaint(release, photos, masks, "dog")

Arguments that mean the same everywhere:

  release: the classifier.
  images: uint8 (n, h, w, c).
  labels: a class by name or number for all images, int (n,), or None for the predicted classes.
  classes: by name or number, one or several, or "all".
  masks: float32 in [0, 1], (h, w, 1) for all images or (n, h, w, 1).
  objective: what to climb for a class, (classifier, label) -> Objective.
  radius, step_size: l2 lengths in pixel values of [0, 1] at 32 pixels a side; they grow with the classifier's
    side, so that every pixel may move as far. `radius` is the largest distance from the start.
  num_steps: steps of the ascent, 0 or more.
  parameterization: coordinates of the ascent.
  smoothness_weight: weight of the total variation.
  seed: of the random draws.
  run: batch_size, callback and every of `runner.sample`; gray: bool (n,), the images that stay gray.

Each raises ValueError, in one line, for a class that does not exist, for shapes that do not fit, and for
numbers that are not finite.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Float, Int, UInt8

from rsynth_jax import checks, messages, models, seeds
from rsynth_jax import images as arrays
from rsynth_jax.models import embedding
from rsynth_jax.sampling import measures, runner
from rsynth_jax.sampling.runner import BATCH_SIZE, Callback, Rows, Samples
from rsynth_jax.storage.generators import GeneratorRelease
from rsynth_jax.storage.releases import Release
from rsynth_jax.synthesis import class_gaussians, objectives, tasks
from rsynth_jax.synthesis.class_gaussians import ClassGaussians
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.parameterization import Kind, fourier_of, pixel, reparameterized
from rsynth_jax.synthesis.projections import box
from rsynth_jax.synthesis.tasks import AscentFn, ClassObjective, Forward, Task, TaskFn
from rsynth_jax.types import Bytes, Classifier, Mask

SIDE = 32  # pixels: the side at which lengths are given
_COMPONENTS = 1 << 27  # bytes: one image of 224 pixels by 147 components takes 89 MB, of 32 pixels 1.5 MB
TEMPERATURE = 1.2  # of a release that does not say that of its fakes
FAKE_STEPS = 24  # of a release that does not say how many steps its fakes climbed: those of cifar10
FAKE_STEP_SIZE = 0.2  # of such a release
_MOST_STEPS = 20  # of the default
_POWER = 0.2  # .15 and .25 are as good on training images; at 32 pixels or without dual training 0 is better

Label = str | int | Int[np.ndarray, " n"] | None
Masks = Float[np.ndarray, "*n h w 1"]
Ascend = Callable[[TaskFn, optax.GradientTransformation], AscentFn]  # such as `tasks.with_optimizer`


class Schedule(NamedTuple):
    """Sizes of an ascent's steps.

    rate(first size, number of steps) -> the size, or optax's schedule of it.
    way(number of steps) -> how far they go together, in first steps.
    """

    rate: Callable[[float, int], optax.ScalarOrSchedule]
    way: Callable[[int], float]


SCHEDULES = {
    "constant": Schedule(lambda size, num: size, lambda num: num),
    "cosine": Schedule(
        lambda size, num: optax.cosine_decay_schedule(size, max(num, 1)), lambda num: (num + 1) / 2
    ),
}


class Run(TypedDict, total=False):
    """How an ascent is run, see `runner.sample`: batch_size (40), callback (none), every (10 steps).

    And `gray`, the images that stay gray, as they should be given (none).
    """

    batch_size: int
    callback: Callback | None
    every: int
    gray: Bool[np.ndarray, " n"]


def default_steps(release: Release) -> int:
    """Choose five steps for every eight that the classifier's fakes climbed in dual training, 20 at most."""
    return min(max(1, 5 * release.recipe.get("fake_steps", FAKE_STEPS) // 8), _MOST_STEPS)


def default_step_size(release: Release, num_steps: int, schedule: Schedule) -> float:
    """Choose the first step, at 32 pixels, from which all steps together go 1.25 times as far as the fakes.

    How many steps the way is divided into hardly matters. Fewer than the default ones are as long as those.
    """
    way = release.recipe.get("fake_steps", FAKE_STEPS) * release.recipe.get("fake_step_size", FAKE_STEP_SIZE)
    num_steps = max(num_steps, default_steps(release))
    return round(1.25 * way / schedule.way(num_steps), 4)


def default_temperature(release: Release) -> float:
    """Choose the temperature of the starts of the classifier's fakes, 1.2 if it was trained otherwise."""
    return release.recipe.get("fake_temperature", TEMPERATURE)


def default_parameterization(release: Release) -> Kind:
    """Choose frequencies, `fourier` of power 0.2, after dual training at 64 pixels or more; else pixels."""
    dual = release.recipe.get("method") == "dual"
    return fourier_of(_POWER) if dual and release.image_shape[0] >= 2 * SIDE else pixel


def default_shift(release: Release) -> int:
    """Choose the shifts of the views in the classifier's dual training, 0 if it was trained otherwise."""
    return release.recipe.get("view_shift", 0)


def generate(
    release: Release,
    classes: str | int | Sequence[str | int] = "all",
    num: int = 8,
    *,
    seed: int = 0,
    temperature: float | None = None,
    objective: ClassObjective = objectives.logit_plus_log_prob,
    radius: float = 30.0,
    num_steps: int | None = None,
    step_size: float | None = None,
    schedule: Schedule = SCHEDULES["cosine"],
    momentum: float = 0.0,
    parameterization: Kind | None = None,
    max_shift: int | None = None,
    starts: Bytes | None = None,
    rows: Int[np.ndarray, " m"] | None = None,
    **run: Unpack[Run],
) -> Samples:
    """Generate `num` images of each class from draws of the classes' Gaussians, class after class.

    Image i of a class depends on (seed, class, i) alone. The paper's procedure on CIFAR-10 has temperature 1,
    60 steps, log p, steps of 0.5 and a constant schedule.

    Args:
      temperature: times a draw's distance from the mean of its class; by default
        `default_temperature(release)`.
      num_steps: by default `default_steps(release)`.
      step_size: by default `default_step_size(release, num_steps, schedule)`.
      schedule: of the step size.
      parameterization: by default `default_parameterization(release)`.
      momentum: decay of an average of the steps' directions, in [0, 1).
      max_shift: pixels by which each step's view of the images is shifted, at most, of all images alike; by
        default `default_shift(release)`.
      starts: images of any classes to start from, in place of draws: image i of each class from starts[i],
        and from the first again after the last.
      rows: of the images of all classes, class after class, only those of these numbers.
    """
    temperature = default_temperature(release) if temperature is None else temperature
    checks.not_negative(temperature=temperature)
    labels, indices = numbered(labels_of(release, classes), num, rows)
    numbers = np.stack([labels, indices], axis=1)
    if starts is None:
        gaussians = class_gaussians.with_temperature(release.class_gaussians, temperature)
        begin = _draws(gaussians, seed, labels, numbers, release.image_shape)
    else:
        _check_starts(starts, release)
        begin = starts[numbers[:, 1] % len(starts)]
    num_steps = default_steps(release) if num_steps is None else num_steps
    if step_size is None:
        step_size = default_step_size(release, num_steps, schedule)
    parameterization = parameterization or default_parameterization(release)
    path = _Path(radius, num_steps, step_size, schedule, momentum, parameterization)
    inputs = (begin, labels)
    max_shift = default_shift(release) if max_shift is None else max_shift
    checks.not_negative(max_shift=max_shift)
    if max_shift:
        path = path._replace(ascend=_jittered(max_shift, None))
        inputs = (_same_keys(seed, len(labels)), *inputs)
    return _sample(release, tasks.generate, inputs, path, run, labels, objective=objective)


def numbered(
    chosen: Sequence[int], num: int, rows: Int[np.ndarray, " m"] | None
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Find the label of each row, and its number in its class, of `num` images a class, class after class."""
    rows = np.arange(len(chosen) * num) if rows is None else rows
    places, indices = np.divmod(rows, num)
    return np.array(chosen, np.int32)[places], indices.astype(np.int32)


def _check_starts(starts: Bytes, release: Release) -> None:
    checks.images(starts)
    if not len(starts) or starts.shape[1:] != release.image_shape:
        wanted, found = (" x ".join(map(str, each)) for each in (release.image_shape, starts.shape[1:]))
        raise ValueError(f"generation must start from images of {wanted}, not {len(starts)} of {found}")


def inpaint(
    release: Release,
    images: Bytes,
    masks: Masks | None = None,
    labels: Label = None,
    *,
    objective: ClassObjective = objectives.logit,
    radius: float = 3.0,
    num_steps: int = 20,
    step_size: float = 0.2,
    **run: Unpack[Run],
) -> Samples:
    """Fill the holes of images so that they look like their class; known pixels are kept exactly.

    A hole starts as the mean of the class's Gaussian given the known pixels (`tasks.inpainting_start`).

    Args:
      images: with holes, whose values do not matter.
      masks: 1 in the hole, 0 where pixels are known, between at a soft edge; by default the central square
        of half the side.
      labels: by default predicted from the known pixels.
    """
    missing = missing_of(images, masks)
    chosen = labels_of_known(release, images, missing, labels, run)
    gaussians = release.class_gaussians
    starts = Rows(len(images), lambda rows: _begun(gaussians, images[rows], chosen[rows], missing[rows]))
    inputs = (images, chosen, starts, missing)
    path = _Path(radius, num_steps, step_size)
    return _sample(release, tasks.inpaint, inputs, path, run, chosen, objective=objective)


def missing_of(images: Bytes, masks: Masks | None) -> Float[np.ndarray, "n h w 1"]:
    """Give each image its mask, by default `central_square`. Raises ValueError for one that does not fit."""
    return _per_image(central_square(images.shape[1]) if masks is None else masks, images)


def labels_of_known(
    release: Release, images: Bytes, missing: Masks, labels: Label, run: Run
) -> Int[np.ndarray, " n"]:
    """Find the label of each image, by default predicted from its known pixels."""
    if labels is None:
        parts = range(0, len(images), BATCH_SIZE)
        filled = [_fill(images[i : i + BATCH_SIZE], missing[i : i + BATCH_SIZE]) for i in parts]
        labels = _outputs(release, np.concatenate(filled), run).predicted
    return labels_for(release, images, labels, run)


def central_square(side: int) -> Float[np.ndarray, "side side 1"]:
    """Make the mask of the square in the middle that is half as high and half as wide: 1 inside."""
    mask = np.zeros((side, side, 1), np.float32)
    mask[side // 4 : side - side // 4, side // 4 : side - side // 4] = 1
    return mask


@jax.jit
@jax.vmap
def _fill(image, missing):
    return arrays.encode(arrays.harmonic_fill(arrays.decode(image), missing))


def _begun(gaussians: ClassGaussians, images: Bytes, *more: np.ndarray) -> np.ndarray:
    """The starts of a batch, in groups whose components at the images' side take `_COMPONENTS` bytes."""
    size = max(1, _COMPONENTS // (4 * gaussians.components.shape[1] * images[0].size))
    groups = [slice(first, first + size) for first in range(0, len(images), size)]
    parts = (_begin(gaussians, images[group], *(each[group] for each in more)) for group in groups)
    return np.concatenate([np.asarray(part) for part in parts])


@jax.jit
@functools.partial(jax.vmap, in_axes=(None, 0, 0, 0))
def _begin(gaussians, image, label, missing):
    return tasks.inpainting_start(gaussians, arrays.decode(image), label, missing)


def superresolve(
    release: Release,
    images: Bytes,
    labels: Label = None,
    *,
    factor: int = 4,
    forward: Forward = tasks.BLOCK,
    objective: ClassObjective = objectives.logit,
    radius: float = 4.0,
    num_steps: int = 20,
    step_size: float = 0.15,
    **run: Unpack[Run],
) -> Samples:
    """Enlarge images `factor` times towards their class; lowered again they are the given ones.

    Args:
      images: small ones, `factor` times below the side of the results.
      labels: by default predicted from the images with every pixel a block.
      forward: how the images were lowered: `tasks.BLOCK`, `tasks.BICUBIC` or `tasks.LANCZOS`.
      radius: largest distance from the consistent bicubic upsampling.
    """
    labels = labels_for(release, enlarged(images, factor), labels, run)
    path = _Path(radius, num_steps, step_size)
    settings = {"factor": factor, "forward": forward, "objective": objective}
    return _sample(release, tasks.superresolve, (images, labels), path, run, labels, **settings)


def enlarged(images: Bytes, factor: int) -> Bytes:
    """Repeat every pixel of images (n, h, w, c) as a block of `factor` x `factor`."""
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _gaps(images, low, forward, factor):
    lowered = jax.vmap(lambda image: forward.lower(arrays.decode(image), factor))(images)
    return lowered - jax.vmap(arrays.decode)(low)


def consistency_errors(images: Bytes, low: Bytes, factor: int, forward: Forward) -> Float[np.ndarray, " n"]:
    """Measure the largest difference between each image, lowered again, and the small one, in 255ths."""
    return 255 * np.abs(_gaps(images, low, forward, factor)).max(axis=(1, 2, 3))


def translate(
    release: Release,
    images: Bytes,
    labels: Label,
    masks: Masks | None = None,
    *,
    objective: ClassObjective = objectives.log_prob,
    radius: float = 6.0,
    most: float = 1.0,
    coarse: float | None = None,
    perceptual_weight: float = 0.0,
    until: float | None = None,
    max_shift: int = 2,
    seed: int = 0,
    num_steps: int = 40,
    step_size: float = 0.2,
    **run: Unpack[Run],
) -> Samples:
    """Turn images into another class, from themselves and no further than a radius.

    Args:
      masks: 1 where pixels may change, 0 where they are kept exactly; by default all may change.
      most: largest change of one value.
      coarse: keep the frequencies up to so many cycles an image; 0 keeps the mean color, None keeps none.
      perceptual_weight: of the penalty on the perceptual distance from the image.
      until: stop each image where p(label) reaches this: the counterfactual.
      max_shift: pixels by which each step's view of the image is shifted, at most.
      seed: of the shifts, which all images share.
    """
    checks.given(checks.share, until=until)
    labels = labels_for(release, images, labels, run)
    free = _per_image(np.ones((*images.shape[1:3], 1), np.float32) if masks is None else masks, images)
    inputs = (_same_keys(seed, len(images)), images, labels, free)
    path = _Path(radius, num_steps, step_size, ascend=_jittered(max_shift, until))
    settings = {
        "objective": objective,
        "most": most,
        "coarse": coarse,
        "perceptual_weight": perceptual_weight,
    }
    return _sample(release, _translation, inputs, path, run, labels, **settings)


def _translation(
    classifier: Classifier, *inputs: Any, coarse: float | None, perceptual_weight: float, **settings: Any
) -> Task:
    task = tasks.translate(classifier, *inputs, **settings)
    if coarse is not None:
        task = tasks.keep_coarse(task, coarse)
    return tasks.keep_perceptually(task, classifier, perceptual_weight) if perceptual_weight else task


@functools.lru_cache(maxsize=32)
def _jittered(max_shift: int, until: float | None) -> Ascend:
    def ascend(task_fn: TaskFn, optimizer: optax.GradientTransformation) -> AscentFn:
        climb = tasks.jittered(task_fn, optimizer, max_shift)
        return climb if until is None else tasks.until_probability(climb, 2, until)

    return ascend


class Stroke(NamedTuple):
    """What to paint where."""

    mask: Masks  # 1 where to paint, 0 where pixels are kept
    number: int  # a class, or a unit of the penultimate layer
    objective: ClassObjective = objectives.log_prob  # `objectives.activation` for units


def paint(
    release: Release,
    images: Bytes,
    strokes: Sequence[Stroke],
    labels: Label = None,
    *,
    radius: float = 3.0,
    num_steps: int = 40,
    step_size: float = 0.1,
    **run: Unpack[Run],
) -> Samples:
    """Paint classes and features into images, stroke after stroke, each under its mask.

    Args:
      images: where the first stroke starts; each stroke starts where the one before it ended.
      labels: the labels of the samples where no stroke has a class; otherwise it is that of the last one.
      run: the callback counts steps over all strokes.
    """
    if not strokes:
        raise ValueError("no strokes: give one or more")
    classes = [stroke.number for stroke in strokes if stroke.objective is not objectives.activation]
    labels = labels_for(release, images, classes[-1] if classes else labels, run)
    path = _Path(radius, num_steps, step_size)
    painted = images
    for index, stroke in enumerate(strokes):
        numbers = np.full(len(images), stroke.number, np.int32)
        inputs = (painted, numbers, _per_image(stroke.mask, images))
        counted: Run = {**run, "callback": _counting_from(index * num_steps, run.get("callback"))}
        painted = _sample(release, tasks.paint, inputs, path, counted, objective=stroke.objective).images
    size = run.get("batch_size", BATCH_SIZE)
    summary = runner.summarize(release.model, release.variables, images, painted, size)
    return Samples(painted, images, summary, labels)


def _counting_from(first: int, callback: Callback | None) -> Callback | None:
    """The callback of a later stroke, whose start was shown as the end of the one before."""
    if callback is None or first == 0:
        return callback
    return lambda step, images: callback(first + step, images) if step else None


def sketch(
    release: Release,
    images: Bytes,
    labels: Label = None,
    *,
    keep: Callable[[jax.Array], Mask] = tasks.no_pixels,
    objective: ClassObjective = objectives.log_prob,
    radius: float = 10.0,
    num_steps: int = 40,
    step_size: float = 0.2,
    **run: Unpack[Run],
) -> Samples:
    """Turn drawings into images of their class.

    Args:
      keep: marks the pixels that are kept exactly: `tasks.no_pixels`, `dark_pixels`, `edge_pixels`.
    """
    labels = labels_for(release, images, labels, run)
    path = _Path(radius, num_steps, step_size)
    return _sample(release, tasks.sketch, (images, labels), path, run, labels, keep=keep, objective=objective)


def refine(
    release: Release,
    images: Bytes,
    labels: Label = None,
    *,
    objective: ClassObjective = objectives.logit,
    radius: float = 1.0,
    num_steps: int = 5,
    step_size: float = 0.2,
    **run: Unpack[Run],
) -> Samples:
    """Move generated or damaged images a little towards their class (BIGRoC, Ganz and Elad 2022)."""
    labels = labels_for(release, images, labels, run)
    path = _Path(radius, num_steps, step_size)
    return _sample(release, tasks.refine, (images, labels), path, run, labels, objective=objective)


class Inversion(NamedTuple):
    """Images found by their representations; the last two are None for an interpolation."""

    images: Bytes
    starts: Bytes
    distance_start: Float[np.ndarray, " n"]  # |R(start) - R| / |R| for the representation R looked for
    distance: Float[np.ndarray, " n"]  # the same of the results
    predicted: Int[np.ndarray, " n"]
    tried: Float[np.ndarray, "n starts"]  # the distances of all starts of an image
    chosen: Int[np.ndarray, " n"]  # which start was kept
    predicted_given: Int[np.ndarray, " n"] | None = None
    labels: Int[np.ndarray, " n"] | None = None  # the classes whose Gaussians the starts are draws of


def invert(
    release: Release,
    images: Bytes,
    labels: Label = None,
    *,
    starts: int = 4,
    seed: int = 0,
    smoothness_weight: float = 1.0,
    radius: float = 30.0,
    num_steps: int = 60,
    step_size: float = 0.4,
    **run: Unpack[Run],
) -> Inversion:
    """Find images with the penultimate features of the given ones (Engstrom et al. 2019).

    Each starts from draws of a class's Gaussian, never from the image, and the start that ends nearest is
    kept. Image i depends on (seed, i) alone.

    Args:
      labels: the classes whose Gaussians to draw from.
      starts: draws for each image.
      step_size: of the first step; it falls to 0 like a cosine.
    """
    checks.images(images)
    given = _outputs(release, images, run)
    predicted = given.predicted
    labels = labels_for(release, images, predicted if labels is None else labels, run)
    numbers = np.stack(np.divmod(np.arange(len(images) * starts), starts), axis=1)
    draws = _draws(release.class_gaussians, seed, labels[numbers[:, 0]], numbers, images.shape[1:])
    wanted = given.features.repeat(starts, axis=0)
    found = _invert(release, draws, wanted, smoothness_weight, _Path(radius, num_steps, step_size), run)
    tried = found.distance.reshape(-1, starts)
    chosen = tried.argmin(axis=1)
    kept = np.arange(len(images)) * starts + chosen
    best = jax.tree.map(lambda column: column[kept], found)
    return best._replace(tried=tried, chosen=chosen, predicted_given=predicted, labels=labels)


def invert_from(
    release: Release,
    images: Bytes,
    starts: Bytes,
    *,
    smoothness_weight: float = 1.0,
    radius: float = 30.0,
    num_steps: int = 60,
    step_size: float = 0.4,
    **run: Unpack[Run],
) -> Inversion:
    """Find images with the penultimate features of the given ones, each from a start of its own.

    With starts that a learned inverter makes in one pass (`inverters.invert_by`) the ascent begins near.

    Args:
      starts: uint8 (n, h, w, c), one for each image.
      step_size: of the first step; it falls to 0 like a cosine.
    """
    checks.images(images)
    if starts.shape != images.shape:
        raise ValueError(f"starts of shape {starts.shape} do not fit images of shape {images.shape}")
    given = _outputs(release, images, run)
    rows = Rows(len(starts), lambda rows: np.float32(starts[rows]) / np.float32(255))
    path = _Path(radius, num_steps, step_size)
    found = _invert(release, rows, given.features, smoothness_weight, path, run)
    return found._replace(predicted_given=given.predicted)


def interpolate(
    release: Release,
    images: Bytes,
    others: Bytes,
    *,
    frames: int = 10,
    smoothness_weight: float = 0.0,
    radius: float = 30.0,
    num_steps: int = 60,
    step_size: float = 0.4,
    **run: Unpack[Run],
) -> Inversion:
    """Find the images between two, by their representations.

    Frame t of a pair has the features (1 - t) R(a) + t R(b), and starts from the same blend of the pixels,
    so that the ends are the images themselves.

    Args:
      others: (n, h, w, c), or one for all, (1, h, w, c).
      frames: of each pair, both ends among them; 2 or more.
      step_size: of the first step; it falls to 0 like a cosine.

    Returns:
      An inversion of n * frames rows, pair after pair.
    """
    if len(others) not in (1, len(images)):
        raise ValueError(f"{len(others)} images to go to from {len(images)}: give one, or as many")
    others = others.repeat(len(images) // len(others), axis=0)
    pairs = np.arange(len(images)).repeat(frames)
    times = np.tile(np.linspace(0, 1, frames, dtype=np.float32), len(images))

    def blend(a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> np.ndarray:
        t = times[rows].reshape(-1, *(1,) * (a.ndim - 1))
        return (1 - t) * np.float32(a[pairs[rows]]) + t * np.float32(b[pairs[rows]])

    start, end = (_outputs(release, each, run).features for each in (images, others))
    starts = Rows(len(pairs), lambda rows: blend(images, others, rows) / np.float32(255))
    wanted = blend(start, end, np.arange(len(pairs)))
    return _invert(release, starts, wanted, smoothness_weight, _Path(radius, num_steps, step_size), run)


def _invert(
    release: Release, starts: Rows, wanted: np.ndarray, smoothness_weight: float, path: "_Path", run: Run
) -> Inversion:
    path = path._replace(schedule=SCHEDULES["cosine"], ascend=best_with_optimizer)
    inputs = (starts, wanted)
    samples = _sample(release, tasks.invert, inputs, path, run, smoothness_weight=smoothness_weight)
    outputs = (samples.summary.start, samples.summary.end)
    lengths = np.maximum(np.linalg.norm(wanted, axis=1), 1e-12)
    start, end = (np.linalg.norm(each.features - wanted, axis=1) / lengths for each in outputs)
    chosen = np.zeros(len(wanted), np.int32)
    predicted = samples.summary.end.predicted
    return Inversion(samples.images, samples.starts, start, end, predicted, end[:, None], chosen)


def best_with_optimizer(task_fn: TaskFn, optimizer: optax.GradientTransformation) -> AscentFn:
    """Climb each task under `optimizer` to the best point measured."""
    return tasks.best_of(tasks.with_optimizer(task_fn, optimizer))


class Visualization(NamedTuple):
    """Images of units or classes, and the activation of each start and of each result."""

    images: UInt8[np.ndarray, "m starts h w c"]
    activation_start: Float[np.ndarray, "m starts"]
    activation: Float[np.ndarray, "m starts"]


def visualize(
    release: Release,
    units: Sequence[int] = (),
    classes: str | int | Sequence[str | int] = (),
    *,
    starts: int = 4,
    seed: int = 0,
    image_size: int | None = None,
    radius: float = 30.0,
    num_steps: int = 40,
    step_size: float = 0.2,
    parameterization: Kind = pixel,
    **run: Unpack[Run],
) -> Visualization:
    """Show what units of the penultimate layer, then classes, respond to (Engstrom et al. 2019).

    The same draws of the Gaussians of classes taken at random, each of another class while there are classes
    left, serve for all of them; draw k depends on (seed, k) alone.

    Args:
      units: their numbers.
      starts: images of each.
      image_size: the side; by default the classifier's.
    """
    side = image_size or release.image_shape[0]
    shape = (side, side, release.image_shape[-1])
    embedding.channel_repeats(release.model, release.variables, shape)
    labels = labels_of(release, classes) if np.size(classes) else []
    _check_units(units, len(measures.unit_weights(release)))
    sources = seeds.rng(seed).permutation(len(release.class_names))
    path = _Path(radius, num_steps, step_size, parameterization=parameterization)
    parts = []
    for numbers, objective, field in (
        (units, objectives.activation, "features"),
        (labels, objectives.logit, "logits"),
    ):
        if not len(numbers):
            continue
        repeated = np.repeat(np.array(numbers, np.int32), starts)
        draws = np.tile(np.arange(starts), len(numbers))
        own = sources[draws % len(sources)]
        begin = _draws(release.class_gaussians, seed, own, draws[:, None], shape)
        samples = _sample(release, tasks.visualize, (begin, repeated), path, run, objective=objective)
        each = (np.arange(len(repeated)), repeated)
        ends = (getattr(outputs, field)[each] for outputs in (samples.summary.start, samples.summary.end))
        parts.append((samples.images, *ends))
    if not parts:
        raise ValueError("nothing to visualize: give units or classes")
    columns = map(np.concatenate, zip(*parts, strict=True))
    return Visualization(*(column.reshape(-1, starts, *column.shape[1:]) for column in columns))


def _check_units(units: Sequence[int], num_units: int) -> None:
    for unit in units:
        if not 0 <= unit < num_units:
            raise ValueError(f"no feature {unit}: give a number from 0 to {num_units - 1}")


def labels_of(release: Release | GeneratorRelease, classes: str | int | Sequence[str | int]) -> list[int]:
    """Find the labels of classes. Raises ValueError for no classes, or one that does not exist."""
    names = [classes] if isinstance(classes, str | int) else list(classes)
    if names == ["all"]:
        return list(range(len(release.class_names)))
    if not names:
        known = messages.listed(release.class_names)
        raise ValueError(f"no class given: give all, a number, or one of {known}")
    return [models.label_of(name, release.class_names) for name in names]


def labels_for(release: Release, images: Bytes, labels: Label, run: Run) -> Int[np.ndarray, " n"]:
    """Find the label of each image, by default predicted. Raises ValueError for one that does not exist."""
    checks.images(images)
    if labels is None:
        return _outputs(release, images, run).predicted
    if isinstance(labels, str | int):
        return np.full(len(images), models.label_of(labels, release.class_names), np.int32)
    if labels.shape != images.shape[:1] or not np.isin(labels, range(len(release.class_names))).all():
        known = len(release.class_names) - 1
        raise ValueError(f"labels must be integers ({len(images)},) in 0 ... {known}, one for each image")
    return labels.astype(np.int32)


def _per_image(masks: np.ndarray, images: Bytes) -> np.ndarray:
    shape = (*images.shape[:3], 1)
    if masks.shape not in (shape, shape[1:]):
        raise ValueError(f"a mask of shape {masks.shape} does not fit images of shape {images.shape}")
    if not ((masks >= 0) & (masks <= 1)).all():
        raise ValueError(f"a mask has values from {masks.min()} to {masks.max()}: give values in [0, 1]")
    return np.broadcast_to(np.asarray(masks, np.float32), shape)


def _outputs(release: Release, images: Bytes, run: Run) -> embedding.Embedding:
    size = run.get("batch_size", BATCH_SIZE)
    return embedding.embed_images(release.model, release.variables, images, size)


def scale_of(release: Release) -> float:
    """Return the factor from lengths at 32 pixels to lengths at the classifier's side."""
    return release.image_shape[0] / SIDE


class _Path(NamedTuple):
    """How an ascent moves, and how far; lengths are those at 32 pixels."""

    radius: float
    num_steps: int
    step_size: float
    schedule: Schedule = SCHEDULES["constant"]
    momentum: float = 0.0
    parameterization: Kind = pixel
    ascend: Ascend = tasks.with_optimizer


def _sample(
    release: Release,
    task_fn: TaskFn,
    inputs: tuple,
    path: _Path,
    run: Run,
    labels: np.ndarray = runner.NO_LABELS,
    **settings: Any,
) -> Samples:
    checks.not_negative(radius=path.radius, step_size=path.step_size, num_steps=path.num_steps)
    checks.below_one(momentum=path.momentum)
    checks.finite(**{name: value for name, value in settings.items() if isinstance(value, float)})
    scale = scale_of(release)
    rate = _rate(path.schedule, path.step_size * scale, path.num_steps)
    settings["radius"] = path.radius * scale
    own: dict[str, Any] = dict(run)
    gray = own.pop("gray", None)
    if gray is not None and gray.any():
        task_fn = _in_gray(task_fn)
        inputs = (*inputs, gray)
    climb = _climb(path.ascend, task_fn, rate, path.momentum, path.parameterization, **settings)
    samples = runner.sample(release.model, release.variables, climb, inputs, num_steps=path.num_steps, **own)
    return samples._replace(labels=labels)


@functools.lru_cache(maxsize=32)
def _in_gray(task_fn: TaskFn) -> TaskFn:
    """The task among gray images where its last input, a bool (), is true."""

    def among(classifier: Classifier, *inputs: Any, **settings: Any) -> Task:
        return tasks.in_gray(task_fn(classifier, *inputs[:-1], **settings), inputs[-1])

    return among


@functools.lru_cache(maxsize=64)
def _rate(schedule: Schedule, step_size: float, num_steps: int) -> Any:
    return schedule.rate(step_size, num_steps)


@functools.lru_cache(maxsize=64)
def _climb(ascend: Ascend, task_fn: TaskFn, rate: Any, momentum: float, kind: Kind, **settings) -> AscentFn:
    """The same function for the same settings, so that its programs are compiled once."""
    optimizer = optax.chain(
        reparameterized(kind),
        L2.direction,
        optax.ema(momentum) if momentum else optax.identity(),
        optax.scale_by_learning_rate(rate),
    )
    return ascend(functools.partial(task_fn, **settings), optimizer)


@functools.partial(jax.jit, static_argnums=4)
def _draw(gaussians, key, labels, numbers, shape):
    def draw(label, numbers):
        own = functools.reduce(jax.random.fold_in, numbers, key)
        return box()(class_gaussians.sample(own, gaussians, label, shape))

    return jax.vmap(draw)(labels, numbers)


def _same_keys(seed: int, num: int) -> Rows:
    """The key of the seed, for every image."""
    key = seeds.key(seed)
    return Rows(num, lambda rows: jnp.broadcast_to(key, rows.shape))


def _draws(gaussians, seed: int, labels: np.ndarray, numbers: np.ndarray, shape: tuple[int, ...]) -> Rows:
    """Starts (n, h, w, c): row r depends on its class's Gaussian and (seed, *numbers[r]) alone."""
    key = seeds.key(seed)
    return Rows(len(labels), lambda rows: _draw(gaussians, key, labels[rows], numbers[rows], shape))
