"""Describe what the library found: the lines, numbers and sheets of a program's report.

    found = samplers.invert(release, given.images, **monitor.run)
    report(out, inverted(release, given, found, title, monitor), sheet=out)

This module imports nothing heavy.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rsynth_jax.cli.generator_pages import COLUMNS
from rsynth_jax.cli.report import CHANGE, ROWS, Result, Title, climb_numbers, image_arrays, rows
from rsynth_jax.cli.run import Monitor
from rsynth_jax.cli.sheets import Page
from rsynth_jax.data import image_files
from rsynth_jax.data.sources import Dataset, Pictures
from rsynth_jax.metrics import estimates, neighbors

if TYPE_CHECKING:
    from rsynth_jax.attacks.autoattack import Attack
    from rsynth_jax.attacks.evaluation import Evaluation
    from rsynth_jax.attacks.threats import Threat
    from rsynth_jax.models.embedding import Embedding, Images
    from rsynth_jax.sampling.runner import Samples
    from rsynth_jax.sampling.samplers import Inversion, Visualization
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


def inverted(
    release: "Release", given: Pictures, found: "Inversion", title: Title, monitor: Monitor
) -> Result:
    """Describe inversions; the sheet has a row an image: as given, the start, the inversion."""
    num, starts = found.tried.shape
    classes = np.array(release.class_names)
    about = {"name": given.names, "class": classes[found.labels], "from": classes[found.predicted_given]}
    each = rows(about | {"start": found.chosen, "tried": found.tried} | _outcome(found, classes))
    captions = list(map("{name}: {from}, now {ends}, distance {distance:.2f}".format_map, each[:ROWS]))
    kept = (np.arange(num) * starts + found.chosen)[:ROWS]

    def page(step: int, images: np.ndarray) -> Page:
        columns = (given.images, found.starts, images)
        cells = np.stack([column[:ROWS] for column in columns], axis=1)
        return Page(cells, captions, f"given, start, {title.after(step)}")

    share = float((found.predicted == found.predicted_given).mean())
    result = Result(
        page(title.steps, found.images),
        {"share": share, "images": each},
        f"{num} images, the best of {starts} starts each, {share:.0%} classified as before,",
        each=dict(zip(given.names, found.images, strict=True)),
        frames=[page(step, images[kept]) for step, images in monitor.frames.items()],
    )
    return _with_distances(result, release, given, found, monitor.seconds)


def interpolated(
    release: "Release", given: Pictures, others: Sequence[str], found: "Inversion", steps: int, seconds: float
) -> Result:
    """Describe interpolations; the sheet has two rows a pair: the frames above the blends of the pixels.

    The animation has the frames alone.
    """
    pairs = list(zip(given.names, [*others] * len(given.names), strict=False))
    num = len(found.images) // len(pairs)
    times = np.linspace(0, 1, num)
    frames = rows({"t": np.tile(times, len(pairs))} | _outcome(found, np.array(release.class_names)))
    captions = [f"{a} to {b}" for a, b in pairs][:ROWS]
    shape = (len(pairs), num, *given.images.shape[1:])
    cells = np.stack([found.images.reshape(shape), found.starts.reshape(shape)], axis=1)[:ROWS]
    names = [f"{name}-{frame:04d}" for name in given.names for frame in range(num)]
    sheet = Page(
        cells[: ROWS // 2].reshape(-1, *shape[1:]),
        [name for caption in captions[: ROWS // 2] for name in (caption, "the same in pixels")],
        f"feature match, {num} frames, {steps} steps",
    )
    each = [{"name": a, "to": b, "frames": frames[i * num :][:num]} for i, (a, b) in enumerate(pairs)]
    result = Result(
        sheet,
        {"images": each},
        f"{num} frames on the way of each of {len(pairs)} images",
        each=dict(zip(names, found.images, strict=True)),
        frames=[Page(cells[:, :1, f], (), "") for f in range(num)],  # the images alone
    )
    return _with_distances(result, release, given, found, seconds)


def _outcome(found: "Inversion", classes: np.ndarray) -> dict[str, np.ndarray]:
    ends = classes[found.predicted]
    return {"distance_start": found.distance_start, "distance": found.distance, "ends": ends}


def _with_distances(
    result: Result, release: "Release", given: Pictures, found: "Inversion", seconds: float
) -> Result:
    """The result with the mean distances, the arrays of --npz and the skipped files."""
    means = {name: float(getattr(found, name).mean()) for name in ("distance_start", "distance")}
    distances = "relative distance {distance_start:.3f} -> {distance:.3f}".format_map(means)
    return result._replace(
        numbers={**result.numbers, "seconds": seconds, **means},
        closing=f"{result.closing} in {seconds:.1f} s; {distances}",
        arrays=image_arrays(release, found.images, found.predicted),
        skipped=given.skipped,
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
