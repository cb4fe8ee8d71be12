"""The part of a photograph that a small network works on, and the way back to the photograph's resolution.

    box = central_square(*photo.shape[:2])
    before = resized(cut(photo, box), 32, 32)             # `image_files.read_image` does so with Lanczos
    after = rs.translate(release, before[None], "dog")[0]
    whole = composite(photo, box, before, after)          # photo + upsampled(after - before), inside the box

Photographs are uint8 (h, w, c); one of a single channel is gray and stays gray: the change of its three
channels becomes their luma. The functions use NumPy and Pillow, and compile nothing.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image as Pillow

if TYPE_CHECKING:
    from rsynth_jax.types import Bytes

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of ITU-R BT.601, as Pillow's mode L
FEATHER = 1 / 16  # of the side of a box: over which a change fades at a border inside the photograph


class Box(NamedTuple):
    """A rectangle of a photograph, in pixels from its left upper corner."""

    left: int
    top: int
    width: int
    height: int


class Frame(NamedTuple):
    """Which part of a photograph an image shows: the photograph's size as it is seen, and the box in it.

    `orientation` is that of the file's EXIF, 1 ... 8, which the size and the box follow already.
    """

    height: int
    width: int
    box: Box
    orientation: int = 1


def whole(height: int, width: int) -> Box:
    """All of a photograph."""
    return Box(0, 0, width, height)


def central_square(height: int, width: int) -> Box:
    """The largest square in the middle."""
    side = min(height, width)
    return Box((width - side) // 2, (height - side) // 2, side, side)


def box_in(height: int, width: int, box: Box | None) -> Box:
    """The box, by default the central square. Raises ValueError if it is empty or leaves the photograph."""
    if box is None:
        return central_square(height, width)
    if min(box) < 0 or not (box.width and box.height):
        raise ValueError(
            f"a crop of {','.join(map(str, box))} is empty: give left,top,width,height in pixels"
        )
    if box.left + box.width > width or box.top + box.height > height:
        raise ValueError(f"the crop {','.join(map(str, box))} leaves the photograph of {width} x {height}")
    return box


def cut(photo: np.ndarray, box: Box) -> np.ndarray:
    """The pixels (height, width, c) inside a box: a view."""
    return photo[box.top : box.top + box.height, box.left : box.left + box.width]


def resized(
    values: np.ndarray, height: int, width: int, method: Pillow.Resampling = Pillow.Resampling.BICUBIC
) -> Float[np.ndarray, "height width c"]:
    """Resize an array (h, w, c) of any numbers, by default bicubic: float32, not rounded."""
    channels = (Pillow.fromarray(channel) for channel in np.moveaxis(values.astype(np.float32), -1, 0))
    return np.stack([np.asarray(channel.resize((width, height), method)) for channel in channels], axis=-1)


def composite(
    photo: "Bytes",
    box: Box,
    before: "Bytes",
    after: "Bytes",
    weights: Float[np.ndarray, "height width 1"] | float = 1.0,
) -> "Bytes":
    """Add the change of a small image to the photograph: photo + weights * upsampled(after - before).

    Args:
      photo: (h, w, 3), or (h, w, 1) if it is gray.
      box: the part of the photograph that the small images show.
      before: the small image as it was given.
      after: the result.
      weights: of the change; where they are 0 no byte of the photograph changes.
    """
    change = _like(photo, after - before.astype(np.float32))
    return _pasted(photo, box, cut(photo, box) + weights * resized(change, box.height, box.width))


def fill(photo: "Bytes", box: Box, after: "Bytes", hole: Float[np.ndarray, "height width 1"]) -> "Bytes":
    """Fill a hole of the photograph with a small image: (1 - hole) * photo + hole * upsampled(after).

    Unlike `composite` it leaves nothing of the photograph in the hole, and so no edges of what was there.
    Where `hole` is 0 no byte changes.
    """
    new = resized(_like(photo, after.astype(np.float32)), box.height, box.width)
    return _pasted(photo, box, (1 - hole) * cut(photo, box) + hole * new)


def known(
    photo: "Bytes", box: Box, hole: Float[np.ndarray, "height width 1"], size: int
) -> UInt8[np.ndarray, "size size c"]:
    """Lower a box of the photograph to size x size, with nothing of what is in its hole.

    Each value is the mean of the known pixels of its area; where there are none it is 0.
    """
    part, weights = cut(photo, box), 1 - hole
    total, weight = (resized(each, size, size, Pillow.Resampling.BOX) for each in (weights * part, weights))
    return np.rint(np.clip(total / np.maximum(weight, 1e-6), 0, 255)).astype(np.uint8)


def feathered(height: int, width: int, box: Box) -> Float[np.ndarray, "height width 1"]:
    """Weights of a change of the whole box: 1, and a smooth fall at the borders inside the photograph."""
    across = _fall(box.width, box.left > 0, box.left + box.width < width)
    down = _fall(box.height, box.top > 0, box.top + box.height < height)
    return (down[:, None] * across)[:, :, None]


def _fall(length: int, first: bool, last: bool) -> np.ndarray:
    """A raised cosine at the first and the last end, where asked for."""
    distance = (np.arange(length, dtype=np.float32) + 0.5) / max(FEATHER * length, 1)
    rise = np.sin(np.pi / 2 * np.minimum(distance, 1)) ** 2
    return (rise if first else 1) * (rise[::-1] if last else np.ones_like(rise))


def _like(photo: "Bytes", values: np.ndarray) -> np.ndarray:
    """The values with as many channels as the photograph."""
    return values @ LUMA[:, None] if photo.shape[-1] < values.shape[-1] else values


def _pasted(photo: "Bytes", box: Box, part: np.ndarray) -> "Bytes":
    result = photo.copy()
    cut(result, box)[:] = np.rint(np.clip(part, 0, 255))
    return result
