"""What a network makes of many images, batch by batch.

embedded = embed(model, variables, in_batches(images, 50), 50)
frechet_estimate(embedded.features, other.features)
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rsynth_jax import checks
from rsynth_jax import sharding as parallel
from rsynth_jax.images import decode


class Embedding(NamedTuple):
    """Of n images: features (n, d) and logits (n, k), float32, and the `digest` of the images."""

    features: np.ndarray
    logits: np.ndarray
    digest: str


def in_batches(
    images: Sequence, batch_size: int, track: Callable[[range], Iterable[int]] = iter
) -> Iterator[np.ndarray]:
    """The images uint8 (h, w, c) in order, `batch_size` at a time and the rest; decoded only here.

    `track` wraps the loop, as a progress bar does. Raises ValueError where sizes differ.
    """
    first = images[0].shape
    for start in track(range(0, len(images), batch_size)):
        batch = [images[i] for i in range(start, min(start + batch_size, len(images)))]
        for image in batch:
            checks.same_size(first, image.shape)
        yield np.stack(batch)


def digest(batches: Iterable[np.ndarray]) -> str:
    """SHA-256 of the images' shape and bytes, however they are batched."""
    seen = hashlib.sha256()
    for _ in watched(batches, seen):
        pass
    return seen.hexdigest()


def watched(batches: Iterable[np.ndarray], seen: Any) -> Iterator[np.ndarray]:
    """The same batches, while the hash `seen` sees them."""
    for i, batch in enumerate(batches):
        if i == 0:
            seen.update(repr(batch.shape[1:]).encode())
        seen.update(np.ascontiguousarray(batch))
        yield batch


def colors(model: nn.Module, variables: Any, shape: tuple[int, int, int]) -> int:
    """How often a network needs the channels of images (h, w, c) repeated: once, or thrice for gray ones.

    Raises ValueError for images it does not take either way.
    """
    for times in (1, 3) if shape[-1] == 1 else (1,):
        images = jax.ShapeDtypeStruct((1, *shape[:2], shape[2] * times), jnp.float32)
        try:
            jax.eval_shape(model.apply, variables, images)
            return times
        except Exception as error:  # flax raises many kinds, some several lines long
            first = str(error).strip().partition("\n")[0]
    raise ValueError(f"the network takes no images of {' x '.join(map(str, shape))}: {first}")


def embed(model: nn.Module, variables: Any, batches: Iterable[np.ndarray], batch_size: int) -> Embedding:
    """The outputs of `model` on every image, `batch_size` at a time over all devices.

    Raises ValueError where features are not finite.
    """

    @jax.jit
    def network(variables, images):
        decoded = jax.vmap(decode)(images)
        times = colors(model, variables, decoded.shape[1:])
        outputs = model.apply(variables, jnp.repeat(decoded, times, axis=-1))
        return outputs.features, outputs.logits

    devices, seen, parts = parallel.over_devices(batch_size), hashlib.sha256(), []
    placed = devices.replicate(variables)
    for batch in watched(batches, seen):
        filled = batch[np.arange(batch_size) % len(batch)]  # the last batch wraps around
        outputs = jax.device_get(network(placed, devices.split(filled)))
        parts.append([np.asarray(part[: len(batch)], np.float32) for part in outputs])
    features, logits = (np.concatenate(part) for part in zip(*parts, strict=True))
    checks.features("a comparison", 1, features)
    return Embedding(features, logits, seen.hexdigest())
