"""Released classifiers: one safetensors file each, arrays in bfloat16 and a description in JSON.

    release = load("cifar10")                     # bundled, by name; or a file; or a training run
    classifier = models.bind(release.model, release.variables)

Loading a release runs no code from it, and compiles nothing: its arrays are NumPy's.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsynth_jax import checks, models
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.storage import files, release_files
from rsynth_jax.storage.release_files import CLASSIFIER, parsed
from rsynth_jax.synthesis.class_gaussians import ClassGaussians
from rsynth_jax.synthesis.norms import NORMS
from rsynth_jax.types import Variables

RELEASE = CLASSIFIER.file  # its name inside a training run

_LARGEST_SIDE = 1 << 14  # of an image, which would take 3 GB


class Release(NamedTuple):
    """A classifier as others use it.

    Attributes:
      config: makes the network.
      variables: its parameters and batch statistics, float32.
      class_gaussians: the Gaussian of each class, or of all, from which generation starts, float32.
      class_names: label i is class_names[i].
      image_shape: (height, width, channels) of the training images.
      threat: the threat model of the training.
      steps: the ascent of its adversary.
      recipe: the training recipe as plain values; after dual training `fake_steps` is its final T, and of
        imported weights `origin` says where they are from.
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


class Origin(NamedTuple):
    """Where published weights are from; an empty text is not known, or does not apply.

    Attributes:
      source: a paper, a repository or an address.
      licence: of the weights.
      sha256: of the file that was imported, in hexadecimal.
    """

    source: str = ""
    licence: str = ""
    sha256: str = ""


def origin(release: Release) -> Origin:
    """Read where the weights are from; of a classifier that was trained here every text is empty."""
    return Origin(**release.recipe.get("origin", {}))


def with_origin(release: Release, origin: Origin) -> Release:
    """Return the release with a note of where its weights are from, in its recipe."""
    return release._replace(recipe=release.recipe | {"origin": origin._asdict()})


def save(path: Path, release: Release) -> None:
    """Write a release as one file, see `release_files.write`."""
    tree = {"variables": release.variables, "seeds": release.class_gaussians._asdict()}
    threat = {"norm": release.threat.norm.name, "epsilon": release.threat.epsilon, **release.steps._asdict()}
    description = release._asdict() | {"config": release.config._asdict()}
    texts = {name: description[name] for name in _KINDS} | {"threat": threat}
    release_files.write(path, CLASSIFIER, tree, texts)


def locate(name: str | Path) -> Path:
    """Find the file of a bundled classifier, of a path or of a training run, or raise ValueError."""
    return release_files.locate(name, CLASSIFIER)


def load(name: str | Path) -> Release:
    """Read the release that `locate` finds.

    Raises ValueError if there is none, if its file is damaged or holds a number that is not finite, or if its
    parts do not fit each other.
    """
    path = locate(name)
    content = release_files.read(path, CLASSIFIER, (*_KINDS, "threat"))
    with files.errors_as(f"{path} is damaged"):
        steps = json.loads(content.texts["threat"])  # with the norm and the radius, as files have them
        norm = checks.named("norm", steps.pop("norm"), NORMS)
        release = Release(
            variables=content.tree["variables"],
            class_gaussians=ClassGaussians(**content.tree["seeds"]),
            threat=Threat(norm, parsed(steps.pop("epsilon"), float)),
            steps=parsed(steps, Steps),
            **{name: parsed(json.loads(content.texts[name]), kind) for name, kind in _KINDS.items()},
        )
        _check_parts(release)
    return release


_KINDS: dict[str, Any] = {"config": models.Config, "class_names": tuple[str, ...]}
_KINDS |= {"image_shape": tuple[int, int, int], "recipe": dict}


def _check_parts(release: Release) -> None:
    config = release.config
    gaussians = release.class_gaussians
    checks.positive(num_classes=config.num_classes, side=min(release.image_shape))
    if max(release.image_shape) > _LARGEST_SIDE:
        raise ValueError(f"its images have a side of {max(release.image_shape)}, more than {_LARGEST_SIDE}")
    checks.positive(std=min(config.std), num_steps=release.steps.num_steps)
    checks.not_negative(epsilon=release.threat.epsilon, step_size=release.steps.step_size)
    json.dumps((config, release.recipe), allow_nan=False)  # raises ValueError for a number that is not finite
    checks.positive(fake_steps=parsed(release.recipe.get("fake_steps", 1), int))
    parsed(release.recipe.get("origin", Origin()._asdict()), Origin)
    images = jax.ShapeDtypeStruct((1, *release.image_shape), jnp.float32)
    expected = jax.eval_shape(lambda images: release.model.init(jax.random.key(0), images), images)
    if jax.tree.map(jnp.shape, expected) != jax.tree.map(jnp.shape, release.variables):
        named = f"{config.architecture} of {config.num_classes} classes"
        raise ValueError(f"its weights are not those of a {named}")
    if len(release.class_names) != config.num_classes:
        raise ValueError(f"its class names are not those of {config.num_classes} classes")
    num, _, *shape = gaussians.components.shape
    if num not in (1, config.num_classes) or gaussians.mean.shape != (num, *shape):
        raise ValueError(f"its class Gaussians do not fit {config.num_classes} classes, or each other")
