"""Evolutionary training of a generator (Wang et al. 2019): a step by each of several games, the fittest stay.

    steps = {name: make_generator_step(setup, GAMES[name], optimizer) for name in ("minimax", "heuristic")}
    generator_step = evolve(steps, make_fitness(setup, diversity=0.1), survivors=1)

A step of a game is a mutation, a generator before it a parent, and one after it a child. One mutation and one
survivor are the step of that game, bit for bit.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rsynth_jax import checks
from rsynth_jax.training.games import GAMES
from rsynth_jax.training.gan import Batch, GeneratorStep, Setup
from rsynth_jax.types import Condition, Images, Params, Scalar, View

SMALLEST = 1e-37  # of a gradient's length, so that its logarithm is finite
_FOLDED = 1 << 16  # fold_in by a small number is what `split` returns, which a step uses itself


class Fitness(NamedTuple):
    """How fit a generator is, for a critic and a batch.

    Attributes:
      quality: in [0, 1].
      diversity: minus the logarithm of a length.
      total: their weighted sum, by which children are selected.
    """

    quality: Scalar
    diversity: Scalar
    total: Scalar


Judge = Callable[[Images, Batch], Fitness]  # of generated images; the batch's keys augment them


def make_fitness(setup: Setup, diversity: float) -> Judge:
    """Make quality + `diversity` * the diversity of a generator's images before the batch's critic.

    The quality is the mean of D(G(z)), D the sigmoid of a score, over images and heads. The diversity is
    -log |gradient, for all of the critic's parameters, of the mean of -log D(x) - log(1 - D(G(z)))|, as in
    the paper. Its Theano code takes the logarithm of the squared length, twice as much, with a weight of 1
    for two dimensions. Its PyTorch code takes the logarithm of the length, as here, but adds it, and takes
    the quality of scores without the sigmoid; the weight is 0.1.

    Args:
      setup: the critic, and the augmentation before it.
      diversity: weight of the diversity, 0 or more.

    Returns:
      (images (n, h, w, c), batch) -> the fitness.
    """

    def pair(critic: Params, real: View, fake: View, label: jax.Array) -> tuple[Scalar, Scalar]:
        scores = tuple(setup.critic.score(critic, view, label) for view in (real, fake))
        return GAMES["minimax"].critic(*scores), jnp.mean(jax.nn.sigmoid(scores[1]))

    def mean(critic: Params, fakes: View, batch: Batch) -> tuple[Scalar, Scalar]:
        losses, qualities = jax.vmap(pair, (None, 0, 0, 0))(critic, batch.views, fakes, batch.labels)
        return jnp.mean(losses), jnp.mean(qualities)

    def judge(images: Images, batch: Batch) -> Fitness:
        fakes = jax.vmap(lambda key, image: setup.critic.view(setup.augment(key, image)))(batch.keys, images)
        slope, quality = jax.grad(mean, has_aux=True)(batch.critic, fakes, batch)
        spread = -jnp.log(jnp.maximum(optax.tree.norm(slope), SMALLEST))
        return Fitness(quality, spread, quality + diversity * spread)

    return judge


def evolve(steps: dict[str, GeneratorStep], fitness: Judge, survivors: int = 1) -> GeneratorStep:
    """Take a step by every game from every parent, and keep the fittest children with their optimizer states.

    All children are judged on the same labels, latents and noise, which none of them was trained on. A child
    whose fitness is NaN is the least fit. Parents other than the first have latents of their own: they begin
    as copies, and would stay copies. The critic learns from all survivors, each of which makes a part of the
    batch. The steps are unrolled, for on a CPU a convolution with weights of a batch or in a loop is slow.

    Args:
      steps: of the games, by name; their states have the same structure.
      fitness: see `make_fitness`.
      survivors: generators in the state, and parents of the next children.

    Returns:
      A step whose state has a leading axis of survivors, the fittest first. Besides "generator_loss" its
      metrics are, of the fittest child, "fitness", "mutation" (index of its step) and "parent" (index of its
      parent), and for each step's name "won_NAME", the share of the survivors that it made, and
      "quality_NAME" and "diversity_NAME", means over its children.

    Raises:
      ValueError: there are no steps, or no survivors.
    """
    checks.positive(survivors=survivors)
    if not steps:
        raise ValueError("evolution has no mutations: give one or more")
    first = next(iter(steps.values()))

    def step(state: Any, batch: Batch) -> tuple[Any, dict[str, Scalar]]:
        families = [_family(steps, fitness, _member(state, i), batch, i) for i in range(survivors)]
        children, losses, found = map(
            _stacked, zip(*(child for one in families for child in one), strict=True)
        )
        order = jax.lax.top_k(jnp.nan_to_num(found.total, nan=-jnp.inf), survivors)[1]
        best, mutations = order[0], order % len(steps)
        values = {"generator_loss": losses[best], "fitness": found.total[best]}
        values |= {"mutation": mutations[0], "parent": best // len(steps)}
        for i, name in enumerate(steps):
            values[f"won_{name}"] = jnp.mean(mutations == i)
            values[f"quality_{name}"] = jnp.mean(found.quality[i :: len(steps)])
            values[f"diversity_{name}"] = jnp.mean(found.diversity[i :: len(steps)])
        return _member(children, order), values

    def generate(state: Any, keys: jax.Array, conditions: Condition) -> Images:
        parts = []
        for i, rows in enumerate(np.array_split(np.arange(len(keys)), survivors)):
            own = jax.tree.map(lambda leaf: leaf[rows[0] : rows[-1] + 1], (keys, conditions))  # noqa: B023
            parts.append(first.generate(_member(state, i), *own))
        return jnp.concatenate(parts)

    return GeneratorStep(
        init=lambda params: _stacked([first.init(params)] * survivors),
        params=lambda state: first.params(_member(state, 0)),
        generate=generate,
        step=step,
    )


def _family(
    steps: dict[str, GeneratorStep], fitness: Judge, parent: Any, batch: Batch, index: int
) -> list[tuple[Any, Scalar, Fitness]]:
    """The children of the parent of this index, the loss before each one's step, and its fitness."""
    latents, augmentation, *parents = (_folded(batch.keys, number) for number in range(2 + index))
    own = batch._replace(keys=parents[-1] if parents else batch.keys)
    children = []
    for step in steps.values():
        child, metrics = step.step(parent, own)
        images = step.generate(child, latents, batch.conditions)
        judged = fitness(images, batch._replace(keys=augmentation))
        children.append((child, metrics["generator_loss"], judged))
    return children


def _folded(keys: jax.Array, number: int) -> jax.Array:
    return jax.vmap(functools.partial(jax.random.fold_in, data=_FOLDED + number))(keys)


def _member(population: Any, index: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], population)


def _stacked(trees: Any) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
