"""Tasks: a start, an objective, a set; and the one program that carries a batch of them out.

    def task(classifier, start, label):
        return Task(start, log_prob(classifier, label), chain(l2_ball(start, 30.0), box()))

    paint = batched(model, task, steepest(L2, 0.5), num_steps=60)
    images = paint(variables, starts, labels)

The task is built inside the compiled function, one image at a time, so it traces once whatever it holds.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import optax

from rsynth_jax.images import random_shift
from rsynth_jax.models import bind, seeing
from rsynth_jax.synthesis import ascent
from rsynth_jax.synthesis.ascent import Ascent
from rsynth_jax.types import Classifier, Image, Images, Objective, Projection


class Task(NamedTuple):
    """What to make: climb `objective`, inside the set of `projection`, from `start`."""

    start: Image
    objective: Objective
    projection: Projection


TaskFn = Callable[..., Task]  # (classifier, *inputs of one image) -> Task
ClimbFn = Callable[..., tuple[Image, Ascent]]  # (classifier, *inputs of one image) -> its start, its ascent


def with_optimizer(task_fn: TaskFn, optimizer: optax.GradientTransformation) -> ClimbFn:
    """Each task by the plain ascent under `optimizer`."""

    def climb(classifier: Classifier, *inputs) -> tuple[Image, Ascent]:
        start, objective, projection = task_fn(classifier, *inputs)
        return start, ascent.projected_gradient_ascent(objective, projection, optimizer)

    return climb


def jittered(task_fn: TaskFn, optimizer: optax.GradientTransformation, reach: int) -> ClimbFn:
    """The same, each step looking at the image from up to `reach` pixels away.

    A network that strides sees a grid, and climbs to one; from many places no grid is left. All images share
    the places, so that none depends on those beside it.
    """

    def climb(classifier: Classifier, *inputs) -> tuple[Image, Ascent]:
        def step_of(key) -> Ascent:
            look = functools.partial(random_shift, key, reach=reach)
            return with_optimizer(task_fn, optimizer)(seeing(classifier, look), *inputs)[1]

        return task_fn(classifier, *inputs).start, ascent.drawn(jax.random.key(0), step_of)

    return climb


class Programs(NamedTuple):
    """A climb on a batch, compiled.

    Attributes:
      begin: (variables, *batches) -> states at the start.
      more: of a number of steps, (variables, states, *batches) -> states so many steps on.
    """

    begin: Callable
    more: Callable[[int], Callable]


def programs(model: nn.Module, climb_fn: ClimbFn) -> Programs:
    """`batches` are arrays with one row an image, handed to `climb_fn` row by row."""

    @per_image
    def begin(variables, *inputs):
        start, climb = climb_fn(bind(model, variables), *inputs)
        return climb.init(start)

    @functools.cache
    def more(num_steps: int):
        @per_image
        def advance(variables, state, *inputs):
            _, climb = climb_fn(bind(model, variables), *inputs)
            return ascent.advance(climb, state, num_steps)[0]

        return advance

    return Programs(begin, more)


def stages(
    model: nn.Module, climb_fn: ClimbFn, num_steps: int, most: int = ascent.CHUNK
) -> Callable[..., Iterator[Images]]:
    """(variables, *batches) -> the images at the start, then after each chunk of steps.

    Chunks are of equal length, at most `most`, so that one compiled program serves all of them.
    """
    begin, more = programs(model, climb_fn)
    chunk = ascent.chunk(num_steps, most)

    def climb(variables, *batches) -> Iterator[Images]:
        state = begin(variables, *batches)
        yield state.image
        for _ in range(num_steps // chunk):
            state = more(chunk)(variables, state, *batches)
            yield state.image

    return climb


def per_image(function: Callable) -> Callable:
    """jit(vmap) over all arguments but the first, which stays an argument of the program."""
    return jax.jit(lambda variables, *rows: jax.vmap(functools.partial(function, variables))(*rows))


def batched(
    model: nn.Module, task_fn: TaskFn, optimizer: optax.GradientTransformation, num_steps: int
) -> Callable[..., Images]:
    """(variables, *batches) -> the images after `num_steps`; compiles once."""
    climb = stages(model, with_optimizer(task_fn, optimizer), num_steps)
    return lambda variables, *batches: functools.reduce(lambda _, images: images, climb(variables, *batches))
