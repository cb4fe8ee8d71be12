"""The types that all modules share: images, objectives, projections, classifiers.

A library function takes ONE image, and `jax.vmap` makes the batch. The plural types (`Images`, `Labels`) are
used only by batch losses, training, sampling and storage.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8
from jaxtyping import Key as TypedKey

Key = TypedKey[Array, ""]  # a typed PRNG key, as `seeds.key` makes
Scalar = Float[Array, ""]
Image = Float[Array, "h w c"]  # values in [0, 1]
Images = Float[Array, "n h w c"]
Bytes = UInt8[np.ndarray, "n h w c"]  # 0 ... 255: images as they are stored
Mask = Bool[Array, "h w 1"]  # broadcasts over the channels
Weights = Float[Array, "h w 1"]  # in [0, 1]: a mask with soft edges
Label = Int[Array, ""]
Labels = Int[Array, " n"]
Logits = Float[Array, " k"]
Features = Float[Array, " d"]
Map = Float[Array, "h w c"]  # what a layer makes of an image, position by position
Variables = dict[str, Any]  # of a network: {"params": ..., "batch_stats": ...}
Params = Any  # a pytree of arrays that an optimizer trains
Latent = Any  # a pytree of arrays: what a generator's prior draws
Code = Any  # a pytree of arrays: what a generator decodes
Condition = Any  # a pytree of arrays: what a generator is given beside a latent, such as the class
Representation = Float[Array, "..."]  # what a layer of a classifier makes of an image
View = Any  # a pytree of arrays: a critic's input, a fixed function of an image
Point = Any  # a pytree of arrays to climb in: an image is one, a code another
Scores = Float[Array, " s"]  # of a critic: one a head; higher is more real
ClassMap = Int[Array, "h w"]  # the class of each pixel

Objective = Callable[[Point], Scalar]  # ascended: higher is better
Projection = Callable[[Point], Point]  # onto a convex set: p(p(x)) == p(x)
Decode = Callable[[Point], Image]  # the image of a point
Segmenter = Callable[[Image], Map]  # one logit a class at each pixel, (h, w, k)
Surgery = Callable[[str, Map], Map]  # (a layer's name, its map) -> the map in its place, see models.surgery


class Outputs(NamedTuple):
    """The outputs of a network for one image, float32; for a batch, each with a leading axis n.

    Attributes:
      logits: the class scores, (k,).
      features: the penultimate layer after pooling, (d,), whose last nonlinearity passes gradients
        straight through, so that a unit that is off can still be painted.
      maps: the output of each residual block before the activation, blocks in the order of their names;
        empty where the network has none, or was not asked for them.
    """

    logits: Array
    features: Array
    maps: tuple[Array, ...] = ()


class Classifier(NamedTuple):
    """A network with its variables closed over, as a pure function of one image.

    Attributes:
      outputs: all outputs, of one pass; a compiler drops those that are not used.
    """

    outputs: Callable[[Image], Outputs]

    def logits(self, image: Image) -> Logits:
        """Return the class scores of an image."""
        return self.outputs(image).logits

    def features(self, image: Image) -> Features:
        """Return the penultimate features of an image."""
        return self.outputs(image).features

    def maps(self, image: Image) -> tuple[Map, ...]:
        """Return the maps of an image's residual blocks. Raises ValueError if there are none."""
        return maps_of(self.outputs(image))


def maps_of(outputs: Outputs) -> tuple[Map, ...]:
    """Return the maps among the outputs. Raises ValueError if there are none."""
    if not outputs.maps:
        raise ValueError("this classifier shows no layers of its own: bind a network of residual blocks")
    return outputs.maps


class Generator(NamedTuple):
    """A generator with its variables closed over, as pure functions of one image.

    Attributes:
      prior: draws a latent.
      code: the code of a latent and a condition, which is the class unless its network says otherwise.
      decode: the image of a code, of values in about [0, 1]; the key draws its noise.
    """

    prior: Callable[[Key], Latent]
    code: Callable[[Latent, Condition], Code]
    decode: Callable[[Code, Key], Image]


class Critic(NamedTuple):
    """A network that scores how real an image is, as pure functions of one image and its class.

    Attributes:
      init: parameters for images of this shape.
      view: the critic's input, a fixed function of an image; the gradient penalty is taken there.
      score: one score a head, of parameters, a view and a class.
    """

    init: Callable[[Key, Image], Params]
    view: Callable[[Image], View]
    score: Callable[[Params, View, Label], Scores]
