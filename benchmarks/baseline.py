"""The honest baseline: images of two classifiers against real ones, judged by ImageNet features.

    python -m benchmarks.baseline --data-dir DIR --out benchmarks/results/quality

Rows: real training images; of the robust classifier the untouched class seeds, the paper's procedure, a
plain way and our default; our default on the classifier that dual training made of it. Each has 10,000
images, made by `rsynth-generate` and scored by `rsynth-score` against the 10,000 test images; the seeds were
fitted on training images. FLOPs are XLA's own count of one step. A row already in the JSON is not run again,
so that a long run can be stopped and continued. Needs the extra `[eval]`.
"""

import dataclasses
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks import record
from rsynth_jax import models
from rsynth_jax.data import loader as datasets
from rsynth_jax.data import sources as data
from rsynth_jax.storage import files
from rsynth_jax.storage import releases as checkpoints
from rsynth_jax.synthesis import objectives
from synth import generation, scoring

ROBUST = {"classifier": "cifar10-robust"}
PAPER = {"temperature": 1.0, "objective": "log-prob", "steps": 60, "step_size": 0.5, "schedule": "constant"}
PLAIN = {"temperature": 1.0, "objective": "logit", "steps": 20, "step_size": 0.2, "schedule": "constant"}
ROWS = {
    "real, training images": None,
    "class seeds, untouched": ROBUST | {"temperature": 1.0, "steps": 0},
    "robust, the paper's way: log p, 60 steps of 0.5": ROBUST | PAPER,
    "robust, logit: 20 constant steps of 0.2": ROBUST | PLAIN,
    "robust, our default": ROBUST,
    "dual, our default": {},
}
COLUMNS = ("fd", "kid_x1000", "inception_score", "precision", "recall", "density", "coverage")


@dataclasses.dataclass(frozen=True)
class Options:
    """Judge what the bundled classifiers paint."""

    data: str = "tfds:cifar10"
    """Its data set."""
    data_dir: str | None = None
    """Where TFDS data sets lie."""
    num: int = 1000
    """Images of each class."""
    work: Path = Path("baseline")
    """Where images and features are kept."""
    out: Path = Path("benchmarks/results/quality")
    """Written: OUT.json, a row at a time."""


def step_flops(classifier: str) -> float:
    """Floating-point operations of one step at one image: the logit and its gradient, as XLA counts them."""
    release = checkpoints.load(classifier)
    model = models.create(release.config)

    def step(variables, image):
        return jax.value_and_grad(objectives.logit(models.bind(model, variables), 0))(image)

    compiled = jax.jit(step).lower(release.variables, jnp.zeros(release.image_shape)).compile()
    return float(compiled.cost_analysis()["flops"])


def way_flops(settings: dict) -> float:
    """Those of all the steps that `rsynth-generate` takes to an image."""
    asked = generation.Options(**settings)
    return generation.planned(asked, checkpoints.load(asked.classifier)).steps * step_flops(asked.classifier)


def generated(options: Options, path: Path, settings: dict) -> float:
    """Write the images of a row; the seconds an image took."""
    files = {"out": path.with_suffix(".png"), "npz": path}
    asked = generation.Options(num=options.num, batch_size=100, **files, **settings)
    began = time.perf_counter()
    generation.generate(asked)
    return (time.perf_counter() - began) / len(np.load(path)["labels"])


def balanced(options: Options, path: Path) -> float:
    """Write the first training images of each class; they cost nothing."""
    images, labels = data.load(options.data, "train", options.data_dir).examples
    chosen = np.concatenate([np.flatnonzero(labels == k)[: options.num] for k in range(labels.max() + 1)])
    files.write_arrays(path, datasets.Arrays(images[chosen], labels[chosen])._asdict())
    return 0.0


def measured(options: Options, index: int, settings: dict | None) -> dict:
    """One row: its images, what they cost, and how they score against the test images."""
    path = options.work / f"{index}.npz"
    seconds = balanced(options, path) if settings is None else generated(options, path, settings)
    flops = 0.0 if settings is None else way_flops(settings)
    scores = scoring.Options(
        str(path),
        options.data,
        data_dir=options.data_dir,
        reference=options.work / "reference.npz",
        neighbors=options.work / f"{index}-neighbors.png",
        json=options.work / f"{index}.json",
    )
    scoring.score(scores)
    found = json.loads(scores.json.read_text())
    kept = {name: found[name] for name in ("num_a", "num_b", "network", "network_digest", "seed", *COLUMNS)}
    return {"seconds_per_image": seconds, "flops_per_image": flops} | kept


def main() -> None:
    """Measure every row that is missing, write them as they come, print the table."""
    jax.config.update("jax_num_cpu_devices", 2)
    options, path = (asked := tyro.cli(Options)), asked.out.with_suffix(".json")
    options.work.mkdir(parents=True, exist_ok=True)
    rows = record.rows(path)
    for index, (name, settings) in enumerate(ROWS.items()):
        if name not in rows:
            rows[name] = measured(options, index, settings)
            record.write(path, {"rows": rows})
    print("\n".join(table(rows)))


def said(row: dict, column: str) -> str:
    """A figure and its interval."""
    value, low, high = (row[column][name] for name in ("value", "low", "high"))
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def table(rows: dict) -> list[str]:
    """The rows in Markdown."""
    names = (
        "FD",
        "KID x 1000",
        "IS",
        "precision",
        "recall",
        "density",
        "coverage",
        "s / image",
        "GFLOP / image",
    )
    lines = [f"| | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    for name, row in rows.items():
        figures = [said(row, column) for column in COLUMNS]
        cost = [f"{row['seconds_per_image']:.3f}", f"{row['flops_per_image'] / 1e9:.1f}"]
        lines.append(f"| {name} | {' | '.join([*figures, *cost])} |")
    return lines


if __name__ == "__main__":
    main()
