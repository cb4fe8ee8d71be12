"""A training run: everything that a recipe and a data set determine, and the loop.

run = prepare(recipe, images, labels, class_names, num_images=50_000)
state = fit(run.trainer, start(run), batches, key=run.keys[1], devices=run.devices)
releases.save("classifier.safetensors", release(run, state))
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from rsynth_jax import checks, messages, models, seeds, sharding
from rsynth_jax.models import enlargement
from rsynth_jax.sharding import Devices, MakeDevices
from rsynth_jax.storage.releases import Release, config_of
from rsynth_jax.synthesis import class_gaussians
from rsynth_jax.synthesis.class_gaussians import ClassGaussians
from rsynth_jax.training import build
from rsynth_jax.training.build import Shape
from rsynth_jax.training.recipes import Recipe, flat
from rsynth_jax.training.state import State, Trainer
from rsynth_jax.types import Bytes, Key

S = TypeVar("S", bound=State)


class Run(NamedTuple):
    """What a training run never changes: the recipe has its epochs, label i is class_names[i]."""

    recipe: Recipe
    config: models.Config
    class_names: tuple[str, ...]
    image_shape: Shape
    steps_per_epoch: int
    gaussians: ClassGaussians
    trainer: Trainer[Any]
    devices: Devices

    @property
    def num_epochs(self) -> int:
        """Passes over the training images."""
        return self.recipe.epochs or 0

    @property
    def num_steps(self) -> int:
        """Steps in all epochs."""
        return self.num_epochs * self.steps_per_epoch

    @property
    def keys(self) -> tuple[Key, Key]:
        """Of the initial weights, and of the steps."""
        init_key, step_key = jax.random.split(seeds.key(self.recipe.seed))
        return init_key, step_key


def prepare(
    recipe: Recipe,
    images: Bytes,
    labels: np.ndarray,
    class_names: Sequence[str],
    num_images: int,
    devices: MakeDevices = sharding.over_hosts,
) -> Run:
    """Fit the class Gaussians to training images of every class, and build the trainer.

    Args:
      num_images: in one epoch.
      devices: of a batch, such as `sharding.in_parts`.

    Raises:
      ValueError: there is one class alone, the images do not fill a batch, or do not fit the recipe's
        Gaussians, or the processes cannot have equal shares of a batch.
    """
    if len(class_names) < 2:
        found = messages.listed(class_names)
        raise ValueError(f"the only class is {found}: a classifier needs two, such as one of other pictures")
    if num_images < recipe.batch_size:
        raise ValueError(f"{num_images} training images do not fill a batch of {recipe.batch_size}")
    epoch = num_images // recipe.batch_size
    recipe = build.with_epochs(recipe, epoch)
    checks.positive(steps=epoch * (recipe.epochs or 1))
    config = build.config(recipe, len(class_names))
    values = recipe.gaussians
    gaussians = class_gaussians.fit(images, labels, len(class_names), values.seed_factor, values.seed_share)
    shape = images.shape[1:]
    return Run(
        recipe=recipe,
        config=config,
        class_names=tuple(class_names),
        image_shape=shape,
        steps_per_epoch=epoch,
        gaussians=gaussians,
        trainer=build.trainer(recipe, models.create(config), epoch, gaussians, shape),
        devices=devices(recipe.batch_size),
    )


def lasting(run: Run, num_epochs: int) -> Run:
    """Return a run of another length. A state before the first step is one of either run."""
    recipe = run.recipe._replace(epochs=num_epochs)
    model = models.create(run.config)
    trainer = build.trainer(recipe, model, run.steps_per_epoch, run.gaussians, run.image_shape)
    return run._replace(recipe=recipe, trainer=trainer)


def start(run: Run, release: Release | None = None) -> Any:
    """Return the state before the first step, on the devices, from drawn weights or those of a classifier.

    A classifier of other classes keeps its features and gets a new last layer; one of images of half the
    side is enlarged, see `models.enlargement`.

    Raises:
      ValueError: the classifier is another network, or has other classes where the method continues one.
    """

    @functools.cache
    def drawn() -> Any:
        return models.create(run.config).init(run.keys[0], jnp.zeros((1, *run.image_shape)))

    release = None if release is None else _with_side_of(run.config, release, drawn)

    method = run.recipe.method
    if release is None:
        variables = drawn()
    elif (
        config_of(release)._replace(num_classes=run.config.num_classes, dtype=run.config.dtype) != run.config
    ):
        raise ValueError("the classifier to start from is another network than the recipe's")
    elif release.class_names == run.class_names:
        variables = release.variables
    elif build.METHODS[method].continues:
        raise ValueError(f"the classifier to start {method} training from has other classes than the data")
    else:
        variables = models.with_readout(release.variables, drawn())
    variables = {"batch_stats": {}} | variables  # a network without batch norm has none
    return run.trainer.place(run.devices, run.trainer.init(variables))


def _with_side_of(config: models.Config, release: Release, drawn: Callable[[], Any]) -> Release:
    """The classifier, enlarged if the network is one for images of twice the side."""
    own = config_of(release)
    enlarge = enlargement.ENLARGEMENTS.get((own.architecture, config.architecture))
    if enlarge is None:
        return release
    config = own._replace(architecture=config.architecture)
    return release._replace(config=config, variables=enlarge(release.variables, drawn()))


def release(run: Run, state: State, **facts: Any) -> Release:
    """Return the averaged weights as a classifier, its recipe with these facts and the trainer's outcome."""
    return Release(
        config=run.config._replace(dtype="float32"),
        variables=run.devices.gather(state.ema),
        class_gaussians=run.gaussians,
        class_names=run.class_names,
        image_shape=run.image_shape,
        threat=build.threat(run.recipe),
        steps=build.steps(run.recipe),
        recipe=facts | {"steps": int(state.step)} | run.trainer.outcome(state) | flat(run.recipe),
    )


def fit(
    trainer: Trainer[S],
    state: S,
    batches: Iterable[tuple[Any, Any]],
    *,
    key: Key,
    devices: Devices,
    callback: Callable[[S, int, Any, tuple[Any, Any]], None] | None = None,
) -> S:
    """Train on every batch in turn.

    The step from t to t + 1 uses `fold_in(key, t)`, so a run that continues from a stored state with the
    batches that are left equals one without a pause, bit for bit.

    Args:
      state: placed on the devices; its buffers are taken over.
      batches: (images uint8 (n, h, w, c), labels int32 (n,)) of each step, from the state's own step on; of
        several processes each has its own rows, see `sharding.own_rows`.
      key: of the augmentation and the attacks.
      devices: over which to split each batch.
      callback: called with the state, its step, the metrics and the batch after every step.
    """
    first = int(state.step)
    for step, batch in enumerate(map(devices.join, batches), start=first):
        state, metrics = trainer.step(state, jax.random.fold_in(key, step), *batch)
        if callback is not None:
            callback(state, step + 1, metrics, batch)
    return state
