"""Dual adversarial training: a robust classifier learns to separate real images from its own samples.

    step = jax.jit(make_dual_step(setup, values))
    state, metrics = step(class_gaussians, state, key, images, labels)

L = loss(f(x), f(x'), y) + contrast * (mean softplus(-E(x')) + mean softplus(E(fake))), with E the log-sum-exp
of the logits (DAT, ICLR 2026) and x' real images as the adversary leaves them, so that nothing within its
reach separates them from fakes. Both terms use the same images: with crops, and their borders, in the first
alone, a network stays robust where there are borders and loses its robustness where there are none. Batch
norm is frozen.

With shifted views, every view of an image is from up to `view_shift` pixels away: each step of a fake's, and
those of real images and fakes that the loss compares. Were fakes compared from one place alone, a strided
network would learn to reject them from there, and from the other places, where they climb, to see nothing.

Fakes are samples: T steps up the logit of the label from the class Gaussians. They are not made all at once.
A batch of them is always in the making; between two updates each climbs `fake_stride` steps further, until it
has climbed T and a new one takes its place. So an update costs a stride, not T steps, and uses fakes of every
age. T grows by a stride when the AUC of finished fakes is high enough.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from rsynth_jax.images import random_shift
from rsynth_jax.metrics.ranking import auc
from rsynth_jax.models import bind
from rsynth_jax.synthesis import ascent, class_gaussians, objectives, tasks
from rsynth_jax.synthesis.class_gaussians import ClassGaussians
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.projections import box
from rsynth_jax.synthesis.tasks import Task
from rsynth_jax.training import losses
from rsynth_jax.training import state as states
from rsynth_jax.training.classifier import Setup, accuracy, make_perturb
from rsynth_jax.training.recipes import DualValues, Recipe
from rsynth_jax.training.state import Trainer, TrainState
from rsynth_jax.types import Classifier, Image, Images, Key, Label, Labels, Scalar, Variables

WINDOW = 8  # batches over which the AUC is averaged
SIDE = 32  # pixels, at which `fake_step_size` is given


class Fakes(NamedTuple):
    """Fakes in the making: images (n, h, w, c) in [0, 1], and the classes they climb to, (n,)."""

    images: Images
    labels: Labels


class DualState(NamedTuple):
    """The state of dual training, a `TrainState` and more."""

    train: TrainState
    fakes: Fakes
    num_steps: jax.Array  # T, the steps that a fake climbs in all, int32
    aucs: jax.Array  # of the last `WINDOW` batches; NaN: none yet

    @property
    def step(self) -> jax.Array:
        return self.train.step

    @property
    def variables(self) -> Variables:
        return self.train.variables

    @property
    def ema(self) -> Variables:
        return self.train.ema


class DualMetrics(NamedTuple):
    """The loss of a batch, its adversarial accuracy, the AUC of finished fakes, and all fakes' energy."""

    loss: Scalar
    adversarial_accuracy: Scalar
    auc: Scalar
    real_energy: Scalar
    fake_energy: Scalar
    num_steps: Scalar


def init_state(
    optimizer: optax.GradientTransformation, values: DualValues, shape: tuple[int, ...], variables: Variables
) -> DualState:
    """Return the state before the first step, from a robust classifier's weights, for shape (n, h, w, c)."""
    return DualState(
        train=states.init_state(optimizer, variables),
        fakes=Fakes(jnp.zeros(shape), jnp.zeros(shape[0], jnp.int32)),  # replaced in step 1
        num_steps=jnp.int32(values.fake_stride),
        aucs=jnp.full(WINDOW, jnp.nan, jnp.float32),  # not weakly typed: it would compile a step twice
    )


def advance(state: DualState) -> DualState:
    """Return the same state after one step more."""
    return state._replace(train=state.train._replace(step=state.step + 1))


