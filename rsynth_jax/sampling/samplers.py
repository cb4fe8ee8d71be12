"""The synthesis tasks on whole arrays: a classifier and images in, `Samples` out.

    release = load("cifar10")
    samples = generate(release, "cat", num=16, seed=0)
    samples = inpaint(release, photos, masks, "dog")

Arguments that mean the same everywhere:

  release: the classifier.
  images: uint8 (n, h, w, c).
  labels: a class by name or number for all images, int (n,), or None for the predicted classes.
  masks: float32 in [0, 1], (h, w, 1) for all images or (n, h, w, 1).
  objective: what to climb for a class, (classifier, label) -> Objective.
  radius, step_size: l2 lengths in pixel values of [0, 1] at 32 pixels a side; they grow with the classifier's
    side, so that every pixel may move as far. `radius` is the largest distance from the start.
  num_steps: steps of the ascent, 0 or more.
  seed: of the random draws.
  run: batch_size, callback and every of `runner.sample`.

Each raises ValueError, in one line, for a class that does not exist and for shapes that do not fit.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from rsynth_jax import images as arrays
from rsynth_jax import models
from rsynth_jax.sampling import embedding, runner
from rsynth_jax.sampling.embedding import Embedding
from rsynth_jax.sampling.runner import BATCH_SIZE, Callback, Rows, Samples
from rsynth_jax.storage.releases import Release
from rsynth_jax.synthesis import class_gaussians, objectives, tasks
from rsynth_jax.synthesis.ascent import steepest
from rsynth_jax.synthesis.class_gaussians import ClassGaussians
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.parameterization import Parameterization, pixel, reparameterized
from rsynth_jax.synthesis.projections import box
from rsynth_jax.synthesis.tasks import AscentFn, ClassObjective, Forward, TaskFn
from rsynth_jax.types import Bytes, Mask

SIDE = 32  # pixels: the side at which lengths are given
FAKE_STEPS = 24  # of a release that does not say how many steps its fakes climbed: those of cifar10

Label = str | int | Int[np.ndarray, " n"] | None
Schedule = Callable[[float, int], optax.ScalarOrSchedule]  # (first step size, number of steps)

SCHEDULES: dict[str, Schedule] = {
    "constant": lambda step_size, num_steps: step_size,
    "cosine": lambda step_size, num_steps: optax.cosine_decay_schedule(step_size, max(num_steps, 1)),
}


class Run(TypedDict, total=False):
    """How an ascent is run, see `runner.sample`: batch_size (40), callback (none), every (10 steps)."""

    batch_size: int
    callback: Callback | None
    every: int


# Generation.


def default_steps(release: Release) -> int:
    """Choose five steps for every eight that the classifier's fakes climbed in dual training.

    Five that shrink from 0.75 like a cosine go 1.25 times as far as eight of 0.2.
    """
    return max(1, 5 * release.recipe.get("fake_steps", FAKE_STEPS) // 8)


def generate(
    release: Release,
    classes: str | int | Sequence[str | int] = "all",
    num: int = 8,
    *,
    seed: int = 0,
    temperature: float = 1.2,
    objective: ClassObjective = objectives.logit_plus_log_prob,
    radius: float = 30.0,
    num_steps: int | None = None,
    step_size: float = 0.75,
    schedule: Schedule = SCHEDULES["cosine"],
    momentum: float = 0.0,
    parameterization: Callable[[tuple[int, int, int]], Parameterization] = pixel,
    **run: Unpack[Run],
) -> Samples:
    """Generate `num` images of each class from draws of the classes' Gaussians.

    Image i of a class depends on (seed, class, i) alone. The paper's procedure on CIFAR-10 has temperature 1,
    60 steps, log p, steps of 0.5 and a constant schedule.

    Args:
      classes: by name or number, one or several, or "all".
      num: images of each class.
      temperature: times a draw's distance from the mean of its class.
      num_steps: by default `default_steps(release)`.
      schedule: of the step size.
      momentum: decay of an average of the steps' directions, in [0, 1).
      parameterization: coordinates of the ascent.

    Returns:
      The samples, class after class.
    """
    chosen = labels_of(release, classes)
    labels = np.repeat(np.array(chosen, np.int32), num)
    numbers = np.stack([labels, np.tile(np.arange(num), len(chosen))], axis=1)
    gaussians = class_gaussians.with_temperature(release.class_gaussians, temperature)
    starts = _draws(gaussians, seed, labels, numbers, release.image_shape)
    num_steps = default_steps(release) if num_steps is None else num_steps
    scale = _scale(release)
    optimizer = _generation_optimizer(
        schedule, step_size * scale, num_steps, momentum, parameterization, release.image_shape
    )
    climb = _climb(tasks.generate, optimizer, objective=objective, radius=radius * scale)
    return _sample(release, climb, (starts, labels), num_steps, run, labels)


@functools.lru_cache(maxsize=32)
def _generation_optimizer(
    schedule: Schedule,
    step_size: float,
    num_steps: int,
    momentum: float,
    parameterization: Callable[[tuple[int, int, int]], Parameterization],
    shape: tuple[int, int, int],
) -> optax.GradientTransformation:
    return optax.chain(
        reparameterized(parameterization(shape)),
        L2.direction,
        optax.ema(momentum),
        optax.scale_by_learning_rate(schedule(step_size, num_steps)),
    )


# Editing.


def inpaint(
    release: Release,
    images: Bytes,
    masks: Float[np.ndarray, "*n h w 1"] | None = None,
    labels: Label = None,
    *,
    objective: ClassObjective = objectives.logit,
    radius: float = 1.5,
    num_steps: int = 40,
    step_size: float = 0.1,
    **run: Unpack[Run],
) -> Samples:
    """Fill the holes of images so that they look like their class; known pixels are kept exactly.

    A hole starts as the mean of the class's Gaussian given the known pixels (`tasks.inpainting_start`).

    Args:
      images: with holes, whose values do not matter.
      masks: 1 in the hole, 0 where pixels are known, between at a soft edge: (h, w, 1) for all images or
        (n, h, w, 1); by default the central square of half the side.
      labels: the classes; by default those predicted from the known pixels.
      radius: largest distance from the start. More shows more of the class.
    """
    missing = _per_image(central_square(images.shape[1]) if masks is None else masks, images)
    if labels is None:
        labels = _predict(release, _harmonically_filled(images, missing), run)
    labels = _labels(release, images, labels, run)
    starts = _inpainting_starts(release.class_gaussians, images, labels, missing)
    climb = _steepest(tasks.inpaint, release, step_size, objective=objective, radius=radius)
    return _sample(release, climb, (images, labels, starts, missing), num_steps, run, labels)


def central_square(side: int) -> Float[np.ndarray, "side side 1"]:
    """Make the mask of the square in the middle that is half as high and half as wide: 1 inside."""
    mask = np.zeros((side, side, 1), np.float32)
    mask[side // 4 : side - side // 4, side // 4 : side - side // 4] = 1
    return mask


@jax.jit
@jax.vmap
def _fill(image, missing):
    return arrays.encode(arrays.harmonic_fill(arrays.decode(image), missing))


def _harmonically_filled(images: Bytes, missing: np.ndarray) -> Bytes:
    parts = range(0, len(images), BATCH_SIZE)
    return np.concatenate([_fill(images[i : i + BATCH_SIZE], missing[i : i + BATCH_SIZE]) for i in parts])


@jax.jit
def _begin_inpainting(gaussians, images, labels, missing):
    def begin(image, label, missing):
        return tasks.inpainting_start(gaussians, arrays.decode(image), label, missing)

    return jax.vmap(begin)(images, labels, missing)


def _inpainting_starts(gaussians: ClassGaussians, images: Bytes, labels: np.ndarray, missing) -> Rows:
    def select(rows: np.ndarray) -> jax.Array:
        return _begin_inpainting(gaussians, images[rows], labels[rows], missing[rows])

    return Rows(len(images), select)


def superresolve(
    release: Release,
    images: Bytes,
    labels: Label = None,
    *,
    factor: int = 4,
    forward: Forward = tasks.BLOCK,
    objective: ClassObjective = objectives.log_prob,
    radius: float = 4.0,
    num_steps: int = 30,
    step_size: float = 0.1,
    **run: Unpack[Run],
) -> Samples:
    """Enlarge images `factor` times towards their class; lowered again they are the given ones.

    Args:
      images: small ones, `factor` times below the side of the results.
      labels: the classes; by default those predicted from the images with every pixel a block.
      factor: how many times as high and as wide.
      forward: how the images were lowered: `tasks.BLOCK`, `tasks.BICUBIC` or `tasks.LANCZOS`.
      radius: largest distance from the consistent bicubic upsampling.
    """
    labels = _labels(release, enlarged(images, factor), labels, run)
    settings = {"factor": factor, "forward": forward, "objective": objective, "radius": radius}
    climb = _steepest(tasks.superresolve, release, step_size, **settings)
    return _sample(release, climb, (images, labels), num_steps, run, labels)


def enlarged(images: Bytes, factor: int) -> Bytes:
    """Repeat every pixel of images (n, h, w, c) as a block of `factor` x `factor`."""
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _gaps(images, low, forward, factor):
    def gap(image, low):
        return forward.lower(arrays.decode(image), factor) - arrays.decode(low)

    return jax.vmap(gap)(images, low)


def consistency_errors(images: Bytes, low: Bytes, factor: int, forward: Forward) -> Float[np.ndarray, " n"]:
    """Measure the largest difference in [0, 1] between each image, lowered again, and the small one."""
    return np.abs(_gaps(images, low, forward, factor)).max(axis=(1, 2, 3))


def translate(
    release: Release,
    images: Bytes,
    labels: Label,
    masks: Float[np.ndarray, "*n h w 1"] | None = None,
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
      masks: 1 where pixels may change, 0 where they are kept exactly: (h, w, 1) or (n, h, w, 1); by default
        all may change.
      most: largest change of one value.
      coarse: keep the frequencies up to so many cycles an image; 0 keeps the mean color, None keeps none.
      perceptual_weight: of the penalty on the perceptual distance from the image.
      until: stop each image where p(label) reaches this: the counterfactual.
      max_shift: pixels by which each step's view of the image is shifted, at most.
      seed: of the shifts, which all images share.
    """
    labels = _labels(release, images, labels, run)
    free = _per_image(np.ones((*images.shape[1:3], 1), np.float32) if masks is None else masks, images)
    scale = _scale(release)
    climb = _translation_climb(
        step_size * scale,
        max_shift,
        until,
        coarse,
        perceptual_weight,
        objective=objective,
        radius=radius * scale,
        most=most,
    )
    inputs = (_shared_key(seed, len(images)), images, labels, free)
    return _sample(release, climb, inputs, num_steps, run, labels)


