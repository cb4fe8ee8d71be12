"""Ways to an image under one measure: real images, a classifier's ascents, generators, and both together.

    python -m benchmarks.quality.comparison --data folder:FACES --classifier cat-dog-64 --generators RUN RUN

Every row makes the same number of images of each class from seed 0, and is compared with the test images. An
inverter makes them of the classifier's representations of training images, a translator of the training
images of the other class.
More rows are of the first generator: its images truncated, refined by the classifier, as the starts of the
classifier's default ascent, and the classifier's logit climbed in its codes. Seconds are those of
sampling, compilation included; training is not. A row already in the JSON is not run again.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from benchmarks import common
from benchmarks.common import BATCH, RESULTS
from benchmarks.quality.baseline import PAPER
from rsynth_jax import checks
from rsynth_jax.sampling import codes, generators, inverters, samplers, translators
from rsynth_jax.storage import files, releases
from rsynth_jax.storage import generators as generator_files
from rsynth_jax.storage import inverters as inverter_files
from rsynth_jax.storage import translators as translator_files
from rsynth_jax.storage.generators import GeneratorRelease
from rsynth_jax.storage.releases import Release
from rsynth_jax.types import Bytes

SHOWN = 16  # images of each class on the sheet of a row
SCORES = ("fd", "kid_x1000", "precision", "recall", "coverage")
HEADER = ("way", "FD", "KID x 1000", "precision", "recall", "coverage", "ms / image")
Ways = dict[str, Callable[[], Bytes]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(common.Options):
    generators: tuple[str, ...] = ()
    """Generators by name, file or training run, of the classifier's classes and size."""
    inverters: tuple[str, ...] = ()
    """Inverters of the classifier by name, file or training run."""
    translators: tuple[str, ...] = ()
    """Translators between the classifier's two classes by name, file or training run."""
    truncation: float = 0.7
    """Psi of the truncated rows."""
    rows: tuple[str, ...] = ()
    """Only the rows whose names hold one of these; by default all."""


@functools.cache
def real(options: Options) -> Bytes:
    """Return the first training images of each class."""
    train = common.read(options, "train")
    return train.images[common.first_of_each_class(train.labels, options.num)]


def of_classifier(release: Release, name: str, num: int) -> Ways:
    """Return the classifier's ascents, by the paper's procedure and by default."""
    generate = functools.partial(samplers.generate, release, num=num, batch_size=BATCH)
    return {f"{name}, paper's ascent": lambda: generate(**PAPER).images, name: lambda: generate().images}


def of_generator(generator: GeneratorRelease, name: str, num: int, **run: float) -> Ways:
    """Return the generator's draws."""
    draw = functools.partial(generators.draw, generator, num=num, batch_size=BATCH, **run)
    return {name: lambda: draw().images}


def of_inverter(release: Release, name: str, images: Bytes) -> Ways:
    """Return the images that the inverter makes of the representations of these."""
    inverter = inverter_files.load(name)
    return {f"{name}, of training images": lambda: inverters.invert_by(release, inverter, images).images}


def of_translator(release: Release, name: str, images: Bytes) -> Ways:
    """Return these images, half of them of each class, translated into the other in a drawn style."""
    translator = translator_files.load(name)
    checks.same_classes(translator.class_names, release.class_names)

    def translated() -> Bytes:
        halves = enumerate(np.split(images, 2)[::-1])
        parts = [translators.translate_by(translator, half, to, styles=1).images for to, half in halves]
        return np.concatenate(parts)[:, 0]

    return {f"{name}, of training images": translated}


def hybrids(release: Release, generator: GeneratorRelease, name: str, num: int) -> Ways:
    """Return the generator's draws refined, its draws as starts, and the logit climbed in code."""
    names = release.class_names
    labels = np.repeat(np.arange(len(release.class_names), dtype=np.int32), num)

    def drawn(classes: str = "all") -> Bytes:
        return generators.draw(generator, classes, num=num, batch_size=BATCH).images

    def refined() -> Bytes:
        return samplers.refine(release, drawn(), labels, batch_size=BATCH).images

    def started() -> Bytes:
        climb = functools.partial(samplers.generate, release, num=num, batch_size=BATCH)
        return np.concatenate([climb(name, starts=drawn(name)).images for name in names])

    def climbed() -> Bytes:
        return codes.generate_in_code(release, generator, num=num, batch_size=BATCH).images

    return {
        f"{name}, refined by the classifier": refined,
        f"{name}, as start of the ascent": started,
        f"{name}, logit climbed in code": climbed,
    }


@common.main(Options(num=2500, classifier="cat-dog-64", out=RESULTS / "comparison"))
def benchmark(options: Options) -> None:
    release = releases.load(options.classifier)
    test = common.embed(common.read(options, "test").images).features
    ways: Ways = {"training images": lambda: real(options)}
    ways |= of_classifier(release, options.classifier, options.num)
    loaded = {name: generator_files.load(name) for name in options.generators}
    for name, generator in loaded.items():
        ways |= of_generator(generator, name, options.num)
    for name, generator in list(loaded.items())[:1]:
        cut = f"{name}, truncation {options.truncation:g}"
        ways |= of_generator(generator, cut, options.num, truncation=options.truncation)
        ways |= hybrids(release, generator, name, options.num)
    for name in options.inverters:
        ways |= of_inverter(release, name, real(options))
    for name in options.translators:
        ways |= of_translator(release, name, real(options))

    def measure(name: str) -> dict:
        images, seconds = common.timed(ways[name])
        path = options.out / f"{name.replace('/', '-')}.npz"
        files.write_arrays(path, {"images": images})
        cells = images.reshape(len(release.class_names), -1, *images.shape[1:])[:, :SHOWN]
        common.sheet(path, cells, release.class_names, name)
        scores = common.scores(images, test)
        return {"seconds_per_image": seconds / len(images)} | {key: scores[key] for key in SCORES}

    chosen = [name for name in ways if not options.rows or any(part in name for part in options.rows)]
    about = {"classifier": options.classifier, "data": options.data, "per_class": options.num}
    rows = common.complete(options.out, chosen, measure, **about, num_real=len(test))
    cells = (
        [name, *common.intervals(row, SCORES), f"{1000 * row['seconds_per_image']:.1f}"]
        for name, row in rows.items()
    )
    print(common.table(HEADER, cells))
