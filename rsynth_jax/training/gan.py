"""Adversarial training of a generator and a critic: one pure step for every game.

    generator_step = make_generator_step(setup, game, optax.adam(2e-3, b1=0.0))
    step = jax.jit(make_gan_step(setup, generator_step, game, optax.adam(2e-3, b1=0.0), r1(1.0)))
    state, metrics = step(init_state(generator_step, optimizer, params, critic), key, images, labels)

A step is `critic_steps` updates of the critic, each on its part of the batch, then one of the generator. How
the generator moves is a `GeneratorStep`, a value of its own: `evolution.evolve` makes one of several.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rsynth_jax.images import decode, random_flip
from rsynth_jax.training.augmentation import Augment, identity
from rsynth_jax.training.games import Game, Penalty, no_penalty
from rsynth_jax.training.state import warmed_up
from rsynth_jax.types import (
    Code,
    Condition,
    Critic,
    Generator,
    Image,
    Images,
    Key,
    Label,
    Labels,
    Params,
    Scalar,
    View,
)

MakeGenerator = Callable[[Params], Generator]
BATCH_AXIS = "batch"  # the name of the axis of a batch's images, over which `Extra` may take means


class Made(NamedTuple):
    """A generated image, before it is augmented, and what it was made of.

    Attributes:
      code: that was decoded.
      image: the generated one.
      real: the real one of the condition, mirrored.
      condition: see `Setup`.
    """

    code: Code
    image: Image
    real: Image
    condition: Condition


Extra = Callable[[Params, Key, Made], dict[str, Scalar]]  # weighted losses by name


class Batch(NamedTuple):
    """The inputs of a generator's step besides its own state.

    Attributes:
      keys: (n,), of the latents, the noise and the augmentation.
      images: real ones, (n, h, w, c) in [0, 1].
      views: the critic's views of them, augmented.
      labels: their classes, (n,); generated image i is of the class of real image i.
      conditions: the conditions of the generated images, see `Setup`; each leaf (n, ...).
      critic: the critic's parameters.
    """

    keys: jax.Array
    images: Images
    views: View
    labels: Labels
    conditions: Condition
    critic: Params


class GeneratorState(NamedTuple):
    """A generator in training."""

    params: Params
    opt_state: optax.OptState


class GeneratorStep(NamedTuple):
    """How a generator moves, as pure functions.

    Attributes:
      init: params -> state.
      params: state -> the params of the best generator it holds.
      generate: (state, keys (n,), conditions) -> images (n, h, w, c), for the critic to learn from.
      step: (state, batch) -> (state, metrics), metrics a dict of scalars, "generator_loss" among them.
    """

    init: Callable[[Params], Any]
    params: Callable[[Any], Params]
    generate: Callable[[Any, jax.Array, Condition], Images]
    step: Callable[[Any, Batch], tuple[Any, dict[str, Scalar]]]


class GanState(NamedTuple):
    """The state of adversarial training; `ema` is the average of the generator's params."""

    step: jax.Array  # steps done, int32
    generator: Any  # of the `GeneratorStep`
    critic: Params
    critic_opt: optax.OptState
    ema: Params


class GanMetrics(NamedTuple):
    """The critic's loss, its mean scores of real and generated images, and the generator step's metrics."""

    loss: Scalar
    real_score: Scalar
    fake_score: Scalar
    generator: dict[str, Scalar]


def class_alone(image: Image, label: Label) -> Condition:
    """The class."""
    return label


class Setup(NamedTuple):
    """The functions that the critic's and the generator's updates share.

    Attributes:
      generator: params -> the generator.
      critic: the critic.
      mirror: augmentation of real images alone: they become more images.
      augment: augmentation of real and generated images before the critic.
      condition: (real image, mirrored, and its class) -> what the generator is given beside a latent.
    """

    generator: MakeGenerator
    critic: Critic
    mirror: Augment = random_flip
    augment: Augment = identity
    condition: Callable[[Image, Label], Condition] = class_alone


def no_extra(params: Params, key: Key, made: Made) -> dict[str, Scalar]:
    """No losses."""
    return {}


def generate(make: MakeGenerator, params: Params, key: Key, condition: Condition) -> tuple[Code, Image]:
    """Draw a latent and decode its code, with noise of its own."""
    latent_key, noise_key = jax.random.split(key)
    generator = make(params)
    code = generator.code(generator.prior(latent_key), condition)
    return code, generator.decode(code, noise_key)


def make_generator_step(
    setup: Setup, game: Game, optimizer: optax.GradientTransformation, extra: Extra = no_extra
) -> GeneratorStep:
    """Make one step down the mean over the batch of the game's loss, plus the losses of `extra`.

    Args:
      optimizer: of the generator.
      extra: more losses of a generated image. Each is added, and is a metric by its name. Its means over
        the batch are `jax.lax.pmean(value, BATCH_AXIS)`.
    """

    def fake_of(params: Params, key: Key, condition: Condition) -> tuple[Code, Image]:
        return generate(setup.generator, params, key, condition)

    def pair_loss(params: Params, critic: Params, pair: Batch) -> tuple[Scalar, dict[str, Scalar]]:
        fake_key, augment_key, extra_key = jax.random.split(pair.keys, 3)
        code, fake = fake_of(params, fake_key, pair.conditions)
        seen = setup.critic.view(setup.augment(augment_key, fake))
        scores = (setup.critic.score(critic, view, pair.labels) for view in (pair.views, seen))
        losses = extra(params, extra_key, Made(code, fake, pair.images, pair.conditions))
        return sum(losses.values(), game.generator(*scores)), losses

    def loss(params: Params, batch: Batch) -> tuple[Scalar, dict[str, Scalar]]:
        pairs = batch._replace(critic=())
        losses = jax.vmap(pair_loss, (None, None, 0), axis_name=BATCH_AXIS)(params, batch.critic, pairs)
        return jax.tree.map(jnp.mean, losses)

    def step(state: GeneratorState, batch: Batch) -> tuple[GeneratorState, dict[str, Scalar]]:
        (value, losses), grads = jax.value_and_grad(loss, has_aux=True)(state.params, batch)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        state = GeneratorState(optax.apply_updates(state.params, updates), opt_state)
        return state, {"generator_loss": value} | losses

    return GeneratorStep(
        init=lambda params: GeneratorState(params, optimizer.init(params)),
        params=lambda state: state.params,
        generate=lambda state, keys, conditions: jax.vmap(fake_of, (None, 0, 0))(
            state.params, keys, conditions
        )[1],
        step=step,
    )


