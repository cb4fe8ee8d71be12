"""rsynth-translate: images turned into another class, from themselves and no further than a radius.

rsynth-translate photo.png --to dog --until 0.9 --coarse 4 --out translated.png
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import jax.numpy as jnp
import numpy as np
from tyro.conf import arg

from rsynth_jax import checks, images
from rsynth_jax.cli import options as studio
from rsynth_jax.cli import report as gallery
from rsynth_jax.cli import run as console
from rsynth_jax.data import image_files as photos
from rsynth_jax.synthesis import ascent, objectives
from rsynth_jax.synthesis import tasks as synthesis
from rsynth_jax.synthesis.ascent import steepest
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.objectives import CLASS_OBJECTIVES, add, perceptual, scale
from rsynth_jax.synthesis.projections import ball_in_box, dykstra, low_frequencies
from rsynth_jax.synthesis.tasks import Task

ROUNDS = 20  # of Dykstra's, between the coarse structure and the ball; the ball comes last and holds exactly


def translation(classifier, image, label, free, *, objective, radius, most):
    """From the image itself, climb towards another class, at most `radius` away.

    No value moves by more than `most`. Where `free` is 0 every pixel stays, exactly; where it is 1 it may
    become anything; between, a blend.
    """
    least, greatest = images.blends(image, free)
    near = ball_in_box(image, radius, jnp.maximum(least, image - most), jnp.minimum(greatest, image + most))
    return Task(image, CLASS_OBJECTIVES[objective](classifier, label), near)


def coarsely(task: Task, cycles: float) -> Task:
    """The same with the coarse structure of its start, all up to `cycles` an image, kept."""
    kept = low_frequencies(task.start, cycles / len(task.start))
    return task._replace(projection=dykstra(kept, task.projection, rounds=ROUNDS))


def alike(task: Task, weight: float, classifier) -> Task:
    """The same with a penalty on what its start's layers no longer have."""
    penalty = scale(weight, perceptual(classifier, task.start))
    return task._replace(objective=add(task.objective, penalty))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(studio.Options):
    """rsynth-translate: images turned into another class, from themselves and no further than a radius.

    With --until P each image stops at its first step that the classifier calls the class with probability P:
    the counterfactual, what would have to be different for the classifier to see the class. What matters of
    the image is kept by the radius, --most, --mask, --coarse and --resemble, as many as are given.
    """

    label: Annotated[str, arg(name="to", metavar="CLASS")] = dataclasses.field()  # required
    """The class to become, by name or number."""
    until: Annotated[float | None, arg(metavar="P")] = None
    """Stop each image where the probability of the class reaches this; by default take every step."""
    most: float = 1.0
    """Largest change of a single value, in pixel values of [0, 1]: an l-infinity ball. 1 is any change."""
    mask: Annotated[Path | None, arg(metavar="FILE")] = None
    """An image of what may change: white may, black stays to the last bit, grey is a soft edge."""
    coarse: Annotated[float | None, arg(metavar="CYCLES")] = None
    """Keep the coarse structure: all frequencies up to so many cycles an image, 0 being the mean color."""
    resemble: Annotated[float | None, arg(metavar="WEIGHT")] = None
    """Weight of the perceptual distance from the image, over the classifier's own layers, as a penalty.

    At 3 it keeps shapes and colors and leaves fine noise.
    """
    shift: int = 2
    """Each step looks at the image from up to so many pixels away: no grid of a strided network is left."""
    out: Path = Path("translated.png")
    """The sheet, a PNG with a row an image, of up to 16: as given, the start, the result, the difference."""


def climber(options: Options) -> synthesis.ClimbFn:
    """The way up within what is kept: all steps, or until the class is likely enough."""
    o = options

    def task_fn(classifier, image, label, free):
        asked = {"objective": o.objective, "radius": o.radius, "most": o.most}
        task = translation(classifier, image, label, free, **asked)
        task = task if o.coarse is None else coarsely(task, o.coarse)
        return task if o.resemble is None else alike(task, o.resemble, classifier)

    jittered = synthesis.jittered(task_fn, steepest(L2, o.step_size), o.shift)
    if o.until is None:
        return jittered

    def stopping(classifier, image, label, free):
        start, climb = jittered(classifier, image, label, free)
        likely = objectives.log_prob(classifier, label)
        return start, ascent.stop_when(lambda image: jnp.exp(likely(image)) >= o.until, climb)

    return stopping


def free_of(mask: Path | None, side: int) -> np.ndarray:
    """How freely each pixel may change, float32 (side, side, 1). Raises ValueError where none may."""
    free = np.ones((side, side, 1), np.float32) if mask is None else photos.read_mask(mask, side)
    if not free.any():
        raise ValueError(f"{mask} is black: white is what may change")
    return free


def check(options: Options) -> None:
    """Raise ValueError for a flag that makes no sense."""
    o = options
    checks.given(checks.share, until=o.until)
    checks.share(most=o.most)
    checks.given(checks.not_negative, coarse=o.coarse, resemble=o.resemble)
    checks.not_negative(shift=o.shift)


def translate(options: Options) -> int:
    """Load, climb, write."""
    check(options)
    subject = studio.read(options)
    options, given = studio.scaled(options, subject.release), subject.images
    free = free_of(options.mask, given.shape[1])
    each = np.broadcast_to(free, (len(given), *free.shape))
    painted = studio.paint(options, subject, climber(options), each)
    kept = {} if options.mask is None else {"known_error": studio.change(given, painted, free == 0)}
    return gallery.publish(options, subject, painted, kept)


def main() -> None:
    """The command."""
    console.run(Options, translate)


if __name__ == "__main__":
    main()
