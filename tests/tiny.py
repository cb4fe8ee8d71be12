"""What the tests of the programs feed them: a network, photos and a released classifier that cost little.

with tiny.network():
    tiny.release(path, ("cat", "dog"))
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_type_hints
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as Pillow

from rsynth_jax import models
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.cli import writers
from rsynth_jax.models import inversion, layers, resnet, style
from rsynth_jax.models import translator as translator_nets
from rsynth_jax.models.segmenter import SegmenterConfig
from rsynth_jax.models.segmenter import create as create_segmenter
from rsynth_jax.storage import generators, inverters, releases, segmenters, translators
from rsynth_jax.synthesis.class_gaussians import ClassGaussians
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.types import Classifier, Outputs


def fast(values: Iterable, *names: str) -> list:
    """The parameters of a test by name, slow but for those of these names."""
    return [value if value in names else pytest.param(value, marks=pytest.mark.slow) for value in values]


refused = functools.partial(pytest.raises, ValueError, check=lambda error: "\n" not in str(error))

SHAPE = (16, 16, 3)
NAMES = ("airplane", "cat", "dog")
ONE_BLOCK = functools.partial(resnet.ResNet, resnet.BasicBlock, (1,), layers.STRIDED_STEM)


class Linear(nn.Module):
    """features = the pixels, logits = W x + b, of three classes."""

    @nn.compact
    def __call__(self, images):
        features = images.reshape(len(images), -1)
        return Outputs(nn.Dense(3)(features), features)


def classifier(
    logits: Callable, features: Callable = jnp.ravel, maps: Callable = lambda image: ()
) -> Classifier:
    """Of pure functions of one image; by default the features are its pixels, and there are no maps."""
    return Classifier(lambda image: Outputs(logits(image), features(image), maps(image)))


@contextlib.contextmanager
def network():
    """Meanwhile there are "tiny", of one block, and "linear"; optax may mix dtypes, as it does itself."""
    others = {"tiny": ONE_BLOCK, "linear": lambda **config: Linear()}
    with mock.patch.dict(models.ARCHITECTURES, others), jax.numpy_dtype_promotion("standard"):
        yield


@contextlib.contextmanager
def summaries():
    """Meanwhile a run has a place for summaries: a list of each step and its numbers or pictures."""
    found = []
    writer = writers.Writer(*[lambda step, values: found.append((step, dict(values)))] * 2)
    with mock.patch.object(writers, "opened", lambda *_: contextlib.nullcontext([writer])):
        yield found


def noise(num: int) -> np.ndarray:
    """So many images."""
    return np.random.default_rng(0).integers(0, 256, (num, *SHAPE), np.uint8)


def pictures(folder: Path, images: np.ndarray, *damaged: str) -> Path:
    """The folder, with a PNG of each image, and damaged ones of these names."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Pillow.fromarray(image).save(folder / f"{i:02d}.png")
    for name in damaged:
        (folder / f"{name}.png").write_bytes(b"no picture")
    return folder


def bench(folder: Path, **sets: dict) -> Path:
    """The folder, with a linear classifier of `NAMES`, c.safetensors, and an .npz of each set of arrays."""
    release(folder / "c.safetensors", NAMES, "linear")
    for name, arrays in sets.items():
        np.savez(folder / f"{name}.npz", **arrays)
    return folder


def photos(path: Path, class_names: tuple[str, ...], **splits: int) -> str:
    """An .npz with so many images of noise in each split; its --data."""
    rng = np.random.default_rng(0)
    arrays = {"class_names": np.array(class_names)}
    for split, num in splits.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (num, *SHAPE), np.uint8)
        arrays[f"{split}_labels"] = np.arange(num) % len(class_names)
    np.savez(path, **arrays)
    return f"npz:{path}"


def untrained(config: models.Config):
    """Variables as training begins with them."""
    key = jax.random.key(0, impl="rbg")  # compiles three times faster than the default
    return jax.jit(models.create(config).init)(key, jnp.zeros((1, *SHAPE)))


def release(
    path: Path, class_names: tuple[str, ...], architecture: str = "tiny", variables=None
) -> releases.Release:
    """An untrained classifier of these classes, also written to `path`."""
    config = models.Config(architecture, len(class_names), mean=(0.4, 0.5, 0.6), std=(0.2,))
    rng = np.random.default_rng(0)
    low = (len(class_names), 8, 8, 3)
    released = releases.Release(
        config=config,
        variables=untrained(config) if variables is None else variables,
        class_gaussians=ClassGaussians(
            rng.random(low, np.float32), 0.1 * rng.random((low[0], 5, *low[1:]), np.float32)
        ),
        class_names=class_names,
        image_shape=SHAPE,
        threat=Threat(L2, 0.5),
        steps=Steps(0.1, 7),
        recipe={"epochs": 0, "milestones": [1, 2]},
    )
    releases.save(path, released)
    return released


