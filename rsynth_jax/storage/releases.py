"""Released classifiers: one safetensors file each, arrays in bfloat16 and a description in JSON.

    release = load("cifar10")                     # released, by name; or a file; or a training run
    classifier = models.bind(release.model, release.variables)
    release = classifier(networks.from_nnx(module), ("cat", "dog"), (224, 224, 3))  # any other network

Loading a release runs no code from it, and compiles nothing: its arrays are NumPy's.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import traverse_util

from rsynth_jax import checks, models
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.models import layers
from rsynth_jax.models.networks import Network
from rsynth_jax.storage import digests, files, release_files
from rsynth_jax.storage.release_files import CLASSIFIER, parsed
from rsynth_jax.synthesis.class_gaussians import ClassGaussians, grey
from rsynth_jax.synthesis.norms import L2, NORMS
from rsynth_jax.types import Variables

RELEASE = CLASSIFIER.file  # its name inside a training run

CLEAN = Threat(L2, 0.0)  # of a training on clean images
NO_STEPS = Steps(0.0, 1)


class Release(NamedTuple):
    """A classifier as others use it.

    Attributes:
      config: makes the network; of one that is not this package's own it is the module itself.
      variables: its parameters and batch statistics, float32.
      class_gaussians: the Gaussian of each class, or of all, from which generation starts, float32.
      class_names: label i is class_names[i].
      image_shape: (height, width, channels) of the training images.
      threat: the threat model of the training.
      steps: the ascent of its adversary.
      recipe: the training recipe as plain values; after dual training `fake_steps` is its final T,
        `view_shift` how far views of images were shifted. Of imported weights it holds their `Origin`.
    """

    config: models.Config | nn.Module
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
        return self.config if isinstance(self.config, nn.Module) else models.create(self.config)


def config_of(release: Release) -> models.Config:
    """Return the description of one of this package's networks. Raises ValueError for any other network."""
    if isinstance(release.config, nn.Module):
        raise ValueError("a network of your own is made by its code: it cannot be written or trained further")
    return release.config


def classifier(
    network: Network,
    class_names: Sequence[str],
    image_shape: tuple[int, int, int],
    *,
    threat: Threat = CLEAN,
    steps: Steps = NO_STEPS,
    class_gaussians: ClassGaussians | None = None,
) -> Release:
    """Make a release of any network, see `rsynth_jax.models.networks`.

        network = from_linen(module, variables)
        release = classifier(network, ("cat", "dog"), (224, 224, 3))

    Args:
      network: its logits are (n, number of class names).
      class_names: label i is class_names[i].
      image_shape: (height, width, channels) of the images that the network takes.
      threat: of its adversarial training; by default it was trained on clean images.
      steps: of the adversary of its training.
      class_gaussians: where generation starts; by default grey and noise.

    Raises:
      ValueError: the network takes no such images, or its outputs are not those of as many classes.
    """
    if class_gaussians is None:
        class_gaussians = grey(image_shape[-1])
    release = Release(
        config=network.model,
        variables=network.variables,
        class_gaussians=class_gaussians,
        class_names=tuple(class_names),
        image_shape=image_shape,
        threat=threat,
        steps=steps,
        recipe={},
    )
    _check_outputs(release)
    _check_gaussians(release)
    return release


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
    return Origin(**{name: release.recipe.get(name, "") for name in Origin._fields})


def with_origin(release: Release, origin: Origin) -> Release:
    """Return the release with a note of where its weights are from, in its recipe."""
    return release._replace(recipe=release.recipe | origin._asdict())


def save(path: Path, release: Release, dtype: Any = ml_dtypes.bfloat16) -> None:
    """Write a release as one file, see `release_files.write`."""
    tree = {"variables": release.variables, "seeds": release.class_gaussians._asdict()}
    threat = {"norm": release.threat.norm.name, "epsilon": release.threat.epsilon, **release.steps._asdict()}
    description = release._asdict() | {"config": config_of(release)._asdict()}
    texts = {name: description[name] for name in _KINDS} | {"threat": threat}
    release_files.write(path, CLASSIFIER, tree, texts, dtype)


