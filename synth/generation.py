"""rsynth-generate: new images of a class, from nothing but a robust classifier.

rsynth-generate --class cat --num 16 --seed 0 --out cats.png
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli.options import (
    ClassifierName,
    LengthFlags,
    ObjectiveName,
    OutputFlags,
    ParameterizationName,
    Seed,
    SystemFlags,
    class_objective,
)
from rsynth_jax.cli.report import Result, climb_numbers, image_arrays, report, title_of
from rsynth_jax.cli.run import monitor, run
from rsynth_jax.cli.sheets import Page

COLUMNS = 16  # of a sheet at most: --npz and --each have all images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-generate: new images of a class, from nothing but a robust classifier.

    Each image starts from a draw of its class's Gaussian and climbs the classifier's own score. The sheet
    has a row a class, of up to 16 images. Image i of a class depends on (seed, class, i) alone.

    The paper's procedure on CIFAR-10 is --temperature 1 --steps 60 --objective log-prob --step-size 0.5
    --schedule constant; at 224 pixels it has radius 40 and steps of 1. A small network over-saturates under
    it, so the default is shorter.
    """

    classifier: ClassifierName = "cifar10"
    classes: Annotated[tuple[str, ...], arg(name="class", metavar="CLASS ...")] = ("all",)
    """Classes by name or number; all for each of them."""
    num: int = 8
    """Images of each class."""
    seed: Seed = 0
    temperature: float = 1.2
    """Factor of a draw's distance from its class's mean: higher is more varied."""
    objective: ObjectiveName = "sum"
    steps: Annotated[int | None, arg(metavar="N")] = None
    """Number of steps of the ascent. By default five for every eight that the classifier's fakes climbed in
    dual training; 15 if it was trained otherwise."""
    schedule: str = "cosine"
    """Schedule of the step size: constant, or cosine down to 0."""
    momentum: float = 0.0
    """Decay of an average of the steps' directions; 0 for none."""
    parameterization: ParameterizationName = "pixel"
    ascent: LengthFlags = LengthFlags(radius=30.0, step_size=0.75)
    output: OutputFlags = OutputFlags(out=Path("generated.png"))
    system: SystemFlags = SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(num=self.num, temperature=self.temperature)
        checks.not_negative(seed=self.seed)
        checks.given(checks.not_negative, steps=self.steps)
        checks.below_one(momentum=self.momentum)


def generate(options: Options) -> int:
    """Generate and report."""
    from rsynth_jax.sampling import samplers
    from rsynth_jax.storage import releases
    from rsynth_jax.synthesis.parameterization import PARAMETERIZATIONS

    o = options
    objective = class_objective(o.objective)
    schedule = checks.named("schedule", o.schedule, samplers.SCHEDULES)
    coordinates = checks.named("parameterization", o.parameterization, PARAMETERIZATIONS)
    o.output.check_writable()
    release = releases.load(o.classifier)
    names = [release.class_names[label] for label in samplers.labels_of(release, o.classes)]
    steps = samplers.default_steps(release) if o.steps is None else o.steps
    settings: dict[str, Any] = {"objective": objective, "schedule": schedule, "parameterization": coordinates}
    settings |= {"num_steps": steps, "seed": o.seed, "temperature": o.temperature, "momentum": o.momentum}
    with monitor(o.num * len(names), steps, o.output.animated) as watched:
        samples = samplers.generate(release, o.classes, o.num, **settings, **o.ascent.settings, **watched.run)
    described = [{"class": name, "index": i} for name in names for i in range(o.num)]
    numbers = climb_numbers(samples, described)
    numbers["seconds"] = watched.seconds
    title = title_of(f"{o.objective}, {o.schedule}", steps, o.ascent, release)

    def page(step: int, images: np.ndarray) -> Page:
        cells = images.reshape(len(names), o.num, *images.shape[1:])
        return Page(cells[:, :COLUMNS], names, title.after(step))

    result = Result(
        page(steps, samples.images),
        numbers,
        f"{len(samples.images)} images of {', '.join(names)} in {watched.seconds:.1f} s; "
        f"mean log p {numbers['log_prob_start']:.2f} -> {numbers['log_prob']:.2f}, "
        f"l2 moved {numbers['l2_moved']:.2f}",
        image_arrays(release, samples),
        dict(zip(map("{class}-{index:04d}".format_map, described), samples.images, strict=True)),
        [page(frame.step, frame.images) for frame in watched.frames],
    )
    return report(o.output, result)


def main() -> None:
    """Run the command."""
    run(Options, generate)


if __name__ == "__main__":
    main()
