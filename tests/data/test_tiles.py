"""Tiles: cut and blended they are the image, and a change of one is smooth in the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from tiny import refused

from rsynth_jax.data import tiles

RNG = np.random.default_rng(0)


@given(
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    side=st.integers(1, 20),
    share=st.floats(0, 0.99),
    factor=st.integers(1, 3),
)
def test_cut_and_blended_is_the_image(height, width, side, share, factor):
    image = RNG.integers(0, 256, (height, width, 3), np.uint8)
    tiling = tiles.plan(height, width, side, int(share * side))
    parts = tiles.cut(image, tiling).repeat(factor, axis=1).repeat(factor, axis=2)
    assert parts.shape[1:] == (factor * side, factor * side, 3)
    assert_array_equal(tiles.blend(parts, tiling, factor), image.repeat(factor, 0).repeat(factor, 1))


@pytest.mark.parametrize(("length", "side", "overlap"), [(100, 32, 8), (32, 32, 8), (33, 32, 0), (5, 32, 8)])
def test_tiles_overlap_enough_and_no_more_of_them_are_needed(length, side, overlap):
    starts = np.array(tiles.plan(length, 1, side, overlap).tops)
    assert starts[0] == 0 and starts[-1] == max(0, length - side)
    assert (np.diff(starts) <= side - overlap).all() and (np.diff(starts) > 0).all()
    assert len(starts) == 1 or (len(starts) - 1) * (side - overlap) < length - overlap


def test_means_over_blocks_that_all_tiles_share_are_those_of_the_blend():
    small = RNG.integers(60, 196, (20, 24, 1), np.uint8)
    tiling = tiles.plan(20, 24, 8, 3)
    parts = tiles.cut(small, tiling).repeat(2, axis=1).repeat(2, axis=2).astype(int)
    detail = RNG.integers(-30, 31, (len(parts), 8, 8, 1))
    parts[:, ::2, ::2] += detail
    parts[:, 1::2, 1::2] -= detail
    whole = tiles.blend(parts.astype(np.uint8), tiling, 2)
    means = whole.reshape(20, 2, 24, 2, 1).mean(axis=(1, 3))
    assert np.abs(means - small).max() <= 0.5 and np.abs(whole - small.repeat(2, 0).repeat(2, 1)).max() > 5


def test_no_edge_of_a_tile_is_seen():
    tiling = tiles.plan(16, 64, 16, 8)
    parts = np.zeros((len(tiling.lefts), 16, 16, 1), np.uint8)
    parts[::2] = 200
    row = tiles.blend(parts, tiling)[8, :, 0].astype(int)
    assert np.abs(np.diff(row)).max() < 60 and row.max() == 200 and row.min() < 5


def test_an_overlap_of_a_whole_tile_is_refused():
    with refused(match="tiles of 8 pixels cannot overlap by 8: give 0 ... 7"):
        tiles.plan(20, 20, 8, 8)
