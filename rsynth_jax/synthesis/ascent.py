"""The engine: projected gradient ascent, for synthesis and for adversaries alike.

    ascent = projected_gradient_ascent(log_prob(classifier, cat), box(), steepest(L2, 0.5))
    image, info = run(ascent, start, 60)

An `Ascent` is a pair of pure functions, as an `optax.GradientTransformation` is, and a wrapper such as
`best_so_far` returns the type it takes. A point is any pytree: an image, or the code of one, of which
`Ascent.decode` makes the image. One point under `vmap`, so any optax optimizer serves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rsynth_jax import convolutions
from rsynth_jax.synthesis.norms import Norm
from rsynth_jax.types import Decode, Image, Key, Objective, Point, Projection, Scalar

CHUNK = 10  # steps of a program at most: enough to hide the host, few enough to be told of in time


class AscentState(NamedTuple):
    """The point and the optimizer's state. The state of every ascent has a `point`: its result so far."""

    point: Point
    opt_state: optax.OptState


class AscentInfo(NamedTuple):
    """The objective and the norm of its gradient at the point before the step."""

    value: Scalar
    grad_norm: Scalar


def identity(image: Image) -> Image:
    """The image of a point that is an image."""
    return image


class Ascent(NamedTuple):
    """init(point) -> state; step(state) -> (state, info); decode(point) -> image."""

    init: Callable[[Point], Any]
    step: Callable[[Any], tuple[Any, AscentInfo]]
    decode: Decode = identity


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

    def init(point: Point) -> AscentState:
        point = projection(point)
        return AscentState(point, optimizer.init(point))

    def step(state: AscentState) -> tuple[AscentState, AscentInfo]:
        value, grad = jax.value_and_grad(objective)(state.point)
        downwards = jax.tree.map(jnp.negative, grad)
        updates, opt_state = optimizer.update(downwards, state.opt_state, state.point)
        point = projection(optax.apply_updates(state.point, updates))
        return AscentState(point, opt_state), AscentInfo(value, optax.tree.norm(grad))

    return Ascent(init, step)


class BestState(NamedTuple):
    """The best point measured so far, its value, and the wrapped ascent's own state."""

    point: Point
    value: Scalar
    inner: Any


def best_so_far(ascent: Ascent) -> Ascent:
    """Return the best point measured instead of the last one reached.

    A step measures the point before it moves, so T steps choose among x_0 ... x_{T-1}; one more step
    includes x_T.
    """

    def init(point: Point) -> BestState:
        inner = ascent.init(point)
        dtype = jax.tree.leaves(inner.point)[0].dtype
        return BestState(inner.point, jnp.full((), -jnp.inf, dtype), inner)

    def step(state: BestState) -> tuple[BestState, AscentInfo]:
        inner, info = ascent.step(state.inner)
        better = info.value > state.value
        point, value = select(better, (state.inner.point, info.value), (state.point, state.value))
        return BestState(point, value, inner), info

    return Ascent(init, step, ascent.decode)


class StoppedState(NamedTuple):
    """The wrapped ascent's own state."""

    inner: Any

    @property
    def point(self) -> Point:
        """The wrapped ascent's point: one array, so that XLA merges equal passes of a network."""
        return self.inner.point


def stop_when(done: Callable[[Point], Scalar], ascent: Ascent) -> Ascent:
    """Stop at the first point for which `done` holds.

    A step tests the point before it moves; XLA merges equal passes of one network on one image.
    """

    def init(point: Point) -> StoppedState:
        return StoppedState(ascent.init(point))

    def step(state: StoppedState) -> tuple[StoppedState, AscentInfo]:
        inner, info = ascent.step(state.inner)
        stay = done(state.point)
        return StoppedState(select(stay, state.inner, inner)), info

    return Ascent(init, step, ascent.decode)


class KeyedState(NamedTuple):
    """The key of the next steps, and the state of the wrapped ascents."""

    key: Key
    inner: Any

    @property
    def point(self) -> Point:
        """The wrapped ascents' point."""
        return self.inner.point


def with_step_keys(key: Key, ascent_of: Callable[[Key], Ascent]) -> Ascent:
    """Make every step one of `ascent_of` with a key of its own: noise, or a random view of the image.

        noisy = with_step_keys(key, lambda k: projected_gradient_ascent(objective, box(), noise(k, 0.01)))

    Args:
      key: split once a step; step t depends on (key, t) alone.
      ascent_of: builds the ascent of one step from its key. All must share one kind of state.

    Returns:
      An ascent whose state starts as that of `ascent_of(key)`.
    """

    first = ascent_of(key)

    def init(point: Point) -> KeyedState:
        return KeyedState(key, first.init(point))

    def step(state: KeyedState) -> tuple[KeyedState, AscentInfo]:
        later, now = jax.random.split(state.key)
        inner, info = ascent_of(now).step(state.inner)
        return KeyedState(later, inner), info

    return Ascent(init, step, first.decode)


def advance(ascent: Ascent, state: Any, num_steps: int) -> tuple[Any, AscentInfo]:
    """Take `num_steps` steps in one loop.

    Args:
      ascent: the pair of functions.
      state: as `ascent.init` or an earlier step returned it.
      num_steps: 1 or more.

    Returns:
      The state, and the infos stacked along a leading axis of `num_steps`.
    """

    return convolutions.scan(lambda state, _: ascent.step(state), state, length=num_steps)


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


def run(ascent: Ascent, point: Point, num_steps: int) -> tuple[Point, AscentInfo]:
    """Take `num_steps` steps from `point`: the last point, and the info of every step."""
    state, info = advance(ascent, ascent.init(point), num_steps)
    return state.point, info
