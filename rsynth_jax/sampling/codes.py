"""Tasks in the codes of a generator, on whole arrays: what to climb is as in pixels, where to climb is not.

    release, generator = releases.load("cat-dog-64"), generators.load("faces-style-64")
    found = project(release, generator, photos)              # found.images resemble the photos
    dogs = translate_in_code(release, generator, photos, "dog", until=0.9)
    final = samplers.refine(release, dogs.images, "dog")     # then in pixels, as any images

A code is (layers, d), one style a layer. All lengths are multiples of the typical distance between a drawn
code and the mean code of its class, so that they fit any generator. Arguments that mean the same everywhere:

  release: the classifier, which is what is climbed.
  generator: of the same classes and the same size.
  images: uint8 (n, h, w, c).
  labels: see `samplers`.
  truncation: radius of the ball around the mean code of the class, which holds the codes.
  num_steps, step_size: of an ascent whose steps shrink like a cosine.
  seed: of the latents and of the noise, which stays one for each image.
  run: batch_size, callback and every of `runner.sample`.

`Samples.kept` are the codes, (n, layers, d). Each raises ValueError, in one line, as `samplers` does, and for
a generator of another size or of other classes than the classifier's.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from rsynth_jax import checks, messages, seeds
from rsynth_jax.models import style
from rsynth_jax.models.style import GeneratorConfig, Styles
from rsynth_jax.sampling import runner, samplers
from rsynth_jax.sampling.runner import Samples
from rsynth_jax.sampling.samplers import SCHEDULES, Ascend, Label, Masks, Run
from rsynth_jax.storage.generators import GeneratorRelease
from rsynth_jax.storage.releases import Release
from rsynth_jax.synthesis import objectives, tasks
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.projections import box, l2_ball
from rsynth_jax.synthesis.tasks import AscentFn, ClassObjective, Task, TaskFn
from rsynth_jax.types import Bytes, Classifier, Decode, Generator, Image, Key, Scalar, Variables, Weights
from rsynth_jax.types import Label as OneLabel

Codes = Float[np.ndarray, "n layers d"]
DRAWS = 1024  # of a class, whose distances from the mean code are measured


def project(
    release: Release,
    generator: GeneratorRelease,
    images: Bytes,
    labels: Label = None,
    *,
    perceptual_weight: float = 0.05,
    truncation: float = 1.0,
    num_steps: int = 100,
    step_size: float = 0.1,
    seed: int = 0,
    **run: Unpack[Run],
) -> Samples:
    """Find the generator's images that resemble the given ones, from the mean code of the class.

    Image i depends on (seed, i) alone.

    Args:
      labels: the classes at whose mean codes to start; by default predicted.
      perceptual_weight: of the perceptual distance over the classifier's own layers, beside the mean squared
        error of the pixels.
    """
    _check(release, generator, images)
    labels = samplers.labels_for(release, images, labels, run)
    path = _Path(num_steps, step_size, samplers.best_with_optimizer)
    settings = {"truncation": truncation, "perceptual_weight": perceptual_weight}
    inputs = (seeds.keys(seed, np.arange(len(labels))), labels, images)
    return _sample(release, generator, _projection, inputs, path, run, **settings)


def generate_in_code(
    release: Release,
    generator: GeneratorRelease,
    classes: str | int | Sequence[str | int] = "all",
    num: int = 8,
    *,
    objective: ClassObjective = objectives.logit,
    truncation: float = 1.0,
    num_steps: int = 20,
    step_size: float = 0.05,
    seed: int = 0,
    **run: Unpack[Run],
) -> Samples:
    """Generate `num` images of each class from drawn codes, and climb what the classifier calls the class.

    Image i of a class depends on (seed, class, i) alone; the start is the generator's own draw.

    Args:
      truncation: of each code, as a share of its own distance from the mean code: 1 keeps it, 0 is the mean.
    """
    _check(release, generator)
    chosen = samplers.labels_of(release, classes)
    labels = np.repeat(np.array(chosen, np.int32), num)
    path = _Path(num_steps, step_size)
    settings = {"truncation": truncation, "objective": objective}
    inputs = (seeds.keys(seed, labels, np.tile(np.arange(num), len(chosen))), labels)
    return _sample(release, generator, _generation, inputs, path, run, **settings)


def translate_in_code(
    release: Release,
    generator: GeneratorRelease,
    images: Bytes,
    labels: Label,
    *,
    codes: Codes | None = None,
    objective: ClassObjective = objectives.log_prob,
    until: float = 0.9,
    radius: float = 1.0,
    num_steps: int = 40,
    step_size: float = 0.1,
    seed: int = 0,
    **run: Unpack[Run],
) -> Samples:
    """Turn images into another class in code: stop each where p(label) reaches `until`, the counterfactual.

    Args:
      codes: where to start; by default the codes to which `project` takes the images.
      until: in (0, 1].
      radius: largest distance from the start.
    """
    _check(release, generator, images)
    checks.share(until=until)
    labels = samplers.labels_for(release, images, labels, run)
    if codes is None:
        codes = project(release, generator, images, seed=seed, **_quiet(run)).kept
    _check_codes(generator, images, codes)
    path = _Path(num_steps, step_size, _until(until))
    settings = {"radius": radius, "objective": objective}
    inputs = (seeds.keys(seed, np.arange(len(labels))), labels, codes)
    return _sample(release, generator, _translation, inputs, path, run, **settings)


def inpaint_in_code(
    release: Release,
    generator: GeneratorRelease,
    images: Bytes,
    masks: Masks | None = None,
    labels: Label = None,
    *,
    objective: ClassObjective = objectives.log_prob,
    known_weight: float = 100.0,
    truncation: float = 1.0,
    num_steps: int = 100,
    step_size: float = 0.1,
    seed: int = 0,
    **run: Unpack[Run],
) -> Samples:
    """Fill the holes of images with an image of the generator that agrees with the known pixels.

    The result has the known pixels themselves, and the generator's in the hole. It starts at the mean code.

    Args:
      masks, labels: see `samplers.inpaint`.
      known_weight: of the mean squared error of the known pixels, beside the class's objective.
    """
    _check(release, generator, images)
    checks.not_negative(known_weight=known_weight)
    missing = samplers.missing_of(images, masks)
    labels = samplers.labels_of_known(release, images, missing, labels, run)
    path = _Path(num_steps, step_size)
    settings = {"truncation": truncation, "objective": objective, "known_weight": known_weight}
    inputs = (seeds.keys(seed, np.arange(len(labels))), labels, images, missing)
    return _sample(release, generator, _inpainting, inputs, path, run, **settings)


# The tasks of one image, in its code.


class _Space(NamedTuple):
    """What the codes of all images share: arguments of the programs."""

    variables: Variables  # of the generator
    means: Float[Array, "k d"]  # the mean style of each class
    distances: Float[Array, " k"]  # typical ones between a drawn code and the mean code


class _Place(NamedTuple):
    """Where the code of one image is."""

    generator: Generator
    mean: Styles  # the mean code of its class
    distance: Scalar  # the typical one from it
    key: Key  # of the image

    def decode(self, noise_key: Key) -> Decode:
        """Code -> image in [0, 1], with one noise."""
        return lambda code: box()(self.generator.decode(code, noise_key))


def _projection(
    classifier: Classifier,
    place: _Place,
    label: OneLabel,
    image: Image,
    *,
    truncation: float,
    perceptual_weight: float,
) -> Task:
    task = tasks.resemble(classifier, image, image, perceptual_weight=perceptual_weight)
    near = l2_ball(place.mean, truncation * place.distance)
    return tasks.in_code(task, place.decode(place.key), place.mean, near)


def _generation(
    classifier: Classifier, place: _Place, label: OneLabel, *, truncation: float, objective: ClassObjective
) -> Task:
    latent_key, noise_key = jax.random.split(place.key)
    code = place.generator.code(place.generator.prior(latent_key), label)
    decode = place.decode(noise_key)
    task = tasks.generate(classifier, decode(code), label, objective=objective)
    truncated = l2_ball(place.mean, truncation * L2.length(code - place.mean))
    return tasks.in_code(task, decode, code, truncated)


def _translation(
    classifier: Classifier,
    place: _Place,
    label: OneLabel,
    code: Styles,
    *,
    radius: float,
    objective: ClassObjective,
) -> Task:
    decode = place.decode(place.key)
    image = decode(code)
    task = tasks.translate(classifier, image, label, jnp.ones((*image.shape[:2], 1)), objective=objective)
    return tasks.in_code(task, decode, code, l2_ball(code, radius * place.distance))


def _inpainting(
    classifier: Classifier,
    place: _Place,
    label: OneLabel,
    image: Image,
    missing: Weights,
    *,
    truncation: float,
    objective: ClassObjective,
    known_weight: float,
) -> Task:
    decode = place.decode(place.key)
    task = tasks.inpaint(classifier, image, label, image, missing, objective=objective)
    task = tasks.keep_known(task, image, missing, known_weight)
    near = l2_ball(place.mean, truncation * place.distance)
    task = tasks.in_code(task, decode, place.mean, near)
    return task._replace(decode=lambda code: (1 - missing) * image + missing * decode(code))


# From a task to samples.


class _Path(NamedTuple):
    """How an ascent moves."""

    num_steps: int
    step_size: float
    ascend: Ascend = tasks.with_optimizer


@functools.lru_cache(maxsize=32)
def _until(probability: float) -> Ascend:
    def ascend(task_fn: TaskFn, optimizer: optax.GradientTransformation) -> AscentFn:
        return tasks.until_probability(tasks.with_optimizer(task_fn, optimizer), 1, probability)

    return ascend


def _sample(
    release: Release,
    generator: GeneratorRelease,
    task_fn: TaskFn,
    inputs: tuple,
    path: _Path,
    run: Run,
    **settings: Any,
) -> Samples:
    """Climb a task of (classifier, place, label, *more inputs) for inputs (keys, labels, *more)."""
    checks.not_negative(step_size=path.step_size, num_steps=path.num_steps)
    checks.not_negative(**{name: value for name, value in settings.items() if isinstance(value, float)})
    climb = _climb(task_fn, generator.config, path, **settings)
    run_ascent = functools.partial(runner.sample, release.model, release.variables, climb, inputs, **run)
    samples = run_ascent(shared=(_space(generator),), keep=lambda codes: codes, num_steps=path.num_steps)
    return samples._replace(labels=inputs[1])


@functools.lru_cache(maxsize=64)
def _climb(task_fn: TaskFn, config: GeneratorConfig, path: _Path, **settings: Any) -> AscentFn:
    """The same function for the same settings, so that its programs are compiled once."""
    task_fn = functools.partial(task_fn, **settings)
    rate = SCHEDULES["cosine"].rate(path.step_size, path.num_steps)
    steps = optax.chain(L2.direction, optax.scale_by_learning_rate(rate))

    def climb(classifier: Classifier, space: _Space, key: Key, label: OneLabel, *inputs):
        mean = jnp.tile(space.means[label], (config.num_layers, 1))
        distance = space.distances[label]
        place = _Place(style.bind(config, space.variables), mean, distance, key)
        own = optax.chain(steps, optax.scale(distance))
        return path.ascend(task_fn, own)(classifier, place, label, *inputs)

    return climb


def _space(generator: GeneratorRelease) -> _Space:
    means = jnp.asarray(generator.mean_styles)
    return _Space(generator.variables, means, _distances(generator.config)(generator.variables, means))


@functools.lru_cache(maxsize=16)
def _distances(config: GeneratorConfig) -> Callable[[Variables, Array], Array]:
    """Compile (variables, mean styles) -> the root mean square distance of codes from each class's mean."""

    def distances(variables: Variables, means: Array) -> Array:
        bound = style.bind(config, variables)
        latents = jax.vmap(bound.prior)(jax.random.split(jax.random.key(0), DRAWS))

        def distance(label: OneLabel) -> Scalar:
            codes = jax.vmap(lambda latent: bound.code(latent, label))(latents)
            return jnp.sqrt(jnp.mean(jnp.sum((codes - means[label]) ** 2, axis=(1, 2))))

        return jax.lax.map(distance, jnp.arange(config.num_classes))

    return jax.jit(distances)


def _quiet(run: Run) -> Run:
    """Without the callback, which counts the steps of the last ascent alone."""
    return {**run, "callback": None}


def _check(release: Release, generator: GeneratorRelease, images: Bytes | None = None) -> None:
    """Raise ValueError unless the classifier, the generator and the images fit each other."""
    if generator.class_names != release.class_names:
        theirs, own = (messages.listed(each.class_names) for each in (generator, release))
        raise ValueError(
            f"the generator makes {theirs}, the classifier knows {own}: give two of one data set"
        )
    sizes = {"the classifier is for": release.image_shape}
    if images is not None:
        checks.images(images)
        sizes["these are"] = images.shape[1:]
    for whose, shape in sizes.items():
        if shape != generator.image_shape:
            made, theirs = (" x ".join(map(str, each)) for each in (generator.image_shape, shape))
            raise ValueError(f"the generator makes images of {made}, {whose} {theirs}: give one size")


def _check_codes(generator: GeneratorRelease, images: Bytes, codes: Any) -> None:
    shape = (len(images), generator.config.num_layers, generator.config.latent_size)
    if codes.shape != shape:
        raise ValueError(f"codes of shape {codes.shape} are not those of the images: give {shape}")
    checks.finite(codes=codes)
