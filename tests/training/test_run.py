"""The loop: a key for every step, a call after every step, and a pause that changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from numpy.testing import assert_array_equal

from rsynth_jax import sharding
from rsynth_jax.training import run as runs
from rsynth_jax.training.recipes import Recipe, replace
from rsynth_jax.training.run import fit
from rsynth_jax.training.state import Trainer, TrainState

KEY = jax.random.key(0)
DEVICES = sharding.over_devices(8)
BATCHES = [(np.full((8, 4, 4, 3), i, np.uint8), np.arange(8, dtype=np.int32)) for i in range(4)]


@jax.jit
def step(state, key, images, labels):
    """Add noise of the key and the mean of the batch."""
    loss = jax.random.normal(key) + jnp.mean(images.astype(jnp.float32))
    return state._replace(step=state.step + 1, variables=state.variables + loss), loss


TRAINER = Trainer(lambda variables: TrainState(jnp.int32(0), variables, (), variables), step)


def begun():
    return TRAINER.place(DEVICES, TRAINER.init(jnp.float32(0.0)))


def test_every_step_has_a_key_of_its_own_and_its_batch():
    state = fit(TRAINER, begun(), BATCHES, key=KEY, devices=DEVICES)
    expected = sum(float(jax.random.normal(jax.random.fold_in(KEY, t))) + t for t in range(4))
    assert state.step == 4
    np.testing.assert_allclose(state.variables, expected, rtol=1e-5)


def test_a_run_in_two_parts_is_the_run_in_one():
    straight = fit(TRAINER, begun(), BATCHES, key=KEY, devices=DEVICES)
    half = fit(TRAINER, begun(), BATCHES[:1], key=KEY, devices=DEVICES)
    assert_array_equal(
        fit(TRAINER, half, BATCHES[1:], key=KEY, devices=DEVICES).variables, straight.variables
    )


def test_the_callback_is_called_after_every_step_with_the_split_batch():
    calls = []

    def callback(state, number, metrics, batch):
        calls.append((int(state.step), number, batch[0].max(), len(batch[0].sharding.device_set)))

    fit(TRAINER, begun(), BATCHES, key=KEY, devices=DEVICES, callback=callback)
    assert calls == [(i + 1, i + 1, i, 8) for i in range(4)]


def test_a_network_without_batch_norm_is_trained_and_released():
    recipe = replace(
        Recipe(), architecture="linear", method="natural", epochs=1, batch_size=4, crop_padding=0
    )
    labels = np.arange(8, dtype=np.int32) % 3
    with tiny.network():
        run = runs.prepare(recipe, tiny.noise(8), labels, tiny.NAMES, num_images=8)
        batches = [(tiny.noise(4), labels[:4])] * 2
        state = fit(run.trainer, runs.start(run), batches, key=run.keys[1], devices=run.devices)
        assert runs.release(run, state).recipe["steps"] == 2
