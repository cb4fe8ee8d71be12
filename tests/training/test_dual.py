"""Dual training: the schedule of the fakes in closed form, and a step that leaves batch norm alone."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax import models
from rsynth_jax.attacks import adversaries
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.synthesis import ascent, class_gaussians, objectives, tasks
from rsynth_jax.synthesis.class_gaussians import ClassGaussians
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.projections import box
from rsynth_jax.training import dual, losses
from rsynth_jax.training.classifier import Setup
from rsynth_jax.training.recipes import DualValues
from rsynth_jax.types import Outputs

RNG = np.random.default_rng(0)
SHAPE = (16, 16, 3)
IMAGES = RNG.integers(0, 256, (8, *SHAPE), np.uint8)
LABELS = np.arange(8, dtype=np.int32)
KEY = jax.random.key(0)
VALUES = DualValues(  # steps of 0.2 at 16 pixels
    contrast=5.0, fake_noise=0.0, fake_step_size=0.4, fake_stride=2, most_fake_steps=6, auc_threshold=0.7
)
SEEDS = ClassGaussians(RNG.random((10, 8, 8, 3), np.float32), 0.05 * RNG.random((10, 4, 8, 8, 3), np.float32))
optax_dtypes = functools.partial(jax.numpy_dtype_promotion, "standard")  # optax itself mixes dtypes
OPTIMIZER = optax.sgd(0.01, 0.9)


class Shallow(nn.Module):
    """One convolution, batch norm, a tanh, one linear layer."""

    @nn.compact
    def __call__(self, images):
        norm = nn.BatchNorm(use_running_average=not self.is_mutable_collection("batch_stats"))
        features = nn.tanh(norm(nn.Conv(16, (4, 4), 4)(images))).reshape(len(images), -1)
        return Outputs(nn.Dense(10)(features), features)


@pytest.fixture(scope="module")
def shallow():
    return Shallow(), Shallow().init(jax.random.key(0), jnp.zeros((1, *SHAPE)))


@functools.cache
def make_step(model, values=VALUES):
    adversary = adversaries.pgd(Threat(L2, 0.5), Steps(0.5, 1))
    setup = Setup(model, OPTIMIZER, adversary, losses.pgd(), lambda key, image: image, 0.9)
    return jax.jit(dual.make_dual_step(setup, values))


def begun(variables):
    return dual.init_state(OPTIMIZER, VALUES, (8, *SHAPE), variables)


def step(model, state, key, values=VALUES, images=IMAGES):
    with optax_dtypes():
        return make_step(model, values)(SEEDS, state, key, images, LABELS)


def test_fakes_climb_a_stride_more_when_a_full_window_is_above_the_threshold():
    num_steps, aucs, seen = jnp.int32(2), jnp.full(dual.WINDOW, jnp.nan), []
    for _ in range(4 * dual.WINDOW):
        num_steps, aucs = dual.lengthened(VALUES, num_steps, jnp.append(aucs[1:], 0.8))
        seen.append(int(num_steps))
    assert seen == [2] * (dual.WINDOW - 1) + [4] * dual.WINDOW + [6] * (2 * dual.WINDOW + 1)


def test_fakes_climb_no_more_below_the_threshold():
    num_steps, aucs = dual.lengthened(VALUES, jnp.int32(2), jnp.full(dual.WINDOW, 0.69))
    assert num_steps == 2 and (aucs == jnp.float32(0.69)).all()


@pytest.mark.slow
@given(life=st.integers(1, 6), num=st.integers(1, 12), first=st.integers(1, 50))
def test_every_place_finishes_a_fake_of_full_age_and_then_starts_the_next(life, num, first):
    values = VALUES._replace(fake_stride=3)
    each = [dual.turns(values, jnp.int32(first + t), jnp.int32(3 * life + 1), num) for t in range(2 * life)]
    new, finished = (np.stack(part) for part in zip(*each, strict=True))
    assert_array_equal(new[1:], finished[:-1])
    assert (new[:life].sum(axis=0) == 1).all() and (new[life:].sum(axis=0) == 1).all()


def test_every_place_starts_a_fake_at_the_first_step():
    new, _ = dual.turns(VALUES, jnp.int32(0), jnp.int32(6), 8)
    assert new.all()


def test_the_contrast_equals_its_formula():
    real, fake = jnp.array([2.0, -1.0]), jnp.array([0.5])
    expected = np.mean(np.log1p(np.exp([-2.0, 1.0]))) + np.log1p(np.exp(0.5))
    assert_allclose(losses.contrast(real, fake), expected, rtol=1e-6)


def test_the_energy_is_the_log_sum_exp_of_the_logits(linear):
    image = RNG.random((4, 4, 3), np.float32)
    assert_allclose(objectives.energy(linear)(image), np.log(np.sum(np.exp(linear.logits(image)))), rtol=1e-5)


@pytest.mark.slow
def test_fakes_are_what_the_sampler_makes_in_as_many_steps(shallow):
    model, variables = shallow
    advance = jax.jit(dual.make_fakes(model, VALUES))
    fakes = dual.Fakes(jnp.zeros((8, *SHAPE)), jnp.zeros(8, jnp.int32))
    for i in range(3):
        fakes = advance(SEEDS, variables, KEY, fakes, (LABELS + i) % 10, np.full(8, i == 0))

    @jax.jit
    @jax.vmap
    def sample(start, label):
        objective = objectives.logit(models.bind(model, variables), label)
        climb = ascent.projected_gradient_ascent(objective, box(), ascent.steepest(L2, 0.2))
        return ascent.run(climb, start, 6)[0]

    draw = jax.vmap(
        lambda key, label: class_gaussians.sample(jax.random.split(key, 3)[0], SEEDS, label, SHAPE)
    )
    starts = draw(jax.random.split(KEY, 8), LABELS)
    assert_array_equal(fakes.labels, LABELS)
    assert_allclose(fakes.images, sample(starts, LABELS), atol=1e-5)
    assert fakes.images.min() >= 0 and fakes.images.max() <= 1


def test_fakes_climb_in_shifted_views_where_that_is_asked_for(shallow):
    model, variables = shallow
    begun = dual.Fakes(jnp.array(np.float32(IMAGES) / 255), jnp.array(LABELS))
    old = np.full(8, False)
    plain, shifted = (
        jax.jit(dual.make_fakes(model, values))(SEEDS, variables, KEY, begun, LABELS, old).images
        for values in (VALUES, VALUES._replace(view_shift=2))
    )

    @jax.jit
    @jax.vmap
    def climbed(key, start, label):
        def task_fn(classifier, start):
            return tasks.Task(start, objectives.logit(classifier, label), box())

        keyed = tasks.jittered(task_fn, ascent.steepest(L2, 0.2), 2)
        _, climb = keyed(models.bind(model, variables), jax.random.fold_in(key, 1), start)
        return ascent.run(climb, start, 2)[0]

    assert_allclose(shifted, climbed(jax.random.split(KEY, 8), *begun), atol=1e-5)
    assert (np.abs(shifted - plain).max(axis=(1, 2, 3)) > 0.01).all()


def test_the_share_of_fakes_that_is_asked_for_starts_from_noise(shallow):
    """Class Gaussians without components are their mean, so every other start is noise."""
    model, variables = shallow
    advance = jax.jit(dual.make_fakes(model, VALUES._replace(fake_noise=0.25, fake_step_size=1e-6)))
    means, labels = (
        ClassGaussians(np.full_like(SEEDS.mean, 0.5), 0 * SEEDS.components),
        np.zeros(200, np.int32),
    )
    none = dual.Fakes(jnp.zeros((200, *SHAPE)), jnp.zeros(200, jnp.int32))
    starts = np.asarray(advance(means, variables, KEY, none, labels, np.full(200, True)).images)
    noisy = np.abs(starts - 0.5).max(axis=(1, 2, 3)) > 0.01
    assert 30 < noisy.sum() < 70
    assert_allclose([starts[noisy].mean(), starts[noisy].std()], [0.5, 12**-0.5], atol=0.01)


def test_a_step_moves_the_weights_and_leaves_batch_norm_alone(shallow):
    model, variables = shallow
    before = begun(variables)
    state, metrics = step(model, before, KEY)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before.variables, state.variables)
    assert all(jax.tree.leaves(moved["params"])) and not any(jax.tree.leaves(moved["batch_stats"]))
    assert state.step == 1 and all(np.isfinite(value) for value in metrics)
    assert_array_equal(np.isnan(state.aucs), [True] * (dual.WINDOW - 1) + [False])
    assert_array_equal(state.fakes.labels, LABELS)


def test_a_step_leaves_the_types_of_the_state_so_that_it_is_compiled_once(shallow):
    model, variables = shallow
    before = begun(variables)
    state, _ = step(model, before, KEY)
    types = (jax.tree.map(lambda leaf: (leaf.dtype, leaf.weak_type), each) for each in (before, state))
    assert next(types) == next(types)


@pytest.mark.parametrize("varied", ["real", "fake"])
def test_the_loss_sees_both_real_images_and_fakes_from_shifted_places(shallow, varied):
    """A constant image is the same from everywhere, any other is not."""
    model, variables = shallow
    constant, state = np.full_like(IMAGES, 128), begun(variables)
    places = {"real": constant, "fake": constant} | {varied: IMAGES}
    fakes = dual.Fakes(jnp.array(np.float32(places["fake"]) / 255), jnp.array(LABELS))
    train = state.train._replace(step=jnp.int32(1))  # so that no place starts a new fake
    state = state._replace(train=train, fakes=fakes, num_steps=jnp.int32(32))
    still = VALUES._replace(fake_step_size=1e-6, most_fake_steps=32)
    plain, shifted = (
        step(model, state, KEY, still._replace(view_shift=shift), places["real"])[1] for shift in (0, 2)
    )
    gaps = {
        name: abs(getattr(plain, f"{name}_energy") - getattr(shifted, f"{name}_energy")) for name in places
    }
    assert gaps.pop(varied) > 1e-3
    assert all(gap < 1e-5 for gap in gaps.values())


@pytest.mark.slow
def test_real_images_and_fakes_that_stay_seeds_are_told_apart_in_the_end(shallow):
    model, variables = shallow
    still, state, gaps = VALUES._replace(fake_step_size=1e-6, fake_stride=1), begun(variables), []
    for key in jax.random.split(KEY, 25):
        state, metrics = step(model, state, key, still, IMAGES // 4)
        gaps.append(float(metrics.real_energy - metrics.fake_energy))
    assert gaps[-1] > gaps[0] + 0.5 and metrics.auc > 0.9 and metrics.num_steps > 1


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_the_step_lowers_for_accelerators(shallow, platform):
    model, variables = shallow
    with optax_dtypes():
        traced = make_step(model).trace(SEEDS, begun(variables), KEY, IMAGES, LABELS)
        assert "convolution" in traced.lower(lowering_platforms=(platform,)).as_text()
