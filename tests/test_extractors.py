"""The networks that others measure with: their published sizes, their values beside PyTorch's, their weights."""

import hashlib
import importlib.util
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from tiny import refused

from benchmarks import drawn
from rsynth_jax import checkpoints, extractors
from rsynth_jax.models import alexnet, efficientnet, inception, layers, pytorch

NETWORKS = {
    "inception": (inception.inception_v3(), 2048, 1008, 23_851_784 - 8 * 0),
    "efficientnet-lite0": (efficientnet.efficientnet_lite0(), 1280, 1000, 4_652_008),
}
ROOT = Path(__file__).parents[1]
BABOON = ROOT / "../shared/data/photos/set14/img_001.png"
LPIPS = ROOT / "../shared/data/weights/lpips_alex.npz"
