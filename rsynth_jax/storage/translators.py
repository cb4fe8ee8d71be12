"""Released translators: one safetensors file each, arrays in bfloat16 and a description in JSON.

    release = load("cat-dog-munit-64")            # released, by name; or a file; or a training run
    second = translator.bind(release.config, release.variables[1])

Loading a release runs no code from it.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsynth_jax.models import translator
from rsynth_jax.models.translator import Domains, TranslatorConfig
from rsynth_jax.storage import files, release_files
from rsynth_jax.storage.release_files import TRANSLATOR, parsed

RELEASE = TRANSLATOR.file  # its name inside a training run
_TEXTS: dict[str, Any] = {"config": TranslatorConfig, "class_names": tuple[str, str], "recipe": dict}


class TranslatorRelease(NamedTuple):
    """A translator as others use it.

    Attributes:
      config: makes the networks of a domain.
      variables: the parameters of each domain, float32.
      class_names: of the domains.
      recipe: the training recipe as plain values.
    """

    config: TranslatorConfig
    variables: Domains
    class_names: tuple[str, str]
    recipe: dict[str, Any]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of its images."""
        return self.config.image_size, self.config.image_size, 3


def save(path: Path, release: TranslatorRelease) -> None:
    """Write a release as one file, see `release_files.write`."""
    tree = {f"domain {i}": variables for i, variables in enumerate(release.variables)}
    description = release._asdict() | {"config": release.config._asdict()}
    release_files.write(path, TRANSLATOR, tree, {name: description[name] for name in _TEXTS})


def load(name: str | Path) -> TranslatorRelease:
    """Read the release of a released translator, a file or a training run.

    Raises ValueError if there is none, if it is another kind of network, if its file is damaged or holds a
    number that is not finite, or if its parts do not fit each other.
    """
    path = release_files.locate(name, TRANSLATOR)
    content = release_files.read(path, TRANSLATOR, _TEXTS)
    with files.errors_as(f"{path} is damaged"):
        texts = {name: parsed(json.loads(content.texts[name]), kind) for name, kind in _TEXTS.items()}
        variables = content.tree["domain 0"], content.tree["domain 1"]
        release = TranslatorRelease(variables=variables, **texts)
        _check_parts(release)
    return release


def _check_parts(release: TranslatorRelease) -> None:
    translator.check(release.config)
    expected = jax.eval_shape(lambda: translator.init(release.config, jax.random.key(0)))
    if jax.tree.map(jnp.shape, expected) != jax.tree.map(jnp.shape, release.variables):
        raise ValueError("its weights are not those of its translator")
    if len(set(release.class_names)) != 2:
        raise ValueError("its two domains have one name")
    json.dumps(release.recipe, allow_nan=False)  # raises ValueError for a number that is not finite
