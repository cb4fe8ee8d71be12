"""rsynth-detect: does a robust classifier know what it has never seen? By its energy, set by set.

rsynth-detect --in tfds:cifar10 --against noise constant photos/ --data-dir DIR --plot energy.png
"""

import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
from tyro.conf import arg

from rsynth_jax import checks, models
from rsynth_jax.cli import run as console
from rsynth_jax.cli import sheets as pictures
from rsynth_jax.data import sources as data
from rsynth_jax.data import unlabelled
from rsynth_jax.metrics import estimates, ranking
from rsynth_jax.sampling import embedding
from rsynth_jax.storage import files
from rsynth_jax.storage import releases as checkpoints

LEAST = 2  # images of a set: less has no interval

DRAWS = {
    "noise": lambda rng, shape: rng.random(shape),
    "gaussian": lambda rng, shape: np.clip(rng.normal(0.5, 0.25, shape), 0, 1),
    "constant": lambda rng, shape: np.broadcast_to(rng.random(shape[-1]), shape),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """rsynth-detect: does a robust classifier know what it has never seen?

    Out-of-distribution detection by the log-sum-exp of the logits, the energy: log p(image) up to a
    constant, where the classifier is read as an energy-based model (Grathwohl et al. 2020). Prints, for each
    set, the AUROC: the chance that an image of the classifier's own kind has more energy than one of the
    set (1: always, 0.5: no telling), with a 95 % interval by DeLong's variance, and the set's mean energy.
    """

    classifier: str = "cifar10"
    """A bundled classifier by name, a .safetensors file, or a training run."""
    inside: Annotated[str, arg(name="in", metavar="A")] = "tfds:cifar10"
    """Images of the classifier's own kind, unseen in training: tfds:NAME, a folder, or an .npz."""
    against: Annotated[tuple[str, ...], arg(metavar="B ...")] = tuple(DRAWS)
    """Sets to tell them from: noise (every value uniform), gaussian (mean 0.5, deviation 0.25, cut to
    [0, 1]), constant (each image one random color), or images as for --in."""
    split: Annotated[str | None, arg(metavar="SPLIT")] = None
    """Which of A: train, test, train[:50%] ...; by default, as always of B, test of TFDS, else all."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """Where TFDS data sets lie; TFDS's own default otherwise."""
    image_size: Annotated[int | None, arg(metavar="PIXELS")] = None
    """Resize the central square of every image to this side (Lanczos); by default the classifier's."""
    num: int = 1000
    """Only the first so many of each set."""
    seed: int = 0
    """Of the sets that are drawn; image i depends on (seed, i) alone."""
    batch_size: int = 100
    """Images computed together; changes the speed, and the figures by no more than rounding."""
    plot: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also draw the energy of every set, a PNG of histograms."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write every number printed."""


def check(options: Options) -> None:
    """Raise ValueError for a flag that makes no sense."""
    o = options
    checks.positive(batch_size=o.batch_size)
    checks.enough("an interval (num)", LEAST, o.num)
    checks.given(checks.positive, image_size=o.image_size)
    checks.not_negative(seed=o.seed)
    if not o.against:
        raise ValueError(f"nothing to tell apart: give --against {', '.join(DRAWS)}, or images")
    if o.inside in o.against:
        raise ValueError(f"{o.inside} stands on both sides: --against takes other sets than --in")
    files.check_writable(o.plot, o.json)


def drawn(name: str, seed: int, num: int, shape: tuple[int, int, int]) -> Sequence:
    """`num` images of a set that is drawn."""

    def draw(i: int) -> np.ndarray:
        return np.uint8(np.rint(255 * DRAWS[name](np.random.default_rng((seed, i)), shape)))

    return data.Mapped(range(num), draw)


def images_of(options: Options, spec: str, split: str | None, shape: tuple[int, int, int]) -> Sequence:
    """The first images of a set, drawn or loaded."""
    if spec in DRAWS:
        return drawn(spec, options.seed, options.num, shape)
    images = unlabelled.load(spec, split, options.data_dir, shape[0])
    checks.enough(f"an interval for {spec}", LEAST, len(images))
    return data.Mapped(range(min(options.num, len(images))), images.__getitem__)


def energy(options: Options, release, images: Sequence, track) -> np.ndarray:
    """The log-sum-exp of each image's logits, (n,)."""
    batches = embedding.in_batches(images, options.batch_size, track)
    model = models.create(release.config)
    logits = embedding.embed(model, release.variables, batches, options.batch_size).logits
    return np.asarray(jax.nn.logsumexp(logits, axis=1))


def detect(options: Options) -> int:
    """Load, measure, compare, report."""
    check(options)
    release, began = checkpoints.load(options.classifier), time.perf_counter()
    side = options.image_size or release.image_shape[0]
    shape = (side, side, release.image_shape[-1])
    sets = {options.inside: images_of(options, options.inside, options.split, shape)}
    sets |= {spec: images_of(options, spec, None, shape) for spec in options.against}
    with console.bar() as bar:
        found = {
            spec: energy(options, release, images, functools.partial(bar.track, description=spec))
            for spec, images in sets.items()
        }
    seconds = time.perf_counter() - began
    if options.plot:
        title = f"energy of {options.classifier}: the log-sum-exp of its logits (orange: {options.inside})"
        pictures.write_histograms(options.plot, found, title)
    return report(options, found, seconds)


def report(options: Options, found: dict[str, np.ndarray], seconds: float) -> int:
    """A line for each set, and one that closes."""
    means = {spec: estimates.mean(values) for spec, values in found.items()}
    inside = found[options.inside]
    areas = {spec: ranking.auroc(inside, found[spec]) for spec in options.against}
    numbers = {
        "classifier": options.classifier,
        "in": options.inside,
        "num": len(inside),
        "seed": options.seed,
    }
    numbers |= {"mean_energy": means[options.inside]._asdict(), "seconds": seconds}
    numbers["against"] = {
        spec: {"auroc": area._asdict(), "mean_energy": means[spec]._asdict(), "num": len(found[spec])}
        for spec, area in areas.items()
    }
    console.report(options.json, numbers)
    width = max(map(len, areas))
    for spec, (value, low, high) in areas.items():
        print(
            f"{spec:<{width}}   AUROC {value:.4f} [{low:.4f}, {high:.4f}]   "
            f"mean energy {means[spec].value:7.2f}"
        )
    print(
        f"{options.classifier} on {len(inside)} images of {options.inside}: "
        f"mean energy {means[options.inside].value:.2f}, in {seconds:.1f} s"
    )
    return 0


def main() -> None:
    """The command."""
    console.run(Options, detect)


if __name__ == "__main__":
    main()
