"""Imported networks compute what torchvision, timm, robustness and RobustBench compute.

Random weights and random statistics of batch norm; logits and penultimate features in float32. The extra
[parity] has the packages; a test whose package is not installed is skipped.
"""

import argparse
import importlib
import importlib.util
import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from rsynth_jax import models
from rsynth_jax.storage import files, published

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")
nn = torch.nn

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def module(name: str):
    """A module of a package, without what the package's __init__ imports and no definition needs."""
    top = name.split(".")[0]
    places = sys.modules[top].__path__ if top in sys.modules else _places(top)
    # The wheel's operators are compiled for CUDA, and the networks need none.
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("none"))
    parts = name.split(".")[:-1] if top in ("robustbench", "robustness") else []
    for depth in range(len(parts)):
        package = ".".join(parts[: depth + 1])
        stub = types.ModuleType(package)
        stub.__path__ = ["/".join([*places, *parts[1 : depth + 1]])]
        sys.modules.setdefault(package, stub)
    return importlib.import_module(name)


def _places(package: str) -> list[str]:
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    return list(spec.submodule_search_locations or ())


def bench(name: str):
    return module(f"robustbench.model_zoo.architectures.{name}")


def gowal(kind: str, activation: str, **sizes):
    definitions = bench("dm_wide_resnet")
    activations = {"relu": nn.ReLU, "silu": nn.SiLU, "swish": definitions.Swish}
    return getattr(definitions, kind)(activation_fn=activations[activation], **sizes)


def preact(block: str, **options):
    definitions = bench("resnet")
    return definitions.PreActResNet(getattr(definitions, block), [2, 2, 2, 2], **options)


def lenet5():
    """As the README of the data states it."""

    class LeNet5(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
            self.linear1, self.linear2 = nn.Linear(64 * 49, 200), nn.Linear(200, 10)

        def forward(self, x):
            for convolution in (self.conv1, self.conv2):
                x = torch.max_pool2d(convolution(x).relu(), 2)
            return self.linear2(self.linear1(x.flatten(1)).relu())

    return LeNet5()


def cnn_a():
    """As the README of the data states it."""
    first, second = nn.Conv2d(3, 16, 4, 2, 1), nn.Conv2d(16, 32, 4, 2, 1)
    dense = [nn.Flatten(), nn.Linear(2048, 100), nn.ReLU(), nn.Linear(100, 10)]
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), *dense)


# name: (definition, the name of its last layer, the side of the images)
DEFINITIONS = {
    "resnet18-imagenet": [
        (lambda: module("torchvision.models").resnet18(), "fc", 64),
        (lambda: module("timm").create_model("resnet18"), "fc", 64),
        (lambda: module("robustness.imagenet_models.resnet").resnet18(), "fc", 64),
    ],
    "resnet50-imagenet": [
        (lambda: module("torchvision.models").resnet50(), "fc", 224),
        (lambda: module("timm").create_model("resnet50"), "fc", 64),
        (lambda: module("robustness.imagenet_models.resnet").resnet50(), "fc", 64),
    ],
    "wide-resnet50-2": [
        (lambda: module("torchvision.models").wide_resnet50_2(), "fc", 64),
        (lambda: module("timm").create_model("wide_resnet50_2"), "fc", 64),
    ],
    "wide-resnet50-4": [
        (lambda: module("robustness.imagenet_models.resnet").wide_resnet50_4(), "fc", 64),
    ],
    "resnet18": [
        (lambda: module("robustness.cifar_models.resnet").ResNet18(), "linear", 32),
        (lambda: bench("resnet").ResNet18(), "linear", 32),
    ],
    "resnet50": [
        (lambda: module("robustness.cifar_models.resnet").ResNet50(), "linear", 32),
        (lambda: bench("resnet").ResNet50(), "linear", 32),
    ],
    "preact-resnet18": [(lambda: preact("PreActBlockV2", bn_before_fc=True), "linear", 32)],
    "preact-resnet18-bare": [(lambda: preact("PreActBlock"), "linear", 32)],
    "preact-resnet18-gowal": [(lambda: gowal("DMPreActResNet", "relu"), "logits", 32)],
    "preact-resnet18-gowal-silu": [
        (lambda: gowal("DMPreActResNet", "silu"), "logits", 32),
        (lambda: gowal("DMPreActResNet", "swish"), "logits", 32),
    ],
    "convnext-tiny": [
        (lambda: module("timm").create_model("convnext_tiny"), "head.fc", 64),
        (lambda: module("torchvision.models").convnext_tiny(), "classifier.2", 64),
    ],
    "convnext-tiny-convstem": [
        (lambda: bench("convstem_models").get_convstem_models("convnext_t_cvst"), "head.fc", 64)
    ],
    "lenet5": [(lenet5, "linear2", 28)],
    "cnn-a": [(cnn_a, "7", 32)],
}
for d, k in models.WIDE:
    name = f"wide-resnet{d}-{k}"
    DEFINITIONS[name] = [
        (lambda d=d, k=k: bench("wide_resnet").WideResNet(d, widen_factor=k, sub_block1=d == 28), "fc", 32)
    ]
    for activation in ("relu", "silu"):
        suffix = "-gowal" if activation == "relu" else "-gowal-silu"
        DEFINITIONS[name + suffix] = [
            (
                lambda d=d, k=k, a=activation: gowal("DMWideResNet", a, depth=d, width=k),
                "logits",
                32,
            )
        ]
