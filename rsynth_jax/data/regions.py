"""Regions of photographs: rectangles, or mask files.

    frame = image_files.frame("holiday.jpg")
    hole = read(["40%,30%,60%,50%", "sign.png"])
    mask = hole.within(frame, 32, 32)                               # float32 (32, 32, 1), of the frame's box

A rectangle is LEFT,TOP,RIGHT,BOTTOM of the photograph as it is seen, in pixels or in percent. A mask file of
the photograph's size, lying or upright, is cropped as the photograph; any other one is of the box alone.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image as Pillow

from rsynth_jax.data import crops, image_files
from rsynth_jax.data.crops import Frame

_TURNS = {  # by the photograph's orientation, of a mask as the photograph is stored
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}
_NUMBER = r"\s*(\d+(?:\.\d+)?%?)\s*"
_NUMBERS = re.compile(r"[\d.,%\s]*,[\d.,%\s]*")  # no file, but a rectangle that lacks something
_RECTANGLE = re.compile(",".join([_NUMBER] * 4))


class Regions(NamedTuple):
    """Regions, whose mask files are read.

    Attributes:
      words: rectangles LEFT,TOP,RIGHT,BOTTOM, and names of mask files.
      masks: of each word the mask in its file, float32 (h, w, 1), None for a rectangle.
    """

    words: tuple[str, ...]
    masks: tuple[np.ndarray | None, ...]

    @property
    def each(self) -> list["Regions"]:
        """Each region alone."""
        return [Regions((word,), (mask,)) for word, mask in zip(self.words, self.masks, strict=True)]

    def within(self, frame: Frame, height: int, width: int) -> Float[np.ndarray, "height width 1"]:
        """Make the mask of their union: 1 inside, 0 outside, between at a soft edge, of the frame's box.

        Args:
          frame: of the photograph.
          height, width: of the result; each value is the mean over the area that it stands for.

        Raises:
          ValueError: in one line, for a rectangle that is empty or misses the part worked on.
        """
        pairs = zip(self.words, self.masks, strict=True)
        parts = (_rectangle(word, frame) if mask is None else _fitted(mask, frame) for word, mask in pairs)
        return np.max([resized(part, height, width) for part in parts], axis=0)


def read(words: Sequence[str]) -> Regions:
    """Read regions. Raises ValueError, in one line, for a bad rectangle, and as `image_files.read_mask`."""
    masks = (None if _is_rectangle(word) else image_files.read_mask(word) for word in words)
    return Regions(tuple(words), tuple(masks))


def resized(mask: np.ndarray, height: int, width: int) -> Float[np.ndarray, "height width 1"]:
    """Resize a mask (h, w, 1): means over areas."""
    return np.clip(crops.resized(mask, height, width, Pillow.Resampling.BOX), 0, 1)


def _is_rectangle(word: str) -> bool:
    if not _RECTANGLE.fullmatch(word) and _NUMBERS.fullmatch(word):
        raise ValueError(f"cannot read the rectangle {word[:40]}: give left,top,right,bottom, four numbers")
    return _RECTANGLE.fullmatch(word) is not None


def _rectangle(word: str, frame: Frame) -> np.ndarray:
    texts = re.findall(_NUMBER, word)
    mask = np.zeros((frame.height, frame.width, 1), np.float32)
    sides = (frame.width, frame.height) * 2
    left, top, right, bottom = (_pixels(text, side) for text, side in zip(texts, sides, strict=True))
    mask[top:bottom, left:right] = 1
    part = crops.cut(mask, frame.box)
    if not mask.any():
        raise ValueError(f"the rectangle {word} is empty: give left,top,right,bottom, in pixels or percent")
    if not part.any():
        raise ValueError(f"the rectangle {word} is outside of the part worked on: give another --crop")
    return part


def _pixels(text: str, side: int) -> int:
    return round(float(text[:-1]) / 100 * side if text.endswith("%") else float(text))


def _fitted(mask: np.ndarray, frame: Frame) -> np.ndarray:
    """The mask of a file, turned and cropped as the photograph."""
    size, own = (frame.height, frame.width), mask.shape[:2]
    if own == size[::-1] != size and frame.orientation in _TURNS:
        turned = Pillow.fromarray(mask[:, :, 0]).transpose(_TURNS[frame.orientation])
        mask = np.asarray(turned)[:, :, None]
        own = size
    return crops.cut(mask, frame.box if own == size else crops.central_square(*own))
