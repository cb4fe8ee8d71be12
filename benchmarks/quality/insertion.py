"""A window here, in four ways: units of a generator, and the ascent in codes and in pixels.

    python -m benchmarks.quality.insertion --num 100

Each draw of the generator has one square at a random place. The units of largest IoU with the class are set
to the mean that they have where it is; or `objectives.presence` of the class in the square is climbed: in
codes, in pixels, and in pixels beside a classifier's perceptual distance from the draw. A row has the
probability of the class in the square by the segmenter, whose gradient all but the first follow, and the RMS
change of the pixels inside of the square and outside.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import common
from benchmarks.common import RESULTS
from rsynth_jax import models
from rsynth_jax.cli.sheets import outlined
from rsynth_jax.images import decode, encode
from rsynth_jax.models import label_of, segmenter, style
from rsynth_jax.sampling import dissection, runner
from rsynth_jax.storage import generators as generator_files
from rsynth_jax.storage import releases, segmenters
from rsynth_jax.storage.generators import GeneratorRelease
from rsynth_jax.synthesis import ascent, objectives, tasks
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.projections import ball_in_box, box, l2_ball
from rsynth_jax.synthesis.tasks import Task
from rsynth_jax.types import Bytes, Classifier, Segmenter

SHOWN = 8  # draws on the sheet, a column each
UNITS = 20
STEPS = 30
CODE_RADIUS, PIXEL_RADIUS = 5.0, 5.0  # l2 from the draw, reached in half of the steps
WEIGHT = 0.3  # of the perceptual distance
WAYS = "climbed in codes", "climbed in pixels", "in pixels, kept perceptually"
COLUMNS = ("probability", "rms_inside", "rms_outside")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    generator: str = "facades-style-64"
    segmenter: str = "facades-64"
    classifier: str = "restricted-imagenet-64-robust"
    """Its perceptual distance keeps the last row near the draws."""
    layer: str = "4"
    """Of the units, by number."""
    name: str = "window"
    """The class asked for."""
    num: int = 100
    """Draws."""
    out: Path = RESULTS / "insertion"
    """Written: OUT.json, OUT.png."""


def climbed(
    generator: GeneratorRelease,
    segment: Segmenter,
    classifier: Classifier,
    label: int,
    codes: Any,
    where: np.ndarray,
) -> dict[str, Bytes]:
    """Climb the presence of the class from each draw, in three ways."""
    made = style.bind(generator.config, generator.variables)

    def tasks_of(code: Any, where: jax.Array) -> dict[str, tuple[Task, float]]:
        draw = lambda styles: box()(made.decode(styles, code.noise_key))  # noqa: E731
        start = draw(code.styles)
        wanted = objectives.presence(segment, jnp.int32(label), where)
        in_pixels = Task(start, wanted, ball_in_box(start, PIXEL_RADIUS))
        near = l2_ball(code.styles, CODE_RADIUS)
        in_code = tasks.in_code(in_pixels, draw, code.styles, near)
        kept = tasks.keep_perceptually(in_pixels, classifier, WEIGHT)
        ways = (in_code, CODE_RADIUS), (in_pixels, PIXEL_RADIUS), (kept, PIXEL_RADIUS)
        return dict(zip(WAYS, ways, strict=True))

    def climb(code: Any, where: jax.Array) -> dict[str, jax.Array]:
        found = {}
        for name, (task, radius) in tasks_of(code, where).items():
            steps = ascent.steepest(L2, 2 * radius / STEPS)
            path = ascent.projected_gradient_ascent(task.objective, task.projection, steps)
            found[name] = encode(task.decode(ascent.run(path, task.start, STEPS)[0]))
        return found

    parts = list(runner.batches(lambda _, code, where: climb(code, where), (), (codes, where), 20))
    return {name: np.concatenate([part[name] for part in parts]) for name in WAYS}


def measure(
    segment_all: Callable[[jax.Array], jax.Array],
    label: int,
    images: Bytes,
    draws: Bytes,
    inside: np.ndarray,
) -> dict:
    shares = np.asarray(jax.nn.softmax(segment_all(decode(jnp.asarray(images))))[..., label])
    change = ((np.float32(images) - draws) / 255) ** 2
    rms = [np.sqrt(np.mean(change, axis=(1, 2, 3), where=part[..., None])) for part in (inside, ~inside)]
    columns = (np.mean(shares, axis=(1, 2), where=inside), *rms)
    return {key: common.estimate(column)._asdict() for key, column in zip(COLUMNS, columns, strict=True)}


@common.main(Options())
def benchmark(options: Options) -> None:
    generator, judge = generator_files.load(options.generator), segmenters.load(options.segmenter)
    subject = dissection.of_generator(generator, judge, options.num)
    label = label_of(options.name, subject.class_names)
    layer = dissection.layer_named(subject, options.layer)
    survey = dissection.look(subject, layer)
    found = dissection.agree(survey, len(subject.class_names))
    units = dissection.by_iou(found.best, label)[:UNITS]
    shape = survey.maps.shape[1:]
    where = dissection.places(0, options.num, shape)
    inside = dissection.pixels_of(where, generator.image_shape[:2])
    alpha = dissection.chosen(units, shape[-1])
    change = functools.partial(dissection.change, subject, layer, label)
    draws = change(0 * alpha, 0 * alpha, where).images
    release = releases.load(options.classifier)
    classifier = models.bind(release.model, release.variables)
    segment = segmenter.bind(judge.config, judge.variables)
    soft = inside[..., None].astype(np.float32)
    images = {
        "draws": draws,
        f"{UNITS} units of {layer} inserted": change(
            alpha, dissection.insertion(survey, label), where
        ).images,
        **climbed(generator, segment, classifier, label, subject.rows, soft),
    }
    segment_all = jax.jit(jax.vmap(segment))
    rows = {name: measure(segment_all, label, made, draws, inside) for name, made in images.items()}
    common.write(options.out, **{k: v for k, v in vars(options).items() if k != "out"}, rows=rows)
    square = inside[:SHOWN].repeat(2, axis=1).repeat(2, axis=2)
    larger = [made[:SHOWN].repeat(2, axis=1).repeat(2, axis=2) for made in images.values()]
    cells = np.stack([outlined(each, square) for each in larger])
    common.sheet(
        options.out, cells, images, f"the first {SHOWN} draws, a {options.name} asked for in the square"
    )
    print(
        common.table(["", *COLUMNS], ([name, *common.intervals(row, COLUMNS)] for name, row in rows.items()))
    )
