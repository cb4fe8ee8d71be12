"""The same tasks in pixels and in the codes of a generator, on one sheet.

    python -m benchmarks.quality.codes --generator RUN --data folder:FACES

Same classifier, same objective, same images: the first test images of each class, nothing picked. Generation
by the logit, inpainting of the central square, translation to the other class until p is 0.9, projection. The
distances are to the given image: the classifier's perceptual distance and the RMSE. The seconds are those of
a second call, without compilation; a translation in code starts at codes that were projected before.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from tyro import MISSING

from benchmarks import common
from benchmarks.common import BATCH, RESULTS
from rsynth_jax.sampling import codes, measures, runner, samplers
from rsynth_jax.sampling.runner import Samples
from rsynth_jax.storage import generators, releases
from rsynth_jax.storage.releases import Release
from rsynth_jax.synthesis import objectives
from rsynth_jax.synthesis.parameterization import pixel
from rsynth_jax.types import Bytes

SHOWN = 4  # images of each class on the sheet; a row each
UNTIL = 0.9
COLUMNS = ("p", "classified", "perceptual", "rmse")
Runs = dict[str, Callable[[], Samples]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(common.Options):
    generator: str = MISSING
    """A generator of the same classes and size: a name, a file, or a training run."""


def runs(options: Options, release: Release, real: Bytes, own: np.ndarray) -> Runs:
    """Each task in pixels and in code, in the order of the sheet; `real` has `num` images of each class."""
    generator = generators.load(options.generator)
    other = (own + 1) % len(release.class_names)
    run = {"batch_size": BATCH}
    pixels = {
        name: functools.partial(getattr(samplers, name), release, **run)
        for name in ("generate", "inpaint", "translate", "refine")
    }
    code = {
        name: functools.partial(getattr(codes, name), release, generator, **run)
        for name in ("project", "generate_in_code", "inpaint_in_code", "translate_in_code")
    }
    found = code["project"](real, own)
    turned = code["translate_in_code"](real, other, codes=found.kept, until=UNTIL)
    return {
        "generated in pixels": lambda: pixels["generate"](
            num=options.num, objective=objectives.logit, parameterization=pixel
        ),
        "generated in code": lambda: code["generate_in_code"](num=options.num, objective=objectives.logit),
        "inpainted in pixels": lambda: pixels["inpaint"](real, labels=own),
        "inpainted in code": lambda: code["inpaint_in_code"](real, labels=own),
        "translated in pixels": lambda: pixels["translate"](real, other, until=UNTIL),
        "translated in code": lambda: code["translate_in_code"](real, other, codes=found.kept, until=UNTIL),
        "translated in code, refined in pixels": lambda: pixels["refine"](turned.images, other),
        "projected": lambda: code["project"](real, own),
    }


def measure(release: Release, name: str, samples: Samples, real: Bytes, seconds: float) -> dict:
    """What the JSON has of a row: estimates over the images; distances but for generated images."""
    labels = np.asarray(samples.labels)
    p = np.exp(runner.log_prob(samples.summary.end, labels))
    columns = {"p": p, "classified": samples.summary.end.predicted == labels}
    if not name.startswith("generated"):
        found = measures.resemblance(release.model, release.variables, samples.images, real)
        columns |= found._asdict()
    estimates = {key: common.estimate(column)._asdict() for key, column in columns.items()}
    return {"seconds_per_image": seconds / len(labels)} | estimates


def cells_of(name: str, row: dict) -> list[str]:
    figures = [common.intervals(row, [key])[0] if key in row else "–" for key in COLUMNS]
    return [name, *figures, f"{1000 * row['seconds_per_image']:.0f}"]


@common.main(
    Options(
        classifier="cat-dog-64",
        generator=MISSING,
        data="folder:afhq_cat_dog_64",
        num=50,
        out=RESULTS / "codes",
    )
)
def benchmark(options: Options) -> None:
    release = releases.load(options.classifier)
    images, labels = common.read(options, "test", side=release.image_shape[0])
    chosen = common.first_of_each_class(labels, options.num)
    real, own = images[chosen], labels[chosen]
    shown = common.first_of_each_class(own, SHOWN)
    rows, cells = {}, {"given": real[shown]}
    for name, run in runs(options, release, real, own).items():
        run()
        samples, seconds = common.timed(run)
        rows[name] = measure(release, name, samples, real, seconds)
        cells[name] = samples.images[shown]
    about = {"classifier": options.classifier, "generator": options.generator, "per_class": options.num}
    common.write(options.out, **about, until=UNTIL, rows=rows)
    names = [release.class_names[label] for label in own[shown]]
    common.sheet(options.out, np.stack(list(cells.values()), axis=1), names, " | ".join(cells))
    print(common.table(["", *COLUMNS, "ms / image"], (cells_of(name, row) for name, row in rows.items())))
