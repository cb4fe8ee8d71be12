"""Kernel distance, Inception Score, precision and recall, density and coverage: closed forms and laws."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax.metrics import neighbors
from rsynth_jax.metrics.inception_score import inception_score
from rsynth_jax.metrics.kernel import kid, mmd
from rsynth_jax.metrics.neighbors import density_coverage, nearest, precision_recall

seeds = st.integers(0, 2**32 - 1)
rng = np.random.default_rng


def sets(seed, num=40, width=5):
    draw = rng(seed)
    return draw.normal(size=(num, width)), draw.normal(size=(num + 7, width)) + 0.5


# ---- the kernel distance


def test_the_kernel_distance_of_four_points():
    x, y = np.array([[1.0], [2.0]]), np.array([[0.0], [3.0]])
    assert mmd(x, y) == pytest.approx(27 + 1 - 2 * np.mean([1, 64, 1, 343]))


@given(seed=seeds, num=st.integers(2, 12))
def test_the_kernel_distance_is_the_plain_double_sum(seed, num):
    a, b = sets(seed, num, 3)

    def k(x, y):
        return (x @ y / 3 + 1) ** 3

    def within(s):
        return np.mean([k(x, y) for x, y in itertools.permutations(s, 2)])

    between = np.mean([k(x, y) for x, y in itertools.product(a, b)])
    assert mmd(a, b) == pytest.approx(within(a) + within(b) - 2 * between, abs=1e-9)


def test_the_kernel_distance_is_unbiased_in_few_images():
    draws = [kid(*rng(seed).normal(size=(2, 20, 4)), rng(0)).value for seed in range(1000)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(1000)


def test_the_kernel_s_interval_is_as_wide_as_the_distances_of_fresh_draws():
    def pair(seed):
        return rng(seed).normal(size=(200, 2)), rng(seed + 10**6).normal(size=(200, 2)) + 0.5

    drawn = [kid(*pair(seed), rng(0)) for seed in range(300)]
    half_width = np.mean([(high - low) / 2 for _, low, high in drawn])
    assert half_width / 1.96 == pytest.approx(np.std([distance.value for distance in drawn]), rel=0.15)


def test_the_blocks_follow_the_generator():
    a, b = sets(0)
    assert kid(a, b, rng(3)) == kid(a, b, rng(3)) != kid(a, b, rng(4))


# ---- the Inception Score


@pytest.mark.parametrize("num_classes", [2, 5])
def test_certain_and_even_logits_score_the_number_of_classes(num_classes):
    score = inception_score(1e4 * np.tile(np.eye(num_classes), (20, 1)), rng(0))
    assert score.value == pytest.approx(num_classes, rel=1e-6)
    assert score.low <= num_classes <= score.high


@given(seed=seeds)
def test_equal_logits_score_one_and_no_logits_score_below_it_or_above_the_classes(seed):
    logits = rng(seed).normal(size=(10, 4)).astype(np.float32)
    assert_allclose(inception_score(np.tile(logits[:1], (10, 1)), rng(0)), 1, rtol=1e-5)
    assert 1 <= inception_score(logits, rng(0)).value <= 4
    assert inception_score(logits, rng(0)) == inception_score(logits, rng(0))


def test_the_inception_score_is_the_formula():
    logits = rng(0).normal(size=(30, 4))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.exp(np.mean(np.sum(p * np.log(p / p.mean(axis=0)), axis=1)))
    assert inception_score(logits, rng(0)).value == pytest.approx(expected, rel=1e-5)


def test_the_score_s_interval_is_as_wide_as_the_scores_of_fresh_draws():
    drawn = [inception_score(2 * rng(seed).normal(size=(200, 5)), rng(0)) for seed in range(100)]
    half_width = np.mean([(high - low) / 2 for _, low, high in drawn])
    assert half_width / 1.96 == pytest.approx(np.std([score.value for score in drawn]), rel=0.2)


# ---- precision, recall, density, coverage


def brute(generated, real, k):
    """In how many real balls each generated image lies, by all distances in double precision."""
    within = np.linalg.norm(real[:, None] - real, axis=2)
    radius = np.sort(within, axis=1)[:, k]  # the image itself is its zeroth neighbour
    return np.linalg.norm(generated[:, None] - real, axis=2) <= radius


@given(seed=seeds, k=st.integers(1, 6), entries=st.sampled_from([1, 100, 10**6]))
def test_the_four_are_their_definitions_whatever_fits_in_memory(seed, k, entries):
    a, b = sets(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "ENTRIES", entries)
        precision, recall = precision_recall(a, b, k)
        density, coverage = density_coverage(a, b, k)
    in_real, in_generated = brute(a, b, k), brute(b, a, k)
    assert precision.value == pytest.approx(in_real.any(axis=1).mean())
    assert recall.value == pytest.approx(in_generated.any(axis=1).mean())
    assert density.value == pytest.approx(in_real.sum() / k / len(a))
    assert coverage.value == pytest.approx(in_real.any(axis=0).mean())


@pytest.mark.parametrize("offset", [0, 1e3])
def test_a_set_and_its_copy(offset):
    a = rng(0).normal(size=(300, 6)).astype(np.float32) + np.float32(offset)
    copy = a[::-1] * np.float32(1 + 1e-7)  # as another batch's rounding might have it
    assert [each.value for each in precision_recall(a, copy)] == [1, 1]
    density, coverage = density_coverage(a, copy)
    assert coverage.value == 1
    if not offset:
        assert density.value == pytest.approx(6 / 5)  # k neighbours and the image itself, over k


def test_sets_that_are_far_apart():
    a = rng(0).normal(size=(30, 6))
    for estimate in (*precision_recall(a, a + 100), *density_coverage(a, a + 100)):
        assert estimate.value == estimate.low == 0


def test_one_image_many_times_is_precise_and_covers_its_neighbourhood_alone():
    real = rng(0).normal(size=(200, 2))
    same = np.repeat(real[:1], 50, axis=0)
    precision, recall = precision_recall(same, real)
    density, coverage = density_coverage(same, real)
    assert precision.value == 1 and recall.value == pytest.approx(1 / 200)
    assert density.value >= 1 / 5 and coverage.value < 0.1
    assert density.low == density.high == pytest.approx(density.value)


def test_an_outlier_among_the_generated_inflates_recall_and_not_coverage():
    real = rng(0).normal(size=(100, 2))
    outliers = np.array([[50, 0], [-50, 0], [0, 50], [0, -50.0]])
    assert precision_recall(outliers, real)[1].value == 1
    assert density_coverage(outliers, real)[1].value == 0


def test_the_median_nearest_distance_leaves_the_row_itself_out():
    points = np.array([[0.0], [1.0], [3.0], [7.0]])
    assert neighbors.median_nearest(points) == pytest.approx(1.5, rel=1e-5)


@given(seed=seeds, k=st.integers(1, 8))
def test_nearest_is_a_sorted_list_of_distances(seed, k):
    a, b = sets(seed)
    indices, distances = nearest(a, b, k)
    every = np.linalg.norm(a[:, None] - b, axis=2)
    assert_array_equal(indices, np.argsort(every, axis=1)[:, :k])
    assert_allclose(distances, np.sort(every, axis=1)[:, :k])


# ---- refusals

METRICS = {
    "kid": (lambda a, b: kid(a, b, rng(0)), 4),
    "precision and recall": (precision_recall, 4),
    "density and coverage": (density_coverage, 6),
    "nearest": (lambda a, b: nearest(b, a, 2), 1),
}


@pytest.mark.parametrize("metric", METRICS)
def test_sets_that_cannot_be_compared_are_refused(metric):
    compare, least = METRICS[metric]
    a = rng(0).normal(size=(10, 3))
    with refused(match=f"{least} images or more, not {least - 1}"):
        compare(a, a[: least - 1])
    with refused(match="NaN"):
        compare(a, np.where(a > 1, np.nan, a))
    with refused(match="dimensions"):
        compare(a, a[:, :2])


def test_logits_that_have_no_score_are_refused():
    with refused(match="2 images or more, not 1"):
        inception_score(np.zeros((1, 3)), rng(0))
    with refused(match="NaN"):
        inception_score(np.full((3, 3), np.nan), rng(0))
