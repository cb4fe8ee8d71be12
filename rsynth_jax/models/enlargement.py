"""Networks for images of twice the side, started from a network for images of half of it.

    variables = ENLARGEMENTS["resnet8", "resnet11-64"](variables, drawn)

An enlarged network gives an image of doubled pixels the outputs that the other one gives the image itself:
resnet11-64 exactly, resnet8-64 up to a shift by one pixel.
"""

from collections.abc import Callable

import jax.numpy as jnp

from rsynth_jax.types import Variables

Enlarge = Callable[[Variables, Variables], Variables]  # (variables, drawn ones of the larger network)
FIRST = "Conv_0"  # the name of the first convolution of a `resnet.ResNet`


def larger_kernel(variables: Variables, drawn: Variables) -> Variables:
    """Double the kernel and the stride of the first convolution.

    A weight of its kernel (k, k, c, o) becomes a quarter of itself at 2 x 2 places of (2 k, 2 k, c, o). The
    convolution is the same where it begins at the same pixel; that of resnet8-64 begins one before.

    Args:
      variables: of the smaller network.
      drawn: of the larger one, of which nothing is kept.
    """
    params = variables["params"]
    kernel = jnp.repeat(jnp.repeat(params[FIRST]["kernel"], 2, axis=0), 2, axis=1) / 4
    return {**variables, "params": {**params, FIRST: {**params[FIRST], "kernel": kernel}}}


def halving_before(variables: Variables, drawn: Variables) -> Variables:
    """Put a strided convolution and a block before the first convolution.

    The first 2 c channels of the convolution are the means of 2 x 2 pixels of the c channels and their
    negatives, the block's residual is 0, and silu(x) - silu(-x) = x. The other channels are drawn, and have
    no weight in the outputs at first.

    Args:
      variables: of the smaller network.
      drawn: of the larger one.
    """
    params, channels = _behind(variables["params"]), variables["params"][FIRST]["kernel"].shape[2]
    means = jnp.zeros((4, 4, channels)).at[1:3, 1:3].set(0.25)[..., None] * jnp.eye(channels)
    first = jnp.concatenate([means, -means, drawn["params"][FIRST]["kernel"][..., 2 * channels :]], axis=3)
    block, statistics = (drawn[each]["BasicBlock_0"] for each in ("params", "batch_stats"))
    last = block["BatchNorm_1"]
    block = {**block, "BatchNorm_1": {**last, "scale": jnp.zeros_like(last["scale"])}}
    kernel = params["Conv_1"]["kernel"]
    rest = jnp.zeros((*kernel.shape[:2], first.shape[3] - 2 * channels, kernel.shape[3]))
    second = jnp.concatenate([kernel, -kernel, rest], axis=2)
    return {
        "params": {**params, FIRST: {"kernel": first}, "Conv_1": {"kernel": second}, "BasicBlock_0": block},
        "batch_stats": {**_behind(variables["batch_stats"]), "BasicBlock_0": statistics},
    }


def _behind(collection: Variables) -> Variables:
    """Number the convolutions and blocks from one, which makes room for the first of each."""
    names = {"Conv_0": "Conv_1"} | {f"BasicBlock_{i}": f"BasicBlock_{i + 1}" for i in range(len(collection))}
    return {names.get(name, name): value for name, value in collection.items()}


ENLARGEMENTS: dict[tuple[str, str], Enlarge] = {  # by the smaller and the larger architecture
    ("resnet8", "resnet8-64"): larger_kernel,
    ("resnet8", "resnet11-64"): halving_before,
}
