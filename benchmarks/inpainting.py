"""Is a filled hole nearer to what was there? The program's own fill beside plainer ones and the paper's.

    python -m benchmarks.inpainting --data-dir DIR --lpips FILE --out benchmarks/results/inpainting

The square in the middle of the first test images, a quarter of the area, is taken out. Nobody tells the
class: every row climbs to the one that the classifier sees in the image without its hole. PSNR is of the hole
alone; so is LPIPS (AlexNet, v0.1), of the hole enlarged (bicubic) to 64 pixels, as large as the patches that
LPIPS was fitted to. The seam shows in LPIPS of the whole image at that size, all but the hole the real one.
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
from rsynth_jax.synthesis.objectives import add, fidelity, log_prob, scale
from rsynth_jax.synthesis.projections import ball_in_box
from synth import inpainting

SHOWN = 12  # images of the sheet, a row each
BATCH = 50
DEFAULT = "rsynth-inpaint"
COLUMNS = {"psnr": "PSNR, dB", "lpips": "LPIPS", "lpips_whole": "LPIPS of the whole"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(nearness.Options):
    """Fill holes in photographs."""

    num: int = 500
    """Test images, from the first on."""
    out: Path = Path("benchmarks/results/inpainting")
    """Written: OUT.png, OUT.json."""


def soft(classifier, image, label, missing):
    """The paper's: a change of the known is penalised, the ball (21.6 at 224 pixels) is around its start."""
    hole = missing > 0
    start = images.fill(image, hole)
    near = ball_in_box(start, 21.6 * image.shape[0] / 224)
    return synthesis.Task(start, add(log_prob(classifier, label), scale(10.0, fidelity(image, ~hole))), near)


def hard(classifier, image, label, missing):
    """The paper's start, the known as they are: the set of the program, larger."""
    start = images.fill(image, missing > 0)
    stay = ball_in_box(start, 4.0, *images.blends(image, missing))
    return synthesis.Task(start, log_prob(classifier, label), stay)


def climbed(task_fn, steps: int, options, subject: studio.Subject, missing: np.ndarray) -> np.ndarray:
    """So many steps of 0.1 of a task."""
    asked = dataclasses.replace(options, steps=steps)
    each = np.broadcast_to(missing, (len(subject.images), *missing.shape))
    climb_fn = synthesis.with_optimizer(task_fn, steepest(L2, 0.1))
    return studio.paint(asked, subject, climb_fn, each).frames[-1]


def started(fill, options, subject: studio.Subject, missing: np.ndarray) -> np.ndarray:
    """No step at all."""
    one = jax.jit(jax.vmap(lambda image: images.encode(fill(images.decode(image), missing))))
    return np.asarray(one(subject.images))


def expected(options, subject: studio.Subject, missing: np.ndarray) -> np.ndarray:
    """Where the program begins."""
    return np.asarray(jax.vmap(images.encode)(inpainting.begun(options, subject, missing)))


def program(options, subject: studio.Subject, missing: np.ndarray) -> np.ndarray:
    """What `rsynth-inpaint` makes."""
    return inpainting.inpainted(options, subject, missing).frames[-1]


WAYS = {
    "the mean color": functools.partial(started, lambda image, missing: images.fill(image, missing > 0)),
    "a harmonic_fill": functools.partial(started, images.harmonic_fill),
    "what the class leads to expect": expected,
    "the paper's, 100 steps of 0.1": functools.partial(climbed, soft, 100),
    "the known exact, from the mean color, 40 of 0.1": functools.partial(climbed, hard, 40),
    DEFAULT: program,
}


def judged(perceptual: extractors.Perceptual, found: np.ndarray, real: np.ndarray) -> dict[str, np.ndarray]:
    """The figures of each image, whose surroundings count as the real ones."""
    side, margin = real.shape[1], real.shape[1] // 4
    inside = np.s_[:, margin : side - margin, margin : side - margin]
    pair = np.float32(real / 255), np.float32(real / 255)
    pair[0][inside] = found[inside] / 255
    hole = pair[0][inside], pair[1][inside]
    lpips = functools.partial(nearness.distances, perceptual)
    figures = np.asarray(nearness.decibels(*hole)), lpips(hole), lpips(pair)
    return dict(zip(COLUMNS, figures, strict=True))


def main() -> None:
    """Fill, judge; write the sheet and the figures, print the table."""
    jax.config.update("jax_num_cpu_devices", 2)
    options = tyro.cli(Options)
    release, perceptual = checkpoints.load(options.classifier), extractors.load_lpips(options.lpips)
    real, labels = (
        part[: options.num] for part in data.load(options.data, "test", options.data_dir).examples
    )
    missing = inpainting.square(real.shape[1])
    model, begun = models.create(release.config), inpainting.filled(None, real)
    seen = expedition.seen(model, release.variables, begun, BATCH)
    subject = studio.Subject(release, real, tuple(map(str, range(len(real)))), seen, ())
    asked = inpainting.Options("", options.classifier, batch_size=BATCH)
    found = {name: way(asked, subject, missing) for name, way in WAYS.items()}
    rows = {name: judged(perceptual, filled, real) for name, filled in found.items()}
    blank = np.where(missing > 0, np.uint8(255), real)
    shown = np.stack([real, blank, *found.values()], 1)[:SHOWN].reshape(-1, *real.shape[1:])
    names = [f"{i}: {release.class_names[label]}" for i, label in enumerate(seen[:SHOWN])]
    title = " | ".join(["real", "the hole", *WAYS])
    pictures.write_sheet(options.out.with_suffix(".png"), shown, len(found) + 2, names, title)
    content = {"classifier": options.classifier, "num": len(real)}
    content |= {"class_seen_is_right": float(np.mean(seen == labels)), "radius": asked.radius}
    content |= {
        "objective": asked.objective,
        "steps": asked.steps,
        "step_size": asked.step_size,
        "rows": nearness.kept(rows),
    }
    record.write(options.out.with_suffix(".json"), content)
    print("\n".join(nearness.table("the hole filled by", COLUMNS, rows, DEFAULT)))


if __name__ == "__main__":
    main()
