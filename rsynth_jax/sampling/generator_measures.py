"""Measure a style-based generator by its codes: how smooth their images change, how linear attributes are.

length = path_length(generator, classifier_distance(load("cat-dog-64")), num=1000)
found = separability(generator, load("cat-dog-64"), num=2000)
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from rsynth_jax import checks, models, seeds
from rsynth_jax import images as arrays
from rsynth_jax.metrics import paired
from rsynth_jax.metrics import path_length as lengths
from rsynth_jax.metrics import separability as planes
from rsynth_jax.metrics.estimates import Estimate
from rsynth_jax.models import alexnet, style
from rsynth_jax.models.style import GeneratorConfig
from rsynth_jax.sampling import runner
from rsynth_jax.sampling.runner import BATCH_SIZE
from rsynth_jax.storage.extractors import Perceptual
from rsynth_jax.storage.generators import GeneratorRelease
from rsynth_jax.storage.releases import Release
from rsynth_jax.synthesis import objectives
from rsynth_jax.types import Generator, Image, Key, Label, Latent, Scalar

PATCH = 64  # pixels a side of the patches that LPIPS was fitted to
# from one draw's code to another's
Way = Callable[[Generator, Latent, Latent, Label], Callable[[Scalar], Any]]


class Distance(NamedTuple):
    """A distance of two images, whose weights are its first argument."""

    weights: Any
    between: Callable[[Any, Image, Image], Scalar]


def lpips_distance(perceptual: Perceptual) -> Distance:
    """Return LPIPS; images below 64 pixels are enlarged to at least 64."""
    return Distance((perceptual.params, perceptual.heads), _lpips)


def classifier_distance(release: Release) -> Distance:
    """Return the perceptual distance over the maps of a classifier's blocks: LPIPS with equal weights."""
    return Distance(release.variables, _over_maps(release.model))


def in_w(generator: Generator, latent: Latent, other: Latent, label: Label) -> Callable[[Scalar], Any]:
    """Go straight from the styles of one latent to those of another."""
    first, last = (generator.code(each, label) for each in (latent, other))
    return lambda t: lengths.lerp(first, last, t)


def in_z(generator: Generator, latent: Latent, other: Latent, label: Label) -> Callable[[Scalar], Any]:
    """Go from one latent to another along a great circle."""
    return lambda t: generator.code(lengths.slerp(latent, other, t), label)


def path_length(
    release: GeneratorRelease,
    distance: Distance,
    *,
    way: Way = in_w,
    longest: float = 1.0,
    num: int = 1000,
    seed: int = 0,
    epsilon: float = lengths.EPSILON,
    batch_size: int = BATCH_SIZE,
) -> Estimate:
    """Estimate the perceptual path length: the mean of distance / epsilon^2 over places of random ways.

    Both ends of a way have one class, the classes in turn, and all its images one noise. Without truncation,
    and over the whole image: the paper's figures for faces are of a crop, and of VGG's LPIPS.

    Args:
      way: `in_w` or `in_z`.
      longest: places are uniform in [0, longest]: 1 is the full path, 0 its end.
      num: ways, two or more; way i depends on (seed, i) alone.
    """
    checks.positive(num=num, epsilon=epsilon)
    checks.not_negative(longest=longest)
    rows = np.arange(num, dtype=np.int32)
    labels = rows % release.config.num_classes
    scale = np.full((num, 2), (longest, epsilon), np.float32)
    function = _step(release.config, distance.between, way)
    weights = (release.variables, distance.weights)
    parts = runner.batches(function, weights, (seeds.keys(seed, rows), labels, scale), batch_size)
    return lengths.estimate_length(np.concatenate(list(parts)))


@functools.lru_cache(maxsize=16)
def _step(config: GeneratorConfig, between: Callable[..., Scalar], way: Way) -> Callable[..., Scalar]:
    def step(weights: tuple, key: Key, label: jax.Array, scale: jax.Array) -> Scalar:
        variables, judge = weights
        generator = style.bind(config, variables)
        first, last, place, noise = jax.random.split(key, 4)
        at = way(generator, generator.prior(first), generator.prior(last), label)
        t = scale[0] * jax.random.uniform(place)
        distance = functools.partial(between, judge)
        return lengths.step_length(lambda t: generator.decode(at(t), noise), t, distance, scale[1])

    return step


class Separabilities(NamedTuple):
    """The linear separability of latents and of styles."""

    z: Estimate
    w: Estimate


def separability(
    release: GeneratorRelease,
    judge: Release,
    *,
    num: int = 2000,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> Separabilities:
    """Estimate how linear the classes that a classifier sees in the images are in the latents and the styles.

    The attributes are the judge's classes, each against the others; of two classes, the first. The generator
    is given a class at random, so that a latent alone does not tell it: in Z the measure is exp of the
    answers' entropy, up to what of the latent the judge takes for a class. In W it is nearer to 1 the more
    linearly the mapping network puts the class into the style, and the more surely it shows in the image.

    Args:
      judge: a classifier of the classes to look for; it need not have those of the generator.
      num: draws; draw i depends on (seed, i) alone.
    """
    checks.positive(num=num)
    keys = seeds.keys(seed, np.arange(num))
    weights = (release.variables, judge.variables)
    parts = runner.batches(_answer(release.config, judge.model), weights, (keys,), batch_size)
    latents, styles, logits = (np.concatenate(each) for each in zip(*parts, strict=True))
    margins = _margins(logits.astype(np.float64))
    return Separabilities(
        *(planes.separability(codes, margins, seeds.rng(seed)) for codes in (latents, styles))
    )


@functools.lru_cache(maxsize=16)
def _answer(config: GeneratorConfig, model: nn.Module) -> Callable[..., tuple]:
    def answer(weights: tuple, key: Key) -> tuple[jax.Array, jax.Array, jax.Array]:
        variables, judge = weights
        generator = style.bind(config, variables)
        latent_key, label_key, noise_key = jax.random.split(key, 3)
        latent = generator.prior(latent_key)
        styles = generator.code(latent, jax.random.randint(label_key, (), 0, config.num_classes))
        image = arrays.decode(arrays.encode(generator.decode(styles, noise_key)))
        return latent, styles[0], models.bind(model, judge).logits(image)

    return answer


def _margins(logits: np.ndarray) -> np.ndarray:
    """Each logit minus the largest other; of two classes, the first."""
    others = np.where(np.eye(logits.shape[1], dtype=bool), -np.inf, logits[:, None]).max(axis=2)
    margins = logits - others
    return margins[:, :1] if logits.shape[1] == 2 else margins


def _lpips(weights: tuple, image: Image, other: Image) -> Scalar:
    params, heads = weights
    factor = max(1, -(-PATCH // min(image.shape[:2])))
    large = (arrays.upsample(each, factor, "cubic") for each in (image, other))
    maps, others = (alexnet.features(params, each) for each in large)
    return paired.lpips(maps, others, heads)


@functools.lru_cache(maxsize=16)
def _over_maps(model: nn.Module) -> Callable[[Any, Image, Image], Scalar]:
    def between(variables: Any, image: Image, other: Image) -> Scalar:
        return -objectives.perceptual(models.bind(model, variables), other)(image)

    return between
