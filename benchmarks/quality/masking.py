"""Tests of a classifier for masked gradients, on one sheet.

    python -m benchmarks.quality.masking --data-dir DIR --num 100

Left: accuracy under APGD-CE (white box) and Square (black box) as epsilon grows; it must decrease to 0, and
Square must never be the stronger attack, else the status is 1. Right: the cross-entropy around test images,
along the adversary's direction and a random one; with masked gradients the surface is a cliff or noise.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from benchmarks import common
from rsynth_jax import models
from rsynth_jax.attacks import adversaries, autoattack, evaluation
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.images import decode
from rsynth_jax.storage import releases
from rsynth_jax.storage.releases import Release
from rsynth_jax.synthesis import objectives
from rsynth_jax.synthesis.norms import L2

FACTORS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # of the classifier's own epsilon
STEPS = 50
QUERIES = 1000
SURFACES = 3  # images
POINTS = 21  # a side of a surface
REACH = 2.0  # own epsilons to either side


def curves(release: Release, test: common.Arrays) -> dict[str, list[float]]:
    accuracy: dict[str, list[float]] = {}
    for make, num_steps in ((autoattack.auto_pgd, STEPS), (autoattack.square_attack, QUERIES)):
        for factor in FACTORS:
            threat = release.threat._replace(epsilon=factor * release.threat.epsilon)
            attack = make(threat, num_steps)
            run = functools.partial(evaluation.evaluate, release.model, release.variables, *test)
            robust = float(run(threat, [attack], key=jax.random.key(0)).robust.mean())
            accuracy.setdefault(attack.name, []).append(robust)
            print(f"{attack.name:8s} {threat.epsilon:6.3f} {robust:6.1%}", flush=True)
    return accuracy


def surfaces(release: Release, test: common.Arrays) -> np.ndarray:
    """The cross-entropy (SURFACES, POINTS, POINTS) over the adversary's direction and a random one."""
    epsilon = release.threat.epsilon
    offsets = jnp.linspace(-REACH * epsilon, REACH * epsilon, POINTS)
    adversary = adversaries.pgd(Threat(L2, epsilon), Steps(epsilon / 4, 10))

    @jax.jit
    @jax.vmap
    def surface(key: jax.Array, image: jax.Array, label: jax.Array) -> jax.Array:
        classifier = models.bind(release.model, release.variables)
        clean = decode(image)
        adversarial = adversary(key, classifier, clean, label) - clean
        random = jax.random.normal(key, clean.shape)
        u, v = (each / jnp.linalg.norm(each) for each in (adversarial, random))
        loss = objectives.cross_entropy(classifier, label)
        return jax.lax.map(lambda a: jax.vmap(lambda b: loss(clean + a * u + b * v))(offsets), offsets)

    logits = evaluation.predict_logits(release.model, release.variables, test.images)
    chosen = np.flatnonzero(evaluation.correct(logits, test.labels))[:SURFACES]
    keys = jax.random.split(jax.random.key(0), SURFACES)[: len(chosen)]
    return np.asarray(surface(keys, test.images[chosen], test.labels[chosen]))


def draw(path: Path, release: Release, accuracy: dict[str, list[float]], heights: np.ndarray) -> None:
    epsilon = release.threat.epsilon
    figure = plt.figure(figsize=(5 + 3.6 * len(heights), 4), layout="constrained")
    left, *rest = figure.subplots(1, 1 + len(heights), width_ratios=[1.4] + [1] * len(heights))
    for name, values in accuracy.items():
        left.plot(epsilon * np.array(FACTORS), values, "o-", label=name)
    left.set(xlabel=f"epsilon ({release.threat.norm.name})", ylabel="accuracy", ylim=(0, 1))
    left.set(title="accuracy under attack")
    left.legend()
    edge = REACH * epsilon
    for i, (axis, height) in enumerate(zip(rest, heights, strict=True)):
        contours = axis.contourf(height.T, 20, extent=(-edge, edge, -edge, edge))
        axis.set(xlabel="along the adversary", title=f"cross-entropy around image {i}")
        figure.colorbar(contours, ax=axis, shrink=0.8)
    rest[0].set(ylabel="along a random direction")
    figure.savefig(path.with_suffix(".png"), dpi=90)


@common.main(common.Options(classifier="cifar10-robust", num=200, out=common.RESULTS / "masking"))
def benchmark(options: common.Options) -> int:
    release = releases.load(options.classifier)
    test = common.read(options, "test", slice(options.num))
    accuracy = curves(release, test)
    white, black = map(np.array, accuracy.values())
    decreases = bool((np.diff(white) <= 0).all() and white[-1] == 0)
    weaker = bool((black >= white - 0.01).all())
    epsilons = [factor * release.threat.epsilon for factor in FACTORS]
    laws = {"accuracy_falls_to_0": decreases, "black_box_never_wins": weaker}
    common.write(options.out, images=len(test.labels), epsilon=epsilons, **accuracy, **laws)
    draw(options.out, release, accuracy, surfaces(release, test))
    print(f"accuracy decreases to 0: {decreases}; Square is stronger by at most a point: {weaker}")
    return int(not (decreases and weaker))
