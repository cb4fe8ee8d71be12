"""rsynth-sketch: a drawing turned into an image of its class.

rsynth-sketch drawing.png --class bird --keep strokes --out bird.png
"""

import dataclasses
import functools
from pathlib import Path

from rsynth_jax import checks
from rsynth_jax.cli.edit import EditFlags, edit
from rsynth_jax.cli.options import AscentFlags, OutputFlags
from rsynth_jax.cli.run import run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(EditFlags):
    """rsynth-sketch: a drawing turned into an image of its class.

    Draw on any paper: the dark strokes or the edges of the drawing can be kept to the last bit. The sheet has
    a row an image, of up to 16: as given, the start, the result, the difference.

    The paper keeps nothing; its values, at 224 pixels: radius 40, 60 steps of 1.
    """

    keep: str = "nothing"
    """Part of the drawing that is kept as it is: nothing, strokes, or edges."""
    ascent: AscentFlags = AscentFlags(radius=10.0, steps=40, step_size=0.2)
    output: OutputFlags = OutputFlags(out=Path("sketched.png"))


def sketch(flags: Options) -> int:
    """Sketch and report."""
    from rsynth_jax.sampling import samplers
    from rsynth_jax.synthesis import tasks

    keep = checks.named("keep", flags.keep, tasks.KEPT)

    def sampler(release, given, **settings):
        return samplers.sketch(release, given.images, given.labels, keep=keep, **settings), {}

    return edit(flags, sampler, in_color=True)


main = functools.partial(run, Options, sketch)

if __name__ == "__main__":
    main()
