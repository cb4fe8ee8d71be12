"""Is an enlarged image nearer to what was there? The program's own beside bicubic and the paper's.

    python -m benchmarks.superresolution --classifier NAME --data folder:DIR --lpips FILE --num 200

The first test images are lowered by block means and enlarged again. Nobody tells the class: every row climbs
to the one that the classifier sees in the small image. PSNR and LPIPS (AlexNet, v0.1, of images of 64 pixels
or more) are to the images before they were lowered; the third column is how far, at most, the result as
written and lowered again is from what was given.
"""

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np
import tyro

from benchmarks import nearness, record
from rsynth_jax import images, models
from rsynth_jax.cli import options as studio
from rsynth_jax.cli import sheets as pictures
from rsynth_jax.data import sources as data
from rsynth_jax.sampling import runner as expedition
from rsynth_jax.storage import extractors
from rsynth_jax.storage import releases as checkpoints
from rsynth_jax.synthesis import tasks as synthesis
from rsynth_jax.synthesis.ascent import steepest
from rsynth_jax.synthesis.norms import L2
from rsynth_jax.synthesis.objectives import log_prob
from rsynth_jax.synthesis.projections import ball_in_box
from synth import superresolution

SHOWN = 12  # images of the sheet, a row each
BATCH = 50
DEFAULT = "rsynth-superresolve"
COLUMNS = {"psnr": "PSNR, dB", "lpips": "LPIPS", "consistency": "largest error, lowered again, of 255"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(nearness.Options):
    """Enlarge photographs that were lowered."""

    factor: int = 4
    """How many times as high and as wide."""
    first: int = 0
    """The first test image."""
    num: int = 200
    """Test images, from the first on."""
    out: Path = Path("benchmarks/results/superresolution")
    """Written: OUT.png, OUT.json."""


def resized(method: str, asked, subject: studio.Subject, small: np.ndarray) -> np.ndarray:
    """No step at all."""

    def enlarge(low):
        return images.encode(images.upsample(images.decode(low), asked.factor, method))

    return np.asarray(jax.jit(jax.vmap(enlarge))(small))


def nearest(classifier, image, label):
    """The paper's: from the nearest upsampling, climb log p inside a ball (15 at 224 pixels)."""
    near = ball_in_box(image, 15.0 * image.shape[0] / 224)
    return synthesis.Task(image, log_prob(classifier, label), near)


def paper(asked, subject: studio.Subject, small: np.ndarray) -> np.ndarray:
    """Its 50 steps of 1 at 224 pixels."""
    climb_fn = synthesis.with_optimizer(nearest, steepest(L2, subject.images.shape[1] / 224))
    return studio.paint(dataclasses.replace(asked, steps=50), subject, climb_fn).frames[-1]


def begun(asked, subject: studio.Subject, small: np.ndarray) -> np.ndarray:
    """Where the program starts."""
    return superresolution.superresolved(asked, subject, small).frames[0]


def program(asked, subject: studio.Subject, small: np.ndarray) -> np.ndarray:
    """What `rsynth-superresolve` makes."""
    return superresolution.superresolved(asked, subject, small).frames[-1]


WAYS = {
    "nearest": functools.partial(resized, "nearest"),
    "bicubic": functools.partial(resized, "cubic"),
    "bicubic, made consistent": begun,
    "the paper's, 50 steps from nearest": paper,
    DEFAULT: program,
}


def judged(perceptual: extractors.Perceptual, asked, made, real, small) -> dict[str, np.ndarray]:
    """The figures of each image."""
    pair = np.float32(made / 255), np.float32(real / 255)
    figures = np.asarray(nearness.decibels(*pair)), nearness.distances(perceptual, pair)
    return dict(zip(COLUMNS, (*figures, 255 * superresolution.errors(asked, made, small)), strict=True))


def main() -> None:
    """Lower, enlarge, judge; write the sheet and the figures, print the table."""
    jax.config.update("jax_num_cpu_devices", 2)
    options = tyro.cli(Options)
    release, perceptual = checkpoints.load(options.classifier), extractors.load_lpips(options.lpips)
    chosen = slice(options.first, options.first + options.num)
    real, labels = (part[chosen] for part in data.load(options.data, "test", options.data_dir).examples)
    lower = jax.jit(
        jax.vmap(lambda image: images.encode(images.downsample(images.decode(image), options.factor)))
    )
    small = np.asarray(lower(real))
    shown = superresolution.enlarged(options.factor, small)
    seen = expedition.seen(models.create(release.config), release.variables, shown, BATCH)
    subject = studio.Subject(release, shown, tuple(map(str, range(len(real)))), seen, ())
    plain = superresolution.Options("", options.classifier, factor=options.factor, batch_size=BATCH)
    asked = studio.scaled(plain, release)
    found = {name: way(asked, subject, small) for name, way in WAYS.items()}
    rows = {name: judged(perceptual, asked, made, real, small) for name, made in found.items()}
    cells = np.stack([real, *found.values()], 1)[:SHOWN].reshape(-1, *real.shape[1:])
    names = [f"{i}: {release.class_names[label]}" for i, label in enumerate(seen[:SHOWN])]
    pictures.write_sheet(
        options.out.with_suffix(".png"), cells, len(found) + 1, names, " | ".join(["real", *WAYS])
    )
    content = {"classifier": options.classifier, "num": len(real)}
    content |= {"factor": options.factor, "class_seen_is_right": float(np.mean(seen == labels))}
    content |= {"radius": plain.radius, "objective": plain.objective, "steps": plain.steps}
    content |= {"step_size": plain.step_size, "rows": nearness.kept(rows)}
    record.write(options.out.with_suffix(".json"), content)
    print("\n".join(nearness.table("enlarged by", COLUMNS, rows, DEFAULT)))


if __name__ == "__main__":
    main()
