"""Agreement of units with classes, in closed form: hand-made maps, and units that are masks or noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax.metrics import dissection, frechet
from rsynth_jax.metrics.dissection import Counts

RNG = np.random.default_rng(0)
WINDOW = np.zeros((8, 8), np.int32)
WINDOW[2:6, 2:6] = 1  # 16 of 64 pixels


def counts(maps: np.ndarray, masks: np.ndarray, levels: np.ndarray, num_classes: int = 2) -> Counts:
    """Of images (n, h, w, u) and masks (n, h, w)."""
    one = functools.partial(dissection.count, num_classes=num_classes)
    each = jax.jit(jax.vmap(one, (0, 0, None)))(np.float32(maps), masks, np.float32(levels))
    return dissection.sum_counts(each)


def half(rows: slice) -> np.ndarray:
    """A map that is 1 in these rows, 0 elsewhere, and its level 0.5."""
    x = np.zeros((1, 8, 8, 1))
    x[:, rows] = 1
    return x


def test_the_iou_of_hand_made_maps_is_the_one_counted_by_hand():
    masks = WINDOW[None]
    for rows, both, on in ((slice(0, 4), 8, 32), (slice(2, 6), 16, 32), (slice(6, 8), 0, 16)):
        found = counts(half(rows), masks, np.array([[0.5]]))
        assert (found.pixels, found.on[0, 0], found.both[0, 0, 1]) == (64, on, both)
        assert_array_equal(found.present, [48, 16])
        assert dissection.iou(found)[0, 0, 1] == both / (on + 16 - both)


def test_a_unit_that_is_the_mask_has_iou_1_and_information_ratio_1():
    masks = RNG.integers(0, 2, (3, 8, 8))
    found = counts(masks[..., None], masks, np.array([[0.5]]))
    assert_allclose(dissection.iou(found)[0, 0], [0, 1])
    assert_allclose(dissection.information_ratio(found)[0, 0], [1, 1])
    for agreement in (dissection.at_share(found, 0), dissection.at_best_ratio(found)):
        assert agreement.iou[0, 1] == agreement.ratio[0, 1] == 1


def test_a_unit_independent_of_the_mask_has_information_ratio_about_0():
    masks = RNG.integers(0, 2, (50, 16, 16))
    maps = RNG.normal(size=(50, 16, 16, 3))
    levels = dissection.quantile_levels(maps, dissection.SHARES)
    ratio = dissection.information_ratio(counts(maps, masks, levels))
    assert ratio.max() < 2e-3 and ratio.min() >= 0


def test_the_information_ratio_of_two_independent_halves_is_0_and_of_constants_too():
    columns = np.swapaxes(half(slice(0, 4)), 1, 2)
    found = counts(columns, half(slice(0, 4))[..., 0].astype(int), np.array([[0.5], [9.0], [-9.0]]))
    assert_allclose(dissection.information_ratio(found), 0, atol=1e-12)


def test_the_levels_are_exceeded_at_their_shares_of_the_positions():
    maps = RNG.permutation(4000).reshape(10, 20, 20, 1).astype(np.float32)
    levels = dissection.quantile_levels(maps, dissection.SHARES)
    assert_allclose((maps > levels[:, 0]).mean(axis=(0, 1, 2)), dissection.SHARES, atol=1 / 4000)
    assert dissection.TAIL in dissection.SHARES


def test_the_best_level_is_the_one_that_separates_the_class_and_never_one_that_excludes_it():
    x = np.where(WINDOW == 1, 2.0, np.arange(64).reshape(8, 8) / 64)[None, ..., None]
    levels = np.array([[0.2], [1.5], [1.9], [3.0]])
    best = dissection.at_best_ratio(counts(x, WINDOW[None], levels))
    assert best.row[0, 1] in (1, 2) and best.iou[0, 1] == best.ratio[0, 1] == 1
    assert best.ratio[0, 0] < 1  # of the pixels without the class


def test_counts_of_images_add_up_whatever_the_batches():
    masks, maps = RNG.integers(0, 3, (6, 8, 8)), RNG.normal(size=(6, 4, 4, 5))
    levels = dissection.quantile_levels(maps, np.array([0.1, 0.3]))
    whole = counts(maps, masks, levels, 3)
    parts = [counts(maps[rows], masks[rows], levels, 3) for rows in (slice(2), slice(2, 6))]
    for one, first, second in zip(whole, *parts, strict=True):
        assert_allclose(one, np.asarray(first) + second)
    assert_allclose(whole.both.sum(axis=-1), whole.on)


def test_the_iou_of_two_masks_is_known():
    masks = np.array([[0, 0, 1, 1]])
    assert_allclose(dissection.mask_iou(masks, masks, 3), [1, 1, 0])
    assert_allclose(dissection.mask_iou(np.array([[0, 1, 1, 1]]), masks, 2), [1 / 2, 2 / 3])


def test_insertion_takes_the_mean_where_the_class_is():
    maps, presence = RNG.normal(size=(3, 4, 4, 2)), RNG.integers(0, 2, (3, 4, 4))
    assert_allclose(dissection.mean_at_class(maps, presence), maps[presence == 1].mean(axis=0))
    with refused(match="the class is in no image"):
        dissection.mean_at_class(maps, 0 * presence)


def test_the_causal_effect_is_the_mean_difference_with_its_interval():
    inserted, ablated = np.array([0.9, 0.7, 0.8, 0.8]), np.array([0.1, 0.1, 0.2, 0.0])
    effect = dissection.causal_effect(inserted, ablated)
    half_width = 1.96 * np.std(inserted - ablated, ddof=1) / 2
    assert_allclose(effect, [0.7, 0.7 - half_width, 0.7 + half_width])
    assert dissection.causal_effect(inserted, inserted) == (0, 0, 0)


def test_the_unit_that_is_on_in_shifted_images_has_the_largest_frechet_distance():
    real = RNG.normal(size=(200, 3))
    features = RNG.normal(size=(100, 3))
    features[:20] += 5
    peaks = np.stack([np.arange(100) < 20, np.arange(100) >= 80], axis=1).astype(float)
    scores = dissection.artefact_scores(features, peaks, frechet.moments(real), 20)
    ends = [frechet.moments(features[:20]), frechet.moments(features[80:])]
    assert_allclose(scores, [frechet.frechet(each, frechet.moments(real)) for each in ends])
    assert scores[0] > 60 > 5 > scores[1]
    with refused(match="a Fréchet distance needs 2 images or more, not 1"):
        dissection.artefact_scores(features, peaks, frechet.moments(real), 1)


@pytest.mark.parametrize("size", [(8, 8), (4, 4)])
def test_a_map_is_enlarged_to_the_mask_and_one_of_its_size_stays(size):
    x = jnp.asarray(RNG.normal(size=(4, 4, 2)), jnp.float32)
    large = dissection.enlarged(x, size)
    assert large.shape == (*size, 2)
    if size == (4, 4):
        assert_array_equal(large, x)
