"""rsynth-translate: images turned into another class, from themselves and no further than a radius.

rsynth-translate photo.png --to dog --until 0.9 --out translated.png
"""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated

import jax.numpy as jnp
from tyro.conf import arg

from rsynth_jax import ascent, checks, console, gallery, objectives, studio, synthesis
from rsynth_jax.ascent import steepest
from rsynth_jax.objectives import TOWARDS
from rsynth_jax.projections import ball_in_box
from rsynth_jax.synthesis import Task


def translation(classifier, image, label, *, objective, radius):
    """From the image itself, climb towards another class, at most `radius` away."""
    return Task(image, TOWARDS[objective](classifier, label), ball_in_box(image, radius))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(studio.Options):
    """rsynth-translate: images turned into another class, from themselves and no further than a radius.

    With --until P each image stops at its first step that the classifier calls the class with probability P:
    the counterfactual, what would have to be different for the classifier to see the class.
    """

    label: Annotated[str, arg(name="to", metavar="CLASS")] = dataclasses.field()  # required
    """The class to become, by name or number."""
    until: Annotated[float | None, arg(metavar="P")] = None
    """Stop each image where the probability of the class reaches this; by default take every step."""
    out: Path = Path("translated.png")
    """The sheet, a PNG with a row an image, of up to 16: as given, the start, the result, the difference."""


def climber(options: Options) -> synthesis.ClimbFn:
    """The way up: all steps, or until the class is likely enough."""
    task = functools.partial(translation, objective=options.objective, radius=options.radius)
    steadily = synthesis.steadily(task, steepest("l2", options.step_size))
    if options.until is None:
        return steadily

    def stopping(classifier, image, label):
        start, climb = steadily(classifier, image, label)
        likely = objectives.log_prob(classifier, label)
        return start, ascent.stop_when(lambda image: jnp.exp(likely(image)) >= options.until, climb)

    return stopping


def translate(options: Options) -> int:
    """Load, climb, write."""
    checks.given(checks.share, until=options.until)
    subject = studio.read(options)
    options = studio.scaled(options, subject.release)
    return gallery.publish(options, subject, studio.paint(options, subject, climber(options)), {})


def main() -> None:
    """The command."""
    console.run(Options, translate)


if __name__ == "__main__":
    main()
