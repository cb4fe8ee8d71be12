"""Inversion in three ways: the classifier's ascent from noise, a learned inverter, and the ascent after it.

    python -m benchmarks.quality.inversion --inverters runs/features runs/map --data folder:FACES

Each row is measured on the first `num` test images of each class: the relative distance of the penultimate
features, the perceptual distance over the classifier's maps, the root mean square error of the pixels, and
the relative distance of the features of a judge that trained nothing here, EfficientNet-Lite0. Seconds are
those of a second call, without compilation. The sheet has the first images, nothing picked. Rows of
--ablations, training runs with a loss left out or another comparator, are of one pass, on their own sheet.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import common
from benchmarks.common import BATCH, RESULTS
from rsynth_jax.sampling import inverters as passes
from rsynth_jax.sampling import measures, samplers
from rsynth_jax.storage import inverters, releases
from rsynth_jax.storage.releases import Release
from rsynth_jax.types import Bytes

SHOWN = 4  # images of each class on a sheet; a row each
STRONGEST = (1, 5, 20, 200, 1000)  # activations, where there are as many
ROUNDS = 8
COLUMNS = ("distance", "perceptual", "rmse", "judge")
Run = Callable[[], Bytes]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(common.Options):
    inverters: tuple[str, ...]
    """Inverters, by name, file or training run: every way of each."""
    ablations: tuple[str, ...] = ()
    """Further inverters: one pass of each, on a sheet of their own."""
    steps: int = 60
    """Steps of the ascent from noise, of 4 starts an image."""
    then_steps: int = 20
    """Steps of the ascent after one pass."""
    then_step_size: float = 0.1
    """Length of its first step, at 32 pixels."""


def ways(options: Options, release: Release, images: Bytes) -> dict[str, Run]:
    """The ascent, and those of each inverter."""
    ascend = functools.partial(samplers.invert, release, images, batch_size=BATCH)
    found: dict[str, Run] = {"ascent from noise": lambda: ascend(num_steps=options.steps).images}
    for name in options.inverters:
        own = ways_of(options, release, name, images)
        found |= {f"{Path(name).name}: {way}": run for way, run in own.items()}
    return found


def ways_of(options: Options, release: Release, name: str, images: Bytes) -> dict[str, Run]:
    """One pass of an inverter, the ascent after it, rounds, and few activations."""
    once = one_pass(release, name, images)
    inverter = inverters.load(name)
    again = functools.partial(passes.reencode, release, inverter, images, ROUNDS)
    numbers = [num for num in STRONGEST if num < math.prod(inverter.config.shape)]
    short = {"num_steps": options.then_steps, "step_size": options.then_step_size, "batch_size": BATCH}
    return {
        "one pass": once,
        "one pass then ascent": lambda: samplers.invert_from(release, images, once(), **short).images,
        f"{ROUNDS} rounds": lambda: again(batch_size=BATCH).images[:, -1],
        **{f"strongest {num}": one_pass(release, name, images, num) for num in numbers},
    }


def one_pass(release: Release, name: str, images: Bytes, strongest: int | None = None) -> Run:
    inverter = inverters.load(name)
    run = functools.partial(passes.invert_by, release, inverter, images, batch_size=BATCH)
    return lambda: run(strongest=strongest).images


def measure(release: Release, made: Bytes, given: Bytes, seconds: float) -> dict:
    """What the JSON has of a row: estimates over the images."""
    network = (release.model, release.variables)
    embed = functools.partial(common.embedding.embed_images, *network, batch_size=BATCH)
    columns = measures.resemblance(*network, made, given)._asdict()
    for name, function in (("distance", embed), ("judge", common.embed)):
        found, wanted = (function(images).features for images in (made, given))
        columns[name] = np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    estimates = {name: common.estimate(columns[name])._asdict() for name in COLUMNS}
    return {"seconds_per_image": seconds / len(given)} | estimates


@common.main(
    Options(
        classifier="cat-dog-64",
        inverters=(),
        data="folder:afhq_cat_dog_64",
        num=50,
        out=RESULTS / "inversion",
    )
)
def benchmark(options: Options) -> None:
    release = releases.load(options.classifier)
    images, labels = common.read(options, "test", side=release.image_shape[0])
    chosen = common.first_of_each_class(labels, options.num)
    given, own = images[chosen], labels[chosen]
    shown = common.first_of_each_class(own, SHOWN)
    names = [release.class_names[label] for label in own[shown]]
    runs = ways(options, release, given)
    ablated = {Path(name).name: one_pass(release, name, given) for name in options.ablations}
    rows = {}
    for part, out in ((runs, options.out), (ablated, options.out.with_name(f"{options.out.name}-ablations"))):
        cells = {"given": given[shown]}
        for name, run in part.items():
            run()
            made, seconds = common.timed(run)
            rows[name], cells[name] = measure(release, made, given, seconds), made[shown]
        if part:
            common.sheet(out, np.stack(list(cells.values()), axis=1), names, " | ".join(cells))
    about = {name: getattr(options, name) for name in ("classifier", "inverters", "ablations", "steps")}
    about |= {"then_steps": options.then_steps, "then_step_size": options.then_step_size}
    common.write(options.out, **about, per_class=options.num, rows=rows)
    lines = (
        [name, *common.intervals(row, COLUMNS), f"{1000 * row['seconds_per_image']:.1f}"]
        for name, row in rows.items()
    )
    print(common.table(["", *COLUMNS, "ms / image"], lines))
