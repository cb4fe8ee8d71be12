"""Eight Gaussians on a circle: the modes that each mutation keeps, and evolution: docs/modes.md.

    python -m benchmarks.quality.modes

Radius 2 and deviation 0.02, all divided by 1.414, as in the code of Wang et al. An image is a point, of shape
(1, 1, 2); a byte of the data set is the number of a mode, around which the augmentation of real images draws
one. All rows but the last take as many gradient steps of the generator and of the critic; evolution takes the
generator's by threes, and keeps one of each three. The last row has a third of the generator's steps, as many
as evolution keeps.
"""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from benchmarks import common
from rsynth_jax.training import evolution, gan
from rsynth_jax.training.games import GAMES
from rsynth_jax.types import Critic, Generator, Image, Key

SCALE = 1.414
DEVIATION = 0.02 / SCALE
ANGLES = np.arange(8) * np.pi / 4
CENTERS = (2 / SCALE * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=-1)).astype(np.float32)
WIDTH = 64  # of three hidden layers; Wang et al. use 512
LATENT = 2  # uniform in [-1, 1]
BATCH = 64
SEEDS = 5
SAMPLES = 2500
LEAST = 0.01  # share of the samples that makes a mode kept; of a perfect generator each has 0.125
OPTIMIZER = optax.adam(1e-3, b1=0.5)


class Method(NamedTuple):
    mutations: tuple[str, ...]
    diversity: float = 0.0  # weight in the fitness
    critic_steps: int = 1  # for each iteration