CASES = [(name, i) for name, listed in DEFINITIONS.items() for i in range(len(listed))]


def randomised(network):
    """The network in evaluation mode, with weights under which activations neither vanish nor explode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif tensor.ndim in (2, 4):
                scale = (2 / np.prod(tensor.shape[1:])) ** 0.5
                tensor.copy_(scale * torch.randn(tensor.shape, generator=generator))
            elif tensor.is_floating_point() and name not in ("mean", "std"):
                tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    return network.eval()


def outputs_of(network, last: str, images: np.ndarray):
    """Logits and the input of the last layer."""
    kept = []
    layer = network.get_submodule(last)
    hook = layer.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    with torch.no_grad():
        logits = network(torch.from_numpy(images).permute(0, 3, 1, 2))
    hook.remove()
    return logits.numpy(), kept[0].numpy()


def close(ours, theirs) -> None:
    """Equal to 1e-4 of the largest value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape and np.isfinite(theirs).all() and theirs.std() > 0
    assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize(("name", "case"), CASES)
def test_logits_and_features_are_those_of_the_other_definition(tmp_path, name, case):
    make, last, side = DEFINITIONS[name][case]
    network = randomised(make())
    torch.save(network.state_dict(), tmp_path / "w.pt")
    found = published.read(tmp_path / "w.pt", name)
    normalises = hasattr(network, "mean")  # its definition does so itself
    config = found.config if normalises else found.config._replace(mean=(0.0,), std=(1.0,))
    channels = 1 if name == "lenet5" else 3
    images = np.random.default_rng(0).random((2, side, side, channels), np.float32)
    logits, features = outputs_of(network, last, images)
    with jax.default_matmul_precision("highest"):
        ours = jax.jit(models.create(config).apply)(found.variables, jnp.asarray(images))
    close(ours.logits, logits)
    close(ours.features, features)


@pytest.mark.parametrize("name", [name for name in DEFINITIONS if "silu" not in name and "wide-" not in name])
def test_an_exported_file_loads_and_has_the_same_outputs(tmp_path, name):
    make, last, side = DEFINITIONS[name][0]
    network = randomised(make())
    torch.save(network.state_dict(), tmp_path / "w.pt")
    found = published.read(tmp_path / "w.pt", name)
    files.write_tensors(tmp_path / "e.safetensors", *published.exported(found.config, found.variables))
    arrays = files.read_tensors(tmp_path / "e.safetensors").arrays
    images = np.random.default_rng(0).random((1, side, side, 1 if name == "lenet5" else 3), np.float32)
    other = make().eval()
    tensors = {key: torch.from_numpy(array.copy()) for key, array in arrays.items()}
    missing = other.load_state_dict(tensors, strict=False)
    assert not missing.unexpected_keys
    assert all(key.endswith("num_batches_tracked") or key in ("mean", "std") for key in missing.missing_keys)
    for one, two in zip(outputs_of(network, last, images), outputs_of(other, last, images), strict=True):
        assert np.array_equal(one, two)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_pickled_by_dill_is_read_and_its_functions_do_not_run(tmp_path, monkeypatch, zipped):
    dill = module("dill")
    monkeypatch.chdir(tmp_path)
    network = randomised(module("robustness.cifar_models.resnet").ResNet18())
    wrapped = nn.ModuleDict({"model": network, "attacker": nn.ModuleDict({"model": network})})

    def touch(step):
        (tmp_path / "ran").touch()
        return 1.0

    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, touch)
    (tmp_path / "ran").unlink()
    checkpoint = {
        "model": {f"module.{key}": tensor for key, tensor in wrapped.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "args": argparse.Namespace(eps=0.5, where=pathlib.Path("x")),
        "prec1": torch.tensor(0.5),
        "best": np.float64(0.5),
        "hook": lambda: __import__("os").system("touch ran"),
    }
    torch.save(checkpoint, "w.pt", pickle_module=dill, _use_new_zipfile_serialization=zipped)
    found = published.read("w.pt")
    assert found.config.architecture == "resnet18"
    assert {"args", "best", "hook", "optimizer", "prec1", "schedule"} <= set(found.skipped)
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


def test_every_published_architecture_has_another_definition():
    own = ("resnet8", "resnet11")
    assert set(DEFINITIONS) == {name for name in models.ARCHITECTURES if not name.startswith(own)}
