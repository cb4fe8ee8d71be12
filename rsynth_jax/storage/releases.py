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

    Model cards give the figures of the rounded weights. Raises ValueError if the file cannot be written, or a
    number is not finite.
    """
    tree = {"variables": release.variables, "seeds": release.class_gaussians._asdict()}
    flat = traverse_util.flatten_dict(tree, sep="/")
    threat = {"norm": release.threat.norm.name, "epsilon": release.threat.epsilon, **release.steps._asdict()}
    description = release._asdict() | {"config": release.config._asdict(), "threat": threat}
    arrays = {name: np.asarray(leaf).astype(ml_dtypes.bfloat16) for name, leaf in flat.items()}
    with files.errors_as(f"cannot write {path}"):
        texts = {name: json.dumps(description[name], allow_nan=False) for name in (*_KINDS, "threat")}
        checks.finite(**arrays)
    files.write_tensors(path, arrays, {"format": _FORMAT, **texts})


def locate(name: str | Path) -> Path:
    """Find the file of a bundled classifier, of a path or of a training run, or raise ValueError."""
    path = Path(name).expanduser()
    for candidate in (ZOO / f"{name}.safetensors", path / RELEASE, path):
        if os.path.isfile(candidate):  # unlike Path.is_file, False for a name that no file can have
            return candidate
    known = ", ".join(sorted(file.stem for file in ZOO.glob("*.safetensors")))
    wanted = f"give a bundled one ({known}), a .safetensors file, or a training run"
    raise ValueError(f"no classifier {str(name)!r}: {wanted}")


def load(name: str | Path) -> Release:
    """Read the release that `locate` finds.

    Raises ValueError if there is none, if its file is damaged or holds a number that is not finite, or if its
    parts do not fit each other.
    """
    path = locate(name)
    file = files.read_tensors(path)
    if file.metadata.get("format") != _FORMAT:
        raise ValueError(
            f"{path} was not written by rsynth_jax: its format is {file.metadata.get('format')!r}"
        )
    with files.errors_as(f"{path} is damaged"):
        arrays = {name: array.astype(np.float32) for name, array in file.arrays.items()}
        checks.finite(**arrays)
        tree = traverse_util.unflatten_dict(arrays, sep="/")
        steps = json.loads(file.metadata["threat"])  # with the norm and the radius, as files have them
        norm = checks.named("norm", steps.pop("norm"), NORMS)
        release = Release(
            variables=tree["variables"],
            class_gaussians=ClassGaussians(**tree["seeds"]),
            threat=Threat(norm, _parsed(steps.pop("epsilon"), float)),
            steps=_parsed(steps, Steps),
            **{name: _parsed(json.loads(file.metadata[name]), kind) for name, kind in _KINDS.items()},
        )
        _check_parts(release)
    return release


_KINDS: dict[str, Any] = {"config": models.Config, "class_names": tuple[str, ...]}
_KINDS |= {"image_shape": tuple[int, int, int], "recipe": dict}


def _check_parts(release: Release) -> None:
    config = release.config
    gaussians = release.class_gaussians
    checks.positive(num_classes=config.num_classes, side=min(release.image_shape))
    checks.positive(std=min(config.std), num_steps=release.steps.num_steps)
    checks.not_negative(epsilon=release.threat.epsilon, step_size=release.steps.step_size)
    json.dumps((config, release.recipe), allow_nan=False)  # raises ValueError for a number that is not finite
    checks.positive(fake_steps=_parsed(release.recipe.get("fake_steps", 1), int))
    images = jax.ShapeDtypeStruct((1, *release.image_shape), jnp.float32)
    expected = jax.eval_shape(lambda images: release.model.init(jax.random.key(0), images), images)
    if jax.tree.map(jnp.shape, expected) != jax.tree.map(jnp.shape, release.variables):
        named = f"{config.architecture} of {config.num_classes} classes"
        raise ValueError(f"its weights are not those of a {named}")
    if len(release.class_names) != config.num_classes:
        raise ValueError(f"its class names are not those of {config.num_classes} classes")
    num, _, *shape = gaussians.components.shape
    if not gaussians.mean.shape == (num, *shape) == (config.num_classes, *shape):
        raise ValueError(f"its class Gaussians do not fit {config.num_classes} classes, or each other")


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
