"""Recipes of translators: how to train a pair of autoencoders that share their contents.

recipe = replace(RECIPES["summer2winter-munit-64"], content_weight=3.0)
"""

from typing import NamedTuple

from rsynth_jax.training.gan_recipes import NO_COLOR, AdamValues, AugmentValues, CriticValues
from rsynth_jax.training.recipes import replace


class TranslatorValues(NamedTuple):
    """The translator, and the sizes at which its critics see images."""

    side: int = 64  # of the images.
    widths: tuple[int, ...] = (48, 96)  # channels at a half, a quarter ... of the side; of the contents last.
    blocks: int = 2  # residual blocks of a content encoder, and of a decoder.
    style_size: int = 8  # values of a style.
    mlp_width: int = 128  # units of the hidden layers that turn a style into scales and shifts.
    scales: int = 2  # critics of each domain: of the image, of half its side, of a quarter ...


class LossValues(NamedTuple):
    """The losses: means over values, summed over both domains. 0 leaves one out."""

    adversarial_weight: float = 1.0  # of the games against the critics.
    image_weight: float = 10.0  # of an image encoded and decoded, pixels in [-1, 1].
    content_weight: float = 1.0  # of a translation's content, encoded again; more keeps more.
    style_weight: float = 1.0  # of a translation's style, encoded again.
    cycle_weight: float = 10.0  # of an image translated there and back; less lets shapes change.
    moment_weight: float = 1.0  # of the divergence of the images' styles from N(0, I).
    example_share: float = 0.5  # of translations in the style of an image of the batch; the paper has 0.


class TranslatorRecipe(NamedTuple):
    """How to train a translator."""

    num_steps: int = 6_000  # updates of the translator.
    batch_size: int = 8  # pairs of images of an update, one of each domain.
    seed: int = 0  # of the weights, the order, the augmentation and the styles.
    classifier: str | None = None  # robust classifier: a critic of each domain sees its maps.
    translator: TranslatorValues = TranslatorValues()  # the translator.
    loss: LossValues = LossValues()  # the losses.
    critic: CriticValues = CriticValues()  # the critics and the game.
    augment: AugmentValues = AugmentValues()  # the augmentation.
    adam: AdamValues = AdamValues()  # the optimizers.

    @property
    def images_per_step(self) -> int:
        """Pairs of a step: a batch for each update of the critics."""
        return self.batch_size * self.critic.critic_steps


_MUNIT = replace(
    TranslatorRecipe(),
    game="least-squares",
    gamma=0.02,
    last_gamma=0.02,
    penalty_stride=4,
    beta1=0.5,
    learning_rate=4e-3,
    last_learning_rate=1e-3,
    **NO_COLOR,  # in which the domains differ
)

_FINE = replace(_MUNIT, widths=(48,))  # contents of half the side: textures and colors change, shapes stay

RECIPES = {
    "cat-dog-munit-64": replace(  # whose shapes must change
        _MUNIT, classifier="cat-dog-64", cycle_weight=1.0, num_steps=3_800
    ),
    "summer2winter-munit-64": replace(_FINE, num_steps=3_700),
    "horse2zebra-munit-64": _FINE,
}
