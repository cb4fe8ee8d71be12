"""Describe a dissection for a program: its tables, its numbers, its sheet.

    view = View(subject, "layer3", survey, found, labels, units=20)
    page = units_page(view, "facades-style-64")
    result = changed(view, label, insert)

This module imports nothing heavy.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from rsynth_jax.cli import plots, sheets
from rsynth_jax.cli.sheets import Page
from rsynth_jax.metrics.estimates import Estimate

if TYPE_CHECKING:
    from rsynth_jax.sampling.dissection import Changed, Found, Subject, Survey
    from rsynth_jax.types import Bytes

IOU, RATIO = 0.05, 0.01  # above which a unit is interpretable, Bau et al. 2019
ROWS = 4  # units of each class on a sheet
COLUMNS = 8  # images of a row
LISTED = 5  # units of each class on a line


class View(NamedTuple):
    """A dissected layer, and how it is to be described."""

    subject: "Subject"
    layer: str
    survey: "Survey"
    found: "Found"
    labels: Sequence[int]  # classes to describe
    units: int  # of a set

    @property
    def names(self) -> tuple[str, ...]:
        """Of all classes."""
        return self.subject.class_names


def agreements(view: View) -> dict[str, Any]:
    """The table of each class: its share of the pixels, its interpretable units, and the first ones."""
    best, tail = view.found.best, view.found.tail
    interpretable = (best.iou > IOU) & (best.ratio > RATIO)
    own = best.iou.argmax(axis=1)  # the class of each unit
    table = {}
    for label in view.labels:
        order = _ordered(view, label)[: view.units]
        levels = view.found.levels[best.row[order, label], order]
        columns = {"unit": order, "iou": best.iou[order, label], "ratio": best.ratio[order, label]}
        columns |= {"level": levels, "iou_at_tail": tail.iou[order, label]}
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        table[view.names[label]] = {
            "pixels": float((view.survey.classes == label).mean()),
            "interpretable": int((interpretable[:, label] & (own == label)).sum()),
            "units": [dict(zip(columns, row, strict=True)) for row in rows],
        }
    return table


def describe(view: View, table: dict[str, Any]) -> list[str]:
    """A line for each class of the table."""
    lines = []
    for name, row in table.items():
        first = [f"{each['unit']} ({each['iou']:.2f}, {each['ratio']:.3f})" for each in row["units"][:LISTED]]
        of = f"{row['interpretable']} of {view.survey.maps.shape[-1]} units are detectors"
        lines.append(f"{name} ({row['pixels']:.1%} of pixels): units (IoU, ratio) {', '.join(first)}; {of}")
    return lines


def units_page(view: View, network: str) -> Page:
    """A row for each of the first units of each class: the images that excite it most, and where it is on."""
    from rsynth_jax.sampling import dissection

    cells, captions = [], []
    peaks = dissection.peaks(view.survey)
    images = sheets.enlarge(view.survey.images)
    for label in view.labels:
        for unit in _ordered(view, label)[:ROWS]:
            rows = np.argsort(-peaks[:, unit], kind="stable")[:COLUMNS]
            best = view.found.best
            level = float(view.found.levels[best.row[unit, label], unit])
            inside = dissection.regions(view.survey.maps[rows, ..., unit], level, images.shape[1:3])
            cells.append(sheets.outlined(images[rows], inside))
            captions.append(f"{view.names[label]}: unit {unit}, IoU {best.iou[unit, label]:.2f}")
    height, width, units = view.survey.maps.shape[1:]
    about = f"{view.layer} of {network[-40:]}, {height} x {width}, {units} units"
    return Page(
        np.stack(cells), captions, f"{about}: the images that excite a unit most; bright: where it is on"
    )


class Effect(NamedTuple):
    """What a set of units of a class does.

    Attributes:
      numbers: plain values.
      lines: of the report.
      curves: effects by the name of the set, and the number of units.
      rows: images before and after, by caption.
    """

    numbers: dict[str, Any]
    lines: list[str]
    curves: dict[str, dict[int, Estimate]]
    rows: dict[str, "Bytes"]


def effect_of(
    view: View, label: int, insert: bool, orders: Mapping[str, Sequence[np.ndarray]], **run: Any
) -> Effect:
    """Ablate sets of units everywhere, or insert them at a random place of each image, and measure.

    Args:
      orders: of all units, by the name of the set: the first is described and shown, the last is random.
      run: seed, batch_size.
    """
    from rsynth_jax.sampling import dissection

    survey, name = view.survey, view.names[label]
    num_units = survey.maps.shape[-1]
    most = min(view.units, num_units)
    numbers = dissection.numbers_of_units(most)
    where = (view.subject, survey, view.layer, label)
    curves = {
        f"{kind} units": dict(zip(numbers, dissection.effects(*where, own, numbers, **run), strict=True))
        for kind, own in orders.items()
    }
    values = dissection.insertion(survey, label) if insert else np.zeros(num_units, np.float32)
    spots = dissection.places(run["seed"], len(survey.maps), survey.maps.shape[1:])
    spots = spots if insert else np.ones_like(spots)
    sets = {"before": [[]]} | {kind: [order[:most] for order in own] for kind, own in orders.items()}
    ends = {
        kind: _mean_change(view, label, own, values, spots, run["batch_size"]) for kind, own in sets.items()
    }
    first = next(iter(orders))
    scores = {kind: float(end.scores.mean()) for kind, end in ends.items()}
    about: dict[str, Any] = {"scores": scores, "units": most, "order": orders[first][0][:most].tolist()}
    if insert:
        gained = ends[first].scores - ends["before"].scores
        groups = dissection.by_surroundings(survey, spots, gained, len(view.names))
        about["gain_by_surroundings"] = {
            view.names[own]: {"gain": gain, "images": images} for own, (gain, images) in groups.items()
        }
    about["effects"] = {
        kind: {str(number): each._asdict() for number, each in points.items()}
        for kind, points in curves.items()
    }
    verb = "inserted" if insert else "ablated"
    rows = np.argsort(-(survey.classes == label).mean(axis=(1, 2)), kind="stable")[:COLUMNS]
    rows = np.arange(min(COLUMNS, len(spots))) if insert else rows
    shown = {"before": ends["before"].images[rows], f"{name}, {most} units {verb}": ends[first].images[rows]}
    if insert:
        shown = {caption: _boxed(images, spots[rows]) for caption, images in shown.items()}
    return Effect(about, [_line(name, verb, most, scores, about)], curves, shown)


def effect_pictures(effects: dict[str, Effect], score: str) -> list[Image.Image]:
    """A sheet of the images before and after, and the curves of each class."""
    rows = {
        f"{name}: {caption}" if caption == "before" else caption: images
        for name, effect in effects.items()
        for caption, images in effect.rows.items()
    }
    page = Page(
        np.stack(list(rows.values())), list(rows), f"the first units of each class changed; score: {score}"
    )
    curves = {name: effect.curves for name, effect in effects.items()}
    return [sheets.draw(page), plots.effect_curves(curves, "effect on the score")]


def _line(name: str, verb: str, most: int, scores: dict[str, float], about: dict[str, Any]) -> str:
    ends = ", ".join(f"{kind} {value:.3f}" for kind, value in scores.items())
    last = {kind: list(points.values())[-1] for kind, points in about["effects"].items()}
    effects = ", ".join(
        f"{each['value']:+.3f} [{each['low']:+.3f}, {each['high']:+.3f}] of {kind}"
        for kind, each in last.items()
    )
    line = f"{name}, {most} units {verb}: score {ends}; causal effect {effects}"
    groups = about.get("gain_by_surroundings", {})
    parts = [f"{own} {each['gain']:+.3f} ({each['images']})" for own, each in groups.items()]
    return line + (f"; gain on {', '.join(parts)}" if parts else "")


def _mean_change(
    view: View, label: int, sets: Sequence[Any], values: np.ndarray, spots: np.ndarray, batch_size: int
) -> "Changed":
    """The mean scores over sets of units, and the images of the first set."""
    from rsynth_jax.sampling import dissection

    place = (view.subject, view.layer, label)
    alphas = [dissection.chosen(units, len(values)) for units in sets]
    ends = [dissection.change(*place, alpha, values, spots, batch_size=batch_size) for alpha in alphas]
    return ends[0]._replace(scores=np.mean([end.scores for end in ends], axis=0))


def _boxed(images: "Bytes", spots: np.ndarray) -> "Bytes":
    """Enlarged images with the border of the places of a layer."""
    from rsynth_jax.sampling import dissection

    large = sheets.enlarge(images)
    return sheets.outlined(large, dissection.pixels_of(spots, large.shape[1:3]))


def _ordered(view: View, label: int) -> np.ndarray:
    from rsynth_jax.sampling import dissection

    return dissection.by_iou(view.found.best, label)
