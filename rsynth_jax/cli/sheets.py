"""The door to pictures: captioned PNG sheets, animations, curves.

write_sheet("cats.png", images, columns=8, row_names=["cat", "dog"], title="logit, 20 steps of 0.2")
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import UInt8
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from rsynth_jax.images import encode, grid
from rsynth_jax.storage import files

matplotlib.use("agg")
import matplotlib.pyplot as plt

SIDE = 80  # pixels: smaller images are enlarged by a whole factor to at least this
BINS = 60  # of histograms
GAP, MARGIN, LINE, FONT = 4, 12, 30, 15
INK, PAPER = (30, 30, 30), (255, 255, 255)

PANELS = {
    "loss": ("loss",),
    "accuracy": ("clean_accuracy", "adversarial_accuracy", "test_clean", "test_adversarial"),
    "learning rate": ("learning_rate",),
}
GAME = {
    "energy": ("real_energy", "fake_energy"),
    "AUC of real and fake": ("auc",),
    "steps of fakes": ("num_steps",),
}

Bytes = UInt8[np.ndarray, "n h w c"]


class Page(NamedTuple):
    """What is to be seen at once: cells (rows, columns, h, w, c), the names of the rows, a title."""

    cells: np.ndarray
    names: Sequence[str]
    title: str

    def first(self, rows: int) -> tuple:
        """As `sheet` takes it, of the first rows alone."""
        shown = self.cells[:rows]
        return shown.reshape(-1, *shown.shape[2:]), shown.shape[1], self.names[:rows], self.title


def enlarged(images: Bytes) -> Bytes:
    """In color, each pixel a square block, so that the longer side is at least `SIDE`."""
    factor = max(1, -(-SIDE // max(images.shape[1:3])))
    return images.repeat(factor, axis=1).repeat(factor, axis=2).repeat(3 // images.shape[-1], axis=3)


def sheet(images: Bytes, columns: int, row_names: Sequence[str], title: str) -> Pillow.Image:
    """Rows of `columns` images, each row under its name at the left, below one line of title."""
    font = ImageFont.load_default(FONT)
    large = enlarged(images)
    cells = encode(grid(np.float32(large) / 255, columns, GAP))
    left = MARGIN + int(max(font.getlength(name) for name in row_names)) + MARGIN
    across = max(left + cells.shape[1], 2 * MARGIN + int(font.getlength(title)))
    page = Pillow.new("RGB", (across + MARGIN, LINE + cells.shape[0] + MARGIN), PAPER)
    page.paste(Pillow.fromarray(np.asarray(cells)), (left, LINE))
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, LINE // 2), title, INK, font, anchor="lm")
    for row, name in enumerate(row_names):
        middle = LINE + row * (large.shape[1] + GAP) + large.shape[1] // 2
        draw.text((MARGIN, middle), name, INK, font, anchor="lm")
    return page


def titles(objective: str, num_steps: int, step_size: float, num_frames: int) -> list[str]:
    """The titles of sheets at equal stages of a climb, the start the first and the end the last."""
    done = [num_steps * i // max(num_frames - 1, 1) for i in range(num_frames)]
    return [f"{objective}, {n} of {num_steps} steps of {step_size:g}" for n in done]


def write_image(path: Path, image: np.ndarray) -> None:
    """Write one image uint8 (h, w, 3) as a PNG, pixel by pixel."""
    content = io.BytesIO()
    Pillow.fromarray(image).save(content, format="PNG")
    files.write(path, content.getvalue())


def write_sheet(path: Path, images: Bytes, columns: int, row_names: Sequence[str], title: str) -> None:
    """Write a sheet as a PNG."""
    content = io.BytesIO()
    sheet(images, columns, row_names, title).save(content, format="PNG", optimize=True)
    files.write(path, content.getvalue())


def write_animation(
    path: Path, frames: Sequence[Bytes], columns: int, row_names: Sequence[str], titles: Sequence[str]
) -> None:
    """Write sheets, one a frame, as a GIF that rests on the last."""
    pages = [sheet(images, columns, row_names, title) for images, title in zip(frames, titles, strict=True)]
    content = io.BytesIO()
    durations = [250] * (len(pages) - 1) + [2500]
    pages[0].save(content, "GIF", save_all=True, append_images=pages[1:], duration=durations, loop=0)
    files.write(path, content.getvalue())


def moves(path: Path | None) -> bool:
    """Whether a file is an animation, by its name."""
    return path is not None and Path(path).suffix.lower() == ".gif"


def write_pages(path: Path, still: Page, pages: Sequence[Page], rows: int) -> None:
    """Write the first rows: of the pages as a GIF where the name ends so, else of the still one as a PNG."""
    if moves(path):
        frames, columns, names, titles = zip(*(page.first(rows) for page in pages), strict=True)
        write_animation(path, frames, columns[0], names[0], titles)
    else:
        write_sheet(path, *still.first(rows))


def write_curves(path: Path, log: Path) -> None:
    """The curves of a training run's JSON lines: `PANELS`, and `GAME` of a dual training."""
    records = [json.loads(line) for line in Path(log).read_text().splitlines()]
    logged = {name for record in records for name in record}
    panels = PANELS | (GAME if "auc" in logged else {})
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 4), layout="constrained")
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        for name in (name for name in names if name in logged):
            points = [(record["step"], record[name]) for record in records if name in record]
            axis.plot(*zip(*points, strict=True), "o-" if name.startswith("test") else "-", label=name)
        axis.set(title=title, xlabel="step")
        if logged:
            axis.legend()
    write_figure(path, figure)


def write_histograms(path: Path, values: Mapping[str, np.ndarray], xlabel: str) -> None:
    """The distributions of sets of numbers, a row a set, each over the first one's outline."""
    height = 1 + 0.8 * len(values)
    figure, axes = plt.subplots(
        len(values), figsize=(8, height), sharex=True, squeeze=False, layout="constrained"
    )
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), BINS)
    first = next(iter(values.values()))
    for axis, (name, numbers) in zip(axes[:, 0], values.items(), strict=True):
        axis.hist(numbers, edges, density=True, color="tab:blue")
        axis.hist(first, edges, density=True, histtype="step", color="tab:orange")
        axis.set(yticks=[])
        axis.set_title(name, loc="left", fontsize=10)
        axis.spines[["top", "right", "left"]].set_visible(False)
    axes[-1, 0].set(xlabel=xlabel)
    write_figure(path, figure)


def write_figure(path: Path, figure: plt.Figure) -> None:
    """Write a figure as a PNG, and close it."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100)
    plt.close(figure)
    files.write(path, content.getvalue())
