"""rsynth-generate: new images of a class, from nothing but a robust classifier, or from a learned generator.

rsynth-generate --class cat --num 16 --seed 0 --out cats.png
"""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import classifiers, options
from rsynth_jax.cli.generator_pages import COLUMNS, GeneratorFlags, decoded, generated, parse_flags
from rsynth_jax.cli.report import CHANGE, Result, Title, climb_numbers, image_arrays, report
from rsynth_jax.cli.run import Monitor, run
from rsynth_jax.cli.sheets import Page
from rsynth_jax.data import sources

if TYPE_CHECKING:
    from rsynth_jax.storage.releases import Release


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-generate: new images of a class, from nothing but a robust classifier, or a learned generator.

    Each image starts from a draw of its class's Gaussian, or from grey and noise where a classifier has no
    class Gaussians, and climbs the classifier's own score. The sheet
    has a row a class, of up to 16 images. Image i of a class depends on (seed, class, i) alone.

    The paper's procedure on CIFAR-10 is --temperature 1 --steps 60 --objective log-prob --step-size 0.5
    --schedule constant; at 224 pixels its radius is 40, its steps 1. A small network over-saturates by it.
    """

    classifier: options.ClassifierName = "cifar10"
    classes: Annotated[tuple[str, ...], arg(name="class", metavar="CLASS ...")] = ("all",)
    """Classes by name or number; all for each of them."""
    num: int = 8
    """Images of each class."""
    seed: options.Seed = 0
    temperature: float = 1.2
    """Factor of a draw's distance from its class's mean: higher is more varied."""
    objective: options.ObjectiveName = "sum"
    steps: Annotated[int | None, arg(metavar="N")] = None
    """Number of steps of the ascent. By default five for every eight that the classifier's fakes climbed in
    dual training; 15 if it was trained otherwise."""
    schedule: str = "cosine"
    """Schedule of the step size: constant, or cosine down to 0."""
    momentum: float = 0.0
    """Decay of an average of the steps' directions; 0 for none."""
    parameterization: options.ParameterizationName = "pixel"
    start: Annotated[str | None, arg(metavar="A")] = None
    """Images of any classes to start from, in place of draws: a folder, an .npz or an image. Image i of each
    class starts from image i."""
    learned: GeneratorFlags = GeneratorFlags()
    ascent: options.LengthFlags = options.LengthFlags(radius=30.0, step_size=0.75)
    output: options.OutputFlags = options.OutputFlags(out=Path("generated.png"))
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(num=self.num, temperature=self.temperature)
        checks.seed(seed=self.seed)
        checks.given(checks.not_negative, steps=self.steps)
        checks.below_one(momentum=self.momentum)


def generate(flags: Options) -> int:
    """Generate and report."""
    flags.output.check()
    learned = flags.learned
    make = (
        generated if learned.generator is not None else decoded if learned.inverter is not None else climbed
    )
    return report(flags.output.out, make(flags), **flags.output.paths)


def climbed(flags: Options) -> Result:
    """Generate by the classifier's ascent."""
    from rsynth_jax.sampling import samplers
    from rsynth_jax.synthesis.objectives import CLASS_OBJECTIVES
    from rsynth_jax.synthesis.parameterization import PARAMETERIZATIONS

    objective = checks.named("objective", flags.objective, CLASS_OBJECTIVES)
    schedule = checks.named("schedule", flags.schedule, samplers.SCHEDULES)
    coordinates = checks.named("parameterization", flags.parameterization, PARAMETERIZATIONS)
    release, num = classifiers.load(flags.classifier), flags.num
    names = [release.class_names[label] for label in samplers.labels_of(release, flags.classes)]
    steps = samplers.default_steps(release) if flags.steps is None else flags.steps
    settings = {"objective": objective, "schedule": schedule, "parameterization": coordinates}
    given = None if flags.start is None else starts_of(flags.start, release, num)
    settings["starts"] = given and given.images
    settings |= {"num_steps": steps, "temperature": flags.temperature, "momentum": flags.momentum}
    with Monitor(num * len(names), steps, flags.output.animated) as monitor:
        settings |= flags.ascent.settings(release) | monitor.run
        samples = samplers.generate(release, flags.classes, num, seed=flags.seed, **settings)
    about = {"class": np.repeat(names, num), "index": np.tile(np.arange(num), len(names))}
    numbers = climb_numbers(samples, about, monitor.seconds)
    step_size = flags.ascent.step_size * samplers.scale_of(release)
    title = Title(f"{flags.objective}, {flags.schedule}", steps, step_size)

    def page(step: int, images: np.ndarray) -> Page:
        cells = images.reshape(len(names), num, *images.shape[1:])
        return Page(cells[:, :COLUMNS], names, title.after(step))

    return Result(
        page(steps, samples.images),
        numbers,
        f"{num * len(names)} images of {', '.join(names)} in {monitor.seconds:.1f} s; "
        + CHANGE.format_map(numbers),
        image_arrays(release, samples.images, samples.labels),
        dict(zip(map("{class}-{index:04d}".format_map, numbers["images"]), samples.images, strict=True)),
        [page(step, images) for step, images in monitor.frames.items()],
        given.skipped if given else (),
    )


def starts_of(place: str, release: "Release", num: int) -> sources.Pictures:
    """Read the first images of a place, at the classifier's side. Raises ValueError if there is none."""
    return sources.read_all(sources.load(place, image_size=release.image_shape[0]).first(num))


main = functools.partial(run, Options, generate, parse_flags)

if __name__ == "__main__":
    main()
