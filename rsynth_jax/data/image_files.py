"""Read one image file: a photograph, or a mask.

photo = read_image("holiday.jpg", size=32)  # uint8 (32, 32, 3), upright, its central square
whole = read_photograph("holiday.jpg")  # its pixels as they are, and its metadata
mask = read_mask("hole.png", size=32)  # float32 (32, 32, 1)
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from rsynth_jax.data import crops
from rsynth_jax.data.crops import Box, Frame
from rsynth_jax.storage import files, paths

if TYPE_CHECKING:
    from rsynth_jax.types import Bytes

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}

_FORMATS = (
    "PNG",
    "JPEG",
    "WEBP",
    "BMP",
)  # by content; Pillow starts Ghostscript for an EPS, whatever its name
_ORIENTATION = 0x0112  # of EXIF
_SPACES = {1: b"GRAY", 3: b"RGB "}  # of an ICC profile, by the channels
_LIGHT = 192  # the lightest value of a mask is this or more: white, blurred or compressed
_SYSTEM_NAMES = {"$recycle.bin", "system volume information", "thumbs.db", "desktop.ini", "__macosx"}
_SYSTEM_NAMES |= {"@eadir", "@tmp", "@recycle", "@__thumb", "#recycle", "#snapshot"}
_SYSTEM_NAMES |= {"lost+found", "__pycache__"}


@files.one_line_errors()
def listed(folder: Path) -> list[Path]:
    """List a folder by name, without hidden names and those that systems leave (@eaDir, __MACOSX ...)."""
    found = (path for path in paths.children(folder) if path.name.lower() not in _SYSTEM_NAMES)
    return sorted(path for path in found if not path.name.startswith("."))


def read_image(file: str | Path, size: int | None = None) -> np.ndarray:
    """Read an image file of any mode (palette, CMYK, 16 bits of grey ...) as uint8 (h, w, 3).

    It is turned upright as its EXIF tells; transparent pixels become white; with `size`, its central square
    is resized to size x size (Lanczos). Raises ValueError, in one line, for a damaged file, and for any but
    PNG, JPEG, WebP and BMP, which its content tells, not its name.
    """
    return _part(_open(file, "white"), size, Pillow.Resampling.LANCZOS)


class Photograph(NamedTuple):
    """A photograph as it is seen, upright: its pixels, and the metadata to write it with.

    Attributes:
      pixels: (h, w, 1) if all its pixels are gray, else (h, w, 3).
      exif: without the orientation; empty if there is none.
      icc_profile: of the color space of the pixels; empty if there is none.
    """

    pixels: "Bytes"
    exif: bytes
    icc_profile: bytes

    @property
    def metadata(self) -> dict[str, bytes]:
        """The arguments of Pillow's `save`."""
        return {name: value for name in ("exif", "icc_profile") if (value := getattr(self, name))}


def read_photograph(file: str | Path, in_color: bool = False) -> Photograph:
    """Read a photograph at its own resolution, see `read_image`; `in_color`, with three channels if gray."""
    with files.errors_as(f"cannot read the image {file}"), _recognized(files.read(file)) as picture:
        pixels = np.asarray(_upright(picture, "white"))
        exif, profile = picture.getexif(), picture.info.get("icc_profile") or b""
        exif.pop(_ORIENTATION, None)
        kept = exif.tobytes() if exif else b""
    if not in_color and (pixels == pixels[:, :, :1]).all():
        pixels = pixels[:, :, :1]
    return Photograph(pixels, kept, profile if profile[16:20] == _SPACES[pixels.shape[-1]] else b"")


def frame(file: str | Path, box: Box | None = None) -> Frame:
    """Find which part of a photograph is worked on, by default the central square; no pixels are read."""
    with files.errors_as(f"cannot read the image {file}"), _recognized(files.read(file)) as picture:
        orientation = picture.getexif().get(_ORIENTATION, 1)
        width, height = picture.size[::-1] if orientation in range(5, 9) else picture.size
    return Frame(height, width, crops.box_in(height, width, box), orientation)


