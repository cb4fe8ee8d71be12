"""Are the gradients masked? Three looks at a classifier, on one sheet.

    python -m benchmarks.masking --data-dir DIR --out benchmarks/results/masking

Left: accuracy under APGD-CE (white box) and Square (black box) as epsilon grows; it must fall to 0 and Square
must never win. Right: the cross-entropy around test images, along the adversary's direction and a random one;
behind masked gradients the surface is a cliff or noise. Ends with status 1 where either law is broken.
"""

import dataclasses
import io
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import tyro

from benchmarks import record
from rsynth_jax import models
from rsynth_jax.attacks import adversaries as attacks
from rsynth_jax.attacks import autoattack as attempts
from rsynth_jax.attacks import evaluation
from rsynth_jax.attacks import runner as siege
from rsynth_jax.attacks.adversaries import Threat
from rsynth_jax.data import loader as datasets
from rsynth_jax.data import sources as data
from rsynth_jax.images import decode
from rsynth_jax.storage import files
from rsynth_jax.storage import releases as checkpoints
from rsynth_jax.synthesis import objectives

FACTORS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # of the classifier's own epsilon
STEPS, QUERIES = 50, 1000
SURFACES, POINTS, REACH = 3, 21, 2.0  # images, points a side, own epsilons to either side


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(record.Options):
    """Look for masked gradients."""

    classifier: str = "cifar10-robust"
    """A bundled classifier by name, a .safetensors file, or a training run."""
    num: int = 200
    """Test images, from the first on."""
    out: Path = Path("benchmarks/results/masking")
    """Written: OUT.png, OUT.json."""


def curves(release, victims: siege.Examples) -> dict[str, list[float]]:
    """The accuracy under each attack alone, at each epsilon."""
    model, clean = models.create(release.config), evaluation.right(victims.logits, victims.labels)
    shares: dict[str, list[float]] = {}
    for make, num_steps in ((attempts.auto_pgd, STEPS), (attempts.squares, QUERIES)):
        for factor in FACTORS:
            threat = Threat(release.threat.norm, factor * release.threat.epsilon, 0.0, num_steps)
            each = siege.make_siege(model, threat, make(threat))
            fallen = siege.run_attack(each, release.variables, jax.random.key(0), victims, clean)
            standing = clean & ~fallen.images
            shares.setdefault(each.attack.name, []).append(float(standing.mean()))
            print(f"{each.attack.name:8s} {threat.epsilon:6.3f} {standing.mean():6.1%}", flush=True)
    return shares


def surfaces(release, victims: siege.Examples) -> np.ndarray:
    """The cross-entropy (SURFACES, POINTS, POINTS) over the adversary's direction and a random one."""
    model, epsilon = models.create(release.config), release.threat.epsilon
    reach = jnp.linspace(-REACH * epsilon, REACH * epsilon, POINTS)

    @jax.jit
    @jax.vmap
    def surface(key, image, label):
        classifier, clean = models.bind(model, release.variables), decode(image)
        towards = attacks.pgd(Threat("l2", epsilon, epsilon / 4, 10))(key, classifier, clean, label) - clean
        aside = jax.random.normal(key, clean.shape)
        towards, aside = (way / jnp.linalg.norm(way) for way in (towards, aside))
        loss = objectives.cross_entropy(classifier, label)
        return jax.lax.map(lambda a: jax.vmap(lambda b: loss(clean + a * towards + b * aside))(reach), reach)

    keys = jax.random.split(jax.random.key(0), SURFACES)
    right = np.flatnonzero(evaluation.right(victims.logits, victims.labels))[:SURFACES]
    return np.asarray(surface(keys, victims.images[right], victims.labels[right]))


def draw(release, shares: dict[str, list[float]], heights: np.ndarray) -> bytes:
    """The sheet, a PNG."""
    epsilon, norm = release.threat.epsilon, release.threat.norm
    figure = plt.figure(figsize=(5 + 3.6 * SURFACES, 4), layout="constrained")
    left, *rest = figure.subplots(1, 1 + SURFACES, width_ratios=[1.4] + [1] * SURFACES)
    for name, accuracy in shares.items():
        left.plot(epsilon * np.array(FACTORS), accuracy, "o-", label=name)
    left.set(xlabel=f"epsilon ({norm})", ylabel="accuracy", ylim=(0, 1), title="accuracy under attack")
    left.legend()
    edge = REACH * epsilon
    for i, (axis, height) in enumerate(zip(rest, heights, strict=True)):
        drawn = axis.contourf(height.T, 20, extent=(-edge, edge, -edge, edge))
        axis.set(xlabel="along the adversary", title=f"cross-entropy around image {i}")
        figure.colorbar(drawn, ax=axis, shrink=0.8)
    rest[0].set(ylabel="along a random direction")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=90)
    return content.getvalue()


def main() -> None:
    """Measure, draw, and say whether the laws hold."""
    jax.config.update("jax_num_cpu_devices", 2)
    options = tyro.cli(Options)
    release = checkpoints.load(options.classifier)
    images, labels = datasets.head(data.load(options.data, "test", options.data_dir), options.num)
    logits = jax.jit(evaluation.make_logits(models.create(release.config)))
    victims = evaluation.seen(logits, release.variables, images, labels)
    shares = curves(release, victims)
    white, black = (np.array(accuracy) for accuracy in shares.values())
    falls = bool((np.diff(white) <= 0).all() and white[-1] == 0)
    loses = bool((black >= white - 0.01).all())
    files.write(options.out.with_suffix(".png"), draw(release, shares, surfaces(release, victims)))
    numbers = {"images": len(labels), "epsilon": [f * release.threat.epsilon for f in FACTORS]} | shares
    numbers |= {"accuracy_falls_to_0": falls, "black_box_never_wins": loses}
    record.write(options.out.with_suffix(".json"), numbers)
    print(f"accuracy falls to 0: {falls}; the black box never wins by more than a point: {loses}")
    sys.exit(not (falls and loses))


if __name__ == "__main__":
    main()
