"""Networks (flax.linen): functions of images in [0, 1] of any size and channel count.

    model = create(Config("resnet8", num_classes=10))
    classifier = bind(model, model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3))))

A model normalises in its first layer and returns `Outputs(logits, features)`. Batch norm is in training
mode exactly while its statistics are mutable: `model.apply(variables, images, mutable=["batch_stats"])`.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsynth_jax import checks, messages
from rsynth_jax.models import convnet, convnext, preact_resnet, resnet
from rsynth_jax.models.preact_resnet import GOWAL, GOWAL_SILU, HE
from rsynth_jax.models.surgery import on_batch_of_one, untouched
from rsynth_jax.types import Classifier, Image, Outputs, Surgery

WIDE = ((28, 10), (34, 10), (34, 20), (70, 16))  # depth and factor of the wide networks for CIFAR-10
ARCHITECTURES = {
    "resnet8": resnet.resnet8,
    "resnet8-64": resnet.resnet8_64,
    "resnet11-64": resnet.resnet11_64,
    "resnet18": resnet.resnet18,
    "resnet50": resnet.resnet50,
    "resnet18-imagenet": resnet.resnet18_imagenet,
    "resnet50-imagenet": resnet.resnet50_imagenet,
    "wide-resnet50-2": resnet.wide_resnet50(2),
    "wide-resnet50-4": resnet.wide_resnet50(4),
    "preact-resnet18": preact_resnet.preact_resnet18,
    "preact-resnet18-bare": preact_resnet.preact_resnet18_bare,
    "preact-resnet18-gowal": preact_resnet.preact_resnet18_gowal,
    "preact-resnet18-gowal-silu": preact_resnet.preact_resnet18_gowal_silu,
    **{f"wide-resnet{d}-{k}": preact_resnet.wide_resnet(d, k, HE) for d, k in WIDE},
    **{f"wide-resnet{d}-{k}-gowal": preact_resnet.wide_resnet(d, k, GOWAL) for d, k in WIDE},
    **{f"wide-resnet{d}-{k}-gowal-silu": preact_resnet.wide_resnet(d, k, GOWAL_SILU) for d, k in WIDE},
    "convnext-tiny": convnext.convnext_tiny,
    "convnext-tiny-convstem": convnext.convnext_tiny_convstem,
    "lenet5": convnet.lenet5,
    "cnn-a": convnet.cnn_a,
}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
LAST = "Dense_0"  # the name of the linear layer of `layers.readout`
_BLOCKS = (resnet.BasicBlock, resnet.Bottleneck, preact_resnet.PreActBlock, convnext.ConvNeXtBlock)


class Config(NamedTuple):
    """Plain data that determines a network, stored as JSON.

    Attributes:
      architecture: a key of `ARCHITECTURES`.
      num_classes: length of the logits.
      mean, std: the first layer computes (x - mean) / std; one value, or one a channel.
      dtype: of the computation, "float32" or "bfloat16"; parameters and logits stay float32.
    """

    architecture: str
    num_classes: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    dtype: str = "float32"


def create(config: Config) -> nn.Module:
    """Make the module of a `Config`. Raises ValueError for an architecture or dtype that does not exist."""
    architecture = checks.named("architecture", config.architecture, ARCHITECTURES)
    dtype = checks.named("dtype", config.dtype, DTYPES)
    return architecture(
        num_classes=config.num_classes, mean=tuple(config.mean), std=tuple(config.std), dtype=dtype
    )


def readout(variables: Any) -> tuple[jax.Array, jax.Array]:
    """Return the weights (d, k) and the bias (k,) of the last layer: logits = features @ weights + bias."""
    last = variables["params"][LAST]
    return last["kernel"], last["bias"]


def with_readout(variables: Any, other: Any) -> Any:
    """Replace the last layer of `variables` by that of `other`: the same features, other classes."""
    return {**variables, "params": {**variables["params"], LAST: other["params"][LAST]}}


def bind(model: nn.Module, variables: Any, surgery: Surgery = untouched) -> Classifier:
    """Close over `variables`, with batch norm in evaluation mode: the classifier of one image.

    The surgery changes the maps of the blocks, block0, block1 ... in the order in which they are applied, on
    the way to the logits, see `rsynth_jax.models.surgery`.
    """

    def is_map(module: nn.Module, method: str) -> bool:
        return isinstance(module, _BLOCKS) and method == "__call__"

    def outputs(image: Image) -> Outputs:
        numbers = itertools.count()

        def operate(apply: Callable, inputs: Any, named: Any, context: nn.module.InterceptorContext) -> Any:
            x = apply(*inputs, **named)
            if not is_map(context.module, context.method_name):
                return x
            return on_batch_of_one(surgery)(f"block{next(numbers)}", x)

        kept = {"capture_intermediates": is_map, "mutable": ["intermediates"]}
        with nn.intercept_methods(operate):
            found, maps = model.apply(variables, image[None], **kept)
        maps = found.maps or jax.tree.leaves(maps)
        return Outputs(
            found.logits[0], found.features[0], tuple(each[0].astype(jnp.float32) for each in maps)
        )

    return Classifier(outputs)


def precompose(classifier: Classifier, transform: Callable[[Image], Image]) -> Classifier:
    """Transform the image, then apply the classifier."""
    return Classifier(lambda image: classifier.outputs(transform(image)))


def label_of(name: str | int, class_names: Sequence[str]) -> int:
    """Find the label of a class given by name or number. Raises ValueError for an unknown one."""
    labels = {str(label): label for label in range(len(class_names))}
    labels |= {known: label for label, known in enumerate(class_names)}
    if str(name) not in labels:
        raise ValueError(
            f"no class {str(name)[:40]!r}: give a number, or one of {messages.listed(class_names)}"
        )
    return labels[str(name)]
