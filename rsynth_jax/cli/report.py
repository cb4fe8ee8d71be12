"""Report what an image program made: files, numbers, one closing line.

result = edits(release, given, samples, watched, title, {"known_error": errors})
return report(options.output, result)
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rsynth_jax.cli import sheets
from rsynth_jax.cli.options import Inputs, LengthFlags, OutputFlags, is_animation
from rsynth_jax.cli.run import Monitor
from rsynth_jax.cli.sheets import Page
from rsynth_jax.metrics import estimates
from rsynth_jax.storage import files

if TYPE_CHECKING:
    from rsynth_jax.sampling.runner import Samples
    from rsynth_jax.storage.releases import Release
    from rsynth_jax.types import Bytes

ROWS = 16  # of a sheet of edits at most: --npz and --each have all images


class Result(NamedTuple):
    """What an image program made, ready to be written.

    Attributes:
      sheet: the contact sheet.
      numbers: everything printed, as plain values.
      closing: the closing line after the name of the file.
      arrays: the images and what describes them.
      each: the images by name.
      frames: the pages of the animation.
      skipped: a line for each file that could not be read.
    """

    sheet: Page
    numbers: Mapping[str, Any]
    closing: str
    arrays: Mapping[str, np.ndarray] = {}
    each: Mapping[str, np.ndarray] = {}
    frames: Sequence[Page] = ()
    skipped: Sequence[str] = ()


class Title(NamedTuple):
    """The title of a sheet: the objective's name, the steps, their length at the classifier's side."""

    name: str
    steps: int
    step_size: float

    def after(self, step: int) -> str:
        """Describe the images after so many steps; each stroke of several takes `steps`."""
        done = (step - 1) % self.steps + 1 if step else 0
        return f"{self.name}, {done} of {self.steps} steps of {self.step_size:g}"


def title_of(name: str, steps: int, flags: LengthFlags, release: "Release") -> Title:
    """Describe an ascent by its flags."""
    from rsynth_jax.sampling.samplers import SIDE

    return Title(name, steps, flags.step_size * release.image_shape[0] / SIDE)


def report(output: OutputFlags, result: Result) -> int:
    """Write the files that the flags ask for, and print the closing line. Returns the exit status."""
    folder = output.out.with_suffix("") if output.each else None
    write(result, sheet=output.out, each=folder, gif=output.gif, npz=output.npz, json=output.json)
    return close(output.out, result)


def write(
    result: Result,
    *,
    sheet: Path | None = None,
    each: Path | None = None,
    gif: Path | None = None,
    npz: Path | None = None,
    json: Path | None = None,
) -> None:
    """Write each file that has a path; a sheet whose name ends in .gif is an animation."""
    for path in filter(None, (sheet, gif)):
        if is_animation(path):
            sheets.write_animation(path, result.frames)
        else:
            sheets.write_sheet(path, result.sheet)
    if each is not None:
        for name, image in result.each.items():
            sheets.write_image(each / f"{name}.png", image)
    if npz is not None:
        files.write_arrays(npz, result.arrays)
    if json is not None:
        files.write_json(json, result.numbers)


def close(out: Path, result: Result) -> int:
    """Print the closing line and the skipped files. Returns the exit status: 1 if a file was skipped."""
    print(f"{out}: {result.closing}")
    for message in result.skipped:
        print(f"skipped: {message}", file=sys.stderr)
    return 1 if result.skipped else 0


def print_lines(lines: Sequence[str], numbers: Mapping[str, Any], json: Path | None) -> int:
    """Write the numbers to a file, where there is one, and print the lines. Returns the exit status."""
    if json is not None:
        files.write_json(json, numbers)
    print(*lines, sep="\n")
    return 0


def edits(
    release: "Release",
    given: Inputs,
    samples: "Samples",
    watched: Monitor,
    title: Title,
    extra: Mapping[str, np.ndarray],
) -> Result:
    """Lay out edited images: a row each, as given, the start, the result, the difference.

    Args:
      release: the classifier.
      given: the images, of the size of the results.
      samples: the results and their labels.
      watched: the frames and the seconds.
      title: of the sheet.
      extra: more numbers of each image, (n,) each.
    """
    numbers = edit_numbers(release, given, samples, extra)
    numbers["seconds"] = watched.seconds
    captions = [_caption(image) for image in numbers["images"][:ROWS]]
    short = [caption.partition(",")[0] for caption in captions]

    def page(step: int, images: "Bytes", names: list[str]) -> Page:
        columns = (given.images, samples.starts, images, difference(given.images, images))
        cells = np.stack([column[:ROWS] for column in columns], axis=1)
        return Page(cells, names, f"given, start, {title.after(step)}, difference")

    more = "".join(f", {name.replace('_', ' ')} {numbers[name]:.4g}" for name in extra)
    return Result(
        page(title.steps, samples.images, captions),
        numbers,
        f"{len(given.images)} images in {watched.seconds:.1f} s; {numbers['share']:.0%} end in their class, "
        f"mean p {numbers['p_start']:.2f} -> {numbers['p']:.2f}, l2 moved {numbers['l2_moved']:.2f}{more}",
        image_arrays(release, samples) | {"given": given.images},
        dict(zip(given.names, samples.images, strict=True)),
        [page(frame.step, frame.images, short) for frame in watched.frames],
        given.skipped,
    )


def edit_numbers(
    release: "Release", given: Inputs, samples: "Samples", extra: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Measure edits: the share that ends in its class, means over all images, and the numbers of each."""
    from rsynth_jax.sampling.runner import predicted

    labels = _labels(samples)
    starts = predicted(samples.summary.start)
    ends = predicted(samples.summary.end)
    classes = release.class_names
    described = [
        {"name": name, "from": classes[start], "to": classes[label], "ends": classes[end]}
        | {key: float(column[i]) for key, column in extra.items()}
        for i, (name, start, label, end) in enumerate(zip(given.names, starts, labels, ends, strict=True))
    ]
    climb = climb_numbers(samples, described)
    log_probs = {
        f"p{when}": [image[f"log_prob{when}"] for image in climb["images"]] for when in ("_start", "")
    }
    probabilities = {name: float(np.mean(np.exp(column))) for name, column in log_probs.items()}
    share, *interval = estimates.share(ends == labels)
    means = {key: float(np.mean(column)) for key, column in extra.items()}
    return {"share": share, "interval": interval} | probabilities | means | climb


