"""Every task in the codes of a generator, on whole arrays: a result is the generator's image of its code."""

import jax
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax import models, seeds
from rsynth_jax.images import decode
from rsynth_jax.models import embedding
from rsynth_jax.sampling import codes, measures, runner
from rsynth_jax.synthesis import objectives

IMAGES = tiny.noise(3)
HOLE = np.zeros((*tiny.SHAPE[:2], 1), np.float32)
HOLE[4:12, 4:12] = 1


@pytest.fixture(scope="module")
def release(tmp_path_factory, networks):
    return tiny.release(tmp_path_factory.mktemp("release") / "c.safetensors", tiny.NAMES)


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return tiny.generator(tmp_path_factory.mktemp("generator") / "g.safetensors", tiny.NAMES)


@pytest.fixture(scope="module")
def projected(release, generator):
    return codes.project(release, generator, IMAGES, truncation=0.1, num_steps=2)


def mean_code(generator, label) -> np.ndarray:
    return np.tile(generator.mean_styles[label], (generator.config.num_layers, 1))


def distances(generator) -> np.ndarray:
    return np.asarray(codes._space(generator).distances)


def images_of(generator, found, noise_keys) -> np.ndarray:
    """The generator's images of codes, (n, h, w, c)."""
    return np.clip(jax.jit(jax.vmap(generator.generator.decode))(found, noise_keys), 0, 1)


def keys_of(num, seed=0):
    return jax.vmap(lambda i: jax.random.fold_in(seeds.key(seed), i))(np.arange(num))


def gap(images, values) -> float:
    return np.abs(images / 255 - values).max()


# ---- projection


@pytest.mark.slow
def test_a_projection_resembles_its_image_more_than_the_mean_code_does(release, generator, projected):
    network = (release.model, release.variables)
    start, end = (
        measures.resemblance(*network, images, IMAGES) for images in (projected.starts, projected.images)
    )
    cost = [each.rmse**2 + 0.05 * each.perceptual for each in (start, end)]
    assert (cost[1] < cost[0]).all()
    assert_array_equal(projected.labels, embedding.embed_images(*network, IMAGES, 3).predicted)


def test_a_result_is_the_image_of_its_code_inside_the_ball_around_the_mean(release, generator, projected):
    assert projected.kept.shape == (3, 4, 8)
    assert gap(projected.images, images_of(generator, projected.kept, keys_of(3))) <= 0.51 / 255
    centers = np.stack([mean_code(generator, label) for label in projected.labels])
    assert gap(projected.starts, images_of(generator, centers, keys_of(3))) <= 0.51 / 255
    moved = np.linalg.norm((projected.kept - centers).reshape(3, -1), axis=1)
    assert (moved <= 0.1 * distances(generator)[projected.labels] * (1 + 1e-4)).all()
    assert moved.max() > 0.09 * distances(generator).min()


def test_an_image_depends_on_its_seed_and_number_alone(release, generator, projected):
    others = np.stack([*IMAGES[:2], IMAGES[0]])  # as many: the program is compiled already
    found = codes.project(release, generator, others, truncation=0.1, num_steps=2)
    assert_array_equal(found.images[:2], projected.images[:2])


def test_distances_are_those_of_drawn_codes(generator):
    bound = generator.generator
    latents = jax.vmap(bound.prior)(jax.random.split(jax.random.key(1), 500))
    for label, distance in enumerate(distances(generator)):
        drawn = jax.vmap(bound.code, (0, None))(latents, np.int32(label))
        own = np.linalg.norm((drawn - mean_code(generator, label)).reshape(500, -1), axis=1)
        assert_allclose(distance, np.sqrt(np.mean(own**2)), rtol=0.1)


# ---- generation


@pytest.mark.slow
def test_generation_starts_at_the_generators_own_draws_and_truncates_them(release, generator):
    drawn = []
    for label, number in np.int32([(2, 0), (2, 1), (1, 0), (1, 1)]):
        own = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), label), number)
        latent_key, noise_key = jax.random.split(own)
        drawn.append((generator.generator.code(generator.generator.prior(latent_key), label), noise_key))
    found, noise_keys = np.stack([code for code, _ in drawn]), jax.numpy.stack([key for _, key in drawn])
    means = np.stack([mean_code(generator, label) for label in (2, 2, 1, 1)])
    for psi in (1.0, 0.5):
        samples = codes.generate_in_code(release, generator, ["dog", "cat"], 2, truncation=psi, num_steps=0)
        assert_array_equal(samples.labels, [2, 2, 1, 1])
        assert_allclose(samples.kept, means + psi * (found - means), atol=1e-5)
        assert gap(samples.images, images_of(generator, samples.kept, noise_keys)) <= 0.51 / 255


