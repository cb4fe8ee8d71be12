"""rsynth-sketch: a drawing turned into an image of its class.

rsynth-sketch drawing.png --class bird --keep strokes --out bird.png
"""

import dataclasses
import functools
from pathlib import Path

import jax.numpy as jnp

from rsynth_jax import checks
from rsynth_jax.cli import options as studio
from rsynth_jax.cli import report as gallery
from rsynth_jax.cli import run as console
from rsynth_jax.synthesis import tasks as synthesis
from rsynth_jax.synthesis.ascent import steepest
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.objectives import CLASS_OBJECTIVES
from rsynth_jax.synthesis.projections import ball_in_box, chain, pixels
from rsynth_jax.synthesis.tasks import Task

DARK = 0.25  # a stroke is darker than this in its mean over the channels
STEEP = 0.25  # an edge differs by more than this from the pixel above or to the left


def strokes(image):
    """The dark pixels, bool (h, w, 1)."""
    return jnp.mean(image, axis=-1, keepdims=True) < DARK


def edges(image):
    """The pixels that differ much from the one above or to the left, bool (h, w, 1)."""
    grey = jnp.mean(image, axis=-1, keepdims=True)
    across = jnp.abs(jnp.diff(grey, axis=1, prepend=grey[:, :1]))
    down = jnp.abs(jnp.diff(grey, axis=0, prepend=grey[:1]))
    return jnp.maximum(across, down) > STEEP


def nothing(image):
    """No pixel, bool (h, w, 1)."""
    return jnp.zeros((*image.shape[:2], 1), bool)


KEEP = {"nothing": nothing, "strokes": strokes, "edges": edges}


def sketching(classifier, drawing, label, *, keep, objective, radius):
    """From the drawing, climb towards `label`, at most `radius` away; what is kept of it stays, exactly."""
    stay = chain(pixels(drawing, KEEP[keep](drawing)), ball_in_box(drawing, radius))
    return Task(drawing, CLASS_OBJECTIVES[objective](classifier, label), stay)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(studio.Options):
    """rsynth-sketch: a drawing turned into an image of its class.

    Draw on any paper: what is kept of the drawing, its dark strokes or its edges, stays to the last bit.
    """

    keep: str = "nothing"
    """What of the drawing stays as it is: nothing (the paper), strokes, or edges."""
    out: Path = Path("sketched.png")
    """The sheet, a PNG with a row an image, of up to 16: as given, the start, the result, the difference."""
    radius: float = 10.0
    """Largest l2 distance from the drawing, in pixel values of [0, 1] at 32 pixels (paper: 40 at 224)."""
    steps: int = 40
    """Steps of the ascent (paper: 60)."""
    step_size: float = 0.2
    """l2 length of a step, at 32 pixels (paper: 1 at 224)."""


def sketch(options: Options) -> int:
    """Load, climb, write."""
    checks.named("keep", options.keep, KEEP)
    subject = studio.read(options)
    options = studio.scaled(options, subject.release)
    task = functools.partial(sketching, keep=options.keep, objective=options.objective, radius=options.radius)
    climb_fn = synthesis.with_optimizer(task, steepest(L2, options.step_size))
    return gallery.publish(options, subject, studio.paint(options, subject, climb_fn), {})


def main() -> None:
    """The command."""
    console.run(Options, sketch)


if __name__ == "__main__":
    main()
