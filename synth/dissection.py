"""rsynth-dissect: which units of a generator or a classifier agree with classes of pixels.

rsynth-dissect --generator RUN --segmenter facades-64 --layer 4 --classes window door --out units.png
rsynth-dissect --classifier cat-dog-64 --data IMAGES --masks FOLDER --layer 1 --classes window
"""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import classifiers, dissections, options, sheets
from rsynth_jax.cli.dissections import View
from rsynth_jax.cli.report import print_lines
from rsynth_jax.cli.run import run
from rsynth_jax.data import sources

if TYPE_CHECKING:
    from rsynth_jax.sampling.dissection import Artefacts, Subject

_MASKS = (
    "Folder of their human masks: NAME.png, indexed or grey, for each image; the names of the classes in "
    "classes.txt, there or in one of the two folders above."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-dissect: which units of a generator or a classifier agree with classes of pixels.

    A unit is on where its map, enlarged to the image, is above the level at which it shares most information
    with a class of pixels (Bau et al. 2019). The classes are those of a segmenter, in the images of a
    generator, or of human masks, in the images for a classifier. The sheet has the units of largest IoU with
    each class. --ablate sets the first --units of them to 0 everywhere; --insert sets them to the mean that
    they have where the class is, in a square at a random place of each image. Both draw the causal effect,
    the score after insertion minus that after ablation, against random units. The score is the probability of
    the class at the pixels that are changed; for a classifier, log p of the class that it predicts untouched.
    """

    generator: Annotated[str | None, arg(metavar="NAME")] = None
    """The generator to dissect: a bundled name, a .safetensors file, or a training run."""
    segmenter: Annotated[str | None, arg(metavar="NAME")] = None
    """The judge of its images: a bundled name, a .safetensors file, or a training run."""
    classifier: Annotated[str | None, arg(metavar="NAME")] = None
    """Or the classifier to dissect, as in the other programs."""
    data: Annotated[str | None, arg(metavar="A")] = None
    """Its images: a folder."""
    masks: Annotated[Path | None, arg(metavar="FOLDER", help=_MASKS)] = None
    layer: str = "0"
    """The layer by number: of a generator from 0, two at each size; of a classifier its blocks, from 0."""
    classes: Annotated[tuple[str, ...], arg(metavar="CLASS ...")] = ("all",)
    """Classes of pixels by name or number; all for each of them."""
    units: int = 20
    """Units of a set."""
    num: int = 200
    """Images: draws of the generator, or the first ones of --data."""
    ablate: bool = False
    """Switch sets of units off, and measure what they cause."""
    insert: bool = False
    """Switch sets of units on at a random place of each image, and measure what they cause."""
    optimize: Annotated[int | None, arg(metavar="STEPS")] = None
    """Also a set of units found by so many steps of Adam on what they cause, beside those of largest IoU."""
    real: Annotated[str | None, arg(metavar="A")] = None
    """Real images, a folder: also the units whose most exciting images are farthest from these, the artefact
    units, and the Fréchet distance of all images without them."""
    features: options.ClassifierName = "restricted-imagenet-64-robust"
    """The classifier whose penultimate features the Fréchet distance compares, as in the other programs."""
    seed: options.Seed = 0
    batch_size: options.BatchSize = 40
    output: options.SheetFlags = options.SheetFlags(out=Path("dissected.png"))
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(units=self.units, batch_size=self.batch_size)
        checks.enough("a dissection", 2, self.num)
        checks.positive(num=self.num)
        checks.seed(seed=self.seed)
        checks.given(checks.positive, optimize=self.optimize)
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
        if self.ablate and self.insert:
            raise ValueError("--ablate and --insert are different sheets: give one of them")
        if self.optimize is not None and not (self.ablate or self.insert):
            raise ValueError("--optimize finds a set of units to change: give --ablate or --insert too")
        if self.real is not None and self.generator is None:
            raise ValueError("--real is compared with the images of a generator: give --generator NAME")


def dissect(flags: Options) -> int:
    """Dissect and report."""
    from rsynth_jax.models import label_of
    from rsynth_jax.sampling import dissection

    flags.output.check()
    network = str(flags.generator or flags.classifier)
    subject, judge, numbers = opened(flags)
    names = subject.class_names if flags.classes == ("all",) else flags.classes
    labels = [label_of(name, subject.class_names) for name in names]
    layer = dissection.layer_named(subject, flags.layer)
    survey = dissection.look(subject, layer, batch_size=flags.batch_size)
    found = dissection.agree(survey, len(subject.class_names), batch_size=flags.batch_size)
    view = View(subject, layer, survey, found, labels, flags.units)
    table = dissections.agreements(view)
    pictures = [sheets.draw(dissections.units_page(view, network))]
    height, width, units = survey.maps.shape[1:]
    lines = [judge, f"{layer}: {height} x {width}, {units} units, in {len(survey.maps)} images"]
    lines += dissections.describe(view, table)
    if flags.ablate or flags.insert:
        absent = [name for name, row in table.items() if not row["pixels"]]
        if absent:
            raise ValueError(f"no image has any {absent[0]}: give a larger --num, or other --classes")
        effects = {subject.class_names[label]: _effect(flags, view, label) for label in labels}
        pictures += dissections.effect_pictures(effects, subject.score)
        lines += [effect.line for effect in effects.values()]
        numbers["effects"] = {name: effect.numbers for name, effect in effects.items()}
    if flags.real is not None:
        found, line = dissections.artefacts_of(view, _artefacts(flags, view, flags.real))
        lines.append(line)
        numbers["artefacts"] = found
    out = flags.output.out
    sheets.write_picture(out, sheets.stack(*pictures))
    numbers |= {"network": network, "layer": layer, "shape": [height, width, units]}
    numbers |= {"images": len(survey.maps), "seed": flags.seed, "classes": table}
    return print_lines([*lines, f"{out}: {len(labels)} classes"], numbers, flags.output.json, (), out)


def opened(flags: Options) -> tuple["Subject", str, dict[str, Any]]:
    """Load what is dissected and its judge; return them, a line about the judge, and its numbers."""
    from rsynth_jax.data import masks
    from rsynth_jax.sampling import dissection
    from rsynth_jax.storage import generators, segmenters

    if flags.generator is None:
        release = classifiers.load(str(flags.classifier))
        data = masks.load(str(flags.data), flags.masks or "", release.image_shape[0], flags.num)
        judge = f"classes by human masks of {len(data.images)} images"
        return dissection.of_classifier(release, data), judge, {"masks": str(flags.masks)}
    generator, segmenter = generators.load(flags.generator), segmenters.load(str(flags.segmenter))
    subject = dissection.of_generator(generator, segmenter, flags.num, seed=flags.seed)
    iou = dict(zip(segmenter.class_names, segmenter.iou, strict=True))
    judge = f"classes by {flags.segmenter}, {segmenters.describe(segmenter)}: its errors bound what is below"
    return subject, judge, {"segmenter": flags.segmenter, "segmenter_iou": iou}


def _effect(flags: Options, view: View, label: int) -> dissections.Effect:
    from rsynth_jax.sampling import dissection

    by_iou = dissection.by_iou(view.found.best, label)
    orders = {"chosen": [by_iou]}
    if flags.optimize is not None:
        iou = view.found.best.iou[:, label]
        start = iou / max(iou.max(), 1e-9)
        place = (view.subject, view.survey, view.layer, label, start)
        orders["optimized"] = [
            dissection.by_alpha(dissection.optimize(*place, steps=flags.optimize, seed=flags.seed))
        ]
    orders["random"] = dissection.random_orders(len(by_iou), flags.seed)
    intervention = dissection.INSERTION if flags.insert else dissection.ABLATION
    run = {"seed": flags.seed, "batch_size": flags.batch_size}
    return dissections.effect_of(view, label, intervention, orders, **run)


def _artefacts(flags: Options, view: View, place: str) -> "Artefacts":
    from rsynth_jax.sampling import dissection

    judge = classifiers.load(flags.features)
    real = sources.read_all(sources.load(place, image_size=view.survey.images.shape[1]))
    run = {"seed": flags.seed, "batch_size": flags.batch_size}
    return dissection.artefacts(view.subject, view.survey, view.layer, judge, real.images, flags.units, **run)


main = functools.partial(run, Options, dissect)

if __name__ == "__main__":
    main()