MUTATIONS = ("minimax", "heuristic", "least-squares")
METHODS = {name: Method((name,)) for name in MUTATIONS} | {
    "evolution, diversity 0.1": Method(MUTATIONS, 0.1, 3),
    "evolution, diversity 2": Method(
        MUTATIONS, 2.0, 3
    ),  # of the toy of Wang et al.: 1, of the squared length
    "heuristic, a third of the steps": Method(("heuristic",), critic_steps=3),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    steps: int = 15_000
    """Gradient steps of the critic, and in all rows but the last of the generator."""
    out: Path = common.RESULTS / "modes"
    """Written: OUT.json, OUT.png."""


class Dense3(nn.Module):
    """Three hidden layers of ReLU."""

    features: int

    @nn.compact
    def __call__(self, x):
        for _ in range(3):
            x = nn.relu(nn.Dense(WIDTH)(x))
        return nn.Dense(self.features)(x)


def draw_point(key: Key, image: Image) -> Image:
    """A real point, of the mode whose number is the one byte of the image."""
    mode = jnp.asarray(CENTERS)[jnp.round(image[0, 0, 0] * 255).astype(jnp.int32)]
    return (mode + DEVIATION * jax.random.normal(key, mode.shape))[None, None]


def generator(params) -> Generator:
    return Generator(
        prior=lambda key: jax.random.uniform(key, (LATENT,), minval=-1, maxval=1),
        code=lambda latent, label: latent,
        decode=lambda code, key: jnp.asarray(Dense3(2).apply(params, code))[None, None],
    )


CRITIC = Critic(
    init=lambda key, image: Dense3(1).init(key, image.ravel()),
    view=lambda image: image,
    score=lambda params, view, label: jnp.asarray(Dense3(1).apply(params, view.ravel())),
)
SETUP = gan.Setup(generator, CRITIC, mirror=draw_point)


def step_of(method: Method) -> gan.GeneratorStep:
    steps = {name: gan.make_generator_step(SETUP, GAMES[name], OPTIMIZER) for name in method.mutations}
    return evolution.evolve(steps, evolution.make_fitness(SETUP, method.diversity))


def trained(method: Method, num_steps: int, key: Key) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The samples (SAMPLES, 2) after `num_steps` steps of the critic, and the metrics of every iteration."""
    moves = step_of(method)
    each = method.critic_steps
    step = gan.make_gan_step(SETUP, moves, GAMES["minimax"], OPTIMIZER, critic_steps=each)
    generator_key, critic_key, step_key, sample_key = jax.random.split(key, 4)
    params = Dense3(2).init(generator_key, jnp.zeros(LATENT))
    state = gan.init_state(moves, OPTIMIZER, params, CRITIC.init(critic_key, jnp.zeros((1, 1, 2))))
    labels = jnp.zeros(BATCH * each, jnp.int32)

    def body(state: gan.GanState, key: Key):
        mode_key, own_key = jax.random.split(key)
        modes = jax.random.randint(mode_key, (BATCH * each, 1, 1, 1), 0, len(CENTERS)).astype(jnp.uint8)
        state, metrics = step(state, own_key, modes, labels)
        return state, metrics.generator

    state, metrics = jax.lax.scan(body, state, jax.random.split(step_key, num_steps // each))
    keys = jax.random.split(sample_key, SAMPLES)
    samples = moves.generate(state.generator, keys, jnp.zeros(SAMPLES, jnp.int32))
    return samples.reshape(SAMPLES, 2), metrics


def judged(samples: np.ndarray) -> dict[str, list[float]]:
    """For samples (seeds, n, 2): the number of modes kept, and the share of samples within 3 deviations."""
    distances = np.linalg.norm(samples[:, :, None] - CENTERS, axis=-1)
    close = distances < 3 * DEVIATION
    kept = (close.mean(axis=1) >= LEAST).sum(axis=-1)
    return {"modes": kept.tolist(), "share": close.any(axis=-1).mean(axis=1).tolist()}


def measured(name: str, num_steps: int) -> tuple[np.ndarray, dict]:
    method = METHODS[name]
    keys = jax.vmap(jax.random.key)(jnp.arange(SEEDS))
    train = jax.jit(jax.vmap(functools.partial(trained, method, num_steps)))
    began = time.process_time()
    samples, metrics = jax.tree.map(np.asarray, train(keys))
    row: dict[str, Any] = judged(samples) | {"cpu_seconds": time.process_time() - began}
    if len(method.mutations) > 1:
        row["won"] = {each: float(metrics[f"won_{each}"].mean()) for each in method.mutations}
    return samples, row


def draw(path: Path, samples: dict[str, np.ndarray], rows: dict[str, dict]) -> None:
    """A row of panels for each method, a panel for each seed."""
    size = (1.5 * SEEDS, 1.65 * len(samples))
    figure, axes = plt.subplots(len(samples), SEEDS, figsize=size, layout="constrained", squeeze=False)
    for panels, (name, points) in zip(axes, samples.items(), strict=True):
        for seed, (axis, own) in enumerate(zip(panels, points, strict=True)):
            axis.plot(*CENTERS.T, "o", color="tab:orange", markersize=7, markerfacecolor="none")
            axis.plot(*own[:500].T, ",", color="tab:blue")
            axis.set(xlim=(-2, 2), ylim=(-2, 2), xticks=[], yticks=[], aspect="equal")
            row = rows[name]
            axis.set_title(f"{row['modes'][seed]} modes, {row['share'][seed]:.0%}", fontsize=8)
        panels[0].set_ylabel(name.replace(", ", ",\n"), fontsize=8)
    figure.savefig(path.with_suffix(".png"), dpi=90)


def summary(row: dict) -> list[str]:
    return [", ".join(map(str, row["modes"])), ", ".join(f"{share:.0%}" for share in row["share"])]


@common.main(Options())
def benchmark(options: Options) -> None:
    samples, rows = {}, {}
    for name in METHODS:
        samples[name], rows[name] = measured(name, options.steps)
        print(name, rows[name], flush=True)
    common.write(options.out, steps=options.steps, seeds=SEEDS, samples=SAMPLES, least=LEAST, rows=rows)
    draw(options.out, samples, rows)
    cells = [[name, *summary(row)] for name, row in rows.items()]
    print(common.table(["method", "modes kept, by seed", "within 3 deviations, by seed"], cells))
