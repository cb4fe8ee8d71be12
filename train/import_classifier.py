"""rsynth-import: a published classifier's file as a classifier of this project, with a model card.

rsynth-import imagenet_l2_3_0.pt --norm l2 --epsilon 3 --out robust.safetensors
"""

import dataclasses
import functools
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import Positional, arg

from rsynth_jax import checks, messages
from rsynth_jax.cli import cards, options
from rsynth_jax.cli.report import print_lines
from rsynth_jax.cli.run import run
from rsynth_jax.storage import files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-import: a published classifier's file as a classifier of this project, with a model card.

    Reads checkpoints of robustness (MadryLab), RobustBench, torchvision and timm; nothing in the file runs.
    The model card is written beside OUT. A file whose tensors fit no architecture needs a map, a JSON object
    {"name in the file": "published name"}: * stands for one part of a name, null skips a tensor.
    """

    file: Positional[Annotated[Path, arg(metavar="FILE")]]
    """A .pt, .pth or .safetensors file, or a folder of Hugging Face (config.json and model.safetensors)."""
    architecture: Annotated[str | None, arg(metavar="NAME")] = None
    """The architecture; by default the one whose tensors have the file's names and shapes."""
    map: Annotated[Path | None, arg(metavar="MAP.json")] = None
    """Names in the file, and the published names in their place."""
    classes: Annotated[tuple[str, ...], arg(metavar="NAME ...")] = ()
    """Names of the classes, in the order of the labels: the names, a text file with one a line, or cifar10,
    cifar100, imagenet or restricted-imagenet; by default those of the folder, else numbers."""
    norm: str = "l2"
    """Norm of the threat model that it was trained against: l2 or linf."""
    epsilon: Annotated[float, arg(metavar="RADIUS")] = 0.0
    """Radius of that threat model, in pixel values of [0, 1]; 0 if unknown."""
    mean: Annotated[tuple[float, ...], arg(metavar="MEAN ...")] = ()
    """The network takes (x - mean) / std; by default the file's values, else those of the architecture."""
    std: Annotated[tuple[float, ...], arg(metavar="STD ...")] = ()
    """See mean."""
    image_size: Annotated[int | None, arg(metavar="PIXELS")] = None
    """Side of its images; by default the architecture's."""
    source: str = ""
    """Where the file comes from, for the model card."""
    licence: str = ""
    """Licence of the file, for the model card."""
    out: Path
    """The classifier, a .safetensors file."""
    json: options.JsonFile = None
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.not_negative(epsilon=self.epsilon)
        checks.given(checks.positive, image_size=self.image_size)
        checks.not_negative(**{f"mean {i}": abs(value) for i, value in enumerate(self.mean)})
        checks.positive(**{f"std {i}": value for i, value in enumerate(self.std)})


def import_classifier(flags: Options) -> int:
    """Read the file, write the classifier and its model card."""
    from rsynth_jax.attacks.threats import Threat
    from rsynth_jax.storage import class_names, published, releases
    from rsynth_jax.synthesis.norms import NORMS

    card = flags.out.with_suffix(".md")
    options.check_outputs(weights=flags.out, card=card, json=flags.json)
    threat = Threat(checks.named("norm", flags.norm, NORMS), flags.epsilon)
    names_map = published.read_map(flags.map) if flags.map else None
    try:
        found = published.read(flags.file, flags.architecture, names_map)
    except published.Mismatch as mismatch:
        print(messages.printable_lines(mismatch.report), file=sys.stderr)
        raise
    found = published.with_input(found, flags.mean, flags.std, flags.image_size)
    names = class_names.read(flags.classes)
    release = published.as_release(found, names, threat, flags.source, flags.licence)
    releases.save(flags.out, release, np.float32)
    lines = cards.facts(flags.file.name, found, release)
    files.write(card, cards.card_of(flags.out.stem, lines).encode())
    shown = [f"{name}: {value}" for name, value in lines.items()]
    return print_lines([*shown, f"{flags.out} and {card} written"], lines, flags.json, (), flags.out)


main = functools.partial(run, Options, import_classifier)

if __name__ == "__main__":
    main()
