"""A style-based generator on whole arrays: draws, mixtures of their styles, loops through them, their noise.

    release = load("faces-style-64")
    cats = draw(release, "cat", num=16, seed=0, truncation=0.7)
    grid = mix(release, "cat", num=8, taken=style.layer_groups(release.config)["coarse"])

Arguments that mean the same everywhere:

  release: the generator.
  classes: by name or number, one or several, or "all".
  num: draws of each class.
  seed: of the latents and the noise. Draw i of a class depends on (seed, class, i) alone.
  truncation: psi, 0 or more: at the first `layers` layers a style w becomes mean + psi (w - mean), with the
    mean style of its class. 1 changes nothing; lower is more typical and less varied.
  layers: how many layers truncation changes; 8 in Karras et al. 2019.
  run: batch_size and callback of `runner.sample`; the callback is called after every batch, with 1 step done.

Each raises ValueError, in one line, for a class that does not exist, no images, and numbers that make no
sense.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from rsynth_jax import checks, seeds, sharding
from rsynth_jax.images import encode
from rsynth_jax.models import style
from rsynth_jax.models.style import GeneratorConfig
from rsynth_jax.sampling import runner
from rsynth_jax.sampling.runner import BATCH_SIZE, Callback, Rows
from rsynth_jax.sampling.samplers import labels_of, numbered
from rsynth_jax.storage.generators import GeneratorRelease
from rsynth_jax.types import Bytes, Key

TRUNCATED = 8  # layers, Karras et al. 2019
NOISES = 32  # decoded for the deviation of one image
Classes = str | int | Sequence[str | int]


class Run(TypedDict, total=False):
    """How images are made: batch_size (40), callback (none)."""

    batch_size: int
    callback: Callback | None


class Code(NamedTuple):
    """What an image is decoded of: the styles (layers, d), and the key of the noise."""

    styles: Any
    noise_key: Any


class Draws(NamedTuple):
    """Images of n draws, class after class, and their classes."""

    images: Bytes
    labels: Int[np.ndarray, " n"]


def draw(
    release: GeneratorRelease,
    classes: Classes = "all",
    num: int = 8,
    *,
    seed: int = 0,
    truncation: float = 1.0,
    layers: int = TRUNCATED,
    rows: Int[np.ndarray, " m"] | None = None,
    **run: Unpack[Run],
) -> Draws:
    """Draw `num` images of each class, class after class, in one pass of the generator each.

    Args:
      rows: of the images of all classes only those of these numbers.
    """
    labels, codes = codes_of(release, classes, range(num), seed, truncation, layers, rows)
    return Draws(_decode(release, codes, run), labels)


def codes_of(
    release: GeneratorRelease,
    classes: Classes,
    indices: range,
    seed: int = 0,
    truncation: float = 1.0,
    layers: int = TRUNCATED,
    rows: Int[np.ndarray, " m"] | None = None,
) -> tuple[Int[np.ndarray, " n"], Rows]:
    """Return the labels of the draws of these numbers of each class, and their codes, rows of `Code`.

    Args:
      rows: of the draws of all classes only those of these places.
    """
    checks.positive(num=len(indices))
    checks.not_negative(truncation=truncation, layers=layers)
    labels, places = numbered(labels_of(release, classes), len(indices), rows)
    numbers = places + np.int32(indices.start)
    weights = (release.variables, jnp.asarray(release.mean_styles), np.float32(truncation), np.int32(layers))
    coded = functools.partial(_coded(release.config), weights, seeds.key(seed))
    return labels, Rows(len(labels), lambda rows: coded(labels[rows], numbers[rows]))


class Mixture(NamedTuple):
    """Images of s sources, of t targets, and of every target with styles of every source."""

    sources: UInt8[np.ndarray, "s h w c"]
    targets: UInt8[np.ndarray, "t h w c"]
    mixed: UInt8[np.ndarray, "t s h w c"]
    source_labels: Int[np.ndarray, " s"]
    target_labels: Int[np.ndarray, " t"]


def mix(
    release: GeneratorRelease,
    classes: Classes = "all",
    num: int = 8,
    *,
    taken: Sequence[int],
    seed: int = 0,
    truncation: float = 1.0,
    layers: int = TRUNCATED,
    **run: Unpack[Run],
) -> Mixture:
    """Give each target the styles of each source at the layers `taken`, and keep its own at the others.

    The sources are the draws 0 ... num - 1 of each class, the targets the next `num`. All images have one
    noise, so that they differ by their styles alone.

    Args:
      taken: numbers of layers, such as a run of `style.layer_groups`. None of them gives the targets, all of
        them the sources.
    """
    halves = [range(num), range(num, 2 * num)]
    found = [codes_of(release, classes, half, seed, truncation, layers) for half in halves]
    (source_labels, sources), (target_labels, targets) = (
        (own, np.asarray(_whole(codes, run).styles)) for own, codes in found
    )
    chosen = np.isin(np.arange(release.config.num_layers), taken)[:, None]
    mixed = np.where(chosen, sources[None], targets[:, None])
    styles = np.concatenate([sources, targets, mixed.reshape(-1, *sources.shape[1:])])
    images = _decode(release, _with_one_noise(styles, seed), run)
    own, others, both = np.split(images, [len(sources), len(sources) + len(targets)])
    shape = (len(targets), len(sources), *images.shape[1:])
    return Mixture(own, others, both.reshape(shape), source_labels, target_labels)


class Loop(NamedTuple):
    """The frames of a closed way through the draws of each of k classes."""

    images: UInt8[np.ndarray, "k f h w c"]
    labels: Int[np.ndarray, " k"]


def loop(
    release: GeneratorRelease,
    classes: Classes = "all",
    num: int = 8,
    frames: int = 10,
    *,
    seed: int = 0,
    truncation: float = 1.0,
    layers: int = TRUNCATED,
    **run: Unpack[Run],
) -> Loop:
    """Go from each draw of a class to the next, straight in W, and from the last to the first.

    Frame j * frames has the styles of draw j. All frames have one noise.

    Args:
      frames: from one draw to the next.
    """
    checks.positive(frames=frames, num=num)
    checks.enough("a loop", 2, num)
    labels, codes = codes_of(release, classes, range(num), seed, truncation, layers)
    styles = np.asarray(_whole(codes, run).styles)
    stops = styles.reshape(-1, num, 1, *styles.shape[1:])
    t = np.linspace(0, 1, frames, endpoint=False, dtype=np.float32)[:, None, None]
    way = (1 - t) * stops + t * np.roll(stops, -1, axis=1)
    images = _decode(release, _with_one_noise(way.reshape(-1, *styles.shape[1:]), seed), run)
    return Loop(images.reshape(-1, num * frames, *images.shape[1:]), labels[::num])


class NoiseEffect(NamedTuple):
    """Images of the styles of n draws under k noises, and the deviation of their pixels over noises.

    Attributes:
      names: of the k noises: "own" (of the draw), "second", "third", "none", and the groups of
        `style.layer_groups`, whose layers alone have the draw's noise.
      deviation: standard deviation over `NOISES` noises, root mean square over the channels.
    """

    images: UInt8[np.ndarray, "n k h w c"]
    names: tuple[str, ...]
    deviation: Float[np.ndarray, "n h w"]
    labels: Int[np.ndarray, " n"]


def vary_noise(
    release: GeneratorRelease,
    classes: Classes = "all",
    num: int = 8,
    *,
    seed: int = 0,
    truncation: float = 1.0,
    layers: int = TRUNCATED,
    **run: Unpack[Run],
) -> NoiseEffect:
    """Decode each draw under its own noise, others and none, and with that of some layers alone."""
    config = release.config
    labels, codes = codes_of(release, classes, range(num), seed, truncation, layers)
    own = _whole(codes, run)
    scales = _noise_scales(config)
    styles, keys = (jnp.repeat(each, len(scales), axis=0) for each in (own.styles, own.noise_key))
    numbers = jnp.tile(jnp.array([_NUMBERS.get(name, 0) for name in scales]), len(labels))
    keys = jax.vmap(_numbered)(keys, numbers)
    tiled = np.tile(np.stack([*scales.values()]), (len(labels), 1))
    images = _decode(release, Code(styles, keys), run, tiled)
    size = max(2, run.get("batch_size", BATCH_SIZE) // NOISES)
    parts = runner.batches(_deviation(config), release.variables, (codes,), size)
    shape = (len(labels), len(scales), *images.shape[1:])
    return NoiseEffect(images.reshape(shape), tuple(scales), np.concatenate(list(parts)), labels)


_NUMBERS = {"second": 1, "third": 2}  # of other noises than the draw's own


def _noise_scales(config: GeneratorConfig) -> dict[str, np.ndarray]:
    """The scale of each layer's noise, (layers,), by the name of the noise."""
    every = np.ones(config.num_layers, np.float32)
    groups = {name: layers for name, layers in style.layer_groups(config).items() if layers}
    alone = {name: np.isin(np.arange(len(every)), layers) * every for name, layers in groups.items()}
    return {"own": every} | dict.fromkeys(_NUMBERS, every) | {"none": 0 * every} | alone


