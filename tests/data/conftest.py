"""A folder of class folders that the tests of the sources and of the loader read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow


@pytest.fixture
def photos(tmp_path) -> Path:
    """40 cats and 20 axolotls of 8 x 8; the first pixel's red is the image's number."""
    rng = np.random.default_rng(0)
    for number in range(60):
        image = rng.integers(0, 256, (8, 8, 3), np.uint8)
        image[0, 0, 0] = number
        path = tmp_path / "photos/train" / ("cat" if number < 40 else "axolotl") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(image).save(path)
    return tmp_path / "photos"
