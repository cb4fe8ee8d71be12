"""rsynth-train: train a robust classifier by a recipe.

    rsynth-train --recipe cifar10-cpu --data tfds:cifar10 --data-dir DIR --out RUN

RUN then holds classifier.safetensors (for every other command), log.jsonl, curves.png and the
checkpoints from which --resume continues, bit for bit on the same machine.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import arg

from rsynth_jax import (
    checkpoints,
    checks,
    console,
    data,
    datasets,
    evaluation,
    models,
    parallel,
    pictures,
    recipes,
    seeds,
    training,
)
from rsynth_jax.attacks import Threat, attempts
from rsynth_jax.recipes import RECIPES, Recipe

LOG_EVERY = 20  # steps
JUDGE_STEPS = 10  # of the PGD that judges the test images after each epoch
NOW = (
    "loss {loss:.3f}  clean {clean_accuracy:.1%}  adversarial {adversarial_accuracy:.1%}  "
    "{images_per_second:.0f} images/s"
)
JUDGED = f"epoch {{epoch}}/{{epochs}}: clean {{test_clean:.1%}}, PGD-{JUDGE_STEPS} {{test_adversarial:.1%}}"


@dataclasses.dataclass(frozen=True)
class Options:
    """rsynth-train: train a robust classifier by a recipe.

    Recipes: the paper's six (cifar10, restricted-imagenet, imagenet, horse2zebra, apple2orange,
    summer2winter: ResNet-50, PGD with 7 steps, SGD) and cifar10-cpu (a small ResNet for two cores). Every
    flag of the second group overrides one value of the recipe that --recipe names. Ctrl-C saves and stops.
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
    settings: Recipe = RECIPES["cifar10-cpu"]
    """The recipe's values."""


class Run(NamedTuple):
    """What the loop needs and never changes: the data, the network, the jitted functions, the devices."""

    options: Options
    recipe: Recipe
    train: datasets.Dataset
    test: datasets.Arrays
    epoch: int  # steps in one
    config: models.Config
    class_seeds: seeds.Seeds
    trainer: recipes.Trainer
    judge: Callable
    look: Callable
    devices: parallel.Devices


def read(options: Options) -> tuple[datasets.Dataset, datasets.Arrays]:
    """The training set, and the test images to judge on."""
    load = functools.partial(
        data.load, options.data, data_dir=options.data_dir, image_size=options.image_size
    )
    train, test = load(options.train_split), load(options.test_split)
    if train.class_names != test.class_names:
        raise ValueError("the training and the test split do not have the same classes")
    if train.num < options.settings.batch_size:
        raise ValueError(f"{train.num} training images do not fill a batch of {options.settings.batch_size}")
    return train, datasets.head(test, options.judge)


def prepare(options: Options) -> Run:
    """Load the data, fit the class Gaussians, build the programs."""
    recipe, (train, test) = options.settings, read(options)
    num_classes, epoch = len(train.class_names), train.num // recipe.batch_size
    config = models.Config(recipe.architecture, num_classes, recipe.mean, recipe.std, recipe.dtype)
    model = models.create(config)
    init, step = recipes.trainer(recipe, model, epoch)
    against = Threat(recipe.norm, recipe.epsilon, 2.5 * recipe.epsilon / JUDGE_STEPS, JUDGE_STEPS)
    sample = datasets.spread(train, data.MEMORY)
    fitted = seeds.fit(*sample, num_classes, recipe.seed_factor, recipe.seed_share)
    judge = evaluation.make_judge(model, against, [attempts.pgd(against)])
    look = jax.jit(evaluation.make_logits(model))
    trainer = recipes.Trainer(init, jax.jit(step, donate_argnums=0))
    devices = parallel.over_devices(recipe.batch_size)
    return Run(options, recipe, train, test, epoch, config, fitted, trainer, judge, look, devices)


def release(run: Run, state: training.TrainState) -> None:
    """Write the averaged weights as the run's classifier."""
    released = checkpoints.Release(
        config=run.config._replace(dtype="float32"),
        variables=state.ema,
        seeds=run.class_seeds,
        class_names=run.train.class_names,
        image_shape=run.test.images.shape[1:],
        threat=recipes.threat(run.recipe),
        recipe={"data": run.options.data, "steps": int(state.step)} | run.recipe._asdict(),
    )
    checkpoints.save(run.options.out / checkpoints.RELEASE, released)


def sound(loss: float, weights, step: int) -> None:
    """Raise ValueError for a loss or weights that are not finite, before anything is made of them."""
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((loss, weights))):
        raise ValueError(f"loss {loss} or a weight is not finite at step {step}: lower --learning-rate")


