"""Tasks: where each starts, what rises, what is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as Pillow

from rsynth_jax import models
from rsynth_jax.images import decode
from rsynth_jax.synthesis import ascent, objectives, projections, tasks
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
    step = jax.jit(ascending.step)
    state = ascending.init(task.start)
    for _ in range(num_steps):
        state, _ = step(state)
    return np.asarray(state.point)


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
    linear = tiny.classifier(
        logits=lambda image: np.stack([line, -line]) @ (image.ravel() - 0.5), features=jnp.ravel
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
    linear = tiny.classifier(
        logits=lambda image: weights @ image.ravel(), features=lambda image: image.ravel()
    )
    center = np.full((4, 4, 3), 0.5, np.float32)
    direction = weights[1].reshape(center.shape) / np.linalg.norm(weights[1])
    found = climb(tasks.refine(linear, center, 1, radius=radius), 0.1, 3)
    assert_allclose(found, center + moved * direction, atol=1e-5)


# ---- cost


def flops(small, task_fn) -> float:
    """Of one step of a task on images of 16 x 16, by XLA's analysis of the compiled program."""
    return flops_of(small, tasks.with_optimizer(task_fn, steepest(L2, 0.1)))


def flops_of(small, ascent_fn) -> float:
    model, variables = small

    def step(variables, image):
        start, climb = ascent_fn(models.bind(model, variables), image)
        return climb.step(climb.init(start))[0].point

    analysis = jax.jit(step).lower(variables, jnp.zeros((16, 16, 3))).compile().cost_analysis()
    assert analysis is not None
    return analysis["flops"]


def test_no_task_costs_more_than_a_pass_and_a_gradient(small):
    """The perceptual distance is to an image, whose maps cost one pass more."""
    model, variables = small
    image, free = jnp.zeros((16, 16, 3)), jnp.ones((16, 16, 1))
    program = jax.jit(lambda variables, image: models.bind(model, variables).logits(image))
    cost = program.lower(variables, image).compile().cost_analysis()
    assert cost is not None
    floor = flops(small, lambda c, x: Task(x, objectives.log_prob(c, 3), projections.box()))
    low = jnp.zeros((4, 4, 3))
    translate = tasks.with_optimizer(
        lambda c, x, label: tasks.translate(c, x, label, free), steepest(L2, 0.1)
    )
    costs = {
        "generate": flops(small, lambda c, x: tasks.generate(c, x, 3)),
        "inpaint": flops(small, lambda c, x: tasks.inpaint(c, x, 3, x, free)),
        "superresolve": flops(small, lambda c, x: tasks.superresolve(c, low + x[:4, :4], 3)),
        "translate": flops(small, lambda c, x: tasks.translate(c, x, 3, free)),
        "coarse": flops(small, lambda c, x: tasks.keep_coarse(tasks.translate(c, x, 3, free), 2.0)),
        "until": flops_of(small, lambda c, x: tasks.until_probability(translate, 1, 0.9)(c, x, 3)),
        "paint": flops(small, lambda c, x: tasks.paint(c, x, 3, free)),
        "sketch": flops(small, lambda c, x: tasks.sketch(c, x, 3)),
        "refine": flops(small, lambda c, x: tasks.refine(c, x, 3)),
        "invert": flops(small, lambda c, x: tasks.invert(c, x, jnp.ones(256))),
    }
    assert max(costs.values()) < 1.05 * floor, costs
    near = flops(small, lambda c, x: tasks.keep_perceptually(tasks.translate(c, x, 3, free), c, 1.0))
    assert near < 1.05 * (floor + cost["flops"])


# ---- in code

IMAGE, OTHER = RNG.random((2, 4, 4, 3), np.float32)
HALF = np.zeros((4, 4, 1), np.float32)
HALF[:2] = 1


def with_maps(linear: Classifier) -> Classifier:
    """Its one map is the image's own values, shifted so that none is 0."""
    return tiny.classifier(linear.logits, linear.features, lambda image: (image + 1,))


