"""A generator on whole arrays: which image is which, truncation, mixtures, loops and noise, as laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax.images import encode
from rsynth_jax.models import style
from rsynth_jax.sampling import generators
from rsynth_jax.sampling.generators import draw, loop, mix, vary_noise

SHAPE = (16, 16, 3)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return tiny.generator(tmp_path_factory.mktemp("generator") / "g.safetensors")


def same(images, others) -> bool:
    """To within 1 of 255: a convolution's rounding depends on its batch."""
    return np.abs(np.int16(images) - others).max() <= 1


def differ(images, others) -> bool:
    return np.abs(np.int16(images) - others).max() > 10


def with_noise(release, scale: float):
    """The release, the scale of all noise set."""

    def scaled(path, leaf):
        return np.full_like(leaf, scale) if path[-1].key == "noise" else leaf

    return release._replace(variables=jax.tree_util.tree_map_with_path(scaled, release.variables))


# ---- which image is which


@pytest.mark.slow
def test_a_draw_is_the_generators_own_image_of_its_key(release):
    images, labels = draw(release, "cat", num=3, seed=5)
    assert images.shape == (3, *SHAPE) and images.dtype == np.uint8 and labels.tolist() == [1, 1, 1]
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), 1), 2)
    latent_key, noise_key = jax.random.split(key)
    generator = release.generator
    code = generator.code(generator.prior(latent_key), jnp.array(1))
    assert same(images[2], np.asarray(encode(generator.decode(code, noise_key))))


@pytest.mark.parametrize("batch_size", [1, 8])
def test_an_image_depends_on_the_seed_the_class_and_its_number_alone(release, batch_size):
    cats = draw(release, "cat", num=3).images
    among = draw(release, "all", num=9, batch_size=batch_size)
    assert same(among.images[among.labels == 1][:3], cats)
    assert differ(draw(release, "dog", num=3).images, cats)
    assert differ(draw(release, "cat", num=3, seed=1).images, cats)
    assert differ(cats[1], cats[0])


def test_any_number_of_images_is_one_program(release):
    for num in (1, 3, 50):
        draw(release, "cat", num=num, seed=num, truncation=1 / num)
    programs = (generators._coded, generators.runner._mapped)
    jitted = (programs[0](release.config), programs[1](generators._decoded(release.config)))
    sizes = [each._cache_size() for each in jitted]
    draw(release, "all", num=33, seed=9, truncation=0.3, layers=2)
    assert [each._cache_size() for each in jitted] == sizes


def test_the_callback_gets_every_image_once(release):
    seen = []
    images = draw(
        release, num=7, batch_size=8, callback=lambda step, images: seen.append((step, images))
    ).images
    assert {step for step, _ in seen} == {1} and len(seen) == 3
    assert_array_equal(np.concatenate([batch for _, batch in seen]), images)


# ---- truncation


def test_truncation_1_is_the_identity_and_0_the_mean_style():
    styles, mean = jnp.arange(12.0).reshape(4, 3), jnp.array([7.0, 1, 1])
    assert_array_equal(style.truncate(styles, mean, 1.0, 4), styles)
    assert_array_equal(style.truncate(styles, mean, 0.0, 4), jnp.tile(mean, (4, 1)))
    assert_array_equal(
        style.truncate(styles, mean, 0.0, 2), jnp.concatenate([jnp.tile(mean, (2, 1)), styles[2:]])
    )
    assert_array_equal(style.truncate(styles, mean, 0.0, 0), styles)
    assert_allclose(style.truncate(styles, mean, 2.0, 4) - mean, 2 * (styles - mean))


def test_truncation_0_decodes_the_mean_style_of_the_class(release):
    quiet = with_noise(release, 0.0)
    images, labels = draw(quiet, ("cat", "dog"), num=2, truncation=0.0)
    for image, label in zip(images, labels, strict=True):
        code = jnp.tile(quiet.mean_styles[label], (quiet.config.num_layers, 1))
        assert same(image, np.asarray(encode(quiet.generator.decode(code, jax.random.key(0)))))


def test_less_truncation_is_nearer_to_the_mean(release):
    quiet = with_noise(release, 0.0)
    sets = [draw(quiet, "cat", num=8, truncation=psi).images / 255 for psi in (0.0, 0.3, 1.0)]
    spreads = [images.std(axis=0).mean() for images in sets]
    assert spreads[0] < 1e-9 < spreads[1] < spreads[2]


def test_truncation_leaves_the_layers_after_its_own(release):
    whole = draw(release, "cat", num=2).images
    assert same(draw(release, "cat", num=2, truncation=0.0, layers=0).images, whole)
    assert differ(draw(release, "cat", num=2, truncation=0.0, layers=1).images, whole)


# ---- mixtures


def test_the_groups_of_layers_are_all_layers_in_order():
    for widths in ((8,), (8, 8), (8, 8, 8), (8,) * 4, (8,) * 9):
        config = style.GeneratorConfig(1, 4 * 2 ** len(widths), widths)
        groups = style.layer_groups(config)
        assert [layer for layers in groups.values() for layer in layers] == list(range(config.num_layers))
    assert groups == {"coarse": range(6), "middle": range(6, 12), "fine": range(12, 18)}


