"""Eight simulated devices and strict dtypes for every test, and the classifiers that several files share."""

import atexit
import gc
import os
import signal
import tempfile

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from rsynth_jax import models
from rsynth_jax.types import Classifier

os.environ["XLA_FLAGS"] = (  # tests compile much and compute little, and these compile twice as fast
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1"
)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")

if "RSYNTH_TESTS_CACHE" not in os.environ:  # many tests compile the same program: the workers share them
    CACHE = tempfile.TemporaryDirectory(prefix="rsynth-tests-")
    atexit.register(CACHE.cleanup)
    os.environ["RSYNTH_TESTS_CACHE"] = CACHE.name
jax.config.update("jax_compilation_cache_dir", os.environ["RSYNTH_TESTS_CACHE"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

gc.set_threshold(200_000, 20, 10_000)  # tracing makes much garbage and few cycles

hypothesis.settings.register_profile("laws", deadline=None, max_examples=30, derandomize=True)
hypothesis.settings.load_profile("laws")


@pytest.fixture(scope="session")
def linear() -> Classifier:
    """logits = W x + b and features = W x, for images of 4 x 4 x 3 and 5 classes."""
    rng = np.random.default_rng(0)
    weights = jnp.array(rng.normal(size=(5, 48)), jnp.float32)
    bias = jnp.array(rng.normal(size=5), jnp.float32)
    return tiny.classifier(
        logits=lambda image: weights @ image.ravel() + bias, features=lambda image: weights @ image.ravel()
    )


@pytest.fixture(scope="session")
def small() -> tuple:
    """(model, variables) of an untrained resnet8 for images of 16 x 16 x 3 and 10 classes."""
    model = models.create(models.Config("resnet8", 10))
    key = jax.random.key(0, impl="rbg")  # compiles three times faster than the default
    return model, jax.jit(model.init)(key, jnp.zeros((1, 16, 16, 3)))


@pytest.fixture
def mistake(monkeypatch, capsys):
    """Calls a program's main, which ends with status 2 and prints one line, on standard error: that line."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(os, "environ", dict(os.environ))

    def call(main, *arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["program", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        printed = capsys.readouterr()
        assert stopped.value.code == 2 and printed.out == "" and printed.err.count("\n") == 1
        return printed.err

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def networks():
    """Meanwhile there are the networks of tiny.py."""
    with tiny.network():
        yield


def pytest_collection_modifyitems(items):
    """Run the training programs first: they take longest, and no worker is to wait for another at the end."""
    items.sort(key=lambda item: "tests/train/" not in item.nodeid)
