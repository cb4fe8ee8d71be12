"""The training step: it counts, learns, averages, repeats, traces once, shards, and lowers anywhere."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from numpy.testing import assert_allclose

from rsynth_jax import sharding
from rsynth_jax.attacks import adversaries
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.training import losses
from rsynth_jax.training.classifier import Setup, accuracy, make_train_step, rematerialized
from rsynth_jax.training.state import TrainState, accumulated, descent, init_state
from rsynth_jax.types import Outputs

RNG = np.random.default_rng(7)
IMAGES = RNG.integers(0, 256, (16, 16, 16, 3), np.uint8)
LABELS = np.arange(16, dtype=np.int32) % 10
KEY = jax.random.key(0)
TINY = tiny.ONE_BLOCK(num_classes=10)  # quick to compile
OPTIMIZER = optax.sgd(0.05, momentum=0.9)


class Bare(nn.Module):
    """Logits of the pixels, without batch norm."""

    @nn.compact
    def __call__(self, images):
        features = nn.relu(nn.Dense(8)(images.reshape(len(images), -1)))
        return Outputs(nn.Dense(10)(features), features)


def make_step(model, adversary, loss):
    return jax.jit(make_train_step(Setup(model, OPTIMIZER, adversary, loss, lambda key, image: image, 0.9)))


def negative(key, classifier, image, label):
    """An adversary that costs nothing, and whose pass cannot be shared with the clean one."""
    return 1 - image


@pytest.fixture(scope="module")
def small():
    return TINY, TINY.init(jax.random.key(0, impl="rbg"), jnp.zeros((1, 16, 16, 3)))


@pytest.fixture(scope="module")
def fresh(small):
    """The state before the first step, to be donated."""
    return init_state(OPTIMIZER, small[1])


@pytest.fixture(scope="module")
def start(small):
    """The state before the first step."""
    _, variables = small
    return TrainState(jnp.array(0), variables, OPTIMIZER.init(variables["params"]), variables)


@pytest.fixture(scope="module")
def natural(small):
    return make_step(small[0], adversaries.identity(), losses.natural())


@pytest.fixture(scope="module")
def robust(small):
    return make_step(small[0], adversaries.pgd(Threat(L2, 0.5), Steps(0.4, 1)), losses.pgd())


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def pairs(one, other):
    return zip(leaves(one), leaves(other), strict=True)


def test_a_step_counts_and_moves_every_parameter_and_running_statistic(natural, start):
    state, _ = natural(start, KEY, IMAGES, LABELS)
    assert start.step == 0 and state.step == 1 and state.step.dtype == jnp.int32
    assert all((new != old).any() for old, new in pairs(start.variables, state.variables))


def test_the_first_loss_is_that_of_the_initial_network_in_training_mode(natural, start, small):
    outputs, _ = small[0].apply(start.variables, np.float32(IMAGES / 255), mutable=["batch_stats"])
    _, metrics = natural(start, KEY, IMAGES, LABELS)
    assert_allclose(metrics.loss, losses.natural()(outputs.logits, None, LABELS), rtol=1e-4)
    assert_allclose(metrics.adversarial_accuracy, np.mean(np.argmax(outputs.logits, -1) == LABELS))


def test_the_loss_falls_over_twenty_steps_on_one_batch(natural, start):
    state, values = start, []
    for key in jax.random.split(KEY, 20):
        state, metrics = natural(state, key, IMAGES, LABELS)
        values.append(float(metrics.loss))
    assert values[-1] < 0.2 * values[0] and metrics.adversarial_accuracy == 1


def test_the_same_key_and_state_give_the_same_bytes_and_another_key_others(robust, start):
    one, same, other = (robust(start, jax.random.key(s), IMAGES, LABELS) for s in (0, 0, 1))
    assert all(a.tobytes() == b.tobytes() for a, b in pairs(one, same))
    assert any((a != b).any() for a, b in pairs(one, other))


def test_every_image_has_a_key_of_its_own(fresh):
    seen = []

    def spy(key, classifier, image, label):
        jax.debug.callback(lambda data: seen.append(tuple(data.tolist())), jax.random.key_data(key))
        return image

    jax.block_until_ready(make_step(TINY, spy, losses.natural())(fresh, KEY, IMAGES, LABELS))
    jax.effects_barrier()
    assert len(seen) == len(set(seen)) == 16


def test_the_step_traces_once(fresh):
    traces = []

    def counting(key, classifier, image, label):
        traces.append(1)
        return image

    step, state = make_step(TINY, counting, losses.natural()), fresh
    for key in jax.random.split(KEY, 3):
        state, _ = step(state, key, IMAGES, LABELS)
    assert len(traces) == 1


def test_the_running_statistics_are_those_of_the_adversarial_images(fresh):
    state, _ = make_step(TINY, negative, losses.natural())(fresh, KEY, IMAGES, LABELS)
    adversarial = 1 - np.float32(IMAGES) / 255
    _, updates = TINY.apply(fresh.variables, adversarial, mutable=["batch_stats"])
    for new, expected in pairs(state.variables["batch_stats"], updates["batch_stats"]):
        assert_allclose(new, expected, rtol=1e-4, atol=1e-6)


def test_the_step_averages_the_new_variables_with_the_decay_of_a_young_run(natural, start):
    state, _ = natural(start, KEY, IMAGES, LABELS)
    for average, old, new in zip(*map(leaves, (state.ema, start.ema, state.variables)), strict=True):
        assert_allclose(average, 0.1 * old + 0.9 * new, rtol=1e-5, atol=1e-6)


def test_a_loss_that_ignores_the_clean_logits_does_not_pay_for_them(fresh):
    def flops(loss):
        compiled = make_step(TINY, negative, loss).lower(fresh, KEY, IMAGES, LABELS).compile()
        return compiled.cost_analysis()["flops"]

    assert flops(losses.pgd()) < 0.6 * flops(losses.trades(6.0))


def test_eight_devices_compute_what_one_does(robust, start):
    one, metrics = robust(start, KEY, IMAGES, LABELS)
    devices = sharding.over_devices(len(IMAGES))
    state, key = devices.place((start, KEY))
    eight, sharded_metrics = robust(state, key, *devices.split((IMAGES, LABELS)))
    assert len(eight.step.devices()) == jax.device_count() == 8
    assert_allclose(sharded_metrics.loss, metrics.loss, rtol=1e-5)
    for a, b in pairs(one.variables, eight.variables):
        assert_allclose(b, a, rtol=1e-4, atol=1e-5)


def test_rematerialization_computes_layers_again_and_takes_the_same_step(start, robust):
    setup = Setup(
        TINY,
        OPTIMIZER,
        adversaries.pgd(Threat(L2, 0.5), Steps(0.4, 1)),
        losses.pgd(),
        lambda key, image: image,
        0.9,
    )
    again = jax.jit(make_train_step(setup._replace(keep=rematerialized)))
    for a, b in pairs(robust(start, KEY, IMAGES, LABELS), again(start, KEY, IMAGES, LABELS)):
        assert_allclose(b, a, rtol=1e-4, atol=1e-6)
    text = again.trace(start, KEY, IMAGES, LABELS).lower(lowering_platforms=("tpu",)).as_text()
    plain = robust.trace(start, KEY, IMAGES, LABELS).lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("stablehlo.convolution") > plain.count("stablehlo.convolution")


def test_parts_of_a_batch_give_the_mean_of_their_gradients():
    def loss(params, batch_stats, x, y):
        slopes = jnp.mean((params * x - y) ** 2)
        return slopes, (batch_stats + jnp.mean(x), jnp.mean(y))

    x, y = (jnp.array(RNG.normal(size=16), jnp.float32) for _ in range(2))
    whole = descent(loss)(jnp.float32(0.5), jnp.float32(2), x, y)
    for num in (2, 4, 16):
        parts = jax.jit(accumulated(descent(loss), num))(jnp.float32(0.5), jnp.float32(2), x, y)
        for a, b in pairs(whole, parts):
            assert_allclose(b, a, rtol=1e-5)


@pytest.mark.slow
def test_a_step_in_parts_perturbs_each_image_as_the_whole_step_does(start):
    model, key = Bare(), jax.random.key(1)
    variables = model.init(key, jnp.zeros((1, 16, 16, 3))) | {"batch_stats": {}}
    state = TrainState(jnp.array(0), variables, OPTIMIZER.init(variables["params"]), variables)
    noise = adversaries.pgd(Threat(L2, 0.5), Steps(0.4, 2))
    setup = Setup(model, OPTIMIZER, noise, losses.pgd(), lambda key, image: image, 0.9)
    whole, parts = (jax.jit(make_train_step(setup._replace(num_parts=num))) for num in (1, 4))
    for a, b in pairs(whole(state, KEY, IMAGES, LABELS), parts(state, KEY, IMAGES, LABELS)):
        assert_allclose(b, a, rtol=1e-4, atol=1e-6)
    program = parts.trace(state, KEY, IMAGES, LABELS).lower(lowering_platforms=("tpu",)).as_text()
    assert "stablehlo.while" in program


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_the_step_lowers_for_accelerators_with_the_attack_as_a_loop(small, start, platform):
    step = make_step(small[0], adversaries.pgd(Threat(L2, 0.5), Steps(0.1, 7)), losses.pgd())
    program = step.trace(start, KEY, IMAGES, LABELS).lower(lowering_platforms=(platform,)).as_text()
    assert "stablehlo.while" in program


def test_accuracy_is_the_share_of_rows_whose_largest_logit_is_the_labels():
    assert accuracy(jnp.eye(4), jnp.array([0, 1, 2, 0])) == 0.75