@pytest.mark.slow
def test_generation_climbs_what_the_classifier_calls_the_class(release, generator):
    samples = codes.generate_in_code(release, generator, "cat", 3, num_steps=2)
    logits = [outputs.logits[:, 1] for outputs in (samples.summary.start, samples.summary.end)]
    assert (logits[1] > logits[0]).all()


# ---- counterfactuals


@pytest.mark.slow
def test_a_counterfactual_starts_at_the_projection_and_stops_at_the_probability(
    release, generator, projected
):
    p = np.exp(runner.log_prob(projected.summary.end, np.full(3, 2)))
    until = float(np.sort(p)[:2].mean())  # the lowest is below
    samples = codes.translate_in_code(
        release, generator, IMAGES, "dog", codes=projected.kept, until=until, num_steps=2
    )
    assert np.abs(np.int16(samples.starts) - projected.images).max() <= 1
    ends = np.exp(runner.log_prob(samples.summary.end, samples.labels))
    assert_array_equal(samples.kept[p > until], projected.kept[p > until])
    assert (p > until).sum() == 2 and (ends[p < until] > p[p < until]).all()


def test_without_codes_it_projects_first(release, generator, projected, monkeypatch):
    steps = []
    monkeypatch.setattr(codes, "project", lambda *_, **run: steps.append(run["callback"]) or projected)
    samples = codes.translate_in_code(
        release, generator, IMAGES, "dog", num_steps=0, callback=lambda step, _: steps.append(step)
    )
    assert_array_equal(samples.kept, projected.kept)
    assert steps == [None, 0]


# ---- inpainting


@pytest.mark.slow
def test_inpainting_keeps_the_known_pixels_and_fills_the_hole_with_the_generators(release, generator):
    samples = codes.inpaint_in_code(release, generator, IMAGES, HOLE, "dog", num_steps=2)
    known = np.broadcast_to(HOLE == 0, IMAGES.shape)
    assert_array_equal(samples.images[known], IMAGES[known])
    made = images_of(generator, samples.kept, keys_of(3))
    assert np.abs(samples.images / 255 - made)[~known].max() <= 0.51 / 255


@pytest.mark.slow
def test_inpainting_climbs_the_class_and_the_known_pixels(release, generator):
    start, end = (
        codes.inpaint_in_code(release, generator, IMAGES, HOLE, "dog", num_steps=num_steps).kept
        for num_steps in (0, 2)
    )
    values = []
    for found in (start, end):
        made = images_of(generator, found, keys_of(3))
        known = np.mean((1 - HOLE) * (made - IMAGES / 255) ** 2, axis=(1, 2, 3))
        bound = models.bind(release.model, release.variables)
        log_p = jax.vmap(objectives.log_prob(bound, 2))(made)
        values.append(log_p - 100 * known)
    assert (values[1] > values[0]).all()


# ---- what does not fit


def test_what_does_not_fit_is_refused_in_one_line(release, generator):
    others = generator._replace(class_names=("cat", "cow", "dog"))
    with refused(match="the generator makes cat, cow, dog, the classifier knows airplane, cat, dog"):
        codes.project(release, others, IMAGES)
    larger = release._replace(image_shape=(32, 32, 3))
    with refused(match="the generator makes images of 16 x 16 x 3, the classifier is for 32 x 32 x 3"):
        codes.generate_in_code(larger, generator, "cat", 1)
    with refused(match="the generator makes images of 16 x 16 x 3, these are 8 x 8 x 3"):
        codes.inpaint_in_code(release, generator, IMAGES[:, :8, :8])
    with refused(match=r"codes of shape \(2, 4, 8\) are not those of the images: give \(3, 4, 8\)"):
        codes.translate_in_code(release, generator, IMAGES, "dog", codes=np.zeros((2, 4, 8)))
    with refused(match="until is 1.5"):
        codes.translate_in_code(release, generator, IMAGES, "dog", until=1.5)
    with refused(match="truncation is -1"):
        codes.project(release, generator, IMAGES, truncation=-1.0)
    with refused(match="no class 'cow'"):
        codes.generate_in_code(release, generator, "cow")


def test_resemblance_is_zero_for_the_image_itself_and_known_for_the_pixels(release):
    network = (release.model, release.variables)
    same = measures.resemblance(*network, IMAGES, IMAGES)
    assert_allclose(np.stack(same), np.zeros((2, 3)), atol=1e-6)
    found = measures.resemblance(*network, IMAGES, IMAGES[::-1], batch_size=2)
    flat = np.square(IMAGES / 255 - IMAGES[::-1] / 255).mean(axis=(1, 2, 3))
    assert_allclose(found.rmse, np.sqrt(flat), rtol=1e-4)
    bound = models.bind(release.model, release.variables)
    alike = objectives.perceptual(bound, decode(IMAGES[2]))(decode(IMAGES[0]))
    assert_allclose(found.perceptual[0], -alike, rtol=1e-3)
