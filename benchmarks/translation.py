"""Does a translated image show its new class to others too? Judged by the classifier and by another.

    rsynth-train --recipe horse2zebra-64 --method natural --seed 1 --data tfds:cycle_gan/horse2zebra --out RUN
    python -m benchmarks.translation --classifier NAME --judge RUN --data tfds:cycle_gan/horse2zebra

The first test images of every class are turned into the next class, the last class into the first: of a pair,
both ways. The judge is a classifier of the same classes that was trained alone and never attacked: what fools
only the classifier does not fool it. LPIPS (AlexNet, v0.1) is to the image itself: how much of it is left.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import tyro

from benchmarks import nearness, record
from rsynth_jax import models
from rsynth_jax.cli import options as studio
from rsynth_jax.cli import sheets as pictures
from rsynth_jax.data import sources as data
from rsynth_jax.metrics import estimates
from rsynth_jax.sampling import runner as expedition
from rsynth_jax.storage import extractors
from rsynth_jax.storage import releases as checkpoints
from synth import translation

SHOWN = 12  # images of the sheet for each class, a row
BATCH = 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(nearness.Options):
    """Turn photographs into another class."""

    judge: str
    """A classifier of the same classes, trained alone: a name, a file, or a training run."""
    num: int = 100
    """Test images of each class, from the first on."""
    out: Path = Path("benchmarks/results/translation")
    """Written: OUT.png, OUT.json."""


PAPER = {"radius": 80 * 32 / 224, "steps": 200, "step_size": 0.5 * 32 / 224}  # given at 224 pixels

WAYS = {  # what to change of rsynth-translate's defaults; every l2 length is at 32 pixels
    "rsynth-translate": {},
    "the coarse structure kept, --coarse 3": {"coarse": 3.0},
    "the paper's, 200 steps": PAPER,
}


def seen(release: checkpoints.Release, images: np.ndarray) -> np.ndarray:
    """The class that a classifier sees in each."""
    return expedition.seen(models.create(release.config), release.variables, images, BATCH)


def first(labels: np.ndarray, num: int) -> np.ndarray:
    """The rows of the first `num` of each class, class by class."""
    return np.concatenate([np.flatnonzero(labels == label)[:num] for label in range(labels.max() + 1)])


def translated(changed: dict, options: Options, subject: studio.Subject) -> np.ndarray:
    """What `rsynth-translate` makes."""
    plain = translation.Options("", classifier=options.classifier, label="", batch_size=BATCH)
    asked = studio.scaled(dataclasses.replace(plain, **changed), subject.release)
    free = np.ones((*subject.images.shape[:3], 1), np.float32)
    return studio.paint(asked, subject, translation.climber(asked), free).frames[-1]


def judged(judges: dict, perceptual, made: np.ndarray, subject: studio.Subject) -> dict[str, np.ndarray]:
    """Of each image: whether each judge sees the new class, and how far it is from itself."""
    right = {name: seen(judge, made) == subject.labels for name, judge in judges.items()}
    pair = np.float32(made / 255), np.float32(subject.images / 255)
    gaps = (pair[0] - pair[1]).reshape(len(made), -1)
    return right | {
        "lpips": nearness.distances(perceptual, pair),
        "l2": np.linalg.norm(gaps, axis=1),
    }


def estimate(samples: np.ndarray) -> estimates.Estimate:
    """A share or a mean, and its interval."""
    return (estimates.share if samples.dtype == bool else estimates.mean)(samples)


def said(samples: np.ndarray) -> str:
    """The same in words, a share in percent."""
    form = "{:.0%} [{:.0%}, {:.0%}]" if samples.dtype == bool else "{:.2f} [{:.2f}, {:.2f}]"
    return form.format(*estimate(samples))


def table(rows: dict, groups: dict[str, np.ndarray]) -> list[str]:
    """The rows in Markdown: each way, each group of images."""
    columns = [
        "the classifier sees the new class",
        "the judge sees it",
        "LPIPS to the image",
        "l2 to the image",
    ]
    lines = [f"| way | from, to | {' | '.join(columns)} |", "| --- |" + " --- |" * (len(columns) + 1)]
    for way, row in rows.items():
        for group, chosen in groups.items():
            lines.append(f"| {way} | {group} | {' | '.join(said(each[chosen]) for each in row.values())} |")
    return lines


def summary(row: dict, groups: dict[str, np.ndarray]) -> dict:
    """A row as plain values."""
    return {
        group: {key: estimate(each[chosen])._asdict() for key, each in row.items()}
        for group, chosen in groups.items()
    }


def main() -> None:
    """Translate, judge; write the sheet and the figures, print the table."""
    jax.config.update("jax_num_cpu_devices", 2)
    options = tyro.cli(Options)
    release, judge = checkpoints.load(options.classifier), checkpoints.load(options.judge)
    perceptual, names = extractors.load_lpips(options.lpips), release.class_names
    dataset = data.load(options.data, "test", options.data_dir, release.image_shape[0])
    images, labels = dataset.examples
    rows_of = first(labels, options.num)
    images, own = images[rows_of], labels[rows_of]
    target = np.int32((own + 1) % len(names))
    subject = studio.Subject(release, images, tuple(map(str, range(len(images)))), target, ())
    found = {"as they are": images}
    found |= {name: translated(changed, options, subject) for name, changed in WAYS.items()}
    judges = {"classifier": release, "judge": judge}
    rows = {name: judged(judges, perceptual, made, subject) for name, made in found.items()}
    groups = {f"{names[a]} to {names[(a + 1) % len(names)]}": own == a for a in range(len(names))}
    shown = first(own, SHOWN)
    cells = np.stack([made[shown] for made in found.values()], 1).reshape(-1, *images.shape[1:])
    called = [f"{names[own[i]]} to {names[target[i]]}" for i in shown]
    pictures.write_sheet(options.out.with_suffix(".png"), cells, len(found), called, " | ".join(found))
    content = {"classifier": options.classifier, "num": len(images)}
    content |= {"judge_right": float(np.mean(seen(judge, images) == own)), "rows": {}}
    content["rows"] = {way: summary(row, groups) for way, row in rows.items()}
    record.write(options.out.with_suffix(".json"), content)
    print("\n".join(table(rows, groups)))


if __name__ == "__main__":
    main()
