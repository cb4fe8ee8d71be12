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
from rsynth_jax.cli import classifiers, options, sharded
from rsynth_jax.cli.generator_pages import COLUMNS, GeneratorFlags, decoded, generated, parse_flags
from rsynth_jax.cli.hosts import JoinFlags
from rsynth_jax.cli.report import Result, Title, report
from rsynth_jax.cli.results import climbed
from rsynth_jax.cli.run import Monitor, run
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
    dtype: options.Dtype = "float32"
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
    sharding: options.ShardFlags = options.ShardFlags()
    hosts: JoinFlags = JoinFlags()
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(num=self.num, temperature=self.temperature)
        checks.seed(seed=self.seed)
        checks.given(checks.not_negative, steps=self.steps)
        checks.below_one(momentum=self.momentum)


def generate(flags: Options) -> int:
    """Generate and report."""
    flags.output.check()
    flags.sharding.check(flags.output)
    from rsynth_jax.sampling.samplers import labels_of

    in_shards = flags.sharding.shards is not None
    if flags.learned.generator is not None:
        return sharded.drawn(flags) if in_shards else _report(flags, generated(flags))
    if flags.learned.inverter is not None:
        return _report(flags, decoded(flags))
    release = classifiers.load(flags.classifier, flags.dtype)
    given = None if flags.start is None else starts_of(flags.start, release, flags.num)
    skipped = given.skipped if given else ()
    make, title = climb_of(flags, release, given and given.images)
    if in_shards:
        weights = (release.variables, release.class_gaussians, given and given.images)
        return sharded.generated(flags, release, weights, make, title.after(title.steps), skipped)
    num = flags.num * len(labels_of(release, flags.classes))
    shown = flags.output.animate(np.arange(num) % flags.num < COLUMNS)
    with Monitor(num, title.steps, shown) as monitor:
        samples = make(**monitor.run)
    result = climbed(release, samples, flags.num, title, monitor)
    return _report(flags, result._replace(skipped=skipped))


def climb_of(
    flags: Options, release: "Release", starts: np.ndarray | None
) -> tuple[functools.partial, Title]:
    """Bind the classifier's ascent to the flags, and make the title of the sheet."""
    from rsynth_jax.sampling import samplers
    from rsynth_jax.synthesis.objectives import CLASS_OBJECTIVES
    from rsynth_jax.synthesis.parameterization import PARAMETERIZATIONS

    objective = checks.named("objective", flags.objective, CLASS_OBJECTIVES)
    schedule = checks.named("schedule", flags.schedule, samplers.SCHEDULES)
    coordinates = checks.named("parameterization", flags.parameterization, PARAMETERIZATIONS)
    steps = samplers.default_steps(release) if flags.steps is None else flags.steps
    settings = {"objective": objective, "schedule": schedule, "parameterization": coordinates}
    settings |= {"starts": starts, "seed": flags.seed}
    settings |= {"num_steps": steps, "temperature": flags.temperature, "momentum": flags.momentum}
    settings |= flags.ascent.settings(release)
    step_size = flags.ascent.step_size * samplers.scale_of(release)
    make = functools.partial(samplers.generate, release, flags.classes, flags.num, **settings)
    return make, Title(f"{flags.objective}, {flags.schedule}", steps, step_size)


def starts_of(place: str, release: "Release", num: int) -> sources.Pictures:
    """Read the first images of a place, at the classifier's side. Raises ValueError if there is none."""
    return sources.read_all(sources.load(place, image_size=release.image_shape[0]).first(num))


def _report(flags: Options, result: Result) -> int:
    return report(flags.output.out, result, **flags.output.written)


main = functools.partial(run, Options, generate, parse_flags)

if __name__ == "__main__":
    main()
