"""Tasks: where each starts, what rises, what is kept."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax.synthesis import ascent, objectives, tasks
from rsynth_jax.synthesis.ascent import steepest
from rsynth_jax.synthesis.class_gaussians import ClassGaussians
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.tasks import Task

RNG = np.random.default_rng(1)
DRAWING = np.ones((4, 4, 3), np.float32)
DRAWING[1, :2] = 0.0


def climb(task: Task, step_size: float, num_steps: int) -> np.ndarray:
    """The image after so many steps."""
    ascending = ascent.projected_gradient_ascent(task.objective, task.projection, steepest(L2, step_size))
    return np.asarray(jax.jit(lambda start: ascent.run(ascending, start, num_steps)[0])(task.start))


def test_inpainting_keeps_known_pixels_and_moves_the_hole_up_within_ball_and_blends(linear):
    image, missing = RNG.random((4, 4, 3), np.float32), np.float32(RNG.choice([0, 0.25, 1], (4, 4, 1)))
    gaussians = ClassGaussians(
        RNG.random((5, 4, 4, 3), np.float32), 0.1 * RNG.random((5, 2, 4, 4, 3), np.float32)
    )
    start = np.asarray(tasks.inpainting_start(gaussians, image, 2, missing))
    settings = {"objective": objectives.log_prob, "radius": 0.4}
    task = tasks.inpaint(linear, image, 2, start, missing, **settings)
    found = climb(task, 0.5, 3)
    known = np.broadcast_to(missing == 0, image.shape)
    assert_array_equal(task.start[known], image[known])
    assert_array_equal(found[known], image[known])
    new = (found - (1 - missing) * image)[~known] / np.broadcast_to(missing, image.shape)[~known]
    assert new.min() >= -1e-5 and new.max() <= 1 + 1e-5
    assert 0.39 < np.linalg.norm(found - start) <= 0.4 + 1e-6
    assert objectives.log_prob(linear, 2)(found) > task.objective(start)


def test_the_hole_starts_as_the_mean_of_the_class_given_the_known_pixels():
    """An image that is the class's mean and one component starts whole, whatever was in the hole."""
    mean, component = RNG.uniform(0.4, 0.6, (4, 4, 3)), RNG.uniform(-0.3, 0.3, (4, 4, 3))
    image, hole = np.float32(mean + component), np.zeros((4, 4, 1), np.float32)
    hole[1:3, 1:3] = 1
    gaussians = ClassGaussians(np.float32(mean[None]), 100 * np.float32(component[None, None]))
    for filling in (0, 1):
        start = tasks.inpainting_start(gaussians, np.where(hole > 0, filling, image), 0, hole)
        assert_allclose(start, image, atol=1e-3)


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (tasks.no_pixels, []),
        (tasks.dark_pixels, [(1, 0), (1, 1)]),
        (tasks.edge_pixels, [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]),
    ],
)
def test_a_sketch_keeps_its_pixels_and_moves_the_rest_up_within_the_ball(linear, keep, kept):
    task = tasks.sketch(linear, DRAWING, 2, keep=keep, objective=objectives.log_prob, radius=0.5)
    found = climb(task, 0.3, 5)
    assert_array_equal(task.start, DRAWING)
    for row, column in kept:
        assert_array_equal(found[row, column], DRAWING[row, column])
    assert 0.1 < np.linalg.norm(found - DRAWING) <= 0.5 + 1e-6
    assert objectives.log_prob(linear, 2)(found) > objectives.log_prob(linear, 2)(DRAWING)
    mask = np.zeros((4, 4), bool)
    mask[tuple(zip(*kept, strict=True))] = len(kept) > 0
    assert_array_equal(np.asarray(keep(DRAWING))[:, :, 0], mask if kept else False)