def generator(path: Path, class_names: tuple[str, ...] = NAMES) -> generators.GeneratorRelease:
    """An untrained generator of 16 pixels whose noise shows, also written to `path`."""
    config = style.GeneratorConfig(len(class_names), 16, (8, 8), latent_size=8, mapping_depth=2)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        scale = 1 / style.MAPPING_RATE if path[1].key.startswith("mapping") else 1
        return np.float32(rng.normal(0, scale, leaf.shape))

    shapes = jax.eval_shape(lambda: style.init(config, jax.random.key(0)))
    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    means = rng.normal(size=(len(class_names), 8)).astype(np.float32)
    recipe = {"steps": 0}
    generators.save(path, generators.GeneratorRelease(config, variables, means, class_names, recipe))
    return generators.load(path)


def inverter(
    path: Path, classifier: releases.Release, layer: str = inversion.FEATURES, latent_size: int = 0
) -> inverters.InverterRelease:
    """An untrained inverter of a classifier of 16 pixels, also written to `path`."""
    represent = inversion.represent(models.bind(classifier.model, classifier.variables), layer)
    shape = jax.eval_shape(represent, jnp.zeros(SHAPE)).shape
    config = inversion.InverterConfig(layer, shape, SHAPE[0], (8, 8, 4), latent_size)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: inversion.init(config, jax.random.key(0)))
    inverters.save(
        path,
        inverters.InverterRelease(
            config=config,
            variables=jax.tree.map(lambda leaf: np.float32(rng.normal(size=leaf.shape)), shapes),
            moments=inversion.Moments(*np.float32(rng.random((2, shape[-1])) + 0.5)),
            classifier=str(path.parent / "c.safetensors"),
            classifier_sha256=releases.digest(classifier),
            class_names=classifier.class_names,
            recipe={"steps": 0},
        ),
    )
    return inverters.load(path)


def segmenter(path: Path, class_names: tuple[str, ...] = ("wall", "door")) -> segmenters.SegmenterRelease:
    """An untrained segmenter of 16 pixels, also written to `path`."""
    config = SegmenterConfig(len(class_names), width=2)
    rng = np.random.default_rng(0)
    shapes = layers.shapes(create_segmenter(config), SHAPE)
    draws = {"params": rng.normal, "batch_stats": lambda size: rng.uniform(0.5, 1, size)}
    variables = {
        name: jax.tree.map(lambda leaf, draw=draw: np.float32(draw(size=leaf.shape)), shapes[name])
        for name, draw in draws.items()
    }
    iou = tuple(0.5 for _ in class_names)
    release = segmenters.SegmenterRelease(config, variables, class_names, SHAPE, iou, {"steps": 0})
    segmenters.save(path, release)
    return segmenters.load(path)


def masked(folder: Path, num: int, class_names: tuple[str, ...] = ("wall", "door"), side: int = 16) -> Path:
    """The folder, with images and masks of as many classes in images/ and masks/, and classes.txt."""
    pictures(folder / "images", np.random.default_rng(0).integers(0, 256, (num, side, side, 3), np.uint8))
    (folder / "masks").mkdir()
    masks = np.random.default_rng(1).integers(0, len(class_names), (num, side, side), np.uint8)
    for i, mask in enumerate(masks):
        Pillow.fromarray(mask).save(folder / "masks" / f"{i:02d}.png")
    (folder / "classes.txt").write_text("\n".join(class_names))
    return folder


def translator(path: Path, class_names: tuple[str, str] = NAMES[1:]) -> translators.TranslatorRelease:
    """An untrained translator of 16 pixels, also written to `path`."""
    config = translator_nets.TranslatorConfig(SHAPE[0], (4, 4), blocks=1, style_size=2, mlp_width=4)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: translator_nets.init(config, jax.random.key(0)))
    first, second = jax.tree.map(lambda leaf: np.float32(rng.normal(size=leaf.shape)), shapes)
    released = translators.TranslatorRelease(config, (first, second), class_names, {"steps": 0})
    translators.save(path, released)
    return translators.load(path)


def options(kind: type, **flags: Any) -> Any:
    """A program's options, each flag in the group that has it."""
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            own = {
                field.name: flags.pop(field.name) for field in dataclasses.fields(hint) if field.name in flags
            }
            default = kind.__dataclass_fields__[name].default
            flags[name] = (
                hint(**own) if default is dataclasses.MISSING else dataclasses.replace(default, **own)
            )
    return kind(**flags)
