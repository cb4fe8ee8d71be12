"""Before a training: what fits into a time, and which features separate classes."""

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from tiny import refused

from rsynth_jax.models import embedding
from rsynth_jax.storage import release_files
from rsynth_jax.training import planning
from rsynth_jax.training.state import Trainer, TrainState


def test_a_plan_fills_the_time_and_evaluates_in_equal_parts_of_it():
    rng = np.random.default_rng(0)
    for steps, epoch, evaluation in rng.integers(1, (5000, 100, 200), (200, 3)).tolist():
        plan = planning.fitted(steps, epoch, evaluation)
        num = -(-plan.num_epochs // plan.judge_every)
        spent = plan.num_epochs * epoch + num * evaluation
        assert spent <= steps or plan.num_epochs == 0
        assert num <= 10 and (num <= 1 or num * evaluation <= 0.2 * steps)
        if steps >= epoch + evaluation:
            assert plan.num_epochs >= 1
    assert planning.fitted(1000, 9, 5) == planning.Plan(num_epochs=105, judge_every=11)
    assert planning.fitted(10, 9, 5).num_epochs == 0


def test_the_accuracy_of_the_nearest_class_mean_leaves_each_image_out_of_its_own():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 4], (8, 5, 3)))
    features = rng.normal(size=(16, 2)) + 1.2 * labels[:, None]
    scaled = features / features.std(axis=0)
    right = np.zeros(16)
    for i in range(16):
        kept = np.arange(16) != i
        means = [scaled[kept & (labels == label)].mean(axis=0) for label in (0, 1, 4)]
        right[i] = (0, 1, 4)[np.argmin([np.sum((scaled[i] - mean) ** 2) for mean in means])] == labels[i]
    expected = np.mean([right[labels == label].mean() for label in (0, 1, 4)])
    assert planning.separation(features, labels) == pytest.approx(expected) and 0.4 < expected < 1


def test_the_nearest_classifier_has_the_features_that_separate_best(tmp_path, monkeypatch, networks):
    linear = tiny.release(tmp_path / "linear.safetensors", tiny.NAMES, "linear")
    other = tiny.release(tmp_path / "tiny.safetensors", tiny.NAMES)
    images, labels = tiny.noise(24), np.arange(24) % 2
    files = {name: str(tmp_path / f"{name}.safetensors") for name in ("linear", "tiny")}
    monkeypatch.setattr(release_files, "available", lambda kind: list(files.values()))
    found = {
        files[name]: planning.separation(
            embedding.embed_images(each.model, each.variables, images, 8).features, labels
        )
        for name, each in {"linear": linear, "tiny": other}.items()
    }
    name = max(found, key=found.get)
    assert len(set(found.values())) == 2
    assert planning.nearest(images, labels) == (name, pytest.approx(found[name], abs=0.1))
    with refused(match=r"^no released classifier here has images of 8 x 8 x 3, but of 16 x 16: give --start"):
        planning.nearest(images[:, :8, :8], labels)


def test_steps_are_timed_on_a_copy_of_the_state(monkeypatch):
    monkeypatch.setattr(planning, "_SECONDS", 0.0)
    state = TrainState(jnp.zeros((), jnp.int32), jnp.ones(3), (), jnp.ones(3))
    taken = []

    def step(state, key, images):
        taken.append(int(state.step))
        for leaf in (state.variables, state.ema):
            leaf.delete()  # as a step that takes over the buffers
        return TrainState(state.step + 1, jnp.ones(3), (), jnp.ones(3)), images

    first, rest = planning.seconds_a_step(Trainer(lambda _: state, step), state, (jnp.zeros(2),), None)
    assert taken == [0, 1, 2, 3, 4] and first > 0 and rest > 0
    assert_array_equal(state.variables, np.ones(3))
