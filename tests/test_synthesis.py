"""Batches of tasks: the loop over images, in one compiled program, wherever it runs."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax import models
from rsynth_jax import sharding as parallel
from rsynth_jax.models.layers import Outputs
from rsynth_jax.synthesis import ascent, objectives, projections
from rsynth_jax.synthesis import tasks as synthesis
from rsynth_jax.synthesis.ascent import steepest
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.tasks import Task

SHAPE = (4, 4, 3)
RADIUS = 0.7
RNG = np.random.default_rng(0)
STARTS = RNG.random((16, *SHAPE), np.float32)
LABELS = np.arange(16, dtype=np.int32) % 5


class Flat(nn.Module):
    """The smallest network: one linear layer, tanh, another."""

    @nn.compact
    def __call__(self, images):
        features = jnp.tanh(nn.Dense(8)(images.reshape(len(images), -1)))
        return Outputs(nn.Dense(5)(features), features)


MODEL = Flat()
VARIABLES = MODEL.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))


def task(classifier, start, label) -> Task:
    stay = projections.chain(projections.l2_ball(start, RADIUS), projections.box())
    return Task(start, objectives.log_prob(classifier, label), stay)


def with_optimizer(step_size: float) -> synthesis.ClimbFn:
    return synthesis.with_optimizer(task, steepest(L2, step_size))


@functools.partial(jax.jit, static_argnums=(0, 1))
def alone(optimizer, num_steps, start, label):
    _, objective, stay = task(models.bind(MODEL, VARIABLES), start, label)
    return ascent.run(ascent.projected_gradient_ascent(objective, stay, optimizer), start, num_steps)[0]


def one_by_one(optimizer, num_steps) -> np.ndarray:
    """The plain loop that a batch must equal."""
    return np.stack([alone(optimizer, num_steps, *row) for row in zip(STARTS, LABELS, strict=True)])


@pytest.mark.parametrize(
    "optimizer", [steepest(L2, 0.2), optax.sgd(0.5, momentum=0.9)], ids=["l2", "momentum"]
)
def test_a_batch_equals_the_loop_over_its_images(optimizer):
    images = synthesis.batched(MODEL, task, optimizer, 4)(VARIABLES, STARTS, LABELS)
    expected = one_by_one(optimizer, 4)
    assert_allclose(images, expected, atol=1e-5)
    assert np.abs(expected - STARTS).max() > 0.05


class Striding(nn.Module):
    """A network that sees every other pixel."""

    @nn.compact
    def __call__(self, images):
        features = images[:, ::2, ::2].reshape(len(images), -1)
        return Outputs(nn.Dense(5)(features), features)


def changed(climb_fn) -> np.ndarray:
    """Which pixels ten steps change in any of the starts, bool (h, w)."""
    model = Striding()
    variables = model.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    *_, last = synthesis.stages(model, climb_fn, 10)(variables, STARTS, LABELS)
    return np.any(np.asarray(last) != STARTS, axis=(0, 3))


def test_a_shaken_ascent_leaves_no_grid_of_a_network_that_strides():
    assert changed(with_optimizer(0.05)).sum() == 4
    assert changed(synthesis.jittered(task, steepest(L2, 0.05), 1)).all()


def test_a_shaken_ascent_that_does_not_move_is_the_plain_one():
    climbs = with_optimizer(0.2), synthesis.jittered(task, steepest(L2, 0.2), 0)
    plain, jittered = (list(synthesis.stages(MODEL, each, 5)(VARIABLES, STARTS, LABELS)) for each in climbs)
    assert_allclose(jittered[-1], plain[-1], atol=1e-5)


def test_a_shaken_image_does_not_depend_on_those_beside_it():
    climb = synthesis.stages(MODEL, synthesis.jittered(task, steepest(L2, 0.2), 2), 5)
    *_, whole = climb(VARIABLES, STARTS, LABELS)
    *_, part = climb(VARIABLES, STARTS[5:8], LABELS[5:8])
    assert_allclose(part, whole[5:8], atol=1e-6)


@pytest.mark.parametrize(
    ("num_steps", "chunk", "chunks"), [(6, 2, 3), (6, 4, 2), (7, 4, 7), (4, 10, 1), (20, 10, 2)]
)
def test_there_is_a_stage_for_the_start_and_one_for_every_chunk(num_steps, chunk, chunks):
    climb = synthesis.stages(MODEL, with_optimizer(0.2), num_steps, chunk)
    stages = list(climb(VARIABLES, STARTS, LABELS))
    assert len(stages) == 1 + chunks
    assert_array_equal(stages[0], STARTS)
    last = synthesis.batched(MODEL, task, steepest(L2, 0.2), num_steps)(VARIABLES, STARTS, LABELS)
    assert_allclose(stages[-1], last, atol=1e-5)


def test_a_stage_is_the_ascent_of_so_many_steps():
    stages = list(synthesis.stages(MODEL, with_optimizer(0.1), 6, 2)(VARIABLES, STARTS, LABELS))
    assert_allclose(stages[1], one_by_one(steepest(L2, 0.1), 2), atol=1e-5)


def test_a_prime_number_of_steps_is_climbed_in_full():
    images = synthesis.batched(MODEL, task, steepest(L2, 0.01), 13)(VARIABLES, STARTS, LABELS)
    assert_allclose(images, one_by_one(steepest(L2, 0.01), 13), atol=1e-5)


def test_a_climb_may_stop_where_it_likes():
    """Each at the first image whose logit passes the bar, so no stage after it moves it."""

    def cautious(classifier, start, label):
        start, plain = with_optimizer(0.1)(classifier, start, label)
        return start, ascent.stop_when(
            lambda image: objectives.log_prob(classifier, label)(image) > -1, plain
        )

    stages = np.stack(list(synthesis.stages(MODEL, cautious, 6, 1)(VARIABLES, STARTS, LABELS)))
    plain = np.stack(list(synthesis.stages(MODEL, with_optimizer(0.1), 6, 1)(VARIABLES, STARTS, LABELS)))
    classifier = models.bind(MODEL, VARIABLES)
    score = jax.vmap(lambda image, label: objectives.log_prob(classifier, label)(image))
    reached = np.stack([score(stage, LABELS) > -1 for stage in plain])
    stop = np.where(reached.any(axis=0), reached.argmax(axis=0), 6)
    assert len(set(stop.tolist())) > 2
    for i, last in enumerate(stop):
        assert_allclose(stages[:, i], plain[np.minimum(np.arange(7), last), i], atol=1e-5)


def test_no_steps_yield_the_projected_start_alone():
    outside = 3 * STARTS - 1
    stages = list(synthesis.stages(MODEL, with_optimizer(0.2), 0)(VARIABLES, outside, LABELS))
    assert len(stages) == 1
    assert_array_equal(stages[0], np.clip(outside, 0, 1))


def test_every_stage_stays_in_the_ball_and_in_the_box():
    for stage in synthesis.stages(MODEL, with_optimizer(0.5), 6, 1)(VARIABLES, STARTS, LABELS):
        moved = np.asarray(stage - STARTS).reshape(16, -1)
        assert np.linalg.norm(moved, axis=1).max() <= RADIUS + 1e-5
        assert stage.min() >= 0 and stage.max() <= 1
    assert np.linalg.norm(moved, axis=1).max() > 0.9 * RADIUS  # the set was in the way


def test_batches_of_one_shape_trace_the_task_once():
    traces = []

    def noted(classifier, start, label):
        traces.append(label)
        return task(classifier, start, label)

    paint = synthesis.batched(MODEL, noted, steepest(L2, 0.2), 4)
    paint(VARIABLES, STARTS, LABELS)
    once = len(traces)
    for shift in (1, 2):
        paint(jax.tree.map(lambda leaf: leaf / 2, VARIABLES), np.roll(STARTS, shift, 0), LABELS[::-1].copy())
    assert len(traces) == once > 0


def test_an_image_does_not_depend_on_its_batch():
    paint = synthesis.batched(MODEL, task, steepest(L2, 0.2), 4)
    whole = paint(VARIABLES, STARTS, LABELS)
    assert_allclose(paint(VARIABLES, STARTS[3:5], LABELS[3:5]), whole[3:5], atol=1e-5)


def test_over_eight_devices_the_images_are_the_same():
    devices = parallel.over_devices(16)
    paint = synthesis.batched(MODEL, task, steepest(L2, 0.2), 4)
    sharded = paint(devices.replicate(VARIABLES), *devices.split((STARTS, LABELS)))
    assert len(sharded.sharding.device_set) == 8 and not sharded.sharding.is_fully_replicated
    assert_allclose(sharded, paint(VARIABLES, STARTS, LABELS), atol=1e-4)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_a_chunk_of_a_batch_lowers_for_accelerators_as_a_loop(small, platform):
    model, variables = small

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0, 0))
    def chunk(variables, start, label):
        _, objective, stay = task(models.bind(model, variables), start, label)
        climb = ascent.projected_gradient_ascent(objective, stay, steepest(L2, 0.2))
        return ascent.advance(climb, climb.init(start), 4)[0].image

    lowered = chunk.trace(variables, jnp.zeros((2, 16, 16, 3)), jnp.zeros(2, jnp.int32)).lower(
        lowering_platforms=(platform,)
    )
    assert "stablehlo.while" in lowered.as_text() and "stablehlo.convolution" in lowered.as_text()
