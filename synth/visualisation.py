"""rsynth-visualize: what a unit of the penultimate layer, or a class, looks like to a robust classifier.

rsynth-visualize --features top:16 --data tfds:cifar10 --data-dir DIR --out features.png
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import numpy as np
from tyro.conf import arg

from rsynth_jax import checks, models
from rsynth_jax.cli import options as studio
from rsynth_jax.cli import run as console
from rsynth_jax.cli import sheets as pictures
from rsynth_jax.data import sources as data
from rsynth_jax.data import unlabelled
from rsynth_jax.sampling import embedding
from rsynth_jax.sampling import runner as expedition
from rsynth_jax.storage import files
from rsynth_jax.storage import releases as checkpoints
from rsynth_jax.synthesis import objectives
from rsynth_jax.synthesis import tasks as synthesis
from rsynth_jax.synthesis.ascent import steepest
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.projections import box, chain, l2_ball
from rsynth_jax.synthesis.tasks import Task

READERS = 2  # classes named beside a unit: those whose weights on it are largest


def visualisation(classifier, start, number, *, score, radius):
    """From an image of nothing in particular, climb `score(classifier, number)`, of a unit or a class."""
    return Task(start, score(classifier, number), chain(l2_ball(start, radius), box()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(studio.Climb):
    """rsynth-visualize: what a unit of the penultimate layer, or a class, looks like to a robust classifier.

    Climbs the activation from draws of the Gaussians of classes taken at random, the same draws for every
    unit, and shows beside the results the real images of --data that excite it most (Engstrom et al. 2019).
    Start i depends on (seed, i) alone.
    """

    features: Annotated[tuple[str, ...], arg(metavar="UNIT ...")] = ()
    """Units of the penultimate layer by number, or top:K: the K that move the logits most, by the length of
    the weights that read them, times the deviation over --data where it is given."""
    classes: Annotated[tuple[str, ...], arg(metavar="CLASS ...")] = ()
    """Classes by name or number, or all; their activation is the logit."""
    data: Annotated[str | None, arg(metavar="A")] = None
    """Real images: a folder, an .npz, or tfds:NAME; by default none."""
    num: Annotated[int, arg(metavar="N")] = 1000
    """Only the first so many of A."""
    starts: int = 4
    """Images painted of each, from starts of as many classes."""
    real: int = 4
    """Real images shown of each, at most."""
    seed: int = 0
    """Of the draws."""
    radius: float = 30.0
    """Largest l2 distance from the start, in pixel values of [0, 1] at 32 pixels."""
    out: Path = Path("features.png")
    """The sheet, a PNG with a row for each unit, then for each class."""


class Kind(NamedTuple):
    """Units, or classes: n names and numbers, and the score to climb, (classifier, number) -> Objective.

    Their activations (m, n) are features (m, d) @ weights (d, n) + bias (n,).
    """

    names: list[str]
    numbers: np.ndarray
    score: Callable
    weights: np.ndarray
    bias: np.ndarray


class Real(NamedTuple):
    """The real images: themselves, their names and representations (m, d)."""

    images: Sequence
    names: tuple[str, ...]
    features: np.ndarray


def check(options: Options) -> None:
    """Raise ValueError for a flag that makes no sense."""
    o = options
    studio.check(o)
    checks.positive(starts=o.starts, real=o.real)
    checks.not_negative(seed=o.seed)
    files.check_writable(o.out, o.json)
    if not (o.features or o.classes):
        raise ValueError("nothing to visualise: give --features (numbers, or top:K) or --classes")


def units(asked: Sequence[str], weights: np.ndarray, deviations: np.ndarray | float) -> list[int]:
    """The numbers of units, where top:K may stand for the K of the largest |weights| * deviation."""
    found = []
    for word in asked:
        kind, _, most = word.partition(":")
        if kind != "top":
            found.append(console.unit(word, len(weights)))
        elif not (most.isascii() and most.isdigit() and 0 < int(most) <= len(weights)):
            raise ValueError(f"cannot read {word!r}: write top:K, with K from 1 to {len(weights)}")
        else:
            sway = np.linalg.norm(weights, axis=1) * deviations
            found += np.argsort(-sway, kind="stable")[: int(most)].tolist()
    return found


def read(options: Options, release) -> Real:
    """The real images and what the network makes of them."""
    o = options
    images = unlabelled.load(o.data, o.split, o.data_dir, o.image_size or release.image_shape[0])
    names = unlabelled.names(o.data, o.split, min(o.num, len(images)))
    images = data.Mapped(range(len(names)), images.__getitem__)
    model = models.create(release.config)
    with console.bar() as bar:
        track = functools.partial(bar.track, description="looking")
        made = expedition.embedded(model, release.variables, images, o.batch_size, track)
    return Real(images, names, made.features)


def kinds(options: Options, release, real: Real | None) -> list[Kind]:
    """The units and the classes that are asked for."""
    weights, bias = (np.asarray(part) for part in models.readout(release.variables))
    deviations = 1.0 if real is None else real.features.std(axis=0)
    numbers = np.array(units(options.features, weights, deviations), np.int32)
    names, axes = [f"unit {number}" for number in numbers], np.eye(len(weights), dtype=np.float32)
    found = [Kind(names, numbers, objectives.activation, axes[:, numbers], np.zeros(len(numbers)))]
    if options.classes:
        labels = np.array(console.classes(options.classes, release.class_names), np.int32)
        names = [release.class_names[label] for label in labels]
        found.append(Kind(names, labels, objectives.logit, weights[:, labels], bias[labels]))
    return [kind for kind in found if kind.names]


def starts_of(options: Options, release):
    """The numbers of starts -> the starts, each of a class of its own while there are classes left."""
    side = options.image_size or release.image_shape[0]
    shape = (side, side, release.image_shape[-1])
    embedding.colors(models.create(release.config), release.variables, shape)
    classes = np.random.default_rng(options.seed).permutation(len(release.class_names))
    draw = expedition.draws(jax.random.key(options.seed), release.class_gaussians, shape)
    return lambda numbers: draw(classes[numbers % len(classes)], numbers[:, None])


def paint(options: Options, release, kind: Kind) -> tuple[studio.Painted, np.ndarray]:
    """The climbs of every start towards each of a kind, and their activations before and after, (2, n, k)."""
    num, start, model = options.starts, starts_of(options, release), models.create(release.config)
    task = functools.partial(visualisation, score=kind.score, radius=options.radius)
    climb_fn = synthesis.with_optimizer(task, steepest(L2, options.step_size))
    rows = np.arange(len(kind.names) * num)

    def rows_of(rows):
        return start(rows % num), kind.numbers[rows // num]

    painted = studio.climbed(options, release, climb_fn, rows_of, len(rows))
    ends = np.concatenate([painted.frames[0], painted.frames[-1]])
    made = expedition.embedded(model, release.variables, ends, options.batch_size)
    activations = (made.features @ kind.weights + kind.bias).reshape(2, len(rows), -1)
    return painted, activations[:, rows, rows // num].reshape(2, -1, num)


def visualise(options: Options) -> int:
    """Load, look, climb, write."""
    check(options)
    release = checkpoints.load(options.classifier)
    options = studio.scaled(options, release)
    kinds(options, release, None)  # refuses what is not there, before images are read
    real = read(options, release) if options.data else None
    each, cells, seconds = [], [], 0.0
    for kind in kinds(options, release, real):
        painted, activations = paint(options, release, kind)
        images, chosen = np.array_split(painted.frames[-1], len(kind.names)), [{}] * len(kind.names)
        if real is not None:
            most, chosen = exciting(options, kind, real)
            images = np.concatenate([images, np.full_like(most[:, :1], 255), most], axis=1)
        each += described(release, kind, activations, chosen)
        cells.append(images)
        seconds += painted.seconds
    return publish(options, each, np.concatenate(cells), seconds)


def exciting(options: Options, kind: Kind, real: Real) -> tuple[np.ndarray, list[dict]]:
    """The real images that excite each of a kind most, (n, m, h, w, c), the most exciting first."""
    activations = (real.features @ kind.weights + kind.bias).T
    most = np.argsort(-activations, axis=1, kind="stable")[:, : options.real]
    images = np.stack([[real.images[k] for k in row] for row in most])
    said = [
        {"real": [{"name": real.names[k], "activation": float(own[k])} for k in row]}
        for own, row in zip(activations, most, strict=True)
    ]
    return images, said


def described(release, kind: Kind, activations: np.ndarray, chosen: list[dict]) -> list[dict]:
    """Of each its numbers as plain values; of a unit the weights with which classes read it too."""
    readers = [{}] * len(kind.names)
    if kind.score is objectives.activation:
        weights = np.asarray(models.readout(release.variables)[0])[kind.numbers]
        order = np.argsort(-weights, axis=1, kind="stable")
        readers = [
            {"readers": {release.class_names[label]: float(row[label]) for label in labels}}
            for row, labels in zip(weights, order, strict=True)
        ]
    return [
        {"name": name, "activation_start": start.tolist(), "activation": end.tolist()} | read | seen
        for name, start, end, read, seen in zip(kind.names, *activations, readers, chosen, strict=True)
    ]


def caption(one: dict) -> str:
    """unit 205: -0.2 -> 5.1 (deer +0.9, airplane +0.1)."""
    start, end = np.mean(one["activation_start"]), np.mean(one["activation"])
    readers = [f"{name} {weight:+.1f}" for name, weight in list(one.get("readers", {}).items())[:READERS]]
    return f"{one['name']}: {start:.1f} -> {end:.1f}" + (f" ({', '.join(readers)})" if readers else "")


def publish(options: Options, each: list[dict], cells: np.ndarray, seconds: float) -> int:
    """The sheet, the numbers and the closing line."""
    title = f"{options.starts} painted by {options.steps} steps of {options.step_size:g}"
    if options.data is not None:
        title += f", then the images of {options.data} that excite it most"
    names = [caption(one) for one in each]
    pictures.write_sheet(options.out, cells.reshape(-1, *cells.shape[2:]), cells.shape[1], names, title)
    means = {key: float(np.mean([one[key] for one in each])) for key in ("activation_start", "activation")}
    console.report(options.json, means | {"shown": each, "seconds": seconds})
    print(
        f"{options.out}: {options.starts} images of each of {len(each)} in {seconds:.1f} s; "
        "mean activation {activation_start:.2f} -> {activation:.2f}".format(**means)
    )
    return 0


def main() -> None:
    """The command."""
    console.run(Options, visualise)


if __name__ == "__main__":
    main()
