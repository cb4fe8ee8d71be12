"""Auto-PGD (Croce and Hein 2020): ascent with momentum, whose step size halves itself.

    ascent = auto_pgd(cross_entropy(classifier, label), allowed(threat, image), L2, 0.5, num_steps=100)

Each step measures the current image, then moves. The step size starts at 2 epsilon. At the checkpoints of a
shrinking schedule it is halved, and the ascent returns to the best image, where at most `RHO` of the steps
since the last checkpoint increased the objective, or where neither step size nor best value changed.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsynth_jax.attacks.threats import usable
from rsynth_jax.synthesis.ascent import Ascent, AscentInfo, select, steepest
from rsynth_jax.synthesis.norms import Norm
from rsynth_jax.types import Image, Objective, Projection, Scalar

RHO = 0.75  # paper, sec. 3.3
MOMENTUM = 0.75  # paper, eq. 1: the weight of the new step
FIRST, SHRINK, LEAST = 0.22, 0.03, 0.06  # the schedule, in shares of the steps: paper, sec. 3.2


class _Peak(NamedTuple):
    """The best image so far, its value and its gradient."""

    image: Image
    value: Scalar
    grad: Image


class _Window(NamedTuple):
    """The steps since the last checkpoint."""

    length: Scalar  # steps from one checkpoint to the next
    steps: Scalar  # taken so far
    rises: Scalar  # how many of them increased the objective
    value: Scalar  # the best value at the last checkpoint
    halved: Scalar  # whether the step size was halved there


class _State(NamedTuple):
    """The current and the previous image, the last measured value, the step size and the history."""

    point: Image
    previous: Image
    value: Scalar
    step_size: Scalar
    moves: Scalar
    peak: _Peak
    window: _Window


def auto_pgd(
    objective: Objective, projection: Projection, norm: Norm, epsilon: float, num_steps: int
) -> Ascent:
    """Build the parameter-free ascent for a budget of `num_steps`, in the steepest direction of `norm`."""
    longest, shrink, least = (max(int(share * num_steps), 1) for share in (FIRST, SHRINK, LEAST))

    def init(image: Image) -> _State:
        image = projection(image)
        low = jnp.full((), -jnp.inf, image.dtype)
        zero = jnp.zeros((), image.dtype)
        length = jnp.asarray(longest, image.dtype)
        step_size = jnp.asarray(2 * epsilon, image.dtype)
        window = _Window(length, zero, zero, value=low, halved=jnp.bool_(True))
        return _State(image, image, low, step_size, jnp.int32(0), _Peak(image, low, image), window)

    def step(state: _State) -> tuple[_State, AscentInfo]:
        grad, measured = _measure(objective, state)
        info = AscentInfo(measured.value, jnp.linalg.norm(grad.ravel()))
        grad, checked = _check(shrink, least, grad, measured)
        moved = _move(projection, norm, grad, checked)
        return checked._replace(point=moved, previous=checked.point, moves=state.moves + 1), info

    return Ascent(init, step)


def _measure(objective: Objective, state: _State) -> tuple[Image, _State]:
    """The gradient at the image, and the state with its value counted."""
    value, grad = jax.value_and_grad(objective)(state.point)
    grad = usable(grad)
    peak = select(value > state.peak.value, _Peak(state.point, value, grad), state.peak)
    window = state.window
    rises = window.rises + jnp.where(value > state.value, 1.0, 0.0)
    counted = window._replace(steps=window.steps + 1, rises=rises)
    window = select(state.moves == 0, window._replace(value=value), counted)
    return grad, state._replace(value=value, peak=peak, window=window)


def _check(shrink: int, least: int, grad: Image, state: _State) -> tuple[Image, _State]:
    """At a checkpoint: halve the step size and return to the peak by conditions 1 and 2 of sec. 3.2."""
    window, peak = state.window, state.peak
    full = window.steps == window.length
    few = window.rises <= RHO * window.length
    stuck = ~window.halved & (peak.value <= window.value)
    halve = full & (few | stuck)
    length = jnp.maximum(window.length - shrink, least)
    zero = jnp.zeros((), length.dtype)
    fresh = _Window(length, zero, zero, peak.value, halve)
    image, grad = select(halve, (peak.image, peak.grad), (state.point, grad))
    step_size = jnp.where(halve, state.step_size / 2, state.step_size)
    return grad, state._replace(point=image, step_size=step_size, window=select(full, fresh, window))


def _move(projection: Projection, norm: Norm, grad: Image, state: _State) -> Image:
    """z = P(x + step * direction), then P(x + a (z - x) + (1 - a)(x - previous)) (paper, eq. 1)."""
    image = state.point
    unit = steepest(norm, 1.0)
    direction: Any = unit.update(-grad, unit.init(image))[0]
    share = jnp.where(state.moves == 0, 1.0, MOMENTUM).astype(image.dtype)
    step = projection(image + state.step_size * direction) - image
    return projection(image + share * step + (1 - share) * (image - state.previous))
