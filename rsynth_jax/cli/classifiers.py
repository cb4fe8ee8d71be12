"""The classifiers that flags name: releases, or one that a function of the user's own makes.

    release = load("cifar10")                     # see `releases.load`
    release = load("package.module:function")     # function(), a module of the current folder or installed
    compared = comparator("random", release, seed=0)
    recipe = recipe_from(recipe, "cifar10")

This module imports nothing heavy.
"""

import importlib
import os
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsynth_jax.storage.releases import Release
    from rsynth_jax.training.recipes import Recipe

RANDOM = "random"  # the comparator that is no classifier, but one without training
NEAREST = "nearest"  # the start that the images decide
_MADE = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"


def load(name: str, dtype: str = "float32") -> "Release":
    """Load a release, or import the module that is named and call its function.

    Raises ValueError if there is no such release, module or function, if the function makes no release, or as
    `releases.computing_in` does.
    """
    from rsynth_jax.storage import releases

    if os.path.exists(name) or not re.fullmatch(_MADE, name):
        return releases.load(name, dtype)
    found = _function(*name.split(":"))()
    if not isinstance(found, releases.Release):
        kind = type(found).__name__
        raise ValueError(f"{name} returned a {kind}: it must return what rsynth_jax.classifier makes")
    return releases.computing_in(found, dtype)


def comparator(name: str | None, classifier: "Release", seed: int) -> "Release | None":
    """Load the comparator of this name; random is the classifier's network with drawn weights."""
    from rsynth_jax.training.inverter_run import with_random_weights

    if name == RANDOM:
        return with_random_weights(classifier, seed)
    return None if name is None else load(name)


def recipe_from(recipe: "Recipe", start: str) -> "Recipe":
    """Return the recipe with the network of a start, and by the recipe dual its threat model."""
    if start == NEAREST:
        return recipe
    from rsynth_jax.storage import releases
    from rsynth_jax.training import build

    return build.recipe_from_release(recipe, releases.load(start))


def _function(module: str, name: str) -> Any:
    """The function of a module, where the current folder comes first."""
    sys.path.insert(0, os.getcwd())
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # a module that the user's own imports
        raise ValueError(f"no module {module!r}: give package.module:function, from this folder") from error
    finally:
        sys.path.remove(os.getcwd())
    function = getattr(imported, name, None)
    if not callable(function):
        raise ValueError(f"{module} has no function {name!r}: write one that returns a classifier")
    return function
