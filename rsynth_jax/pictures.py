"""The door to pictures: captioned PNG sheets, animations, and curves.

    write_sheet("cats.png", rows={"cat": images})
"""

import io
import json
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from rsynth_jax import checkpoints


def write_curves(path: Path, log: Path) -> None:
    """The curves of a training run's JSON lines: loss, accuracies, learning rate."""
    records = [json.loads(line) for line in Path(log).read_text().splitlines()]
    steps = [r for r in records if "loss" in r]
    tests = [r for r in records if "test_clean" in r]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4), layout="constrained")
    left.plot([r["step"] for r in steps], [r["loss"] for r in steps])
    left.set(title="loss", xlabel="step")
    for name in ("clean_accuracy", "adversarial_accuracy"):
        middle.plot([r["step"] for r in steps], [r[name] for r in steps], alpha=0.4, label=f"train, {name}")
    for name in ("test_clean", "test_adversarial"):
        middle.plot([r["step"] for r in tests], [r[name] for r in tests], "o-", label=name)
    middle.set(title="accuracy", xlabel="step", ylim=(0, 1))
    middle.legend()
    right.plot([r["step"] for r in steps], [r["learning_rate"] for r in steps])
    right.set(title="learning rate", xlabel="step")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100)
    plt.close(figure)
    checkpoints.write(path, content.getvalue())