def locate(name: str | Path) -> Path:
    """Find the file of a released classifier, of a path or of a training run, or raise ValueError."""
    return release_files.locate(name, CLASSIFIER)


def digest(release: Release) -> str:
    """Hash the weights and the class names: the SHA-256 by which another release names this classifier.

    The weights are rounded to bfloat16, as a file has them.
    """
    flat = traverse_util.flatten_dict(dict(release.variables), sep="/")
    arrays = {name: np.asarray(leaf).astype(ml_dtypes.bfloat16) for name, leaf in flat.items()}
    return digests.of_content(arrays, {"class_names": json.dumps(release.class_names)})


def dtype_of(path: Path) -> Any:
    """Return the dtype of the arrays in the file of a release: bfloat16, or float32."""
    return next(iter(files.read_tensors(path).arrays.values())).dtype


def computing_in(release: Release, dtype: str) -> Release:
    """Return the release with a network that computes in a dtype; parameters, logits and images stay float32.

    Args:
      dtype: "float32" or "bfloat16".

    Raises:
      ValueError: there is no such dtype, or the network is not one of this package's own.
    """
    if isinstance(release.config, nn.Module):
        if dtype == "float32":
            return release
        raise ValueError(f"a network of your own computes as its code says: it has no dtype {dtype!r}")
    release = release._replace(config=release.config._replace(dtype=dtype))
    _ = release.model
    return release


def load(name: str | Path, dtype: str = "float32") -> Release:
    """Read the release that `locate` finds, see `computing_in` for the dtype.

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
        check_parts(release)
    return computing_in(release, dtype)


_KINDS: dict[str, Any] = {"config": models.Config, "class_names": tuple[str, ...]}
_KINDS |= {"image_shape": tuple[int, int, int], "recipe": dict}


def check_parts(release: Release) -> None:
    """Raise ValueError unless the parts of a release fit each other."""
    config = config_of(release)
    checks.positive(num_classes=config.num_classes)
    for side in release.image_shape:
        checks.positive(side=side)
    checks.positive(std=min(config.std), num_steps=release.steps.num_steps)
    checks.not_negative(epsilon=release.threat.epsilon, step_size=release.steps.step_size)
    json.dumps((config, release.recipe), allow_nan=False)  # raises ValueError for a number that is not finite
    checks.positive(fake_steps=parsed(release.recipe.get("fake_steps", 1), int))
    checks.not_negative(view_shift=parsed(release.recipe.get("view_shift", 0), int))
    for name in ("fake_temperature", "fake_step_size"):
        checks.positive(**{name: parsed(release.recipe.get(name, 1.0), float)})
    parsed(origin(release)._asdict(), Origin)
    expected = layers.shapes(release.model, release.image_shape)
    if jax.tree.map(jnp.shape, expected) != jax.tree.map(jnp.shape, release.variables):
        named = f"{config.architecture} of {config.num_classes} classes"
        raise ValueError(f"its weights are not those of a {named}")
    if len(release.class_names) != config.num_classes:
        raise ValueError(f"its class names are not those of {config.num_classes} classes")
    _check_gaussians(release)


def _check_gaussians(release: Release) -> None:
    gaussians = release.class_gaussians
    classes = len(release.class_names)
    num, _, *shape = gaussians.components.shape
    if num not in (1, classes) or gaussians.mean.shape != (num, *shape):
        raise ValueError(f"its class Gaussians do not fit {classes} classes, or each other")


def _check_outputs(release: Release) -> None:
    """Check the shapes of what a network makes of one image of zeros."""
    images = jax.ShapeDtypeStruct((1, *release.image_shape), jnp.float32)
    size = " x ".join(map(str, release.image_shape))
    with files.errors_as(f"the network takes no images of {size}"):
        outputs = jax.eval_shape(release.model.apply, release.variables, images)
    wanted = (1, len(release.class_names))
    if outputs.logits.shape != wanted or outputs.features.shape[:1] != (1,) or outputs.features.ndim != 2:
        found = f"logits {outputs.logits.shape} and features {outputs.features.shape}"
        raise ValueError(f"the network makes {found} of one image: they must be {wanted} and (1, d)")
