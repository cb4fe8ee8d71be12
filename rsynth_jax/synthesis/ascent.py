"""The engine: projected gradient ascent in input space, for synthesis and for adversaries alike.

    ascent = projected_gradient_ascent(log_prob(classifier, cat), box(), steepest(L2, 0.5))
    image, info = run(ascent, start, 60)

An `Ascent` is a pair of pure functions, as an `optax.GradientTransformation` is, and a wrapper such as
`best_so_far` returns the type it takes. One image under `vmap`, so any optax optimizer serves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rsynth_jax.synthesis.norms import Norm
from rsynth_jax.types import Image, Key, Objective, Projection, Scalar

CHUNK = 10  # steps a program at most: enough to hide the host, few enough to unroll


class AscentState(NamedTuple):
    """The image and the optimizer's state. The state of every ascent has an `image`: its result so far."""

    image: Image
    opt_state: optax.OptState


class AscentInfo(NamedTuple):
    """The objective and the norm of its gradient at the image before the step."""

    value: Scalar
    grad_norm: Scalar


class Ascent(NamedTuple):
    """init(image) -> state; step(state) -> (state, info)."""

    init: Callable[[Image], Any]
    step: Callable[[Any], tuple[Any, AscentInfo]]


def select(condition: Scalar, one, other):
    """`one` where the condition holds, else `other`, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def steepest(norm: Norm, step_size: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Steps of length `step_size` in the steepest direction of `norm`.

    The paper's step (l2), in which no constant factor of the objective matters. In optax's sign
    convention, so that it chains with optax's own: momentum is
    `optax.chain(optax.normalize_by_update_norm(), optax.trace(0.9), optax.scale_by_learning_rate(0.1))`.
    """
    return optax.chain(norm.direction, optax.scale_by_learning_rate(step_size))


def projected_gradient_ascent(
    objective: Objective, projection: Projection, optimizer: optax.GradientTransformation
) -> Ascent:
    """x <- projection(x + update(grad objective(x))), from projection(start).

    Optax optimizers descend, so the engine hands them minus the gradient: the only minus sign.
    """

    def init(image: Image) -> AscentState:
        image = projection(image)
        return AscentState(image, optimizer.init(image))

    def step(state: AscentState) -> tuple[AscentState, AscentInfo]:
        value, grad = jax.value_and_grad(objective)(state.image)
        updates, opt_state = optimizer.update(-grad, state.opt_state, state.image)
        image = projection(jnp.asarray(optax.apply_updates(state.image, updates)))
        return AscentState(image, opt_state), AscentInfo(value, jnp.linalg.norm(grad.ravel()))

    return Ascent(init, step)


class BestState(NamedTuple):
    """The best image measured so far, its value, and the wrapped ascent's own state."""

    image: Image
    value: Scalar
    inner: Any


def best_so_far(ascent: Ascent) -> Ascent:
    """Return the best image measured instead of the last one reached.

    A step measures the image before it moves, so T steps choose among x_0 ... x_{T-1}; one more step
    includes x_T.
    """

    def init(image: Image) -> BestState:
        inner = ascent.init(image)
        return BestState(inner.image, jnp.full((), -jnp.inf, inner.image.dtype), inner)

    def step(state: BestState) -> tuple[BestState, AscentInfo]:
        inner, info = ascent.step(state.inner)
        better = info.value > state.value
        image, value = select(better, (state.inner.image, info.value), (state.image, state.value))
        return BestState(image, value, inner), info

    return Ascent(init, step)


class StoppedState(NamedTuple):
    """The image, and the wrapped ascent's own state."""

    image: Image
    inner: Any


def stop_when(done: Callable[[Image], Scalar], ascent: Ascent) -> Ascent:
    """Stop at the first image for which `done` holds.

    A step tests the image before it moves; XLA merges equal passes of one network on one image.
    """

    def init(image: Image) -> StoppedState:
        inner = ascent.init(image)
        return StoppedState(inner.image, inner)

    def step(state: StoppedState) -> tuple[StoppedState, AscentInfo]:
        inner, info = ascent.step(state.inner)
        stay = done(state.image)
        inner = select(stay, state.inner, inner)
        return StoppedState(inner.image, inner), info

    return Ascent(init, step)


class KeyedState(NamedTuple):
    """The image, the key of the next steps, and the state of the wrapped ascents."""

    image: Image
    key: Key
    inner: Any


def with_step_keys(key: Key, ascent_of: Callable[[Key], Ascent]) -> Ascent:
    """Make every step one of `ascent_of` with a key of its own: noise, or a random view of the image.

        noisy = with_step_keys(key, lambda k: projected_gradient_ascent(objective, box(), noise(k, 0.01)))

    Args:
      key: split once a step; step t depends on (key, t) alone.
      ascent_of: builds the ascent of one step from its key. All must share one kind of state.

    Returns:
      An ascent whose state starts as that of `ascent_of(key)`.
    """

    def init(image: Image) -> KeyedState:
        inner = ascent_of(key).init(image)
        return KeyedState(inner.image, key, inner)

    def step(state: KeyedState) -> tuple[KeyedState, AscentInfo]:
        later, now = jax.random.split(state.key)
        inner, info = ascent_of(now).step(state.inner)
        return KeyedState(inner.image, later, inner), info

    return Ascent(init, step)


def advance(ascent: Ascent, state: Any, num_steps: int) -> tuple[Any, AscentInfo]:
    """Take `num_steps` steps in one program, chosen where the program is lowered.

    `lax.scan` on TPU and GPU; unrolled on the CPU, where a convolution inside any XLA loop loses its
    fast path (half the speed: benchmarks/speed/ascent.py).

    Args:
      ascent: the pair of functions.
      state: as `ascent.init` or an earlier step returned it.
      num_steps: 1 or more.

    Returns:
      The state, and the infos stacked along a leading axis of `num_steps`.
    """

    def body(state, _):
        return ascent.step(state)

    def unrolled(state):
        return jax.lax.scan(body, state, length=num_steps, unroll=True)

    def rolled(state):
        return jax.lax.scan(body, state, length=num_steps)

    if num_steps == 1:  # a scan of length 1 is lowered as a loop, however it is unrolled
        state, info = ascent.step(state)
        return state, jax.tree.map(lambda leaf: leaf[None], info)
    return jax.lax.platform_dependent(state, cpu=unrolled, default=rolled)


def chunks(num_steps: int, most: int = CHUNK) -> tuple[int, ...]:
    """Split `num_steps` into programs of at most `most` steps, so that few programs serve all of them.

    Equal chunks where a number between most / 2 and `most` divides the steps, else chunks of `most` and a
    remainder: 15 is 5 + 5 + 5, 13 is 10 + 3.
    """
    if num_steps <= most:
        return (num_steps,) * (num_steps > 0)
    longest = next((n for n in range(most, 0, -1) if num_steps % n == 0 and 2 * n >= most), most)
    remainder = num_steps % longest
    return (longest,) * (num_steps // longest) + (remainder,) * (remainder > 0)


def run(ascent: Ascent, image: Image, num_steps: int) -> tuple[Image, AscentInfo]:
    """Take `num_steps` steps from `image`: the last image, and the info of every step."""
    state, info = advance(ascent, ascent.init(image), num_steps)
    return state.image, info
