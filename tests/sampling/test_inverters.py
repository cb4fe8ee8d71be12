"""A learned inverter on whole arrays: one pass, rounds, few activations, draws, and the ascent after it."""

import jax
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax import models
from rsynth_jax.images import decode, encode
from rsynth_jax.models import embedding
from rsynth_jax.sampling import inverters, samplers

IMAGES = tiny.noise(3)


@pytest.fixture(scope="module")
def release(tmp_path_factory, networks):
    return tiny.release(tmp_path_factory.mktemp("c") / "c.safetensors", tiny.NAMES)


@pytest.fixture(scope="module")
def inverter(tmp_path_factory, release):
    return tiny.inverter(tmp_path_factory.mktemp("i") / "i.safetensors", release)


@pytest.fixture(scope="module")
def once(release, inverter):
    return inverters.invert_by(release, inverter, IMAGES)


def test_one_pass_is_the_decoder_of_the_code_of_the_representation(release, inverter, once):
    classifier, bound = models.bind(release.model, release.variables), inverter.generator

    def made(image):
        code = bound.code(np.float32(0), (0, classifier.features(decode(image))))
        return encode(bound.decode(code, jax.random.key(0)))

    expected = jax.jit(jax.vmap(made))(IMAGES)
    assert np.abs(np.int16(once.images) - expected).max() <= 1
    outputs = [
        embedding.embed_images(release.model, release.variables, each, 3) for each in (IMAGES, once.images)
    ]
    gaps = np.linalg.norm(outputs[1].features - outputs[0].features, axis=1)
    assert_allclose(once.distance, gaps / np.linalg.norm(outputs[0].features, axis=1), rtol=1e-4)
    assert_array_equal(once.predicted, outputs[1].predicted)
    assert_array_equal(once.predicted_given, outputs[0].predicted)


def test_round_0_is_the_one_pass_and_each_round_inverts_the_last(release, inverter, once):
    found = inverters.reencode(release, inverter, IMAGES, rounds=3)
    assert found.images.shape == (3, 3, *tiny.SHAPE) and found.distance.shape == (3, 3)
    assert_array_equal(found.images[:, 0], once.images)
    assert_array_equal(found.distance[:, 0], once.distance)
    again = inverters.invert_by(release, inverter, found.images[:, 1])
    assert_array_equal(found.images[:, 2], again.images)


def test_all_activations_are_the_plain_pass_and_fewer_are_not(release, inverter, once):
    assert_array_equal(inverters.invert_by(release, inverter, IMAGES, strongest=64).images, once.images)
    few = inverters.invert_by(release, inverter, IMAGES, strongest=1)
    assert (few.images != once.images).any()


def test_an_image_does_not_depend_on_its_batch(release, inverter, once):
    part = inverters.invert_by(release, inverter, IMAGES[1:], batch_size=1)
    assert np.abs(np.int16(part.images) - once.images[1:]).max() <= 1


def test_the_ascent_begins_at_the_result_of_one_pass_and_comes_nearer(release, once):
    found = samplers.invert_from(release, IMAGES, once.images, smoothness_weight=0.0, num_steps=3)
    assert_array_equal(found.starts, once.images)
    assert_allclose(found.distance_start, once.distance, rtol=1e-4)
    assert (found.distance < found.distance_start).all()
    assert_array_equal(found.predicted_given, once.predicted_given)


def test_a_draw_depends_on_its_seed_and_number_alone(tmp_path, release):
    variational = tiny.inverter(tmp_path / "v.safetensors", release, latent_size=2)
    drawn = inverters.decode_prior(variational, 3, seed=5)
    assert drawn.shape == (3, *tiny.SHAPE) and (drawn[0] != drawn[1]).any()
    assert (
        np.abs(np.int16(inverters.decode_prior(variational, 2, seed=5, batch_size=1)) - drawn[:2]).max() <= 1
    )
    assert (inverters.decode_prior(variational, 3, seed=6) != drawn).any()


def test_a_map_is_inverted_too(tmp_path, release):
    inverter = tiny.inverter(tmp_path / "m.safetensors", release, "maps:0")
    assert len(inverter.config.shape) == 3
    found = inverters.invert_by(release, inverter, IMAGES, strongest=7)
    assert found.images.shape == IMAGES.shape


def test_what_cannot_be_inverted_is_refused(release, inverter, once):
    with refused(match="^the inverter makes images of 16 x 16 x 3, these are 8 x 8 x 3: give its size$"):
        inverters.invert_by(release, inverter, IMAGES[:, ::2, ::2])
    with refused(match="^strongest is 0"):
        inverters.invert_by(release, inverter, IMAGES, strongest=0)
    num = np.prod(inverter.config.shape)
    with refused(match=f"^strongest is {num + 1}: the representation has {num} activations$"):
        inverters.invert_by(release, inverter, IMAGES, strongest=int(num) + 1)
    with refused(match="^rounds is 0"):
        inverters.reencode(release, inverter, IMAGES, 0)
    with refused(match="^no images"):
        inverters.invert_by(release, inverter, IMAGES[:0])
    with refused(match="^this inverter is not variational"):
        inverters.decode_prior(inverter)
    with refused(match="^the inverter reads representations of "):
        inverters.invert_by(release._replace(class_names=("a", "b", "c")), inverter, IMAGES)
    with refused(match="^starts of shape .* do not fit images of shape"):
        samplers.invert_from(release, IMAGES, once.images[:2])
