"""How many images fit in memory at once, found without compiling anything.

    size = batch_size(release, most=40)           # 40, or fewer where memory says so

A step of an ascent keeps what the forward pass made for the backward pass. Tracing the network says how many
bytes that is for an image. Of a ResNet-50 at 224 pixels it is 52 MB; XLA's program takes 53 MB an image on
the CPU, and the process grows by the figures of docs/your-network.md.
"""

import math
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsynth_jax.sampling.runner import BATCH_SIZE
from rsynth_jax.storage import npz
from rsynth_jax.storage.releases import Release

_GROWTH = 1.8  # of a process for each image, of the bytes that are kept: a ResNet-50 at 224 pixels
_SHARE = 0.5  # of the free memory; the rest is for the compiler, the images and the other programs
_NO_LIMIT = 1 << 62
_GROUPS = ("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")


def batch_size(release: Release, most: int = BATCH_SIZE) -> int:
    """Choose as many images as half of the free memory holds beside the weights, from 1 to `most`."""
    room = _SHARE * free() - jax.device_count() * _size(release.variables)
    each = bytes_an_image(release.model, release.variables, release.image_shape)
    return int(min(max(room // (_GROWTH * each), 1), most))


def bytes_an_image(model: nn.Module, variables: Any, shape: tuple[int, ...]) -> int:
    """Count the bytes that a gradient in the pixels keeps for an image (h, w, c) of a batch, and its own."""

    def backward(variables: Any, images: jax.Array) -> Any:
        return jax.vjp(lambda images: model.apply(variables, images), images)[1]

    batches = (jax.ShapeDtypeStruct((num, *shape), jnp.float32) for num in (1, 2))
    one, two = (_size(jax.eval_shape(backward, variables, images)) for images in batches)
    return two - one + 4 * math.prod(shape)


def free() -> int:
    """Return the bytes of memory that are free on all devices together."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if all("bytes_limit" in each for each in stats):
        return sum(each["bytes_limit"] - each["bytes_in_use"] for each in stats)
    return min(_machine(Path("/proc/meminfo")), _container(Path("/sys/fs/cgroup")))


def _machine(meminfo: Path) -> int:
    """The bytes that are available, on Linux; elsewhere half of the memory."""
    if meminfo.exists():
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    return npz.largest()


def _container(groups: Path) -> int:
    """The bytes up to the limit of a control group, of version 2 or 1; a large number where there is none."""
    for limit, used in _GROUPS:
        if (groups / limit).exists() and (text := (groups / limit).read_text().strip()) != "max":
            return int(text) - int((groups / used).read_text())
    return _NO_LIMIT


def _size(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
