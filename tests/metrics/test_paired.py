"""PSNR, SSIM and LPIPS: closed forms, laws, and scikit-image where it is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tiny import refused

from rsynth_jax.metrics.paired import lpips, psnr, ssim

seeds = st.integers(0, 2**32 - 1)
SHAPE = (17, 24, 3)


def image(seed, shape=SHAPE) -> np.ndarray:
    """Coarse blocks: flat areas and edges, as pictures have them."""
    small = np.random.default_rng(seed).random((shape[0] // 4 + 1, shape[1] // 4 + 1, shape[2]), np.float32)
    return np.kron(small, np.ones((4, 4, 1), np.float32))[: shape[0], : shape[1]]


def noisy(seed, reference, size=0.1) -> np.ndarray:
    noise = np.random.default_rng(seed + 1).normal(size=reference.shape) * size
    return np.clip(reference + noise, 0, 1).astype(np.float32)


@pytest.mark.parametrize(("error", "decibels"), [(0.1, 20.0), (0.01, 40.0), (1.0, 0.0)])
def test_a_constant_error_has_its_decibels(error, decibels):
    black = np.zeros(SHAPE, np.float32)
    assert psnr(black + np.float32(error), black) == pytest.approx(decibels, rel=1e-5)


def test_equal_images_have_infinite_psnr():
    assert psnr(image(0), image(0)) == np.inf


@given(seed=seeds)
def test_ssim_is_one_for_equals_symmetric_and_below_one_for_others(seed):
    a = image(seed)
    b = noisy(seed, a)
    assert ssim(a, a) == pytest.approx(1, abs=1e-6)
    assert ssim(a, b) == pytest.approx(float(ssim(b, a)), abs=1e-6)
    assert -1 <= ssim(a, b) < 0.999


def test_constant_images_have_the_luminance_term_alone():
    a, b = np.full(SHAPE, 0.2, np.float32), np.full(SHAPE, 0.6, np.float32)
    assert ssim(a, b) == pytest.approx((2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4), rel=1e-5)


def windows(x: np.ndarray) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(x, (11, 11), axis=(0, 1))


@given(seed=seeds)
def test_ssim_is_its_definition_window_by_window(seed):
    a = image(seed).astype(float)
    b = noisy(seed, image(seed)).astype(float)
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights = np.outer(line, line) / line.sum() ** 2

    def mean(x):
        return np.sum(x * weights, axis=(-2, -1))

    m, n = mean(windows(a)), mean(windows(b))
    off_a, off_b = windows(a) - m[..., None, None], windows(b) - n[..., None, None]
    top = (2 * m * n + 1e-4) * (2 * mean(off_a * off_b) + 9e-4)
    bottom = (m**2 + n**2 + 1e-4) * (mean(off_a**2) + mean(off_b**2) + 9e-4)
    assert ssim(a.astype(np.float32), b.astype(np.float32)) == pytest.approx(np.mean(top / bottom), abs=2e-6)


@pytest.mark.parametrize("shape", [(11, 11, 1), (32, 32, 3), (64, 48, 3)])
@pytest.mark.parametrize("size", [0.01, 0.1, 0.5])
def test_scikit_image_agrees(shape, size):
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    a = image(0, shape)
    b = noisy(0, a, size)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    expected = metrics.structural_similarity(a.astype(float), b.astype(float), channel_axis=-1, **options)
    assert ssim(a, b) == pytest.approx(expected, abs=2e-6)
    assert psnr(a, b) == pytest.approx(metrics.peak_signal_noise_ratio(a, b, data_range=1.0), rel=1e-5)


@pytest.mark.parametrize("shape", [(10, 32, 3), (32, 10, 3)])
def test_an_image_smaller_than_the_window_is_refused(shape):
    with refused(match="11 pixels a side, not"):
        ssim(image(0, shape), image(0, shape))


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_vmap_is_the_loop(measure):
    a = np.stack([image(seed) for seed in range(3)])
    b = np.stack([noisy(seed, x) for seed, x in enumerate(a)])
    together = jax.jit(jax.vmap(measure))(a, b)
    assert_allclose(together, [measure(x, y) for x, y in zip(a, b, strict=True)], rtol=1e-5)


# ---- LPIPS


def maps(seed) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in ((4, 4, 3), (2, 2, 5))]


HEADS = [np.array([1, 2, 3], np.float32), np.arange(5, dtype=np.float32)]


def test_lpips_is_the_formula():
    total = 0.0
    for a, b, head in zip(maps(0), maps(1), HEADS, strict=True):
        unit_a, unit_b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
        total += np.mean(np.sum(head * (unit_a - unit_b) ** 2, axis=-1))
    assert lpips(maps(0), maps(1), HEADS) == pytest.approx(total, rel=1e-5)


def test_lpips_of_opposite_features_is_four_times_each_head_s_weight():
    a, b = np.zeros((2, 2, 3), np.float32), np.zeros((2, 2, 3), np.float32)
    a[..., 1], b[..., 1] = 7, -0.5
    assert lpips([a], [b], HEADS[:1]) == pytest.approx(4 * 2)


@given(seed=seeds, factor=st.floats(0.1, 10))
def test_lpips_is_zero_for_equals_symmetric_and_blind_to_scale(seed, factor):
    a, b = maps(seed), maps(seed + 1)
    larger = [np.float32(factor) * x for x in a]
    assert lpips(a, a, HEADS) == 0
    assert lpips(a, b, HEADS) == pytest.approx(float(lpips(b, a, HEADS)), rel=1e-5)
    assert lpips(larger, b, HEADS) == pytest.approx(float(lpips(a, b, HEADS)), rel=1e-4)


def test_dead_features_are_at_distance_zero():
    dead = [jnp.zeros((2, 2, 3)), jnp.zeros((1, 1, 5))]
    assert lpips(dead, dead, HEADS) == 0


def test_layers_without_a_head_are_refused():
    with pytest.raises(ValueError):
        lpips(maps(0), maps(1), HEADS[:1])
