"""Released classifiers: one safetensors file each, arrays in bfloat16 and a description in JSON.

    release = load("cifar10")                     # bundled, by name; or a file; or a training run
    classifier = models.bind(release.model, release.variables)

Loading a release runs no code from it, and compiles nothing: its arrays are NumPy's.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import traverse_util

from rsynth_jax import checks, models
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.storage import files
from rsynth_jax.synthesis.class_gaussians import ClassGaussians
from rsynth_jax.synthesis.norms import NORMS
from rsynth_jax.types import Variables

ZOO = Path(__file__).parents[1] / "zoo"  # the bundled classifiers
RELEASE = "classifier.safetensors"  # its name inside a training run

_FORMAT = "rsynth_jax classifier 1"


class Release(NamedTuple):
    """A classifier as others use it.

    Attributes:
      config: makes the network.
      variables: its parameters and batch statistics, float32.
      class_gaussians: the Gaussian of each class, from which generation starts, float32.
      class_names: label i is class_names[i].
      image_shape: (height, width, channels) of the training images.
      threat: the threat model of the training.
      steps: the ascent of its adversary.
      recipe: the training recipe as plain values; after dual training `fake_steps` is its final T.
    """

    config: models.Config
    variables: Variables
    class_gaussians: ClassGaussians
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    threat: Threat
    steps: Steps
    recipe: dict[str, Any]

    @property
    def model(self) -> nn.Module:
        """The network, to which `variables` belong."""
        return models.create(self.config)


def save(path: Path, release: Release) -> None:
    """Write a release as one file, its arrays rounded to bfloat16: half the size.

    The figures of a model card are those of the rounded weights.

    Raises:
      ValueError: if the file cannot be written.
    """
    tree = {"variables": release.variables, "seeds": release.class_gaussians._asdict()}
    arrays = {
        name: np.asarray(leaf).astype(ml_dtypes.bfloat16)
        for name, leaf in traverse_util.flatten_dict(tree, sep="/").items()
    }
    description = _Description(
        config=release.config,
        class_names=release.class_names,
        image_shape=release.image_shape,
        threat=_ThreatValues(release.threat.norm.name, release.threat.epsilon, *release.steps),
        recipe=release.recipe,
    )
    texts = {name: json.dumps(_plain(value)) for name, value in description._asdict().items()}
    files.write_tensors(path, arrays, {"format": _FORMAT} | texts)


def locate(name: str | Path) -> Path:
    """Find the file of a bundled classifier, of a path, or inside a training run.

    Raises:
      ValueError: if there is no such file.
    """
    path = Path(name).expanduser()
    for candidate in (ZOO / f"{name}.safetensors", path / RELEASE, path):
        if os.path.isfile(candidate):  # unlike Path.is_file, False for a name that no file can have
            return candidate
    known = ", ".join(sorted(file.stem for file in ZOO.glob("*.safetensors")))
    raise ValueError(
        f"no classifier {str(name)!r}: give a bundled one ({known}), a .safetensors file, or a training run"
    )


def load(name: str | Path) -> Release:
    """Read the release that `name` names: see `locate`.

    Raises:
      ValueError: if there is no such file, if it is truncated or of another format, if its description is
        damaged, or if its arrays are not those of the network that it describes.
    """
    path = locate(name)
    arrays, metadata = files.read_tensors(path)
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{path} was not written by rsynth_jax: its format is {metadata.get('format')!r}")
    try:
        release = _assemble(metadata, arrays)
        validate(release)
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {str(error).partition(chr(10))[0]}") from error
    return release


def validate(release: Release) -> None:
    """Check that the parts of a release fit each other.

    Raises:
      ValueError: naming the first part that does not fit.
    """
    config = release.config
    gaussians = release.class_gaussians
    model = release.model
    checks.positive(num_classes=config.num_classes, side=min(release.image_shape))
    checks.positive(fake_steps=_parsed(release.recipe.get("fake_steps", 1), int))
    images = jax.ShapeDtypeStruct((1, *release.image_shape), jnp.float32)
    expected = jax.eval_shape(lambda images: model.init(jax.random.key(0), images), images)
    if jax.tree.map(jnp.shape, expected) != jax.tree.map(jnp.shape, release.variables):
        raise ValueError(
            f"its weights are not those of a {config.architecture} of {config.num_classes} classes"
        )
    lengths = {
        "class names": {len(release.class_names)},
        "class Gaussians": {len(gaussians.mean), len(gaussians.components)},
    }
    for part, found in lengths.items():
        if found != {config.num_classes}:
            raise ValueError(f"its {part} are not those of {config.num_classes} classes")
    if gaussians.mean.shape[1:] != gaussians.components.shape[2:]:
        raise ValueError("the means and the components of its class Gaussians differ in shape")


class _ThreatValues(NamedTuple):
    """The threat model and the steps of its attack, as a file has them."""

    norm: str
    epsilon: float
    step_size: float
    num_steps: int


class _Description(NamedTuple):
    """The JSON texts of a file."""

    config: models.Config
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    threat: _ThreatValues
    recipe: dict


def _plain(value: Any) -> Any:
    """A value as JSON has it: a NamedTuple as an object."""
    return value._asdict() if hasattr(value, "_asdict") else value


def _parsed(value: Any, kind: Any) -> Any:
    """JSON as plain values of exactly the declared types. Raises TypeError, KeyError or ValueError."""
    if hasattr(kind, "_fields"):
        hints = get_type_hints(kind)
        return kind(**{name: _parsed(part, hints[name]) for name, part in value.items()})
    if get_origin(kind) is tuple and type(value) is list:
        kinds = [get_args(kind)[0]] * len(value) if ... in get_args(kind) else get_args(kind)
        return tuple(_parsed(part, each) for part, each in zip(value, kinds, strict=True))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"{str(value)[:40]!r} where a {kind} should be")
    return value


def _assemble(metadata: dict[str, str], arrays: dict[str, np.ndarray]) -> Release:
    """The release of a file's JSON and arrays."""
    texts = {name: json.loads(metadata[name]) for name in _Description._fields}
    description = _parsed(texts, _Description)
    stored = description.threat
    tree = traverse_util.unflatten_dict(
        {name: array.astype(np.float32) for name, array in arrays.items()}, sep="/"
    )
    return Release(
        config=description.config,
        variables=tree["variables"],
        class_gaussians=ClassGaussians(**tree["seeds"]),
        class_names=description.class_names,
        image_shape=description.image_shape,
        threat=Threat(checks.named("norm", stored.norm, NORMS), stored.epsilon),
        steps=Steps(stored.step_size, stored.num_steps),
        recipe=description.recipe,
    )
