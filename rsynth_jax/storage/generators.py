"""Released generators: one safetensors file each, arrays in bfloat16 and a description in JSON.

    release = load("faces-style-64")              # released, by name; or a file; or a training run
    generator = style.bind(release.config, release.variables)

Loading a release runs no code from it.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rsynth_jax.models import style
from rsynth_jax.models.style import GeneratorConfig
from rsynth_jax.storage import files, release_files
from rsynth_jax.storage.release_files import GENERATOR, parsed
from rsynth_jax.types import Generator, Variables

RELEASE = GENERATOR.file  # its name inside a training run
_TEXTS: dict[str, Any] = {"config": GeneratorConfig, "class_names": tuple[str, ...], "recipe": dict}


class GeneratorRelease(NamedTuple):
    """A generator as others use it.

    Attributes:
      config: makes the network.
      variables: its parameters, float32.
      mean_styles: the mean style of each class, the center of truncation.
      class_names: label i is class_names[i].
      recipe: the training recipe as plain values.
    """

    config: GeneratorConfig
    variables: Variables
    mean_styles: Float[Array, "k d"]
    class_names: tuple[str, ...]
    recipe: dict[str, Any]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of its images."""
        return self.config.image_size, self.config.image_size, 3

    @property
    def generator(self) -> Generator:
        """The pure functions of one image."""
        return style.bind(self.config, self.variables)


def save(path: Path, release: GeneratorRelease) -> None:
    """Write a release as one file, see `release_files.write`."""
    tree = {"variables": release.variables, "mean_styles": release.mean_styles}
    description = release._asdict() | {"config": release.config._asdict()}
    release_files.write(path, GENERATOR, tree, {name: description[name] for name in _TEXTS})


def load(name: str | Path) -> GeneratorRelease:
    """Read the release of a released generator, a file or a training run.

    Raises ValueError if there is none, if it is a classifier, if its file is damaged or holds a number that
    is not finite, or if its parts do not fit each other.
    """
    path = release_files.locate(name, GENERATOR)
    content = release_files.read(path, GENERATOR, _TEXTS)
    with files.errors_as(f"{path} is damaged"):
        texts = {name: parsed(json.loads(content.texts[name]), kind) for name, kind in _TEXTS.items()}
        release = GeneratorRelease(
            variables=content.tree["variables"], mean_styles=content.tree["mean_styles"], **texts
        )
        _check_parts(release)
    return release


def _check_parts(release: GeneratorRelease) -> None:
    config = release.config
    style.check(config)
    expected = jax.eval_shape(lambda: style.init(config, jax.random.key(0)))
    if jax.tree.map(jnp.shape, expected) != jax.tree.map(jnp.shape, release.variables):
        raise ValueError("its weights are not those of its generator")
    if release.mean_styles.shape != (config.num_classes, config.latent_size):
        raise ValueError(
            f"its mean styles do not fit {config.num_classes} classes of {config.latent_size} values"
        )
    if len(release.class_names) != config.num_classes:
        raise ValueError(f"its class names are not those of {config.num_classes} classes")
    json.dumps(release.recipe, allow_nan=False)  # raises ValueError for a number that is not finite
