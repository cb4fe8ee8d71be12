"""rsynth-fit-seeds: class Gaussians, where generation starts, fitted to images and added to a classifier.

rsynth-fit-seeds r50.safetensors --data folder:photos --classes imagenet --out r50-seeds.safetensors
"""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import Positional, arg

from rsynth_jax import checks
from rsynth_jax.cli import options
from rsynth_jax.cli.report import print_lines
from rsynth_jax.cli.run import run
from rsynth_jax.data import loader
from rsynth_jax.storage import files

SIDE = 16  # pixels of the Gaussians: that of the released classifiers at 32 and at 64 pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-fit-seeds: class Gaussians, where generation starts, fitted to images and added to a classifier.

    For a classifier that has none, such as an imported one, or others. The Gaussian of a class has the mean
    of its images at 16 x 16 pixels and the principal components that hold --share of their variance: in
    three channels 1.5 kB each in bfloat16, 3.1 kB in float32, and 2.4 MB a class at most. The classes of the
    data must be those of the classifier, in their order; --classes names them.
    """

    classifier: Positional[options.ClassifierName]
    data: Annotated[str, arg(metavar="KIND:PLACE")]
    """Training images: cifar10, tfds:NAME, folder:PATH (one folder a class) or npz:FILE."""
    split: str = "train"
    """Split of the data; all is a folder or file without splits."""
    num: Annotated[int | None, arg(metavar="N")] = None
    """Only the first N images; two of each class are needed."""
    share: float = 0.95
    """Share of the variance to keep."""
    out: Annotated[Path, arg(metavar="FILE")] = Path("seeded.safetensors")
    """The classifier with the class Gaussians: a new file, or its own to replace it."""
    json: options.JsonFile = None
    reading: options.LabelledDataFlags = options.LabelledDataFlags()
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.given(checks.positive, num=self.num)
        checks.share(share=self.share)


def fit_seeds(flags: Options) -> int:
    """Fit the Gaussians, write the classifier and report."""
    from rsynth_jax.storage import releases
    from rsynth_jax.synthesis import class_gaussians

    files.check_writable(flags.out)
    options.check_outputs(json=flags.json)
    path = releases.locate(flags.classifier)
    release = releases.load(path)
    side = min(SIDE, release.image_shape[0])
    (dataset,) = flags.reading.load_labelled(flags.data, flags.split, side=side)
    checks.same_classes(dataset.class_names or (), release.class_names)
    images, labels = loader.in_memory(dataset.first(flags.num), loader.MEMORY)
    checks.same_channels(release.image_shape, images.shape)
    classes = len(release.class_names)
    gaussians = class_gaussians.fit(images, labels, classes, factor=1, share=flags.share)
    fitted = {"data": flags.data, "split": flags.split, "num": len(images), "share": flags.share}
    recipe = release.recipe | {"seeds": fitted}
    dtype = releases.dtype_of(path)
    releases.save(flags.out, release._replace(class_gaussians=gaussians, recipe=recipe), dtype)
    numbers = fitted | {"side": images.shape[1], "components": gaussians.components.shape[1]}
    numbers["megabytes"] = 1e-6 * dtype.itemsize * sum(map(np.size, gaussians)) / classes
    about = "{num} images, at most {components} components, {megabytes:.2g} MB a class".format_map(numbers)
    return print_lines([f"{flags.out}: {classes} class Gaussians of {about}"], numbers, flags.json)


main = functools.partial(run, Options, fit_seeds)

if __name__ == "__main__":
    main()
