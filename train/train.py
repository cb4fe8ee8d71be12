"""rsynth-train: train a robust classifier by a recipe.

    rsynth-train --recipe cifar10-cpu --data tfds:cifar10 --data-dir DIR --out RUN

RUN then holds classifier.safetensors (for every other command), log.jsonl, curves.png and the
checkpoints from which --resume continues, bit for bit on the same machine.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from tyro.conf import arg

from rsynth_jax import checks, models
from rsynth_jax import sharding as parallel
from rsynth_jax.attacks import autoattack as attempts
from rsynth_jax.attacks import evaluation
from rsynth_jax.attacks.threats import Steps
from rsynth_jax.cli import run as console
from rsynth_jax.cli import sheets as pictures
from rsynth_jax.cli.train_log import Plan, Watch
from rsynth_jax.data import loader as datasets
from rsynth_jax.data import sources as data
from rsynth_jax.storage import files, train_states
from rsynth_jax.storage import releases as checkpoints
from rsynth_jax.synthesis import class_gaussians
from rsynth_jax.training import build as methods
from rsynth_jax.training import classifier as training
from rsynth_jax.training import dual
from rsynth_jax.training.recipes import RECIPES, Recipe

JUDGE_STEPS = 10  # of the PGD that judges the test images after each epoch


@dataclasses.dataclass(frozen=True)
class Options:
    """rsynth-train: train a robust classifier by a recipe.

    Recipes: the paper's six (cifar10, restricted-imagenet, imagenet, horse2zebra, apple2orange,
    summer2winter: ResNet-50, PGD with 7 steps, SGD), small ResNets for two cores (cifar10-cpu, and of
    64 pixels restricted-imagenet-64, horse2zebra-64, apple2orange-64, summer2winter-64, cat-dog-64), and
    dual, which goes on from a robust classifier given with --start. Every flag of the second group
    overrides one value of the recipe that --recipe names. Ctrl-C saves and stops.
    """

    recipe: Annotated[str, arg(metavar="NAME")] = "cifar10-cpu"
    """Which recipe."""
    data: Annotated[str, arg(metavar="KIND:PLACE")] = "tfds:cifar10"
    """tfds:NAME, folder:PATH (one folder a class, in train/ and test/) or npz:FILE (train_images, ...)."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """Where TFDS data sets lie; TFDS's own default otherwise."""
    image_size: Annotated[int | None, arg(metavar="PIXELS")] = None
    """Resize the central square of every image to this side (Lanczos)."""
    train_split: str = "train"
    """Split to train on; train[:90%] is a share, all is a folder or file without splits."""
    test_split: str = "test"
    """Split to judge on after each epoch."""
    judge: int = 1000
    """How many test images to judge on, with PGD-10 in the recipe's threat."""
    out: Path = Path("runs/classifier")
    """The run's folder."""
    start: Annotated[str | None, arg(metavar="CLASSIFIER")] = None
    """Begin with the weights of a classifier: a name, a file or a run. Its network is kept, and by the
    recipe dual its threat; for other classes than its own the last layer is new."""
    resume: bool = False
    """Continue the run in --out from its newest checkpoint."""
    settings: Recipe = RECIPES["cifar10-cpu"]
    """The recipe's values."""


class Run(NamedTuple):
    """What the loop needs and never changes: the data, the network, the compiled functions, the devices."""

    options: Options
    recipe: Recipe
    train: datasets.Dataset
    plan: Plan
    config: models.Config
    class_seeds: class_gaussians.ClassGaussians
    trainer: methods.Trainer
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
    train, test = read(options)
    num_classes, epoch = len(train.class_names), train.num // options.settings.batch_size
    recipe = methods.planned(options.settings, epoch)
    config = models.Config(recipe.architecture, num_classes, recipe.mean, recipe.std, recipe.dtype)
    model, sample = models.create(config), datasets.spread(train, data.MEMORY)
    fitted = class_gaussians.fit(*sample, num_classes, recipe.seed_factor, recipe.seed_share)
    trainer = methods.trainer(recipe, model, epoch, fitted, test.images.shape[1:])
    against = methods.threat(recipe)
    steps = Steps(2.5 * recipe.epsilon / JUDGE_STEPS, JUDGE_STEPS)
    judge = evaluation.make_judge(model, against, [attempts.pgd(against, steps)])
    rate, look = methods.schedule(recipe, epoch), jax.jit(evaluation.make_logits(model))
    plan = Plan(recipe.epochs, epoch, recipe.batch_size, rate, test, judge, look)
    devices = parallel.over_devices(recipe.batch_size)
    return Run(options, recipe, train, plan, config, fitted, trainer, devices)


def beginning(run: Run, key) -> training.Variables:
    """The weights before the first step: drawn, or those of the classifier in --start."""

    def drawn() -> training.Variables:
        return models.create(run.config).init(key, jnp.zeros((1, *run.plan.test.images.shape[1:])))

    if run.options.start is None:
        return drawn()
    start = checkpoints.load(run.options.start)
    if start.config._replace(num_classes=run.config.num_classes, dtype=run.config.dtype) != run.config:
        raise ValueError(f"--start {run.options.start} is another network than the run's")
    if start.class_names == run.train.class_names:
        return start.variables
    if run.recipe.method == "dual":
        raise ValueError(f"--start {run.options.start} knows other classes than the data of dual training")
    return models.with_readout(start.variables, drawn())


