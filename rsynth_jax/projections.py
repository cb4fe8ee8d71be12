"""Where the image must stay: Euclidean projections onto convex sets, over `optax.projections`.

    stay = ball_in_box(center=photo, radius=15.0)

Laws: p(p(x)) == p(x); p(x) lies in the set; |p(x) - p(y)| <= |x - y|. Each is for ONE image: a batch
handed to an l2 ball without `vmap` would be projected jointly.
"""

import functools

import jax
import jax.numpy as jnp
from optax import projections as optax_projections

from rsynth_jax.types import Image, Projection


def box(lower: float = 0.0, upper: float = 1.0) -> Projection:
    """Every value in [lower, upper]; by default the set of images."""
    return lambda image: optax_projections.projection_box(image, lower, upper)


def l2_ball(center: Image, radius: float) -> Projection:
    """{x : |x - center|_2 <= radius}."""
    radius = jnp.maximum(radius, 1e-12)  # optax divides 0 by 0 at the center of a ball of radius 0
    return lambda image: center + optax_projections.projection_l2_ball(image - center, radius)


def linf_ball(center: Image, radius: float) -> Projection:
    """{x : max |x - center| <= radius}."""
    return lambda image: center + optax_projections.projection_linf_ball(image - center, radius)


def ball_in_box(center: Image, radius: float) -> Projection:
    """The exact projection onto {x : |x - center|_2 <= radius} ∩ [0, 1]^d, for a center in the box.

    The conditions of Karush, Kuhn and Tucker give x(t) = clip(center + t (image - center)) with the
    largest t in [0, 1] that stays in the ball; |x(t) - center| never falls as t rises, so bisection
    finds t, here to the last bit of float32. `chain(l2_ball, box)` ends in the same set, not at its
    nearest point.
    """
    clip = box()

    def at(image: Image, t) -> Image:
        return clip(center + t * (image - center))

    def halve(image: Image, ends):
        inside, outside = ends
        middle = (inside + outside) / 2
        fits = jnp.linalg.norm((at(image, middle) - center).ravel()) <= radius
        return jnp.where(fits, middle, inside), jnp.where(fits, outside, middle)

    def project(image: Image) -> Image:
        ends = (jnp.zeros((), image.dtype), jnp.full((), 2.0, image.dtype))  # the first middle is t = 1
        inside, _ = jax.lax.fori_loop(0, 32, lambda _, ends: halve(image, ends), ends)
        return at(image, jnp.minimum(inside, 1.0))

    return project


def chain(*projections: Projection) -> Projection:
    """One after the other, left to right, as `optax.chain`.

    The last one certainly holds. Where the sets interact it is feasible, not the nearest point.
    """
    return lambda image: functools.reduce(lambda x, project: project(x), projections, image)
