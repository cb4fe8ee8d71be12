"""The model card of an imported classifier, in Markdown.

rows = facts("imagenet_l2_3_0.pt", found, release)
card = card_of("robust", rows)
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rsynth_jax import messages

if TYPE_CHECKING:
    from rsynth_jax.storage.published import Found
    from rsynth_jax.storage.releases import Release

UNKNOWN = "not given"

_ABOUT = "A classifier imported by `rsynth-import`. Generation starts from grey and noise."


def facts(file: str, found: "Found", release: "Release") -> dict[str, str]:
    """Describe an imported classifier: a text for each row of its model card."""
    import jax

    from rsynth_jax.storage import releases

    threat, origin = release.threat, releases.origin(release)
    num = sum(leaf.size for leaf in jax.tree.leaves(release.variables["params"]))
    height, width, channels = release.image_shape
    return {
        "architecture": f"{found.config.architecture}, {num:,} parameters, float32",
        "classes": f"{found.config.num_classes}: {messages.listed(release.class_names)}",
        "images": f"{height} x {width}, channels: {channels}, values in [0, 1]",
        "normalisation": normalisation(found.config.mean, found.config.std),
        "threat": f"{threat.norm.name}, epsilon {threat.epsilon:g}" if threat.epsilon else UNKNOWN,
        "source": origin.source or UNKNOWN,
        "licence": origin.licence or UNKNOWN,
        "file": file,
        "SHA-256": origin.sha256,
        "skipped": ", ".join(found.skipped) or "nothing",
    }


def normalisation(mean: Sequence[float], std: Sequence[float]) -> str:
    """Write what a network makes of an image first."""
    means, stds = (", ".join(f"{value:g}" for value in values) for values in (mean, std))
    return f"(x - ({means})) / ({stds})"


def card_of(name: str, rows: Mapping[str, str]) -> str:
    """Write the model card: the rows as a table under the name."""
    table = [f"| {row} | {text.replace('|', '&#124;')} |" for row, text in rows.items()]
    return "\n".join([f"# {name}", "", _ABOUT, "", "| | |", "| --- | --- |", *table, ""])