def placed(devices: parallel.Devices, state):
    """The state on the devices: fakes of dual training are split as a batch is, all else is everywhere."""
    everywhere = devices.replicate(state)
    if not isinstance(state, dual.DualState):
        return everywhere
    return everywhere._replace(fakes=devices.split(state.fakes))


def release(run: Run, state: training.TrainState) -> None:
    """Write the averaged weights as the run's classifier."""
    outcome = {"data": run.options.data, "steps": int(state.step)}
    if isinstance(state, dual.DualState):
        outcome["fake_steps"] = int(state.num_steps)
    released = checkpoints.Release(
        config=run.config._replace(dtype="float32"),
        variables=state.ema,
        class_gaussians=run.class_seeds,
        class_names=run.train.class_names,
        image_shape=run.plan.test.images.shape[1:],
        threat=methods.threat(run.recipe),
        steps=methods.steps(run.recipe),
        recipe=outcome | run.recipe._asdict(),
    )
    checkpoints.save(run.options.out / checkpoints.RELEASE, released)


def loop(run: Run, state, watch: Watch, interrupted: console.Interrupted):
    """Step to the end, or to a signal; judge, save and release at each epoch's end."""
    _, key = jax.random.split(jax.random.key(run.recipe.seed))
    recipe, first = run.recipe, int(state.step)
    batches = datasets.batches_from(run.train, recipe.batch_size, recipe.seed, recipe.epochs, first)
    for step, batch in enumerate(map(run.devices.split, batches), start=first + 1):
        state, metrics = run.trainer.step(state, jax.random.fold_in(key, step - 1), *batch)
        watch.step(state, step, metrics, batch)
        if step % run.plan.epoch == 0:
            watch.epoch(state, step, metrics)
            release(run, state)
            train_states.save_state(run.options.out, state)
        if interrupted.signal is not None:
            break
    return state


def fit(run: Run, interrupted: console.Interrupted) -> int:
    """Start or resume, loop, save, draw the curves, and say how it ended."""
    out = run.options.out
    init_key, _ = jax.random.split(jax.random.key(run.recipe.seed))
    state = placed(run.devices, run.trainer.init(beginning(run, init_key)))
    if run.options.resume:
        state = train_states.restore_state(out, state)
    console.report(out / "recipe.json", run.recipe._asdict())
    with open(out / "log.jsonl", "a", buffering=1) as log, console.bar("{task.fields[now]}") as bar:
        state = loop(run, state, Watch(log, bar, run.plan, int(state.step)), interrupted)
    train_states.save_state(out, state)
    pictures.write_curves(out / "curves.png", out / "log.jsonl")
    if interrupted.signal is not None:
        print(f"stopped after step {int(state.step)}; continue with --resume --out {out}")
        return 128 + interrupted.signal
    print(f"{out / checkpoints.RELEASE}: {run.config.architecture} after {run.recipe.epochs} epochs")
    return 0


def check(options: Options) -> None:
    """Raise ValueError for a flag that makes no sense, or a folder that holds another run."""
    checks.positive(judge=options.judge)
    methods.check(options.settings)
    if options.settings.method == "dual" and options.start is None:
        raise ValueError("dual training goes on from a robust classifier: give it with --start")
    files.check_writable(options.out / checkpoints.RELEASE)
    if (options.out / "checkpoints").exists() and not options.resume:
        raise ValueError(f"{options.out} already holds a run: give --resume or another --out")


def train(options: Options) -> int:
    """Check, prepare, fit."""
    check(options)
    return fit(prepare(options), console.Interrupted())


def following(recipe: Recipe, release: checkpoints.Release) -> Recipe:
    """The recipe for going on from a classifier: its network, and in dual training its threat and seeds."""
    config, own = release.config, release.recipe
    recipe = recipe._replace(architecture=config.architecture, mean=config.mean, std=config.std)
    if recipe.method != "dual":
        return recipe
    kept = {name: own[name] for name in ("seed_factor", "seed_share") if name in own}
    kept |= {"norm": release.threat.norm.name, "epsilon": release.threat.epsilon}
    return recipe._replace(**release.steps._asdict(), **kept)


def parse(options: type, arguments: Sequence[str]) -> Any:
    """The flags, over the values of the recipe they name."""
    recipe, start = (console.given(flag, arguments, "") for flag in ("recipe", "start"))
    settings = checks.named("recipe", recipe or options.recipe, RECIPES)
    settings = following(settings, checkpoints.load(start)) if start else settings
    default = options(recipe=recipe or options.recipe, settings=settings)
    return console.parse(options, arguments, default=default)


def main() -> None:
    """The command."""
    console.run(Options, train, parse)


if __name__ == "__main__":
    main()
