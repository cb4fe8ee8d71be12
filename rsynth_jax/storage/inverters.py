"""Released inverters: one safetensors file each, arrays in bfloat16 and a description in JSON.

    inverter = load("faces-deepsim-64")           # released, by name; or a file; or a training run
    check_classifier(inverter, releases.load(inverter.classifier))
    bound = inverter.generator                    # its condition is (label, representation)

Loading a release runs no code from it. An inverter reads the representations of one classifier: it holds the
name and the SHA-256 of that one.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsynth_jax.models import inversion
from rsynth_jax.models.inversion import InverterConfig, Moments
from rsynth_jax.storage import files, release_files, releases
from rsynth_jax.storage.release_files import INVERTER, parsed
from rsynth_jax.storage.releases import Release
from rsynth_jax.types import Generator, Variables

RELEASE = INVERTER.file  # its name inside a training run
_TEXTS: dict[str, Any] = {"config": InverterConfig, "classifier": str, "classifier_sha256": str}
_TEXTS |= {"class_names": tuple[str, ...], "recipe": dict}


class InverterRelease(NamedTuple):
    """An inverter as others use it.

    Attributes:
      config: makes the network.
      variables: its parameters, float32.
      moments: of the representations of training images, by which they are standardized.
      classifier: the name, the file or the training run of the classifier whose representations it inverts.
      classifier_sha256: its `releases.digest`.
      class_names: label i is class_names[i]; those of the training images.
      recipe: the training recipe as plain values.
    """

    config: InverterConfig
    variables: Variables
    moments: Moments
    classifier: str
    classifier_sha256: str
    class_names: tuple[str, ...]
    recipe: dict[str, Any]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of its images."""
        return self.config.image_size, self.config.image_size, 3

    @property
    def generator(self) -> Generator:
        """The pure functions of one image."""
        return inversion.bind(self.config, self.variables, self.moments)


def save(path: Path, release: InverterRelease) -> None:
    """Write a release as one file, see `release_files.write`."""
    tree = {"variables": release.variables, "moments": release.moments._asdict()}
    description = release._asdict() | {"config": release.config._asdict()}
    release_files.write(path, INVERTER, tree, {name: description[name] for name in _TEXTS})


def load(name: str | Path) -> InverterRelease:
    """Read the release of a released inverter, a file or a training run.

    Raises ValueError if there is none, if it is another kind of network, if its file is damaged or holds a
    number that is not finite, or if its parts do not fit each other.
    """
    path = release_files.locate(name, INVERTER)
    content = release_files.read(path, INVERTER, _TEXTS)
    with files.errors_as(f"{path} is damaged"):
        texts = {name: parsed(json.loads(content.texts[name]), kind) for name, kind in _TEXTS.items()}
        moments = Moments(**content.tree["moments"])
        release = InverterRelease(variables=content.tree["variables"], moments=moments, **texts)
        _check_parts(release)
    return release


def check_classifier(release: InverterRelease, classifier: Release) -> None:
    """Raise ValueError unless the classifier is the one whose representations the inverter reads."""
    if releases.digest(classifier) != release.classifier_sha256:
        wanted = f"{release.classifier[-60:]}, of SHA-256 {release.classifier_sha256[:12]}"
        raise ValueError(f"the inverter reads representations of {wanted}: give that classifier")


def _check_parts(release: InverterRelease) -> None:
    config = release.config
    inversion.check(config)
    expected = jax.eval_shape(lambda: inversion.init(config, jax.random.key(0)))
    if jax.tree.map(jnp.shape, expected) != jax.tree.map(jnp.shape, release.variables):
        raise ValueError("its weights are not those of its inverter")
    if {each.shape for each in release.moments} != {config.shape[-1:]}:
        raise ValueError(f"its moments do not fit {config.shape[-1]} units or channels")
    if len(release.classifier_sha256) != 64:
        raise ValueError("its classifier's SHA-256 is none")
    if not release.class_names:
        raise ValueError("it has no class names")
    json.dumps(release.recipe, allow_nan=False)  # raises ValueError for a number that is not finite
