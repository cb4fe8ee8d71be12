"""Weights and photos drawn with NumPy, the same wherever they are drawn: in the tests, and beside PyTorch.

state = state_dict(inception_v3())      # in PyTorch's names and layouts
"""

import numpy as np

from rsynth_jax.models import alexnet, pytorch

PHOTOS = np.random.default_rng(1).random((2, 40, 56, 3), np.float32)


def theirs(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in PyTorch's layout of an array that has `shape` in ours."""
    return tuple(shape[axis] for axis in np.argsort(pytorch.AXES[len(shape)]))


def drawn(rng: np.random.Generator, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights under which activations neither vanish nor explode."""
    if len(shape) > 1:
        return rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
    return rng.uniform(0.5, 1.5, shape) if key.endswith(("weight", "var")) else rng.normal(0, 0.1, shape)


def state_dict(model) -> dict[str, np.ndarray]:
    """A state dict of the network."""
    rng = np.random.default_rng(0)
    shapes = {key: theirs(shape) for key, (_, shape) in sorted(pytorch.paths(model).items())}
    return {key: drawn(rng, key, shape).astype(np.float32) for key, shape in shapes.items()}


def lpips() -> dict[str, np.ndarray]:
    """AlexNet's layers and LPIPS's heads, as the .npz names them."""
    rng, arrays = np.random.default_rng(0), {}
    for index, layer in enumerate(alexnet.LAYERS):
        scale = np.sqrt(2 / np.prod(layer.shape[:3]))
        arrays[f"conv{index}_w"] = (rng.normal(size=layer.shape) * scale).astype(np.float32)
        arrays[f"conv{index}_b"] = rng.normal(0, 0.1, layer.shape[-1]).astype(np.float32)
        arrays[f"lin{index}"] = rng.random(layer.shape[-1], np.float32)
    return arrays
