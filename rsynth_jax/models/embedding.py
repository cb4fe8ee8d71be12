"""The outputs of a network on many images, batch by batch over all devices.

embedding = embed(model, variables, in_batches(images, 50), 50)
distance = frechet_estimate(embedding.features, other.features)
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from rsynth_jax import checks, sharding
from rsynth_jax.images import decode
from rsynth_jax.types import Bytes, Outputs

Program = Callable[[Any, Bytes], Any]
Track = Callable[[Iterable], Iterable]  # wraps a loop, as a progress bar does
Images = Sequence[np.ndarray] | np.ndarray  # uint8 (h, w, c) each


class Embedding(NamedTuple):
    """Features (n, d) and logits (n, k) of n images, float32."""

    features: Float[np.ndarray, "n d"]
    logits: Float[np.ndarray, "n k"]

    @property
    def predicted(self) -> Int[np.ndarray, " n"]:
        """The class of the largest logit of each image, int32 (n,)."""
        return self.logits.argmax(axis=1).astype(np.int32)


def in_batches(images: Images, batch_size: int, track: Track = iter) -> Iterator[Bytes]:
    """Index the images in order, `batch_size` at a time. Raises ValueError if not bytes of one size."""
    first = images[0].shape
    for start in track(range(0, len(images), batch_size)):
        batch = [images[i] for i in range(start, min(start + batch_size, len(images)))]
        for image in batch:
            checks.same_size(first, image.shape)
        stacked = np.stack(batch)
        checks.images(stacked)
        yield stacked


def hashed(batches: Iterable[Bytes], total: Any) -> Iterator[Bytes]:
    """Pass the batches on, and add the images' shape and bytes to `total`, whatever the batches."""
    for i, batch in enumerate(batches):
        if i == 0:
            total.update(repr(batch.shape[1:]).encode())
        total.update(np.ascontiguousarray(batch))
        yield batch


def channel_repeats(model: nn.Module, variables: Any, shape: tuple[int, ...]) -> int:
    """Find how often the channels of images (h, w, c) must be repeated: once, or thrice for grey ones.

    Raises ValueError if the network takes no such images either way.
    """
    message = ""
    for repeats in (1, 3) if shape[-1] == 1 else (1,):
        images = jax.ShapeDtypeStruct((1, *shape[:2], shape[2] * repeats), jnp.float32)
        try:
            jax.eval_shape(model.apply, variables, images)
            return repeats
        except Exception as error:  # flax raises many kinds, some several lines long
            message = str(error).strip().partition("\n")[0]
    raise ValueError(f"the network takes no images of {' x '.join(map(str, shape))}: {message}")


@functools.lru_cache(maxsize=16)
def network(model: nn.Module) -> Callable[[Any, Bytes], Outputs]:
    """Compile (variables, images uint8 (n, h, w, c)) -> `Outputs` without maps, once for each model."""

    @jax.jit
    def outputs(variables, images):
        decoded = jax.vmap(decode)(images)
        repeats = channel_repeats(model, variables, decoded.shape[1:])
        found: Any = model.apply(variables, jnp.repeat(decoded, repeats, axis=-1))
        return found._replace(maps=())

    return outputs


def apply(program: Program, variables: Any, batches: Iterable[Bytes], batch_size: int) -> Any:
    """Apply a compiled program to batches of images, over all devices.

    Args:
      program: (variables, images uint8 (n, h, w, c)) -> a tree of arrays (n, ...).
      batch_size: of the compiled program; smaller batches are filled up.

    Returns:
      The tree for all images, float32, whether finite or not.
    """
    size = sharding.padded(batch_size)
    devices = sharding.over_devices(size)
    placed = devices.place(variables)

    def outputs(batch: Bytes) -> Any:
        filled = batch[np.arange(size) % len(batch)]  # the last batch wraps around
        found = jax.device_get(program(placed, devices.split(filled)))
        return jax.tree.map(lambda each: np.float32(each[: len(batch)]), found)

    return jax.tree.map(lambda *parts: np.concatenate(parts), *map(outputs, batches))


def embed(model: nn.Module, variables: Any, batches: Iterable[Bytes], batch_size: int) -> Embedding:
    """Apply `model` to batches of images, see `apply`. Raises ValueError for an output not finite."""
    outputs = apply(network(model), variables, batches, batch_size)
    found = Embedding(outputs.features, outputs.logits)
    for name, values in found._asdict().items():
        checks.features(f"a comparison of {name}", 1, values)
    return found


def embed_images(
    model: nn.Module, variables: Any, images: Images, batch_size: int, track: Track = iter
) -> Embedding:
    """Apply `model` to images uint8 (h, w, c) each, in batches no larger than there are images."""
    batch_size = min(batch_size, len(images))
    return embed(model, variables, in_batches(images, batch_size, track), batch_size)


def predict(model: nn.Module, variables: Any, images: Images, batch_size: int) -> Int[np.ndarray, " n"]:
    """Predict the class of each image, uint8 (n, h, w, c)."""
    return embed_images(model, variables, images, batch_size).predicted
