"""A training run of a generator: everything that a recipe and a data set determine.

run = prepare(recipe, images, class_names, num_images=8_000, classifier=releases.load("cat-dog-64"))
state = fit(run.trainer, start(run), batches, key=run.step_key, devices=run.devices)
generators.save("generator.safetensors", release(run, state))
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rsynth_jax import checks, models, seeds, sharding
from rsynth_jax.models import critics, style
from rsynth_jax.models.style import GeneratorConfig
from rsynth_jax.sharding import Devices, MakeDevices
from rsynth_jax.storage.generators import GeneratorRelease
from rsynth_jax.storage.releases import Release
from rsynth_jax.training import augmentation, evolution, games, gan
from rsynth_jax.training.gan import GanState, GeneratorStep, Setup
from rsynth_jax.training.gan_recipes import AugmentValues, GanRecipe
from rsynth_jax.training.recipes import flat
from rsynth_jax.training.state import Trainer
from rsynth_jax.types import Bytes, Critic, Key

MEASURED = 1024  # training images on which the classifier's maps are standardized
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
        return _keys(self.recipe).steps


class _Keys(NamedTuple):
    generator: Key
    critic: Key
    steps: Key


def validate(recipe: GanRecipe) -> None:
    """Check every value. Raises ValueError for the first one that makes no sense."""
    adam, critic = recipe.adam, recipe.critic
    checks.positive(
        num_steps=recipe.num_steps,
        batch_size=recipe.batch_size,
        critic_steps=critic.critic_steps,
        penalty_stride=critic.penalty_stride,
        critic_width=critic.critic_width,
    )
    checks.positive(learning_rate=adam.learning_rate, last_learning_rate=adam.last_learning_rate)
    checks.not_negative(gamma=critic.gamma, last_gamma=critic.last_gamma, **recipe.augment._asdict())
    checks.below_one(beta1=adam.beta1, beta2=adam.beta2, ema_decay=adam.ema_decay)
    augment = recipe.augment
    checks.up_to_one(mixing=recipe.style.mixing, translation=augment.translation, cutout=augment.cutout)
    checks.seed(seed=recipe.seed)
    checks.named("game", critic.game, games.GAMES)
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
    del values["mixing"]
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
    shape = (described.image_size, described.image_size, 3)
    if images.shape[1:] != shape:
        height, width, channels = images.shape[1:]
        wanted = (
            f"the recipe's are {shape[0]} x {shape[1]} x 3: give --image-size {shape[0]} or other --widths"
        )
        raise ValueError(f"the images are {height} x {width} x {channels}, {wanted}")
    if num_images < recipe.images_per_step:
        raise ValueError(f"{num_images} training images do not fill a batch of {recipe.images_per_step}")
    widths = critics.pixel_widths(described.image_size, recipe.critic.critic_width)
    critic = critics.pixel_critic(len(class_names), widths)
    if classifier is not None:
        _check_classifier(classifier, shape)
        critic = critics.beside(critic, _robust_critic(classifier, images, len(class_names)))
    return GanRun(
        recipe=recipe,
        config=described,
        class_names=tuple(class_names),
        trainer=_trainer(recipe, described, critic),
        devices=devices(recipe.images_per_step),
    )


def start(run: GanRun) -> GanState:
    """Return the state before the first step, on the devices."""
    params = _init(run.config, _keys(run.recipe).generator)
    return run.trainer.place(run.devices, run.trainer.init(params))


def release(run: GanRun, state: GanState, **facts: Any) -> GeneratorRelease:
    """Return the averaged weights as a generator, its recipe with these facts."""
    facts |= {"steps": int(state.step), "images": int(state.step) * run.recipe.images_per_step}
    variables = run.devices.gather(state.ema)
    return GeneratorRelease(
        config=run.config,
        variables=variables,
        mean_styles=jax.device_get(_mean_styles(run.config, variables)),
        class_names=run.class_names,
        recipe=facts | flat(run.recipe),
    )


def half_cosine(first: float, last: float, num_steps: int) -> optax.Schedule:
    """Make the schedule from the first value to the last along half a cosine, over so many steps."""
    fall = optax.cosine_decay_schedule(first - last, num_steps)
    return lambda step: last + fall(step)


def _keys(recipe: GanRecipe) -> _Keys:
    return _Keys(*jax.random.split(seeds.key(recipe.seed), 3))


def _check_classifier(classifier: Release, shape: tuple[int, int, int]) -> None:
    if classifier.image_shape != shape:
        own, wanted = (" x ".join(map(str, sizes)) for sizes in (classifier.image_shape, shape))
        raise ValueError(
            f"the classifier's images are {own}, the generator's {wanted}: give another classifier"
        )


def _robust_critic(classifier: Release, images: Bytes, num_classes: int) -> Critic:
    """The critic, its maps standardized on training images that are evenly spaced over all."""
    images = images[np.arange(min(len(images), MEASURED)) * len(images) // min(len(images), MEASURED)]
    bound = models.bind(classifier.model, classifier.variables)
    seen = jax.jit(lambda images: critics.moments(bound, images))(np.float32(images) / 255)
    return critics.robust_critic(bound, seen, num_classes)


def _trainer(recipe: GanRecipe, described: GeneratorConfig, critic: Critic) -> Trainer[GanState]:
    adam, values = recipe.adam, recipe.critic
    game = games.GAMES[values.game]
    gamma = half_cosine(values.gamma, values.last_gamma, recipe.num_steps)
    rate = half_cosine(adam.learning_rate, adam.last_learning_rate, recipe.num_steps)
    optimizer = optax.adam(rate, adam.beta1, adam.beta2)
    setup = gan.Setup(
        lambda params: style.mixing(style.bind(described, params), described.num_layers, recipe.style.mixing),
        critic,
        augment=_augment(recipe.augment),
    )
    generator_step = _generator_step(recipe, setup, optimizer)
    penalty = games.both(games.r1(gamma), games.r2(gamma))
    step = gan.make_gan_step(
        setup,
        generator_step,
        game,
        optimizer,
        penalty,
        adam.ema_decay,
        values.critic_steps,
        values.penalty_stride,
    )
    side = described.image_size

    def init(params: Any) -> GanState:
        critic_params = jax.jit(critic.init)(_keys(recipe).critic, jnp.zeros((side, side, 3)))
        return gan.init_state(generator_step, optimizer, params, critic_params)

    return Trainer(init=init, step=jax.jit(step, donate_argnums=0))


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


def _augment(values: AugmentValues) -> augmentation.Augment:
    return augmentation.chain(
        augmentation.color(values.brightness, values.saturation, values.contrast),
        augmentation.translation(values.translation),
        augmentation.cutout(values.cutout),
    )
