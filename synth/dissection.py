"""rsynth-dissect: which units of a generator or a classifier agree with classes of pixels.

rsynth-dissect --generator RUN --segmenter facades-64 --layer 4 --classes window door --out units.png
rsynth-dissect --classifier cat-dog-64 --data IMAGES --masks FOLDER --layer 1 --classes window
"""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import dissections, options, sheets
from rsynth_jax.cli.dissections import EffectFlags, SubjectFlags, View
from rsynth_jax.cli.report import print_lines
from rsynth_jax.cli.run import run


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

    subject: SubjectFlags = SubjectFlags()
    layer: str = "0"
    """The layer by number: of a generator from 0, two at each size; of a classifier its blocks, from 0."""
    classes: Annotated[tuple[str, ...], arg(metavar="CLASS ...")] = ("all",)
    """Classes of pixels by name or number; all for each of them."""
    units: int | None = None
    """Units of a set; by default 20, or all of a layer of fewer."""
    num: int = 200
    """Images: draws of the generator, or the first ones of --data."""
    effect: EffectFlags = EffectFlags()
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
        checks.given(checks.positive, units=self.units)
        checks.positive(batch_size=self.batch_size)
        checks.enough("a dissection", 2, self.num)
        checks.positive(num=self.num)
        checks.seed(seed=self.seed)
        self.subject.check()
        if self.real is not None and self.subject.generator is None:
            raise ValueError("--real is compared with the images of a generator: give --generator NAME")


def dissect(flags: Options) -> int:
    """Dissect and report."""
    from rsynth_jax.models import label_of
    from rsynth_jax.sampling import dissection

    flags.output.check()
    subject, judge, numbers = flags.subject.load(flags.num, flags.seed)
    names = subject.class_names if flags.classes == ("all",) else flags.classes
    labels = [label_of(name, subject.class_names) for name in names]
    layer = dissection.layer_named(subject, flags.layer)
    units = dissections.number_of(flags.units, dissection.layers_of(subject)[layer][-1])
    run = {"seed": flags.seed, "batch_size": flags.batch_size}
    survey = dissection.look(subject, layer, batch_size=flags.batch_size)
    found = dissection.agree(survey, len(subject.class_names), batch_size=flags.batch_size)
    view = View(subject, layer, survey, found, labels, units)
    parts = [dissections.units_of(view, flags.subject.network, judge)]
    if flags.effect.asked:
        parts.append(dissections.effects_of(view, flags.effect, run))
    if flags.real is not None:
        parts.append(dissections.artefacts_of(view, flags.real, flags.features, run))
    out = flags.output.out
    sheets.write_picture(out, sheets.stack(*(picture for part in parts for picture in part.pictures)))
    numbers |= {"seed": flags.seed} | {name: value for part in parts for name, value in part.numbers.items()}
    lines = [line for part in parts for line in part.lines]
    return print_lines([*lines, f"{out}: {len(labels)} classes"], numbers, flags.output.json, (), out)


main = functools.partial(run, Options, dissect)

if __name__ == "__main__":
    main()
