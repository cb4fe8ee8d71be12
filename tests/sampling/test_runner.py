"""An ascent on many images: it equals the loop over images, in any batch, on any number of devices."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax import models
from rsynth_jax.images import decode
from rsynth_jax.models import embedding
from rsynth_jax.sampling import runner
from rsynth_jax.sampling.runner import Rows, Samples, sample
from rsynth_jax.synthesis import ascent, objectives, projections, tasks
from rsynth_jax.synthesis.ascent import steepest
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.tasks import AscentFn, Task
from rsynth_jax.types import Outputs

SHAPE = (4, 4, 3)
RADIUS = 0.7
RNG = np.random.default_rng(0)
STARTS = RNG.random((16, *SHAPE), np.float32)
LABELS = np.arange(16, dtype=np.int32) % 5
BYTE = 1 / 255 + 1e-5  # the most that rounding to bytes and float32 change together


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


def plain(step_size: float) -> AscentFn:
    return tasks.with_optimizer(task, steepest(L2, step_size))


def sampled(climb: AscentFn, num_steps: int, **run) -> Samples:
    return sample(MODEL, VARIABLES, climb, (STARTS, LABELS), num_steps=num_steps, **run)


def values(images) -> np.ndarray:
    return np.float32(images) / 255


@functools.partial(jax.jit, static_argnums=(0, 1))
def alone(optimizer, num_steps, start, label):
    own = task(models.bind(MODEL, VARIABLES), start, label)
    climb = ascent.projected_gradient_ascent(own.objective, own.projection, optimizer)
    return ascent.run(climb, start, num_steps)[0]


def one_by_one(optimizer, num_steps) -> np.ndarray:
    """The plain loop that a batch must equal."""
    return np.stack([alone(optimizer, num_steps, *row) for row in zip(STARTS, LABELS, strict=True)])


class Frames:
    """A callback that keeps the images of every step."""

    def __init__(self):
        self.steps = {}

    def __call__(self, step, images):
        self.steps.setdefault(step, []).append(images)

    def at(self, step) -> np.ndarray:
        return np.concatenate(self.steps[step])


@pytest.mark.parametrize(
    "optimizer", [steepest(L2, 0.2), optax.sgd(0.5, momentum=0.9)], ids=["l2", "momentum"]
)
def test_a_batch_equals_the_loop_over_its_images(optimizer):
    images = sampled(tasks.with_optimizer(task, optimizer), 4).images
    expected = one_by_one(optimizer, 4)
    assert_allclose(values(images), expected, atol=BYTE / 2)
    assert np.abs(expected - STARTS).max() > 0.05


class Striding(nn.Module):
    """A network that sees every other pixel."""

    @nn.compact
    def __call__(self, images):
        features = images[:, ::2, ::2].reshape(len(images), -1)
        return Outputs(nn.Dense(5)(features), features)


def keys(seed: int = 0) -> Rows:
    key = jax.random.key(seed)
    return Rows(len(STARTS), lambda rows: jnp.broadcast_to(key, rows.shape))


def changed(climb: AscentFn, *inputs) -> np.ndarray:
    """Which pixels ten steps change in any of the starts, bool (h, w)."""
    model = Striding()
    variables = model.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    samples = sample(model, variables, climb, inputs, num_steps=10, every=2)
    return np.any(samples.images != samples.starts, axis=(0, 3))


def test_a_jittered_ascent_leaves_no_grid_of_a_network_that_strides():
    assert changed(plain(0.05), STARTS, LABELS).sum() == 4
    assert changed(tasks.jittered(task, steepest(L2, 0.05), 1), keys(), STARTS, LABELS).all()


def test_a_jittered_ascent_that_does_not_shift_is_the_plain_one():
    jittered = tasks.jittered(task, steepest(L2, 0.2), 0)
    samples = sample(MODEL, VARIABLES, jittered, (keys(), STARTS, LABELS), num_steps=2)
    assert np.abs(np.int16(samples.images) - sampled(plain(0.2), 2).images).max() <= 1


def test_a_jittered_image_depends_on_its_key_and_not_on_those_beside_it():
    climb = tasks.jittered(task, steepest(L2, 0.2), 2)
    whole = sample(MODEL, VARIABLES, climb, (keys(), STARTS, LABELS), num_steps=2).images
    few = Rows(3, keys().select)
    part = sample(MODEL, VARIABLES, climb, (few, STARTS[5:8], LABELS[5:8]), num_steps=2)
    assert np.abs(np.int16(part.images) - whole[5:8]).max() <= 1
    other = sample(MODEL, VARIABLES, climb, (keys(1), STARTS, LABELS), num_steps=2).images
    assert (other != whole).any()


@pytest.mark.parametrize(
    ("num_steps", "every", "steps"),
    [(6, 2, [0, 2, 4, 6]), (6, 4, [0, 3, 6]), (7, 4, [0, 4, 7]), (4, 10, [0, 4])],
)
def test_the_callback_gets_the_start_and_every_chunk(num_steps, every, steps):
    frames = Frames()
    samples = sampled(plain(0.2), num_steps, every=every, callback=frames)
    assert sorted(frames.steps) == steps
    assert_array_equal(frames.at(0), samples.starts)
    assert_array_equal(frames.at(num_steps), samples.images)
    assert_array_equal(samples.starts, np.round(STARTS * 255))
    assert np.abs(np.int16(samples.images) - sampled(plain(0.2), num_steps).images).max() <= 1


def test_a_frame_is_the_ascent_of_so_many_steps():
    frames = Frames()
    sampled(plain(0.1), 6, every=2, callback=frames)
    assert_allclose(values(frames.at(2)), one_by_one(steepest(L2, 0.1), 2), atol=BYTE / 2)


@pytest.mark.parametrize("num_steps", [1, 5, 7])
def test_any_number_of_steps_is_taken_in_full(num_steps):
    images = sampled(plain(0.01), num_steps, every=4).images
    assert_allclose(values(images), one_by_one(steepest(L2, 0.01), num_steps), atol=BYTE / 2)


def test_an_ascent_stops_each_image_at_its_own_step():
    """Each at the first image whose log p passes the bar, so no later step moves it."""

    def cautious(classifier, start, label):
        start, inner = plain(0.1)(classifier, start, label)
        log_prob = objectives.log_prob(classifier, label)
        return start, ascent.stop_when(lambda image: log_prob(image) > -1, inner)

    stopping = Frames()
    going = Frames()
    sampled(cautious, 6, every=1, callback=stopping)
    sampled(plain(0.1), 6, every=1, callback=going)
    stages = np.stack([stopping.at(step) for step in range(7)])
    expected = np.stack([going.at(step) for step in range(7)])
    still = np.int16(stages[1:]) - stages[:-1]
    moves = np.any(still != 0, axis=(2, 3, 4))
    assert len(set(moves.sum(axis=0).tolist())) > 2
    for i, num in enumerate(moves.sum(axis=0)):
        assert moves[:num, i].all()
        last = np.minimum(np.arange(7), num)
        assert np.abs(np.int16(stages[:, i]) - expected[last, i]).max() <= 1


def test_the_probability_at_which_to_stop_is_reached_or_the_steps_are_over():
    climb = tasks.until_probability(plain(0.1), 1, 0.4)
    samples = sampled(climb, 6)
    free = sampled(plain(0.1), 6)
    p = np.exp(runner.log_prob(samples.summary.end, LABELS))
    reached = np.exp(runner.log_prob(free.summary.end, LABELS)) >= 0.4
    assert reached.any() and (p[reached] >= 0.39).all()
    assert (samples.summary.l2_moved <= free.summary.l2_moved + 0.02).all()


@pytest.mark.parametrize("shift", [0, 1])
def test_a_batch_whose_images_all_stay_takes_no_more_steps(monkeypatch, shift):
    def moving(classifier, start, label):
        return tasks.jittered(task, steepest(L2, 0.1), shift)(classifier, jax.random.key(0), start, label)

    advance, taken = runner._advance, []
    monkeypatch.setattr(runner, "_advance", lambda *given: taken.append(given[-1]) or advance(*given))
    frames = Frames()
    climb = moving if shift else plain(0.1)
    done = tasks.until_probability(climb, 1, 1e-9)
    samples = sampled(done, 6, every=1, callback=frames)
    assert taken == [1] and sorted(frames.steps) == list(range(7))
    assert_array_equal(samples.images, samples.starts)
    sampled(climb, 6, every=1)
    assert taken == [1] * 7


def test_no_steps_return_the_projected_start():
    samples = sample(MODEL, VARIABLES, plain(0.2), (3 * STARTS - 1, LABELS), num_steps=0)
    assert_array_equal(samples.images, samples.starts)
    assert_array_equal(samples.starts, np.round(np.clip(3 * STARTS - 1, 0, 1) * 255))


def test_every_frame_stays_in_the_ball():
    frames = Frames()
    samples = sampled(plain(0.5), 6, every=1, callback=frames)
    for step in range(7):
        moved = (values(frames.at(step)) - STARTS).reshape(16, -1)
        assert np.linalg.norm(moved, axis=1).max() <= RADIUS + BYTE * np.sqrt(48) / 2
    assert samples.summary.l2_moved.max() > 0.9 * RADIUS  # the set was in the way


def test_batches_of_one_shape_trace_the_task_once():
    traces = []

    def counted(classifier, start, label):
        traces.append(label)
        return task(classifier, start, label)

    climb = tasks.with_optimizer(counted, steepest(L2, 0.2))
    sampled(climb, 2, batch_size=8)
    once = len(traces)
    for shift in (1, 2):
        other = jax.tree.map(lambda leaf: leaf / 2, VARIABLES)
        inputs = (np.roll(STARTS, shift, 0), LABELS[::-1].copy())
        sample(MODEL, other, climb, inputs, num_steps=2, batch_size=8)
    assert len(traces) == once > 0


def test_a_chunk_is_compiled_once_whatever_the_optimizer_keeps():
    climb = tasks.with_optimizer(task, optax.chain(steepest(L2, lambda step: 0.1), optax.trace(0.9)))
    sampled(climb, 3, every=1)
    assert runner._advance(MODEL, climb, 1)._cache_size() == 1


@pytest.mark.parametrize("batch_size", [1, 3, 5, 40])
def test_an_image_does_not_depend_on_its_batch(batch_size):
    whole = sampled(plain(0.2), 2, batch_size=16)
    part = sampled(plain(0.2), 2, batch_size=batch_size)
    assert np.abs(np.int16(whole.images) - part.images).max() <= 1
    assert_allclose(part.summary.end.logits, whole.summary.end.logits, atol=0.02)


def test_a_batch_is_split_over_all_devices_and_rows_wrap_around():
    seen = []

    def select(rows):
        seen.append(rows)
        return STARTS[rows]

    sample(MODEL, VARIABLES, plain(0.2), (Rows(13, select), LABELS), num_steps=0, batch_size=10)
    assert [list(rows) for rows in seen] == [[*range(13), 0, 1, 2]]  # 10 is rounded up to 16


def test_inputs_of_bytes_are_decoded():
    given = RNG.integers(0, 256, (3, *SHAPE), np.uint8)
    samples = sample(MODEL, VARIABLES, plain(0.2), (given, LABELS[:3]), num_steps=0)
    assert_array_equal(samples.images, given)


def test_the_summary_is_that_of_a_linear_network_by_hand():
    model = tiny.Linear()
    given = RNG.integers(0, 256, (7, *tiny.SHAPE), np.uint8)
    labels = np.arange(7, dtype=np.int32) % 3
    variables = model.init(jax.random.key(0), np.zeros((1, *tiny.SHAPE), np.float32))

    def rise(classifier, start, label):
        return Task(start, objectives.logit(classifier, label), projections.box())

    climb = tasks.with_optimizer(rise, steepest(L2, 0.5))
    samples = sample(model, variables, climb, (given, labels), num_steps=2)
    for images, outputs in ((given, samples.summary.start), (samples.images, samples.summary.end)):
        logits = model.apply(variables, jax.vmap(decode)(images)).logits
        assert_allclose(outputs.logits, logits, atol=1e-4)
        assert_array_equal(outputs.predicted, np.argmax(logits, axis=1))
        expected = np.asarray(jax.nn.log_softmax(logits))[np.arange(7), labels]
        assert_allclose(runner.log_prob(outputs, labels), expected, atol=1e-4)
        assert_array_equal(embedding.predict(model, variables, images, 4), np.argmax(logits, axis=1))
    gap = np.float64(samples.images) - given
    assert_allclose(samples.summary.l2_moved, np.sqrt((gap**2).sum(axis=(1, 2, 3))) / 255)


# ---- in code

CODES = RNG.normal(size=(16, 6)).astype(np.float32)
MATRIX = RNG.normal(size=(48, 6)).astype(np.float32)


def coded(classifier, matrix, code, label) -> Task:
    """Of the linear generator image = 0.5 + 0.1 M code."""

    def image_of(code):
        return 0.5 + 0.1 * (matrix @ code["w"]).reshape(SHAPE)

    pixels = Task(image_of({"w": code}), objectives.log_prob(classifier, label), projections.box())
    start = {"w": code}
    return tasks.in_code(pixels, image_of, start, projections.l2_ball(start, RADIUS))


def test_a_code_climbs_as_in_the_loop_and_is_shown_as_its_image():
    climb = tasks.with_optimizer(coded, steepest(L2, 0.3))
    run = functools.partial(sample, MODEL, VARIABLES, climb, (CODES, LABELS), num_steps=4)
    samples = run(shared=(MATRIX,), keep=lambda codes: codes, batch_size=5)
    for row, code in enumerate(samples.kept["w"][:3]):
        own = coded(models.bind(MODEL, VARIABLES), MATRIX, CODES[row], LABELS[row])
        steps = ascent.projected_gradient_ascent(own.objective, own.projection, steepest(L2, 0.3))
        assert_allclose(code, ascent.run(steps, own.start, 4)[0]["w"], atol=1e-4)
    assert np.linalg.norm(samples.kept["w"] - CODES, axis=1).max() > 0.9 * RADIUS
    for images, codes in ((samples.starts, CODES), (samples.images, samples.kept["w"])):
        expected = np.clip(0.5 + 0.1 * codes @ MATRIX.T, 0, 1).reshape(-1, *SHAPE)
        assert_allclose(values(images), expected, atol=BYTE / 2)
    assert sampled(plain(0.2), 1).kept is None


def test_other_weights_of_a_generator_compile_no_program_again():
    climb = tasks.with_optimizer(coded, steepest(L2, 0.2))
    for factor in (1, 2):
        shared = (factor * MATRIX,)
        sample(MODEL, VARIABLES, climb, (CODES, LABELS), shared=shared, num_steps=2)
    assert runner._advance(MODEL, climb, 2)._cache_size() == 1


def test_no_images_are_refused():
    with refused(match="no images"):
        sample(MODEL, VARIABLES, plain(0.2), (STARTS[:0], LABELS[:0]), num_steps=1)


@pytest.mark.parametrize(
    ("platform", "dtype", "name"), [("tpu", "float32", "f32"), ("cuda", "bfloat16", "bf16")]
)
def test_a_chunk_of_a_batch_lowers_for_accelerators_as_a_loop(small, platform, dtype, name):
    _, variables = small
    model = models.create(models.Config("resnet8", 10, dtype=dtype))

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0, 0))
    def chunk(variables, start, label):
        own = task(models.bind(model, variables), start, label)
        climb = ascent.projected_gradient_ascent(own.objective, own.projection, steepest(L2, 0.2))
        return ascent.advance(climb, climb.init(start), 4)[0].point

    with jax.numpy_dtype_promotion("standard"):  # Flax's batch norm mixes dtypes
        traced = chunk.trace(variables, jnp.zeros((2, 16, 16, 3)), jnp.zeros(2, jnp.int32))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert convolutions and all(line.endswith(f"x{name}>") for line in convolutions)
    assert "stablehlo.while" in text and "f64" not in text


def test_an_image_that_becomes_nan_is_refused():
    def broken(classifier, start, label) -> Task:
        plain = task(classifier, start, label)
        return plain._replace(objective=lambda image: plain.objective(image) * jnp.nan)

    climb = tasks.with_optimizer(broken, steepest(L2, 0.1))
    with refused(match="NaN or infinity after 2 steps"):
        sample(MODEL, VARIABLES, climb, (STARTS, LABELS), num_steps=2)
