"""rsynth-generate: new images of a class, from nothing but a robust classifier.

rsynth-generate --class cat --num 16 --seed 0 --out cats.png
"""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import optax
from tyro.conf import arg

from rsynth_jax import checks, models
from rsynth_jax.cli import options as studio
from rsynth_jax.cli import run as console
from rsynth_jax.cli import sheets as pictures
from rsynth_jax.sampling import runner as expedition
from rsynth_jax.storage import files
from rsynth_jax.storage import releases as checkpoints
from rsynth_jax.synthesis import ascent, class_gaussians
from rsynth_jax.synthesis import tasks as synthesis
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.objectives import CLASS_OBJECTIVES
from rsynth_jax.synthesis.projections import box, chain, l2_ball
from rsynth_jax.synthesis.tasks import Task

FAKE_STEPS = 24  # of a classifier that does not say: what those of cifar10 climbed
COLUMNS = 16  # of a sheet at most: the rest is in the .npz
SCHEDULES = {"constant": lambda size, _: size, "cosine": optax.cosine_decay_schedule}


def generation(classifier, start, label, *, objective, radius):
    """From a draw of the class's Gaussian, climb towards the class, at most `radius` away."""
    return Task(start, CLASS_OBJECTIVES[objective](classifier, label), chain(l2_ball(start, radius), box()))


@dataclasses.dataclass(frozen=True)
class Options:
    """rsynth-generate: new images of a class, from nothing but a robust classifier.

    Each starts from a draw of its class's Gaussian and climbs the classifier's own score. Image i of a class
    depends on (seed, class, i) alone. The paper's procedure on CIFAR-10 is --temperature 1 --steps 60
    --objective log-prob --step-size 0.5 --schedule constant; a small network over-saturates under it, so the
    default is shorter.
    """

    classifier: str = "cifar10"
    """A bundled classifier by name, a .safetensors file, or a training run."""
    classes: Annotated[tuple[str, ...], arg(name="class", metavar="CLASS ...")] = ("all",)
    """Classes by name or number; all for each of them."""
    num: int = 8
    """Images of each class."""
    seed: int = 0
    """Of the draws."""
    out: Path = Path("generated.png")
    """The sheet, a PNG with a row a class, of up to 16 images each."""
    temperature: float = 1.2
    """Times a draw's distance from its class's mean: more is more varied, less is more alike."""
    objective: str = "sum"
    """log-prob (the paper's), logit, sum of both, or energy (of any class)."""
    radius: float = 30.0
    """Largest l2 distance from the start, in pixel values of [0, 1] at 32 pixels (paper: 30; 40 at 224)."""
    steps: Annotated[int | None, arg(metavar="N")] = None
    """Steps of the ascent (paper: 60). By default five for every eight that the classifier's fakes climbed in
    dual training; 15 if it does not say."""
    step_size: float = 0.75
    """l2 length of a step, of the first under a cosine, at 32 pixels (paper: 0.5; 1 at 224)."""
    schedule: str = "cosine"
    """Of the step size: constant, or cosine down to 0."""
    momentum: float = 0.0
    """Decay of an average of the steps' directions; 0 for none."""
    batch_size: int = 40
    """Images computed together; changes the speed, and the images by no more than rounding."""
    npz: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write the images as arrays: images uint8 (n, h, w, c), labels, class_names."""
    gif: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write an animation of the ascent."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write every number printed."""


def check(options: Options) -> None:
    """Raise ValueError for a flag that makes no sense."""
    o = options
    checks.positive(num=o.num, radius=o.radius, step_size=o.step_size, batch_size=o.batch_size)
    checks.positive(temperature=o.temperature)
    checks.not_negative(seed=o.seed)
    checks.given(checks.not_negative, steps=o.steps)
    checks.below_one(momentum=o.momentum)
    checks.named("objective", o.objective, CLASS_OBJECTIVES)
    checks.named("schedule", o.schedule, SCHEDULES)
    files.check_writable(o.out, o.npz, o.gif, o.json)


