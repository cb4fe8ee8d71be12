"""Tasks: where each starts, what rises, what is kept."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as Pillow

from rsynth_jax.images import decode
from rsynth_jax.synthesis import ascent, objectives, tasks
from rsynth_jax.synthesis.ascent import steepest
from rsynth_jax.synthesis.class_gaussians import ClassGaussians
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.tasks import Task
from rsynth_jax.types import Classifier

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


@pytest.mark.parametrize("name", tasks.FORWARDS)
def test_superresolution_keeps_what_it_is_lowered_to_and_moves_up_within_ball_and_box(linear, name):
    forward = tasks.FORWARDS[name]
    low = np.float32(0.2 + 0.6 * RNG.random((2, 2, 3)))
    task = tasks.superresolve(linear, low, 2, factor=2, forward=forward, radius=0.3)
    found = climb(task, 0.2, 3)
    assert_allclose(forward.lower(found, 2), low, atol=1e-4)
    assert 0.05 < np.linalg.norm(found - task.start) <= 0.3 + 1e-5
    assert found.min() >= 0 and found.max() <= 1
    assert task.objective(found) > task.objective(task.start)


@pytest.mark.parametrize(
    ("forward", "theirs"),
    [(tasks.BICUBIC, Pillow.Resampling.BICUBIC), (tasks.LANCZOS, Pillow.Resampling.LANCZOS)],
    ids=["bicubic", "lanczos"],
)
def test_images_are_lowered_as_pillow_does(forward, theirs):
    image = RNG.integers(0, 256, (16, 24, 3), np.uint8)
    expected = np.asarray(Pillow.fromarray(image).resize((6, 4), theirs))
    assert_allclose(255 * np.clip(forward.lower(decode(image), 4), 0, 1), expected, atol=1.01)


@pytest.mark.parametrize("name", objectives.CLASS_OBJECTIVES)
def test_of_two_classes_every_objective_translates_along_one_line_up_to_the_radius(name):
    """With logits w.x and -w.x, all have gradients along w; the energy goes where it already leans."""
    line = RNG.normal(size=48).astype(np.float32)
    line /= np.linalg.norm(line)
    linear = Classifier(
        logits=lambda image: np.stack([line, -line]) @ (image.ravel() - 0.5), features=np.ravel
    )
    center = np.full((4, 4, 3), 0.5, np.float32) - 0.01 * line.reshape(4, 4, 3)
    settings = {"objective": objectives.CLASS_OBJECTIVES[name], "radius": 0.25}
    task = tasks.translate(linear, center, 1, np.ones((4, 4, 1), np.float32), **settings)
    assert_allclose(climb(task, 0.1, 4), center - 0.25 * line.reshape(center.shape), atol=1e-5)


def test_a_stroke_moves_up_under_its_mask_and_keeps_the_rest(linear):
    image, where = RNG.random((4, 4, 3), np.float32), np.zeros((4, 4, 1), np.float32)
    where[:2] = 1
    found = climb(tasks.paint(linear, image, 3, where, objective=objectives.activation, radius=0.3), 0.2, 4)
    assert_array_equal(found[2:], image[2:])
    assert linear.features(found)[3] > linear.features(image)[3]
    assert 0.1 < np.linalg.norm(found - image) <= 0.3 + 1e-6


@pytest.mark.parametrize(("radius", "moved"), [(10.0, 0.3), (0.25, 0.25)])
def test_refinement_climbs_a_linear_logit_along_its_weights_up_to_the_radius(radius, moved):
    weights = RNG.normal(size=(3, 48)).astype(np.float32)
    linear = Classifier(logits=lambda image: weights @ image.ravel(), features=lambda image: image.ravel())
    center = np.full((4, 4, 3), 0.5, np.float32)
    direction = weights[1].reshape(center.shape) / np.linalg.norm(weights[1])
    found = climb(tasks.refine(linear, center, 1, radius=radius), 0.1, 3)
    assert_allclose(found, center + moved * direction, atol=1e-5)
