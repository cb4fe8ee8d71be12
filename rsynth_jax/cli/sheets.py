"""Draw contact sheets and animations with NumPy and Pillow.

page = Page(cells, names=["cat", "dog"], title="logit, 20 steps of 0.2")
write_picture(Path("cats.png"), draw(page))
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rsynth_jax.storage import files

if TYPE_CHECKING:
    from rsynth_jax.types import Bytes

SIDE = 80  # pixels: smaller images are enlarged by a whole factor to at least this
GAP = 4  # pixels between images
MARGIN = 12
LINE = 30  # height of the title
FONT = 15
INK = (30, 30, 30)
PAPER = (255, 255, 255)
YELLOW = (255, 230, 0)
CYAN = (0, 255, 255)
FRAME = 250  # milliseconds of a frame of an animation
LAST = 2500  # milliseconds of its last frame
_PNG = {"format": "PNG", "optimize": True}
_JPEG = {"format": "JPEG", "quality": 95, "subsampling": 0}
FORMATS: dict[str, dict[str, Any]] = {".png": _PNG, ".jpg": _JPEG, ".jpeg": _JPEG}
FORMATS |= {".webp": {"format": "WEBP", "lossless": True}, ".bmp": {"format": "BMP"}}


class Page(NamedTuple):
    """A sheet: images in rows, each row under a name at its left, below a title of one line."""

    cells: np.ndarray  # uint8 (rows, columns, h, w, c), with 1 or 3 channels
    names: Sequence[str]  # of the rows
    title: str


def bare(page: Page) -> Page:
    """The page without its captions."""
    return page._replace(names=(), title="")


def draw(page: Page) -> Image.Image:
    """Draw a page; one without captions is its images alone, without a margin."""
    font = ImageFont.load_default(FONT)
    rows, columns, *shape = page.cells.shape
    large = enlarge(page.cells.reshape(rows * columns, *shape))
    pitch = large.shape[1] + GAP
    grid = _grid(large.reshape(rows, columns, *large.shape[1:]))
    if not (page.names or page.title):
        return Image.fromarray(grid[:-GAP, :-GAP])
    left = MARGIN + int(max(font.getlength(name) for name in page.names)) + MARGIN
    width = max(left + grid.shape[1], 2 * MARGIN + int(font.getlength(page.title)))
    sheet = Image.new("RGB", (width + MARGIN, LINE + grid.shape[0] + MARGIN), PAPER)
    sheet.paste(Image.fromarray(grid), (left, LINE))
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, LINE // 2), page.title, INK, font, anchor="lm")
    for row, name in enumerate(page.names):
        middle = LINE + row * pitch + large.shape[1] // 2
        pen.text((MARGIN, middle), name, INK, font, anchor="lm")
    return sheet


def stack(*pictures: Image.Image) -> Image.Image:
    """Put pictures below each other, on paper."""
    sheet = Image.new(
        "RGB", (max(each.width for each in pictures), sum(each.height for each in pictures)), PAPER
    )
    top = 0
    for each in pictures:
        sheet.paste(each, (0, top))
        top += each.height
    return sheet


def darkened(images: "Bytes", inside: np.ndarray) -> "Bytes":
    """Darken images (n, h, w, 3) outside of a region (n, h, w)."""
    return np.where(inside[..., None], images, images // 2).astype(np.uint8)


def outlined(images: "Bytes", inside: np.ndarray, color: tuple[int, int, int] = YELLOW) -> "Bytes":
    """Draw the border of a region (n, h, w) into images (n, h, w, 3)."""
    padded = np.pad(inside, ((0, 0), (1, 1), (1, 1)), mode="edge")  # none along the sides
    core = padded[:, :-2, 1:-1] & padded[:, 2:, 1:-1] & padded[:, 1:-1, :-2] & padded[:, 1:-1, 2:]
    return np.where((inside & ~core)[..., None], np.array(color, np.uint8), images)


def enlarge(images: "Bytes") -> "Bytes":
    """Repeat pixels so that the longer side is at least `SIDE`, and gray channels so that there are three."""
    factor = max(1, -(-SIDE // max(images.shape[1:3])))
    return images.repeat(factor, axis=1).repeat(factor, axis=2).repeat(3 // images.shape[-1], axis=3)


def write_picture(path: Path, picture: Image.Image, **metadata: bytes) -> None:
    """Write a picture in the format of the path's suffix, and a PNG to a device or a pipe without one.

    `metadata` are exif and icc_profile, which a BMP does not hold.
    """
    settings = FORMATS.get(path.suffix.lower()) or (_PNG if files.is_stream(path) else None)
    if settings is None:
        raise ValueError(f"cannot write {path}: end its name in {' or '.join(FORMATS)}")
    _save(path, picture, **settings, **metadata)


def write_animation(path: Path, pages: Sequence[Page]) -> None:
    """Write pages, one a frame, as a GIF that stays longest on the last."""
    first, *rest = [draw(page) for page in pages]
    durations = [FRAME] * len(rest) + [LAST]
    _save(path, first, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0)


def _save(path: Path, image: Image.Image, **settings: Any) -> None:
    content = io.BytesIO()
    with files.errors_as(f"cannot write {path}"):  # a side of more pixels than the format has
        image.save(content, **settings)
    files.write(path, content.getvalue())


def _grid(cells: np.ndarray) -> np.ndarray:
    """Join images (rows, columns, h, w, c) into one, each with a white gap below and to the right."""
    rows, columns, height, width, channels = cells.shape
    padded = np.pad(cells, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    return padded.swapaxes(1, 2).reshape(rows * (height + GAP), columns * (width + GAP), channels)
