"""Fréchet distance of damaged photographs to other real ones, before and after refinement: docs/quality.md.

    python -m benchmarks.quality.refinement --data-dir DIR

No damaged image comes from the images to which distances are, and neither the classifier nor its class
Gaussians were fitted to any of them. Undamaged images give the lowest distance. Needs the extra `[eval]`.
"""

import io

import numpy as np
from PIL import Image as Pillow
from scipy import ndimage

from benchmarks import common
from rsynth_jax.metrics import frechet
from rsynth_jax.sampling import samplers
from rsynth_jax.storage import releases
from rsynth_jax.types import Bytes

SHOWN = 12  # images a row of the sheet
SIGMA = 1.0  # pixels
QUALITY = 10  # of Pillow's JPEG


def blur(images: Bytes) -> Bytes:
    smooth = ndimage.gaussian_filter(images.astype(np.float64), (0, SIGMA, SIGMA, 0))
    return np.rint(smooth).astype(np.uint8)


def compress(images: Bytes) -> Bytes:
    compressed = np.empty_like(images)
    for i, image in enumerate(images):
        file = io.BytesIO()
        Pillow.fromarray(image).save(file, "JPEG", quality=QUALITY)
        compressed[i] = Pillow.open(file)
    return compressed


DAMAGES = {"real": np.copy, f"blurred, sigma {SIGMA:g}": blur, f"JPEG, quality {QUALITY}": compress}


def measure(stage: str, images: Bytes, originals: Bytes, others: np.ndarray) -> tuple[dict, list[str]]:
    """Fréchet distance to the others' features and mean l2 to the originals, for JSON and as text."""
    distance = frechet.frechet_estimate(common.embed(images).features, others)
    gaps = (images / 255.0 - originals / 255.0).reshape(len(images), -1)
    moved = float(np.linalg.norm(gaps, axis=1).mean())
    row = {f"fd_{stage}": distance._asdict(), f"l2_{stage}": moved}
    return row, [common.interval(distance), f"{moved:.2f}"]


@common.main(common.Options(num=2000, out=common.RESULTS / "refinement"))
def benchmark(options: common.Options) -> None:
    release = releases.load(options.classifier)
    images = common.read(options, "test").images
    originals = images[: options.num]
    others = common.embed(images[options.num :]).features
    rows = {}
    cells = []
    shown = {}
    for name, damage in DAMAGES.items():
        before = damage(originals)
        after = samplers.refine(release, before, batch_size=common.BATCH).images
        row, text = measure("before", before, originals, others)
        refined, refined_text = measure("after", after, originals, others)
        rows[name] = row | refined
        cells.append([name, *text, *refined_text])
        shown |= {name: before[:SHOWN], f"{name}, refined": after[:SHOWN]}
    title = "the first test images, damaged and refined"
    common.sheet(options.out, np.stack(list(shown.values())), shown, title)
    about = {"classifier": options.classifier, "num": len(originals), "others": len(others)}
    about |= common.defaults(samplers.refine, "radius", "num_steps", "step_size")
    common.write(options.out, **about, rows=rows)
    print(common.table(["images", "FD before", "l2 to the real", "FD after", "l2 to the real"], cells))
