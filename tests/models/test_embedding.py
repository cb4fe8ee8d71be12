"""Features of many images: each image its own, whatever the batches; the digest of what was seen."""

import hashlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose
from tiny import refused

from rsynth_jax.models import embedding
from rsynth_jax.types import Outputs

IMAGES = np.random.default_rng(0).integers(0, 256, (13, 4, 5, 3), np.uint8)

MODEL = tiny.Linear()
VARIABLES = MODEL.init(jax.random.key(0), jnp.zeros((1, 4, 5, 3)))


def embed(images, batch_size=4):
    return embedding.embed(MODEL, VARIABLES, embedding.in_batches(images, batch_size), batch_size)


def digest(batches):
    total = hashlib.sha256()
    for _ in embedding.hashed(batches, total):
        pass
    return total.hexdigest()


@pytest.mark.parametrize("batch_size", [1, 4, 13, 20])
def test_every_image_has_its_own_features_whatever_the_batch(batch_size):
    embedded = embed(IMAGES, batch_size)
    assert_allclose(embedded.features, IMAGES.reshape(13, -1) / 255, atol=1e-6)
    expected = MODEL.apply(VARIABLES, jnp.asarray(IMAGES / np.float32(255))).logits
    assert_allclose(embedded.logits, expected, atol=1e-5)


def test_the_digest_is_of_the_images_and_not_of_their_batches():
    whole = digest([IMAGES])
    assert {digest(embedding.in_batches(IMAGES, size)) for size in (3, 13)} == {whole}
    changed = IMAGES.copy()
    changed[-1, 0, 0, 0] ^= 1
    others = [changed, IMAGES[:-1], IMAGES[::-1], IMAGES.swapaxes(1, 2), IMAGES.reshape(13, 5, 4, 3)]
    assert len({whole, *(digest([other]) for other in others)}) == 6


def test_gray_images_are_repeated_for_a_network_of_colors_alone():
    gray = embed(IMAGES[..., :1])
    assert_allclose(gray.features, IMAGES[..., :1].repeat(3, axis=-1).reshape(13, -1) / 255, atol=1e-6)


def test_images_the_network_does_not_take_are_refused():
    with refused(match="the network takes no images of 3 x 3 x 3"):
        embed(IMAGES[:, :3, :3])


def test_images_of_mixed_size_are_refused_across_batches_too():
    for batch_size in (1, 4):
        with refused(match="mixed size .*4 x 5 and 5 x 4"):
            embed([*IMAGES, IMAGES[0].swapaxes(0, 1)], batch_size)


def test_features_that_are_not_finite_are_refused():
    class Log(nn.Module):
        def __call__(self, images):
            pixels = images.reshape(len(images), -1)
            return Outputs(pixels, jnp.log(pixels - 0.5))

    with refused(match="features .* NaN"):
        embedding.embed(Log(), {}, [IMAGES], len(IMAGES))


def test_logits_that_are_not_finite_are_refused():
    """No class, no energy, no Inception Score comes of them."""
    for value in (jnp.nan, jnp.inf):
        broken = jax.tree.map(lambda leaf, value=value: leaf * value, VARIABLES)
        with refused(match="logits .* NaN"):
            embedding.predict(MODEL, broken, IMAGES, 4)


def test_images_that_are_not_bytes_are_refused():
    with refused(match="images must be uint8"):
        embed(IMAGES / np.float32(255))
