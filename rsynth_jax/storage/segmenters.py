"""Released segmenters: one safetensors file each, arrays in bfloat16 and a description in JSON.

    release = load("facades-64")                  # released, by name; or a file; or a training run
    classes = release.segmenter(image).argmax(axis=-1)

Loading a release runs no code from it.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsynth_jax import checks
from rsynth_jax.models import layers, segmenter
from rsynth_jax.models.segmenter import SegmenterConfig
from rsynth_jax.storage import files, release_files
from rsynth_jax.storage.release_files import SEGMENTER, parsed
from rsynth_jax.types import Segmenter, Variables

RELEASE = SEGMENTER.file  # its name inside a training run
_TEXTS: dict[str, Any] = {"config": SegmenterConfig, "class_names": tuple[str, ...], "recipe": dict}
_TEXTS |= {"image_shape": tuple[int, int, int], "iou": tuple[float, ...]}


class SegmenterRelease(NamedTuple):
    """A segmenter as others use it.

    Attributes:
      config: makes the network.
      variables: its parameters and batch statistics, float32.
      class_names: class i of a pixel is class_names[i].
      image_shape: (height, width, channels) of the training images.
      iou: intersection over union of each class, on test images: the ceiling of what is measured by it.
      recipe: the training recipe as plain values.
    """

    config: SegmenterConfig
    variables: Variables
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    iou: tuple[float, ...]
    recipe: dict[str, Any]

    @property
    def segmenter(self) -> Segmenter:
        """The pure function of one image."""
        return segmenter.bind(self.config, self.variables)


def describe(release: SegmenterRelease) -> str:
    """Write the IoU on test images: the mean, and of each class."""
    named = zip(release.class_names, release.iou, strict=True)
    each = ", ".join(f"{name} {value:.2f}" for name, value in named)
    return f"IoU {sum(release.iou) / len(release.iou):.3f} on test images ({each})"


def save(path: Path, release: SegmenterRelease) -> None:
    """Write a release as one file, see `release_files.write`."""
    description = release._asdict() | {"config": release.config._asdict()}
    texts = {name: description[name] for name in _TEXTS}
    release_files.write(path, SEGMENTER, {"variables": release.variables}, texts)


def load(name: str | Path) -> SegmenterRelease:
    """Read the release of a released segmenter, a file or a training run.

    Raises ValueError if there is none, if it is a network of another kind, if its file is damaged or holds a
    number that is not finite, or if its parts do not fit each other.
    """
    path = release_files.locate(name, SEGMENTER)
    content = release_files.read(path, SEGMENTER, _TEXTS)
    with files.errors_as(f"{path} is damaged"):
        texts = {name: parsed(json.loads(content.texts[name]), kind) for name, kind in _TEXTS.items()}
        release = SegmenterRelease(variables=content.tree["variables"], **texts)
        _check_parts(release)
    return release


def _check_parts(release: SegmenterRelease) -> None:
    num = release.config.num_classes
    checks.up_to_one(**{f"iou of class {i}": value for i, value in enumerate(release.iou)})
    expected = layers.shapes(segmenter.create(release.config), release.image_shape)
    if jax.tree.map(jnp.shape, expected) != jax.tree.map(jnp.shape, release.variables):
        raise ValueError("its weights are not those of its segmenter")
    if len(release.class_names) != num or len(release.iou) != num:
        raise ValueError(f"its class names and their IoU are not those of {num} classes")
    json.dumps(release.recipe, allow_nan=False)  # raises ValueError for a number that is not finite
