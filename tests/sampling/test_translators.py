"""A learned translator on whole arrays: drawn styles, examples, the way between styles."""

import jax
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax.images import decode, encode
from rsynth_jax.models import translator
from rsynth_jax.sampling import translators

IMAGES = tiny.noise(3)
OTHERS = np.ascontiguousarray(IMAGES[::-1, ::-1])[:2]


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return tiny.translator(tmp_path_factory.mktemp("t") / "t.safetensors")


@pytest.fixture(scope="module")
def domains(release):
    return [translator.bind(release.config, variables) for variables in release.variables]


@pytest.fixture(scope="module")
def drawn(release):
    return translators.translate_by(release, IMAGES, "dog", styles=3, seed=7)


def test_a_translation_is_the_content_in_the_other_domain_with_its_style(domains, drawn):
    cat, dog = domains
    assert drawn.images.shape == (3, 3, *tiny.SHAPE) and drawn.styles.shape == (3, 3, 2)

    def made(image, style):
        found = dog.decode(cat.content(decode(image)), style)
        return encode(found), dog.style(found)

    images, styles = jax.jit(jax.vmap(made))(IMAGES, drawn.styles[:, 1])
    assert np.abs(np.int16(drawn.images[:, 1]) - np.asarray(images)).max() <= 1
    errors = np.abs(styles - drawn.styles[:, 1]).mean(axis=1)
    assert_allclose(drawn.style_error[:, 1], errors, rtol=1e-3, atol=1e-4)


def test_style_j_of_image_i_depends_on_the_seed_and_i_and_j_alone(release, drawn):
    fewer = translators.translate_by(release, IMAGES[:2], "dog", styles=2, seed=7, batch_size=2)
    assert_array_equal(fewer.styles, drawn.styles[:2, :2])
    assert np.abs(np.int16(fewer.images) - drawn.images[:2, :2]).max() <= 1
    other = translators.translate_by(release, IMAGES[:2], "dog", styles=2, seed=8)
    assert (other.styles != fewer.styles).all()
    assert len(np.unique(drawn.styles)) == drawn.styles.size


def test_an_example_gives_the_style_of_its_domain_to_every_image(release, domains):
    found = translators.translate_like(release, IMAGES, "cat", OTHERS)
    own = np.stack([domains[0].style(decode(example)) for example in OTHERS])
    assert_allclose(found.styles, np.broadcast_to(own, (3, 2, 2)), rtol=1e-3, atol=1e-4)
    assert found.images.shape == (3, 2, *tiny.SHAPE)


def test_the_way_between_styles_goes_through_them_and_keeps_their_distribution(release, drawn):
    way = translators.blend_styles(release, IMAGES, 1, styles=3, frames=4, seed=7)
    assert way.images.shape == (3, 12, *tiny.SHAPE)
    assert_allclose(way.styles[:, ::4], drawn.styles, atol=1e-6)
    assert np.abs(np.int16(way.images[:, ::4]) - drawn.images).max() <= 1
    middle = (drawn.styles + np.roll(drawn.styles, -1, axis=1)) / np.sqrt(2)  # of variance 1 too
    assert_allclose(way.styles[:, 2::4], middle, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: translators.translate_by(r, IMAGES, "cow"), "no class 'cow'"),
        (lambda r: translators.translate_by(r, IMAGES, 2), "class"),
        (lambda r: translators.translate_by(r, IMAGES, "dog", styles=0), "styles is 0"),
        (
            lambda r: translators.translate_by(r, IMAGES[:, :8], "dog"),
            "translator's images are 16 x 16",
        ),
        (lambda r: translators.translate_by(r, IMAGES[:0], "dog"), "a translation needs 1 images or more"),
        (lambda r: translators.translate_like(r, IMAGES, "dog", OTHERS[:, :8]), "these are 8 x 16 x 3"),
        (
            lambda r: translators.blend_styles(r, IMAGES, "dog", styles=1),
            "styles is 1: the way between styles needs",
        ),
        (lambda r: translators.blend_styles(r, IMAGES, "dog", frames=0), "frames is 0"),
    ],
)
def test_a_mistake_is_refused_in_one_line(release, call, message):
    with refused(match=message):
        call(release)
