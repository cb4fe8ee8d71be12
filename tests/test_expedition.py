"""A climb on many images: the same in any batch, and figures of the bytes that are written."""

import jax
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax.images import decode
from rsynth_jax.models.layers import Outputs
from rsynth_jax.sampling import runner as expedition
from rsynth_jax.synthesis import class_gaussians, objectives
from rsynth_jax.synthesis import tasks as synthesis
from rsynth_jax.synthesis.ascent import steepest
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.projections import box
from rsynth_jax.synthesis.tasks import Task

RNG = np.random.default_rng(0)
GIVEN = RNG.integers(0, 256, (7, *tiny.SHAPE), np.uint8)
LABELS = np.arange(7, dtype=np.int32) % 3
MODEL = tiny.Linear()
VARIABLES = MODEL.init(jax.random.key(0), np.zeros((1, *tiny.SHAPE), np.float32))


def climb():
    """Four steps of 0.5, in two chunks."""

    def task(classifier, start, label):
        return Task(start, objectives.logit(classifier, label), box())

    return synthesis.stages(MODEL, synthesis.with_optimizer(task, steepest(L2, 0.5)), 4, 2)


def rows_of(rows):
    return jax.vmap(decode)(GIVEN[rows]), LABELS[rows]


@pytest.fixture(scope="module")
def frames():
    return expedition.frames(climb(), VARIABLES, rows_of, 7, 7)


def test_there_is_a_frame_of_bytes_for_the_start_and_for_every_chunk(frames):
    assert len(frames) == 3 and all(frame.shape == GIVEN.shape for frame in frames)
    assert all(frame.dtype == np.uint8 for frame in frames)
    assert_array_equal(frames[0], GIVEN)


@pytest.mark.parametrize("batch_size", [1, 3, 40])
def test_the_images_are_the_same_in_any_batch(frames, batch_size):
    others = expedition.frames(climb(), VARIABLES, rows_of, 7, batch_size)
    for frame, other in zip(frames, others, strict=True):
        assert np.abs(frame.astype(int) - other).max() <= 1


def test_the_loop_over_batches_can_be_watched():
    seen = []
    expedition.frames(climb(), VARIABLES, rows_of, 7, 3, lambda batches: seen.append(len(batches)) or batches)
    assert seen == [3]


def test_the_outcome_is_that_of_a_linear_network_by_hand(frames):
    found = expedition.outcome(MODEL, VARIABLES, frames[0], frames[-1], LABELS, 4)
    ends = []
    for images in (frames[0], frames[-1]):
        outputs: Outputs = MODEL.apply(VARIABLES, np.float32(images) / np.float32(255))
        ends.append(np.asarray(jax.nn.log_softmax(outputs.logits)))
    for log_probs, seen, log_prob in zip(ends, found[:2], found[2:4], strict=True):
        assert_array_equal(seen, log_probs.argmax(axis=1))
        assert_allclose(log_prob, log_probs[np.arange(7), LABELS], atol=1e-4)
    assert (found.log_prob > found.log_prob_start).all()
    gap = np.float64(frames[-1]) - frames[0]
    assert_allclose(found.l2_moved, np.sqrt((gap**2).sum(axis=(1, 2, 3))) / 255)
    assert_array_equal(expedition.seen(MODEL, VARIABLES, frames[0], 4), found.seen_start)


def test_the_numbers_are_means_and_each_image_s_own():
    found = expedition.Outcome(*np.arange(10).reshape(5, 2))
    assert expedition.numbers(found, [{"class": "cat"}, {"class": "dog"}]) == {
        "log_prob_start": 4.5,
        "log_prob": 6.5,
        "l2_moved": 8.5,
        "images": [
            {"class": "cat", "log_prob_start": 4.0, "log_prob": 6.0, "l2_moved": 8.0},
            {"class": "dog", "log_prob_start": 5.0, "log_prob": 7.0, "l2_moved": 9.0},
        ],
    }


def test_a_draw_depends_on_its_class_and_its_numbers_alone():
    gaussians = class_gaussians.ClassGaussians(
        RNG.random((3, 8, 8, 3), np.float32), RNG.random((3, 5, 8, 8, 3), np.float32) / 10
    )
    draw = expedition.draws(jax.random.key(1), gaussians, tiny.SHAPE)
    labels, numbers = np.array([2, 0, 2, 2]), np.array([[0, 4], [0, 4], [1, 4], [0, 4]])
    found = np.asarray(draw(labels, numbers))
    assert_array_equal(found[0], found[3])
    assert all(np.abs(found[0] - found[i]).max() > 0.01 for i in (1, 2))
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), 1), 4)
    assert_allclose(found[2], np.clip(class_gaussians.sample(key, gaussians, 2, tiny.SHAPE), 0, 1), atol=1e-6)
