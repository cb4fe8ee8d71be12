"""The log of a segmenter's training: its steps, the test images' IoU, a sheet of masks.

with segmenter_log(options, run, test, step=0) as log:
    log.step(step, checked)                    # after every step; logs some
    log.snapshot(state, release)               # IoU, a sheet, the release, a checkpoint
    log.save(state)                            # a checkpoint
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rsynth_jax.cli import sheets
from rsynth_jax.cli.run_log import RunLog, run_log
from rsynth_jax.data.masks import Masked
from rsynth_jax.storage import segmenters
from rsynth_jax.storage.segmenters import SegmenterRelease
from rsynth_jax.training import segmentation
from rsynth_jax.training.finite import Checked
from rsynth_jax.training.segmentation import SegmenterRun
from rsynth_jax.training.state import TrainState

LOG_EVERY = 20  # steps
SHOWN = 8  # test images on a sheet: the first ones
SHEET = "segmented.png"  # its name inside a run
REMEDY = "lower --learning-rate"  # of weights that diverge
_NOW = "loss {loss:.3f} accuracy {accuracy:.0%} {images_per_second:.0f}/s"


class SegmenterLog:
    """The steps and the measurements of a segmenter's training."""

    def __init__(self, log: RunLog, run: SegmenterRun, test: Masked):
        self._log = log
        self._run = run
        self._test = test
        self.save = log.save
        self.save_if_due = log.save_if_due

    def step(self, step: int, checked: Checked) -> None:
        """Log every `LOG_EVERY`-th step and the last. Raises ValueError for a step so far that diverged."""
        self._log.note(step, checked)
        if step % LOG_EVERY and step != self._run.recipe.num_steps:
            return
        self._log.settle()
        values = {name: float(value) for name, value in checked.metrics._asdict().items()}
        speed = self._run.recipe.batch_size * self._log.steps_per_second(step)
        record = {"step": step, **values, "images_per_second": speed}
        self._log.record(record, _NOW.format(**record))

    def snapshot(self, state: TrainState, release: SegmenterRelease) -> None:
        """Log and print the IoU on the test images, write the release and a sheet of masks, and `save`.

        Raises ValueError for a step so far that diverged.
        """
        self._log.settle()
        step = int(state.step)
        with self._log.paused():
            values = dict(zip(release.class_names, release.iou, strict=True))
            mean = float(np.mean(release.iou))
            record = {"step": step, "test_num": len(self._test.images), "test_iou": mean}
            self._log.record(record | {f"test_iou_{name}": value for name, value in values.items()})
            self._log.print(f"step {step}: {segmenters.describe(release)}")
            segmenters.save(self._log.folder / segmenters.RELEASE, release)
            sheet = sheets.draw(self._page(release, step))
            sheets.write_picture(self._log.folder / SHEET, sheet)
            self._log.picture(step, "segmented", lambda: sheet)
        self.save(state)

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
def segmenter_log(options: Any, run: SegmenterRun, test: Masked, step: int) -> Iterator[SegmenterLog]:
    """Log a run that has done `step` steps, as `run_log`."""
    with run_log(options, run.recipe.num_steps, step, REMEDY) as log:
        yield SegmenterLog(log, run, test)


_COLORS = {"grey": (128, 128, 128), "beige": (222, 203, 164), "blue": (31, 119, 180), "red": (214, 39, 40)}
_COLORS |= {"green": (44, 160, 44), "orange": (255, 127, 14), "violet": (148, 103, 189)}


def class_colors(num: int) -> np.ndarray:
    """Return a color for each class, uint8 (num, 3); past the named ones they are drawn from a fixed seed."""
    more = np.random.default_rng(0).integers(0, 256, (max(0, num - len(_COLORS)), 3), np.uint8)
    return np.concatenate([np.array(list(_COLORS.values()), np.uint8), more])[:num]


def legend(class_names: Sequence[str]) -> str:
    """Write which named color is which class."""
    return ", ".join(f"{color} {name}" for color, name in zip(_COLORS, class_names, strict=False))
