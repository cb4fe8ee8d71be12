"""Run an ascent on many images: batch after batch over all devices, from bytes to bytes.

    climb = with_optimizer(translate, steepest(L2, 0.2))
    samples = sample(model, variables, climb, (images, labels, masks), num_steps=40)

The programs are compiled once for each model and ascent. Every figure of a `Summary` is measured on the
bytes, that is on what is written, not on what was computed.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from rsynth_jax import sharding
from rsynth_jax.images import decode, encode
from rsynth_jax.models import bind
from rsynth_jax.models.embedding import Embedding, embed_images
from rsynth_jax.storage.shard_formats import Batch
from rsynth_jax.synthesis import ascent
from rsynth_jax.synthesis.ascent import Ascent
from rsynth_jax.synthesis.tasks import AscentFn
from rsynth_jax.types import Bytes

Callback = Callable[[int, Bytes], None]  # steps done, the images of one batch
BATCH_SIZE = 40
NO_LABELS = np.empty(0, np.int32)


class Summary(NamedTuple):
    """How n images changed: the outputs of the network before and after, and the l2 distance in [0, 1]."""

    start: Embedding
    end: Embedding
    l2_moved: Float[np.ndarray, " n"]


class Samples(NamedTuple):
    """Images made by an ascent, and how they changed."""

    images: Bytes
    starts: Bytes
    summary: Summary
    labels: Int[np.ndarray, " n"] = NO_LABELS  # the class each climbed towards, where there is one
    kept: Any = None  # of the last points, what the caller of `sample` keeps


@dataclasses.dataclass(frozen=True)
class Rows:
    """An input whose rows are computed where they are selected: rows[indices] == select(indices)."""

    num: int
    select: Callable[[np.ndarray], Any]

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, indices: np.ndarray) -> Any:
        return self.select(indices)


def nothing(points: Any) -> None:
    """Keep nothing of the points of a batch."""


def sample(
    model: nn.Module,
    variables: Any,
    ascent_fn: AscentFn,
    inputs: Sequence[Any],
    *,
    shared: tuple = (),
    keep: Callable[[Any], Any] = nothing,
    num_steps: int,
    batch_size: int = BATCH_SIZE,
    callback: Callback | None = None,
    every: int = ascent.CHUNK,
) -> Samples:
    """Take `num_steps` steps of `ascent_fn(classifier, *shared, *inputs of image i)` for every image i.

    Args:
      ascent_fn: see `rsynth_jax.synthesis.tasks`; reuse the same function and it is not compiled again.
      inputs: one array, or `Rows`, for each input, with one row an image; uint8 rows are decoded to [0, 1].
      shared: pytrees that all images share, such as the weights of a generator: arguments of the programs.
      keep: of the last points of a batch, such as codes, chooses the arrays of `Samples.kept`.
      num_steps: 0 or more.
      batch_size: images computed together; it changes the speed, and the images by no more than rounding. A
        CPU computes at most `sharding.CPU_ROWS` a device.
      callback: called with the number of steps done and the images of the batch, from the start (0) on,
        for one batch after the other.
      every: most steps between two calls.

    Raises:
      ValueError: there are no images, or one is no longer finite.
    """
    num = len(inputs[0])
    if not num:
        raise ValueError("no images: give one or more")
    size = sharding.padded(min(batch_size, num, sharding.most_rows()))
    devices = sharding.over_devices(size)
    weights = devices.place((variables, *shared))
    chunks = ascent.chunks(num_steps, every)
    starts = []
    images = []
    kept = []
    for first in range(0, num, size):
        rows = np.arange(first, first + size) % num  # the last batch wraps around
        batch = devices.split(tuple(each[rows] for each in inputs))
        for step, state, (stage, finite) in _stages(model, ascent_fn, devices, weights, batch, chunks):
            if not np.asarray(finite).all():
                raise ValueError(
                    f"an image holds NaN or infinity after {step} steps: give another classifier"
                )
            shown = np.asarray(stage)[: num - first]
            if step == 0:
                starts.append(shown)
            if step == num_steps:
                images.append(shown)
                kept.append(jax.tree.map(lambda leaf: np.asarray(leaf)[: num - first], keep(state.point)))  # noqa: B023
            if callback is not None:
                callback(step, shown)
    starts = np.concatenate(starts)
    images = np.concatenate(images)
    kept = jax.tree.map(lambda *parts: np.concatenate(parts), *kept)
    return Samples(images, starts, summarize(model, variables, starts, images, batch_size), kept=kept)


def stream(
    make: Callable[[np.ndarray], Any], runs: Sequence[range], num: int, batch_size: int = BATCH_SIZE
) -> Iterator[Batch]:
    """Make images by their numbers, batch after batch, so that no more than a batch is in memory.

    Args:
      make: the images of these numbers, int (m,), with `images` and `labels`, such as `Samples`.
      runs: the numbers of the images to make, of 0 ... num - 1.
      num: of all images.
      batch_size: every call of `make` has as many numbers, rounded up to the devices, the last one some of
        them twice: one program serves all.
    """
    size = sharding.padded(batch_size)
    for run in runs:
        for first in range(run.start, run.stop, size):
            made = make(np.arange(first, first + size) % num)
            here = min(size, run.stop - first)
            yield Batch(first, made.images[:here], made.labels[:here])


def batches(
    function: Callable[..., Any], variables: Any, inputs: Sequence[Any], batch_size: int = BATCH_SIZE
) -> Iterator[Any]:
    """Compute `function(variables, *inputs of row i)` for every row i, and yield batch after batch.

    Args:
      function: returns a tree of arrays; reuse the same function and it is not compiled again.
      inputs: one array, or `Rows`, for each input; a row may be a tree of arrays.
      batch_size: rows computed together, where there are fewer some of them twice: one program serves any
        number. It changes the speed, and the results by no more than rounding.

    Yields:
      The tree of a batch, each of its arrays with one row an image, in NumPy.

    Raises:
      ValueError: there are no rows.
    """
    num = len(inputs[0])
    if not num:
        raise ValueError("no images: give one or more")
    size = sharding.padded(batch_size)
    devices = sharding.over_devices(size)
    placed = devices.place(variables)
    for first in range(0, num, size):
        rows = np.arange(first, first + size) % num  # the last batch wraps around
        outputs = _mapped(function)(placed, *devices.split(tuple(each[rows] for each in inputs)))
        yield jax.tree.map(lambda leaf: np.asarray(leaf)[: num - first], outputs)  # noqa: B023


@functools.lru_cache(maxsize=64)
def _mapped(function: Callable) -> Callable:
    return _jit_vmap(function)


def _stages(
    model: nn.Module,
    ascent_fn: AscentFn,
    devices: sharding.Devices,
    weights: tuple,
    inputs: tuple,
    chunks: tuple[int, ...],
) -> Iterator[tuple[int, Any, tuple[jax.Array, jax.Array]]]:
    """The steps done, the state, and the bytes and which are finite, at the start and after each chunk.

    A step is a function of the state alone: where a chunk changed no state of the batch, no later one would,
    and none is computed. XLA may leave constants of the state on every device; split like the rest, they
    compile no program twice.
    """
    state, images = _begin(model, ascent_fn)(weights, *inputs)
    yield 0, state, images
    changes = True
    for chunk, step in zip(chunks, itertools.accumulate(chunks), strict=True):
        if changes:
            advance = _advance(model, ascent_fn, chunk)
            state, images, changed = advance(weights, devices.split(state), *inputs)
            changes = np.asarray(changed).any()
        yield step, state, images


@functools.lru_cache(maxsize=64)
def _begin(model: nn.Module, ascent_fn: AscentFn) -> Callable:
    """Compile (weights, *inputs) -> state, (bytes, whether finite)."""

    def begin(weights, *inputs):
        variables, *shared = weights
        start, climb = ascent_fn(bind(model, variables), *shared, *map(_decoded, inputs))
        state = climb.init(start)
        return state, _shown(climb, state)

    return _jit_vmap(begin)


@functools.lru_cache(maxsize=256)
def _advance(model: nn.Module, ascent_fn: AscentFn, num_steps: int) -> Callable:
    """Compile (weights, state, *inputs) -> state, (bytes, whether finite), whether the state changed.

    The state is in the memory of the old one.
    """

    def advance(weights, state, *inputs):
        variables, *shared = weights
        _, climb = ascent_fn(bind(model, variables), *shared, *map(_decoded, inputs))
        later, _ = ascent.advance(climb, state, num_steps)
        return later, _shown(climb, later), _differ(state, later)

    return _jit_vmap(advance, donate_argnums=1)


def _shown(climb: Ascent, state: Any) -> tuple[jax.Array, jax.Array]:
    image = climb.decode(state.point)
    return encode(image), jnp.isfinite(image).all()


def _differ(one: Any, other: Any) -> jax.Array:
    """Whether any value of two trees of the same shapes differs."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return functools.reduce(jnp.logical_or, (jnp.any(a != b) for a, b in pairs))


def _jit_vmap(function: Callable, **options: Any) -> Callable:
    """Map over all arguments but the first, the weights, which are an argument of the program."""
    return jax.jit(lambda weights, *rows: jax.vmap(functools.partial(function, weights))(*rows), **options)


def _decoded(value: jax.Array) -> jax.Array:
    return decode(value) if value.dtype == jnp.uint8 else value


def summarize(
    model: nn.Module, variables: Any, starts: Bytes, images: Bytes, batch_size: int = BATCH_SIZE
) -> Summary:
    """Compare the results of an ascent with its starts, as the network classifies them."""
    both = embed_images(model, variables, np.concatenate([starts, images]), min(batch_size, len(starts)))
    start, end = (Embedding(*halves) for halves in zip(*(np.split(each, 2) for each in both), strict=True))
    moved = np.linalg.norm((images / 255.0 - starts / 255.0).reshape(len(starts), -1), axis=1)
    return Summary(start, end, moved)


def log_prob(outputs: Embedding, labels: np.ndarray) -> Float[np.ndarray, " n"]:
    """Measure log p(label) of each image."""
    logits = outputs.logits.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_probs[np.arange(len(labels)), labels]