@functools.lru_cache(maxsize=32)
def _translation_climb(
    step_size: float,
    max_shift: int,
    until: float | None,
    coarse: float | None,
    perceptual_weight: float,
    **settings: Any,
) -> AscentFn:
    def task_fn(classifier, image, label, free):
        task = tasks.translate(classifier, image, label, free, **settings)
        if coarse is not None:
            task = tasks.keep_coarse(task, coarse)
        return tasks.keep_perceptually(task, classifier, perceptual_weight) if perceptual_weight else task

    climb = tasks.jittered(task_fn, steepest(L2, step_size), max_shift)
    return climb if until is None else tasks.until_probability(climb, 2, until)


class Stroke(NamedTuple):
    """What to paint where.

    Attributes:
      mask: 1 where to paint, 0 where pixels are kept, (h, w, 1).
      number: a class, or a unit of the penultimate layer.
      objective: of (classifier, number): one for classes, or `objectives.activation` for units.
    """

    mask: Float[np.ndarray, "h w 1"]
    number: int
    objective: ClassObjective = objectives.log_prob


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
      strokes: what to paint where, in this order.
      labels: the labels of the samples where no stroke has a class; otherwise it is that of the last one.
      run: the callback counts steps over all strokes.
    """
    if not strokes:
        raise ValueError("no strokes: give one or more")
    classes = [stroke.number for stroke in strokes if stroke.objective is not objectives.activation]
    labels = _labels(release, images, classes[-1] if classes else labels, run)
    painted = images
    for index, stroke in enumerate(strokes):
        climb = _steepest(tasks.paint, release, step_size, objective=stroke.objective, radius=radius)
        numbers = np.full(len(images), stroke.number, np.int32)
        inputs = (painted, numbers, _per_image(stroke.mask, images))
        counted = run | {"callback": _counting_from(index * num_steps, run.get("callback"))}
        painted = _sample(release, climb, inputs, num_steps, counted).images
    summary = runner.summarize(release.model, release.variables, images, painted, _batch_size(run))
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
    labels = _labels(release, images, labels, run)
    climb = _steepest(tasks.sketch, release, step_size, keep=keep, objective=objective, radius=radius)
    return _sample(release, climb, (images, labels), num_steps, run, labels)


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
    labels = _labels(release, images, labels, run)
    climb = _steepest(tasks.refine, release, step_size, objective=objective, radius=radius)
    return _sample(release, climb, (images, labels), num_steps, run, labels)


# Representations.


class Inversion(NamedTuple):
    """Images found by their representations.

    Attributes:
      images: the results.
      starts: what the ascents started from.
      distance_start: |R(start) - R| / |R| for the representation R looked for.
      distance: the same of the results.
      predicted: the class predicted for each result.
      tried: the distances of all starts of an image, (n, starts).
      chosen: which start was kept, (n,).
      predicted_given: the class predicted for each given image; None of an interpolation.
      labels: the class whose Gaussian the starts are draws of; None of an interpolation.
    """

    images: Bytes
    starts: Bytes
    distance_start: Float[np.ndarray, " n"]
    distance: Float[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]
    tried: Float[np.ndarray, "n starts"]
    chosen: Int[np.ndarray, " n"]
    predicted_given: Int[np.ndarray, " n"] | None = None
    labels: Int[np.ndarray, " n"] | None = None


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
      images: whose features to look for.
      labels: the classes whose Gaussians to draw from; by default those predicted.
      starts: draws for each image.
      smoothness_weight: weight of the total variation.
      step_size: of the first step; it falls to 0 like a cosine.
    """
    _check_images(images)
    given = embedding.embed_images(release.model, release.variables, images, _batch_size(run))
    predicted = given.logits.argmax(axis=1).astype(np.int32)
    labels = _labels(release, images, predicted if labels is None else labels, run)
    numbers = np.stack(np.divmod(np.arange(len(images) * starts), starts), axis=1)
    draws = _draws(release.class_gaussians, seed, labels[numbers[:, 0]], numbers, images.shape[1:])
    wanted = given.features.repeat(starts, axis=0)
    found = _invert(release, draws, wanted, smoothness_weight, radius, num_steps, step_size, run)
    tried = found.distance.reshape(-1, starts)
    chosen = tried.argmin(axis=1)
    kept = np.arange(len(images)) * starts + chosen
    return Inversion(
        images=found.images[kept],
        starts=found.starts[kept],
        distance_start=found.distance_start[kept],
        distance=found.distance[kept],
        predicted=found.predicted[kept],
        tried=tried,
        chosen=chosen,
        predicted_given=predicted,
        labels=labels,
    )


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
      images: (n, h, w, c).
      others: (n, h, w, c), or one for all, (1, h, w, c).
      frames: of each pair, both ends among them; 2 or more.
      smoothness_weight: weight of the total variation.
      step_size: of the first step; it falls to 0 like a cosine.

    Returns:
      An inversion of n * frames rows, pair after pair.

    Raises:
      ValueError: there are neither one nor n others.
    """
    if len(others) not in (1, len(images)):
        raise ValueError(f"{len(others)} images to go to from {len(images)}: give one, or as many")
    others = others.repeat(len(images) // len(others), axis=0)
    pairs = np.arange(len(images)).repeat(frames)
    times = np.tile(np.linspace(0, 1, frames, dtype=np.float32), len(images))

    def blend(a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> np.ndarray:
        t = times[rows].reshape(-1, *(1,) * (a.ndim - 1))
        return (1 - t) * np.float32(a[pairs[rows]]) + t * np.float32(b[pairs[rows]])

    ends = (_features(release, images, run), _features(release, others, run))
    starts = Rows(len(pairs), lambda rows: blend(images, others, rows) / np.float32(255))
    wanted = blend(*ends, np.arange(len(pairs)))
    return _invert(release, starts, wanted, smoothness_weight, radius, num_steps, step_size, run)


def _invert(
    release: Release,
    starts: Rows,
    wanted: np.ndarray,
    smoothness_weight: float,
    radius: float,
    num_steps: int,
    step_size: float,
    run: Run,
) -> Inversion:
    scale = _scale(release)
    climb = _inversion_climb(num_steps, step_size * scale, smoothness_weight, radius * scale)
    samples = _sample(release, climb, (starts, wanted), num_steps, run)
    start, end = (_relative_distance(each, wanted) for each in (samples.summary.start, samples.summary.end))
    predicted = runner.predicted(samples.summary.end)
    chosen = np.zeros(len(wanted), np.int32)
    return Inversion(samples.images, samples.starts, start, end, predicted, end[:, None], chosen)


@functools.lru_cache(maxsize=32)
def _inversion_climb(num_steps: int, step_size: float, smoothness_weight: float, radius: float) -> AscentFn:
    task_fn = functools.partial(tasks.invert, smoothness_weight=smoothness_weight, radius=radius)
    sizes = optax.cosine_decay_schedule(step_size, max(num_steps, 1))
    return tasks.best_of(tasks.with_optimizer(task_fn, steepest(L2, sizes)))


def _relative_distance(outputs: Embedding, wanted: np.ndarray) -> np.ndarray:
    gaps = np.linalg.norm(outputs.features - wanted, axis=1)
    return gaps / np.maximum(np.linalg.norm(wanted, axis=1), 1e-12)


class Visualization(NamedTuple):
    """Images of units or classes.

    Attributes:
      images: (m, starts, h, w, c).
      activation_start: of each start, (m, starts).
      activation: of each result.
    """

    images: np.ndarray
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
    parameterization: Callable[[tuple[int, int, int]], Parameterization] = pixel,
    **run: Unpack[Run],
) -> Visualization:
    """Show what units of the penultimate layer, then classes, respond to (Engstrom et al. 2019).

    The same draws of the Gaussians of classes taken at random serve for all of them; draw k depends on
    (seed, k) alone.

    Args:
      units: numbers of units.
      classes: by name or number, one or several, or "all".
      starts: images of each.
      image_size: the side; by default the classifier's.
      parameterization: coordinates of the ascent.

    Raises:
      ValueError: there is no such unit or class.
    """
    scale = _scale(release)
    side = image_size or release.image_shape[0]
    shape = (side, side, release.image_shape[-1])
    embedding.channel_repeats(release.model, release.variables, shape)
    optimizer = _coordinates_optimizer(step_size * scale, parameterization, shape)
    labels = labels_of(release, classes) if np.size(classes) else []
    parts = []
    for numbers, objective, field in (
        (list(units), objectives.activation, "features"),
        (labels, objectives.logit, "logits"),
    ):
        if not numbers:
            continue
        climb = _climb(tasks.visualize, optimizer, objective=objective, radius=radius * scale)
        repeated = np.repeat(np.array(numbers, np.int32), starts)
        draws = _random_class_draws(release, seed, np.tile(np.arange(starts), len(numbers)), shape)
        samples = _sample(release, climb, (draws, repeated), num_steps, run)
        rows = np.arange(len(repeated))
        ends = [getattr(each, field)[rows, repeated] for each in (samples.summary.start, samples.summary.end)]
        cells = samples.images.reshape(len(numbers), starts, *shape)
        parts.append(Visualization(cells, *(np.reshape(end, (-1, starts)) for end in ends)))
    if not parts:
        raise ValueError("nothing to visualize: give units or classes")
    return Visualization(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


@functools.lru_cache(maxsize=32)
def _coordinates_optimizer(step_size, parameterization, shape) -> optax.GradientTransformation:
    return optax.chain(reparameterized(parameterization(shape)), steepest(L2, step_size))


def _random_class_draws(release: Release, seed: int, numbers: np.ndarray, shape) -> Rows:
    """Draw k of a class of its own while there are classes left."""
    classes = np.random.default_rng(seed).permutation(len(release.class_names))
    return _draws(release.class_gaussians, seed, classes[numbers % len(classes)], numbers[:, None], shape)


# What they share.


def labels_of(release: Release, classes: str | int | Sequence[str | int]) -> list[int]:
    """Find the labels of classes given by name or number, one or several, or "all".

    Raises:
      ValueError: no classes, or one that does not exist.
    """
    names = [classes] if isinstance(classes, str | int) else list(classes)
    if names == ["all"]:
        return list(range(len(release.class_names)))
    if not names:
        known = ", ".join(release.class_names)
        raise ValueError(f"no class given: give all, a number, or one of {known}")
    return [models.label_of(name, release.class_names) for name in names]


def _check_images(images: Bytes) -> None:
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(f"images must be uint8 (n, h, w, c), not {images.dtype} {images.shape}")


def _labels(release: Release, images: Bytes, labels: Label, run: Run) -> Int[np.ndarray, " n"]:
    _check_images(images)
    if labels is None:
        return _predict(release, images, run)
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
    return np.broadcast_to(np.asarray(masks, np.float32), shape)


def _batch_size(run: Run) -> int:
    return run.get("batch_size", BATCH_SIZE)


def _predict(release: Release, images: Bytes, run: Run) -> np.ndarray:
    return embedding.predict(release.model, release.variables, images, _batch_size(run))


def _features(release: Release, images: Bytes, run: Run) -> np.ndarray:
    return embedding.embed_images(release.model, release.variables, images, _batch_size(run)).features


def _scale(release: Release) -> float:
    return release.image_shape[0] / SIDE


def _steepest(task_fn: TaskFn, release: Release, step_size: float, *, radius: float, **settings) -> AscentFn:
    scale = _scale(release)
    return _climb(task_fn, _steps(step_size * scale), radius=radius * scale, **settings)


@functools.lru_cache(maxsize=32)
def _steps(step_size: float) -> optax.GradientTransformation:
    return steepest(L2, step_size)


@functools.lru_cache(maxsize=64)
def _climb(task_fn: TaskFn, optimizer: optax.GradientTransformation, **settings) -> AscentFn:
    """The same function for the same settings, so that its programs are compiled once."""
    return tasks.with_optimizer(functools.partial(task_fn, **settings), optimizer)


def _sample(
    release: Release,
    climb: AscentFn,
    inputs: tuple,
    num_steps: int,
    run: Run,
    labels: np.ndarray | None = None,
) -> Samples:
    samples = runner.sample(release.model, release.variables, climb, inputs, num_steps=num_steps, **run)
    return samples._replace(labels=labels)


def _shared_key(seed: int, num: int) -> Rows:
    key = jax.random.key(seed)
    return Rows(num, lambda rows: jnp.broadcast_to(key, rows.shape))


@functools.partial(jax.jit, static_argnums=4)
def _draw(gaussians, key, labels, numbers, shape):
    def draw(label, numbers):
        own = functools.reduce(jax.random.fold_in, numbers, key)
        return box()(class_gaussians.sample(own, gaussians, label, shape))

    return jax.vmap(draw)(labels, numbers)


def _draws(gaussians: ClassGaussians, seed: int, labels: np.ndarray, numbers: np.ndarray, shape) -> Rows:
    """Starts (n, h, w, c): row r depends on its class's Gaussian and (seed, *numbers[r]) alone."""
    key = jax.random.key(seed)
    return Rows(len(labels), lambda rows: _draw(gaussians, key, labels[rows], numbers[rows], tuple(shape)))
