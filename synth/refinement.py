"""rsynth-refine: images moved a little towards their class, by a few small steps.

rsynth-refine generated.npz --out refined.npz --sheet refined.png
"""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from tyro.conf import arg

from rsynth_jax.cli import classifiers, options, photos, sharded
from rsynth_jax.cli.hosts import JoinFlags
from rsynth_jax.cli.report import CHANGE, Result, climb_numbers, image_arrays, report
from rsynth_jax.cli.run import Monitor, run
from rsynth_jax.cli.sheets import Page
from rsynth_jax.data import sources

if TYPE_CHECKING:
    from rsynth_jax.sampling.runner import Samples
    from rsynth_jax.storage.releases import Release

COLUMNS = 16  # of a sheet at most: the .npz has all images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-refine: images moved a little towards their class, by a few small steps.

    For generated or damaged images of any source (BIGRoC, Ganz and Elad 2022). Each climbs the logit of its
    class inside a small l2 ball around itself.
    """

    input: options.InputFlags
    photo: options.PhotoFlags = options.PhotoFlags()
    classifier: options.ClassifierName = "cifar10"
    dtype: options.Dtype = "float32"
    label: options.ClassName = None
    ascent: options.AscentFlags = options.AscentFlags(radius=1.0, steps=5, step_size=0.2)
    out: Path = Path("refined.npz")
    """The refined images: images uint8 (n, h, w, c), labels, class_names; not written with --shards."""
    sheet: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write a sheet: the first images, before and after."""
    bare: options.Bare = False
    json: options.JsonFile = None
    sharding: options.ShardFlags = options.ShardFlags()
    hosts: JoinFlags = JoinFlags()
    system: options.SystemFlags = options.SystemFlags()


def refine(flags: Options) -> int:
    """Refine and report."""
    from rsynth_jax.sampling import samplers

    ascent = flags.ascent
    npz = flags.out if flags.sharding.shards is None else None
    options.check_outputs(npz=npz, sheet=flags.sheet, json=flags.json)
    flags.sharding.check(photo=flags.photo)
    release = classifiers.load(flags.classifier, flags.dtype)
    settings = ascent.settings(release)
    scale = samplers.scale_of(release)
    lengths = f"{ascent.step_size * scale:g}, l2 radius {ascent.radius * scale:g}"

    def sampler(release: "Release", given: sources.Pictures, **settings: Any) -> "Samples":
        return samplers.refine(release, given.images, given.labels, gray=given.gray, **settings)

    def page(before: np.ndarray, after: np.ndarray) -> Page:
        cells = np.stack([before[:COLUMNS], after[:COLUMNS]])
        return Page(cells, ["given", "refined"], f"logit, {ascent.steps} steps of {lengths}")

    if npz is None:
        done = sharded.edited(flags, release, sampler, **settings)
        return done.made.report(page(done.given.images, done.after), flags.sheet, flags.json, flags.bare)
    given = options.read(flags.input, release, flags.label, crop=flags.photo.box)
    outputs = [npz, flags.sheet, flags.json]
    targets = photos.targets(flags.photo.photo, given, outputs)
    begin = functools.partial(photos.announce, given, outputs, written=bool(targets))
    with Monitor(len(given.images), ascent.steps, begin=begin) as monitor:
        samples = sampler(release, given, **settings | monitor.run)
    lines, columns = photos.described(release, given, samples, settings["batch_size"])
    photos.write(targets, given, samples.images, photos.composite)
    sheet = page(given.images, samples.images)
    arrays = image_arrays(release, samples.images, samples.labels)
    about = {"class": arrays["class_names"][arrays["labels"]]}
    numbers = climb_numbers(samples, about | columns, monitor.seconds)
    change = CHANGE.format_map(numbers)
    closing = f"{len(samples.images)} images refined in {monitor.seconds:.1f} s; {change}"
    result = Result(sheet, numbers, closing, arrays, frames=[sheet], skipped=given.skipped, lines=lines)
    return report(flags.out, result, sheet=flags.sheet, npz=flags.out, json=flags.json, bare=flags.bare)


main = functools.partial(run, Options, refine)

if __name__ == "__main__":
    main()
