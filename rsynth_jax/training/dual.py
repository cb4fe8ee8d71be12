"""Dual adversarial training: a robust classifier learns which images are its own, and paints better ones.

    step = jax.jit(make_dual_step(model, optimizer, adversary, loss, augment, game, ema_decay=0.99))
    state, metrics = step(class_seeds, state, key, images, labels)

L = loss(f(x'), y) + weight * contrast(E(x'), E(fake)), with E the log-sum-exp of the logits (DAT, ICLR
2026) and x' real images as the adversary leaves them, so that nothing within its reach tells them from fakes.
Both halves see the same images: with crops, and their borders, in the first alone, a network stays robust
where there are borders and forgets it where there are none. Batch norm is frozen.

Fakes are made as samples are, T steps up the logit of the label from the class seeds, but not all at
once: a batch of them is always in the making, and between two updates each climbs `stride` steps further,
until it has climbed T and a new one takes its place. So an update costs `stride` steps, not T, and sees fakes
of every age. T grows by a stride when finished fakes are told apart well enough.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from rsynth_jax.attacks.adversaries import Adversary
from rsynth_jax.metrics.ranking import auc
from rsynth_jax.models import bind
from rsynth_jax.synthesis import ascent, class_gaussians, objectives
from rsynth_jax.synthesis.class_gaussians import ClassGaussians
from rsynth_jax.synthesis.projections import box
from rsynth_jax.training import classifier as training
from rsynth_jax.training import losses
from rsynth_jax.training.classifier import Augment, Variables
from rsynth_jax.training.losses import RobustLoss
from rsynth_jax.types import Images, Key, Labels, Scalar

WINDOW = 8  # batches over which the AUC is averaged


class Game(NamedTuple):
    """What real images and fakes play for.

    Attributes:
      weight: of the contrast in the loss.
      noise: share of fakes that start from noise, every value uniform, and not from their class's seeds.
      step_size: l2 length of a step of a fake's ascent.
      stride: steps that a fake climbs between two updates.
      most_steps: that it ever climbs in all, T.
      threshold: of the AUC, above which T grows.
    """

    weight: float
    noise: float
    step_size: float
    stride: int
    most_steps: int
    threshold: float


class Fakes(NamedTuple):
    """Fakes in the making: images (n, h, w, c) in [0, 1], and the classes they climb to, (n,)."""

    images: Images
    labels: Labels


class DualState(NamedTuple):
    """A `TrainState` and the game's: the fakes, the steps T they climb, the last AUCs (NaN: none yet)."""

    step: jax.Array
    variables: Variables
    opt_state: optax.OptState
    ema: Variables
    fakes: Fakes
    num_steps: jax.Array
    aucs: jax.Array


class DualMetrics(NamedTuple):
    """Of one batch: the loss, the accuracy on adversarial images, and how the game stands.

    The AUC is of finished fakes, the energy of fakes of all ages.
    """

    loss: Scalar
    adversarial_accuracy: Scalar
    auc: Scalar
    real_energy: Scalar
    fake_energy: Scalar
    num_steps: Scalar


def init_state(
    optimizer: optax.GradientTransformation, game: Game, shape: tuple[int, ...], variables: Variables
) -> DualState:
    """The state before the first step, from a robust classifier's weights; batches are (n, h, w, c)."""
    variables, ema = jax.tree.map(jnp.array, variables), jax.tree.map(jnp.array, variables)
    fakes = Fakes(jnp.zeros(shape), jnp.zeros(shape[0], jnp.int32))  # all replaced in the first step
    zero, aucs = jnp.zeros((), jnp.int32), jnp.full(WINDOW, jnp.nan)
    opt_state = optimizer.init(variables["params"])
    return DualState(zero, variables, opt_state, ema, fakes, zero + game.stride, aucs)


