"""What every run of adversarial training shares: its checks, its keys, and the trainer that its recipe makes.

    setup = gan.Setup(make_generator, critic, augment=augment(recipe.augment))
    steps = gan.make_generator_step(setup, GAMES["relativistic"], optimizer(recipe))
    trainer = make_trainer(recipe, setup, steps, GAMES["relativistic"], image_shape=(64, 64, 3))

A recipe here is any NamedTuple with the fields of `Recipe`.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rsynth_jax import checks, models, seeds
from rsynth_jax.models import critics
from rsynth_jax.storage.releases import Release
from rsynth_jax.training import augmentation, games, gan
from rsynth_jax.training.games import Game
from rsynth_jax.training.gan import GanState, GeneratorStep, Setup
from rsynth_jax.training.gan_recipes import AdamValues, AugmentValues, CriticValues
from rsynth_jax.training.state import Trainer
from rsynth_jax.types import Bytes, Critic, Key

MEASURED = 1024  # training images on which a classifier's outputs are standardized


class Recipe(Protocol):
    """The values that every adversarial recipe has."""

    @property
    def num_steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def images_per_step(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def critic(self) -> CriticValues: ...
    @property
    def augment(self) -> AugmentValues: ...
    @property
    def adam(self) -> AdamValues: ...


class Keys(NamedTuple):
    """The keys of a run."""

    generator: Key
    critic: Key
    steps: Key


def keys(recipe: Recipe) -> Keys:
    """Split the key of the recipe's seed."""
    return Keys(*jax.random.split(seeds.key(recipe.seed), 3))


def check_values(recipe: Recipe) -> None:
    """Raise ValueError for the first value of `Recipe` that makes no sense."""
    adam, critic = recipe.adam, recipe.critic
    checks.positive(
        num_steps=recipe.num_steps,
        batch_size=recipe.batch_size,
        critic_steps=critic.critic_steps,
        penalty_stride=critic.penalty_stride,
        critic_width=critic.critic_width,
    )
    checks.positive(learning_rate=adam.learning_rate, last_learning_rate=adam.last_learning_rate)
    checks.positive(critic_rate=critic.critic_rate)
    checks.not_negative(gamma=critic.gamma, last_gamma=critic.last_gamma, **recipe.augment._asdict())
    checks.below_one(beta1=adam.beta1, beta2=adam.beta2, ema_decay=adam.ema_decay)
    checks.up_to_one(translation=recipe.augment.translation, cutout=recipe.augment.cutout)
    checks.seed(seed=recipe.seed)
    checks.named("game", critic.game, games.GAMES)


def check_images(
    recipe: Recipe, images: Bytes, num_images: int, side: int, other: str = "other --widths"
) -> None:
    """Raise ValueError unless training images have the recipe's side, and fill a batch.

    Args:
      other: flag that would change the recipe's side.
    """
    if images.shape[1:] != (side, side, 3):
        height, width, channels = images.shape[1:]
        wanted = f"the recipe's are {side} x {side} x 3: give --image-size {side} or {other}"
        raise ValueError(f"the images are {height} x {width} x {channels}, {wanted}")
    if num_images < recipe.images_per_step:
        raise ValueError(f"{num_images} training images do not fill a batch of {recipe.images_per_step}")


def check_classifier(classifier: Release, side: int) -> None:
    """Raise ValueError unless a classifier takes images of the recipe's side."""
    if classifier.image_shape != (side, side, 3):
        own, wanted = (" x ".join(map(str, sizes)) for sizes in (classifier.image_shape, (side, side, 3)))
        raise ValueError(f"the classifier's images are {own}, the recipe's {wanted}: give another classifier")


def measured(images: Bytes) -> np.ndarray:
    """Choose training images evenly spaced over all, at most `MEASURED`, as float32 in [0, 1]."""
    num = min(len(images), MEASURED)
    return images[np.arange(num) * len(images) // num].astype(np.float32) / 255


def robust_critic(classifier: Release, images: Bytes, num_classes: int) -> Critic:
    """Make a critic of a classifier's maps, standardized by their moments of training images."""
    bound = models.bind(classifier.model, classifier.variables)
    seen = jax.jit(lambda images: critics.moments(bound, images))(measured(images))
    return critics.robust_critic(bound, seen, num_classes)


def half_cosine(first: float, last: float, num_steps: int) -> optax.Schedule:
    """Make the schedule from the first value to the last along half a cosine, over so many steps."""
    fall = optax.cosine_decay_schedule(first - last, num_steps)
    return lambda step: last + fall(step)


def optimizer(recipe: Recipe, multiple: float = 1.0) -> optax.GradientTransformation:
    """Make the optimizer of the generator, or of the critic with `multiple` times its learning rate."""
    adam = recipe.adam
    rates = multiple * adam.learning_rate, multiple * adam.last_learning_rate
    return optax.adam(half_cosine(*rates, recipe.num_steps), adam.beta1, adam.beta2)


def augment(values: AugmentValues) -> augmentation.Augment:
    """Make the augmentation before the critic."""
    return augmentation.chain(
        augmentation.color(values.brightness, values.saturation, values.contrast),
        augmentation.translation(values.translation),
        augmentation.cutout(values.cutout),
    )


def make_trainer(
    recipe: Recipe, setup: Setup, generator_step: GeneratorStep, game: Game, image_shape: tuple[int, ...]
) -> Trainer[GanState]:
    """Make the trainer of a generator's step against a critic that plays this game, with R1 and R2."""
    values = recipe.critic
    gamma = half_cosine(values.gamma, values.last_gamma, recipe.num_steps)
    step = gan.make_gan_step(
        setup,
        generator_step,
        game,
        optimizer(recipe, values.critic_rate),
        games.both(games.r1(gamma), games.r2(gamma)),
        recipe.adam.ema_decay,
        values.critic_steps,
        values.penalty_stride,
    )

    def init(params: Any) -> GanState:
        critic = jax.jit(setup.critic.init)(keys(recipe).critic, jnp.zeros(image_shape))
        return gan.init_state(generator_step, optimizer(recipe), params, critic)

    return Trainer(init=init, step=jax.jit(step, donate_argnums=0))
