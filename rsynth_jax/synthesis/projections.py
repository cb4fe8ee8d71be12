"""Where the image must stay: Euclidean projections onto convex sets, over `optax.projections`.

    stay = ball_in_box(center=photo, radius=15.0)
    stay = dykstra(low_resolution(thumbnail, 4), ball_in_box(start, 15.0))

Laws: p(p(x)) == p(x); p(x) lies in the set; |p(x) - p(y)| <= |x - y|. Each is for ONE image: a batch
handed to an l2 ball without `vmap` would be projected jointly.

`l2_ball` projects codes too: the truncation of a code w to psi is its projection onto the ball of radius
psi |w - mean| around the mean code.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from optax import projections as optax_projections

from rsynth_jax.images import downsample, upsample
from rsynth_jax.types import Image, Mask, Point, Projection, Scalar

Bound = float | Image  # one for all values, or one for each
HALVINGS = 32  # of an interval of length about 1: to the last bit of float32


def box(lower: Bound = 0.0, upper: Bound = 1.0) -> Projection:
    """Every value in [lower, upper]; by default the set of images."""
    return lambda image: optax_projections.projection_box(image, lower, upper)


def l2_ball(center: Point, radius: float | Scalar) -> Projection:
    """{x : |x - center|_2 <= radius}, the length over all leaves of a pytree."""
    positive = jnp.maximum(radius, 1e-12)  # optax divides 0 by 0 at the center of a ball of radius 0

    def project(point: Point) -> Point:
        offset = jax.tree.map(jnp.subtract, point, center)
        return jax.tree.map(jnp.add, center, optax_projections.projection_l2_ball(offset, positive))

    return project


def linf_ball(center: Image, radius: float) -> Projection:
    """{x : max |x - center| <= radius}."""
    return lambda image: center + optax_projections.projection_linf_ball(image - center, radius)


def ball_in_box(center: Image, radius: float, lower: Bound = 0.0, upper: Bound = 1.0) -> Projection:
    """The exact projection onto {x : |x - center|_2 <= radius, lower <= x <= upper}, for a center in the box.

    A pixel whose bounds are one value keeps it, to the last bit.

    The conditions of Karush, Kuhn and Tucker give x(t) = clip(center + t (image - center)) with the
    largest t in [0, 1] that stays in the ball; |x(t) - center| is monotone in t, so bisection
    finds t, here to the last bit of float32. `chain(l2_ball, box)` ends in the same set, not at its
    nearest point.
    """
    clip = box(lower, upper)

    def at(image: Image, t: Scalar) -> Image:
        return clip(center + t * (image - center))

    def project(image: Image) -> Image:
        def fits(t: Scalar) -> Scalar:
            return jnp.linalg.norm((at(image, t) - center).ravel()) <= radius

        two = jnp.full((), 2.0, image.dtype)  # the first middle is t = 1
        return at(image, jnp.minimum(_last(fits, jnp.zeros_like(two), two), 1.0))

    return project


def _last(fits: Callable, inside: jax.Array, outside: jax.Array) -> jax.Array:
    """The largest t, elementwise, for which a monotone `fits` still holds: between `inside` and `outside`."""

    def halve(_, ends):
        inside, outside = ends
        middle = (inside + outside) / 2
        yes = fits(middle)
        return jnp.where(yes, middle, inside), jnp.where(yes, outside, middle)

    return jax.lax.fori_loop(0, HALVINGS, halve, (inside, outside))[0]


def half_space(normal: Image, offset: float) -> Projection:
    """{x : <normal, x> <= offset}."""
    return lambda image: optax_projections.projection_halfspace(image, normal, offset)


def hyperplane(normal: Image, offset: float) -> Projection:
    """{x : <normal, x> = offset}."""
    return lambda image: optax_projections.projection_hyperplane(image, normal, offset)


def pixels(values: Image, where: Mask) -> Projection:
    """{x : x = values on `where`}: known pixels stay known, to the last bit."""
    return lambda image: jnp.where(where, values, image)


def low_resolution(low: Image, factor: int) -> Projection:
    """{x : the means of its factor x factor blocks are `low`}."""
    return lambda image: image + upsample(low - downsample(image, factor), factor)


def low_resolution_in_box(low: Image, factor: int) -> Projection:
    """The exact projection onto `low_resolution` ∩ [0, 1]^d, for `low` in the box.

    The nearest point of a block is clip(x + t) for the one t, a number a block and channel, that gives it
    its mean; the mean is monotone in t, so bisection finds it.
    """
    clip = box()

    def project(image: Image) -> Image:
        def fits(t: Image) -> Image:
            return downsample(clip(image + upsample(t, factor)), factor) <= low

        lowest, highest = (jnp.full_like(low, end) for end in (-jnp.max(image), 1 - jnp.min(image)))
        return clip(image + upsample(_last(fits, lowest, highest), factor))

    return project


def resampled(low: Image, shape: tuple[int, int], method: str) -> Projection:
    """{x of height and width `shape` : jax.image.resize(x, low.shape, method) = low}.

    Of "linear", "cubic", "lanczos3" and "lanczos5", which low-pass first. A resize is R x C' with a matrix
    for the rows and one for the columns, so the nearest point is x + R+ (low - R x C') C+'.
    """
    rows, columns = (_resizing(*sides, method) for sides in zip(shape, low.shape[:2], strict=True))
    back = jnp.linalg.pinv(rows), jnp.linalg.pinv(columns)
    return lambda image: image + _through(back, low - _through((rows, columns), image))


def resampled_in_box(low: Image, shape: tuple[int, int], method: str, rounds: int = 100) -> Projection:
    """The projection onto `resampled` ∩ [0, 1]^d, where they meet: in the box whatever the rounds.

    The nearest point is clip(x + A't), A the resize with its rows made orthonormal, for the t whose image has
    the right A; Nesterov's ascent on the concave dual finds t, begun anew where its momentum points down
    (O'Donoghue & Candes 2015). Its error shrinks with the rounds, slowly where `low` is barely within reach.
    """
    pairs = [_rowspace(_resizing(*sides, method)) for sides in zip(shape, low.shape[:2], strict=True)]
    across, whiten = zip(*pairs, strict=True)
    back = tuple(matrix.T for matrix in across)
    wanted = _through(whiten, low)
    clip = box()

    def project(image: Image) -> Image:
        def at(t: Image) -> Image:
            return clip(image + _through(back, t))

        def climb(_, carry):
            t, before, age = carry
            ahead = t + age / (age + 3) * (t - before)
            slope = wanted - _through(across, at(ahead))
            after = ahead + slope
            return after, t, jnp.where(jnp.sum(slope * (after - t)) < 0, 0.0, age + 1)

        begin = jnp.zeros_like(wanted), jnp.zeros_like(wanted), jnp.zeros((), image.dtype)
        return at(jax.lax.fori_loop(0, rounds, climb, begin)[0])

    return project


def _through(matrices: Sequence[jax.Array | np.ndarray], image: Image) -> Image:
    """R x C': a matrix for the rows and one for the columns."""
    return jnp.einsum("ih,hwc,jw->ijc", matrices[0], image, matrices[1], precision="highest")


def _resizing(length: int, shorter: int, method: str) -> jax.Array:
    """The matrix (shorter, length) by which `jax.image.resize` resizes a column."""
    return jax.image.resize(jnp.eye(length), (shorter, length), method)


def _rowspace(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(Q, W) with orthonormal rows Q = W matrix."""
    basis, triangle = jnp.linalg.qr(matrix.T)
    return basis.T, jnp.linalg.inv(triangle).T


def low_frequencies(target: Image, cutoff: float) -> Projection:
    """{x : its frequencies up to `cutoff` are `target`'s}; 0.5 a pixel, Nyquist's, is all along an axis.

    Two small matrices go to the coefficients of the waves that are kept, and two back: less than an FFT.
    """
    (down, high), (across, wide) = (_waves(side, cutoff) for side in target.shape[:2])
    kept = jnp.asarray(np.hypot(high[:, None], wide) <= cutoff)[:, :, None]

    def low(image: Image) -> Image:
        return _through((down.T, across.T), jnp.where(kept, _through((down, across), image), 0))

    return lambda image: image + low(target - image)


def _waves(length: int, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal cosines and sines (k, length) of at most `cutoff` cycles a pixel, and their frequencies."""
    cycles = np.arange(length // 2 + 1)
    cycles = cycles[cycles <= cutoff * length]
    angles = 2 * np.pi * cycles[:, None] * np.arange(length) / length
    waves = np.concatenate([np.cos(angles), np.sin(angles)])
    norms = np.linalg.norm(waves, axis=1)
    real = norms > 0.5  # the sines of 0 and of Nyquist's frequency are 0
    return (waves[real] / norms[real, None]).astype(np.float32), np.tile(cycles / length, 2)[real]


def dykstra(*projections: Projection, rounds: int = 50) -> Projection:
    """The nearest point of the intersection of the sets, in the limit of many rounds (Boyle & Dykstra 1986).

    Unlike `chain`, whose end is in the sets too where they are affine, but not the nearest. Each round asks
    every projection once; the last one certainly holds. Balls, boxes and subspaces need some tens of rounds.
    """

    def whole(_, carry):
        image, corrections = carry
        left = []
        for project, correction in zip(projections, corrections, strict=True):
            wanted = image + correction
            image = project(wanted)
            left.append(wanted - image)
        return image, tuple(left)

    def project(image: Image) -> Image:
        corrections = tuple(jnp.zeros_like(image) for _ in projections)
        return jax.lax.fori_loop(0, rounds, whole, (image, corrections))[0]

    return project


def chain(*projections: Projection) -> Projection:
    """One after the other, left to right, as `optax.chain`.

    The last one certainly holds. Where the sets interact it is feasible, not the nearest point.
    """
    return lambda image: functools.reduce(lambda x, project: project(x), projections, image)