def raised(game: Game, num_steps: jax.Array, aucs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A stride more, and a new window, where the mean of a full window passes the threshold."""
    won = jnp.mean(aucs) > game.threshold  # NaN, while the window is not full, is not
    more = jnp.minimum(num_steps + jnp.where(won, game.stride, 0), game.most_steps)
    return more, jnp.where(won, jnp.nan, aucs)


def turns(game: Game, step: jax.Array, num_steps: jax.Array, num: int) -> tuple[jax.Array, jax.Array]:
    """Which of the `num` places start a new fake at this step, and which finish theirs, bool (num,).

    Place i starts anew wherever step + i is a multiple of T / stride, so that fakes of every age are there.
    """
    life = num_steps // game.stride
    turn = (step + jnp.arange(num)) % life
    return (turn == 0) | (step == 0), turn == life - 1


def make_fakes(model: nn.Module, game: Game) -> Callable:
    """(class_seeds, variables, key, fakes, labels, new) -> fakes a stride on; `new` ones from the seeds."""

    def begin(class_seeds, key, label, shape):
        draw_key, noise_key, pick_key = jax.random.split(key, 3)
        seed, noise = (
            class_gaussians.sample(draw_key, class_seeds, label, shape),
            jax.random.uniform(noise_key, shape),
        )
        return jnp.where(jax.random.bernoulli(pick_key, game.noise), noise, seed)

    def further(class_seeds, variables, key, image, own, label, new) -> Fakes:
        label = jnp.where(new, label, own)
        start = jnp.where(new, begin(class_seeds, key, label, image.shape), image)
        score, steps = objectives.logit(bind(model, variables), label), ascent.steepest("l2", game.step_size)
        climb = ascent.projected_gradient_ascent(score, box(), steps)
        return Fakes(ascent.run(climb, start, game.stride)[0], label)

    def advance(
        class_seeds: ClassGaussians, variables: Variables, key: Key, fakes: Fakes, labels, new
    ) -> Fakes:
        keys, axes = jax.random.split(key, len(labels)), (None, None, 0, 0, 0, 0, 0)
        return jax.vmap(further, axes)(class_seeds, variables, keys, *fakes, labels, new)

    return advance


def make_dual_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    adversary: Adversary,
    loss: RobustLoss,
    augment: Augment,
    game: Game,
    ema_decay: float,
) -> Callable:
    """(class_seeds, state, key, images uint8 (n, h, w, c), labels (n,)) -> (state, metrics)."""
    perturb, advance = training.perturbed(model, adversary, augment), make_fakes(model, game)

    def batch_loss(params, batch_stats, clean, adversarial, fakes, labels):
        def logits(images):
            return model.apply({"params": params, "batch_stats": batch_stats}, images).logits

        attacked = logits(adversarial)
        energy = [jax.nn.logsumexp(each, axis=-1) for each in (attacked, logits(fakes))]
        value = loss(logits(clean), attacked, labels) + game.weight * losses.contrast(*energy)
        return value, (training.accuracy(attacked, labels), *energy)

    def dual_step(class_seeds: ClassGaussians, state: DualState, key: Key, images, labels):
        batch_key, fake_key = jax.random.split(key)
        new, finished = turns(game, state.step, state.num_steps, len(images))
        fakes = advance(class_seeds, state.variables, fake_key, state.fakes, labels, new)
        batch = perturb(state.variables, jax.random.split(batch_key, len(images)), images, labels)
        params, batch_stats = state.variables["params"], state.variables["batch_stats"]
        (value, (correct, real, fake)), grads = jax.value_and_grad(batch_loss, has_aux=True)(
            params, batch_stats, *jax.lax.stop_gradient((*batch, fakes.images)), labels
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, params)
        variables = {"params": optax.apply_updates(params, updates), "batch_stats": batch_stats}
        ema = optax.incremental_update(variables, state.ema, 1 - ema_decay)  # that of a network good already
        apart = auc(real, fake, finished)
        num_steps, aucs = raised(game, state.num_steps, jnp.append(state.aucs[1:], apart))
        metrics = DualMetrics(value, correct, apart, jnp.mean(real), jnp.mean(fake), state.num_steps)
        return DualState(state.step + 1, variables, opt_state, ema, fakes, num_steps, aucs), metrics

    return dual_step
