"""A training run of an inverter: everything that a recipe, a classifier and a data set determine.

run = prepare(recipe, images, class_names, num_images=8_000, classifier=releases.load("cat-dog-64"))
state = fit(run.trainer, start(run), batches, key=run.step_key, devices=run.devices)
inverters.save("inverter.safetensors", release(run, state))
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsynth_jax import checks, models, sharding
from rsynth_jax.models import critics, inversion
from rsynth_jax.models.inversion import InverterConfig, Moments
from rsynth_jax.sharding import Devices, MakeDevices
from rsynth_jax.storage import releases
from rsynth_jax.storage.inverters import InverterRelease
from rsynth_jax.storage.releases import Release
from rsynth_jax.training import adversarial, games, gan
from rsynth_jax.training.gan import GanState, Setup
from rsynth_jax.training.inversion import Compare, Weights, make_extra
from rsynth_jax.training.inverter_recipes import InverterRecipe
from rsynth_jax.training.recipes import flat
from rsynth_jax.training.state import Trainer
from rsynth_jax.types import Bytes, Classifier, Condition, Image, Key, Label

_init = jax.jit(inversion.init, static_argnums=0)


class InverterRun(NamedTuple):
    """What the training of an inverter never changes: label i is class_names[i]."""

    recipe: InverterRecipe
    config: InverterConfig
    moments: Moments
    sha256: str  # of the classifier
    class_names: tuple[str, ...]
    trainer: Trainer[GanState]
    devices: Devices

    @property
    def step_key(self) -> Key:
        """The key of the steps."""
        return adversarial.keys(self.recipe).steps


def validate(recipe: InverterRecipe) -> None:
    """Check every value. Raises ValueError for the first one that makes no sense."""
    adversarial.check_values(recipe)
    checks.positive(latent_size=recipe.inverter.latent_size)
    weights = recipe.loss._asdict()
    del weights["comparator"]
    checks.not_negative(**weights)
    layer = recipe.inverter.layer
    shape = (1,) if layer == inversion.FEATURES else (inversion.FIRST, inversion.FIRST, 1)
    inversion.check(config(recipe, shape))


def config(recipe: InverterRecipe, shape: tuple[int, ...]) -> InverterConfig:
    """Return the inverter's description; `shape` is of the representation."""
    values = recipe.inverter
    side = inversion.last_size(values.widths)
    latent_size = values.latent_size if values.variational else 0
    return InverterConfig(values.layer, tuple(shape), side, values.widths, latent_size)


def with_random_weights(classifier: Release, seed: int) -> Release:
    """Return the classifier's network with weights drawn anew: a comparator that was never trained."""
    images = jnp.zeros((1, *classifier.image_shape))
    return classifier._replace(variables=jax.jit(classifier.model.init)(jax.random.key(seed), images))


def prepare(
    recipe: InverterRecipe,
    images: Bytes,
    class_names: Sequence[str],
    num_images: int,
    classifier: Release,
    comparator: Release | None = None,
    devices: MakeDevices = sharding.over_hosts,
) -> InverterRun:
    """Build the trainer.

    Args:
      images: training images, on which the outputs of both classifiers are standardized.
      num_images: in one epoch.
      classifier: whose representations are inverted.
      comparator: whose maps the feature loss compares; by default those of the classifier.
      devices: of a batch, such as `sharding.in_parts`.

    Raises:
      ValueError: the images do not fill a batch, theirs or a classifier's have another size than the
        recipe's, or the classifier has no such layer, or one of another size than the inverter's.
    """
    side = inversion.last_size(recipe.inverter.widths)
    adversarial.check_images(recipe, images, num_images, side)
    others = classifier if comparator is None else comparator
    for each in (classifier, others):
        adversarial.check_classifier(each, side)
    bound, compared = (models.bind(each.model, each.variables) for each in (classifier, others))
    represent = inversion.represent(bound, recipe.inverter.layer)
    described = config(recipe, jax.eval_shape(represent, jnp.zeros((side, side, 3))).shape)
    inversion.check(described)
    some = adversarial.measured(images)
    seen = jax.jit(lambda images: inversion.moments(jax.vmap(represent)(images)))(some)
    maps = jax.jit(lambda images: critics.moments(compared, images))(some)
    compare = critics.standardized(compared, maps)
    return InverterRun(
        recipe=recipe,
        config=described,
        moments=seen,
        sha256=releases.digest(classifier),
        class_names=tuple(class_names),
        trainer=_trainer(recipe, described, seen, bound, compare, len(class_names)),
        devices=devices(recipe.images_per_step),
    )


def start(run: InverterRun) -> GanState:
    """Return the state before the first step, on the devices."""
    params = _init(run.config, adversarial.keys(run.recipe).generator)
    return run.trainer.place(run.devices, run.trainer.init(params))


def release(run: InverterRun, state: GanState, **facts: Any) -> InverterRelease:
    """Return the averaged weights as an inverter, its recipe with these facts."""
    facts |= {"steps": int(state.step), "images": int(state.step) * run.recipe.images_per_step}
    return InverterRelease(
        config=run.config,
        variables=run.devices.gather(state.ema),
        moments=jax.device_get(run.moments),
        classifier=run.recipe.classifier,
        classifier_sha256=run.sha256,
        class_names=run.class_names,
        recipe=facts | flat(run.recipe),
    )


def _trainer(
    recipe: InverterRecipe,
    described: InverterConfig,
    seen: Moments,
    classifier: Classifier,
    compare: Compare,
    num_classes: int,
) -> Trainer[GanState]:
    side, values = described.image_size, recipe.loss
    represent = inversion.represent(classifier, described.layer)

    def condition(image: Image, label: Label) -> Condition:
        return label, represent(image)

    setup = Setup(
        lambda params: inversion.bind(described, params, seen),
        critics.pixel_critic(num_classes, critics.pixel_widths(side, recipe.critic.critic_width)),
        augment=adversarial.augment(recipe.augment),
        condition=condition,
    )
    weights = Weights(
        values.feature_weight, values.image_weight, values.kl_weight * recipe.inverter.variational
    )
    extra = make_extra(lambda params: inversion.encoder(described, params, seen), compare, weights)
    game = games.scaled(games.GAMES[recipe.critic.game], values.adversarial_weight)
    steps = gan.make_generator_step(setup, game, adversarial.optimizer(recipe), extra)
    return adversarial.make_trainer(recipe, setup, steps, game, (side, side, 3))