def _numbered(key: Key, number: jax.Array) -> Key:
    """The key itself for number 0, another one for each other number."""
    return jnp.where(number == 0, key, jax.random.fold_in(key, number))


@functools.lru_cache(maxsize=16)
def _coded(config: GeneratorConfig) -> Callable[..., Code]:
    """Compile (weights, key, labels (n,), numbers (n,)) -> `Code`."""

    def code(weights: tuple, key: Key, label: jax.Array, number: jax.Array) -> Code:
        variables, means, psi, layers = weights
        own = jax.random.fold_in(jax.random.fold_in(key, label), number)
        latent_key, noise_key = jax.random.split(own)
        generator = style.bind(config, variables)
        styles = generator.code(generator.prior(latent_key), label)
        return Code(style.truncate(styles, means[label], psi, layers), noise_key)

    return jax.jit(jax.vmap(code, (None, None, 0, 0)))


def _whole(codes: Rows, run: Run) -> Code:
    """Compute all rows, a batch at a time, so that no number of rows compiles anything again."""
    num, size = len(codes), sharding.padded(run.get("batch_size", BATCH_SIZE))
    parts = [codes[np.arange(first, first + size) % num] for first in range(0, num, size)]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:num], *parts)


def _with_one_noise(styles: np.ndarray, seed: int) -> Code:
    return Code(styles, jnp.broadcast_to(seeds.key(seed), len(styles)))


