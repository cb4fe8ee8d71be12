"""rsynth-train: train a robust classifier by a recipe.

    rsynth-train --recipe cifar10-cpu --data tfds:cifar10 --data-dir DIR --out RUN

RUN then holds classifier.safetensors (for every other command), log.jsonl, curves.png and the
checkpoints from which --resume continues, bit for bit on the same machine.
"""

import dataclasses
import functools
import itertools
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import arg

from rsynth_jax import checkpoints, console, data, models, parallel, pictures, recipes, seeds, training
from rsynth_jax.attacks import Threat, pgd
from rsynth_jax.recipes import RECIPES, Recipe

LOG_EVERY = 20  # steps
JUDGE_STEPS = 10  # of the PGD that judges the test images after each epoch


@dataclasses.dataclass(frozen=True)
class Options:
    """rsynth-train: train a robust classifier by a recipe.

    Recipes: the paper's six (cifar10, restricted-imagenet, imagenet, horse2zebra, apple2orange,
    summer2winter: ResNet-50, PGD with 7 steps, SGD) and cifar10-cpu (a small ResNet for two cores, about an
    hour). Every other flag overrides one value of the recipe; --help after --recipe NAME shows that recipe's.
    """

    recipe: Annotated[str, arg(metavar="NAME")] = "cifar10-cpu"
    """Which recipe."""
    data: str = "tfds:cifar10"
    """tfds:NAME, folder:PATH (one folder a class, in train/ and test/) or npz:FILE (train_images, ...)."""
    data_dir: str | None = None
    """Where TFDS data sets lie."""
    image_size: int | None = None
    """Resize the central square of every image to this side."""
    train_split: str = "train"
    """Split to train on; train[:90%] is a share, all is a folder or file without splits."""
    test_split: str = "test"
    """Split to judge on after each epoch."""
    judge: int = 1000
    """How many test images to judge on, with PGD-10 in the recipe's threat."""
    out: Path = Path("runs/classifier")
    """The run's folder."""
    resume: bool = False
    """Continue the run in --out from its newest checkpoint."""
    settings: Recipe = Recipe()
    """The recipe's values."""


class Run(NamedTuple):
    """What the loop needs and never changes."""

    options: Options
    train: data.Dataset
    test: data.Arrays
    config: models.Config
    steps_per_epoch: int
    class_seeds: seeds.Seeds


def prepare(options: Options) -> Run:
    """Load the data, fit the class Gaussians, and check that they suit the recipe."""
    recipe = options.settings
    load = functools.partial(data.load, options.data, data_dir=options.data_dir, image_size=options.image_size)
    train, test = load(options.train_split), load(options.test_split)
    if train.class_names != test.class_names:
        raise ValueError("the training and the test split do not have the same classes")
    steps_per_epoch = train.num // recipe.batch_size
    if steps_per_epoch == 0:
        raise ValueError(f"{train.num} training images do not fill one batch of {recipe.batch_size}")
    config = models.Config(
        recipe.architecture, len(train.class_names), recipe.mean, recipe.std, recipe.dtype
    )
    sample = data.head(train, 50_000)
    fitted = seeds.fit(*sample, config.num_classes, recipe.seed_factor, recipe.seed_share)
    return Run(options, train, data.head(test, options.judge), config, steps_per_epoch, fitted)


def release(run: Run, state: training.TrainState) -> None:
    """Write the averaged weights as the run's classifier."""
    recipe = run.options.settings
    checkpoints.save(
        run.options.out / checkpoints.RELEASE,
        checkpoints.Release(
            config=run.config._replace(dtype="float32"),
            variables=state.ema,
            seeds=run.class_seeds,
            class_names=run.train.class_names,
            image_shape=run.test.images.shape[1:],
            threat=recipes.threat(recipe),
            recipe={"data": run.options.data, "steps": int(state.step)} | recipe._asdict(),
        ),
    )


def judged(run: Run, evaluate, state: training.TrainState) -> dict[str, float]:
    """Clean and PGD accuracy of the averaged weights on the test images."""
    size = 100 * jax.device_count()
    clean = adversarial = 0
    for i in range(0, len(run.test.labels), size):
        images, labels = run.test.images[i : i + size], run.test.labels[i : i + size]
        short = size - len(labels)
        padded = parallel.split((np.pad(images, ((0, short), (0, 0), (0, 0), (0, 0))), np.pad(labels, (0, short))))
        keys = parallel.split(jax.random.split(jax.random.fold_in(jax.random.key(0), i), size))
        right = evaluate(state.ema, keys, *padded)
        clean, adversarial = (
            total + int(np.sum(np.asarray(r)[: len(labels)])) for total, r in zip((clean, adversarial), right)
        )
    num = len(run.test.labels)
    return {"test_clean": clean / num, "test_adversarial": adversarial / num, "test_num": num}


def examples(run: Run, step: int) -> Iterator:
    """(epoch, images, labels) from step `step` on, to the end of the last epoch."""
    recipe = run.options.settings
    first, start = divmod(step, run.steps_per_epoch)
    for epoch in range(first, recipe.epochs):
        batches = data.batches(run.train, recipe.batch_size, recipe.seed, epoch, start if epoch == first else 0)
        yield from ((epoch, *batch) for batch in batches)


