"""The synthesis tasks: each an objective to climb, a convex set to stay in, and a start.

A task is a function of a classifier and the inputs of ONE image. `with_optimizer` turns it into a start and
an `Ascent`; `rsynth_jax.sampling.sample` runs that on many images:

    climb = with_optimizer(translate, steepest(L2, 0.2))
    samples = sample(model, variables, climb, (images, labels, masks), num_steps=40)

`in_code` turns any task on pixels into the same task on the code of a generator: the same objective, of the
decoded image, in a set of codes, from a code.

Radii are l2 distances in pixel values of [0, 1], and the defaults are for 32 pixels a side; the paper is
Santurkar et al. 2019, whose values are for 224 pixels unless CIFAR-10 is named.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rsynth_jax import images as arrays
from rsynth_jax import models
from rsynth_jax.synthesis import ascent, class_gaussians, objectives
from rsynth_jax.synthesis.ascent import Ascent
from rsynth_jax.synthesis.class_gaussians import ClassGaussians
from rsynth_jax.synthesis.projections import (
    ball_in_box,
    box,
    chain,
    dykstra,
    l2_ball,
    low_frequencies,
    low_resolution_in_box,
    pixels,
    resampled_in_box,
)
from rsynth_jax.types import (
    Classifier,
    Code,
    Decode,
    Features,
    Image,
    Key,
    Label,
    Mask,
    Objective,
    Point,
    Projection,
    Weights,
)

ClassObjective = Callable[[Classifier, Label], Objective]


class Task(NamedTuple):
    """What to make: climb `objective`, inside the set of `projection`, from `start`.

    The three are of points, which are images or codes; `decode` makes the image of a point.
    """

    start: Point
    objective: Objective
    projection: Projection
    decode: Decode = ascent.identity


TaskFn = Callable[..., Task]  # (classifier, *inputs of one image) -> Task
AscentFn = Callable[..., tuple[Point, Ascent]]  # (classifier, *inputs of one image) -> start, ascent


# From a task to an ascent.


def with_optimizer(task_fn: TaskFn, optimizer: optax.GradientTransformation) -> AscentFn:
    """Climb each task by the plain projected gradient ascent under `optimizer`."""

    def climb(classifier: Classifier, *inputs) -> tuple[Point, Ascent]:
        task = task_fn(classifier, *inputs)
        steps = ascent.projected_gradient_ascent(task.objective, task.projection, optimizer)
        return task.start, steps._replace(decode=task.decode)

    return climb


def jittered(task_fn: TaskFn, optimizer: optax.GradientTransformation, max_shift: int) -> AscentFn:
    """Climb each task while every step views the image from up to `max_shift` pixels away.

    A strided network has a grid, and ascent reproduces it; views from many places average it out.

    Returns:
      An `AscentFn` whose first input is the key of the shifts. Images given equal keys share the shifts.
    """

    def climb(classifier: Classifier, key: Key, *inputs) -> tuple[Point, Ascent]:
        def ascent_of(step_key: Key) -> Ascent:
            shift = functools.partial(arrays.random_shift, step_key, max_shift=max_shift)
            return with_optimizer(task_fn, optimizer)(models.precompose(classifier, shift), *inputs)[1]

        return task_fn(classifier, *inputs).start, ascent.with_step_keys(key, ascent_of)

    return climb


def best_of(ascent_fn: AscentFn) -> AscentFn:
    """Return the best point measured, not the last one."""

    def climb(classifier: Classifier, *inputs) -> tuple[Point, Ascent]:
        start, inner = ascent_fn(classifier, *inputs)
        return start, ascent.best_so_far(inner)

    return climb


# From a task on pixels to the same on a code.


def in_code(task: Task, decode: Decode, start: Code, projection: Projection) -> Task:
    """Do a task in code space: climb its objective of the decoded image, among codes, from a code.

        truncated = l2_ball(mean, 0.7 * jnp.linalg.norm(code - mean))
        cat = in_code(generate(classifier, image, 3), decode, code, truncated)

    The task's own start and set are of images, and are replaced: what its set keeps exactly, such as known
    pixels, must be in the objective too (`keep_known`).

    Args:
      task: on pixels.
      decode: code -> image; of a generator, with one noise for all codes.
      start: a code.
      projection: of codes.
    """
    return Task(start, objectives.precompose(task.objective, decode), projection, decode)


def in_gray(task: Task, is_gray: jax.Array) -> Task:
    """Do a task on pixels among gray images, whose channels are equal, where `is_gray`, a bool ()."""

    def leveled(image: Image) -> Image:
        return jnp.where(is_gray, jnp.mean(image, axis=-1, keepdims=True), image)

    return in_code(task, leveled, leveled(task.start), task.projection)


# The tasks.


def generate(
    classifier: Classifier,
    start: Image,
    label: Label,
    *,
    objective: ClassObjective = objectives.logit_plus_log_prob,
    radius: float = 30.0,
) -> Task:
    """Generate an image of class `label` from `start`, a draw of the class's Gaussian.

    Paper: log p, radius 30 on CIFAR-10, 40 at 224 pixels.
    """
    return Task(start, objective(classifier, label), chain(l2_ball(start, radius), box()))


def inpainting_start(
    gaussians: ClassGaussians, image: Image, label: Label, missing: Weights, variance: float = 0.03
) -> Image:
    """Fill what is missing with the mean of the class's Gaussian given the known pixels.

    Where the known pixels differ from that mean, the difference is continued into the hole harmonically, so
    that there is no seam.

    Args:
      gaussians: of all classes.
      image: its missing values are ignored.
      label: the class.
      missing: 0 where a pixel is known, 1 in the hole, a blend between.
      variance: of a pixel value around what the Gaussian explains; chosen in docs/inpainting.md.
    """
    likely = class_gaussians.conditional_mean(gaussians, label, image, 1 - missing, variance)
    inside = box(*arrays.blends(image, missing))
    return inside(likely + arrays.harmonic_fill(image - likely, missing))


def inpaint(
    classifier: Classifier,
    image: Image,
    label: Label,
    start: Image,
    missing: Weights,
    *,
    objective: ClassObjective = objectives.logit,
    radius: float = 3.0,
) -> Task:
    """Fill the hole so that the image is classified as `label`; known pixels are kept exactly.

    Between 0 (known) and 1 (hole) `missing` says how much of the result is new. The paper penalizes the
    change of known pixels (weight 10, radius 21.6); here the set is the ball around `start` within the box
    of all blends, and its projection is exact.
    """
    stay = ball_in_box(start, radius, *arrays.blends(image, missing))
    return Task(start, objective(classifier, label), stay)


def keep_known(task: Task, image: Image, missing: Weights, weight: float) -> Task:
    """Penalize the mean squared change of an image's known pixels, as the paper does (weight 10)."""
    penalty = objectives.scale(weight, objectives.fidelity(image, 1 - missing))
    return task._replace(objective=objectives.add(task.objective, penalty))


