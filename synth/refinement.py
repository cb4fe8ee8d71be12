"""rsynth-refine: images moved a little towards their class, by a few small steps.

rsynth-refine generated.npz --out refined.npz --sheet refined.png
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from tyro.conf import arg

from rsynth_jax.cli.options import (
    AscentFlags,
    ClassifierName,
    ClassName,
    InputFlags,
    JsonFile,
    SystemFlags,
    read,
)
from rsynth_jax.cli.report import Result, climb_numbers, close, image_arrays, write
from rsynth_jax.cli.run import monitor, run
from rsynth_jax.cli.sheets import Page
from rsynth_jax.storage import files

if TYPE_CHECKING:
    from rsynth_jax.types import Bytes

COLUMNS = 16  # of a sheet at most: the .npz has all images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-refine: images moved a little towards their class, by a few small steps.

    For generated or damaged images of any source (BIGRoC, Ganz and Elad 2022). Each climbs the logit of its
    class inside a small l2 ball around itself.
    """

    input: InputFlags
    classifier: ClassifierName = "cifar10"
    label: ClassName = None
    ascent: AscentFlags = AscentFlags(radius=1.0, steps=5, step_size=0.2)
    out: Path = Path("refined.npz")
    """The refined images: images uint8 (n, h, w, c), labels, class_names."""
    sheet: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write a sheet, a PNG: the first images, before and after."""
    json: JsonFile = None
    system: SystemFlags = SystemFlags()


def refine(options: Options) -> int:
    """Refine and report."""
    from rsynth_jax.sampling import samplers
    from rsynth_jax.storage import releases

    o = options
    files.check_writable(o.out, o.sheet, o.json)
    release = releases.load(o.classifier)
    given = read(o.input, release, o.label)
    with monitor(len(given.images), o.ascent.steps) as watched:
        samples = samplers.refine(release, given.images, given.labels, **o.ascent.settings | watched.run)
    scale = release.image_shape[0] / samplers.SIDE
    sheet = before_and_after(given.images, samples.images, o.ascent, scale)
    arrays = image_arrays(release, samples)
    described = [{"class": release.class_names[label]} for label in arrays["labels"]]
    numbers = climb_numbers(samples, described)
    numbers["seconds"] = watched.seconds
    result = Result(
        sheet,
        numbers,
        f"{len(samples.images)} images refined in {watched.seconds:.1f} s; "
        f"mean log p {numbers['log_prob_start']:.2f} -> {numbers['log_prob']:.2f}, "
        f"l2 moved {numbers['l2_moved']:.2f}",
        arrays,
        frames=[sheet],
        skipped=given.skipped,
    )
    write(result, sheet=o.sheet, npz=o.out, json=o.json)
    return close(o.out, result)


def before_and_after(given: "Bytes", refined: "Bytes", flags: AscentFlags, scale: float) -> Page:
    """Lay out the first images, as given above, refined below; lengths are `scale` times the flags."""
    lengths = f"{flags.step_size * scale:g}, l2 radius {flags.radius * scale:g}"
    cells = np.stack([given[:COLUMNS], refined[:COLUMNS]])
    return Page(cells, ["given", "refined"], f"logit, {flags.steps} steps of {lengths}")


def main() -> None:
    """Run the command."""
    run(Options, refine)


if __name__ == "__main__":
    main()
