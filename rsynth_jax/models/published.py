"""The forms in which the bundled architectures are published: names of layers, inputs, normalisation.

    names = PUBLISHED["resnet50-imagenet"].names[0]
    names["Bottleneck_0/Conv_3"]                   # "layer1.0.downsample.0", as torchvision names it
    keys(variables, names)                         # {"conv1.weight": ("params", "Conv_0", "kernel"), ...}

The first of the names of an architecture are those that it is exported with.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flax import traverse_util

from rsynth_jax import models
from rsynth_jax.models import WIDE, layers
from rsynth_jax.models.pytorch import LEAVES
from rsynth_jax.types import Variables

Path = tuple[str, ...]
Names = Mapping[str, str]  # the path of one of our modules, or of an array -> its published name

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
GOWAL_MEAN = (0.4914, 0.4822, 0.4465)  # of Gowal et al. 2020 for CIFAR-10
GOWAL_STD = (0.2471, 0.2435, 0.2616)


class Published(NamedTuple):
    """An architecture as it is published.

    Attributes:
      names: of its layers, one set for each code base.
      shape: (height, width, channels) of its images.
      mean, std: of its normalisation, where a file has none.
    """

    names: tuple[Names, ...]
    shape: tuple[int, int, int] = (32, 32, 3)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


def keys(variables: Any, names: Names) -> dict[str, Path]:
    """Map each published key to the path of the array that it names in `variables`."""
    flat = traverse_util.flatten_dict(variables)
    return {_key(path, names): path for path in flat}


@functools.lru_cache(maxsize=128)
def expected(architecture: str, num_classes: int, channels: int) -> Variables:
    """Compute the shapes of an architecture's variables for its published side."""
    model = models.create(models.Config(architecture, num_classes))
    return layers.shapes(model, (*PUBLISHED[architecture].shape[:2], channels))


def _key(path: Path, names: Names) -> str:
    """The published key of an array at (collection, modules ..., leaf)."""
    module, leaf = "/".join(path[1:-1]), path[-1]
    own = names.get(f"{module}/{leaf}")
    return own or f"{names[module]}.{LEAVES[leaf]}"


