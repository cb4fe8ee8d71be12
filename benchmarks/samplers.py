"""Which way up gives the best images: one change at a time from a base, at equal cost, on any classifier.

    python -m benchmarks.samplers --classifier cifar10 --data-dir DIR --out benchmarks/results/samplers

Each row climbs 2,000 images, 200 a class, in its own way (benchmarks/ways.py) and compares them with the test
images: Fréchet's distance, KID, precision and recall on the features of an ImageNet EfficientNet-Lite0, which
neither the classifier nor the sampler ever saw. Fréchet's distance is biased upwards at 2,000 images: compare
rows, not tables. A row already in the JSON is not run again. Writes OUT.json and OUT.png. Needs the extra
`[eval]`.
"""

import dataclasses
import time
from pathlib import Path

import jax
import numpy as np
import tyro

from benchmarks import record, ways
from benchmarks.judging import Judge, judge_of
from benchmarks.ways import Way
from rsynth_jax.cli import sheets as pictures
from rsynth_jax.data import sources as data
from rsynth_jax.metrics import frechet, kernel, neighbors
from rsynth_jax.metrics.estimates import Estimate
from rsynth_jax.storage import files

SHOWN = 10  # images of each row on the sheet: the first of each class
COLUMNS = {"fd": "FD", "kid_x1000": "KID x 1000", "precision": "precision", "recall": "recall"}

ROWS = {
    "base: temperature 1.2, logit + log p, 15 steps of 0.75, cosine": Way(),
    "the paper's: temperature 1, log p, 60 of 0.5": Way(
        "log-prob", temperature=1.0, schedule="constant", step_size=0.5, steps=60
    ),
    "log p": Way("log-prob"),
    "logit": Way("logit"),
    "energy, of no class": Way("energy"),
    "seeds with all of the covariance": Way(seeds="full"),
    "temperature 0.8": Way(temperature=0.8),
    "temperature 1": Way(temperature=1.0),
    "temperature 1.4": Way(temperature=1.4),
    "constant steps of 0.375": Way(schedule="constant", step_size=0.375),
    "momentum 0.9": Way(momentum=0.9),
    "noise 0.005": Way(noise=0.005),
    "noise 0.02": Way(noise=0.02),
    "shift 1": Way(shift=1),
    "shift 2": Way(shift=2),
    "stop at the real logit": Way(stop=0.0),
    "15 steps of 0.5": Way(step_size=0.5),
    "15 steps of 1": Way(step_size=1.0),
    "10 steps of 0.75": Way(steps=10),
    "13 steps of 0.75": Way(steps=13),
    "10 steps of 1.125": Way(steps=10, step_size=1.125),
    "20 steps of 0.56": Way(steps=20, step_size=0.5625),
    "30 steps of 0.375": Way(steps=30, step_size=0.375),
    "60 steps of 0.19": Way(steps=60, step_size=0.1875),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(record.Options):
    """Compare ways of sampling."""

    num: int = 200
    """Images of each class."""
    work: Path = Path("samplers")
    """Where the images of every row are kept."""
    out: Path = Path("benchmarks/results/samplers")
    """Written: OUT.png, OUT.json."""


def measured(ground: ways.Ground, judge: Judge, way: Way, options: Options, path: Path) -> dict:
    """The figures of a row, each with its interval; its images go to `path`."""
    began = time.perf_counter()
    made = ways.painted(ground, way, options.num)
    seconds, features = (time.perf_counter() - began) / len(made), judge.features(made)
    files.write_arrays(path, {"images": made})
    kid = kernel.kid(features, judge.real, np.random.default_rng(0))
    found = {"fd": frechet.frechet_estimate(features, judge.real)}
    found["kid_x1000"] = Estimate(*(1000 * end for end in kid))
    found["precision"], found["recall"] = neighbors.precision_recall(features, judge.real)
    return {"seconds_per_image": seconds} | {name: value._asdict() for name, value in found.items()}


def table(rows: dict) -> list[str]:
    """The rows in Markdown."""
    names = [*COLUMNS.values(), "ms / image"]
    lines = [f"| way | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    for name, row in rows.items():
        figures = ["{value:.3g} [{low:.3g}, {high:.3g}]".format(**row[column]) for column in COLUMNS]
        lines.append(f"| {name} | {' | '.join(figures)} | {1000 * row['seconds_per_image']:.0f} |")
    return lines


def write_sheet(options: Options, rows: dict, paths: dict[str, Path]) -> None:
    """The first image of each class, a row for each way whose images are still there."""
    kept = {name: np.load(path)["images"] for name, path in paths.items() if path.exists()}
    shown = np.concatenate([made[:: options.num][:SHOWN] for made in kept.values()])
    names = [f"{name}: {rows[name]['fd']['value']:.1f}" for name in kept]
    title = "FD of each way, EfficientNet-Lite0 features; the first image of each class"
    pictures.write_sheet(options.out.with_suffix(".png"), shown, SHOWN, names, title)


def main() -> None:
    """Measure every row that is missing, write them as they come, print the table."""
    jax.config.update("jax_num_cpu_devices", 2)
    options, path = (asked := tyro.cli(Options)), asked.out.with_suffix(".json")
    options.work.mkdir(parents=True, exist_ok=True)
    rows = record.rows(path)
    paths = {name: options.work / f"{name}.npz" for name in ROWS}
    ground = ways.ground_of(options.classifier, data.load(options.data, "train", options.data_dir).examples)
    judge = judge_of(data.load(options.data, "test", options.data_dir).examples[0])
    for name in [name for name in ROWS if name not in rows]:
        rows[name] = measured(ground, judge, ROWS[name], options, paths[name])
        rows = {name: rows[name] for name in ROWS if name in rows}
        record.write(path, {"classifier": options.classifier, "per_class": options.num, "rows": rows})
        print(table({name: rows[name]})[-1], flush=True)
    print("\n".join(table(rows)))
    write_sheet(options, rows, paths)


if __name__ == "__main__":
    main()
