"""Photographs of any size, edited by a small network: describe the part that is worked on, write the results.

    targets = photos.targets(flags.photo.photo, given)        # before the work
    photos.write(targets, given, samples.images, composite)   # after it
    lines, numbers = photos.described(release, given, samples, written=bool(targets))

This module imports nothing heavy.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from rsynth_jax.cli import sheets
from rsynth_jax.cli.report import ROWS
from rsynth_jax.data import crops, image_files, regions
from rsynth_jax.data.crops import Frame
from rsynth_jax.data.sources import Pictures
from rsynth_jax.storage import files

if TYPE_CHECKING:
    from rsynth_jax.sampling.runner import Samples
    from rsynth_jax.storage.releases import Release
    from rsynth_jax.types import Bytes

_SEEN = "seen as {seen} (p {p_seen:.2f}), now as {ends} (p {p_ends:.2f})"
# The photograph's pixels, its frame, and the small image as given and after -> the pixels to write.
Paste = Callable[["Bytes", Frame, "Bytes", "Bytes"], "Bytes"]


def composite(photo: "Bytes", frame: Frame, before: "Bytes", after: "Bytes") -> "Bytes":
    """Add the change of the whole box, which fades at the borders of the box inside the photograph."""
    weights = crops.feathered(frame.height, frame.width, frame.box)
    return crops.composite(photo, frame.box, before, after, weights)


def composite_in(words: Sequence[str]) -> Paste:
    """Add the change inside of regions, see `regions.read`."""

    def paste(photo: "Bytes", frame: Frame, before: "Bytes", after: "Bytes") -> "Bytes":
        inside = regions.read(words, frame, frame.box.height, frame.box.width) > 0
        return crops.composite(photo, frame.box, before, after, inside.astype(np.float32))

    return paste


def targets(path: Path | None, given: Pictures, others: Sequence[Path | None] = ()) -> list[Path]:
    """Find the file that each edited photograph is written to, none if there is no path.

    A name that ends as an image's is the file of one photograph, any other one a folder. `others` are the
    other files that are written.

    Raises:
      ValueError: the images are not in files of their own, there are several for one file, or a file cannot
        be written or is the photograph itself.
    """
    if path is None:
        return []
    if given.files is None:
        raise ValueError("--photo writes edited photographs: give image files or a folder, not arrays")
    found = [path]
    if path.suffix.lower() not in image_files.SUFFIXES:
        pairs = zip(given.names, given.files, strict=True)
        found = [path / f"{name}{Path(file).suffix}" for name, file in pairs]
    elif len(given.files) > 1:
        raise ValueError(f"--photo {path} is one file for {len(given.files)} photographs: give a folder")
    same = [target for target in found if target in others]
    files.check_writable(*others, *(same or found[:1]))
    for file, target in zip(given.files, found, strict=True):
        if os.path.realpath(file) == os.path.realpath(target):
            raise ValueError(f"--photo {path} would replace {file}: give another place")
    return found


def write(targets: Sequence[Path], given: Pictures, images: "Bytes", paste: Paste) -> None:
    """Write each photograph with its change, one after the other."""
    for i, (file, target) in enumerate(zip(given.files or (), targets, strict=False)):
        photo = image_files.read_photograph(file)
        pixels = paste(photo.pixels, given.frames[i], given.images[i], images[i])
        gray = pixels.shape[-1] == 1
        sheets.write_picture(target, Image.fromarray(pixels[:, :, 0] if gray else pixels), **photo.metadata)


def described(
    release: "Release", given: Pictures, samples: "Samples", written: bool
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Describe photographs: a line each, with the part worked on and the classes seen; columns of numbers.

    There is nothing to describe of images that are not in files of their own. Unless the photographs are
    `written`, the last line says how they would be.
    """
    from rsynth_jax.models import embedding
    from rsynth_jax.sampling.runner import BATCH_SIZE, log_prob

    if given.files is None:
        return [], {}
    network = (release.model, release.variables)
    columns = {"crop": np.array([",".join(map(str, frame.box)) for frame in given.frames])}
    ends = {"seen": embedding.embed_images(*network, given.images, BATCH_SIZE), "ends": samples.summary.end}
    for name, outputs in ends.items():
        columns[name] = np.array(release.class_names)[outputs.predicted]
        columns[f"p_{name}"] = np.exp(log_prob(outputs, outputs.predicted))
    lines = [
        f"{name}: {_part(frame, given.images.shape[1:3])}; "
        + _SEEN.format_map({key: column[i] for key, column in columns.items()})
        for i, (name, frame) in enumerate(zip(given.names[:ROWS], given.frames, strict=False))
    ]
    lines += [f"and {len(given.names) - ROWS} more"] * (len(given.names) > ROWS)
    if not written and any(max(frame.box[2:]) > given.images.shape[1] for frame in given.frames):
        lines.append("--photo PATH writes the photographs at their own resolution")
    return lines, columns


def _part(frame: Frame, shape: Sequence[int]) -> str:
    """768 x 512, central 512 x 512 worked on at 32 x 32."""
    box, size = frame.box, f"{frame.width} x {frame.height}"
    if box == crops.whole(frame.height, frame.width):
        part = "all of it"
    elif box == crops.central_square(frame.height, frame.width):
        part = f"central {box.width} x {box.height}"
    else:
        part = f"{box.width} x {box.height} at {box.left},{box.top}"
    return f"{size}, {part} worked on at {shape[1]} x {shape[0]}"


def read_masks(words: Sequence[str], given: Pictures, white: str) -> np.ndarray:
    """Read the mask of each image, float32 (n, h, w, 1). Raises ValueError where nothing is white."""
    size = given.images.shape[1:3]
    masks: dict[Frame, Any] = {frame: regions.read(words, frame, *size) for frame in set(given.frames)}
    for mask in masks.values():
        if not mask.any():
            raise ValueError(f"{' '.join(words)} is black: white is {white}")
    return np.stack([masks[frame] for frame in given.frames])
