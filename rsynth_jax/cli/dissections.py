"""Dissect for a program: the flags of a subject and of an intervention, and the parts of the report.

    subject, judge, numbers = flags.subject.load(num=200, seed=0)
    view = View(subject, "layer3", survey, found, labels, units=20)
    parts = [units_of(view, "facades-style-64", judge), effects_of(view, flags.effect, run)]

This module imports nothing heavy.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from PIL import Image
from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import classifiers, options, plots, sheets
from rsynth_jax.cli.sheets import Page
from rsynth_jax.data import sources
from rsynth_jax.metrics import estimates
from rsynth_jax.metrics.estimates import Estimate

if TYPE_CHECKING:
    from rsynth_jax.sampling.dissection import Changed, Found, Intervention, Subject, Survey
    from rsynth_jax.types import Bytes

IOU, RATIO = 0.05, 0.01  # above which a unit is interpretable, Bau et al. 2019
ROWS = 4  # units of each class on a sheet
COLUMNS = 8  # images of a row
LISTED = 5  # units of each class on a line
UNITS = 20  # of a set, by default
_GAIN = "{name} {gain:+.3f} of {images}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubjectFlags:
    """The network to dissect, and what gives the pixels of its images classes."""

    generator: Annotated[str | None, arg(metavar="NAME")] = None
    """The generator to dissect: a released name, a .safetensors file, or a training run."""
    segmenter: Annotated[str | None, arg(metavar="NAME")] = None
    """The judge of its images: a released name, a .safetensors file, or a training run."""
    classifier: Annotated[str | None, arg(metavar="NAME")] = None
    """Or the classifier to dissect, as in the other programs."""
    data: Annotated[str | None, arg(metavar="A")] = None
    """Its images: a folder."""
    masks: Annotated[Path | None, arg(metavar="FOLDER", help=options.MASKS)] = None

    def check(self) -> None:
        """Raise ValueError unless one network is given, with its judge."""
        if (self.generator is None) == (self.classifier is None):
            raise ValueError(
                "give --generator NAME with --segmenter NAME, or --classifier NAME with --data and --masks"
            )
        if self.generator is not None and self.segmenter is None:
            raise ValueError("a generator's images have no masks: give --segmenter NAME")
        if self.classifier is not None and (self.data is None or self.masks is None):
            raise ValueError(
                "a classifier is dissected by images with masks: give --data A and --masks FOLDER"
            )

    @property
    def network(self) -> str:
        """The name of the network to dissect."""
        return str(self.generator or self.classifier)

    def load(self, num: int, seed: int) -> tuple["Subject", str, dict[str, Any]]:
        """Load what is dissected, of `num` images; return it, a line about its judge, and its numbers."""
        from rsynth_jax.data import masks
        from rsynth_jax.sampling import dissection
        from rsynth_jax.storage import generators, segmenters

        if self.generator is None:
            release = classifiers.load(self.network)
            data = masks.load(str(self.data), self.masks or "", release.image_shape[0], num)
            judge = f"classes by human masks of {len(data.images)} images"
            return dissection.of_classifier(release, data), judge, {"masks": str(self.masks)}
        generator, segmenter = generators.load(self.generator), segmenters.load(str(self.segmenter))
        subject = dissection.of_generator(generator, segmenter, num, seed=seed)
        iou = dict(zip(segmenter.class_names, segmenter.iou, strict=True))
        described = segmenters.describe(segmenter)
        judge = f"classes by {self.segmenter}, {described}: its errors bound what is below"
        return subject, judge, {"segmenter": self.segmenter, "segmenter_iou": iou}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EffectFlags:
    """How sets of units are changed."""

    ablate: bool = False
    """Switch sets of units off, and measure what they cause."""
    insert: bool = False
    """Switch sets of units on at a random place of each image, and measure what they cause."""
    optimize: Annotated[int | None, arg(metavar="STEPS")] = None
    """Also a set of units found by so many steps of Adam on what they cause, beside those of largest IoU."""

    def __post_init__(self) -> None:
        checks.given(checks.positive, optimize=self.optimize)
        if self.ablate and self.insert:
            raise ValueError("--ablate and --insert are different sheets: give one of them")
        if self.optimize is not None and not self.asked:
            raise ValueError("--optimize finds a set of units to change: give --ablate or --insert too")

    @property
    def asked(self) -> bool:
        """Whether units are changed."""
        return self.ablate or self.insert


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


def number_of(units: int | None, there: int) -> int:
    """The units of a set: those asked for, by default `UNITS`. Raises ValueError if the layer has fewer."""
    if units is not None and units > there:
        raise ValueError(f"units is {units}: the layer has {there}")
    return min(UNITS, there) if units is None else units


class Part(NamedTuple):
    """A part of the report."""

    lines: Sequence[str]
    numbers: Mapping[str, Any]
    pictures: Sequence[Image.Image] = ()


def units_of(view: View, network: str, judge: str) -> Part:
    """Report how the units of a layer agree with classes.

    Args:
      network: its name.
      judge: a line about what gives the pixels classes.
    """
    table = agreements(view)
    height, width, units = view.survey.maps.shape[1:]
    num = len(view.survey.maps)
    lines = [judge, f"{view.layer}: {height} x {width}, {units} units, in {num} images"]
    numbers = {"network": network, "layer": view.layer, "shape": [height, width, units], "images": num}
    picture = sheets.draw(units_page(view, network))
    return Part([*lines, *describe(view, table)], numbers | {"classes": table}, [picture])


def effects_of(view: View, flags: EffectFlags, run: Mapping[str, Any]) -> Part:
    """Report what sets of units of each class do.

    Args:
      run: seed, batch_size.

    Raises:
      ValueError: no image has a pixel of a class.
    """
    absent = [view.names[label] for label in view.labels if not (view.survey.classes == label).any()]
    if absent:
        raise ValueError(f"no image has any {absent[0]}: give a larger --num, or other --classes")
    effects = {view.names[label]: _effect(view, label, flags, run) for label in view.labels}
    pictures = effect_pictures(effects, view.subject.score)
    numbers = {name: effect.numbers for name, effect in effects.items()}
    return Part([effect.line for effect in effects.values()], {"effects": numbers}, pictures)


def artefacts_of(view: View, real: str, judge: str, run: Mapping[str, Any]) -> Part:
    """Report the artefact units.

    Args:
      real: place of the real images.
      judge: name of the classifier whose features are compared.
      run: seed, batch_size.
    """
    from rsynth_jax.sampling import dissection

    release = classifiers.load(judge)
    images = sources.read_all(sources.load(real, image_size=view.survey.images.shape[1])).images
    found = dissection.artefacts(view.subject, view.survey, view.layer, release, images, view.units, **run)
    order = found.order[: view.units]
    first = ", ".join(f"{unit} ({found.scores[unit]:.1f})" for unit in order[:LISTED])
    numbers = {"units": order.tolist(), "scores": found.scores[order].tolist()}
    numbers |= {"before": found.before, "after": found.after, "random": found.random}
    ends = "{before:.1f}, {after:.1f} without {num} of them, {random:.1f} without random units"
    line = f"artefact units by Fréchet distance: {first}; of all images {ends}"
    cells = np.stack([view.survey.images[:COLUMNS], found.images[:COLUMNS]])
    page = Page(cells, ["before", f"without {len(order)}"], "the first draws, and without the artefact units")
    return Part([line.format(num=len(order), **numbers)], {"artefacts": numbers}, [sheets.draw(page)])


def agreements(view: View) -> dict[str, Any]:
    """The table of each class: its share of the pixels, its interpretable units, and the first ones."""
    best, tail = view.found.best, view.found.tail
    interpretable = (best.iou > IOU) & (best.ratio > RATIO)
    own = best.iou.argmax(axis=1)  # the class of each unit
    table = {}
    for label in view.labels:
        order = _ordered(view, label)[: view.units]
        levels = view.found.levels[best.row[order, label], order]
        columns = {"unit": order, "iou": best.iou[order, label]}
        columns |= {"iou_by_chance": best.chance[order, label], "ratio": best.ratio[order, label]}
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
        first = [f"{each['unit']} ({each['iou']:.2f})" for each in row["units"][:LISTED]]
        chance = row["units"][0]["iou_by_chance"]
        of = f"{row['interpretable']} of {view.survey.maps.shape[-1]} units are detectors"
        units = f"units by IoU {', '.join(first)}, by chance {chance:.2f}"
        lines.append(f"{name} ({row['pixels']:.1%} of pixels): {units}; {of}")
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
            masks = _resized(view.survey.classes[rows], images.shape[1:3]) == label
            shown = sheets.outlined(sheets.darkened(images[rows], inside), masks, sheets.CYAN)
            cells.append(sheets.outlined(shown, inside))
            captions.append(f"{view.names[label]}: unit {unit}, IoU {best.iou[unit, label]:.2f}")
    height, width, units = view.survey.maps.shape[1:]
    about = f"{view.layer} of {network[-40:]}, {height} x {width}, {units} units"
    title = f"{about}: the images that excite a unit most; bright, in yellow: it is on; cyan: the class"
    return Page(np.stack(cells), captions, title)


class Effect(NamedTuple):
    """What a set of units of a class does.

    Attributes:
      numbers: plain values.
      line: of the report.
      curves: effects by the name of the set, and the number of units.
      rows: images before and after, by caption.
    """

    numbers: dict[str, Any]
    line: str
    curves: dict[str, dict[int, Estimate]]
    rows: dict[str, "Bytes"]


def effect_of(
    view: View,
    label: int,
    intervention: "Intervention",
    orders: Mapping[str, Sequence[np.ndarray]],
    **run: Any,
) -> Effect:
    """Change sets of units by an intervention, and measure what they do.

    Args:
      orders: of all units, by the name of the set; the first is shown.
      run: seed, batch_size.
    """
    from rsynth_jax.sampling import dissection

    survey, name = view.survey, view.names[label]
    most = view.units
    where = intervention.places(run["seed"], len(survey.maps), survey.maps.shape[1:])
    sets = {"before": [[]]} | {kind: [order[:most] for order in own] for kind, own in orders.items()}
    values = intervention.values(survey, label)
    ends = {kind: _change(view, label, own, values, where, run["batch_size"]) for kind, own in sets.items()}
    first = next(iter(orders))
    gains = dissection.by_surroundings(
        survey, where, ends[first].scores - ends["before"].scores, len(view.names)
    )
    curves = _curves(view, label, orders, most, run)
    numbers = {
        "units": most,
        "order": {kind: own[0][:most].tolist() for kind, own in orders.items() if len(own) == 1},
        "scores": {kind: float(end.scores.mean()) for kind, end in ends.items()},
        "gains": {view.names[own]: _gain(gained) for own, gained in gains.items()},
        "effects": {
            kind: {str(num): each._asdict() for num, each in points.items()}
            for kind, points in curves.items()
        },
    }
    what = f"{most} units {intervention.verb}"
    pictures = _before_after(view, label, ends["before"].images, ends[first].images, where, what)
    return Effect(numbers, _line(f"{name}, {what}", numbers), curves, pictures)


def _gain(gained: np.ndarray) -> dict[str, Any]:
    """The mean gain, with an interval if there are images enough for one, and their number."""
    few = len(gained) < estimates.FEWEST
    interval = [None, None] if few else estimates.mean(gained)[1:]
    return {"gain": float(gained.mean()), "interval": interval, "images": len(gained)}


def effect_pictures(effects: Mapping[str, Effect], score: str) -> list[Image.Image]:
    """A sheet of the images before and after, where there are any, and the curves of each class."""
    rows = {caption: images for effect in effects.values() for caption, images in effect.rows.items()}
    title = "units of the largest IoU with a class changed in the images that have most of it"
    curves = {name: effect.curves for name, effect in effects.items()}
    pictures = [sheets.draw(Page(np.stack(list(rows.values())), list(rows), title))] if rows else []
    return [*pictures, plots.effect_curves(curves, f"causal effect on {score}")]


def _effect(view: View, label: int, flags: EffectFlags, run: Mapping[str, Any]) -> Effect:
    """What the units of a class by IoU, by optimization where asked, and random ones do."""
    from rsynth_jax.sampling import dissection

    by_iou = _ordered(view, label)
    orders = {"chosen": [by_iou]}
    if flags.optimize is not None:
        iou = view.found.best.iou[:, label]
        place = (view.subject, view.survey, view.layer, label, iou / max(iou.max(), 1e-9))
        alpha = dissection.optimize(*place, steps=flags.optimize, seed=run["seed"])
        orders["optimized"] = [dissection.by_alpha(alpha)]
    orders["random"] = dissection.random_orders(len(by_iou), run["seed"])
    intervention = dissection.INSERTION if flags.insert else dissection.ABLATION
    return effect_of(view, label, intervention, orders, **run)


def _before_after(
    view: View, label: int, before: "Bytes", after: "Bytes", where: np.ndarray, what: str
) -> dict[str, "Bytes"]:
    """The images that have most of a class, by caption; none of a classifier, which changes no image."""
    if np.array_equal(before, after):
        return {}
    rows = np.argsort(-(view.survey.classes == label).mean(axis=(1, 2)), kind="stable")[:COLUMNS]
    pairs = {"before": before, what: after}
    name = view.names[label]
    return {f"{name}: {caption}": _boxed(images[rows], where[rows]) for caption, images in pairs.items()}


def _curves(
    view: View, label: int, orders: Mapping[str, Sequence[np.ndarray]], most: int, run: Mapping[str, Any]
) -> dict[str, dict[int, Estimate]]:
    from rsynth_jax.sampling import dissection

    numbers = dissection.numbers_of_units(most)
    where = (view.subject, view.survey, view.layer, label)
    return {
        f"{kind} units": dict(zip(numbers, dissection.effects(*where, own, numbers, **run), strict=True))
        for kind, own in orders.items()
    }


def _line(what: str, numbers: Mapping[str, Any]) -> str:
    ends = ", ".join(f"{kind} {value:.3f}" for kind, value in numbers["scores"].items())
    last = {kind: list(points.values())[-1] for kind, points in numbers["effects"].items()}
    effects = ", ".join(
        f"{kind} {each['value']:+.3f} [{each['low']:+.3f}, {each['high']:+.3f}]"
        for kind, each in last.items()
    )
    gains = ", ".join(_GAIN.format(name=name, **each) for name, each in numbers["gains"].items())
    return f"{what}: score {ends}; causal effect {effects}; gain by what was there {gains}"


def _change(
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


def _resized(masks: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Masks (n, h, w) at another size, each value the nearest one."""
    down, right = (np.arange(side) * own // side for side, own in zip(size, masks.shape[1:], strict=True))
    return masks[:, down[:, None], right]


def _ordered(view: View, label: int) -> np.ndarray:
    from rsynth_jax.sampling import dissection

    return dissection.by_iou(view.found.best, label)
