"""The sketching program: what is kept of a drawing stays, and the rest becomes the class."""

import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from tiny import refused

from rsynth_jax.synthesis import ascent, objectives
from rsynth_jax.synthesis.norms import L2
from synth import sketching
from synth.sketching import Options

DRAWING = np.ones((4, 4, 3), np.float32)
DRAWING[1, :2] = 0.0


@pytest.mark.parametrize(
    ("keep", "kept"),
    [("nothing", []), ("strokes", [(1, 0), (1, 1)]), ("edges", [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)])],
)
def test_what_is_kept_stays_and_the_rest_moves_up_within_the_ball(linear, keep, kept):
    start, score, stay = sketching.sketching(linear, DRAWING, 2, keep=keep, objective="log-prob", radius=0.5)
    climb = ascent.projected_gradient_ascent(score, stay, ascent.steepest(L2, 0.3))
    found = np.asarray(ascent.run(climb, start, 5)[0])
    assert_array_equal(start, DRAWING)
    for row, column in kept:
        assert_array_equal(found[row, column], DRAWING[row, column])
    assert 0.1 < np.linalg.norm(found - DRAWING) <= 0.5 + 1e-6
    assert objectives.log_prob(linear, 2)(found) > objectives.log_prob(linear, 2)(DRAWING)
    mask = np.zeros((4, 4), bool)
    mask[tuple(zip(*kept, strict=True))] = len(kept) > 0
    assert_array_equal(np.asarray(sketching.KEEP[keep](DRAWING))[:, :, 0], mask if kept else False)


def test_a_drawing_becomes_an_image_of_its_class(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.full((2, *tiny.SHAPE), 200, np.uint8))
    with tiny.network():
        tiny.release(tmp_path / "c.safetensors", ("cat", "dog"))
        asked = {"classifier": str(tmp_path / "c.safetensors"), "label": "dog", "steps": 2}
        options = Options(str(tmp_path / "a.npz"), out=tmp_path / "s.png", **asked)
        assert sketching.sketch(options) == 0
        assert (tmp_path / "s.png").exists()
        with refused(match="no keep named 'lines': give one of nothing, strokes, edges"):
            sketching.sketch(Options("a.npz", keep="lines"))
