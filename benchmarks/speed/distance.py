"""Seconds an image until images are as near to real ones as the paper's: docs/speed.md.

    python -m benchmarks.speed.distance --data-dir DIR

The paper's procedure on `cifar10-robust`, in the loop of robustness 1.2.1 (`benchmarks.speed.ascent`), beside
the fewest steps of `rsynth-generate` on `cifar10` whose images have no larger Fréchet distance to the test
images. Rounds are interleaved, a batch each. Needs torch and the extra `[eval]`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import common
from benchmarks.quality.baseline import PAPER
from benchmarks.speed.ascent import Case, peers
from rsynth_jax.images import decode
from rsynth_jax.metrics.estimates import Estimate
from rsynth_jax.metrics.frechet import frechet_estimate
from rsynth_jax.sampling import samplers
from rsynth_jax.storage import releases
from rsynth_jax.types import Bytes

CASE = Case("resnet8", 32, 100, steps=60, rounds=7)
LOOP = "robustness, cross-entropy"


@common.main(common.DataOptions(num=100, out=common.RESULTS / "distance"))
def benchmark(options: common.DataOptions) -> None:
    robust, dual = releases.load("cifar10-robust"), releases.load("cifar10")
    real = common.embed(common.read(options, "test").images).features

    def distance(images: Bytes) -> Estimate:
        return frechet_estimate(common.embed(images).features, real)

    paper: Any = PAPER
    theirs = distance(samplers.generate(robust, num=options.num, **paper).images)
    ours = []
    while not ours or ours[-1].value > theirs.value:
        samples = samplers.generate(dual, num=options.num, num_steps=len(ours) + 1)
        ours.append(distance(samples.images))
    print(f"FD {theirs.value:.1f} of {LOOP}; {ours[-1].value:.1f} after {len(ours)} steps", flush=True)
    num = CASE.batch // len(robust.class_names)
    untouched = paper | {"num_steps": 0}
    begun = samplers.generate(robust, num=num, **untouched)
    starts = np.array(jax.vmap(decode)(jnp.asarray(begun.images)))
    settings: Any = {"num": num, "num_steps": len(ours), "batch_size": CASE.batch}
    runs = {
        LOOP: peers(CASE, robust.model, robust.variables, starts, begun.labels.astype(np.int64))[LOOP],
        "rsynth-generate": lambda: samplers.generate(dual, **settings).images,
    }
    seconds = common.interleaved(runs, CASE.rounds)
    laps = {name: common.ratio(taken, np.full(CASE.rounds, CASE.batch)) for name, taken in seconds.items()}
    rows = {
        f"{LOOP}, steps: {CASE.steps}": (theirs, laps[LOOP]),
        f"rsynth-generate, steps: {len(ours)}": (ours[-1], laps["rsynth-generate"]),
    }
    ratio = common.ratio(*seconds.values())
    versions = f"jax {jax.__version__}, torch {torch.__version__}"
    stored = {name: {"fd": fd._asdict(), "seconds": lap._asdict()} for name, (fd, lap) in rows.items()}
    by_steps = [found._asdict() for found in ours]
    common.write(options.out, versions=versions, rows=stored, ratio=ratio._asdict(), fd_by_steps=by_steps)
    cells = [(name, common.interval(fd, ".1f"), common.interval(lap)) for name, (fd, lap) in rows.items()]
    print(common.table(("images", "FD", "seconds an image"), cells))
    print(f"{common.MACHINE}, {versions}: {common.interval(ratio)} times, median and quartiles")
