"""The door to one image file: a photograph, or a mask.

photo = read_image("holiday.jpg", size=32)  # uint8 (32, 32, 3), upright, its central square
mask = read_mask("hole.png", size=32)  # float32 (32, 32, 1)
"""

from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
LANCZOS = Pillow.Resampling.LANCZOS


def upright(picture: Pillow.Image, paper: str) -> Pillow.Image:
    """In RGB, turned as its EXIF says; what is transparent shows `paper`; 16 bits of grey become 8."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        grey = np.rint(np.clip(np.asarray(picture, np.float64) / 257, 0, 255))
        return Pillow.fromarray(grey.astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        behind = Pillow.new("RGBA", picture.size, paper)
        picture = Pillow.alpha_composite(behind, picture.convert("RGBA"))
    return picture.convert("RGB")


def square(picture: Pillow.Image, size: int | None, smooth: Pillow.Resampling = LANCZOS) -> np.ndarray:
    """The bytes; with `size`, the central square resized to size x size, larger or smaller."""
    if size is not None:
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        box = (left, top, left + side, top + side)
        picture = picture.resize((size, size), smooth, box)
    return np.asarray(picture)


def square_bytes(image: np.ndarray, size: int) -> np.ndarray:
    """`square` of an image (h, w, c) already decoded."""
    return square(Pillow.fromarray(image.squeeze()).convert("RGB"), size)


def opened(file: Path, paper: str) -> Pillow.Image:
    """The file's image, `upright`. Raises ValueError, in one line, for damage."""
    try:
        with Pillow.open(file) as picture:
            return upright(picture, paper)
    except Exception as error:  # damage shows in many kinds: OSError, SyntaxError, struct.error ...
        raise ValueError(f"cannot read the image {file}: {error}") from error


def read_image(file: Path, size: int | None) -> np.ndarray:
    """The image of a file of any mode (grey, palette, CMYK, 16 bits of grey), uint8 (h, w, 3).

    Turned upright as its EXIF says; what is transparent shows white; with `size`, the central square resized
    to size x size (Lanczos). Raises ValueError, in one line, for damage.
    """
    return square(opened(file, "white"), size)


def read_mask(file: Path, size: int | None) -> np.ndarray:
    """A mask by the same rule, float32 (h, w, 1): 0 where it is black or transparent, 1 where it is white.

    With `size`, each value is the mean of the area that it stands for. Raises ValueError as `read_image`.
    """
    grey = opened(file, "black").convert("L")
    return np.float32(square(grey, size, Pillow.Resampling.BOX)[:, :, None]) / np.float32(255)