def test_a_mixture_of_all_styles_is_the_source_and_of_none_the_target(release):
    layers = release.config.num_layers
    for taken in (range(layers), range(0)):
        found = mix(release, "cat", num=2, taken=taken)
        expected = found.sources[None] if taken else found.targets[:, None]
        assert same(found.mixed, np.broadcast_to(expected, found.mixed.shape))


def test_a_mixture_takes_the_styles_that_it_is_told_to(release):
    """As by `style.mix`, whose crossover is the layer from which the source's styles are taken."""
    found = mix(release, ("cat", "dog"), num=1, taken=range(2, 4))
    assert found.source_labels.tolist() == found.target_labels.tolist() == [1, 2]
    codes = generators.codes_of(release, ("cat", "dog"), range(2), 0, 1.0, 8)[1][np.arange(4)].styles
    for i, target in enumerate((codes[1], codes[3])):
        for j, source in enumerate((codes[0], codes[2])):
            image = release.generator.decode(style.mix(target, source, 2), jax.random.key(0))
            assert same(found.mixed[i, j], np.asarray(encode(image)))


def test_the_sources_of_a_mixture_are_the_draws_but_for_their_noise(release):
    quiet = with_noise(release, 0.0)
    found, images = mix(quiet, "cat", num=2, taken=[0]), draw(quiet, "cat", num=4).images
    assert same(np.concatenate([found.sources, found.targets]), images)


# ---- loops


def test_a_loop_passes_the_draws_and_closes(release):
    quiet = with_noise(release, 0.0)
    found = loop(quiet, ("cat", "dog"), num=3, frames=4)
    assert found.images.shape == (2, 12, *SHAPE) and found.labels.tolist() == [1, 2]
    assert same(found.images[:, ::4].reshape(-1, *SHAPE), draw(quiet, ("cat", "dog"), num=3).images)
    codes = generators.codes_of(quiet, "dog", range(3), 0, 1.0, 8)[1][np.arange(3)].styles
    between = quiet.generator.decode(0.75 * codes[2] + 0.25 * codes[0], jax.random.key(0))
    assert same(found.images[1, 9], np.asarray(encode(between)))


def test_a_loop_with_noise_keeps_it(release):
    """Without truncation's variety all frames are one image."""
    found = loop(release, "cat", num=2, frames=3, truncation=0.0)
    assert same(found.images, np.broadcast_to(found.images[:, :1], found.images.shape))


# ---- noise


@pytest.mark.slow
def test_without_its_scale_noise_is_irrelevant(release):
    found = vary_noise(with_noise(release, 0.0), "cat", num=2)
    assert same(found.images, np.broadcast_to(found.images[:, :1], found.images.shape))
    assert_allclose(found.deviation, 0, atol=1e-6)


def test_noise_changes_the_image_where_it_is_on(release):
    found = vary_noise(release, ("cat", "dog"), num=2)
    assert found.names == ("own", "second", "third", "none", "coarse", "middle")
    images = dict(zip(found.names, found.images.swapaxes(0, 1), strict=True))
    assert same(images["own"], draw(release, ("cat", "dog"), num=2).images)
    assert same(images["none"], draw(with_noise(release, 0.0), ("cat", "dog"), num=2).images)
    for name in ("second", "third", "none", "coarse", "middle"):
        assert differ(images[name], images["own"])
    assert found.deviation.shape == (4, *SHAPE[:2]) and (found.deviation > 0).all()


def test_the_deviation_grows_with_the_scale_of_the_noise(release):
    """To first order in proportion."""
    small, large = (vary_noise(with_noise(release, scale), "cat", num=1).deviation for scale in (1e-3, 2e-3))
    assert_allclose(large / small, 2, rtol=0.05)


def test_a_layer_whose_noise_is_switched_off_has_none(release):
    config, key = release.config, jax.random.key(0)
    drawn = style.noises(config, key)
    scales = jnp.array([1.0, 0, 2, 0])
    for noise, scaled, scale in zip(drawn, style.scaled_noises(scales)(config, key), scales, strict=True):
        assert_array_equal(scaled, scale * noise)


# ---- refusals


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"classes": "unicorn"}, "no class 'unicorn'"),
        ({"num": 0}, "num is 0"),
        ({"truncation": -1.0}, "truncation is -1"),
        ({"truncation": float("nan")}, "truncation is nan"),
        ({"layers": -1}, "layers is -1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(release, settings, said):
    for function in (draw, loop, vary_noise):
        with refused(match=said):
            function(release, **settings)


def test_a_loop_of_one_draw_or_no_frames_is_refused(release):
    with refused(match="a loop needs 2"):
        loop(release, num=1)
    with refused(match="frames is 0"):
        loop(release, frames=0)


def test_an_image_that_is_not_finite_is_refused(release):
    with refused(match="holds NaN or infinity"):
        draw(with_noise(release, 3e38), num=1)
