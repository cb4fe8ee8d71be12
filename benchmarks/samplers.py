"""Which way up gives the best images: ways of sampling, by kernel distance, seconds and looks.

    python -m benchmarks.samplers --data-dir DIR --out docs/samplers

Each row makes 50 images a class with `synth.generation` and compares them with the first 50 test images a
class. Features are an ImageNet EfficientNet-Lite0's (1,280 after pooling, 224 pixels bicubic), a judge that
neither the classifier nor the sampler ever saw. The distance is KID (Binkowski et al. 2018), which unlike
Fréchet's is unbiased at 500 images; "real" (training images) is the floor. Writes OUT.png and OUT.json.

Needs the extra `[eval]`.
"""

import dataclasses
import json
import platform
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import tyro

from rsynth_jax import checkpoints, data, datasets, embedding, extractors, pictures
from rsynth_jax.metrics import kernel
from synth import generation
from synth.generation import Options as Generation

PER_CLASS = 50
BATCH = 50  # images a batch of features
SHOWN = 10  # images of each row on the sheet: the first of each class

ROWS = {
    "seeds, untouched": {"steps": 0},
    "paper: log p, 60 of 0.5": {"objective": "log-prob", "steps": 60, "step_size": 0.5},
    "log p, 20 of 0.2": {"objective": "log-prob", "steps": 20, "step_size": 0.2},
    "logit, 40 of 0.2": {"steps": 40, "step_size": 0.2},
    "logit, 20 of 0.2": {"steps": 20, "step_size": 0.2},
    "logit, 10 of 0.4": {"steps": 10, "step_size": 0.4},
    "logit, 20 of 0.4, cosine": {"steps": 20, "step_size": 0.4, "schedule": "cosine"},
    "logit, 20 of 0.2, momentum 0.9": {"steps": 20, "step_size": 0.2, "momentum": 0.9},
    "sum, 20 of 0.2": {"objective": "sum", "steps": 20, "step_size": 0.2},
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare ways of sampling."""

    classifier: str = "cifar10"
    """A bundled classifier by name, a .safetensors file, or a training run."""
    data: str = "tfds:cifar10"
    """The data set of the classifier."""
    data_dir: str | None = None
    """Where TFDS data sets lie."""
    out: Path = Path("docs/samplers")
    """Written: OUT.png, OUT.json."""


def judge():
    """uint8 images (n, h, w, 3) -> features (n, 1280)."""
    extractor = extractors.load("efficientnet-lite0")

    def features(images: np.ndarray) -> np.ndarray:
        batches = embedding.in_batches(images, BATCH)
        return embedding.embed(extractor.model, extractor.variables, batches, BATCH).features

    return features


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """1,000 times the unbiased squared MMD under the kernel (x . y / d + 1)^3."""
    return 1000 * kernel.mmd(a, b)


def balanced(dataset: datasets.Dataset, per_class: int) -> np.ndarray:
    """The first images of each class."""
    images, labels = dataset.examples
    return np.concatenate([images[labels == k][:per_class] for k in range(len(dataset.class_names))])


def sample(options: Options, settings: dict) -> tuple[np.ndarray, float]:
    """The images of one row, and seconds an image."""
    with tempfile.TemporaryDirectory() as folder:
        npz = Path(folder) / "images.npz"
        asked = Generation(
            classifier=options.classifier, num=PER_CLASS, out=Path(folder) / "sheet.png", npz=npz
        )
        began = time.perf_counter()
        generation.generate(dataclasses.replace(asked, **settings))
        seconds = (time.perf_counter() - began) / (10 * PER_CLASS)
        return np.load(npz)["images"], seconds


def main() -> None:
    """Measure every row, print the table, write the sheet."""
    jax.config.update("jax_num_cpu_devices", 2)
    options = tyro.cli(Options)
    features = judge()
    train, test = (data.load(options.data, split, options.data_dir) for split in ("train", "test"))
    real = features(balanced(test, PER_CLASS))
    rows = {
        "real, training images": {"distance": kernel_distance(features(balanced(train, PER_CLASS)), real)}
    }
    shown = [balanced(train, 1)]
    for name, settings in ROWS.items():
        images, seconds = sample(options, settings)
        rows[name] = {"distance": kernel_distance(features(images), real), "seconds": seconds, **settings}
        shown.append(images[::PER_CLASS][:SHOWN])
        print(f"{name:32s} {rows[name]['distance']:7.1f}  {seconds * 1000:6.1f} ms", flush=True)
    names = [f"{name}: {row['distance']:.1f}" for name, row in rows.items()]
    title = "1000 KID to CIFAR-10 (JPEG copy) test images, EfficientNet-Lite0 features; a column a class"
    pictures.write_sheet(options.out.with_suffix(".png"), np.concatenate(shown), SHOWN, names, title)
    machine = f"{platform.machine()}, {jax.device_count()} cores"
    content = json.dumps({"machine": machine, "images": 10 * PER_CLASS, "rows": rows}, indent=2) + "\n"
    checkpoints.write(options.out.with_suffix(".json"), content.encode())


if __name__ == "__main__":
    main()
