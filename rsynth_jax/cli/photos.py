"""Photographs of any size, edited by a small network: describe the part that is worked on, write the results.

    targets = photos.targets(flags.photo.photo, given)        # before the work
    photos.announce(given, outputs, written=bool(targets))
    lines, numbers = photos.described(release, given, samples, 40)   # after it
    photos.write(targets, given, samples.images, composite)

This module imports nothing heavy.
"""

import collections
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from rsynth_jax.cli import options, sheets
from rsynth_jax.cli.report import ROWS, say
from rsynth_jax.data import crops, image_files, tiles
from rsynth_jax.data.crops import Frame
from rsynth_jax.data.regions import Regions
from rsynth_jax.data.sources import Pictures
from rsynth_jax.data.tiles import Tiling
from rsynth_jax.storage import files

if TYPE_CHECKING:
    from rsynth_jax.sampling.runner import Samples
    from rsynth_jax.storage.releases import Release
    from rsynth_jax.types import Bytes

_HINT = "--photo PATH writes the photographs at their own resolution"
_UNLIKE = "unlike the training images: p {p:.2f} is lower than of 95 % of the test images"
_SEEN = "seen as {seen} (p {p_seen:.2f}), now as {ends} (p {p_ends:.2f})"
# The photograph's pixels, its frame, and the small image as given and after -> the pixels to write.
Paste = Callable[["Bytes", Frame, "Bytes", "Bytes"], "Bytes"]


def composite(photo: "Bytes", frame: Frame, before: "Bytes", after: "Bytes") -> "Bytes":
    """Add the change of the whole box, which fades at the borders of the box inside the photograph."""
    weights = crops.feathered(frame.height, frame.width, frame.box)
    return crops.composite(photo, frame.box, before, after, weights)


def composite_in(where: Regions) -> Paste:
    """Add the change inside of regions; it fades at the borders of the box."""

    def paste(photo: "Bytes", frame: Frame, before: "Bytes", after: "Bytes") -> "Bytes":
        inside = where.within(frame, frame.box.height, frame.box.width) > 0
        weights = inside * crops.feathered(frame.height, frame.width, frame.box)
        return crops.composite(photo, frame.box, before, after, weights)

    return paste


def enlarged(photo: "Bytes", frame: Frame, before: "Bytes", after: "Bytes") -> "Bytes":
    """The result itself, which has more pixels than the photograph; it is gray if the photograph is."""
    size = after.shape[:2]
    blank = np.zeros((*size, photo.shape[-1]), np.uint8)
    return crops.composite(blank, crops.whole(*size), 0 * after, after)


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
    suffix = path.suffix.lower()
    if suffix not in image_files.SUFFIXES:
        if suffix in Image.registered_extensions() and not path.is_dir():
            raise ValueError(f"cannot write {path}: give a name in .png, .jpg or .webp, or a folder")
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


def write(
    targets: Sequence[Path], given: Pictures, images: "Bytes", paste: Paste, in_color: bool = False
) -> None:
    """Write each photograph with its change, one after the other; a gray one stays gray, but `in_color`."""
    for i, (file, target) in enumerate(zip(given.files or (), targets, strict=False)):
        photo = image_files.read_photograph(file, in_color)
        pixels = paste(photo.pixels, given.frames[i], given.images[i], images[i])
        gray = pixels.shape[-1] == 1
        sheets.write_picture(target, Image.fromarray(pixels[:, :, 0] if gray else pixels), **photo.metadata)


def announce(given: Pictures, outputs: Iterable[Path | None], *, written: bool = True) -> None:
    """Print which part of each photograph is worked on, and at which size; nothing of arrays.

    Unless the photographs are `written`, the last line says how they would be.

    Args:
      outputs: the other files that are written, see `report.say`.
    """
    if given.files is None:
        return
    height, width = given.images.shape[1:3]
    worked = [f"{_part(frame)} worked on at {width} x {height}" for frame in given.frames]
    is_larger = any(max(frame.box[2:]) > height for frame in given.frames)
    say(_of_each(given, worked) + [_HINT] * (is_larger and not written), outputs)


