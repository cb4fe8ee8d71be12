"""What makes a projection one: into the set, idempotent, non-expansive, and the nearest point."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from rsynth_jax import projections

SETS = {
    "box": lambda center, radius: projections.box(),
    "l2_ball": projections.l2_ball,
    "linf_ball": projections.linf_ball,
    "ball_in_box": projections.ball_in_box,
    "l2_ball, box": lambda c, r: projections.chain(projections.l2_ball(c, r), projections.box()),
    "box, l2_ball": lambda c, r: projections.chain(projections.box(), projections.l2_ball(c, r)),
}
EXACT = ["box", "l2_ball", "linf_ball", "ball_in_box"]
SHAPE = (3, 2, 2)
images = arrays(np.float32, SHAPE, elements=st.floats(-2, 3, width=32))
centers = arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=32))
radii = st.floats(0.0625, 3, width=32)
every_exact_set = pytest.mark.parametrize("name", EXACT)


@functools.partial(jax.jit, static_argnums=0)
def project(name, image, center, radius):
    return SETS[name](center, radius)(image)


def inside_point(image, center, radius):
    """A point of every one of the sets: towards the clipped image, well within the radius."""
    offset = np.clip(image, 0, 1) - center
    return center + offset * min(1, 0.99 * radius / max(np.linalg.norm(offset), 1e-9))


def assert_inside(name, image, center, radius, tolerance=1e-5):
    distance = {"l2_ball": np.linalg.norm, "linf_ball": np.max}.get(name, np.linalg.norm)
    if "ball" in name:
        assert distance(np.abs(np.float64(image) - center).ravel()) <= radius + tolerance
    if "box" in name:
        assert -tolerance <= image.min() and image.max() <= 1 + tolerance


@every_exact_set
@given(image=images, center=centers, radius=radii)
def test_a_projection_ends_inside_its_set(name, image, center, radius):
    assert_inside(name, np.asarray(project(name, image, center, radius)), center, radius)


@every_exact_set
@given(image=images, center=centers, radius=radii)
def test_a_projection_is_idempotent(name, image, center, radius):
    once = project(name, image, center, radius)
    assert_allclose(project(name, once, center, radius), once, atol=1e-6)


@every_exact_set
@given(image=images, center=centers, radius=radii)
def test_a_projection_leaves_the_points_of_its_set(name, image, center, radius):
    point = inside_point(image, center, radius)
    assert_allclose(project(name, point, center, radius), point, atol=1e-6)


@every_exact_set
@given(one=images, other=images, center=centers, radius=radii)
def test_a_projection_is_non_expansive(name, one, other, center, radius):
    moved = np.asarray(project(name, one, center, radius) - project(name, other, center, radius))
    assert np.linalg.norm(moved.ravel()) <= np.linalg.norm((one - other).ravel()) + 1e-5


@every_exact_set
@given(image=images, other=images, center=centers, radius=radii)
def test_a_projection_is_the_nearest_point(name, image, other, center, radius):
    """The variational inequality: <y - p(y), z - p(y)> <= 0 for every z of the set."""
    nearest = np.float64(project(name, image, center, radius))
    point = inside_point(other, center, radius / 0.99)
    assert np.vdot(image - nearest, point - nearest) <= 1e-4


@given(image=images, center=centers, radius=radii)
def test_ball_in_box_is_never_farther_than_the_chain(image, center, radius):
    exact, chained = (project(name, image, center, radius) for name in ("ball_in_box", "l2_ball, box"))
    assert np.linalg.norm((image - exact).ravel()) <= np.linalg.norm((image - chained).ravel()) + 1e-5


@given(image=images, center=centers, radius=radii)
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
@given(image=images, center=centers, radius=radii)
def test_a_chain_of_ball_and_box_is_feasible_in_either_order(name, image, center, radius):
    assert_inside(name, np.asarray(project(name, image, center, radius)), center, radius)


@pytest.mark.parametrize("name", ["l2_ball", "linf_ball", "ball_in_box"])
@given(image=images, center=centers)
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
