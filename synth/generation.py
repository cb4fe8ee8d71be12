"""rsynth-generate: new images of a class, from nothing but a robust classifier, or from a learned generator.

rsynth-generate --class cat --num 16 --seed 0 --out cats.png
"""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import classifiers, options, sharded
from rsynth_jax.cli.class_ascents import ClassAscentFlags
from rsynth_jax.cli.generator_pages import COLUMNS, GeneratorFlags, decoded, generated, parse_flags
from rsynth_jax.cli.hosts import JoinFlags
from rsynth_jax.cli.report import Result, report
from rsynth_jax.cli.results import climbed
from rsynth_jax.cli.run import Monitor, run


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
    climb: ClassAscentFlags = ClassAscentFlags()
    learned: GeneratorFlags = GeneratorFlags()
    ascent: options.LengthFlags = options.LengthFlags(radius=30.0)
    output: options.OutputFlags = options.OutputFlags(out=Path("generated.png"))
    sharding: options.ShardFlags = options.ShardFlags()
    hosts: JoinFlags = JoinFlags()
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(num=self.num)
        checks.seed(seed=self.seed)


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
    given = flags.climb.starts(release, flags.num)
    skipped, starts = (given.skipped, given.images) if given else ((), None)
    make, title = flags.climb.bind(release, flags.classes, flags.num, flags.seed, flags.ascent, starts)
    if in_shards:
        weights = (release.variables, release.class_gaussians, starts)
        return sharded.generated(flags, release, weights, make, title.after(title.steps), skipped)
    num = flags.num * len(labels_of(release, flags.classes))
    shown = flags.output.animate(np.arange(num) % flags.num < COLUMNS)
    with Monitor(num, title.steps, shown) as monitor:
        samples = make(**monitor.run)
    result = climbed(release, samples, flags.num, title, monitor)
    return _report(flags, result._replace(skipped=skipped))


def _report(flags: Options, result: Result) -> int:
    return report(flags.output.out, result, **flags.output.written)


main = functools.partial(run, Options, generate, parse_flags)

if __name__ == "__main__":
    main()
