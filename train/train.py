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
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import arg

from rsynth_jax import (
    attacks,
    checkpoints,
    console,
    data,
    evaluation,
    models,
    parallel,
    pictures,
    recipes,
    seeds,
    training,
)
from rsynth_jax.recipes import RECIPES, Recipe

LOG_EVERY = 20  # steps
JUDGE_STEPS = 10  # of the PGD that judges the test images after each epoch
FITTED = 50_000  # training images at most that the class Gaussians are fitted on


@dataclasses.dataclass(frozen=True)
class Options:
    """rsynth-train: train a robust classifier by a recipe.

    Recipes: the paper's six (cifar10, restricted-imagenet, imagenet, horse2zebra, apple2orange,
    summer2winter: ResNet-50, PGD with 7 steps, SGD) and cifar10-cpu (a small ResNet for two cores, about an
    hour). Every flag of the second group overrides one value of the recipe; its defaults shown are those of
    the recipe that --recipe names. Ctrl-C saves and stops.
    """

    recipe: Annotated[str, arg(metavar="NAME")] = "cifar10-cpu"
    """Which recipe."""
    data: Annotated[str, arg(metavar="KIND:PLACE")] = "tfds:cifar10"
    """tfds:NAME, folder:PATH (one folder a class, in train/ and test/) or npz:FILE (train_images, ...)."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """Where TFDS data sets lie; TFDS's own default otherwise."""
    image_size: Annotated[int | None, arg(metavar="PIXELS")] = None
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
    class_seeds: seeds.Seeds

    @property
    def recipe(self) -> Recipe:
        return self.options.settings

    @property
    def epoch(self) -> int:
        """Steps in one."""
        return self.train.num // self.recipe.batch_size


class Compiled(NamedTuple):
    """The jitted functions of a run, and the placements of their arguments."""

    step: Callable
    judge: Callable
    look: Callable
    devices: parallel.Devices


def prepare(options: Options) -> Run:
    """Load the data, fit the class Gaussians, and check that they suit the recipe."""
    recipe = options.settings
    load = functools.partial(data.load, options.data, data_dir=options.data_dir, image_size=options.image_size)
    train, test = load(options.train_split), load(options.test_split)
    if train.class_names != test.class_names:
        raise ValueError("the training and the test split do not have the same classes")
    if train.num < recipe.batch_size:
        raise ValueError(f"{train.num} training images do not fill one batch of {recipe.batch_size}")
    num_classes = len(train.class_names)
    config = models.Config(recipe.architecture, num_classes, recipe.mean, recipe.std, recipe.dtype)
    fitted = seeds.fit(*data.head(train, FITTED), num_classes, recipe.seed_factor, recipe.seed_share)
    return Run(options, train, data.head(test, options.judge), config, fitted)


def compile_all(run: Run) -> tuple[Compiled, training.TrainState]:
    """The run's programs and its state before the first step."""
    recipe, model = run.recipe, models.create(run.config)
    optimizer = recipes.optimizer(recipe, run.epoch)
    adversary, loss = recipes.method(recipe)
    augment = recipes.augment(recipe)
    step = training.make_train_step(model, optimizer, adversary, loss, augment, recipe.ema_decay)
    judge = attacks.Threat(recipe.norm, recipe.epsilon, 2.5 * recipe.epsilon / JUDGE_STEPS, JUDGE_STEPS)
    compiled = Compiled(
        jax.jit(step, donate_argnums=0),
        jax.jit(evaluation.make_eval_step(model, attacks.pgd(judge))),
        jax.jit(evaluation.make_eval_step(model, attacks.identity())),
        parallel.over_devices(recipe.batch_size),
    )
    image = jnp.zeros(run.test.images.shape[1:])
    init_key, _ = jax.random.split(jax.random.key(recipe.seed))
    state = training.init_state(model, optimizer, init_key, image)
    return compiled, compiled.devices.replicate(state)


def release(run: Run, state: training.TrainState) -> None:
    """Write the averaged weights as the run's classifier."""
    checkpoints.save(
        run.options.out / checkpoints.RELEASE,
        checkpoints.Release(
            config=run.config._replace(dtype="float32"),
            variables=state.ema,
            seeds=run.class_seeds,
            class_names=run.train.class_names,
            image_shape=run.test.images.shape[1:],
            threat=recipes.threat(run.recipe),
            recipe={"data": run.options.data, "steps": int(state.step)} | run.recipe._asdict(),
        ),
    )


def batches(run: Run, step: int) -> Iterator:
    """(images, labels) of every step from `step` on, to the end of the last epoch."""
    first, start = divmod(step, run.epoch)
    for epoch in range(first, run.recipe.epochs):
        yield from data.batches(
            run.train, run.recipe.batch_size, run.recipe.seed, epoch, start if epoch == first else 0
        )


class Interrupted:
    """Catches SIGINT and SIGTERM, so that the loop can end between two steps."""

    def __init__(self):
        self.signal = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.catch)

    def catch(self, number, frame):
        self.signal = number