def _decode(
    release: GeneratorRelease, codes: Rows | Code, run: Run, scales: np.ndarray | None = None
) -> Bytes:
    """Decode codes with a scale of the noise of each layer, (n, layers), by default 1."""
    if isinstance(codes, Code):
        columns = codes
        codes = Rows(len(columns.styles), lambda rows: jax.tree.map(lambda each: each[rows], columns))
    if scales is None:
        scales = np.ones((len(codes), release.config.num_layers), np.float32)
    inputs, size = (codes, scales), run.get("batch_size", BATCH_SIZE)
    callback = run.get("callback")
    parts = []
    for images, finite in runner.batches(_decoded(release.config), release.variables, inputs, size):
        if not finite.all():
            raise ValueError("an image holds NaN or infinity: give another generator or truncation")
        if callback is not None:
            callback(1, images)
        parts.append(images)
    return np.concatenate(parts)


@functools.lru_cache(maxsize=16)
def _decoded(config: GeneratorConfig) -> Callable[..., tuple[jax.Array, jax.Array]]:
    def decoded(variables: Any, code: Code, scales: jax.Array) -> tuple[jax.Array, jax.Array]:
        generator = style.bind(config, variables, style.scaled_noises(scales))
        image = generator.decode(code.styles, code.noise_key)
        return encode(image), jnp.isfinite(image).all()

    return decoded


@functools.lru_cache(maxsize=16)
def _deviation(config: GeneratorConfig) -> Callable[..., jax.Array]:
    def deviation(variables: Any, code: Code) -> jax.Array:
        generator = style.bind(config, variables)
        keys = jax.random.split(code.noise_key, NOISES)
        images = jax.vmap(lambda key: generator.decode(code.styles, key))(keys)
        return jnp.sqrt(images.var(axis=0, ddof=1).mean(axis=-1))

    return deviation
