"""The batch size that memory allows: near what XLA takes for an image, and never more than asked."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from rsynth_jax import models
from rsynth_jax.cli import options
from rsynth_jax.models.networks import from_function
from rsynth_jax.sampling import memory, runner
from rsynth_jax.storage import releases
from rsynth_jax.synthesis import tasks
from rsynth_jax.synthesis.norms import L2


@pytest.fixture(scope="module")
def release():
    """relu(x W) v of images of 16 x 16 x 3: it keeps the signs of 100,000 units and W."""

    def function(weights, images):
        hidden = jnp.maximum(images.reshape(len(images), -1) @ weights["w"], 0)
        return jnp.tanh(hidden) @ weights["v"]

    weights = {"w": np.zeros((768, 1000), np.float32), "v": np.zeros((1000, 2), np.float32)}
    return releases.classifier(from_function(function, weights), ("cat", "dog"), tiny.SHAPE)


def test_it_counts_what_an_image_keeps_and_not_the_weights(release):
    each = memory.bytes_an_image(release.model, release.variables, release.image_shape)
    assert (
        4 * 1000 <= each <= 4 * 4 * 1000
    )  # tanh' and the mask of the ReLU, of 1,000 units; the weights have 3 MB


def test_a_network_that_keeps_nothing_takes_the_image_itself():
    network = from_function(lambda _, images: images.mean((1, 2)), ())
    assert memory.bytes_an_image(network.model, network.variables, tiny.SHAPE) == 4 * 16 * 16 * 3


@pytest.mark.slow
def test_it_is_near_what_xlas_program_takes_for_an_image(small):
    model, variables = small
    climb = tasks.with_optimizer(tasks.generate, optax.chain(L2.direction, optax.scale_by_learning_rate(1.0)))

    def temporary(num: int) -> int:
        inputs = (jnp.zeros((num, *tiny.SHAPE)), jnp.zeros(num, jnp.int32))
        state, _ = runner._begin(model, climb)((variables,), *inputs)
        program = runner._advance(model, climb, 1).lower((variables,), state, *inputs).compile()
        return program.memory_analysis().temp_size_in_bytes

    each = memory.bytes_an_image(model, variables, tiny.SHAPE)
    taken = (temporary(49) - temporary(33)) / 16  # of so many that they take more than the kernels
    assert 0.5 * each < taken < 1.5 * each, taken / each


@pytest.mark.parametrize(("free", "size"), [(0, 1), (10.1, 5), (11, 5), (1e6, 40)])
def test_half_of_the_free_memory_holds_the_batch_beside_the_weights(release, monkeypatch, free, size):
    weights = jax.device_count() * 4 * (768 * 1000 + 2 * 1000)
    each = memory.bytes_an_image(release.model, release.variables, release.image_shape)
    monkeypatch.setattr(memory, "free", lambda: 2 * weights + 1.8 * free * each)
    assert memory.batch_size(release) == size
    assert options.fitting("auto", release) == size and options.fitting(7, release) == 7


def test_there_is_free_memory_and_less_than_the_machine_has():
    assert 0 < memory.free() < 1 << 50


@pytest.mark.parametrize("version", [("memory.max", "memory.current"), memory._GROUPS[1]])
def test_the_limit_of_a_container_counts(tmp_path, version):
    assert memory._container(tmp_path) > 1 << 60
    for name, text in zip(version, ("1000\n", "400\n"), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory._container(tmp_path) == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert version[0] != "memory.max" or memory._container(tmp_path) > 1 << 60


def test_the_available_memory_of_linux_is_read(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:       2000 kB\nMemAvailable:   1500 kB\n")
    assert memory._machine(tmp_path / "meminfo") == 1500 * 1024
    assert memory._machine(tmp_path / "none") > 1 << 20


def test_a_network_of_this_package_fits_whole_on_any_machine():
    release = releases.load("cifar10")
    each = memory.bytes_an_image(models.create(releases.config_of(release)), release.variables, (32, 32, 3))
    assert 40 * each < 1 << 30
