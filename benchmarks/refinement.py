"""Does refinement bring damaged photographs nearer to real ones? Blurred and compressed, before and after.

    python -m benchmarks.refinement --data-dir DIR --out benchmarks/results/refinement

Each damage is done to the first test images, and `rsynth-refine`'s own defaults refine them towards what the
classifier sees in the damaged image, which it may get wrong. Fréchet distances (features of an ImageNet
EfficientNet-Lite0) are to the *other* test images: they are the source of no damaged image, and neither the
classifier nor its seeds saw any of them. The real images give the floor. Needs the extra `[eval]`.
"""

import dataclasses
import io
from pathlib import Path

import jax
import numpy as np
import tyro
from PIL import Image as Pillow
from scipy import ndimage

from benchmarks import record
from benchmarks.judging import BATCH, Judge, judge_of
from rsynth_jax import models
from rsynth_jax.cli import sheets as pictures
from rsynth_jax.data import sources as data
from rsynth_jax.metrics import frechet
from rsynth_jax.sampling import runner as expedition
from rsynth_jax.storage import releases as checkpoints
from synth import refinement

SHOWN = 12  # images a row of the sheet
SIGMA, QUALITY = 1.0, 10  # pixels; of Pillow's JPEG


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(record.Options):
    """Refine damaged photographs."""

    num: int = 2000
    """Test images to damage, from the first on; the others are the judges."""
    out: Path = Path("benchmarks/results/refinement")
    """Written: OUT.png, OUT.json."""


def blurred(images: np.ndarray) -> np.ndarray:
    """Under a Gaussian of `SIGMA` pixels."""
    smooth = ndimage.gaussian_filter(images.astype(np.float64), (0, SIGMA, SIGMA, 0))
    return np.uint8(np.rint(smooth))


def compressed(images: np.ndarray) -> np.ndarray:
    """As JPEG keeps them at `QUALITY`."""
    return np.stack([as_jpeg(image) for image in images])


def as_jpeg(image: np.ndarray) -> np.ndarray:
    """One image, written and read."""
    file = io.BytesIO()
    Pillow.fromarray(image).save(file, "JPEG", quality=QUALITY)
    return np.asarray(Pillow.open(file))


DAMAGES = {
    "real": lambda images: images,
    f"blurred, sigma {SIGMA:g}": blurred,
    f"JPEG, quality {QUALITY}": compressed,
}


def measured(judge: Judge, real: np.ndarray, stages: dict) -> dict:
    """Of each stage the Fréchet distance to the judge's images, and the mean l2 distance to the real ones."""
    row = {}
    for name, images in stages.items():
        row[f"fd_{name}"] = frechet.frechet_estimate(judge.features(images), judge.real)._asdict()
        gaps = (images / 255.0 - real / 255.0).reshape(len(real), -1)
        row[f"l2_{name}"] = float(np.linalg.norm(gaps, axis=1).mean())
    return row


def said(row: dict, stage: str) -> str:
    """The figures of a stage, in Markdown."""
    distance = "{value:.3g} [{low:.3g}, {high:.3g}]".format(**row[f"fd_{stage}"])
    return f"{distance} | {row[f'l2_{stage}']:.2f}"


def table(rows: dict) -> list[str]:
    """The rows in Markdown."""
    lines = ["| images | FD before | l2 to the real | FD after | l2 to the real |", "| --- |" + " --- |" * 4]
    return lines + [
        f"| {name} | {said(row, 'before')} | {said(row, 'after')} |" for name, row in rows.items()
    ]


def main() -> None:
    """Damage, refine, judge; write the sheet and the figures, print the table."""
    jax.config.update("jax_num_cpu_devices", 2)
    options = tyro.cli(Options)
    release, asked = checkpoints.load(options.classifier), refinement.Options("", options.classifier)
    images, _ = data.load(options.data, "test", options.data_dir).examples
    real, judge, rows, shown = images[: options.num], judge_of(images[options.num :]), {}, {}
    for name, damage in DAMAGES.items():
        before = damage(real)
        labels = expedition.seen(models.create(release.config), release.variables, before, BATCH)
        after = refinement.refined(asked, release, before, labels)
        rows[name] = measured(judge, real, {"before": before, "after": after})
        shown |= {name: before[:SHOWN], f"{name}, refined": after[:SHOWN]}
    title = "test images, damaged and refined: the first, nothing picked"
    sheet = np.concatenate(list(shown.values()))
    pictures.write_sheet(options.out.with_suffix(".png"), sheet, SHOWN, list(shown), title)
    content = {"classifier": options.classifier, "num": len(real)}
    content |= {"others": len(judge.real), "radius": asked.radius, "steps": asked.steps}
    content |= {"step_size": asked.step_size, "rows": rows}
    record.write(options.out.with_suffix(".json"), content)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
