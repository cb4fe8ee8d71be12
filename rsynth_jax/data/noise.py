"""Sets of random images, for comparison with data sets: each image is drawn where it is indexed.

images = drawn(DRAWS["noise"], 1000, (32, 32, 3), seed=0).images
"""

from collections.abc import Callable

import numpy as np

from rsynth_jax import seeds
from rsynth_jax.data.sources import Dataset, Example

Draw = Callable[[np.random.Generator, tuple[int, int, int]], np.ndarray]  # an image (h, w, c) in [0, 1]

DRAWS: dict[str, Draw] = {  # for programs
    "noise": lambda rng, shape: rng.random(shape),
    "gaussian": lambda rng, shape: np.clip(rng.normal(0.5, 0.25, shape), 0, 1),
    "constant": lambda rng, shape: np.broadcast_to(rng.random(shape[-1]), shape),
}


def drawn(draw: Draw, num: int, shape: tuple[int, int, int], *, seed: int) -> Dataset:
    """Draw `num` images uint8 (h, w, c); image i depends on (seed, i) alone."""

    def read(row: int) -> Example:
        values = draw(seeds.rng(seed, row), shape)
        return Example(np.rint(255 * values).astype(np.uint8))

    return Dataset("drawn images", read, np.arange(num))