def climb_numbers(samples: "Samples", described: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Measure log p of the label before and after and the distance moved: means, and of each image.

    Args:
      samples: n images with labels.
      described: what to put before the numbers of each image.
    """
    from rsynth_jax.sampling.runner import log_prob

    labels = _labels(samples)
    columns = {
        "log_prob_start": log_prob(samples.summary.start, labels),
        "log_prob": log_prob(samples.summary.end, labels),
        "l2_moved": samples.summary.l2_moved,
    }
    each = [
        about | {name: float(column[i]) for name, column in columns.items()}
        for i, about in enumerate(described)
    ]
    return {name: float(column.mean()) for name, column in columns.items()} | {"images": each}


def image_arrays(release: "Release", samples: "Samples") -> dict[str, np.ndarray]:
    """The arrays of --npz: images, labels, class_names."""
    names = np.array(release.class_names)
    return {"images": samples.images, "labels": _labels(samples), "class_names": names}


def difference(given: "Bytes", result: "Bytes") -> "Bytes":
    """Show result - given, gray where nothing changed."""
    return np.clip(128 + (np.int16(result) - given), 0, 255).astype(np.uint8)


def largest_change(given: "Bytes", result: "Bytes", where: np.ndarray) -> np.ndarray:
    """Measure the largest change of a value of each image on the mask `where`, in bytes, (n,)."""
    return (np.abs(np.int16(result) - given) * where).max(axis=(1, 2, 3))


def _labels(samples: "Samples") -> np.ndarray:
    if samples.labels is None:
        raise TypeError("samples without labels")
    return samples.labels


def _caption(image: Mapping[str, Any]) -> str:
    """The name of a row: what the image was, what it became, how likely, how far."""
    p = np.exp(image["log_prob"])
    return f"{image['name']}: {image['from']} -> {image['to']}, p {p:.2f}, l2 {image['l2_moved']:.1f}"