def read_mask(file: str | Path, size: int | None = None) -> np.ndarray:
    """Read a mask, float32 (h, w, 1): 0 where it is black or transparent, 1 where it is white.

    As `read_image`, but each value of a resized mask is the mean over the area of its pixel. Raises
    ValueError also if the lightest value is not black and far from white, as in a mask of 0 and 1.
    """
    grey = _open(file, "black").convert("L")
    _, lightest = grey.getextrema()
    if 0 < lightest < _LIGHT:  # pyright: ignore[reportOperatorIssue]
        wanted = "save the mask with 0 for black and 255 for white"
        raise ValueError(f"{file}: its lightest value is {lightest} of 255, far from white: {wanted}")
    return _part(grey, size, Pillow.Resampling.BOX)[:, :, None].astype(np.float32) / np.float32(255)


def read_indices(file: str | Path) -> np.ndarray:
    """Read a PNG of indexed colors or of 8 bits of grey as its numbers, uint8 (h, w).

    Raises ValueError for any other file: the colors of a photo are no numbers.
    """
    with files.errors_as(f"cannot read the mask {file}"), _recognized(files.read(file)) as picture:
        if picture.format != "PNG" or picture.mode not in ("P", "L"):
            raise ValueError(f"it is a {picture.format} of {picture.mode}: save an indexed or grey PNG")
        return np.array(picture)


def square_indices(indices: np.ndarray, size: int | None) -> np.ndarray:
    """Resize the central square of numbers (h, w), each the nearest one; None: do not."""
    return _part(Pillow.fromarray(indices), size, Pillow.Resampling.NEAREST)


def decode(content: bytes) -> np.ndarray:
    """Decode an image of a data set as it is stored, uint8 (h, w, c). Raises ValueError if it is damaged."""
    with files.errors_as("cannot decode the image"), _recognized(content) as picture:
        image = np.asarray(picture)
    return image if image.ndim == 3 else image[:, :, None]


def square_bytes(image: np.ndarray, size: int | None, box: Box | None = None) -> np.ndarray:
    """Resize a box, by default the central square, of a decoded image, as `read_image`; None: do not.

    The image is uint8 (h, w, 1 or 3).

    Raises ValueError for another dtype.
    """
    if image.dtype != np.uint8:
        raise ValueError(f"images must be uint8, not {image.dtype}")
    if size is None:
        return image
    return _part(Pillow.fromarray(image.squeeze()).convert("RGB"), size, Pillow.Resampling.LANCZOS, box)


def _open(file: str | Path, paper: str) -> Pillow.Image:
    with files.errors_as(f"cannot read the image {file}"), _recognized(files.read(file)) as picture:
        return _upright(picture, paper)


def _upright(picture: Pillow.Image, paper: str) -> Pillow.Image:
    """In RGB, turned as its EXIF tells; transparent pixels show `paper`; 16 bits of grey become 8."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        grey = np.rint(np.clip(np.asarray(picture, np.float64) / 257, 0, 255))
        picture = Pillow.fromarray(grey.astype(np.uint8))
    if picture.has_transparency_data:
        behind = Pillow.new("RGBA", picture.size, paper)
        picture = Pillow.alpha_composite(behind, picture.convert("RGBA"))
    return picture.convert("RGB")


def _recognized(content: bytes) -> Pillow.Image:
    try:
        return Pillow.open(io.BytesIO(content), formats=_FORMATS)
    except UnidentifiedImageError:
        raise ValueError("it is no PNG, JPEG, WebP or BMP, or it is damaged") from None


def _part(
    picture: Pillow.Image, size: int | None, method: Pillow.Resampling, box: Box | None = None
) -> np.ndarray:
    """The bytes; with `size`, of a box, by default the central square, resized, larger or smaller."""
    if size is not None:
        left, top, width, height = crops.box_in(picture.height, picture.width, box)
        picture = picture.resize((size, size), method, (left, top, left + width, top + height))
    return np.asarray(picture)
