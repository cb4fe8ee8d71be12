"""A training run of a generator: everything that a recipe and a data set determine.

run = prepare(recipe, images, class_names, num_images=8_000, classifier=releases.load("cat-dog-64"))
state = fit(run.trainer, start(run), batches, key=run.step_key, devices=run.devices)
generators.save("generator.safetensors", release(run, state))
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import optax

from rsynth_jax import checks, sharding
from rsynth_jax.models import critics, style
from rsynth_jax.models.style import GeneratorConfig
from rsynth_jax.sharding import Devices, MakeDevices
from rsynth_jax.storage.generators import GeneratorRelease
from rsynth_jax.storage.releases import Release
from rsynth_jax.training import adversarial, evolution, games, gan
from rsynth_jax.training.gan import GanState, GeneratorStep, Setup
from rsynth_jax.training.gan_recipes import GanRecipe
from rsynth_jax.training.recipes import flat
from rsynth_jax.training.state import Trainer
from rsynth_jax.types import Bytes, Critic, Key

_mean_styles = jax.jit(style.mean_styles, static_argnums=0)
_init = jax.jit(style.init, static_argnums=0)


class GanRun(NamedTuple):
    """What the training of a generator never changes: label i is class_names[i]."""

    recipe: GanRecipe
    config: GeneratorConfig
    class_names: tuple[str, ...]
    trainer: Trainer[GanState]
    devices: Devices

    @property
    def step_key(self) -> Key:
        """The key of the steps."""
        return adversarial.keys(self.recipe).steps


def validate(recipe: GanRecipe) -> None:
    """Check every value. Raises ValueError for the first one that makes no sense."""
    adversarial.check_values(recipe)
    checks.up_to_one(mixing=recipe.style.mixing)
    checks.not_negative(noise_scale=recipe.style.noise_scale)
    style.check(config(recipe, num_classes=1))
    _check_evolution(recipe)


def _check_evolution(recipe: GanRecipe) -> None:
    values = recipe.evolution
    checks.positive(survivors=values.survivors)
    checks.not_negative(diversity=values.diversity)
    for name in values.mutations:
        checks.named("mutation", name, games.GAMES)
        if values.mutations.count(name) > 1:
            raise ValueError(f"the mutation {name!r} is given twice: give it once")
    most = recipe.batch_size if values.mutations else 1
    if values.survivors > most:
        wanted = f"at most the batch size, {most}" if values.mutations else "mutations, or 1"
        raise ValueError(f"survivors is {values.survivors}: give {wanted}")


def config(recipe: GanRecipe, num_classes: int) -> GeneratorConfig:
    """Return the generator's description."""
    values = recipe.style._asdict()
    del values["mixing"], values["noise_scale"]
    return GeneratorConfig(num_classes, style.CONSTANT * 2 ** len(recipe.style.widths), **values)


def prepare(
    recipe: GanRecipe,
    images: Bytes,
    class_names: Sequence[str],
    num_images: int,
    classifier: Release | None = None,
    devices: MakeDevices = sharding.over_hosts,
) -> GanRun:
    """Build the trainer.

    Args:
      images: training images, on which the maps of the classifier are standardized.
      num_images: in one epoch.
      classifier: the recipe's.
      devices: of a batch, such as `sharding.in_parts`.

    Raises:
      ValueError: the images do not fill a batch, or the recipe's or the classifier's have another size.
    """
    described = config(recipe, len(class_names))
    side = described.image_size
    adversarial.check_images(recipe, images, num_images, side)
    widths = critics.pixel_widths(side, recipe.critic.critic_width)
    critic = critics.pixel_critic(len(class_names), widths)
    if classifier is not None:
        adversarial.check_classifier(classifier, side)
        robust = adversarial.robust_critic(classifier, images, len(class_names))
        critic = critics.beside(critic, robust)
    return GanRun(
        recipe=recipe,
        config=described,
        class_names=tuple(class_names),
        trainer=_trainer(recipe, described, critic),
        devices=devices(recipe.images_per_step),
    )


def start(run: GanRun) -> GanState:
    """Return the state before the first step, on the devices."""
    params = _init(run.config, adversarial.keys(run.recipe).generator)
    return run.trainer.place(run.devices, run.trainer.init(params))


def release(run: GanRun, state: GanState, **facts: Any) -> GeneratorRelease:
    """Return the averaged weights as a generator, its noise scaled, its recipe with these facts."""
    facts |= {"steps": int(state.step), "images": int(state.step) * run.recipe.images_per_step}
    variables = style.with_noise(run.devices.gather(state.ema), run.recipe.style.noise_scale)
    return GeneratorRelease(
        config=run.config,
        variables=variables,
        mean_styles=jax.device_get(_mean_styles(run.config, variables)),
        class_names=run.class_names,
        recipe=facts | flat(run.recipe),
    )


def _trainer(recipe: GanRecipe, described: GeneratorConfig, critic: Critic) -> Trainer[GanState]:
    setup = gan.Setup(
        lambda params: style.mixing(style.bind(described, params), described.num_layers, recipe.style.mixing),
        critic,
        augment=adversarial.augment(recipe.augment),
    )
    side = described.image_size
    steps = _generator_step(recipe, setup, adversarial.optimizer(recipe))
    return adversarial.make_trainer(recipe, setup, steps, games.GAMES[recipe.critic.game], (side, side, 3))


def _generator_step(
    recipe: GanRecipe, setup: Setup, optimizer: optax.GradientTransformation
) -> GeneratorStep:
    """One step by the recipe's game, or the fittest of one by each mutation."""
    values = recipe.evolution
    steps = {
        name: gan.make_generator_step(setup, games.GAMES[name], optimizer)
        for name in values.mutations or (recipe.critic.game,)
    }
    if not values.mutations:
        return steps[recipe.critic.game]
    return evolution.evolve(steps, evolution.make_fitness(setup, values.diversity), values.survivors)