def described(
    release: "Release", given: Pictures, samples: "Samples", batch_size: int
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Describe photographs: a line each, with the classes seen before and after; columns of numbers.

    One more line warns of each that is unlike the training images: whose class has less probability than in
    95 % of the test images. There is nothing to describe of images that are not in files of their own.
    """
    from rsynth_jax.models import embedding
    from rsynth_jax.sampling.runner import log_prob

    if given.files is None:
        return [], {}
    network = (release.model, release.variables)
    columns = {"crop": np.array([",".join(map(str, frame.box)) for frame in given.frames])}
    ends = {"seen": embedding.embed_images(*network, given.images, batch_size), "ends": samples.summary.end}
    for name, outputs in ends.items():
        columns[name] = np.array(release.class_names)[outputs.predicted]
        columns[f"p_{name}"] = np.exp(log_prob(outputs, outputs.predicted))
    rows = zip(*columns.values(), strict=True)
    seen = [_SEEN.format_map(dict(zip(columns, row, strict=True))) for row in rows]
    columns["unlike"] = columns["p_seen"] < release.recipe.get("low_p", 0.0)
    warned = np.flatnonzero(columns["unlike"][:ROWS])
    warnings = [f"{given.names[i]}: {_UNLIKE.format(p=columns['p_seen'][i])}" for i in warned]
    return _of_each(given, seen) + warnings, columns


def _of_each(given: Pictures, texts: Sequence[str]) -> list[str]:
    """A line for each of the first images."""
    lines = [f"{name}: {text}" for name, text in zip(given.names[:ROWS], texts, strict=False)]
    return lines + [f"and {len(given.names) - ROWS} more"] * (len(given.names) > ROWS)


class Tiled(NamedTuple):
    """The part of one photograph that is worked on, and its tiles."""

    whole: Pictures
    tiles: Pictures
    tiling: Tiling


def announce_tiles(tiled: Tiled, outputs: Iterable[Path | None], written: bool) -> None:
    """Print which part of a photograph is worked on, and in how many tiles, as `announce`."""
    (name,), (frame,), side = tiled.whole.names, tiled.whole.frames, tiled.tiling.side
    size = f"{len(tiled.tiles.images)} tiles of {side} x {side}"
    say([f"{name}: {_part(frame)} worked on in {size}", *[_HINT] * (not written)], outputs)


def described_tiles(tiled: Tiled, each: Sequence[Mapping[str, Any]]) -> list[str]:
    """Describe a photograph that is edited in tiles in one line, by the numbers of each tile."""
    shares = []
    for column in ("from", "ends"):
        label, num = collections.Counter(row[column] for row in each).most_common(1)[0]
        shares.append(f"{num / len(each):.0%} as {label}")
    return [f"{tiled.whole.names[0]}: {shares[0]}, then {shares[1]}"]


def read_tiled(flags: Any, release: "Release", factor: int) -> Tiled:
    """Read the one photograph of a program that edits it in tiles.

    Each tile is as large as the classifier's images, of `factor` times fewer pixels a side, each a block.
    Raises ValueError unless there is one image file.
    """
    from rsynth_jax.sampling.samplers import enlarged

    side = release.image_shape[0]
    stored = options.open_images(flags.input, side, factor, fit=lambda image, *_: image)
    if stored.files is None or len(stored) > 1 or flags.input.image_size:
        raise ValueError("--tile works on one photograph as it is: give one image file, no --image-size")
    (name,), (file,) = stored.names, stored.files.tolist()
    image = stored[0].image
    height, width = image.shape[:2]
    frame = image_files.frame(file, flags.photo.box or crops.whole(height, width))
    part = crops.cut(image, frame.box)
    tiling = tiles.plan(frame.box.height, frame.box.width, side // factor)
    cells = enlarged(tiles.cut(part, tiling), factor)
    names = tuple(f"tile-{i:04d}" for i in range(len(cells)))
    return Tiled(
        Pictures(enlarged(part[None], factor), (name,), (), files=(file,), frames=(frame,)),
        Pictures(cells, names, (), options.class_asked(flags.label), frames=(frame,), tiling=tiling),
        tiling,
    )


def _part(frame: Frame) -> str:
    """768 x 512, central 512 x 512."""
    box, size = frame.box, f"{frame.width} x {frame.height}"
    if box == crops.whole(frame.height, frame.width):
        return f"{size}, all of it"
    if box == crops.central_square(frame.height, frame.width):
        return f"{size}, central {box.width} x {box.height}"
    return f"{size}, {box.width} x {box.height} at {box.left},{box.top}"


def masks_of(where: Regions, given: Pictures, white: str) -> np.ndarray:
    """Make the mask of each image, float32 (n, h, w, 1). Raises ValueError where nothing is white."""
    masks: dict[Frame, np.ndarray] = {}
    for frame in set(given.frames):
        size = given.images.shape[1:3] if given.tiling is None else (frame.box.height, frame.box.width)
        masks[frame] = where.within(frame, *size)
        if not masks[frame].any():
            raise ValueError(f"{' '.join(where.words)} is black: white is {white}")
    if given.tiling is not None:
        return tiles.cut(masks[given.frames[0]], given.tiling)
    return np.stack([masks[frame] for frame in given.frames])
