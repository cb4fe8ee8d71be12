"""rsynth-export: a classifier's weights under the names that PyTorch's definitions have.

rsynth-export robust.safetensors --format torch --out resnet50.safetensors
"""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from rsynth_jax import checks
from rsynth_jax.cli import cards, options
from rsynth_jax.cli.report import print_lines
from rsynth_jax.cli.run import run
from rsynth_jax.storage import files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-export: a classifier's weights under the names that PyTorch's definitions have.

    Writes a safetensors state dict that `load_state_dict` of torchvision's, robustness's, RobustBench's or
    timm's definition reads. The network takes (x - mean) / std of images in [0, 1]: both are in the metadata.
    """

    classifier: Positional[Annotated[str, arg(metavar="NAME")]]
    """A released classifier's name, a .safetensors file, or a training run."""
    format: str = "torch"
    """Names and layouts of the arrays: torch."""
    out: Path
    """The state dict, a .safetensors file."""
    system: options.SystemFlags = options.SystemFlags()


def export_classifier(flags: Options) -> int:
    """Write the state dict."""
    from rsynth_jax.storage import published, releases

    options.check_outputs(weights=flags.out)
    exported = checks.named("format", flags.format, {"torch": published.exported})
    release = releases.load(flags.classifier)
    config = releases.config_of(release)
    arrays, metadata = exported(config, release.variables)
    files.write_tensors(flags.out, arrays, metadata)
    lines = [
        f"{config.architecture}, {len(arrays)} arrays; input: {cards.normalisation(config.mean, config.std)}"
    ]
    return print_lines([*lines, f"{flags.out} written"], {}, None, (), flags.out)


main = functools.partial(run, Options, export_classifier)

if __name__ == "__main__":
    main()
