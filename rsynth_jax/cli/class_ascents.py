"""The ascent that makes images of a class from a classifier alone: its flags, bound to a release.

    class Options:
        climb: ClassAscentFlags = ClassAscentFlags()

    make, title = flags.climb.bind(release, ("cat",), 16, seed=0, lengths=flags.ascent, starts=None)
    samples = make(callback=monitor)

This module imports nothing heavy.
"""

import dataclasses
import functools
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import options
from rsynth_jax.cli.report import Title
from rsynth_jax.data import sources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsynth_jax.storage.releases import Release
    from rsynth_jax.types import Bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassAscentFlags:
    """The start, the objective and the steps of an ascent to a class."""

    temperature: Annotated[float | None, arg(metavar="T")] = None
    """Factor of a draw's distance from its class's mean: higher is more varied. By default that of the starts
    of the classifier's fakes in dual training; 1.2 if it was trained otherwise."""
    objective: options.ObjectiveName = "sum"
    steps: Annotated[int | None, arg(metavar="N")] = None
    """Number of steps of the ascent. By default five for every eight that the classifier's fakes climbed in
    dual training, 20 at most; 15 if it was trained otherwise."""
    step_size: Annotated[float | None, arg(metavar="LENGTH")] = None
    """l2 length of the first step, at 32 pixels; it grows with the side. By default all steps together go
    1.25 times as far as the classifier's fakes: of cifar10 15 cosine steps of 0.75."""
    schedule: str = "cosine"
    """Schedule of the step size: constant, or cosine down to 0."""
    momentum: float = 0.0
    """Decay of an average of the steps' directions; 0 for none."""
    parameterization: Annotated[str | None, arg(metavar="NAME")] = None
    """Coordinates of the ascent: pixel, pyramid (coarse to fine), fourier, or fourier:POWER. By default
    fourier:0.2 after dual training at 64 pixels or more, else pixel."""
    shift: Annotated[int | None, arg(metavar="N")] = None
    """Pixels by which each step's view of the image is shifted, at most: against the grid of a strided
    network. By default as those of the classifier's fakes in dual training; 0 if it was trained otherwise."""
    start: Annotated[str | None, arg(metavar="A")] = None
    """Images of any classes to start from, in place of draws: a folder, an .npz or an image. Image i of each
    class starts from image i."""

    def __post_init__(self) -> None:
        checks.given(checks.positive, temperature=self.temperature, step_size=self.step_size)
        checks.given(checks.not_negative, steps=self.steps, shift=self.shift)
        checks.below_one(momentum=self.momentum)

    def starts(self, release: "Release", num: int) -> sources.Pictures | None:
        """Read the first images of --start, at the classifier's side. Raises ValueError if there is none."""
        if self.start is None:
            return None
        return sources.read_all(sources.load(self.start, image_size=release.image_shape[0]).first(num))

    def bind(
        self,
        release: "Release",
        classes: "Sequence[str]",
        num: int,
        seed: int,
        lengths: options.LengthFlags,
        starts: "Bytes | None",
    ) -> tuple[functools.partial, Title]:
        """Bind the classifier's ascent to the flags, and make the title of the sheet.

        Raises ValueError for an objective, a schedule or a parameterization that does not exist.
        """
        from rsynth_jax.sampling import samplers
        from rsynth_jax.synthesis import parameterization
        from rsynth_jax.synthesis.objectives import CLASS_OBJECTIVES

        steps = samplers.default_steps(release) if self.steps is None else self.steps
        settings = {
            "objective": checks.named("objective", self.objective, CLASS_OBJECTIVES),
            "schedule": checks.named("schedule", self.schedule, samplers.SCHEDULES),
            "parameterization": self.parameterization and parameterization.named(self.parameterization),
        }
        step_size = self.step_size or samplers.default_step_size(release, steps, settings["schedule"])
        settings |= {"starts": starts, "seed": seed, "num_steps": steps, "step_size": step_size}
        settings |= {"temperature": self.temperature, "momentum": self.momentum, "max_shift": self.shift}
        settings |= lengths.settings(release)
        make = functools.partial(samplers.generate, release, classes, num, **settings)
        return make, Title(
            f"{self.objective}, {self.schedule}", steps, step_size * samplers.scale_of(release)
        )
