"""rsynth-detect: out-of-distribution detection by a robust classifier's energy, set by set.

rsynth-detect --in tfds:cifar10 --against noise constant photos/ --data-dir DIR --plot energy.png
"""

import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import plots
from rsynth_jax.cli.options import BatchSize, ClassifierName, DataFlags, JsonFile, Seed, Split, SystemFlags
from rsynth_jax.cli.report import print_lines
from rsynth_jax.cli.run import progress_bar, run
from rsynth_jax.data import noise, sources
from rsynth_jax.storage import files

FEWEST = 2  # images of a set: fewer have no interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-detect: out-of-distribution detection by a robust classifier's energy, set by set.

    The energy is the log-sum-exp of the logits: log p(image) up to a constant, where the classifier is read
    as an energy-based model (Grathwohl et al. 2020). Prints, for each set, the AUROC: the chance that an
    image of --in has more energy than one of the set (1: always, 0.5: no difference), with a 95 % interval by
    DeLong's variance, and the set's mean energy.
    """

    classifier: ClassifierName = "cifar10"
    inside: Annotated[str, arg(name="in", metavar="A")] = "tfds:cifar10"
    """Images like those of training, but not among them: tfds:NAME, a folder, or an .npz."""
    against: Annotated[tuple[str, ...], arg(metavar="B ...")] = tuple(noise.DRAWS)
    """Out-of-distribution sets to compare with: noise (every value uniform), gaussian (mean 0.5, deviation
    0.25, cut to [0, 1]), constant (each image one random color), or images as for --in."""
    split: Split = None
    num: int = 1000
    """Only the first N images of each set."""
    seed: Seed = 0
    batch_size: BatchSize = 100
    plot: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also draw the energies of every set, a PNG of histograms."""
    json: JsonFile = None
    reading: DataFlags = DataFlags()
    system: SystemFlags = SystemFlags()

    def __post_init__(self) -> None:
        checks.positive(batch_size=self.batch_size)
        checks.enough("an interval (num)", FEWEST, self.num)
        checks.not_negative(seed=self.seed)
        if not self.against:
            raise ValueError(f"no sets to compare with: give --against {', '.join(noise.DRAWS)}, or images")
        if self.inside in self.against:
            raise ValueError(f"{self.inside} is on both sides: --against takes other sets than --in")


def detect(options: Options) -> int:
    """Measure the energies of every set, compare and report."""
    from rsynth_jax.sampling import measures
    from rsynth_jax.storage import releases

    o = options
    files.check_writable(o.plot, o.json)
    release = releases.load(o.classifier)
    began = time.perf_counter()
    side = o.reading.image_size or release.image_shape[0]
    shape = (side, side, release.image_shape[-1])
    sets = {spec: read(o, spec, shape) for spec in (o.inside, *o.against)}
    energies: dict[str, np.ndarray] = {}
    settings: dict[str, Any] = {"batch_size": o.batch_size}
    with progress_bar() as bar:
        for spec, images in sets.items():
            settings["track"] = functools.partial(bar.track, description=spec)
            energies[spec] = measures.energies(release.model, release.variables, images, **settings)
    seconds = time.perf_counter() - began
    if o.plot:
        title = f"energy of {o.classifier}: the log-sum-exp of its logits (orange: {o.inside})"
        plots.write_histograms(o.plot, energies, title)
    return compare(o, energies, seconds)


def compare(options: Options, energies: dict[str, np.ndarray], seconds: float) -> int:
    """Compare the energies of the sets, and report."""
    from rsynth_jax.metrics import estimates, ranking

    o = options
    means = {spec: estimates.mean(values) for spec, values in energies.items()}
    areas = {spec: ranking.auroc(energies[o.inside], energies[spec]) for spec in o.against}
    num = len(energies[o.inside])
    numbers: dict[str, Any] = {"classifier": o.classifier, "in": o.inside, "num": num, "seed": o.seed}
    numbers |= {"mean_energy": means[o.inside]._asdict(), "seconds": seconds}
    numbers["against"] = {
        spec: {"auroc": area._asdict(), "mean_energy": means[spec]._asdict(), "num": len(energies[spec])}
        for spec, area in areas.items()
    }
    width = max(map(len, areas))
    lines = [
        f"{spec:<{width}}   AUROC {area.value:.4f} [{area.low:.4f}, {area.high:.4f}]   "
        f"mean energy {means[spec].value:7.2f}"
        for spec, area in areas.items()
    ]
    mean = f"mean energy {means[o.inside].value:.2f}"
    closing = f"{o.classifier} on {num} images of {o.inside}: {mean}, in {seconds:.1f} s"
    return print_lines([*lines, closing], numbers, o.json)


def read(options: Options, spec: str, shape: tuple[int, int, int]) -> Sequence[np.ndarray]:
    """Open the first images of a set, or draw them."""
    o = options
    if spec in noise.DRAWS:
        return noise.drawn(noise.DRAWS[spec], o.num, shape, seed=o.seed)
    split = o.split if spec == o.inside else None
    images = sources.load(spec, split, o.reading.data_dir, shape[0]).first(o.num).images
    checks.enough(f"an interval for {spec}", FEWEST, len(images))
    return images


def main() -> None:
    """Run the command."""
    run(Options, detect)


if __name__ == "__main__":
    main()