def make_gan_step(
    setup: Setup,
    generator_step: GeneratorStep,
    game: Game,
    optimizer: optax.GradientTransformation,
    penalty: Penalty = no_penalty,
    ema_decay: float = 0.999,
    critic_steps: int = 1,
    penalty_stride: int = 1,
) -> Callable[..., tuple[GanState, GanMetrics]]:
    """Make (state, key, images uint8 (critic_steps * n, h, w, c), labels) -> (state, metrics).

    Args:
      game: of which the critic descends its part.
      optimizer: of the critic.
      penalty: on the critic, see `games.r1`.
      ema_decay: in [0, 1), of ema <- decay * ema + (1 - decay) * params, less at first (`state.warmed_up`).
      critic_steps: updates of the critic before the generator's, which is on the last part of the batch.
      penalty_stride: the penalty is taken on one pair of so many, which estimates its mean at less cost.
    """

    def see(key: Key, image: Image) -> View:
        return setup.critic.view(setup.augment(key, image))

    def real_of(key: Key, image: jax.Array, label: Label) -> tuple[Image, View, Condition]:
        mirror_key, augment_key = jax.random.split(key)
        real = setup.mirror(mirror_key, decode(image))
        return real, see(augment_key, real), setup.condition(real, label)

    def pair_loss(params: Params, real: View, fake: View, label: jax.Array):
        scores = tuple(setup.critic.score(params, view, label) for view in (real, fake))
        return game.critic(*scores), scores

    def pair_penalty(params: Params, real: View, fake: View, label: jax.Array, step: jax.Array):
        return penalty(lambda view: jnp.sum(setup.critic.score(params, view, label)), real, fake, step)

    def critic_loss(params: Params, real: View, fake: View, labels: Labels, step: jax.Array):
        def some(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: leaf[::penalty_stride], tree)

        losses, scores = jax.vmap(pair_loss, (None, 0, 0, 0))(params, real, fake, labels)
        pairs = (some(real), some(fake), some(labels))
        penalties = jax.vmap(pair_penalty, (None, 0, 0, 0, None))(params, *pairs, step)
        return jnp.mean(losses) + jnp.mean(penalties), scores

    def update_critic(state: GanState, key: Key, images: jax.Array, labels: Labels):
        real_keys, fake_keys, seen_keys = (
            jax.random.split(own, len(images)) for own in jax.random.split(key, 3)
        )
        real, views, conditions = jax.vmap(real_of)(real_keys, images, labels)
        fake = generator_step.generate(state.generator, fake_keys, conditions)
        inputs = (views, jax.vmap(see)(seen_keys, fake), labels, state.step)
        descent = jax.value_and_grad(critic_loss, has_aux=True)
        (loss, (real_scores, fake_scores)), grads = descent(state.critic, *inputs)
        updates, critic_opt = optimizer.update(grads, state.critic_opt, state.critic)
        critic = optax.apply_updates(state.critic, updates)
        metrics = GanMetrics(loss, jnp.mean(real_scores), jnp.mean(fake_scores), {})
        state = state._replace(critic=critic, critic_opt=critic_opt)
        return state, metrics, Batch(fake_keys, real, views, labels, conditions, critic)

    def gan_step(state: GanState, key: Key, images: jax.Array, labels: Labels) -> tuple[GanState, GanMetrics]:
        *critic_keys, generator_key = jax.random.split(key, critic_steps + 1)
        parts = (array.reshape(critic_steps, -1, *array.shape[1:]) for array in (images, labels))
        for own_key, own_images, own_labels in zip(critic_keys, *parts, strict=True):
            state, metrics, batch = update_critic(state, own_key, own_images, own_labels)
        keys = jax.random.split(generator_key, len(batch.labels))
        generator, values = generator_step.step(state.generator, batch._replace(keys=keys))
        params = jax.lax.optimization_barrier(generator_step.params(generator))
        ema = optax.incremental_update(params, state.ema, 1 - warmed_up(ema_decay, state.step))
        state = state._replace(step=state.step + 1, generator=generator, ema=ema)
        return state, metrics._replace(generator=values)

    return gan_step


def init_state(
    generator_step: GeneratorStep, optimizer: optax.GradientTransformation, params: Params, critic: Params
) -> GanState:
    """Return the state before the first step, in buffers of its own."""
    params, ema, critic = (jax.tree.map(jnp.array, tree) for tree in (params, params, critic))
    return GanState(
        jnp.zeros((), jnp.int32), generator_step.init(params), critic, optimizer.init(critic), ema
    )