def lengthened(values: DualValues, num_steps: jax.Array, aucs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Add a stride to T, and start a new window, where the mean of a full window passes the threshold."""
    passed = jnp.mean(aucs) > values.auc_threshold  # NaN, while the window is not full, does not
    longer = jnp.minimum(num_steps + jnp.where(passed, values.fake_stride, 0), values.most_fake_steps)
    return longer, jnp.where(passed, jnp.nan, aucs)


def turns(values: DualValues, step: jax.Array, num_steps: jax.Array, num: int) -> tuple[jax.Array, jax.Array]:
    """Return which of the `num` places start a new fake at this step, and which finish theirs, bool (num,).

    Place i starts anew wherever step + i is a multiple of T / stride, so that fakes of every age exist.
    """
    life = num_steps // values.fake_stride
    turn = (step + jnp.arange(num)) % life
    return (turn == 0) | (step == 0), turn == life - 1


def make_fakes(model: nn.Module, values: DualValues) -> Callable[..., Fakes]:
    """Make (class_gaussians, variables, key, fakes, labels, new bool (n,)) -> fakes a stride further.

    Those that are `new` start from the Gaussians of the labels, a share `fake_noise` of them from noise.
    """

    def begin(gaussians, key, label, shape):
        draw_key, noise_key, pick_key = jax.random.split(key, 3)
        drawn = class_gaussians.sample(draw_key, gaussians, label, shape)
        noise = jax.random.uniform(noise_key, shape)
        return jnp.where(jax.random.bernoulli(pick_key, values.fake_noise), noise, drawn)

    def further(gaussians, variables, key, fake: Fakes, label, new) -> Fakes:
        shape = fake.images.shape
        label = jnp.where(new, label, fake.labels)
        start = jnp.where(new, begin(gaussians, key, label, shape), fake.images)
        rule = ascent.steepest(L2, values.fake_step_size * shape[0] / SIDE)
        task_fn = functools.partial(_climb_logit, label=label)
        climb_fn = tasks.jittered(task_fn, rule, values.view_shift)
        _, climb = climb_fn(bind(model, variables), jax.random.fold_in(key, 1), start)
        return Fakes(ascent.run(climb, start, values.fake_stride)[0], label)

    def advance(gaussians, variables: Variables, key: Key, fakes: Fakes, labels, new) -> Fakes:
        keys = jax.random.split(key, len(labels))
        return jax.vmap(further, (None, None, 0, 0, 0, 0))(gaussians, variables, keys, fakes, labels, new)

    return advance


def _climb_logit(classifier: Classifier, start: Image, label: Label) -> Task:
    return Task(start, objectives.logit(classifier, label), box())


def make_dual_step(setup: Setup, values: DualValues) -> Callable[..., tuple[DualState, DualMetrics]]:
    """Make (class_gaussians, state, key, images uint8 (n, h, w, c), labels (n,)) -> (state, metrics)."""
    perturb = make_perturb(setup)
    advance = make_fakes(setup.model, values)
    view = jax.vmap(functools.partial(random_shift, max_shift=values.view_shift))

    def batch_loss(params, batch_stats, clean, adversarial, fakes, labels):
        def logits(images):
            outputs: Any = setup.model.apply({"params": params, "batch_stats": batch_stats}, images)
            return outputs.logits

        attacked = logits(adversarial)
        real = jax.nn.logsumexp(attacked, axis=-1)
        fake = jax.nn.logsumexp(logits(fakes), axis=-1)
        value = setup.loss(logits(clean), attacked, labels) + values.contrast * losses.contrast(real, fake)
        return value, (batch_stats, (accuracy(attacked, labels), real, fake))

    descent = states.descent(batch_loss)

    def dual_step(gaussians: ClassGaussians, state: DualState, key: Key, images, labels):
        batch_key, fake_key, view_key = jax.random.split(key, 3)
        new, finished = turns(values, state.step, state.num_steps, len(images))
        fakes = advance(gaussians, state.variables, fake_key, state.fakes, labels, new)
        keys = jax.random.split(batch_key, len(images))
        real_keys, view_keys = jax.random.split(view_key, (2, len(images)))
        real = perturb(state.variables, keys, view(real_keys, images), labels)
        batch = (*real, view(view_keys, fakes.images), labels)
        train, value, more = states.update(setup.optimizer, state.train, descent, batch, setup.ema_decay)
        correct, real, fake = more
        separated = auc(real, fake, finished)
        num_steps, aucs = lengthened(values, state.num_steps, jnp.append(state.aucs[1:], separated))
        metrics = DualMetrics(value, correct, separated, jnp.mean(real), jnp.mean(fake), state.num_steps)
        return DualState(train, fakes, num_steps, aucs), metrics

    return dual_step


def make_trainer(
    setup: Setup, recipe: Recipe, gaussians: ClassGaussians, image_shape: tuple[int, int, int]
) -> Trainer[DualState]:
    """Make the trainer of dual training; fakes start from the class Gaussians."""
    values = recipe.dual
    step = jax.jit(make_dual_step(setup, values), donate_argnums=1)
    return Trainer(
        init=functools.partial(init_state, setup.optimizer, values, (recipe.batch_size, *image_shape)),
        step=functools.partial(step, class_gaussians.with_temperature(gaussians, values.fake_temperature)),
        place=lambda devices, state: devices.place(state)._replace(fakes=devices.split(state.fakes)),
        outcome=lambda state: {"fake_steps": int(state.num_steps)},
        weights=lambda state: (state.train, state.fakes),
        advance=advance,
    )
