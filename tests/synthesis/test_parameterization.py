"""A parameterization is a transform of gradients: it equals the ascent in its own parameterization."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from rsynth_jax.synthesis import ascent, parameterization, projections

SHAPE = (6, 4, 3)
RNG = np.random.default_rng(0)
START, PEAK, GRADIENT = (RNG.normal(size=SHAPE).astype(np.float32) for _ in range(3))
KINDS = {
    "pyramid": parameterization.pyramid(SHAPE, 3),
    "fourier": parameterization.fourier(SHAPE, 1.0),
    "pixel": parameterization.pixel(SHAPE),
    "flat fourier": parameterization.fourier(SHAPE, 0.0),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def hill(image):
    return -jnp.sum((image - PEAK) ** 2)


def moved(kind, gradient):
    """What `reparameterized` makes of a gradient."""
    return parameterization.reparameterized(lambda shape: kind).update(
        jnp.asarray(gradient), optax.EmptyState()
    )[0]


@every_kind
def test_the_ascent_is_gradient_ascent_on_the_coordinates(kind):
    z = jax.tree.map(lambda like: RNG.normal(size=like.shape).astype(np.float32), kind.like)
    climb = ascent.projected_gradient_ascent(
        hill,
        projections.chain(),
        optax.chain(parameterization.reparameterized(lambda shape: kind), optax.sgd(0.01)),
    )
    image, _ = ascent.run(climb, kind.decode(z), 3)
    for _ in range(3):
        z = jax.tree.map(lambda z, g: z + 0.01 * g, z, jax.grad(lambda z: hill(kind.decode(z)))(z))
    assert_allclose(image, kind.decode(z), rtol=1e-3, atol=1e-4)


@every_kind
def test_a_step_goes_up_and_is_linear(kind):
    assert np.vdot(moved(kind, GRADIENT), GRADIENT) > 0
    assert_allclose(
        moved(kind, 2 * GRADIENT + PEAK), 2 * moved(kind, GRADIENT) + moved(kind, PEAK), rtol=1e-3
    )


def test_a_pyramid_of_one_level_is_the_image():
    assert_allclose(moved(parameterization.pyramid(SHAPE, 1), GRADIENT), GRADIENT, atol=1e-6)


def test_a_flat_spectrum_moves_an_image_as_its_pixels_do():
    for shape in (SHAPE, (5, 7, 1)):
        gradient = RNG.normal(size=shape).astype(np.float32)
        assert_allclose(moved(parameterization.fourier(shape, 0.0), gradient), gradient, atol=1e-6)


def test_a_wave_moves_by_its_frequency_to_twice_the_power():
    """The same in every direction."""
    rows, columns = np.mgrid[:16, :16]
    for cycles in ((0, 3), (3, 0), (3, 4)):
        phase = 2 * np.pi * (cycles[0] * rows + cycles[1] * columns) / 16
        wave = np.sin(phase + 0.3)[:, :, None].astype(np.float32)
        factor = (np.hypot(*cycles) / 16) ** -0.5
        assert_allclose(moved(parameterization.fourier(wave.shape, 0.25), wave), factor * wave, atol=1e-5)


def test_a_parameterization_has_one_function_for_each_name():
    assert parameterization.named("fourier:0.2") is parameterization.fourier_of(0.2)
    assert parameterization.named("fourier:0") is parameterization.named("pixel")
    assert parameterization.named("fourier") is parameterization.fourier
    assert_allclose(
        moved(parameterization.named("fourier:0.2")(SHAPE), GRADIENT),
        moved(parameterization.fourier(SHAPE, 0.2), GRADIENT),
    )


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("wavelet", "'wavelet'.*pixel, fourier, pyramid"),
        ("pyramid:2", "'pyramid:2'"),
        ("fourier:", "'fourier:'"),
        ("fourier:low", "'low' is no power: give fourier:0.2"),
        ("fourier:3", "power is 3"),
        ("fourier:nan", "power is nan"),
        ("fourier:-1", "power is -1"),
    ],
)
def test_a_name_that_does_not_exist_is_refused(name, match):
    with pytest.raises(ValueError, match=match):
        parameterization.named(name)


def test_the_higher_the_power_the_smoother_the_step():
    def roughness(power):
        step = np.asarray(moved(parameterization.fourier(SHAPE, power), GRADIENT))
        return np.linalg.norm(np.diff(step, axis=0)) / np.linalg.norm(step)

    assert roughness(0.0) > roughness(0.5) > roughness(1.0)
