"""The log of a segmenter's training: JSON lines, a progress bar, the test images' IoU, a sheet of masks.

with segmenter_log(out, run, test, step=0) as log:
    log.step(step, metrics)                    # after every step; logs some
    log.snapshot(state, release)               # IoU, a sheet, the release, a checkpoint
    log.save(state)                            # a checkpoint
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from rich.progress import Progress

from rsynth_jax.cli import sheets, training_run
from rsynth_jax.cli.run import Clock, progress_bar
from rsynth_jax.cli.train_log import continued
from rsynth_jax.data.masks import Masked
from rsynth_jax.storage import segmenters
from rsynth_jax.storage.segmenters import SegmenterRelease
from rsynth_jax.training import segmentation
from rsynth_jax.training.segmentation import SegmenterRun
from rsynth_jax.training.state import TrainState

LOG_EVERY = 20  # steps
SHOWN = 8  # test images on a sheet: the first ones
SHEET = "segmented.png"  # its name inside a run
REMEDY = "lower --learning-rate"  # of weights that diverge
_NOW = "loss {loss:.3f}  accuracy {accuracy:.1%}  {images_per_second:.0f} images/s"


class SegmenterLog:
    """The JSON lines, the progress bar and the sheets of a segmenter's training."""

    def __init__(self, out: Path, file: IO[bytes], bar: Progress, run: SegmenterRun, test: Masked, step: int):
        self._out = out
        self._file = file
        self._bar = bar
        self._run = run
        self._test = test
        self._clock = Clock()
        self._logged = step
        self._task = bar.add_task("training", total=run.recipe.num_steps, completed=step, now="")

    def step(self, step: int, metrics: Any) -> None:
        """Log every `LOG_EVERY`-th step and the last. Raises ValueError for a loss that is not finite."""
        if step % LOG_EVERY and step != self._run.recipe.num_steps:
            return
        values = {name: float(value) for name, value in metrics._asdict().items()}
        training_run.check_finite(step, values, REMEDY)
        images = (step - self._logged) * self._run.recipe.batch_size
        self._logged = step
        record = {"step": step, **values, "images_per_second": images / self._clock.lap()}
        training_run.append(self._file, record)
        self._bar.update(self._task, completed=step, now=_NOW.format(**record))

    def snapshot(self, state: TrainState, release: SegmenterRelease) -> None:
        """Log and print the IoU on the test images, write the release and a sheet of masks, and `save`.

        Raises ValueError for a state that holds NaN or infinity.
        """
        step = int(state.step)
        training_run.check_finite(step, state, REMEDY)
        clock = Clock()
        values = dict(zip(release.class_names, release.iou, strict=True))
        mean = float(np.mean(release.iou))
        record = {"step": step, "test_num": len(self._test.images), "test_iou": mean}
        training_run.append(
            self._file, record | {f"test_iou_{name}": value for name, value in values.items()}
        )
        self._bar.console.print(f"step {step}: {segmenters.describe(release)}")
        segmenters.save(self._out / segmenters.RELEASE, release)
        sheets.write_picture(self._out / SHEET, sheets.draw(self._page(release, step)))
        self._clock.pause(clock.lap())
        self.save(state)

    def save(self, state: TrainState) -> None:
        """Write a checkpoint. Raises ValueError for a state that holds NaN or infinity."""
        clock = Clock()
        training_run.save(self._out, state, state, REMEDY)
        self._clock.pause(clock.lap())

    def _page(self, release: SegmenterRelease, step: int) -> sheets.Page:
        images, masks = self._test.images[:SHOWN], self._test.masks[:SHOWN]
        found = segmentation.segment(release.config, release.variables, images)
        colors = class_colors(len(release.class_names))
        cells = np.stack([images, colors[masks], colors[found]])
        title = (
            f"the first {len(images)} test images after {step} steps; colors: {legend(release.class_names)}"
        )
        return sheets.Page(cells, ["image", "human mask", "segmenter"], title)


@contextlib.contextmanager
def segmenter_log(out: Path, run: SegmenterRun, test: Masked, step: int) -> Iterator[SegmenterLog]:
    """Append to the log of a run that has done `step` steps, without what it has past them; show progress."""
    with continued(out / training_run.LOG, step) as file, progress_bar("{task.fields[now]}") as bar:
        yield SegmenterLog(out, file, bar, run, test, step)


_COLORS = {"grey": (128, 128, 128), "beige": (222, 203, 164), "blue": (31, 119, 180), "red": (214, 39, 40)}
_COLORS |= {"green": (44, 160, 44), "orange": (255, 127, 14), "violet": (148, 103, 189)}


def class_colors(num: int) -> np.ndarray:
    """Return a color for each class, uint8 (num, 3); past the named ones they are drawn from a fixed seed."""
    more = np.random.default_rng(0).integers(0, 256, (max(0, num - len(_COLORS)), 3), np.uint8)
    return np.concatenate([np.array(list(_COLORS.values()), np.uint8), more])[:num]


def legend(class_names: Sequence[str]) -> str:
    """Write which named color is which class."""
    return ", ".join(f"{color} {name}" for color, name in zip(_COLORS, class_names, strict=False))