def _blocks(sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """The number of each block, its stage, and its number in the stage."""
    places = ((stage, index) for stage, size in enumerate(sizes) for index in range(size))
    yield from ((number, *place) for number, place in enumerate(places))


def _resnet(block: str, convolutions: int, sizes: Sequence[int], shortcut: str, last: str) -> Names:
    names = {"Conv_0": "conv1", "BatchNorm_0": "bn1", "Dense_0": last}
    for number, stage, index in _blocks(sizes):
        ours, theirs = f"{block}_{number}", f"layer{stage + 1}.{index}"
        for i in range(convolutions):
            names[f"{ours}/Conv_{i}"] = f"{theirs}.conv{i + 1}"
            names[f"{ours}/BatchNorm_{i}"] = f"{theirs}.bn{i + 1}"
        projection = {"Conv": f"{theirs}.{shortcut}.0", "BatchNorm": f"{theirs}.{shortcut}.1"}
        names |= {f"{ours}/{kind}_{convolutions}": name for kind, name in projection.items()}
    return names


class _PreAct(NamedTuple):
    """One code base's names: of the ends of a network, of a block, and of the layers of a block."""

    stem: str
    norm: str
    readout: str
    block: str
    norms: tuple[str, str]
    shortcut: str
    convolutions: tuple[str, str]


def _preact(base: _PreAct, sizes: Sequence[int], projected: Sequence[int]) -> Names:
    """The names of a network whose first blocks of the stages `projected` have a shortcut's convolution."""
    names = {"Conv_0": base.stem, "BatchNorm_0": base.norm, "Dense_0": base.readout}
    for number, stage, index in _blocks(sizes):
        ours, theirs = f"PreActBlock_{number}", base.block.format(stage=stage, next=stage + 1, index=index)
        shortcut = (base.shortcut,) if index == 0 and stage in projected else ()
        for kind, named in (("BatchNorm", base.norms), ("Conv", (*shortcut, *base.convolutions))):
            names |= {f"{ours}/{kind}_{i}": f"{theirs}.{layer}" for i, layer in enumerate(named)}
    return names


_RICE = _PreAct(
    "conv1",
    "bn",
    "linear",
    block="layer{next}.{index}",
    norms=("bn1", "bn2"),
    shortcut="shortcut.0",
    convolutions=("conv1", "conv2"),
)
_TRADES = _RICE._replace(norm="bn1", readout="fc", block="block{next}.layer.{index}", shortcut="convShortcut")
_GOWAL_WIDE = _PreAct(
    "init_conv",
    "batchnorm",
    "logits",
    block="layer.{stage}.block.{index}",
    norms=("batchnorm_0", "batchnorm_1"),
    shortcut="shortcut",
    convolutions=("conv_0", "conv_1"),
)
_GOWAL_18 = _GOWAL_WIDE._replace(
    stem="conv_2d", block="layer_{stage}.{index}", convolutions=("conv_2d_1", "conv_2d_2")
)


class _ConvNeXt(NamedTuple):
    """One code base's names: of the layers of the plain stem, of downsampling, of a block, of the ends."""

    stem: tuple[str, ...]
    downsampling: tuple[str, str]
    block: str
    layers: tuple[str, str, str, str, str]
    norm: str
    readout: str


_SIZES = (3, 3, 9, 3)  # of ConvNeXt-T


def _convnext(base: _ConvNeXt) -> Names:
    num = len(base.stem) // 2
    names = {"Dense_0": base.readout, f"LayerNorm_{num + 3}": base.norm}
    for i, name in enumerate(base.stem):
        names[f"{('Conv', 'LayerNorm')[i % 2]}_{i // 2}"] = name
    for stage in range(1, len(_SIZES)):
        norm, convolution = (name.format(stage=stage, double=2 * stage) for name in base.downsampling)
        names |= {f"LayerNorm_{num + stage - 1}": norm, f"Conv_{num + stage - 1}": convolution}
    ours = ("Conv_0", "LayerNorm_0", "Dense_0", "Dense_1", "gamma")
    for number, stage, index in _blocks(_SIZES):
        theirs = base.block.format(stage=stage, double=2 * stage + 1, index=index)
        for own, layer in zip(ours, base.layers, strict=True):
            names[f"ConvNeXtBlock_{number}/{own}"] = f"{theirs}.{layer}"
    return names


_TIMM = _ConvNeXt(
    ("stem.0", "stem.1"),
    ("stages.{stage}.downsample.0", "stages.{stage}.downsample.1"),
    "stages.{stage}.blocks.{index}",
    ("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"),
    "head.norm",
    "head.fc",
)
_TORCHVISION = _ConvNeXt(
    ("features.0.0", "features.0.1"),
    ("features.{double}.0", "features.{double}.1"),
    "features.{double}.{index}",
    ("block.0", "block.2", "block.3", "block.5", "layer_scale"),
    "classifier.0",
    "classifier.2",
)
_LIU = _ConvNeXt(
    ("downsample_layers.0.0", "downsample_layers.0.1"),
    ("downsample_layers.{stage}.0", "downsample_layers.{stage}.1"),
    "stages.{stage}.{index}",
    ("dwconv", "norm", "pwconv1", "pwconv2", "gamma"),
    "norm",
    "head",
)
_SINGH = _TIMM._replace(stem=("stem.stem.0", "stem.stem.1", "stem.stem.3", "stem.stem.4"))


def _sequence(*names: str) -> Names:
    return dict(zip(("Conv_0", "Conv_1", "hidden", "Dense_0"), names, strict=True))


def _imagenet(*names: Names) -> Published:
    return Published(names, (224, 224, 3), IMAGENET_MEAN, IMAGENET_STD)


def _gowal(names: Names) -> Published:
    return Published((names,), mean=GOWAL_MEAN, std=GOWAL_STD)


_BASIC = functools.partial(_resnet, "BasicBlock", 2)
_BOTTLENECK = functools.partial(_resnet, "Bottleneck", 3, (3, 4, 6, 3))
_EIGHTEEN = (2, 2, 2, 2)
_CIFAR = (("shortcut", "linear"), ("downsample", "fc"))
_LARGE = _imagenet(_BOTTLENECK("downsample", "fc"))

PUBLISHED = {
    "resnet8": Published((_BASIC((1, 1, 1), "downsample", "fc"),)),
    "resnet8-64": Published((_BASIC((1, 1, 1), "downsample", "fc"),), (64, 64, 3)),
    "resnet11-64": Published(({**_BASIC((1, 1, 1, 1), "downsample", "fc"), "Conv_1": "conv2"},), (64, 64, 3)),
    "resnet18": Published(tuple(_BASIC(_EIGHTEEN, *names) for names in _CIFAR)),
    "resnet50": Published(tuple(_BOTTLENECK(*names) for names in _CIFAR)),
    "resnet18-imagenet": _imagenet(_BASIC(_EIGHTEEN, "downsample", "fc")),
    **dict.fromkeys(("resnet50-imagenet", "wide-resnet50-2", "wide-resnet50-4"), _LARGE),
    **dict.fromkeys(
        ("preact-resnet18", "preact-resnet18-bare"), Published((_preact(_RICE, _EIGHTEEN, range(1, 4)),))
    ),
    **dict.fromkeys(
        ("preact-resnet18-gowal", "preact-resnet18-gowal-silu"),
        _gowal(_preact(_GOWAL_18, _EIGHTEEN, range(1, 4))),
    ),
    "convnext-tiny": _imagenet(_convnext(_TIMM), _convnext(_TORCHVISION), _convnext(_LIU)),
    "convnext-tiny-convstem": _imagenet(_convnext(_SINGH)),
    "lenet5": Published((_sequence("conv1", "conv2", "linear1", "linear2"),), (28, 28, 1)),
    "cnn-a": Published((_sequence("0", "2", "5", "7"),), mean=IMAGENET_MEAN, std=(0.225,)),
}
for _depth, _factor in WIDE:
    _three = (((_depth - 4) // 6,) * 3, range(3))
    _name = f"wide-resnet{_depth}-{_factor}"
    PUBLISHED[_name] = Published((_preact(_TRADES, *_three),))
    PUBLISHED |= dict.fromkeys(
        (f"{_name}-gowal", f"{_name}-gowal-silu"), _gowal(_preact(_GOWAL_WIDE, *_three))
    )
