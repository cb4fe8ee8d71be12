"""Path length and separability of a generator: what they are of, and of what they are independent."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose

from rsynth_jax.metrics import path_length as lengths
from rsynth_jax.sampling import generator_measures
from rsynth_jax.sampling.generator_measures import Distance, in_w, in_z, path_length, separability
from rsynth_jax.sampling.generators import draw

pytestmark = pytest.mark.usefixtures("networks")
SQUARED = Distance((), lambda _, image, other: jnp.sum((image - other) ** 2))
length_of = functools.partial(path_length, distance=SQUARED, num=24, batch_size=8, epsilon=1e-2)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return tiny.generator(tmp_path_factory.mktemp("generator") / "g.safetensors")


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return tiny.release(tmp_path_factory.mktemp("judge") / "c.safetensors", tiny.NAMES, "linear")


@pytest.mark.slow
def test_the_end_of_a_path_is_its_length_at_the_first_code(release):
    """By hand, way after way, at t = 0."""

    def length(i: int) -> float:
        first, last, _, noise = jax.random.split(jax.random.fold_in(jax.random.key(3), i), 4)
        generator = release.generator
        a, b = (generator.code(generator.prior(key), jnp.array(i % 3)) for key in (first, last))
        images = [generator.decode(lengths.lerp(a, b, t), noise) for t in (0.0, 1e-2)]
        return float(jnp.sum((images[0] - images[1]) ** 2)) / 1e-4

    found = length_of(release, longest=0.0, seed=3, num=3)
    assert found == pytest.approx(lengths.estimate_length(np.array(list(map(length, range(3))))), rel=1e-2)


@pytest.mark.slow
def test_a_distance_n_times_as_long_makes_paths_n_times_as_long(release):
    triple = Distance(jnp.float32(3), lambda weight, *pair: weight * SQUARED.between((), *pair))
    assert length_of(release, distance=triple).value == pytest.approx(3 * length_of(release).value, rel=1e-4)


@pytest.mark.slow
def test_the_ways_in_z_and_in_w_differ_and_both_have_an_interval(release):
    found = [length_of(release, way=way) for way in (in_w, in_z)]
    assert all(0 < each.low < each.value < each.high for each in found)
    assert found[0].value != pytest.approx(found[1].value, rel=0.01)


def test_a_generator_of_one_image_has_no_length(release):
    """Its styles scale no weight: every affine layer has weights of 0."""

    def flat(path, leaf):
        return np.zeros_like(leaf) if path[-2].key == "style" and path[-1].key == "kernel" else leaf

    still = release._replace(variables=jax.tree_util.tree_map_with_path(flat, release.variables))
    assert_allclose(length_of(still), 0, atol=1e-6)


def test_the_distance_over_a_classifiers_maps_is_0_at_the_image_itself(tmp_path):
    distance = generator_measures.classifier_distance(tiny.release(tmp_path / "c.safetensors", tiny.NAMES))
    image, other = (jnp.float32(each) / 255 for each in tiny.noise(2))
    assert distance.between(distance.weights, image, image) == 0
    assert distance.between(distance.weights, image, other) > 0.01


@pytest.mark.slow
def test_a_class_that_the_style_alone_tells_is_linear_in_w_and_hidden_from_z(release, judge):
    """Neither the latent nor the noise reaches the image, and the judge knows the image of each class."""

    def only_the_class(path, leaf):
        names = [each.key for each in path]
        latent = names[-2:] == ["mapping_0", "kernel"]
        return (
            np.where(np.arange(len(leaf))[:, None] < 8, 0, leaf) if latent else leaf * (names[-1] != "noise")
        )

    variables = jax.tree_util.tree_map_with_path(only_the_class, release.variables)
    told = release._replace(variables=variables)
    images = draw(told, num=1).images.reshape(3, -1).astype(np.float32) / 255
    nearest = {"kernel": images.T, "bias": -np.sum(images**2, axis=1) / 2}
    knowing = judge._replace(variables={"params": {"Dense_0": nearest}})
    found = separability(told, knowing, num=96, batch_size=16)
    assert found.w == pytest.approx((1, 1, 1)) and found.z.value > 1.5


def test_two_classes_are_one_attribute_and_more_one_each():
    assert_allclose(generator_measures._margins(np.array([[3.0, 1], [0, 2]])), [[2], [-2]])
    assert_allclose(generator_measures._margins(np.array([[3.0, 1, 2]])), [[1, -2, -1]])


@pytest.mark.slow
def test_measures_depend_on_the_seed_not_on_the_batch(release, judge):
    ones = [separability(release, judge, num=32, batch_size=size, seed=1) for size in (8, 16)]
    assert_allclose(ones[0], ones[1], atol=1e-6)
    assert length_of(release, batch_size=16).value == pytest.approx(length_of(release).value, rel=1e-3)
    assert length_of(release, seed=1).value != pytest.approx(length_of(release).value, rel=1e-3)
