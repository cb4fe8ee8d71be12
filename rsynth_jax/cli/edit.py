"""Run a program that edits images: read, climb, report.

    class Options(EditFlags):
        ascent: AscentFlags = AscentFlags(radius=10.0, steps=40, step_size=0.2)
        output: OutputFlags = OutputFlags(out=Path("sketched.png"))

    def sketch(options: Options) -> int:
        return edit(options, sampler)

This module imports nothing heavy.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rsynth_jax.cli.options import (
    AscentFlags,
    ClassifierName,
    ClassName,
    InputFlags,
    ObjectiveName,
    OutputFlags,
    SystemFlags,
    class_objective,
    read,
)
from rsynth_jax.cli.report import edits, report, title_of
from rsynth_jax.cli.run import monitor
from rsynth_jax.data import image_files

if TYPE_CHECKING:
    from rsynth_jax.sampling.runner import Samples

# (release, given, **arguments of a sampler) -> the samples, and more numbers of each image, (n,) each
EditSampler = Callable[..., "tuple[Samples, Mapping[str, np.ndarray]]"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EditFlags:
    """Flags of programs that edit images."""

    input: InputFlags
    classifier: ClassifierName = "cifar10"
    label: ClassName = None
    objective: ObjectiveName = "log-prob"
    ascent: AscentFlags
    output: OutputFlags
    system: SystemFlags = SystemFlags()


def edit(options: EditFlags, sampler: EditSampler, *, factor: int = 1, rounds: int = 1) -> int:
    """Read the images, run the sampler on them, and report. Returns the exit status.

    Args:
      options: the flags.
      sampler: given the release, the `Inputs`, and objective, radius, num_steps ... by keyword.
      factor: see `read`.
      rounds: how often the sampler climbs the number of steps that the flags give.

    Raises:
      ValueError: a flag or a file makes no sense; nothing has been written.
    """
    from rsynth_jax.storage import releases

    o = options
    objective = class_objective(o.objective)
    o.output.check_writable()
    release = releases.load(o.classifier)
    given = read(o.input, release, o.label, factor)
    with monitor(len(given.images), rounds * o.ascent.steps, o.output.animated) as watched:
        settings = o.ascent.settings | watched.run
        samples, extra = sampler(release, given, objective=objective, **settings)
    title = title_of(o.objective, o.ascent.steps, o.ascent, release)
    return report(o.output, edits(release, given, samples, watched, title, extra))


def read_mask(file: Path, side: int, white: str) -> np.ndarray:
    """Read a mask, float32 (side, side, 1). Raises ValueError if nothing is white, which means `white`."""
    mask = image_files.read_mask(file, side)
    if not mask.any():
        raise ValueError(f"{file} is black: white is {white}")
    return mask
