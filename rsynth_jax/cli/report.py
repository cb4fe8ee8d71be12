"""Report what a program made: files, numbers, a closing line.

result = Result(Page(cells, names, "logit, 40 steps of 0.1"), {"share": 0.9}, "8 images in 2.1 s")
return report(flags.output.out, result, **flags.output.written)
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from rsynth_jax.cli import sheets
from rsynth_jax.cli.options import is_animation
from rsynth_jax.cli.sheets import Page
from rsynth_jax.storage import files

if TYPE_CHECKING:
    from rsynth_jax.sampling.runner import Samples
    from rsynth_jax.storage.releases import Release
    from rsynth_jax.types import Bytes

ROWS = 16  # of a sheet at most: --npz and --each have all images
CHANGE = "mean log p {log_prob_start:.2f} -> {log_prob:.2f}, l2 moved {l2_moved:.2f}"


class Result(NamedTuple):
    """What an image program made, ready to be written."""

    sheet: Page
    numbers: Mapping[str, Any]  # everything printed, as plain values
    closing: str  # the closing line after the name of the file
    arrays: Mapping[str, np.ndarray] = {}  # the images and what describes them
    each: Mapping[str, np.ndarray] = {}  # the images by name
    frames: Sequence[Page] = ()  # of the animation
    skipped: Sequence[str] = ()  # a line for each file that could not be read
    lines: Sequence[str] = ()  # before the closing line


class Title(NamedTuple):
    """The title of a sheet: the objective's name, the steps, their length at the classifier's side."""

    name: str
    steps: int
    step_size: float

    def after(self, step: int) -> str:
        """Describe the images after so many steps; each stroke of several takes `steps`."""
        done = (step - 1) % self.steps + 1 if step else 0
        return f"{self.name}, {done} of {self.steps} steps of {self.step_size:g}"


def report(
    out: Path,
    result: Result,
    *,
    sheet: Path | None = None,
    gif: Path | None = None,
    npz: Path | None = None,
    json: Path | None = None,
    each: Path | None = None,
    bare: bool = False,
) -> int:
    """Write each file that has a path, and print a closing line about `out`, then the skipped files.

    A sheet whose name ends in .gif is an animation. `each` has the folder and the suffix of each image.
    `bare` ones have no captions. Returns the exit status: 1 if a file was skipped.
    """
    page, *frames = ((sheets.bare(page) if bare else page) for page in (result.sheet, *result.frames))
    if sheet is not None and not is_animation(sheet):
        sheets.write_picture(sheet, sheets.draw(page))
    for path in filter(None, (sheet if sheet and is_animation(sheet) else None, gif)):
        sheets.write_animation(path, frames)
    if each is not None:
        for name, image in result.each.items():
            sheets.write_picture(each.parent / f"{name}{each.suffix}", Image.fromarray(image))
    if npz is not None:
        files.write_arrays(npz, result.arrays)
    lines = [*result.lines, f"{out}: {result.closing}"]
    return print_lines(lines, result.numbers, json, result.skipped, sheet, gif, npz)


def print_lines(
    lines: Sequence[str],
    numbers: Mapping[str, Any],
    json: Path | None,
    skipped: Sequence[str] = (),
    *others: Path | None,
) -> int:
    """Write the numbers to a file, where there is one, and print the lines, then the images left out.

    Args:
      skipped: a line for each image that could not be read; it is among the numbers too.
      others: files that are written; where one, or `json`, is /dev/stdout, standard error gets the lines.

    Returns:
      The exit status: 1 if an image was skipped.
    """
    if json is not None:
        files.write_json(json, {**numbers, "skipped": list(skipped)} if skipped else numbers)
    say(lines, (json, *others))
    if not skipped:
        return 0
    print(
        *(f"skipped: {line}" for line in skipped),
        f"images skipped: {len(skipped)}",
        sep="\n",
        file=sys.stderr,
    )
    return 1


def say(lines: Sequence[str], outputs: Iterable[Path | None]) -> None:
    """Print lines at once: on standard error where one of the files that are written is /dev/stdout."""
    taken = any(files.is_output(path) for path in outputs if path is not None)
    for line in lines:
        print(line, file=sys.stderr if taken else sys.stdout, flush=True)


def rows(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Turn columns of one length into a row of plain values for each image."""
    values = (np.asarray(column).tolist() for column in columns.values())
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def climb_numbers(samples: "Samples", about: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Measure log p of the labels before and after and the distances moved: means, and of each image.

    `about` has columns (n,) to put before the numbers of each of the n images.
    """
    from rsynth_jax.sampling.runner import log_prob

    summary = samples.summary
    start, end = (log_prob(outputs, samples.labels) for outputs in (summary.start, summary.end))
    columns = {"log_prob_start": start, "log_prob": end, "l2_moved": summary.l2_moved}
    means = {name: float(column.mean()) for name, column in columns.items()}
    return means | {"images": rows({**about, **columns}), "seconds": seconds}


def image_arrays(release: "Release", images: "Bytes", labels: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of --npz: images, labels, class_names."""
    return {"images": images, "labels": labels, "class_names": np.array(release.class_names)}
