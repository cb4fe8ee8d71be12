"""FAB (Croce and Hein 2020): to the decision boundary by its linear models, near the clean image.

    ascent = fab(difference(classifier, target, label), margin(classifier, label), image, L2)

Each step goes to the targeted boundary of the linear model, pulled towards the clean image; after each
crossing of the boundary the image moves back towards the clean one. There is no radius.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsynth_jax.synthesis.ascent import Ascent, AscentInfo
from rsynth_jax.synthesis.norms import Norm
from rsynth_jax.synthesis.projections import box
from rsynth_jax.types import Image, Objective, Scalar

ALPHA = 0.1  # the largest pull towards the clean image: paper, sec. 3.2
BETA = 0.9  # the share of the offset kept after a crossing
ETA = 1.05  # the overshoot
CORNERS = 24  # Newton steps: each but the last passes a corner of a concave, piecewise linear function


class _State(NamedTuple):
    point: Image


def fab(difference: Objective, margin: Objective, center: Image, norm: Norm) -> Ascent:
    """Move to where `difference` (the target's logit minus the label's) is 0, near `center`."""
    clip = box()

    def step(state: _State) -> tuple[_State, AscentInfo]:
        crossed = margin(state.point) > 0
        image = jnp.where(crossed, center + BETA * (state.point - center), state.point)
        value, normal = jax.value_and_grad(difference)(image)
        at_center = value + jnp.vdot(normal, center - image)
        here = _to_hyperplane(norm, image, normal, value)
        there = _to_hyperplane(norm, center, normal, at_center)
        near, far = (jnp.maximum(norm.length(way), 1e-8) for way in (here, there))
        pull = jnp.minimum(near / (near + far), ALPHA)
        moved = clip((1 - pull) * (image + ETA * here) + pull * (center + ETA * there))
        moved = jnp.where(jnp.isfinite(moved).all(), moved, image)  # no linear model: stay
        return _State(moved), AscentInfo(value, jnp.linalg.norm(normal.ravel()))

    return Ascent(lambda image: _State(clip(image)), step)


def _to_hyperplane(norm: Norm, image: Image, normal: Image, residual: Scalar) -> Image:
    """The shortest d with <normal, d> = -residual and image + d in [0, 1]; or the nearest to it.

    Every value moves at its norm's speed until it meets a bound: d(t) = min(t * speed, room), towards the
    plane. sum |normal| d(t) is concave and piecewise linear in t, so Newton's method reaches the required t
    from below, and is exact once it has passed the last corner before it.
    """
    towards = -jnp.sign(residual) * jnp.sign(normal)
    room = jnp.where(towards > 0, 1 - image, image)
    weight, speed = jnp.abs(normal), norm.speed(normal)

    def newton(_, time: Scalar) -> Scalar:
        gained = jnp.sum(weight * jnp.minimum(time * speed, room))
        slope = jnp.sum(jnp.where(time * speed < room, weight * speed, 0.0))
        missing = jnp.maximum(jnp.abs(residual) - gained, 0.0)
        return time + jnp.where(slope > 0, missing / jnp.maximum(slope, 1e-30), 0.0)

    time = jax.lax.fori_loop(0, CORNERS, newton, jnp.zeros((), image.dtype))
    return towards * jnp.minimum(time * speed, room)
