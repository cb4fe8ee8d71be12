"""Ten drawings, one of each class of CIFAR-10, flat shapes as a child might paint them; and masks.

python -m benchmarks.drawings WORK
rsynth-sketch WORK/drawings.npz --out sketched.png
rsynth-paint photo.png --stroke WORK/top.png:airplane --stroke WORK/left.png:dog --out painted.png
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from rsynth_jax.cli import sheets as pictures
from rsynth_jax.storage import files

SCALE = 8  # pixels a unit: a drawing is 32 units wide
SKY, GRASS, SEA, ROAD, PAPER = "#a8cdf0", "#6fa052", "#3f77a8", "#8a8a8a", "#e8e0d0"

# Of each the paper's color, then shapes, each over those before: a kind, its points in units, its color.
DRAWINGS = {
    "airplane": [
        SKY,
        ("ellipse", (3, 14, 29, 19), "white"),
        ("polygon", (12, 16, 20, 16, 15, 26, 11, 26), "#d8d8e0"),
        ("polygon", (14, 15, 20, 15, 14, 8, 11, 8), "#c8c8d0"),
        ("polygon", (3, 16, 8, 15, 5, 9, 2, 9), "#c03030"),
    ],
    "automobile": [
        SKY,
        ("rectangle", (0, 22, 32, 32), ROAD),
        ("polygon", (9, 15, 12, 10, 21, 10, 25, 15), "#90b0c0"),
        ("rectangle", (3, 15, 29, 23), "#d03028"),
        ("ellipse", (6, 20, 12, 26), "#202020"),
        ("ellipse", (21, 20, 27, 26), "#202020"),
    ],
    "bird": [
        GRASS,
        ("ellipse", (9, 12, 24, 22), "#7a5a3c"),
        ("ellipse", (19, 7, 27, 15), "#7a5a3c"),
        ("polygon", (26, 10, 31, 12, 26, 13), "#e0a020"),
        ("polygon", (11, 15, 2, 13, 10, 20), "#5c4028"),
        ("rectangle", (15, 21, 16, 28), "#302010"),
        ("rectangle", (18, 21, 19, 28), "#302010"),
    ],
    "cat": [
        PAPER,
        ("polygon", (6, 4, 13, 10, 6, 16), "#80705f"),
        ("polygon", (26, 4, 19, 10, 26, 16), "#80705f"),
        ("ellipse", (5, 7, 27, 28), "#988875"),
        ("ellipse", (10, 14, 14, 18), "#203018"),
        ("ellipse", (18, 14, 22, 18), "#203018"),
        ("polygon", (15, 20, 17, 20, 16, 22), "#c08080"),
    ],
    "deer": [
        GRASS,
        ("ellipse", (5, 13, 22, 21), "#a07448"),
        ("polygon", (19, 15, 23, 6, 26, 8, 22, 18), "#a07448"),
        ("ellipse", (21, 5, 29, 10), "#a07448"),
        ("rectangle", (7, 19, 9, 29), "#805830"),
        ("rectangle", (18, 19, 20, 29), "#805830"),
        ("line", (24, 6, 22, 1), "#402810"),
        ("line", (26, 6, 28, 1), "#402810"),
    ],
    "dog": [
        "#b8c8a0",
        ("ellipse", (6, 5, 26, 28), "#c89858"),
        ("ellipse", (3, 6, 10, 20), "#805020"),
        ("ellipse", (22, 6, 29, 20), "#805020"),
        ("ellipse", (10, 16, 22, 27), "#e8d0a8"),
        ("ellipse", (14, 17, 18, 20), "#181010"),
        ("ellipse", (10, 11, 13, 14), "#181010"),
        ("ellipse", (19, 11, 22, 14), "#181010"),
    ],
    "frog": [
        "#8a7a58",
        ("ellipse", (6, 11, 27, 26), "#58902c"),
        ("ellipse", (7, 7, 13, 13), "#58902c"),
        ("ellipse", (19, 7, 25, 13), "#58902c"),
        ("ellipse", (9, 8, 12, 11), "#181808"),
        ("ellipse", (20, 8, 23, 11), "#181808"),
        ("ellipse", (1, 20, 11, 28), "#48781f"),
        ("ellipse", (21, 20, 31, 28), "#48781f"),
    ],
    "horse": [
        SKY,
        ("rectangle", (0, 20, 32, 32), GRASS),
        ("ellipse", (5, 11, 23, 20), "#6b3c1c"),
        ("polygon", (18, 13, 24, 4, 28, 7, 22, 18), "#6b3c1c"),
        ("polygon", (23, 4, 31, 9, 29, 12, 23, 8), "#6b3c1c"),
        ("rectangle", (7, 18, 9, 29), "#502810"),
        ("rectangle", (19, 18, 21, 29), "#502810"),
        ("polygon", (6, 12, 2, 22, 5, 21), "#201008"),
    ],
    "ship": [
        SKY,
        ("rectangle", (0, 21, 32, 32), SEA),
        ("polygon", (2, 18, 30, 18, 26, 25, 6, 25), "#a02820"),
        ("rectangle", (10, 12, 23, 18), "white"),
        ("rectangle", (14, 5, 18, 12), "#303030"),
    ],
    "truck": [
        SKY,
        ("rectangle", (0, 24, 32, 32), ROAD),
        ("rectangle", (2, 6, 20, 23), "#e8e8e8"),
        ("rectangle", (21, 11, 30, 23), "#2858a8"),
        ("rectangle", (24, 13, 29, 17), "#b8d8e8"),
        ("ellipse", (4, 21, 10, 27), "#181818"),
        ("ellipse", (21, 21, 27, 27), "#181818"),
    ],
}


def drawn(paper: str, *shapes: tuple) -> np.ndarray:
    """One drawing, uint8 (h, w, 3)."""
    picture = Pillow.new("RGB", (32 * SCALE, 32 * SCALE), paper)
    pen = ImageDraw.Draw(picture)
    for kind, points, color in shapes:
        given = {"width": SCALE} if kind == "line" else {}
        getattr(pen, kind)([SCALE * point for point in points], fill=color, **given)
    return np.asarray(picture)


def masks() -> dict[str, np.ndarray]:
    """White over a half of the paper, fading to black within a quarter of it, uint8 (h, w, 3)."""
    side = 32 * SCALE
    fading = np.clip(2.5 - 4 * (np.arange(side) + 0.5) / side, 0, 1)
    left = np.broadcast_to(np.uint8(255 * fading)[None, :, None], (side, side, 3))
    top = left.swapaxes(0, 1)
    return {"left": left, "right": left[:, ::-1], "top": top, "bottom": top[::-1]}


def main() -> None:
    """Write all of them, the drawings with their classes."""
    work = Path(sys.argv[1])
    images = np.stack([drawn(*shapes) for shapes in DRAWINGS.values()])
    arrays = {"images": images, "labels": np.arange(len(images)), "class_names": np.array(list(DRAWINGS))}
    files.write_arrays(work / "drawings.npz", arrays)
    for name, mask in masks().items():
        pictures.write_image(work / f"{name}.png", np.ascontiguousarray(mask))


if __name__ == "__main__":
    main()