class Watch:
    """The log and the progress bar of a run."""

    def __init__(self, run: Run, log, bar, step: int):
        self.run, self.log, self.bar = run, log, bar
        self.rate = recipes.schedule(run.recipe, run.epoch)
        self.clock = console.Clock()
        self.task = bar.add_task("training", total=run.recipe.epochs * run.epoch, completed=step, now="")

    def step(self, state, step: int, metrics, batch) -> None:
        """Every `LOG_EVERY` steps: one line of the log, one look at the bar."""
        if step % LOG_EVERY:
            return
        clean = evaluation.right(self.run.look(state.variables, batch[0]), batch[1])
        record = {
            "step": step,
            "epoch": step / self.run.epoch,
            "loss": float(metrics.loss),
            "clean_accuracy": float(jnp.mean(clean)),
            "adversarial_accuracy": float(metrics.adversarial_accuracy),
            "learning_rate": float(self.rate(step)),
            "images_per_second": LOG_EVERY * self.run.recipe.batch_size / self.clock.lap(),
        }
        sound(record["loss"], (), step)
        print(json.dumps(record), file=self.log)
        self.bar.update(self.task, completed=step, now=NOW.format(**record))

    def epoch(self, state, step: int, metrics) -> None:
        """At an epoch's end: judge the averaged weights on the test images."""
        sound(float(metrics.loss), state.ema, step)
        clock, (images, labels) = console.Clock(), self.run.test
        right = self.run.judge(state.ema, jax.random.key(0), images, labels)
        record = {"step": step, "epoch": step // self.run.epoch, "test_num": len(labels)}
        record |= {
            "test_clean": float(right.clean.mean()),
            "test_adversarial": float(right.adversarial.mean()),
        }
        print(json.dumps(record), file=self.log)
        self.bar.console.print(JUDGED.format(epochs=self.run.recipe.epochs, **record))
        self.clock.pause(clock.lap())


def loop(run: Run, state, watch: Watch, interrupted: console.Interrupted):
    """Step to the end, or to a signal; judge, save and release at each epoch's end."""
    _, key = jax.random.split(jax.random.key(run.recipe.seed))
    recipe, first = run.recipe, int(state.step)
    batches = datasets.batches_from(run.train, recipe.batch_size, recipe.seed, recipe.epochs, first)
    for step, batch in enumerate(map(run.devices.split, batches), start=first + 1):
        state, metrics = run.trainer.step(state, jax.random.fold_in(key, step - 1), *batch)
        watch.step(state, step, metrics, batch)
        if step % run.epoch == 0:
            watch.epoch(state, step, metrics)
            release(run, state)
            checkpoints.save_state(run.options.out, state)
        if interrupted.signal is not None:
            break
    return state


def fit(run: Run, interrupted: console.Interrupted) -> int:
    """Start or resume, loop, save, draw the curves, and say how it ended."""
    out = run.options.out
    init_key, _ = jax.random.split(jax.random.key(run.recipe.seed))
    state = run.devices.replicate(run.trainer.init(init_key, jnp.zeros(run.test.images.shape[1:])))
    if run.options.resume:
        state = checkpoints.restore_state(out, state)
    console.report(out / "recipe.json", run.recipe._asdict())
    with open(out / "log.jsonl", "a", buffering=1) as log, console.bar("{task.fields[now]}") as bar:
        state = loop(run, state, Watch(run, log, bar, int(state.step)), interrupted)
    checkpoints.save_state(out, state)
    pictures.write_curves(out / "curves.png", out / "log.jsonl")
    if interrupted.signal is not None:
        print(f"stopped after step {int(state.step)}; continue with --resume --out {out}")
        return 128 + interrupted.signal
    print(f"{out / checkpoints.RELEASE}: {run.config.architecture} after {run.recipe.epochs} epochs")
    return 0


def check(options: Options) -> None:
    """Raise ValueError for a flag that makes no sense, or a folder that holds another run."""
    checks.positive(judge=options.judge)
    recipes.check(options.settings)
    checkpoints.writable(options.out / checkpoints.RELEASE)
    if (options.out / "checkpoints").exists() and not options.resume:
        raise ValueError(f"{options.out} already holds a run: give --resume or another --out")


def train(options: Options) -> int:
    """Check, prepare, fit."""
    check(options)
    return fit(prepare(options), console.Interrupted())


def parse(options: type, arguments: Sequence[str]) -> Any:
    """The flags, over the values of the recipe they name."""
    recipe = console.given("recipe", arguments, options.recipe)
    default = options(recipe=recipe, settings=checks.named("recipe", recipe, RECIPES))
    return console.parse(options, arguments, default=default)


def main() -> None:
    """The command."""
    console.run(Options, train, parse)


if __name__ == "__main__":
    main()