def planned(options: Options, release: checkpoints.Release) -> Options:
    """The same with lengths at the classifier's side, and with its steps if none are asked for.

    Five that fall from 0.75 like a cosine, for every eight of 0.2 that its fakes climbed: 1.25 times as far.
    """
    own = max(1, 5 * release.recipe.get("fake_steps", FAKE_STEPS) // 8)
    steps = own if options.steps is None else options.steps
    return dataclasses.replace(studio.scaled(options, release), steps=steps)


def sampler(options: Options, model):
    """The compiled ascent: (variables, starts, labels) -> the images, stage after stage."""
    optimizer = optax.chain(
        L2.direction,
        optax.ema(options.momentum),
        optax.scale_by_learning_rate(SCHEDULES[options.schedule](options.step_size, max(options.steps, 1))),
    )

    def task(classifier, start, label):
        return generation(classifier, start, label, objective=options.objective, radius=options.radius)

    chunk = studio.GIF_CHUNK if options.gif else ascent.CHUNK
    return synthesis.stages(model, synthesis.with_optimizer(task, optimizer), options.steps, chunk)


def generate(options: Options) -> int:
    """Load, draw, climb, write."""
    check(options)
    release = checkpoints.load(options.classifier)
    chosen = console.classes(options.classes, release.class_names)
    options, labels = planned(options, release), np.repeat(chosen, options.num)
    climb = sampler(options, models.create(release.config))
    spread = class_gaussians.with_temperature(release.class_gaussians, options.temperature)
    draw = expedition.draws(jax.random.key(options.seed), spread, release.image_shape)
    numbers = np.stack([labels, np.tile(np.arange(options.num), len(chosen))], axis=1)
    began = time.perf_counter()
    with console.bar() as bar:
        frames = expedition.frames(
            climb,
            release.variables,
            lambda rows: (draw(labels[rows], numbers[rows]), labels[rows]),
            len(labels),
            options.batch_size,
            functools.partial(bar.track, description="climbing"),
        )
    seconds = time.perf_counter() - began
    return write(options, release, labels, frames, seconds)


def write(options: Options, release, labels, frames, seconds: float) -> int:
    """The sheet, the other files asked for, and the closing line."""
    names = [release.class_names[label] for label in labels[:: options.num]]
    way = f"{options.objective}, {options.schedule}"
    titles = pictures.titles(way, options.steps, options.step_size, len(frames))
    columns = min(options.num, COLUMNS)
    shown = [frame[np.arange(len(labels)) % options.num < columns] for frame in frames]
    pictures.write_sheet(options.out, shown[-1], columns, names, titles[-1])
    if options.gif:
        pictures.write_animation(options.gif, shown, columns, names, titles)
    if options.npz:
        arrays = {"images": frames[-1], "labels": labels, "class_names": np.array(release.class_names)}
        files.write_arrays(options.npz, arrays)
    numbers = numbers_of(options, release, labels, frames) | {"seconds": seconds}
    console.report(options.json, numbers)
    print(
        f"{options.out}: {len(labels)} images of {', '.join(names)} in {seconds:.1f} s; "
        f"mean log p {numbers['log_prob_start']:.2f} -> {numbers['log_prob']:.2f}, "
        f"l2 moved {numbers['l2_moved']:.2f}"
    )
    return 0


def numbers_of(options: Options, release, labels, frames) -> dict:
    """What happened to each image and on average: log p before and after, l2 distance moved."""
    ends = frames[0], frames[-1], labels, options.batch_size
    found = expedition.outcome(models.create(release.config), release.variables, *ends)
    described = [
        {"class": release.class_names[label], "index": i % options.num} for i, label in enumerate(labels)
    ]
    return expedition.numbers(found, described)


def main() -> None:
    """The command."""
    console.run(Options, generate)


if __name__ == "__main__":
    main()
