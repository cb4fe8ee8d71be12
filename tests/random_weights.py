"""Weights and photos drawn with NumPy, the same on every machine.

state = state_dict(inception_v3())      # in PyTorch's names and layouts
"""

import flax.linen as nn
import numpy as np

from rsynth_jax.models import alexnet, pytorch

PHOTOS = np.random.default_rng(1).random((2, 40, 56, 3), np.float32)


def state_dict(model: nn.Module) -> dict[str, np.ndarray]:
    """A state dict of the network, under which activations neither vanish nor explode."""
    rng = np.random.default_rng(0)
    shapes = {key: _pytorch_shape(shape) for key, (_, shape) in sorted(pytorch.paths(model).items())}
    return {key: _draw(rng, key, shape).astype(np.float32) for key, shape in shapes.items()}


def _pytorch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in PyTorch's layout of an array that has `shape` in ours."""
    return tuple(shape[axis] for axis in np.argsort(pytorch.AXES[len(shape)]))


def _draw(rng: np.random.Generator, key: str, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) > 1:
        return rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
    return rng.uniform(0.5, 1.5, shape) if key.endswith(("weight", "var")) else rng.normal(0, 0.1, shape)


def lpips() -> dict[str, np.ndarray]:
    """AlexNet's layers and LPIPS's heads, as the .npz names them."""
    rng = np.random.default_rng(0)
    arrays = {}
    for index, layer in enumerate(alexnet.LAYERS):
        scale = np.sqrt(2 / np.prod(layer.shape[:3]))
        arrays[f"conv{index}_w"] = (rng.normal(size=layer.shape) * scale).astype(np.float32)
        arrays[f"conv{index}_b"] = rng.normal(0, 0.1, layer.shape[-1]).astype(np.float32)
        arrays[f"lin{index}"] = rng.random(layer.shape[-1], np.float32)
    return arrays
