"""Dissect a layer of a generator or of a classifier: which units agree with which classes, what they cause.

    subject = of_generator(load("facades-style-64"), segmenters.load("facades-64"), num=200)
    survey = look(subject, "layer3")
    found = agree(survey, len(subject.class_names))
    curve = effects(subject, survey, "layer3", label, [by_iou(found.best, label)], (1, 5, 20))

Arguments that mean the same everywhere:

  subject: the network, its inputs and the judge of its classes, see `Subject`.
  survey: what the layer makes of the inputs untouched.
  layer: a name, see `layers_of`.
  label: the number of a class of the judge.
  batch_size: rows computed together.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Float, Int, UInt8

from rsynth_jax import checks, models, seeds
from rsynth_jax.data.masks import Masked
from rsynth_jax.images import decode, encode
from rsynth_jax.metrics import dissection, frechet
from rsynth_jax.metrics.dissection import Agreement, Counts
from rsynth_jax.metrics.estimates import Estimate
from rsynth_jax.models import embedding, segmenter, style, surgery
from rsynth_jax.sampling import generators, runner
from rsynth_jax.sampling.generators import Code
from rsynth_jax.sampling.runner import BATCH_SIZE, Rows
from rsynth_jax.storage.generators import GeneratorRelease
from rsynth_jax.storage.releases import Release
from rsynth_jax.storage.segmenters import SegmenterRelease
from rsynth_jax.types import Bytes, Image, Label, Map, Outputs, Scalar, Surgery, Weights

NUMBERS = (1, 2, 5, 10, 20, 50, 100)  # of units, at which effects are measured
TRIALS = 3  # orders of random units
STEPS = 100  # of the optimization of a set of units
RATE = 0.01  # of Adam, Bau et al. 2019
PENALTY = 0.005  # of |alpha|^2, Bau et al. 2019
EXCITED = 50  # images of a unit whose distance to real ones is measured
SIDE = 4  # the side of a layer's map is so many times that of the places where units are changed
_MOST_BYTES = 4 << 30  # of the maps of a survey


class Functions(NamedTuple):
    """The functions of a `Subject`, of its weights and one row of its inputs.

    Attributes:
      run: (weights, row, surgery) -> the output of the network.
      presence: (weights, row, output) -> the probability of each class at each pixel, (h, w, k).
      score: (weights, row, output, label, places (h, w, 1)) -> what surgery at these pixels may change.
      image: (row, output) -> the image to show.
    """

    run: Callable[[Any, Any, Surgery], Any]
    presence: Callable[[Any, Any, Any], Map]
    score: Callable[[Any, Any, Any, Label, Weights], Scalar]
    image: Callable[[Any, Any], Image]


class Subject(NamedTuple):
    """A network to dissect.

    Attributes:
      functions: pure; the same for all networks of one description, so that programs are compiled once.
      weights: their arguments.
      rows: the inputs, one row an image.
      class_names: of the judge.
      score: what the score is, in words.
    """

    functions: Functions
    weights: Any
    rows: Rows
    class_names: tuple[str, ...]
    score: str


class Given(NamedTuple):
    """An image for a classifier, its human mask, and the class that the classifier predicts untouched."""

    image: Any
    mask: Any
    predicted: Any


def of_generator(
    release: GeneratorRelease,
    judge: SegmenterRelease,
    num: int,
    *,
    seed: int = 0,
    truncation: float = 1.0,
) -> Subject:
    """Dissect a generator by draws of all its classes, judged by a segmenter.

    The score of a class is its mean probability over the pixels that are changed.

    Args:
      num: draws, as many of each class, rounded up; draw i of a class depends on (seed, class, i) alone.

    Raises:
      ValueError: the segmenter takes images of another size.
    """
    checks.positive(num=num)
    if judge.image_shape != release.image_shape:
        own, other = (" x ".join(map(str, shape)) for shape in (judge.image_shape, release.image_shape))
        raise ValueError(f"the segmenter's images are {own}, the generator's {other}: give another segmenter")
    each = range(-(-num // release.config.num_classes))
    _, codes = generators.codes_of(release, "all", each, seed, truncation)
    functions = _of_generator(release.config, judge.config)
    weights = (release.variables, judge.variables)
    return Subject(functions, weights, codes, judge.class_names, "probability")


def of_classifier(release: Release, data: Masked) -> Subject:
    """Dissect a classifier by images with human masks.

    The score is the log-probability of the class that the classifier predicts untouched, whatever the label.
    """
    images, masks = data.images, data.masks
    predicted = embedding.predict(release.model, release.variables, images, BATCH_SIZE)
    rows = Rows(len(images), lambda rows: Given(images[rows], masks[rows], predicted[rows]))
    functions = _of_classifier(release.model, len(data.class_names))
    return Subject(functions, release.variables, rows, data.class_names, "log p")


def layers_of(subject: Subject) -> dict[str, tuple[int, ...]]:
    """Return the shape (h, w, units) of every layer that can be dissected, by name, in order."""
    row = jax.tree.map(lambda leaf: leaf[0], subject.rows[np.arange(1)])
    return surgery.layer_shapes(lambda change: subject.functions.run(subject.weights, row, change))


def layer_named(subject: Subject, number: str) -> str:
    """Find the name of a layer by its number, in order. Raises ValueError if there is none."""
    shapes = layers_of(subject)
    names = {str(i): name for i, name in enumerate(shapes)}
    if number not in names:
        raise ValueError(surgery.missing(number, shapes))
    return names[number]


class Survey(NamedTuple):
    """A layer of a network untouched, over n inputs.

    Attributes:
      maps: of the layer.
      classes: the most probable class of each pixel.
      images: to show.
    """

    maps: Float[np.ndarray, "n h w u"]
    classes: UInt8[np.ndarray, "n y x"]
    images: Bytes


def look(subject: Subject, layer: str, *, batch_size: int = BATCH_SIZE) -> Survey:
    """Run the network untouched on all inputs, and keep the layer's maps.

    Raises ValueError if there is no such layer, or its maps do not fit in 4 GiB.
    """
    shapes = layers_of(subject)
    if layer not in shapes:
        raise ValueError(surgery.missing(layer, shapes))
    most = _MOST_BYTES // (4 * int(np.prod(shapes[layer])))
    if len(subject.rows) > most:
        raise ValueError(f"the maps of {len(subject.rows)} images take too much memory: give {most} or fewer")
    program = _surveyed(subject.functions, layer)
    parts = runner.batches(program, subject.weights, (subject.rows,), batch_size)
    return Survey(*map(np.concatenate, zip(*parts, strict=True)))


class Found(NamedTuple):
    """The agreement of u units with k classes.

    Attributes:
      levels: of each unit, at each of `SHARES`, (s, u).
      tail: at the 99.5 % quantile of each unit.
      best: at the level of the largest information ratio of each pair.
    """

    levels: Float[np.ndarray, "s u"]
    tail: Agreement
    best: Agreement


def agree(survey: Survey, num_classes: int, *, batch_size: int = BATCH_SIZE) -> Found:
    """Measure the agreement of every unit of a survey with every class."""
    levels = dissection.quantile_levels(survey.maps, dissection.SHARES)
    parts = runner.batches(_counted(num_classes), levels, (survey.maps, survey.classes), batch_size)
    sums = [dissection.sum_counts(part) for part in parts]
    counts = Counts(*(np.sum(each, axis=0) for each in zip(*sums, strict=True)))
    tail = int(np.argmin(np.abs(dissection.SHARES - dissection.TAIL)))
    return Found(levels, dissection.at_share(counts, tail), dissection.at_best_ratio(counts))


def by_iou(agreement: Agreement, label: int) -> Int[np.ndarray, " u"]:
    """Order all units by their IoU with a class, the largest first: the first ones are the greedy set."""
    return np.argsort(-agreement.iou[:, label], kind="stable")


def places(seed: int, num: int, shape: tuple[int, ...]) -> Float[np.ndarray, "n h w 1"]:
    """Draw a square of a quarter of the side in each of `num` maps (h, w, u); i depends on (seed, i)."""
    height, width = shape[:2]
    sides = max(1, height // SIDE), max(1, width // SIDE)
    found = np.zeros((num, height, width, 1), np.float32)
    for i in range(num):
        top, left = seeds.rng(seed, i).integers(0, (height - sides[0] + 1, width - sides[1] + 1))
        found[i, top : top + sides[0], left : left + sides[1]] = 1
    return found


def pixels_of(where: Float[np.ndarray, "n h w 1"], size: tuple[int, ...]) -> Bool[np.ndarray, "n y x"]:
    """Return the pixels of images of this size at the places of a layer's maps."""
    down, right = (np.arange(side) * own // side for side, own in zip(size, where.shape[1:3], strict=True))
    return where[:, down[:, None], right, 0] > 0


def presence(survey: Survey, label: int) -> Float[np.ndarray, "n h w"]:
    """Return the share of a class in the pixels of each position of the layer's maps."""
    of_class = jnp.asarray(survey.classes == label, jnp.float32)
    return np.asarray(jax.image.resize(of_class, survey.maps.shape[:3], "linear"))


def insertion(survey: Survey, label: int) -> Float[np.ndarray, " u"]:
    """Return the values that insert a class: each unit's mean, weighted by the presence of the class.

    Raises ValueError if the class is in no image.
    """
    return dissection.mean_at_class(survey.maps, presence(survey, label)).astype(np.float32)


def by_alpha(alpha: Float[np.ndarray, " u"]) -> Int[np.ndarray, " u"]:
    """Order all units by their alpha, the largest first: the first ones are the optimized set."""
    return np.argsort(-alpha, kind="stable")


class Intervention(NamedTuple):
    """A way to change units.

    Attributes:
      verb: what is done to them.
      values: (survey, label) -> k, one a unit.
      places: (seed, num, shape of a map) -> where, (num, h, w, 1).
    """

    verb: str
    values: Callable[[Survey, int], np.ndarray]
    places: Callable[[int, int, tuple[int, ...]], np.ndarray]


def _everywhere(seed: int, num: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.ones((num, *shape[:2], 1), np.float32)


def _zeros(survey: Survey, label: int) -> np.ndarray:
    return np.zeros(survey.maps.shape[-1], np.float32)


ABLATION = Intervention("ablated", _zeros, _everywhere)
INSERTION = Intervention("inserted", insertion, places)


class Changed(NamedTuple):
    """The scores of n images under surgery, and the images."""

    scores: Float[np.ndarray, " n"]
    images: Bytes


def change(
    subject: Subject,
    layer: str,
    label: int,
    alpha: Float[np.ndarray, " u"],
    values: Float[np.ndarray, " u"],
    where: Float[np.ndarray, "n h w 1"],
    *,
    batch_size: int = BATCH_SIZE,
) -> Changed:
    """Blend values into units of a layer, see `surgery.blend`, and measure the score at these places.

    Args:
      alpha: 0 for all units leaves the network as it is.
      where: places of the layer, for each of the first n inputs.
    """
    weights = (subject.weights, np.float32(alpha), np.float32(values), np.int32(label))
    inputs = (Rows(len(where), subject.rows.select), where)
    parts = runner.batches(_changed(subject.functions, layer), weights, inputs, batch_size)
    return Changed(*map(np.concatenate, zip(*parts, strict=True)))


def chosen(units: Sequence[int] | np.ndarray, num_units: int) -> Float[np.ndarray, " u"]:
    """Return the alpha of a set of units: 1 for each of them, 0 for the others."""
    return np.isin(np.arange(num_units), units).astype(np.float32)


def numbers_of_units(most: int) -> tuple[int, ...]:
    """Return the numbers of units at which effects are measured, up to `most`."""
    return tuple(sorted({number for number in NUMBERS if number < most} | {most}))


def random_orders(num_units: int, seed: int = 0) -> list[Int[np.ndarray, " u"]]:
    """Draw `TRIALS` orders of all units."""
    return [seeds.rng(seed, trial).permutation(num_units) for trial in range(TRIALS)]


def effects(
    subject: Subject,
    survey: Survey,
    layer: str,
    label: int,
    orders: Sequence[np.ndarray],
    numbers: Sequence[int],
    *,
    num: int = 64,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> tuple[Estimate, ...]:
    """Estimate the average causal effect of the first units of an order, for each number of them.

    It is the score after insertion minus that after ablation, both at a random place of each image.

    Args:
      orders: of all units, as `by_iou`; the effect is the mean over several, as `random_orders`.
      num: inputs, the first ones; two or more.
    """
    num_units = survey.maps.shape[-1]
    where = places(seed, min(num, len(survey.maps)), survey.maps.shape[1:])
    values = insertion(survey, label)

    def score(units: np.ndarray, k: np.ndarray) -> np.ndarray:
        alpha = chosen(units, num_units)
        return change(subject, layer, label, alpha, k, where, batch_size=batch_size).scores

    found = []
    for number in numbers:
        inserted, ablated = (
            np.mean([score(order[:number], k) for order in orders], axis=0) for k in (values, 0 * values)
        )
        found.append(dissection.causal_effect(inserted, ablated))
    return tuple(found)


def by_surroundings(
    survey: Survey, where: Float[np.ndarray, "n h w 1"], gained: Float[np.ndarray, " n"], num_classes: int
) -> dict[int, Float[np.ndarray, " m"]]:
    """Group what each image gains at its places by the class that most of their pixels had before."""
    inside = pixels_of(where, survey.classes.shape[1:])
    before = np.array(
        [
            np.bincount(classes[own], minlength=num_classes).argmax()
            for classes, own in zip(survey.classes, inside, strict=False)
        ]
    )
    return {int(label): gained[before == label] for label in np.unique(before)}


def optimize(
    subject: Subject,
    survey: Survey,
    layer: str,
    label: int,
    start: Float[np.ndarray, " u"],
    *,
    steps: int = STEPS,
    batch_size: int = 8,
    seed: int = 0,
) -> Float[np.ndarray, " u"]:
    """Optimize alpha in [0, 1]^u, so that its units cause a class (Bau et al. 2019, section 3.2).

    Adam descends E score(ablated where the class is) - E score(inserted anywhere) + 0.005 |alpha|^2.

    Args:
      start: alpha, such as each unit's IoU with the class over the largest one.
      batch_size: images of a step.
    """
    checks.positive(steps=steps, batch_size=batch_size)
    values, shares = insertion(survey, label), presence(survey, label)[..., None]
    inside = np.flatnonzero(shares.max(axis=(1, 2, 3)) > 0)
    anywhere = places(seed, len(shares), survey.maps.shape[1:])
    alpha = jnp.asarray(np.clip(start, 0, 1), jnp.float32)
    state = optax.adam(RATE).init(alpha)
    step = _descended(subject.functions, layer)
    fixed = (subject.weights, jnp.asarray(values), jnp.int32(label))
    for number in range(steps):
        rows = seeds.rng(seed, number).choice(inside, batch_size)
        batch = (subject.rows[rows], jnp.asarray(shares[rows]), jnp.asarray(anywhere[rows]))
        alpha, state = step(fixed, alpha, state, *batch)
    return np.asarray(alpha)


class Artefacts(NamedTuple):
    """Units that are on in images unlike real ones, and the images without them.

    Attributes:
      scores: of each unit, the Fréchet distance of its most exciting images to real ones, (u,).
      order: all units, the largest distance first.
      before: the distance of all images.
      after: without the first units of the order.
      random: without as many random units, the mean over `TRIALS` orders.
      images: without the first units of the order.
    """

    scores: Float[np.ndarray, " u"]
    order: Int[np.ndarray, " u"]
    before: float
    after: float
    random: float
    images: UInt8[np.ndarray, "n h w c"]


def artefacts(
    subject: Subject,
    survey: Survey,
    layer: str,
    judge: Release,
    real: Bytes,
    units: int,
    *,
    num: int = EXCITED,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> Artefacts:
    """Find the units whose `num` most exciting images are farthest from real ones, and ablate them.

    Args:
      judge: a classifier, whose penultimate features are compared.
      units: that are ablated, everywhere.

    Raises:
      ValueError: the classifier, the images and the real ones are not of one size.
    """
    checks.same_size(judge.image_shape, survey.images.shape[1:])
    checks.same_size(survey.images.shape[1:], real.shape[1:])

    def features(images: Bytes) -> np.ndarray:
        return embedding.embed_images(judge.model, judge.variables, images, batch_size).features

    others = frechet.moments(features(real))
    own = features(survey.images)
    scores = dissection.artefact_scores(own, peaks(survey), others, min(num, len(own)))
    order = np.argsort(-scores, kind="stable")
    nothing, where = _zeros(survey, 0), _everywhere(seed, len(own), survey.maps.shape[1:])

    def without(chosen_units: np.ndarray) -> Bytes:
        alpha = chosen(chosen_units[:units], len(scores))
        return change(subject, layer, 0, alpha, nothing, where, batch_size=batch_size).images

    def distance(images: Bytes) -> float:
        return frechet.frechet(frechet.moments(features(images)), others)

    random = float(np.mean([distance(without(each)) for each in random_orders(len(scores), seed)]))
    before, images = frechet.frechet(frechet.moments(own), others), without(order)
    return Artefacts(scores, order, before, distance(images), random, images)


def peaks(survey: Survey) -> Float[np.ndarray, "n u"]:
    """Return the maximum of each unit's map in each image."""
    return survey.maps.max(axis=(1, 2))


def regions(
    maps: Float[np.ndarray, "n h w"], level: float, size: tuple[int, int]
) -> Bool[np.ndarray, "n y x"]:
    """Return the pixels at which one unit is above a level, of images of this size."""
    large = jax.image.resize(maps, (len(maps), *size), "bilinear")
    return np.asarray(large) > level


@functools.lru_cache(maxsize=16)
def _of_generator(config: style.GeneratorConfig, judge: segmenter.SegmenterConfig) -> Functions:
    def run(weights: Any, code: Code, change: Surgery) -> Image:
        image = style.bind(config, weights[0], surgery=change).decode(code.styles, code.noise_key)
        return jnp.clip(image, 0, 1)

    def presence(weights: Any, code: Code, image: Image) -> Map:
        return jax.nn.softmax(segmenter.bind(judge, weights[1])(image))

    def score(weights: Any, code: Code, image: Image, label: Label, where: Weights) -> Scalar:
        of_class = presence(weights, code, image)[..., label]
        return jnp.sum(where[..., 0] * of_class) / jnp.maximum(jnp.sum(where), 1e-12)

    return Functions(run, presence, score, lambda code, image: image)


@functools.lru_cache(maxsize=16)
def _of_classifier(model: Any, num_classes: int) -> Functions:
    def run(weights: Any, given: Given, change: Surgery) -> Outputs:
        return models.bind(model, weights, change).outputs(decode(given.image))

    def presence(weights: Any, given: Given, outputs: Outputs) -> Map:
        return jax.nn.one_hot(given.mask, num_classes)

    def score(weights: Any, given: Given, outputs: Outputs, label: Label, where: Weights) -> Scalar:
        return jax.nn.log_softmax(outputs.logits)[given.predicted]

    return Functions(run, presence, score, lambda given, outputs: decode(given.image))


@functools.lru_cache(maxsize=16)
def _surveyed(functions: Functions, layer: str) -> Callable[..., tuple]:
    def surveyed(weights: Any, row: Any) -> tuple[Map, jax.Array, jax.Array]:
        output, x = surgery.read(lambda change: functions.run(weights, row, change), layer)
        classes = functions.presence(weights, row, output).argmax(axis=-1).astype(jnp.uint8)
        return x.astype(jnp.float32), classes, encode(functions.image(row, output))

    return surveyed


@functools.lru_cache(maxsize=16)
def _counted(num_classes: int) -> Callable[..., Counts]:
    return lambda levels, x, mask: dissection.count(x, mask.astype(jnp.int32), levels, num_classes)


def _scored(functions: Functions, layer: str, weights: Any, row: Any, where: Weights) -> tuple[Scalar, Image]:
    """The score of a row under surgery, and the image; weights: the network's, alpha, values, label."""
    own, alpha, values, label = weights
    output = functions.run(own, row, surgery.at(layer, surgery.blend(alpha, values, where)))
    image = functions.image(row, output)
    pixels = jax.image.resize(where, (*image.shape[:2], 1), "nearest")
    return functions.score(own, row, output, label, pixels), image


@functools.lru_cache(maxsize=16)
def _changed(functions: Functions, layer: str) -> Callable[..., tuple]:
    def changed(weights: Any, row: Any, where: Weights) -> tuple[Scalar, jax.Array]:
        score, image = _scored(functions, layer, weights, row, where)
        return score, encode(image)

    return changed


@functools.lru_cache(maxsize=16)
def _descended(functions: Functions, layer: str) -> Callable[..., tuple]:
    """Compile a step of Adam on alpha."""

    def loss(alpha: jax.Array, fixed: tuple, rows: Any, shares: jax.Array, anywhere: jax.Array) -> Scalar:
        own, values, label = fixed

        def left(row: Any, is_there: Weights, could_be: Weights) -> Scalar:
            ablated, inserted = (
                _scored(functions, layer, (own, alpha, k, label), row, where)[0]
                for k, where in ((0 * values, is_there), (values, could_be))
            )
            return ablated - inserted

        return jnp.mean(jax.vmap(left)(rows, shares, anywhere)) + PENALTY * jnp.sum(alpha**2)

    @jax.jit
    def step(fixed: tuple, alpha: jax.Array, state: Any, *batch: Any) -> tuple[jax.Array, Any]:
        updates: Any
        updates, state = optax.adam(RATE).update(jax.grad(loss)(alpha, fixed, *batch), state)
        return jnp.clip(alpha + updates, 0, 1), state

    return step