TASKS = {
    "resemble": lambda c: tasks.resemble(c, IMAGE, OTHER, perceptual_weight=0.3),
    "generate": lambda c: tasks.generate(c, IMAGE, 2),
    "translate": lambda c: tasks.translate(c, IMAGE, 2, np.ones_like(HALF), radius=0.6),
    "inpaint": lambda c: tasks.keep_known(tasks.inpaint(c, IMAGE, 2, IMAGE, HALF), IMAGE, HALF, 10.0),
    "refine": lambda c: tasks.refine(c, IMAGE, 2),
}


@pytest.mark.parametrize("name", tiny.fast(TASKS, "resemble", "generate"))
def test_a_task_in_the_code_that_is_the_image_is_the_task_bit_for_bit(linear, name):
    task = TASKS[name](with_maps(linear))
    coded = tasks.in_code(task, lambda code: code, task.start, task.projection)
    assert_array_equal(climb(coded, 0.1, 4), climb(task, 0.1, 4))
    assert np.abs(climb(task, 0.1, 4) - IMAGE).max() > 0.01


def test_a_plane_of_the_decoded_image_is_climbed_to_its_highest_point_in_the_ball_of_codes(linear):
    """Of image = M code + shift: along M' w, to the edge of the ball around the mean code."""
    matrix, shift = RNG.normal(size=(48, 6)).astype(np.float32), IMAGE
    mean, code = RNG.normal(size=(2, 6)).astype(np.float32)

    def decode(code):
        return shift + (matrix @ code).reshape(4, 4, 3)

    slope = np.asarray(jax.grad(lambda image: linear.logits(image)[2])(IMAGE)).ravel()
    task = tasks.generate(linear, IMAGE, 2, objective=objectives.logit)
    radius = 0.7 * np.linalg.norm(code - mean)
    coded = tasks.in_code(task, decode, code, projections.l2_ball(mean, radius))
    steepest_code = matrix.T @ slope / np.linalg.norm(matrix.T @ slope)
    assert_allclose(climb(coded, 20.0, 6), mean + radius * steepest_code, atol=1e-2)
    assert_allclose(climb(coded, 20.0, 0), mean + 0.7 * (code - mean), atol=1e-5)
    assert_array_equal(coded.decode(code), decode(code))


def test_the_known_pixels_pull_where_the_set_does_not_keep_them(linear):
    free = tasks.generate(linear, IMAGE, 2, objective=objectives.logit)
    kept = tasks.keep_known(free, OTHER, HALF, 1e4)
    found = climb(kept, 0.02, 60)
    gaps = [np.abs(image[2:] - OTHER[2:]).mean() for image in (IMAGE, found)]
    assert gaps[1] < 0.5 * gaps[0]
    gap = np.mean((1 - HALF) * (IMAGE - OTHER) ** 2)
    assert_allclose(kept.objective(IMAGE), free.objective(IMAGE) - 1e4 * gap, rtol=1e-5)


def test_what_resembles_an_image_is_the_image(linear):
    task = tasks.resemble(with_maps(linear), IMAGE, OTHER)
    assert_allclose(task.objective(OTHER), 0, atol=1e-6)
    assert np.abs(climb(task, 0.05, 80) - OTHER).max() < 0.1


def test_a_probability_is_that_of_the_decoded_image(linear):
    """Stopped where the image, not the code, has it: two codes to a value, at half its size."""

    def coded(classifier, code):
        task = tasks.translate(classifier, IMAGE, 2, np.ones_like(HALF))
        return tasks.in_code(task, lambda code: code / 2, code, projections.chain())

    stopped = tasks.until_probability(
        lambda classifier, code, label: tasks.with_optimizer(coded, steepest(L2, 0.2))(classifier, code),
        1,
        0.5,
    )
    start, inner = stopped(linear, 2 * OTHER, 2)
    code = jax.jit(lambda code: ascent.run(inner, code, 40)[0])(start)
    before = jax.jit(lambda code: ascent.run(inner, code, 0)[0])(start)
    p, p_start = (np.exp(objectives.log_prob(linear, 2)(inner.decode(each))) for each in (code, before))
    assert p_start < 0.5 <= p < 0.9
    assert_allclose(inner.decode(code), code / 2)