class Watch:
    """The log and the progress bar of a run."""

    def __init__(self, run: Run, compiled: Compiled, log, bar, step: int):
        self.run, self.compiled, self.log, self.bar = run, compiled, log, bar
        self.rate = recipes.schedule(run.recipe, run.epoch)
        self.since, self.last = time.perf_counter(), step
        total = run.recipe.epochs * run.epoch
        self.task = bar.add_task("training", total=total, completed=step, now="")

    def speed(self, step: int) -> float:
        """Images a second since the last call."""
        now, before, last = time.perf_counter(), self.since, self.last
        self.since, self.last = now, step
        return (step - last) * self.run.recipe.batch_size / (now - before)

    def step(self, state, step: int, metrics, batch) -> None:
        """Every `LOG_EVERY` steps: one line of the log, one look at the bar."""
        if step % LOG_EVERY:
            return
        keys = jax.random.split(jax.random.key(0), len(batch[1]))  # nothing draws from them
        record = {
            "step": step,
            "epoch": step / self.run.epoch,
            "loss": float(metrics.loss),
            "clean_accuracy": float(jnp.mean(self.compiled.look(state.variables, keys, *batch).clean)),
            "adversarial_accuracy": float(metrics.adversarial_accuracy),
            "learning_rate": float(self.rate(step)),
            "images_per_second": self.speed(step),
        }
        if not np.isfinite(record["loss"]):
            raise ValueError(f"the loss is {record['loss']} at step {step}: lower --learning-rate")
        print(json.dumps(record), file=self.log)
        now = "loss {loss:.3f}  clean {clean_accuracy:.1%}  adversarial {adversarial_accuracy:.1%}  "
        now += "{images_per_second:.0f} images/s"
        self.bar.update(self.task, completed=step, now=now.format(**record))

    def epoch(self, state, step: int) -> None:
        """At an epoch's end: judge the averaged weights on the test images."""
        images, labels = self.run.test
        right = evaluation.judge(self.compiled.judge, state.ema, jax.random.key(0), images, labels)
        clean, adversarial = float(right.clean.mean()), float(right.adversarial.mean())
        record = {"step": step, "epoch": step // self.run.epoch, "test_num": len(labels)}
        record |= {"test_clean": clean, "test_adversarial": adversarial}
        print(json.dumps(record), file=self.log)
        self.bar.console.print(
            f"epoch {record['epoch']}/{self.run.recipe.epochs}: test clean {clean:.1%}, "
            f"PGD-{JUDGE_STEPS} {adversarial:.1%} ({len(labels)} images)"
        )
        self.speed(step)


def loop(run: Run, compiled: Compiled, state, watch: Watch, interrupted: Interrupted):
    """Step to the end, or to a signal; judge, save and release at each epoch's end."""
    _, key = jax.random.split(jax.random.key(run.recipe.seed))
    first = int(state.step)
    for step, (images, labels) in enumerate(batches(run, first), start=first + 1):
        batch = compiled.devices.split((images, labels))
        state, metrics = compiled.step(state, jax.random.fold_in(key, step - 1), *batch)
        watch.step(state, step, metrics, batch)
        if interrupted.signal is not None:
            break
        if step % run.epoch == 0:
            watch.epoch(state, step)
            checkpoints.save_state(run.options.out, state)
            release(run, state)
    return state


def fit(run: Run, interrupted: Interrupted) -> int:
    """Start or resume, loop, save, draw the curves, and say how it ended."""
    out = run.options.out
    compiled, state = compile_all(run)
    if run.options.resume:
        state = checkpoints.restore_state(out, state)
    with open(out / "log.jsonl", "a", buffering=1) as log, console.bar("{task.fields[now]}") as bar:
        state = loop(run, compiled, state, Watch(run, compiled, log, bar, int(state.step)), interrupted)
    checkpoints.save_state(out, state)
    pictures.write_curves(out / "curves.png", out / "log.jsonl")
    if interrupted.signal is not None:
        print(f"stopped after step {int(state.step)}; continue with --resume --out {out}")
        return 128 + interrupted.signal
    print(f"{out / checkpoints.RELEASE}: {run.config.architecture} after {run.recipe.epochs} epochs")
    return 0


def check(options: Options) -> None:
    """Raise ValueError for a flag that makes no sense, or a folder that holds another run."""
    recipe = options.settings
    names = ("epochs", "batch_size", "learning_rate", "num_steps", "step_size", "seed_factor", "seed_share")
    console.positive(judge=options.judge, **{name: getattr(recipe, name) for name in names})
    names = ("epsilon", "beta", "momentum", "weight_decay", "label_smoothing", "ema_decay", "crop_padding", "seed")
    console.not_negative(**{name: getattr(recipe, name) for name in names})
    console.one_of("norm", recipe.norm, attacks.BALLS)
    if (options.out / "checkpoints").exists() and not options.resume:
        raise ValueError(f"{options.out} already holds a run: give --resume or another --out")


def train(options: Options) -> int:
    """Check, prepare, fit."""
    check(options)
    run = prepare(options)
    described = json.dumps(options.settings._asdict(), indent=2) + "\n"
    checkpoints.write(options.out / "recipe.json", described.encode())
    return fit(run, Interrupted())


def parse(options: type, arguments: Sequence[str]) -> Any:
    """The flags, over the values of the recipe they name."""
    named = [value for flag, value in itertools.pairwise(arguments) if flag == "--recipe"]
    recipe = (named or [options.recipe])[-1]
    default = options(recipe=recipe, settings=recipes.named("recipe", RECIPES, recipe))
    return console.parse(options, arguments, default=default)


def main() -> None:
    """The command."""
    console.run(Options, train, parse)


if __name__ == "__main__":
    main()
