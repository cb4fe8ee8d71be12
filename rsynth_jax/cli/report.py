"""What programs show that started from given images: a sheet, an animation, arrays, numbers.

    status = publish(options, subject, painted, {"known_error": errors})

Only programs import this module.
"""

import numpy as np

from rsynth_jax import models
from rsynth_jax.cli import run as console
from rsynth_jax.cli import sheets as pictures
from rsynth_jax.cli.options import Options, Painted, Subject
from rsynth_jax.metrics import estimates
from rsynth_jax.sampling import runner as expedition
from rsynth_jax.sampling.runner import Bytes
from rsynth_jax.storage import files

ROWS = 16  # of a sheet at most: the rest is in the .npz and in --each
COLUMNS = 4  # as given, the start, the result, the difference


def difference(given: Bytes, result: Bytes) -> Bytes:
    """Grey where nothing changed."""
    return np.uint8(np.clip(128 + (np.int16(result) - given), 0, 255))


def rows(given: Bytes, frames: list[Bytes]) -> list[Bytes]:
    """The cells of a sheet for each frame: as given, the start, the frame, the difference, of each image."""
    columns = [(given, frames[0], frame, difference(given, frame)) for frame in frames]
    return [np.stack([c[:ROWS] for c in cells], 1).reshape(-1, *given.shape[1:]) for cells in columns]


def publish(options: Options, subject: Subject, painted: Painted, extra: dict[str, np.ndarray]) -> int:
    """The sheet, the other files asked for, and the closing line. `extra` has more numbers of each image."""
    (release, _, _, labels, skipped), frames = subject, painted.frames
    model, size = models.create(release.config), options.batch_size
    found = expedition.outcome(model, release.variables, frames[0], frames[-1], labels, size)
    numbers = numbers_of(subject, found, extra) | {"seconds": painted.seconds}
    write(options, subject, painted, captions(numbers["images"]))
    console.report(options.json, numbers)
    more = "".join(f", {key.replace('_', ' ')} {numbers[key]:.4g}" for key in extra)
    print(
        f"{options.out}: {len(labels)} images in {painted.seconds:.1f} s; {numbers['share']:.0%} end in "
        f"their class, mean p {numbers['p_start']:.2f} -> {numbers['p']:.2f}, "
        f"l2 moved {numbers['l2_moved']:.2f}{more}"
    )
    return console.skipped(skipped)


def numbers_of(subject: Subject, found: expedition.Outcome, extra: dict[str, np.ndarray]) -> dict:
    """The means over all images, the share that ends in its class, and the numbers of each image."""
    class_names, labels = subject.release.class_names, subject.labels
    described = [
        {"name": name, "from": class_names[start], "to": class_names[label], "ends": class_names[end]}
        | {key: float(column[i]) for key, column in extra.items()}
        for i, (name, start, label, end) in enumerate(
            zip(subject.names, found.seen_start, labels, found.seen, strict=True)
        )
    ]
    share, *interval = estimates.share(found.seen == labels)
    columns = {"p_start": np.exp(found.log_prob_start), "p": np.exp(found.log_prob)} | extra
    means = {key: float(np.mean(column)) for key, column in columns.items()}
    return {"share": share, "interval": interval} | means | expedition.numbers(found, described)


def captions(each: list[dict]) -> list[str]:
    """What stands at the left of the rows of a sheet."""
    return [
        "{name}: {from} -> {to}, p {p:.2f}, l2 {l2_moved:.1f}".format(**image, p=np.exp(image["log_prob"]))
        for image in each[:ROWS]
    ]


def write(options: Options, subject: Subject, painted: Painted, row_names: list[str]) -> None:
    """The sheet; single images, animation and arrays where they are asked for."""
    o, (release, given, names, labels, _), frames = options, subject, painted.frames
    titles = pictures.titles(o.objective, o.steps, o.step_size, len(frames))
    titles = [f"given, start, {title}, difference" for title in titles]
    sheets = rows(given, frames)
    pictures.write_sheet(o.out, sheets[-1], COLUMNS, row_names, titles[-1])
    if o.each:
        for name, image in zip(names, frames[-1], strict=True):
            pictures.write_image(o.out.with_suffix("") / f"{name}.png", image)
    if o.gif:
        short = [name.partition(",")[0] for name in row_names]
        pictures.write_animation(o.gif, sheets, COLUMNS, short, titles)
    if o.npz:
        arrays = {"images": frames[-1], "labels": labels, "class_names": np.array(release.class_names)}
        files.write_arrays(o.npz, arrays | {"given": given})
