"""Translations by learned translators beside the classifier's, several of each image.

    python -m benchmarks.quality.translators --translators RUN --judge RUN --data folder:DIR --lpips FILE

The first `num` test images of each class become the other class in so many styles: drawn, those of the first
test images of that class, and by the classifier with as many seeds. A row has the share of images whose first
translation the judge, never attacked, gives the new class, LPIPS to the image, and LPIPS between two
translations of one image, both means over the translations of an image, with intervals over images. Described
in docs/translators.md.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import common
from benchmarks.common import BATCH, RESULTS
from benchmarks.quality import editing
from benchmarks.quality.editing import Figures, JudgedOptions
from rsynth_jax import checks
from rsynth_jax.models import embedding
from rsynth_jax.sampling import samplers
from rsynth_jax.sampling import translators as passes
from rsynth_jax.storage import releases, translators
from rsynth_jax.storage.releases import Release
from rsynth_jax.types import Bytes

SHOWN = 4  # images of each class on the sheet, a row each
COLUMNS = ("classifier predicts the new class", "judge does", "LPIPS to the image", "LPIPS between outputs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(JudgedOptions):
    translators: tuple[str, ...]
    """Translators, by name, file or training run."""
    styles: int = 5
    """Translations of an image."""


def ways(options: Options, release: Release, images: Bytes, labels: np.ndarray) -> dict[str, Bytes]:
    """The translations of each image by each way, (n, k, h, w, c)."""
    climb = functools.partial(samplers.translate, release, images, 1 - labels, batch_size=BATCH)
    seeded = np.stack([climb(seed=seed).images for seed in range(options.styles)], axis=1)
    found = {"as they are": images[:, None], "rsynth-translate": seeded}
    for name in options.translators:
        translator = translators.load(name)
        checks.same_classes(translator.class_names, release.class_names)
        draw = functools.partial(passes.translate_by, translator, styles=options.styles, batch_size=BATCH)
        like = functools.partial(passes.translate_like, translator, batch_size=BATCH)
        firsts = [images[labels == label][: options.styles] for label in range(2)]
        found[f"{Path(name).name}, drawn styles"] = of_both(draw, images, labels)
        by_examples = functools.partial(like_firsts, like, firsts)
        found[f"{Path(name).name}, styles of examples"] = of_both(by_examples, images, labels)
    return found


def like_firsts(like: Callable, firsts: list[Bytes], images: Bytes, to: int) -> passes.Translations:
    return like(images, to, firsts[to])


def of_both(translate: Callable[..., passes.Translations], images: Bytes, labels: np.ndarray) -> Bytes:
    """Translate the images of each class into the other; the images come class by class."""
    return np.concatenate([translate(images[labels == own], 1 - own).images for own in range(2)])


def measure(
    options: Options, networks: dict[str, Release], made: Bytes, real: Bytes, labels: np.ndarray
) -> Figures:
    """The figures of each image, (n,) each."""
    columns = np.moveaxis(made, 1, 0)
    found = {}
    for name, network in networks.items():
        found[name] = embedding.predict(network.model, network.variables, columns[0], BATCH) == 1 - labels

    def lpips(first: Bytes, second: Bytes) -> np.ndarray:
        return editing.distances(options, first, second)["lpips"]

    found["lpips"] = np.mean([lpips(each, real) for each in columns], axis=0)
    between = [lpips(first, second) for first, second in itertools.combinations(columns, 2)]
    return found | {"between": np.mean(between, axis=0) if between else np.zeros(len(real))}


@common.main(
    Options(
        edit=measure,
        classifier="cat-dog-64",
        translators=(),
        data="folder:afhq_cat_dog_64",
        num=100,
        out=RESULTS / "translators",
    )
)
def benchmark(options: Options) -> None:
    release, judge = map(releases.load, (options.classifier, options.judge))
    images, labels = common.read(options, "test", side=release.image_shape[0])
    chosen = common.first_of_each_class(labels, options.num)
    real, own = images[chosen], labels[chosen]
    names = [f"{release.class_names[a]} to {release.class_names[1 - a]}" for a in range(2)]
    found = ways(options, release, real, own)
    figures = {}
    for method, made in found.items():
        each = measure(options, {"classifier": release, "judge": judge}, made, real, own)
        figures[method] = {
            name: {key: values[own == label] for key, values in each.items()}
            for label, name in enumerate(names)
        }
    shown = common.first_of_each_class(own, SHOWN)
    cells = np.concatenate([made[shown] for made in found.values()], axis=1)
    common.sheet(options.out, cells, [names[label] for label in own[shown]], " | ".join(found))
    about = {name: getattr(options, name) for name in ("classifier", "judge", "translators", "styles")}
    common.write(options.out, **about, per_class=options.num, rows=editing.summary(figures))
    print(editing.group_table(COLUMNS, figures))
