"""Draw curves and histograms; matplotlib is imported when the first one is drawn."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from rsynth_jax.cli.sheets import write_picture
from rsynth_jax.metrics.estimates import Estimate
from rsynth_jax.storage import paths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 60  # of histograms
CURVES = {
    "loss": ("loss",),
    "accuracy": ("clean_accuracy", "adversarial_accuracy", "test_clean", "test_adversarial"),
    "learning rate": ("learning_rate",),
}
DUAL_CURVES = {
    "energy": ("real_energy", "fake_energy"),
    "AUC of real and fake": ("auc",),
    "steps of fakes": ("num_steps",),
}
GAN_CURVES = {"loss": ("loss", "generator_loss"), "score": ("real_score", "fake_score")}
EVOLUTION_CURVES = {
    "share of the survivors": "won_",
    "quality of the children": "quality_",
    "diversity of the children": "diversity_",
}  # a curve for each mutation, by the start of the names
WINDOW = 25  # logged steps, of whose values the mean is drawn


def write_curves(path: Path, log: Path) -> None:
    """Draw a training run's JSON lines: `CURVES`, and `DUAL_CURVES` of dual training."""
    records = _records(log)
    panels = CURVES | (DUAL_CURVES if "num_steps" in _logged(records) else {})
    _write_panels(path, records, panels)


def write_gan_curves(path: Path, log: Path) -> None:
    """Draw the JSON lines of a generator's training: `GAN_CURVES`, other losses and mutations, if any.

    A point of a mutation's curve is the mean of the last `WINDOW` lines, so the shares are of a window.
    """
    records = _records(log)
    logged = sorted(_logged(records))
    named = {
        title: tuple(name for name in logged if name.startswith(start))
        for title, start in EVOLUTION_CURVES.items()
    }
    evolved = {title: names for title, names in named.items() if names}
    for name in (name for names in evolved.values() for name in names):
        held = [record for record in records if name in record]
        values = [record[name] for record in held]
        for i, record in enumerate(held):
            record[name] = float(np.mean(values[max(0, i + 1 - WINDOW) : i + 1]))
    terms = tuple(name for name in logged if name.endswith("_loss") and name != "generator_loss")
    others = {"other losses of the generator": terms} if terms else {}
    _write_panels(path, records, GAN_CURVES | others | evolved)


def write_segmenter_curves(path: Path, log: Path) -> None:
    """Draw the JSON lines of a segmenter's training: the loss, and the IoU of each class on test images."""
    records = _records(log)
    tested = sorted(name for name in _logged(records) if name.startswith("test_iou"))
    _write_panels(path, records, {"loss": ("loss",), "IoU of the test images": tuple(tested)})


def effect_curves(curves: Mapping[str, Mapping[str, Mapping[int, Estimate]]], ylabel: str) -> Image.Image:
    """Draw effects over numbers of units with their 95 % intervals: a panel a title, a curve a name."""
    figure, axes = _subplots(1, len(curves), figsize=(4.5 * len(curves), 3.2))
    for axis, (title, named) in zip(axes[0], curves.items(), strict=True):
        for name, points in named.items():
            values = list(points.values())
            lows, highs = [each.low for each in values], [each.high for each in values]
            (line,) = axis.plot(list(points), [each.value for each in values], "o-", label=name)
            axis.fill_between(list(points), lows, highs, color=line.get_color(), alpha=0.2)
        axis.set(title=title, xlabel="units", ylabel=ylabel)
        axis.legend()
    return _picture(figure)


def write_histograms(path: Path, values: Mapping[str, np.ndarray], xlabel: str) -> None:
    """Draw the distributions of sets of numbers, a row a set, each over the first set's outline."""
    figure, axes = _subplots(len(values), 1, figsize=(8, 1 + 0.8 * len(values)))
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), BINS)
    first = next(iter(values.values()))
    for axis, (name, numbers) in zip(axes[:, 0], values.items(), strict=True):
        axis.hist(numbers, edges, density=True, color="tab:blue")
        axis.hist(first, edges, density=True, histtype="step", color="tab:orange")
        axis.set(yticks=[])
        axis.set_title(name, loc="left", fontsize=10)
        axis.spines[["top", "right", "left"]].set_visible(False)
    axes[-1, 0].set(xlabel=xlabel)
    _write_figure(path, figure)


def _records(log: Path) -> list[dict[str, float]]:
    """The JSON lines of a log, without what was not measured."""
    lines = map(json.loads, paths.of(log).read_text().splitlines())
    return [{name: value for name, value in line.items() if value is not None} for line in lines]


def _logged(records: list[dict[str, float]]) -> set[str]:
    return {name for record in records for name in record}


def _write_panels(path: Path, records: list[dict[str, float]], panels: Mapping[str, tuple[str, ...]]) -> None:
    """A panel of curves over the steps for each title; of the names of a panel, those that are logged."""
    logged = _logged(records)
    figure, axes = _subplots(1, len(panels), figsize=(5 * len(panels), 4))
    for axis, (title, names) in zip(axes[0], panels.items(), strict=True):
        for name in (name for name in names if name in logged):
            points = [(record["step"], record[name]) for record in records if name in record]
            axis.plot(*zip(*points, strict=True), "o-" if name.startswith("test") else "-", label=name)
        axis.set(title=title, xlabel="step")
        if axis.lines:
            axis.legend()
    _write_figure(path, figure)


def _subplots(rows: int, columns: int, **settings: Any) -> tuple["Figure", np.ndarray]:
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained", **settings)
    return figure, figure.subplots(rows, columns, sharex="col", squeeze=False)


def _write_figure(path: Path, figure: "Figure") -> None:
    write_picture(path, _picture(figure))


def _picture(figure: "Figure") -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
