"""Games of a generator and a critic, and the penalties on the critic's gradient.

    game = GAMES["relativistic"]
    loss = game.critic(real_scores, fake_scores)      # of one pair; descended by the critic
    loss = game.generator(real_scores, fake_scores)   # descended by the generator

Scores are a vector, one a head, and a loss sums over them.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rsynth_jax.types import Scalar, Scores, View

GameLoss = Callable[[Scores, Scores], Scalar]  # of the scores of a real and of a generated image
Penalty = Callable[[Callable[[View], Scalar], View, View, jax.Array], Scalar]  # of (score, real, fake, step)
softplus = jax.nn.softplus


class Game(NamedTuple):
    """What the generator and the critic descend."""

    generator: GameLoss
    critic: GameLoss


def _separate(real: Scores, fake: Scores) -> Scalar:
    """-log D(x) - log(1 - D(G(z))), D the sigmoid of the score (Goodfellow et al. 2014)."""
    return jnp.sum(softplus(-real) + softplus(fake))


GAMES = {
    "minimax": Game(lambda real, fake: -jnp.sum(softplus(fake)), _separate),  # log(1 - D(G(z)))
    "heuristic": Game(lambda real, fake: jnp.sum(softplus(-fake)), _separate),  # -log D(G(z)): non-saturating
    "least-squares": Game(  # (Mao et al. 2017)
        lambda real, fake: jnp.sum((fake - 1) ** 2), lambda real, fake: jnp.sum((real - 1) ** 2 + fake**2)
    ),
    "hinge": Game(
        lambda real, fake: -jnp.sum(fake),
        lambda real, fake: jnp.sum(jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)),
    ),
    "relativistic": Game(  # of pairs (Jolicoeur-Martineau 2019)
        lambda real, fake: jnp.sum(softplus(real - fake)), lambda real, fake: jnp.sum(softplus(fake - real))
    ),
}


def scaled(game: Game, weight: float) -> Game:
    """The game whose generator descends `weight` times its part."""
    return game._replace(generator=lambda real, fake: weight * game.generator(real, fake))


def averaged(game: Game, counts: Sequence[int]) -> Game:
    """The game whose loss is that of the mean over each run of scores, of so many in turn, summed over runs.

    A critic that scores patches has a run of scores for each size of the image.
    """
    ends = tuple(itertools.accumulate(counts))

    def over_runs(loss: GameLoss) -> GameLoss:
        def mean(real: Scores, fake: Scores) -> Scalar:
            runs = (slice(end - count, end) for end, count in zip(ends, counts, strict=True))
            means = [loss(real[run], fake[run]) / (run.stop - run.start) for run in runs]
            return jnp.sum(jnp.stack(means))

        return mean

    return Game(*map(over_runs, game))


def squared_slope(score: Callable[[View], Scalar], view: View) -> Scalar:
    """|gradient of the score at the view|^2, summed over all arrays of the view."""
    return optax.tree.norm(jax.grad(score)(view), squared=True)


def no_penalty(score: Callable[[View], Scalar], real: View, fake: View, step: jax.Array) -> Scalar:
    """0."""
    return jnp.zeros(())


def r1(gamma: optax.ScalarOrSchedule) -> Penalty:
    """gamma / 2 |gradient at the view of the real image|^2 (Mescheder et al. 2018)."""
    return lambda score, real, fake, step: _at(gamma, step) / 2 * squared_slope(score, real)


def r2(gamma: optax.ScalarOrSchedule) -> Penalty:
    """gamma / 2 |gradient at the view of the generated image|^2 (Mescheder et al. 2018)."""
    return lambda score, real, fake, step: _at(gamma, step) / 2 * squared_slope(score, fake)


def both(first: Penalty, second: Penalty) -> Penalty:
    """The sum of two penalties."""
    return lambda *inputs: first(*inputs) + second(*inputs)


def _at(value: optax.ScalarOrSchedule, step: jax.Array) -> Scalar:
    return jnp.asarray(value(step) if callable(value) else value)
