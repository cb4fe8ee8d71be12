"""The same networks twice: in Flax and in PyTorch, with the same weights.

    twin = bundled("cifar10")
    twin.model.apply(twin.variables, images).logits, twin.torch(images)

Needs torch.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

from rsynth_jax import checkpoints, models
from rsynth_jax.models.layers import Outputs


class Twin(NamedTuple):
    """model and variables in Flax; torch: images (n, 3, h, w) in [0, 1] -> logits (n, k)."""

    model: nn.Module
    variables: Any
    torch: Callable


def convolve(x, kernel, stride):
    """A Flax convolution's kernel at work in PyTorch."""
    weight = torch.from_numpy(np.array(kernel)).permute(3, 2, 0, 1)
    return F.conv2d(x, weight, stride=stride, padding=(weight.shape[-1] - 1) // 2)


def normalize(x, params, stats):
    """Batch norm in evaluation mode."""
    tensors = (stats["mean"], stats["var"], params["scale"], params["bias"])
    return F.batch_norm(x, *(torch.from_numpy(np.array(t)) for t in tensors))


def torch_logits(variables, x):
    """resnet8 of `rsynth_jax.models` on images (n, 3, h, w), written over again."""
    params, stats = variables["params"], variables["batch_stats"]
    x = convolve((x - 0.5) / 0.25, params["Conv_0"]["kernel"], 2)
    x = F.silu(normalize(x, params["BatchNorm_0"], stats["BatchNorm_0"]))
    for i, stride in enumerate((1, 2, 2)):
        p, s = params[f"BasicBlock_{i}"], stats[f"BasicBlock_{i}"]
        y = normalize(convolve(x, p["Conv_0"]["kernel"], stride), p["BatchNorm_0"], s["BatchNorm_0"])
        y = normalize(convolve(F.silu(y), p["Conv_1"]["kernel"], 1), p["BatchNorm_1"], s["BatchNorm_1"])
        if "Conv_2" in p:
            x = normalize(convolve(x, p["Conv_2"]["kernel"], stride), p["BatchNorm_2"], s["BatchNorm_2"])
        x = F.silu(x + y)
    head = {name: torch.from_numpy(np.array(value)) for name, value in params["Dense_0"].items()}
    return x.mean(dim=(2, 3)) @ head["kernel"] + head["bias"]


def bundled(name: str) -> Twin:
    """A released resnet8."""
    release = checkpoints.load(name)
    model, variables = models.create(release.config), release.variables
    return Twin(model, variables, lambda x: torch_logits(variables, x))


class CnnA(nn.Module):
    """CNN-A of alpha-beta-CROWN: two strided convolutions and two dense layers."""

    @nn.compact
    def __call__(self, images) -> Outputs:
        x = (images - jnp.array([0.485, 0.456, 0.406], images.dtype)) / 0.225
        for width in (16, 32):
            x = nn.relu(nn.Conv(width, (4, 4), (2, 2), padding=1)(x))
        x = jnp.moveaxis(x, -1, 1).reshape(len(x), -1)  # its weights were trained on channels first
        features = nn.relu(nn.Dense(100)(x))
        return Outputs(nn.Dense(10)(features), features)


def cnn_a(path: Path) -> Twin:
    """The published l-inf 2/255 robust CNN-A, from its PyTorch file."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 4, 2, 1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 4, 2, 1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(2048, 100),
        torch.nn.ReLU(),
        torch.nn.Linear(100, 10),
    )
    module.load_state_dict(state)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    turns = {
        "Conv_0": (0, (2, 3, 1, 0)),
        "Conv_1": (2, (2, 3, 1, 0)),
        "Dense_0": (5, (1, 0)),
        "Dense_1": (7, (1, 0)),
    }
    params = {
        name: {"kernel": state[f"{i}.weight"].numpy().transpose(axes), "bias": state[f"{i}.bias"].numpy()}
        for name, (i, axes) in turns.items()
    }
    return Twin(CnnA(), {"params": params}, lambda x: module((x - mean) / 0.225))


class Module(torch.nn.Module):
    """A function as the module that attack packages ask for."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function, self.anchor = function, torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        """The function."""
        return self.function(x)


def to_torch(images: np.ndarray) -> torch.Tensor:
    """uint8 (n, h, w, c) -> float32 (n, c, h, w) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous() / 255
