"""Which units of a layer agree with which classes of pixels, and what the units cause (Bau et al. 2019).

    levels = quantile_levels(maps, SHARES)                 # (s, u), of maps (n, h, w, u)
    counts = sum_counts(jax.vmap(count, (0, 0, None, None))(maps, masks, levels, 6))
    ious, ratios = iou(counts), information_ratio(counts)  # (s, u, k) each

A unit is on where its map, enlarged to the mask's size, is above a level. The level of a unit is its 99.5 %
quantile, or the one whose on-pixels share most information with the class. The paper calls a unit
interpretable above an IoU of 0.05 and an information ratio of 0.01.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rsynth_jax import checks
from rsynth_jax.metrics import estimates
from rsynth_jax.metrics.estimates import Estimate
from rsynth_jax.metrics.frechet import Moments, frechet, moments
from rsynth_jax.types import ClassMap, Map

TAIL = 0.005  # share of the positions at which a unit is on: its 99.5 % quantile
SHARES = TAIL * 2.0 ** (np.arange(-2, 14) / 2)  # of the levels that are tried: 0.25 % ... 45 %


class Counts(NamedTuple):
    """Numbers of pixels; those of several images add up, see `sum_counts`.

    Attributes:
      pixels: all, ().
      present: of each class, (k,).
      on: above each level of each unit, (s, u).
      both: above the level, and of the class, (s, u, k).
    """

    pixels: Array | np.ndarray
    present: Array | np.ndarray
    on: Array | np.ndarray
    both: Array | np.ndarray


def quantile_levels(maps: Float[np.ndarray, "n h w u"], shares: np.ndarray) -> Float[np.ndarray, "s u"]:
    """Return the level that each unit exceeds at each share of the positions of all images."""
    flat = maps.reshape(-1, maps.shape[-1])
    return np.quantile(flat, 1 - np.asarray(shares), axis=0).astype(np.float32)


def enlarged(x: Map, size: tuple[int, ...]) -> Map:
    """Enlarge a map to this height and width, bilinearly; of its own size it stays as it is."""
    return jax.image.resize(x, (*size, x.shape[-1]), "bilinear")


def count(x: Map, mask: ClassMap, levels: Float[Array, "s u"], num_classes: int) -> Counts:
    """Count the pixels of one image at which units are on, and those of each class.

    Args:
      x: a layer's map, (h, w, u).
      mask: the class of each pixel, of any size.
    """
    large = enlarged(x, mask.shape).reshape(-1, x.shape[-1])
    classes = jax.nn.one_hot(mask.ravel(), num_classes)

    def above(level: Float[Array, " u"]) -> tuple[Array, Array]:
        on = (large > level).astype(jnp.float32)
        return on.sum(axis=0), on.T @ classes

    on, both = jax.lax.map(above, levels)
    return Counts(jnp.float32(mask.size), classes.sum(axis=0), on, both)


def sum_counts(counts: Counts) -> Counts:
    """Add the counts of images, each array with a leading axis n, in double precision."""
    return Counts(*(np.asarray(each, np.float64).sum(axis=0) for each in counts))


def iou(counts: Counts) -> Float[np.ndarray, "s u k"]:
    """Compute |on and class| / |on or class|; 0 where both are empty."""
    union = counts.on[..., None] + counts.present - counts.both
    return np.asarray(counts.both) / np.maximum(union, 1)


def information_ratio(counts: Counts) -> Float[np.ndarray, "s u k"]:
    """Compute the mutual information of "on" and "of the class" over their joint entropy, in [0, 1].

    0 if they are independent, 1 if one determines the other; 0 where both are constant.
    """
    both = np.asarray(counts.both)
    on, present = np.broadcast_arrays(np.asarray(counts.on)[..., None], counts.present)
    cells = np.stack([both, on - both, present - both, counts.pixels - on - present + both])
    joint = _entropy(cells / counts.pixels)
    alone = [_entropy(np.stack([each, counts.pixels - each]) / counts.pixels) for each in (on, present)]
    return np.clip((sum(alone) - joint) / np.where(joint > 1e-12, joint, np.inf), 0, 1)


class Agreement(NamedTuple):
    """Units and classes at one level a pair, (u, k) each.

    Attributes:
      row: of the level, in the shares.
      iou: intersection over union.
      chance: the IoU of a unit that is on at as many pixels, whatever their class.
      ratio: the information ratio.
    """

    row: Int[np.ndarray, "u k"]
    iou: Float[np.ndarray, "u k"]
    chance: Float[np.ndarray, "u k"]
    ratio: Float[np.ndarray, "u k"]


def at_share(counts: Counts, row: int) -> Agreement:
    """Read the agreement at one share, such as `TAIL`, for all units and classes."""
    return _at(counts, np.full(np.shape(counts.both)[1:], row))


def at_best_ratio(counts: Counts) -> Agreement:
    """Read the agreement of each unit and class at the level of the largest information ratio.

    Of the levels at which they meet more often than by chance, for a unit that is on where the class is not
    has information too; of a pair without any, the level of the largest lift.
    """
    lift = np.asarray(counts.both) * counts.pixels - np.asarray(counts.on)[..., None] * counts.present
    ranked = np.where(lift > 0, information_ratio(counts), lift / np.square(counts.pixels) - 1)
    return _at(counts, ranked.argmax(axis=0))


def mask_iou(
    found: Int[np.ndarray, "*n h w"], masks: Int[np.ndarray, "*n h w"], num_classes: int
) -> Float[np.ndarray, " k"]:
    """Compute the intersection over union of each class of two masks; 0 for a class in neither."""
    pairs = np.ravel(np.int64(masks)) * num_classes + np.ravel(found)
    table = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    both = np.diag(table)
    return both / np.maximum(table.sum(axis=0) + table.sum(axis=1) - both, 1)


def mean_at_class(
    maps: Float[np.ndarray, "n h w u"], presence: Float[np.ndarray, "n h w"]
) -> Float[np.ndarray, " u"]:
    """Compute the mean of each unit weighted by a class's presence: what insertion inserts.

    Raises ValueError if the class is nowhere.
    """
    if not presence.sum() > 0:
        raise ValueError("the class is in no image: give more images, or another class")
    return np.einsum("nhwu,nhw->u", maps, presence, dtype=np.float64) / presence.sum(dtype=np.float64)


def causal_effect(inserted: Float[np.ndarray, " n"], ablated: Float[np.ndarray, " n"]) -> Estimate:
    """Estimate the average causal effect: the mean of s(inserted) - s(ablated) over n images."""
    return estimates.mean(np.asarray(inserted, np.float64) - ablated)


def artefact_scores(
    features: Float[np.ndarray, "n d"], peaks: Float[np.ndarray, "n u"], real: Moments, num: int
) -> Float[np.ndarray, " u"]:
    """Compute each unit's Fréchet distance: of its `num` most exciting images to real ones.

    Args:
      features: of generated images.
      peaks: the maximum of each unit's map in each image.
      real: the moments of the features of real images.
      num: images of a unit; distances of equal numbers compare.
    """
    checks.enough("a Fréchet distance", 2, min(num, len(features)))
    order = np.argsort(-peaks, axis=0, kind="stable")[:num]
    return np.array([frechet(moments(features[rows]), real) for rows in order.T])


def _at(counts: Counts, row: np.ndarray) -> Agreement:
    on, present = np.asarray(counts.on)[..., None], counts.present
    expected = counts._replace(both=on * present / counts.pixels)
    tables = (iou(counts), iou(expected), information_ratio(counts))
    return Agreement(row, *(np.take_along_axis(each, row[None], 0)[0] for each in tables))


def _entropy(p: np.ndarray) -> np.ndarray:
    """Of probabilities along the first axis, in nats."""
    return -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=0)
