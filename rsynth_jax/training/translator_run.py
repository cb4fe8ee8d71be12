"""A training run of a translator: everything that a recipe and a data set of two classes determine.

run = prepare(recipe, images, class_names, num_pairs=4_000, classifier=releases.load("cat-dog-64"))
state = fit(run.trainer, start(run), batches_of_pairs, key=run.step_key, devices=run.devices)
translators.save("translator.safetensors", release(run, state))
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsynth_jax import checks, sharding
from rsynth_jax.images import random_flip
from rsynth_jax.models import critics, translator
from rsynth_jax.models.equalized import halved
from rsynth_jax.models.translator import TranslatorConfig
from rsynth_jax.sharding import Devices, MakeDevices
from rsynth_jax.storage.releases import Release
from rsynth_jax.storage.translators import TranslatorRelease
from rsynth_jax.training import adversarial, games, gan
from rsynth_jax.training.gan import GanState, Setup
from rsynth_jax.training.recipes import flat
from rsynth_jax.training.state import Trainer
from rsynth_jax.training.translator import Weights, make_extra, pairwise
from rsynth_jax.training.translator_recipes import TranslatorRecipe
from rsynth_jax.types import Bytes, Critic, Image, Key

_init = jax.jit(translator.init, static_argnums=0)


class TranslatorRun(NamedTuple):
    """What the training of a translator never changes: the images of a pair are of these classes in turn."""

    recipe: TranslatorRecipe
    config: TranslatorConfig
    class_names: tuple[str, str]
    trainer: Trainer[GanState]
    devices: Devices

    @property
    def step_key(self) -> Key:
        """The key of the steps."""
        return adversarial.keys(self.recipe).steps


def validate(recipe: TranslatorRecipe) -> None:
    """Check every value. Raises ValueError for the first one that makes no sense."""
    adversarial.check_values(recipe)
    checks.not_negative(**recipe.loss._asdict())
    checks.up_to_one(example_share=recipe.loss.example_share)
    translator.check(config(recipe))
    side, scales = recipe.translator.side, recipe.translator.scales
    checks.positive(scales=scales)
    if side & (side - 1) or side >> scales < 1:
        raise ValueError(
            f"{scales} critics of {side} pixels cannot be: give a power of two, or fewer --scales"
        )


def config(recipe: TranslatorRecipe) -> TranslatorConfig:
    """Return the translator's description."""
    values = recipe.translator
    return TranslatorConfig(values.side, values.widths, values.blocks, values.style_size, values.mlp_width)


def prepare(
    recipe: TranslatorRecipe,
    images: Bytes,
    class_names: Sequence[str],
    num_pairs: int,
    classifier: Release | None = None,
    devices: MakeDevices = sharding.over_hosts,
) -> TranslatorRun:
    """Build the trainer.

    Args:
      images: training images, on which the maps of the classifier are standardized.
      class_names: of the first images of the pairs, and of the second.
      num_pairs: in one epoch.
      classifier: the recipe's.
      devices: of a batch, such as `sharding.in_parts`.

    Raises:
      ValueError: the images do not fill a batch, or they or the classifier's have another size than the
        recipe's.
    """
    side = recipe.translator.side
    adversarial.check_images(recipe, images, num_pairs, side, "another --side")
    robust = None
    if classifier is not None:
        adversarial.check_classifier(classifier, side)
        robust = adversarial.robust_critic(classifier, images, num_classes=1)
    first, second = class_names
    return TranslatorRun(
        recipe=recipe,
        config=config(recipe),
        class_names=(first, second),
        trainer=_trainer(recipe, robust),
        devices=devices(recipe.images_per_step),
    )


def start(run: TranslatorRun) -> GanState:
    """Return the state before the first step, on the devices."""
    params = _init(run.config, adversarial.keys(run.recipe).generator)
    return run.trainer.place(run.devices, run.trainer.init(params))


def release(run: TranslatorRun, state: GanState, **facts: Any) -> TranslatorRelease:
    """Return the averaged weights as a translator, its recipe with these facts."""
    facts |= {"steps": int(state.step), "pairs": int(state.step) * run.recipe.images_per_step}
    return TranslatorRelease(
        config=run.config,
        variables=run.devices.gather(state.ema),
        class_names=run.class_names,
        recipe=facts | flat(run.recipe),
    )


def critic_of_pairs(
    side: int, scales: int, width: int, robust: Critic | None = None
) -> tuple[Critic, list[int]]:
    """Make the critic of pairs: those of each domain at each scale beside each other; the scores of each.

    Args:
      robust: a critic of an image of the side, beside the others of each domain.
    """
    own = [(scale, critics.patch_critic(side >> scale, width)) for scale in range(scales)]
    own += [] if robust is None else [(0, robust)]
    parts = [
        critics.of_part(critic, functools.partial(_part, place, scale))
        for place in range(2)
        for scale, critic in own
    ]
    counts = [_num_scores(critic, side >> scale) for scale, critic in own]
    return functools.reduce(critics.beside, parts), 2 * counts


def _part(place: int, scale: int, pair: Any) -> Image:
    """An image of a pair, halved so many times."""
    image = pair[place][None]
    for _ in range(scale):
        image = halved(image)
    return image[0]


def _num_scores(critic: Critic, side: int) -> int:
    """The number of scores of a critic."""

    def scores(key: Key, image: Image):
        return critic.score(critic.init(key, image), critic.view(image), jnp.int32(0))

    return jax.eval_shape(scores, jax.random.key(0), jnp.zeros((side, side, 3))).shape[0]


def _trainer(recipe: TranslatorRecipe, robust: Critic | None) -> Trainer[GanState]:
    described, values, side = config(recipe), recipe.loss, recipe.translator.side
    scales, width = recipe.translator.scales, recipe.critic.critic_width
    critic, counts = critic_of_pairs(side, scales, width, robust)
    setup = Setup(
        lambda params: translator.as_generator(described, params, values.example_share),
        critic,
        mirror=pairwise(random_flip),
        augment=pairwise(adversarial.augment(recipe.augment)),
        condition=lambda pair, label: pair,
    )
    weights = Weights(
        image=values.image_weight,
        content=values.content_weight,
        style=values.style_weight,
        cycle=values.cycle_weight,
        moment=values.moment_weight,
    )
    extra = make_extra(lambda params: [translator.bind(described, each) for each in params], weights)
    game = games.scaled(games.averaged(games.GAMES[recipe.critic.game], counts), values.adversarial_weight)
    steps = gan.make_generator_step(setup, game, adversarial.optimizer(recipe), extra)
    return adversarial.make_trainer(recipe, setup, steps, game, (2, side, side, 3))
