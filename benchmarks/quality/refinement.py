"""Fréchet distance of damaged photographs to real ones, before and after refinement.

    python -m benchmarks.quality.refinement --data-dir DIR

The first test images are blurred and compressed, and refined by the defaults of `samplers.refine` towards the
class predicted from the damaged image, which may be wrong. Fréchet distances (features of an ImageNet
EfficientNet-Lite0) are to the *other* test images: no damaged image comes from them, and neither the
classifier nor its class Gaussians were fitted to any of them. The row of undamaged images gives the lowest
distance to expect. Needs the extra `[eval]`.
"""

import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from scipy import ndimage

from benchmarks import common
from benchmarks.common import RESULTS
from rsynth_jax.cli.sheets import Page, write_sheet
from rsynth_jax.metrics import frechet
from rsynth_jax.sampling import samplers
from rsynth_jax.storage import releases
from rsynth_jax.types import Bytes

SHOWN = 12  # images a row of the sheet
SIGMA = 1.0  # pixels
QUALITY = 10  # of Pillow's JPEG


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(common.Options):
    """Refine damaged photographs."""

    num: int = 2000
    """Test images to damage, from the first on; distances are to the others."""
    out: Path = RESULTS / "refinement"
    """Written: OUT.png, OUT.json."""


def blur(images: Bytes) -> Bytes:
    """Apply a Gaussian of `SIGMA` pixels."""
    smooth = ndimage.gaussian_filter(images.astype(np.float64), (0, SIGMA, SIGMA, 0))
    return np.rint(smooth).astype(np.uint8)


def compress(images: Bytes) -> Bytes:
    """Store each image as a JPEG of `QUALITY`, and read it."""

    def compressed(image: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Pillow.fromarray(image).save(file, "JPEG", quality=QUALITY)
        return np.asarray(Pillow.open(file))

    return np.stack([compressed(image) for image in images])


DAMAGES = {
    "real": lambda images: images,
    f"blurred, sigma {SIGMA:g}": blur,
    f"JPEG, quality {QUALITY}": compress,
}


def measure(images: Bytes, originals: Bytes, others: np.ndarray) -> dict:
    """The Fréchet distance to the features of the others, and the mean l2 distance to the originals."""
    distance = frechet.frechet_estimate(common.embed(images).features, others)
    gaps = (images / 255.0 - originals / 255.0).reshape(len(images), -1)
    return {"fd": distance._asdict(), "l2": float(np.linalg.norm(gaps, axis=1).mean())}


def cells(row: dict, stage: str) -> list[str]:
    """The figures of a stage as text."""
    return [*common.intervals(row, [f"fd_{stage}"]), f"{row[f'l2_{stage}']:.2f}"]


def benchmark(options: Options) -> None:
    """Damage, refine, measure; write the sheet and the figures, print the table."""
    release = releases.load(options.classifier)
    images = common.read(options, "test").images
    originals = images[: options.num]
    others = common.embed(images[options.num :]).features
    rows = {}
    shown = {}
    for name, damage in DAMAGES.items():
        stages = {"before": damage(originals)}
        stages["after"] = samplers.refine(release, stages["before"], batch_size=common.BATCH).images
        found = {stage: measure(each, originals, others) for stage, each in stages.items()}
        rows[name] = {f"{key}_{stage}": value for stage in found for key, value in found[stage].items()}
        shown |= {name: stages["before"][:SHOWN], f"{name}, refined": stages["after"][:SHOWN]}
    title = "the first test images, damaged and refined"
    write_sheet(options.out.with_suffix(".png"), Page(np.stack(list(shown.values())), list(shown), title))
    common.write(
        options.out,
        classifier=options.classifier,
        num=len(originals),
        others=len(others),
        **common.defaults(samplers.refine, "radius", "num_steps", "step_size"),
        rows=rows,
    )
    header = ["images", "FD before", "l2 to the real", "FD after", "l2 to the real"]
    print(
        common.table(
            header, ([name, *cells(row, "before"), *cells(row, "after")] for name, row in rows.items())
        )
    )


if __name__ == "__main__":
    common.run(Options, benchmark)
