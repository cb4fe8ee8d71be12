"""Cost of an image by the number of simulated devices, which share the cores of this machine.

    python -m benchmarks.speed.devices --num 64 --repeats 3

Each measurement is a process of its own, in turn over the numbers of devices. Prints a row for each number:
wall and processor time an image of the second call, as median [lowest, highest]; writes them as JSON.
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import tyro

from benchmarks import common
from rsynth_jax.storage import files

ONE = """
import json, sys, time
import rsynth_jax as rs
release, num = rs.load("cifar10"), int(sys.argv[1])
rs.generate(release, "cat", num=num, batch_size=num)
began, busy = time.perf_counter(), time.process_time()
rs.generate(release, "cat", num=num, batch_size=num)
print(json.dumps([1000 * (time.perf_counter() - began) / num, 1000 * (time.process_time() - busy) / num]))
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Generate images of the released cifar10."""

    num: int = 64
    """Images of a call, one batch."""
    repeats: int = 3
    devices: tuple[int, ...] = (1, 2, 4, 8)
    out: Path = common.RESULTS / "devices.json"


def measure(num_devices: int, num: int) -> list[float]:
    """Milliseconds an image: wall time, processor time."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(num_devices)}
    done = subprocess.run(
        [sys.executable, "-c", ONE, str(num)], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def main(options: Options) -> None:
    """Measure and print."""
    found = {devices: [] for devices in options.devices}
    for _ in range(options.repeats):
        for devices, values in found.items():
            values.append(measure(devices, options.num))
    print(f"{common.MACHINE}, {options.num} images a call, {options.repeats} processes each\n")
    print("| devices | wall, ms an image | processor, ms an image |\n| --- | --- | --- |")
    for devices, values in found.items():
        columns = [
            f"{np.median(column):.0f} [{min(column):.0f}, {max(column):.0f}]"
            for column in zip(*values, strict=True)
        ]
        print(f"| {devices} | {' | '.join(columns)} |")
    record = {"machine": common.MACHINE, "num": options.num, "milliseconds": found}
    files.write_json(options.out, record)


if __name__ == "__main__":
    main(tyro.cli(Options))