class Forward(NamedTuple):
    """How an image is lowered, and the projection onto the images that are lowered to a given one.

    Attributes:
      lower: (image, factor) -> the image with `factor` times fewer rows and columns.
      consistent: (low, factor) -> the projection onto {x in [0, 1] : lower(x, factor) = low}.
    """

    lower: Callable[[Image, int], Image]
    consistent: Callable[[Image, int], Projection]


def _resampling(method: str) -> Forward:
    """`jax.image.resize`, which low-passes first: up to rounding, Pillow's filter of that name."""

    def lower(image: Image, factor: int) -> Image:
        height, width, channels = image.shape
        return jax.image.resize(image, (height // factor, width // factor, channels), method)

    def consistent(low: Image, factor: int) -> Projection:
        return resampled_in_box(low, (factor * low.shape[0], factor * low.shape[1]), method)

    return Forward(lower, consistent)


BLOCK = Forward(arrays.downsample, low_resolution_in_box)
BICUBIC = _resampling("cubic")
LANCZOS = _resampling("lanczos3")
FORWARDS = {"block": BLOCK, "bicubic": BICUBIC, "lanczos": LANCZOS}


def superresolve(
    classifier: Classifier,
    low: Image,
    label: Label,
    *,
    factor: int = 4,
    forward: Forward = BLOCK,
    objective: ClassObjective = objectives.logit,
    radius: float = 4.0,
) -> Task:
    """Enlarge `low` towards class `label`; `forward.lower` of the result stays `low`.

    Starts from the bicubic upsampling made consistent, which is the center of the ball, so that the last
    projection moves nothing out of the ball. Paper: log p, near the start only, radius 15 (x7) or 8 (x8).
    """
    consistent = forward.consistent(low, factor)
    start = consistent(arrays.upsample(low, factor, "cubic"))
    return Task(start, objective(classifier, label), chain(ball_in_box(start, radius), consistent))


def translate(
    classifier: Classifier,
    image: Image,
    label: Label,
    free: Weights,
    *,
    objective: ClassObjective = objectives.log_prob,
    radius: float = 6.0,
    most: float = 1.0,
) -> Task:
    """Turn the image into class `label`, at most `radius` (l2) and `most` (each value) away.

    Where `free` is 0 every pixel is kept exactly, where it is 1 it may take any value, between a blend.
    Paper: radius 80.
    """
    least, greatest = arrays.blends(image, free)
    near = ball_in_box(image, radius, jnp.maximum(least, image - most), jnp.minimum(greatest, image + most))
    return Task(image, objective(classifier, label), near)


def keep_coarse(task: Task, cycles: float, rounds: int = 20) -> Task:
    """Keep the frequencies of the start up to `cycles` an image, by `rounds` of Dykstra's algorithm."""
    kept = low_frequencies(task.start, cycles / len(task.start))
    return task._replace(projection=dykstra(kept, task.projection, rounds=rounds))


def keep_perceptually(task: Task, classifier: Classifier, weight: float) -> Task:
    """Penalize the perceptual distance from the start over the classifier's own layers."""
    penalty = objectives.scale(weight, objectives.perceptual(classifier, task.start))
    return task._replace(objective=objectives.add(task.objective, penalty))


def paint(
    classifier: Classifier,
    image: Image,
    number: Label,
    where: Weights,
    *,
    objective: ClassObjective = objectives.log_prob,
    radius: float = 3.0,
) -> Task:
    """Climb a class, or with `objectives.activation` a feature, where `where` is 1; the rest is kept exactly.

    Paper: 0.1 times the feature minus 90 times the squared error elsewhere, radius 70, 140 steps a stroke.
    """
    stay = ball_in_box(image, radius, *arrays.blends(image, where))
    return Task(image, objective(classifier, number), stay)


def no_pixels(image: Image) -> Mask:
    """Keep no pixel of a drawing."""
    return jnp.zeros((*image.shape[:2], 1), bool)


def dark_pixels(image: Image, darkness: float = 0.25) -> Mask:
    """Keep the strokes of a drawing: pixels whose mean over the channels is below `darkness`."""
    return jnp.mean(image, axis=-1, keepdims=True) < darkness


def edge_pixels(image: Image, contrast: float = 0.25) -> Mask:
    """Keep the pixels that differ by more than `contrast` from the one above or to the left."""
    grey = jnp.mean(image, axis=-1, keepdims=True)
    across = jnp.abs(jnp.diff(grey, axis=1, prepend=grey[:, :1]))
    down = jnp.abs(jnp.diff(grey, axis=0, prepend=grey[:1]))
    return jnp.maximum(across, down) > contrast


KEPT = {"nothing": no_pixels, "strokes": dark_pixels, "edges": edge_pixels}


def sketch(
    classifier: Classifier,
    drawing: Image,
    label: Label,
    *,
    keep: Callable[[Image], Mask] = no_pixels,
    objective: ClassObjective = objectives.log_prob,
    radius: float = 10.0,
) -> Task:
    """Turn a drawing into an image of class `label`; the pixels that `keep` marks are kept exactly.

    Paper: radius 40, 60 steps of 1, nothing kept.
    """
    stay = chain(pixels(drawing, keep(drawing)), ball_in_box(drawing, radius))
    return Task(drawing, objective(classifier, label), stay)


def refine(
    classifier: Classifier,
    image: Image,
    label: Label,
    *,
    objective: ClassObjective = objectives.logit,
    radius: float = 1.0,
) -> Task:
    """Move an image a little towards its class (BIGRoC, Ganz and Elad 2022)."""
    return Task(image, objective(classifier, label), ball_in_box(image, radius))


def invert(
    classifier: Classifier,
    start: Image,
    features: Features,
    *,
    smoothness_weight: float = 1.0,
    radius: float = 30.0,
) -> Task:
    """Find an image with these penultimate features, a smooth one (Engstrom et al. 2019)."""
    smooth = objectives.scale(smoothness_weight, objectives.smoothness())
    objective = objectives.add(objectives.feature_match(classifier, features), smooth)
    return Task(start, objective, chain(l2_ball(start, radius), box()))


def resemble(
    classifier: Classifier,
    start: Image,
    image: Image,
    *,
    perceptual_weight: float = 0.05,
    radius: float = 30.0,
) -> Task:
    """Find what resembles an image: in its pixels, and over the classifier's own layers.

    In pixels the image itself is the answer; in code, the generator's image that is nearest to it.
    """
    alike = objectives.scale(perceptual_weight, objectives.perceptual(classifier, image))
    objective = objectives.add(objectives.fidelity(image, ~no_pixels(image)), alike)
    return Task(start, objective, chain(l2_ball(start, radius), box()))


def visualize(
    classifier: Classifier,
    start: Image,
    number: Label,
    *,
    objective: ClassObjective = objectives.activation,
    radius: float = 30.0,
) -> Task:
    """Show what a unit of the penultimate layer, or with `objectives.logit` a class, responds to."""
    return Task(start, objective(classifier, number), chain(l2_ball(start, radius), box()))


def until_probability(ascent_fn: AscentFn, label_index: int, probability: float) -> AscentFn:
    """Stop each image at its first step where p(label) reaches `probability`: the counterfactual.

    Args:
      ascent_fn: what to stop.
      label_index: which of its inputs is the label.
      probability: in (0, 1].
    """

    def climb(classifier: Classifier, *inputs) -> tuple[Point, Ascent]:
        start, inner = ascent_fn(classifier, *inputs)
        log_prob = objectives.precompose(objectives.log_prob(classifier, inputs[label_index]), inner.decode)
        return start, ascent.stop_when(lambda point: jnp.exp(log_prob(point)) >= probability, inner)

    return climb
