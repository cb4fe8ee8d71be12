"""rsynth-detect: out-of-distribution detection by a robust classifier's energy, set by set.

rsynth-detect --in cifar10 --against noise constant photos/ --plot energy.png
"""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import classifiers, options, plots, results
from rsynth_jax.cli.report import print_lines
from rsynth_jax.cli.run import Clock, run, tracks
from rsynth_jax.data import noise, sources
from rsynth_jax.metrics import estimates

if TYPE_CHECKING:
    from rsynth_jax.storage.releases import Release


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-detect: out-of-distribution detection by a robust classifier's energy, set by set.

    The energy is the log-sum-exp of the logits: log p(image) up to a constant, where the classifier is read
    as an energy-based model (Grathwohl et al. 2020). Prints, for each set, the AUROC: the chance that an
    image of --in has more energy than one of the set (1: always, 0.5: no difference), with a 95 % interval by
    DeLong's variance, and the set's mean energy.
    """

    classifier: options.ClassifierName = "cifar10"
    inside: Annotated[str, arg(name="in", metavar="A")] = "cifar10"
    """Images like those of training, but not among them: cifar10, tfds:NAME, a folder, or an .npz."""
    against: Annotated[tuple[str, ...], arg(metavar="B ...")] = tuple(noise.DRAWS)
    """Out-of-distribution sets to compare with: noise (every value uniform), gaussian (mean 0.5, deviation
    0.25, cut to [0, 1]), constant (each image one random color), or images as for --in."""
    split: options.Split = None
    num: int = 1000
    """Only the first N images of each set."""
    seed: options.Seed = 0
    batch_size: options.BatchSize = 100
    plot: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also draw the energies of every set as histograms."""
    json: options.JsonFile = None
    reading: options.DataFlags = options.DataFlags()
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(num=self.num, batch_size=self.batch_size)
        checks.enough("an interval (num)", estimates.FEWEST, self.num)
        checks.seed(seed=self.seed)
        if not self.against:
            raise ValueError(f"no sets to compare with: give --against {', '.join(noise.DRAWS)}, or images")
        if self.inside in self.against:
            raise ValueError(f"{self.inside} is on both sides: --against takes other sets than --in")


def detect(flags: Options) -> int:
    """Measure the energies of every set, compare and report."""

    options.check_outputs(image=flags.plot, json=flags.json)
    release = classifiers.load(flags.classifier)
    clock = Clock()
    energies, skipped = _energies(flags, release)
    seconds = clock.lap()
    if flags.plot:
        title = f"energy of {flags.classifier}: the log-sum-exp of its logits (orange: {flags.inside})"
        plots.write_histograms(flags.plot, energies, title)
    inside = estimates.mean(energies[flags.inside])
    num = len(energies[flags.inside])
    numbers = {"classifier": flags.classifier, "in": flags.inside, "num": num, "seed": flags.seed}
    lines, against = results.detected(energies, flags.inside)
    numbers |= {"mean_energy": inside._asdict(), "seconds": seconds, "against": against}
    about = f"{flags.classifier} on {num} images of {flags.inside}"
    closing = f"{about}: mean energy {inside.value:.2f}, in {seconds:.1f} s"
    return print_lines([*lines, closing], numbers, flags.json, skipped, flags.plot)


def _energies(flags: Options, release: "Release") -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Measure every set. Returns the energies by set, and a line for each image that cannot be read."""
    from rsynth_jax.sampling import measures

    network = (release.model, release.variables)
    sets = {spec: _open(flags, spec, release.image_shape) for spec in (flags.inside, *flags.against)}
    with tracks() as track:
        read = {spec: sources.readable(each, track(f"reading {spec}")) for spec, each in sets.items()}
        for spec, found in read.items():
            checks.enough(f"an interval for {spec}", estimates.FEWEST, len(found.dataset))
        measure = functools.partial(measures.energies, *network, batch_size=flags.batch_size)
        energies = {spec: measure(found.dataset.images, track=track(spec)) for spec, found in read.items()}
    return energies, tuple(line for found in read.values() for line in found.skipped)


def _open(flags: Options, spec: str, shape: tuple[int, int, int]) -> sources.Dataset:
    """Open the first images of a set, or draw them."""
    side = flags.reading.image_size or shape[0]
    if spec in noise.DRAWS:
        return noise.drawn(noise.DRAWS[spec], flags.num, (side, side, shape[-1]), seed=flags.seed)
    return flags.reading.load(spec, flags.split if spec == flags.inside else None, side).first(flags.num)


main = functools.partial(run, Options, detect)

if __name__ == "__main__":
    main()
