"""The first convolution under a Hann window: its kernel fades out to the borders.

    variables = faded(model.init(key, images))
    optimizer = fading(optax.sgd(0.1))

A gradient in the image is a sum of first kernels, one at every stride. Where they end in an edge, images that
climb it have a grid of that period; under the window neighbours fade into each other.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rsynth_jax.types import Variables

STEM = "Conv_0"  # the first convolution of a `models.resnet.ResNet`
ENLARGED = {"resnet8": "resnet8-64"}  # networks, and those with a stem of twice the kernel and the stride


def hann(size: int) -> np.ndarray:
    """Make the Hann window, float32 (size,), at the middles of `size` equal parts of its support.

    Windows that are half their size apart add up to 1.
    """
    return np.float32(np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2)


def faded(variables: Variables) -> Variables:
    """Multiply the first kernel by the window."""
    kernel = _kernel(variables["params"])
    return variables | {"params": _with_kernel(variables["params"], kernel * _window(kernel))}


def fading(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Multiply the optimizer's updates of the first kernel by the window's square.

    SGD then moves a kernel as if it were the window times the weights that are trained.
    """

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = optimizer.update(grads, state, params)
        kernel = _kernel(updates)
        return _with_kernel(updates, kernel * _window(kernel) ** 2), state

    return optax.GradientTransformation(optimizer.init, update)


def enlarged(variables: Variables) -> Variables:
    """Return the variables of the network of `ENLARGED`, which sees doubled pixels as the other their halves.

    A weight of the first kernel (k, k, c, o) becomes 2 x 2 of (2 k, 2 k, c, o), which share it as the window
    does. The convolution is the same where it begins at the same pixel; that of resnet8-64 begins one before.
    """
    kernel = _kernel(variables["params"])
    doubled = jnp.repeat(jnp.repeat(kernel, 2, axis=0), 2, axis=1)
    window = _window(doubled)
    blocks = window.reshape(len(kernel), 2, len(kernel), 2, 1, 1).sum((1, 3))
    shares = window / np.repeat(np.repeat(blocks, 2, axis=0), 2, axis=1)
    return variables | {"params": _with_kernel(variables["params"], doubled * shares)}


def _kernel(params: Any) -> jax.Array:
    return params[STEM]["kernel"]


def _with_kernel(params: Any, kernel: jax.Array) -> Any:
    return params | {STEM: params[STEM] | {"kernel": kernel}}


def _window(kernel: jax.Array) -> np.ndarray:
    return np.outer(*map(hann, kernel.shape[:2]))[:, :, None, None]
