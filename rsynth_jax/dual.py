"""Dual adversarial training: a robust classifier learns which images are its own, and paints better ones.

    fakes = make_fakes(model, class_seeds, image_shape, step_size=0.2)
    step = jax.jit(make_dual_step(model, optimizer, adversary, loss, augment, game, ema_decay=0.99))
    state, metrics = step(state, key, images, labels, fakes(variables, key, labels, num_steps))

L = loss(f(x'), y) + weight * contrast(E(real), E(fake)), with E the log-sum-exp of the logits. Fakes are
made by the sampler itself: so many steps up the logit of the label, from the class seeds. The number of
steps starts at 1 and grows by 1 when real and fake are told apart well enough (DAT, ICLR 2026). Batch norm
is frozen.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from rsynth_jax import losses, objectives, seeds, synthesis, training
from rsynth_jax.ascent import steepest
from rsynth_jax.attacks import Adversary
from rsynth_jax.images import decode, random_flip
from rsynth_jax.losses import RobustLoss
from rsynth_jax.metrics import ranking
from rsynth_jax.models import bind
from rsynth_jax.projections import box
from rsynth_jax.seeds import Seeds
from rsynth_jax.training import Augment, Variables
from rsynth_jax.types import Key, Scalar

WINDOW = 8  # batches over which the AUC is averaged
CHUNK = 5  # steps of the ascent a program: any number is so many of these, and single ones


class Game(NamedTuple):
    """What real images and fakes play for.

    Attributes:
      weight: of the contrast in the loss.
      threshold: of the AUC, above which fakes get one step more.
      most_steps: they ever get.
    """

    weight: float
    threshold: float
    most_steps: int


class DualState(NamedTuple):
    """A `TrainState`, the steps fakes get now, and the AUC of the last batches, NaN where there was none."""

    step: jax.Array
    variables: Variables
    opt_state: optax.OptState
    ema: Variables
    num_steps: jax.Array
    aucs: jax.Array


class DualMetrics(NamedTuple):
    """Of one batch: the loss, the accuracy on adversarial images, and how the game stands."""

    loss: Scalar
    adversarial_accuracy: Scalar
    auc: Scalar
    real_evidence: Scalar
    fake_evidence: Scalar
    num_steps: Scalar


def init_state(optimizer: optax.GradientTransformation, variables: Variables) -> DualState:
    """The state before the first step, from a robust classifier's weights."""
    variables, ema = jax.tree.map(jnp.array, variables), jax.tree.map(jnp.array, variables)
    aucs = jnp.full(WINDOW, jnp.nan)
    zero, one = jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32)
    return DualState(zero, variables, optimizer.init(variables["params"]), ema, one, aucs)


def raised(game: Game, num_steps: jax.Array, aucs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One step more, and a new window, where the mean of a full window passes the threshold."""
    won = jnp.mean(aucs) > game.threshold  # NaN, while the window is not full, is not
    more = jnp.minimum(num_steps + jnp.where(won, 1, 0), game.most_steps)
    return more, jnp.where(won, jnp.nan, aucs)


def make_fakes(model: nn.Module, class_seeds: Seeds, shape: tuple[int, int, int], step_size: float):
    """(variables, key, labels, num_steps) -> images (n, h, w, c): the sampler, in evaluation mode."""

    def task(classifier, start, label):
        return synthesis.Task(start, objectives.logit(classifier, label), box())

    begin, more = synthesis.programs(model, synthesis.steadily(task, steepest("l2", step_size)))

    @jax.jit
    def draw(class_seeds, key, labels):
        keys = jax.random.split(key, len(labels))
        return jax.vmap(lambda key, label: seeds.sample(key, class_seeds, label, shape))(keys, labels)

    def fakes(variables: Variables, key: Key, labels: jax.Array, num_steps: int):
        inputs = draw(class_seeds, key, labels), labels
        state = begin(variables, *inputs)
        for chunk in [CHUNK] * (num_steps // CHUNK) + [1] * (num_steps % CHUNK):
            state = more(chunk)(variables, state, *inputs)
        return state.image

    return fakes


def prepared(model: nn.Module, adversary: Adversary, augment: Augment) -> Callable:
    """(variables, key, image, label) -> the clean image, the adversarial one, the real one just flipped."""

    def prepare(variables, key, image, label):
        augment_key, attack_key, flip_key = jax.random.split(key, 3)
        real = decode(image)
        clean = augment(augment_key, real)
        adversarial = adversary(attack_key, bind(model, variables), clean, label)
        return clean, adversarial, random_flip(flip_key, real)

    return prepare


def make_dual_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    adversary: Adversary,
    loss: RobustLoss,
    augment: Augment,
    game: Game,
    ema_decay: float,
) -> Callable:
    """(state, key, images uint8 (n, h, w, c), labels (n,), fakes (n, h, w, c)) -> (state, metrics)."""
    prepare = jax.vmap(prepared(model, adversary, augment), (None, 0, 0, 0))

    def batch_loss(params, batch_stats, clean, adversarial, real, fakes, labels):
        def logits(images):
            return model.apply({"params": params, "batch_stats": batch_stats}, images).logits

        attacked = logits(adversarial)
        evidence = [jax.nn.logsumexp(logits(images), axis=-1) for images in (real, fakes)]
        value = loss(logits(clean), attacked, labels) + game.weight * losses.contrast(*evidence)
        return value, (training.accuracy(attacked, labels), *evidence)

    def dual_step(state: DualState, key: Key, images, labels, fakes) -> tuple[DualState, DualMetrics]:
        batch = *prepare(state.variables, jax.random.split(key, len(images)), images, labels), fakes
        params, batch_stats = state.variables["params"], state.variables["batch_stats"]
        (value, (correct, real, fake)), grads = jax.value_and_grad(batch_loss, has_aux=True)(
            params, batch_stats, *jax.lax.stop_gradient(batch), labels
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, params)
        variables = {"params": optax.apply_updates(params, updates), "batch_stats": batch_stats}
        ema, apart = training.averaged(state.ema, variables, state.step, ema_decay), ranking.auc(real, fake)
        num_steps, aucs = raised(game, state.num_steps, jnp.append(state.aucs[1:], apart))
        metrics = DualMetrics(value, correct, apart, jnp.mean(real), jnp.mean(fake), state.num_steps)
        return DualState(state.step + 1, variables, opt_state, ema, num_steps, aucs), metrics

    return dual_step
