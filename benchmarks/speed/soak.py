"""Resident memory of training and of sampling, over many steps and images of a small network.

    python -m benchmarks.speed.soak --out docs/memory.webp

A small network at 8 pixels trains on noise, as rsynth-train does: with the guard, the lines of the log, and a
checkpoint every 100 steps. Then it samples images, a batch after another. Draws resident memory, and prints
its slope, by least squares after the first tenth, in MB per 1,000 steps and per 1,000 images.
"""

import dataclasses
import functools
import itertools
import json
import os
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from matplotlib.figure import Figure

from rsynth_jax import models, seeds
from rsynth_jax.cli import run_log, training_run
from rsynth_jax.data.loader import Arrays
from rsynth_jax.models import layers, resnet
from rsynth_jax.sampling import samplers
from rsynth_jax.storage.releases import Release
from rsynth_jax.training.recipes import Recipe, replace
from rsynth_jax.training.run import fit, prepare, release, start

SIDE = 8
BATCH = 8
RECIPE = replace(Recipe(), architecture="one-block", method="natural", batch_size=BATCH, crop_padding=2)
ONE_BLOCK = functools.partial(resnet.ResNet, resnet.BasicBlock, (1,), layers.STRIDED_STEM)
LOG_EVERY = 20  # steps
SAVE_EVERY = 100  # steps
CLIMB = 5  # steps to an image


@dataclasses.dataclass(frozen=True)
class Options:
    """Train, sample, and measure."""

    out: Path
    """The plot."""
    steps: int = 2000
    images: int = 20_000


def resident() -> float:
    """MB of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def train(num_steps: int) -> tuple[Release, list[tuple[int, float]]]:
    """Train on noise; the classifier, and the memory after every logged step."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (256, SIDE, SIDE, 3), np.uint8)
    labels = np.arange(len(images), dtype=np.int32) % 10
    recipe = replace(RECIPE, epochs=num_steps * BATCH // len(images) + 1)
    run = prepare(recipe, images, labels, list("abcdefghij"), len(images))
    rows = (rng.integers(0, len(images), BATCH) for _ in itertools.repeat(None, num_steps))
    batches = (Arrays(images[chosen], labels[chosen]) for chosen in rows)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        options = types.SimpleNamespace(out=Path(folder), keeping=training_run.KeepFlags())
        with run_log.run_log(options, num_steps, 0, "") as log:

            def callback(state: Any, step: int, checked: Any, batch: Any) -> None:
                log.note(step, checked)
                if step % LOG_EVERY == 0:
                    log.settle()
                    log.record({"step": step, "loss": float(checked.loss)}, f"{resident():.0f} MB")
                    found.append((step, resident()))
                if step % SAVE_EVERY == 0:
                    log.save(state)

            trainer = run_log.guarded(options.keeping, run.trainer)
            state = fit(
                trainer, start(run), batches, key=seeds.key(1), devices=run.devices, callback=callback
            )
    return release(run, state), found


def sample(classifier: Release, num: int) -> list[tuple[int, float]]:
    """Sample images, a batch after another; the memory after each."""
    found = []
    for i in range(-(-num // 40)):
        samplers.generate(classifier, num=4, seed=i, num_steps=CLIMB, batch_size=40)
        found.append(((i + 1) * 40, resident()))
    return found


def slope(points: list[tuple[int, float]]) -> float:
    """MB per 1,000, by least squares after the first tenth."""
    numbers, memory = np.array(points[len(points) // 10 :]).T
    return float(1000 * np.polyfit(numbers, memory, 1)[0])


def main(options: Options) -> None:
    """Measure, draw, and print one line of JSON."""
    models.ARCHITECTURES["one-block"] = ONE_BLOCK
    classifier, trained = train(options.steps)
    measured = {"train steps": trained, "sampled images": sample(classifier, options.images)}
    figure = Figure(figsize=(9, 3), layout="constrained")
    for axis, (name, points) in zip(figure.subplots(1, 2), measured.items(), strict=True):
        axis.plot(*zip(*points, strict=True))
        axis.set(xlabel=name, ylabel="resident memory, MB", ylim=(0, 1.3 * points[-1][1]))
        axis.grid(axis="y")
        axis.locator_params(axis="x", nbins=5)
    figure.savefig(options.out, dpi=80)
    slopes = {f"MB per 1,000 {name}": round(slope(points), 2) for name, points in measured.items()}
    last = {f"MB after {name}": round(points[-1][1]) for name, points in measured.items()}
    print(json.dumps(dataclasses.asdict(options) | slopes | last, default=str))


if __name__ == "__main__":
    main(tyro.cli(Options))
