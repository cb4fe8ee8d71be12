"""rsynth-sketch: a drawing turned into an image of its class.

rsynth-sketch drawing.png --class bird --keep strokes --out bird.png
"""

import dataclasses
from pathlib import Path

from rsynth_jax import checks
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
from rsynth_jax.cli.run import monitor, run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-sketch: a drawing turned into an image of its class.

    Draw on any paper: the dark strokes or the edges of the drawing can be kept to the last bit. The sheet has
    a row an image, of up to 16: as given, the start, the result, the difference.

    The paper keeps nothing; its values, at 224 pixels: radius 40, 60 steps of 1.
    """

    input: InputFlags
    classifier: ClassifierName = "cifar10"
    label: ClassName = None
    keep: str = "nothing"
    """Part of the drawing that is kept as it is: nothing, strokes, or edges."""
    objective: ObjectiveName = "log-prob"
    ascent: AscentFlags = AscentFlags(radius=10.0, steps=40, step_size=0.2)
    output: OutputFlags = OutputFlags(out=Path("sketched.png"))
    system: SystemFlags = SystemFlags()


def sketch(options: Options) -> int:
    """Sketch and report."""
    from rsynth_jax.sampling import samplers
    from rsynth_jax.storage import releases
    from rsynth_jax.synthesis import tasks

    o = options
    kinds = {"nothing": tasks.no_pixels, "strokes": tasks.dark_pixels, "edges": tasks.edge_pixels}
    keep = checks.named("keep", o.keep, kinds)
    objective = class_objective(o.objective)
    o.output.check_writable()
    release = releases.load(o.classifier)
    given = read(o.input, release, o.label)
    with monitor(len(given.images), o.ascent.steps, o.output.animated) as watched:
        settings = o.ascent.settings | watched.run
        samples = samplers.sketch(
            release, given.images, given.labels, keep=keep, objective=objective, **settings
        )
    title = title_of(o.objective, o.ascent.steps, o.ascent, release)
    return report(o.output, edits(release, given, samples, watched, title, {}))


def main() -> None:
    """Run the command."""
    run(Options, sketch)


if __name__ == "__main__":
    main()