class Interrupted:
    """Catches SIGINT and SIGTERM, so that the loop can end between two steps."""

    def __init__(self):
        self.signal = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.catch)

    def catch(self, number, frame):
        self.signal = number


def fit(run: Run, interrupted: Interrupted) -> int:
    """The loop: step, log, and at each epoch's end judge, save and release."""
    options, recipe = run.options, run.options.settings
    model = models.create(run.config)
    optimizer = recipes.optimizer(recipe, run.steps_per_epoch)
    rate = recipes.schedule(recipe, run.steps_per_epoch)
    adversary, loss = recipes.method(recipe)
    train_step = jax.jit(
        training.make_train_step(model, optimizer, adversary, loss, recipes.augment(recipe), recipe.ema_decay),
        donate_argnums=0,
    )
    judge = Threat(recipe.norm, recipe.epsilon, 2.5 * recipe.epsilon / JUDGE_STEPS, JUDGE_STEPS)
    evaluate = jax.jit(training.make_eval_step(model, pgd(judge)))
    look = jax.jit(training.make_eval_step(model, recipes.attacks.identity()))

    init_key, key = jax.random.split(jax.random.key(recipe.seed))
    image = jnp.zeros(run.test.images.shape[1:])
    state = parallel.replicate(training.init_state(model, optimizer, init_key, image))
    if options.resume:
        state = checkpoints.restore_state(options.out, state)
    step, last = int(state.step), recipe.epochs * run.steps_per_epoch
    seen, since = 0, time.perf_counter()

    with (
        open(options.out / "log.jsonl", "a", buffering=1) as log,
        console.bar("loss", "clean", "adversarial", "rate") as bar,
    ):
        task = bar.add_task("training", total=last, completed=step, loss="", clean="", adversarial="", rate="")
        for epoch, images, labels in examples(run, step):
            batch = parallel.split((images, labels))
            state, metrics = train_step(state, jax.random.fold_in(key, step), *batch)
            step, seen = step + 1, seen + len(labels)
            if step % LOG_EVERY == 0:
                keys = parallel.split(jax.random.split(key, len(labels)))
                clean, _ = look(state.variables, keys, *batch)
                record = {
                    "step": step,
                    "epoch": step / run.steps_per_epoch,
                    "loss": float(metrics.loss),
                    "clean_accuracy": float(jnp.mean(clean)),
                    "adversarial_accuracy": float(metrics.adversarial_accuracy),
                    "learning_rate": float(rate(step)),
                    "images_per_second": seen / (time.perf_counter() - since),
                }
                if not np.isfinite(record["loss"]):
                    raise ValueError(f"the loss is {record['loss']} at step {step}: lower --learning-rate")
                print(json.dumps(record), file=log)
                seen, since = 0, time.perf_counter()
                bar.update(
                    task,
                    completed=step,
                    loss=f"{record['loss']:.3f}",
                    clean=f"{record['clean_accuracy']:.1%}",
                    adversarial=f"{record['adversarial_accuracy']:.1%}",
                    rate=f"{record['images_per_second']:.0f} images/s",
                )
            if interrupted.signal is not None:
                break
            if step % run.steps_per_epoch == 0:
                scores = judged(run, evaluate, state)
                print(json.dumps({"step": step, "epoch": epoch + 1} | scores), file=log)
                bar.console.print(
                    f"epoch {epoch + 1}/{recipe.epochs}: test clean {scores['test_clean']:.1%}, "
                    f"PGD-{JUDGE_STEPS} {scores['test_adversarial']:.1%} ({scores['test_num']} images)"
                )
                checkpoints.save_state(options.out, state)
                release(run, state)
                seen, since = 0, time.perf_counter()
    checkpoints.save_state(options.out, state)
    pictures.write_curves(options.out / "curves.png", options.out / "log.jsonl")
    if interrupted.signal is not None:
        print(f"stopped at step {step} of {last}; continue with --resume --out {options.out}")
        return 128 + interrupted.signal
    print(f"trained {recipe.epochs} epochs; the classifier is {options.out / checkpoints.RELEASE}")
    return 0


def train(options: Options) -> int:
    """Check, prepare, fit."""
    if (options.out / "checkpoints").exists() and not options.resume:
        raise ValueError(f"{options.out} already holds a run: give --resume or another --out")
    run = prepare(options)
    checkpoints.write(options.out / "recipe.json", json.dumps(options.settings._asdict(), indent=2).encode())
    return fit(run, Interrupted())


def options(arguments: list[str]) -> Options:
    """The flags, over the values of the recipe they name."""
    named = [b for a, b in itertools.pairwise(arguments) if a == "--recipe"] or ["cifar10-cpu"]
    recipe = recipes.named("recipe", RECIPES, named[-1])
    return console.parse(Options, arguments, default=Options(recipe=named[-1], settings=recipe))


def main() -> None:
    """The command."""
    console.run("rsynth-train", lambda: train(options(sys.argv[1:])))


if __name__ == "__main__":
    main()
