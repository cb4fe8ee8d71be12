"""Sets of random images: which image is which, and their distributions."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from rsynth_jax.data import noise

SHAPE = (16, 16, 3)


@pytest.mark.parametrize("name", noise.DRAWS)
def test_a_drawn_image_depends_on_the_seed_and_its_number_alone(name):
    draw = noise.DRAWS[name]
    many, few = (noise.drawn(draw, num, SHAPE, seed=3).images for num in (9, 2))
    assert (len(many), len(few)) == (9, 2)
    assert_array_equal(many[1], few[1])
    assert many[0].dtype == np.uint8 and many[0].shape == SHAPE
    for other in (many[0], noise.drawn(draw, 2, SHAPE, seed=4).images[1]):
        assert (other != many[1]).any()


def test_what_is_drawn_is_what_it_is_called():
    shape = (200, 200, 3)
    uniform, gaussian, constant = (
        noise.drawn(draw, 1, shape, seed=0).images[0] / 255 for draw in noise.DRAWS.values()
    )
    assert abs(uniform.mean() - 0.5) < 0.01 and abs(uniform.std() - 12**-0.5) < 0.01
    inner = gaussian[(gaussian > 0) & (gaussian < 1)]
    assert (
        abs(gaussian.mean() - 0.5) < 0.01
        and abs((np.abs(inner - 0.5) < 0.25).sum() / uniform.size - 0.683) < 0.02
    )
    assert (constant == constant[0, 0]).all() and len(set(constant[0, 0])) == 3
