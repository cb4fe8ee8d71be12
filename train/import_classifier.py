"""rsynth-import: a published classifier's file as a classifier of this project, with a model card.

rsynth-import imagenet_l2_3_0.pt --norm l2 --epsilon 3 --out robust.safetensors
"""

import dataclasses
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from tyro.conf import Positional, arg

from rsynth_jax import checks
from rsynth_jax.cli import options
from rsynth_jax.cli.report import print_lines
from rsynth_jax.cli.run import run
from rsynth_jax.storage import files

if TYPE_CHECKING:
    from rsynth_jax.storage.published import Found
    from rsynth_jax.storage.releases import Release

UNKNOWN = "not given"


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
    """Names of the classes in the order of the labels; by default those of the folder, else numbers."""
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
    source: str = UNKNOWN
    """Where the file comes from, for the model card."""
    licence: str = UNKNOWN
    """Licence of the file, for the model card."""
    out: Path
    """The classifier, a .safetensors file."""
    json: options.JsonFile = None
    system: options.SystemFlags = options.SystemFlags()

    def __post_init__(self) -> None:
        checks.not_negative(epsilon=self.epsilon)
        checks.given(checks.positive, image_size=self.image_size)
        checks.finite(mean=self.mean)
        checks.positive(**{f"std {i}": value for i, value in enumerate(self.std)})


def import_classifier(flags: Options) -> int:
    """Read the file, write the classifier and its model card."""
    from rsynth_jax.attacks.threats import Threat
    from rsynth_jax.storage import published, releases
    from rsynth_jax.synthesis.norms import NORMS

    card = flags.out.with_suffix(".md")
    options.check_outputs(weights=flags.out, card=card, json=flags.json)
    threat = Threat(checks.named("norm", flags.norm, NORMS), flags.epsilon)
    names_map = published.read_map(flags.map) if flags.map else None
    try:
        found = published.read(flags.file, flags.architecture, names_map)
    except published.Mismatch as mismatch:
        print(files.printable_lines(mismatch.report), file=sys.stderr)
        raise
    found = published.with_input(found, flags.mean, flags.std, flags.image_size)
    origin = {"file": flags.file.name, "source": flags.source, "licence": flags.licence}
    release = published.as_release(found, flags.classes, threat, origin)
    releases.save(flags.out, release, np.float32)
    lines = facts(release, found)
    files.write(card, card_of(flags.out.stem, lines).encode())
    shown = [f"{name}: {value}" for name, value in lines.items()]
    return print_lines([*shown, f"{flags.out} and {card} written"], lines, flags.json, (), flags.out)


def facts(release: "Release", found: "Found") -> dict[str, Any]:
    """Describe an imported classifier: a text for each row of its model card."""
    import jax

    config, threat = release.config, release.threat
    num = sum(leaf.size for leaf in jax.tree.leaves(release.variables["params"]))
    height, width, channels = release.image_shape
    radius = f"{threat.norm.name}, epsilon {threat.epsilon:g}" if threat.epsilon else UNKNOWN
    return {
        "architecture": f"{config.architecture}, {num:,} parameters, float32",
        "classes": f"{config.num_classes}: {files.shown(', '.join(release.class_names), 100)}",
        "images": f"{height} x {width}, {channels} channels, values in [0, 1]",
        "normalisation": f"(x - {list(config.mean)}) / {list(config.std)}",
        "threat": radius,
        "source": release.recipe["source"],
        "licence": release.recipe["licence"],
        "file": release.recipe["file"],
        "sha-256": found.digest,
        "skipped": ", ".join(found.skipped) or "nothing",
    }


def card_of(name: str, rows: dict[str, Any]) -> str:
    """Write the model card of an imported classifier in Markdown."""
    table = [f"| {row} | {str(text).replace('|', '&#124;')} |" for row, text in rows.items()]
    text = "A classifier imported by `rsynth-import`. Generation starts from grey: it has no class Gaussians."
    return "\n".join([f"# {name}", "", text, "", "| | |", "| --- | --- |", *table, ""])


main = functools.partial(run, Options, import_classifier)

if __name__ == "__main__":
    main()
