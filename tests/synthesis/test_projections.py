"""What makes a projection one: into the set, idempotent, non-expansive, and the nearest point."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax import images
from rsynth_jax.synthesis import projections

SETS = {
    "box": lambda center, radius: projections.box(),
    "l2_ball": projections.l2_ball,
    "linf_ball": projections.linf_ball,
    "ball_in_box": projections.ball_in_box,
    "ball_in_blends": lambda c, r: projections.ball_in_box(c, r, *images.blends(c, NEW)),
    "l2_ball, box": lambda c, r: projections.chain(projections.l2_ball(c, r), projections.box()),
    "box, l2_ball": lambda c, r: projections.chain(projections.box(), projections.l2_ball(c, r)),
    "half_space": lambda c, r: projections.half_space(NORMAL, jnp.sum(c * NORMAL) + r),
    "hyperplane": lambda c, r: projections.hyperplane(NORMAL, jnp.sum(c * NORMAL)),
    "pixels": lambda c, r: projections.pixels(c, c[:, :, :1] > 0.5),
    "low_resolution": lambda c, r: projections.low_resolution(images.downsample(c, 2), 2),
    "low_resolution_in_box": lambda c, r: projections.low_resolution_in_box(images.downsample(c, 2), 2),
    "resampled": lambda c, r: projections.resampled(jax.image.resize(c, LOW, "cubic"), (4, 2), "cubic"),
    "low_frequencies": lambda c, r: projections.low_frequencies(c, 0.25),
    "dykstra of ball, box": lambda c, r: projections.dykstra(
        projections.l2_ball(c, r), projections.box(), rounds=200
    ),
    "dykstra of means, box": lambda c, r: projections.dykstra(
        projections.low_resolution(images.downsample(c, 2), 2),
        projections.box(),
        rounds=2000,  # where a mean is near 0 or 1 it stalls
    ),
}
AROUND = [
    "l2_ball",
    "linf_ball",
    "ball_in_box",
    "ball_in_blends",
    "half_space",
]  # hold a ball
AFFINE = ["hyperplane", "pixels", "low_resolution", "resampled", "low_frequencies"]  # hold their center
EXACT = ["box", *AROUND, *AFFINE, "low_resolution_in_box"]
SHAPE, LOW = (4, 2, 2), (2, 1, 2)
NEW = np.float32([[0, 0.25], [0.5, 1], [1, 0.75], [0, 1]])[:, :, None]  # a share of each pixel
NORMAL = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
NORMAL /= np.linalg.norm(NORMAL)
photos = arrays(np.float32, SHAPE, elements=st.floats(-2, 3, width=32))
centers = arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=32))
radii = st.floats(0.0625, 3, width=32)
every_exact_set = pytest.mark.parametrize("name", EXACT)


@functools.partial(jax.jit, static_argnums=0)
def project(name, image, center, radius):
    return SETS[name](center, radius)(image)


def inside_point(name, image, center, radius):
    """A point of the set: towards the clipped image, well within the radius, where there is room around."""
    if name in AFFINE or name == "low_resolution_in_box":
        return center
    offset = (np.clip(image, 0, 1) - center) * (NEW if name == "ball_in_blends" else 1)
    return center + offset * min(1, 0.99 * radius / max(np.linalg.norm(offset), 1e-9))


def block_means(image):
    return image.reshape(2, 2, 1, 2, 2).mean(axis=(1, 3))


def low_pass(image):
    frequencies = np.hypot(np.fft.fftfreq(4)[:, None], np.fft.fftfreq(2))
    return np.fft.fft2(image, axes=(0, 1))[frequencies <= 0.25]


OUTSIDE = {
    "box": lambda x, c, r: np.abs(x - np.clip(x, 0, 1)),
    "blends": lambda x, c, r: np.abs(x - np.clip(x, c - NEW * c, c - NEW * c + NEW)),
    "l2_ball": lambda x, c, r: np.linalg.norm((x - c).ravel()) - r,
    "linf_ball": lambda x, c, r: np.abs(x - c) - r,
    "half_space": lambda x, c, r: np.vdot(NORMAL, x - c) - r,
    "hyperplane": lambda x, c, r: np.abs(np.vdot(NORMAL, x - c)),
    "pixels": lambda x, c, r: np.abs(x - c) * (c[:, :, :1] > 0.5),
    "low_resolution": lambda x, c, r: np.abs(block_means(x - c)),
    "resampled": lambda x, c, r: np.abs(jax.image.resize(np.float32(x - c), LOW, "cubic")),
    "low_frequencies": lambda x, c, r: np.abs(low_pass(x - c)),
}


def assert_inside(name, image, center, radius, tolerance=1e-5):
    """By how much a point violates each of the sets it must be in."""
    named = {"ball_in_box": ("l2_ball", "box"), "low_resolution_in_box": ("low_resolution", "box")}
    named |= {"ball_in_blends": ("l2_ball", "blends")}
    for part in named.get(name, name.split(", ")):
        assert np.max(OUTSIDE[part](np.float64(image), np.float64(center), radius)) <= tolerance


@every_exact_set
@given(image=photos, center=centers, radius=radii)
def test_a_projection_ends_inside_its_set(name, image, center, radius):
    assert_inside(name, np.asarray(project(name, image, center, radius)), center, radius)


@every_exact_set
@given(image=photos, center=centers, radius=radii)
def test_a_projection_is_idempotent(name, image, center, radius):
    once = project(name, image, center, radius)
    assert_allclose(project(name, once, center, radius), once, atol=1e-6)


@every_exact_set
@given(image=photos, center=centers, radius=radii)
def test_a_projection_leaves_the_points_of_its_set(name, image, center, radius):
    point = inside_point(name, image, center, radius)
    assert_allclose(project(name, point, center, radius), point, atol=1e-6)


@every_exact_set
@given(one=photos, other=photos, center=centers, radius=radii)
def test_a_projection_is_non_expansive(name, one, other, center, radius):
    moved = np.asarray(project(name, one, center, radius) - project(name, other, center, radius))
    assert np.linalg.norm(moved.ravel()) <= np.linalg.norm((one - other).ravel()) + 1e-5


@every_exact_set
@given(image=photos, other=photos, center=centers, radius=radii)
def test_a_projection_is_the_nearest_point(name, image, other, center, radius):
    """The variational inequality: <y - p(y), z - p(y)> <= 0 for every z of the set."""
    nearest = np.float64(project(name, image, center, radius))
    for point in (inside_point(name, other, center, radius), project(name, other, center, radius)):
        assert np.vdot(image - nearest, point - nearest) <= 1e-4


@pytest.mark.parametrize(
    ("name", "exact"), [("ball, box", "ball_in_box"), ("means, box", "low_resolution_in_box")]
)
@given(image=photos, center=centers, radius=radii)
def test_dykstra_ends_at_the_nearest_point_of_the_intersection(name, exact, image, center, radius):
    found = project(f"dykstra of {name}", image, center, radius)
    assert_allclose(found, project(exact, image, center, radius), atol=2e-3)


@given(image=photos, center=centers, radius=radii)
def test_ball_in_box_is_never_farther_than_the_chain(image, center, radius):
    exact, chained = (project(name, image, center, radius) for name in ("ball_in_box", "l2_ball, box"))
    assert np.linalg.norm((image - exact).ravel()) <= np.linalg.norm((image - chained).ravel()) + 1e-5


@given(image=photos, center=centers, radius=radii)
def test_ball_in_box_equals_bisection_in_float64(image, center, radius):
    def at(t):
        return np.clip(np.float64(center) + t * (np.float64(image) - center), 0, 1)

    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        fits = np.linalg.norm((at(middle) - center).ravel()) <= radius
        low, high = (middle, high) if fits else (low, middle)
    expected = at(1.0) if np.linalg.norm((at(1.0) - center).ravel()) <= radius else at(low)
    assert_allclose(project("ball_in_box", image, center, radius), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["l2_ball, box", "box, l2_ball"])
@given(image=photos, center=centers, radius=radii)
def test_a_chain_of_ball_and_box_is_feasible_in_either_order(name, image, center, radius):
    assert_inside(name, np.asarray(project(name, image, center, radius)), center, radius)


@pytest.mark.parametrize("name", ["l2_ball", "linf_ball", "ball_in_box"])
@given(image=photos, center=centers)
def test_a_ball_of_radius_zero_is_its_center(name, image, center):
    for point in (image, center):
        assert_allclose(project(name, point, center, 0.0), center, atol=1e-6)


def test_a_chain_goes_from_left_to_right():
    low, high = projections.box(0.0, 1.0), projections.box(2.0, 3.0)
    image = np.float32([[[0.5]]])
    assert projections.chain(low, high)(image) == 2 and projections.chain(high, low)(image) == 1


def test_an_empty_chain_is_the_identity():
    image = np.float32([[[7.0]]])
    assert projections.chain()(image) == image


@given(image=photos, center=centers)
def test_known_pixels_are_known_to_the_last_bit(image, center):
    where = center[:, :, :1] > 0.5
    known = np.broadcast_to(where, SHAPE)
    found = np.asarray(projections.pixels(center, where)(image))
    assert_array_equal(found[known], center[known])
    assert_array_equal(found[~known], image[~known])


@functools.cache
def lowered_sets(method):
    """Images to project, points of the sets they go onto, and the projection of a batch, compiled."""
    rng = np.random.default_rng(0)
    points = rng.random((40, 8, 12, 1), np.float32)
    points[:10] = points[:10] > 0.5  # of these the low image is hard to reach
    outside = points + rng.normal(size=points.shape).astype(np.float32) * rng.choice(
        [0.1, 1, 3], (40, 1, 1, 1)
    )
    low = jax.jit(jax.vmap(lambda point: jax.image.resize(point, (2, 3, 1), method)))

    @jax.jit
    @jax.vmap
    def project(image, low):
        return projections.resampled_in_box(low, (8, 12), method)(image)

    return np.float32(outside), points, low, project


every_filter = pytest.mark.parametrize("method", ["cubic", "lanczos3"])


@every_filter
def test_the_resampled_in_the_box_are_in_the_box_exactly_and_lowered_to_what_they_should_be(method):
    outside, points, low, project = lowered_sets(method)
    found = np.asarray(project(outside, low(points)))
    assert found.min() >= 0 and found.max() <= 1
    assert_allclose(low(found), low(points), atol=1e-4)
    assert_allclose(project(found, low(points)), found, atol=1e-4)
    assert_allclose(project(points, low(points)), points, atol=1e-6)


@every_filter
def test_the_resampled_in_the_box_is_the_nearest_point_and_moves_no_two_images_apart(method):
    outside, points, low, project = lowered_sets(method)
    found = np.float64(project(outside, low(points)))
    angles = np.sum((outside - found) * (points - found), axis=(1, 2, 3))
    assert angles.max() <= 1e-2
    other = np.float32(outside[::-1])
    apart = np.linalg.norm((found - project(other, low(points))).reshape(40, -1), axis=1)
    assert (apart <= np.linalg.norm((outside - other).reshape(40, -1), axis=1) + 1e-3).all()


def test_what_no_image_can_be_lowered_to_ends_in_the_box_all_the_same():
    low = np.float32([[0, 1], [1, 0]])[:, :, None] * 3 - 1
    found = jax.jit(projections.resampled_in_box(low, (8, 8), "lanczos3"))(
        np.full((8, 8, 1), 0.5, np.float32)
    )
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize("psi", [0.0, 0.7, 1.0])
def test_truncation_is_a_projection_onto_a_ball_around_the_mean(psi):
    """Of a code of two leaves: mean + psi (code - mean), the mean itself at 0 and the code itself at 1."""
    rng = np.random.default_rng(3)
    mean, code = ([rng.normal(size=n).astype(np.float32) for n in (5, 3)] for _ in range(2))
    distance = np.linalg.norm(np.concatenate(code) - np.concatenate(mean))
    truncated = projections.l2_ball(mean, psi * distance)(code)
    for found, w, center in zip(truncated, code, mean, strict=True):
        assert_allclose(found, center + psi * (w - center), atol=1e-6)
