"""The losses of an inverter: closed forms of a linear decoder, on the images that the critic sees."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tiny
from numpy.testing import assert_allclose

from rsynth_jax.images import decode
from rsynth_jax.models import critics
from rsynth_jax.models.inversion import Posterior
from rsynth_jax.training import games, gan
from rsynth_jax.training.inversion import Weights, feature_loss, make_extra
from rsynth_jax.types import Generator

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
IMAGES = RNG.integers(0, 256, (8, 8, 8, 3), np.uint8)
LABELS = np.arange(8, dtype=np.int32) % 2
MATRIX = RNG.normal(size=(3, 8, 8, 3)).astype(np.float32)
SILENT = gan.Critic(  # every score is 0
    init=lambda key, image: jnp.zeros(()),
    view=lambda image: image,
    score=lambda params, view, label: jnp.zeros(1) * params,
)


def encoder(params):
    """The mean is the representation, the deviation a parameter."""
    return lambda representation: Posterior(representation, params["deviation"] * jnp.ones(3))


def linear(params) -> Generator:
    """The image of a code is its product with a matrix."""
    return Generator(
        prior=lambda key: jax.random.normal(key, (3,)),
        code=lambda latent, condition: condition[1],
        decode=lambda code, key: jnp.tensordot(code, params["matrix"], 1),
    )


def channels(image):
    """A representation: the mean of each channel."""
    return image.mean((0, 1))


def stepped(weights: Weights, compare=lambda image: (image,)):
    """The params after one step of plain descent, and the generator's metrics."""
    setup = gan.Setup(linear, SILENT, condition=lambda image, label: (label, channels(image)))
    extra = make_extra(encoder, compare, weights)
    descent = optax.sgd(1.0)
    steps = gan.make_generator_step(setup, games.GAMES["hinge"], descent, extra)
    step = jax.jit(gan.make_gan_step(setup, steps, games.GAMES["hinge"], descent))
    params = {"matrix": MATRIX, "deviation": jnp.float32(0.5)}
    state, metrics = step(gan.init_state(steps, descent, params, jnp.float32(1)), KEY, IMAGES, LABELS)
    return state.generator.params, metrics.generator


def mirrored() -> np.ndarray:
    """The real images of the step: mirrored by its keys."""
    keys = jax.random.split(jax.random.split(jax.random.split(KEY, 2)[0], 3)[0], 8)
    return np.asarray(
        jax.vmap(lambda key, image: gan.random_flip(jax.random.split(key)[0], decode(image)))(keys, IMAGES)
    )


def test_with_the_image_loss_alone_a_step_is_that_of_least_squares():
    params, metrics = stepped(Weights(feature=0, image=2.0))
    real = mirrored()
    codes = real.mean((1, 2))
    gaps = np.tensordot(codes, MATRIX, 1) - real
    assert_allclose(metrics["generator_loss"], 2 * np.mean(gaps**2), rtol=1e-5)
    assert_allclose(metrics["image_loss"], metrics["generator_loss"])
    slope = 4 * np.tensordot(codes.T, gaps, 1) / gaps.size
    assert_allclose(params["matrix"], MATRIX - slope, rtol=1e-4, atol=1e-6)
    assert set(metrics) == {"generator_loss", "image_loss"} and params["deviation"] == 0.5


def test_the_mirrored_image_is_what_is_encoded_and_what_is_compared():
    assert (mirrored() != decode(IMAGES)).any() and (mirrored() == decode(IMAGES)).any()


def test_a_comparator_that_is_the_identity_makes_the_feature_loss_the_image_loss():
    _, metrics = stepped(Weights(feature=1.0, image=1.0))
    assert_allclose(metrics["feature_loss"], metrics["image_loss"], rtol=1e-6)


def test_the_divergence_moves_the_deviation_towards_1_by_its_slope():
    params, metrics = stepped(Weights(feature=0, image=0, kl=3.0))
    means = mirrored().mean((1, 2))
    expected = np.mean(means**2 + 0.25 - 1 - 2 * np.log(0.5)) / 2
    assert_allclose(metrics["kl_loss"], 3 * expected, rtol=1e-4)
    assert_allclose(params["deviation"], 0.5 - 3 * (0.5 - 1 / 0.5), rtol=1e-5)


def test_the_feature_loss_is_the_mean_over_the_standardized_maps_of_their_mean_squares():
    maps = lambda image: (image, 3 * image[:2, :2])  # noqa: E731
    classifier = tiny.classifier(jnp.ravel, maps=maps)
    images = np.float32(IMAGES) / 255
    compare = critics.standardized(classifier, critics.moments(classifier, images))
    first, second = ((maps(images[0])[i], maps(images[1])[i]) for i in range(2))
    expected = [
        np.mean(((a - b) / np.concatenate([maps(x)[i] for x in images]).std((0, 1))) ** 2)
        for i, (a, b) in enumerate((first, second))
    ]
    assert_allclose(feature_loss(compare, images[0], images[1]), np.mean(expected), rtol=1e-3)
