"""Describe what the library found: the lines, numbers and sheets of a program's report.

    samples = samplers.generate(release, classes, **monitor.run)
    report(out, climbed(release, samples, num, title, monitor), sheet=out)

This module imports nothing heavy.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rsynth_jax.cli.generator_pages import COLUMNS
from rsynth_jax.cli.report import CHANGE, Result, Title, climb_numbers, image_arrays, rows
from rsynth_jax.cli.run import Monitor
from rsynth_jax.cli.sheets import Page
from rsynth_jax.data import image_files
from rsynth_jax.data.sources import Dataset
from rsynth_jax.metrics import estimates, neighbors

if TYPE_CHECKING:
    from rsynth_jax.attacks.autoattack import Attack
    from rsynth_jax.attacks.evaluation import Evaluation
    from rsynth_jax.attacks.threats import Threat
    from rsynth_jax.models.embedding import Embedding, Images
    from rsynth_jax.sampling.runner import Samples
    from rsynth_jax.sampling.samplers import Visualization
    from rsynth_jax.storage.releases import Release

NEAREST = 5  # real images beside a generated one
READERS = 2  # classes named beside a unit: those whose weights on it are largest


def climbed(release: "Release", samples: "Samples", num: int, title: Title, monitor: Monitor) -> Result:
    """Describe `num` images of each class; the sheet has a row a class."""
    names = np.array(release.class_names)[samples.labels]
    about = {"class": names, "index": np.arange(len(names)) % num}
    numbers = climb_numbers(samples, about, monitor.seconds)
    classes = names[::num].tolist()

    def page(step: int, images: np.ndarray) -> Page:
        cells = images.reshape(len(classes), -1, *images.shape[1:])
        return Page(cells[:, :COLUMNS], classes, title.after(step))

    closing = f"{len(names)} images of {', '.join(classes)} in {monitor.seconds:.1f} s; "
    return Result(
        page(title.steps, samples.images),
        numbers,
        closing + CHANGE.format_map(numbers),
        image_arrays(release, samples.images, samples.labels),
        dict(zip(map("{class}-{index:04d}".format_map, numbers["images"]), samples.images, strict=True)),
        [page(step, images) for step, images in monitor.frames.items()],
    )


class Real(NamedTuple):
    """Real images, their outputs, and a line for each that could not be read."""

    dataset: Dataset
    outputs: "Embedding"
    skipped: tuple[str, ...]


def visualized(
    release: "Release",
    units: Sequence[int],
    labels: Sequence[int],
    found: "Visualization",
    title: str,
    seconds: float,
    real: Real | None,
    num_real: int,
) -> Result:
    """Describe images of units, then of classes, in a row each.

    Where there are real images, the `num_real` with the largest activation are beside it after a gap.
    """
    from rsynth_jax.sampling import measures

    weights = measures.unit_weights(release)
    names = [f"unit {unit}" for unit in units] + [release.class_names[label] for label in labels]
    activations = {"activation_start": found.activation_start, "activation": found.activation}
    shown = rows({"name": names} | activations)
    for row, unit in zip(shown, units, strict=False):
        row["readers"] = measures.readers(weights[unit], release.class_names)
    cells = found.images
    if real is not None:
        cells = np.concatenate([cells, _add_real(real, units, labels, shown, num_real)], axis=1)
    page = Page(cells, list(map(_caption, shown)), title)
    means = {name: float(column.mean()) for name, column in activations.items()}
    change = "mean activation {activation_start:.2f} -> {activation:.2f}".format_map(means)
    closing = f"{found.images.shape[1]} images of each of {len(shown)} in {seconds:.1f} s; {change}"
    numbers = means | {"shown": shown, "seconds": seconds}
    return Result(page, numbers, closing, frames=[page], skipped=real.skipped if real else ())


def _add_real(
    real: Real, units: Sequence[int], labels: Sequence[int], shown: list[dict[str, Any]], num: int
) -> np.ndarray:
    """Describe the `num` real images with the largest activation of each row; return them after a gap."""
    images = real.dataset.images
    columns = [real.outputs.features[:, units], real.outputs.logits[:, labels]]
    activations = np.concatenate(columns, axis=1)
    most = np.argsort(-activations, axis=0, kind="stable")[:num].T
    for row, values, chosen in zip(shown, activations.T, most, strict=True):
        row["real"] = [{"name": real.dataset.names[k], "activation": float(values[k])} for k in chosen]
    cells = np.stack([[images[k] for k in chosen] for chosen in most])
    return np.concatenate([np.full_like(cells[:, :1], 255), cells], axis=1)


def _caption(row: Mapping[str, Any]) -> str:
    """unit 205: -0.2 -> 5.1 (deer +0.9, airplane +0.1)."""
    means = [float(np.mean(row[name])) for name in ("activation_start", "activation")]
    readers = [f"{name} {weight:+.1f}" for name, weight in row.get("readers", {}).items()]
    more = f" ({', '.join(readers[:READERS])})" if readers else ""
    return f"{row['name']}: {means[0]:.1f} -> {means[1]:.1f}{more}"


def nearest(images: "Images", reals: "Images", a: np.ndarray, b: np.ndarray) -> tuple[Page, dict[str, Any]]:
    """Describe the real images nearest to each image by their features `a` (n, d) and `b` (m, d).

    The sheet has a row for each of the first n images: itself, then the real ones.
    """
    indices, distances = neighbors.nearest(a, b, NEAREST)
    within = neighbors.median_nearest(b)
    side = min(images[0].shape[:2])
    found = [[images[i], *(reals[j] for j in row)] for i, row in enumerate(indices)]
    cells = np.stack([[image_files.square_bytes(image, side) for image in row] for row in found])
    names = [f"{i}: {row[0]:.3g}" for i, row in enumerate(distances)]
    about = f"distance to the first (between neighbours in B: {within:.3g})"
    page = Page(cells, names, f"A, then the {NEAREST} of B nearest; {about}")
    numbers = {"indices": indices.tolist(), "distances": distances.tolist(), "median_within_b": within}
    return page, numbers


def accuracies(
    found: "Evaluation", attacks: Sequence["Attack"], threat: "Threat"
) -> tuple[list[str], str, dict[str, Any]]:
    """Describe the accuracy, clean and after each attack: a line each if many, the last line, the numbers."""
    names = ["clean", *(attack.name for attack in attacks)]
    shares = [estimates.share(each) for each in (found.clean, *found.remaining)]
    texts = ["{:.1%} [{:.1%}, {:.1%}]".format(*share) for share in shares]
    table = zip(names, texts, found.seconds, strict=True)
    lines = [f"{name:10s} {text:24s} {seconds:7.1f} s" for name, text, seconds in table]
    numbers: dict[str, Any] = {}
    for name, share in (("clean", shares[0]), ("adversarial", shares[-1])):
        numbers |= {name: share.value, f"{name}_interval": share[1:]}
    columns = {"after": names, "accuracy": [share.value for share in shares]}
    columns |= {"interval": [share[1:] for share in shares], "seconds": found.seconds}
    many = len(attacks) > 1
    attacked = f"{'AutoAttack' if many else names[-1]} {threat.norm.name} {threat.epsilon:g} {texts[-1]}"
    return lines if many else [], f"clean {texts[0]}, {attacked}", numbers | {"rows": rows(columns)}


def detected(energies: Mapping[str, np.ndarray], inside: str) -> tuple[list[str], dict[str, Any]]:
    """Describe the energies (n,) of every set beside those of the set `inside`: a line each, the numbers."""
    from rsynth_jax.metrics import ranking

    others = {name: values for name, values in energies.items() if name != inside}
    width = max(map(len, others))
    lines, numbers = [], {}
    for name, values in others.items():
        area = ranking.auroc(energies[inside], values)
        mean = estimates.mean(values)
        auroc = "AUROC {:.4f} [{:.4f}, {:.4f}]".format(*area)
        lines.append(f"{name:<{width}}   {auroc}   mean energy {mean.value:7.2f}")
        numbers[name] = {"auroc": area._asdict(), "mean_energy": mean._asdict(), "num": len(values)}
    return lines, numbers
