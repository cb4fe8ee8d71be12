"""The door to networks that judge images: a spec in, a model with its weights out.

extractor = load("cifar10")
outputs = extractor.model.apply(extractor.variables, images)
"""

import hashlib
from typing import Any, NamedTuple

import flax.linen as nn

from rsynth_jax import checkpoints, models


class Extractor(NamedTuple):
    """A network of images in [0, 1] (n, h, w, c) that returns `Outputs`.

    Attributes:
      name: for people.
      model, variables: the network, which resizes and normalises itself.
      digest: SHA-256 of the weights' bytes.
    """

    name: str
    model: nn.Module
    variables: Any
    digest: str


def load(spec: str) -> Extractor:
    """A classifier as `checkpoints.load` finds it. Raises ValueError, in one line, otherwise."""
    release = checkpoints.load(spec)
    weights = checkpoints.locate(spec).read_bytes()
    return Extractor(
        spec, models.create(release.config), release.variables, hashlib.sha256(weights).hexdigest()
    )
