"""rsynth-translate: images turned into another class, from themselves and no further than a radius.

rsynth-translate photo.png --to dog --until 0.9 --coarse 4 --out translated.png
rsynth-translate photo.png --to dog --translator runs/translator --styles 5
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from rsynth_jax import checks
from rsynth_jax.cli import translated
from rsynth_jax.cli.edit import EditFlags, edit, edit_tiles, largest_change
from rsynth_jax.cli.options import AscentFlags, MaskWords, OutputFlags, Seed
from rsynth_jax.cli.parse import parse_variant
from rsynth_jax.cli.photos import composite, composite_in, masks_of
from rsynth_jax.cli.run import run
from rsynth_jax.data import regions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(EditFlags):
    """rsynth-translate: images turned into another class, from themselves and no further than a radius.

    With --until P each image stops at its first step where the classifier gives the class the probability P:
    the counterfactual, which shows what would have to differ. The radius, --most, --mask, --coarse and
    --resemble limit the change, as many as are given. The sheet has a row an image, of up to 16: as given,
    the start, the result, the difference.
    """

    label: Annotated[str, arg(name="to", metavar="CLASS")] = dataclasses.field()  # required
    """The class to become, by name or number."""
    until: Annotated[float | None, arg(metavar="P")] = None
    """Stop each image where the probability of the class reaches this; by default take every step."""
    most: float = 1.0
    """Largest change of a single value, in pixel values of [0, 1]: an l-infinity ball. 1 is any change."""
    mask: MaskWords = ()
    """What may change, one flag a part: a rectangle LEFT,TOP,RIGHT,BOTTOM of the upright photograph, in
    pixels or in percent (40%,30%,60%,50%), or a mask file: white may, black is kept to the last bit, gray is
    a soft edge. A file of the photograph's size follows its crop; any other one is of the part worked on."""
    coarse: Annotated[float | None, arg(metavar="CYCLES")] = None
    """Keep the coarse structure: all frequencies up to so many cycles an image, 0 being the mean color."""
    resemble: Annotated[float | None, arg(metavar="WEIGHT")] = None
    """Weight of the perceptual distance from the image, over the classifier's own layers, as a penalty.

    At 3 it keeps shapes and colors and leaves fine noise.
    """
    tile: bool = False
    """Translate one photograph in overlapping tiles of the classifier's size, which are blended, at its own
    scale, in place of lowering it: --crop says which part, by default all of it."""
    shift: int = 2
    """Each step views the image from up to so many pixels away, so that no grid of a strided network is
    left."""
    seed: Seed = 0
    ascent: AscentFlags = AscentFlags(radius=6.0, steps=40, step_size=0.2)
    output: OutputFlags = OutputFlags(out=Path("translated.png"))

    def __post_init__(self) -> None:
        checks.given(checks.share, until=self.until)
        checks.share(most=self.most)
        checks.given(checks.not_negative, coarse=self.coarse, resemble=self.resemble)
        checks.not_negative(shift=self.shift)
        checks.seed(seed=self.seed)


def translate(flags: Options | translated.Options) -> int:
    """Translate and report."""
    if isinstance(flags, translated.Options):
        return translated.translate_by(flags)
    from rsynth_jax.sampling import samplers

    limits = {"most": flags.most, "coarse": flags.coarse, "until": flags.until}
    limits |= {"perceptual_weight": flags.resemble or 0.0, "max_shift": flags.shift, "seed": flags.seed}

    where = regions.read(flags.mask)

    def sampler(release, given, **settings):
        free = masks_of(where, given, "what may change") if flags.mask else None
        samples = samplers.translate(release, given.images, given.labels, free, **limits, **settings)
        if free is None:
            return samples, {}
        return samples, {"known_error": largest_change(given.images, samples.images, free == 0)}

    make = edit_tiles if flags.tile else edit
    return make(flags, sampler, paste=composite_in(where) if flags.mask else composite)


def parse(options: type[Options], arguments: Sequence[str]) -> Any:
    """Parse as the ascent's translation, or the translator's, by the flag that is given."""
    return parse_variant(options, {"--translator": translated.Options}, arguments)


main = functools.partial(run, Options, translate, parse)

if __name__ == "__main__":
    main()
