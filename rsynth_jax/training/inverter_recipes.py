"""Recipes of inverters: how to train a network that inverts a classifier's representation in one pass.

recipe = replace(RECIPES["faces-deepsim-64"], layer="features")

Nothing is augmented before the critic: with shifts of color it does not learn, in a few thousand steps, what
tells the images apart, and rings around light and dark regions stay. They fade sooner where the comparator's
maps weigh little.
"""

from typing import NamedTuple

from rsynth_jax.training.gan_recipes import NO_COLOR, AdamValues, AugmentValues, CriticValues
from rsynth_jax.training.recipes import replace


class InverterValues(NamedTuple):
    """The inverter."""

    layer: str = "features"  # of the classifier, which is inverted: features, or maps:N of residual block N.
    variational: bool = False  # the code is drawn, near N(0, I), so that draws of N(0, I) make images.
    latent_size: int = 128  # values of a variational code, at every position of a map.
    widths: tuple[int, ...] = (128, 128, 64, 32, 16)  # channels at 4, 8, 16 ... pixels, to the side.


class LossValues(NamedTuple):
    """The losses, each a mean over values, maps and images."""

    feature_weight: float = 1.0  # of the squared difference of the comparator's standardized maps.
    adversarial_weight: float = 0.2  # of the game against the critic.
    image_weight: float = 20.0  # of the squared difference of pixels in [0, 1].
    kl_weight: float = 0.005  # of the divergence of a variational code from N(0, I).
    comparator: str | None = None  # a classifier whose maps are compared, or random; None: the inverted one.


class InverterRecipe(NamedTuple):
    """How to train an inverter."""

    num_steps: int = 4_000  # updates of the inverter.
    batch_size: int = 32  # images of an update.
    seed: int = 0  # of the weights, the order, the augmentation and the codes.
    classifier: str = "cat-dog-64"  # whose representations are inverted.
    inverter: InverterValues = InverterValues()  # the inverter.
    loss: LossValues = LossValues()  # the losses.
    critic: CriticValues = CriticValues()  # the critic and the game.
    augment: AugmentValues = AugmentValues()  # the augmentation.
    adam: AdamValues = AdamValues()  # the optimizers.

    @property
    def images_per_step(self) -> int:
        """Images of a step: a batch for each update of the critic."""
        return self.batch_size * self.critic.critic_steps


_DEEPSIM = replace(
    InverterRecipe(),
    num_steps=2_500,
    batch_size=16,
    feature_weight=0.2,
    penalty_stride=4,
    last_gamma=1.0,
    beta1=0.5,
    critic_rate=5.0,
    translation=0.0,
    **NO_COLOR,
)

RECIPES = {
    "faces-deepsim-64": replace(_DEEPSIM, layer="maps:2"),
    "faces-deepsim-vae-64": replace(_DEEPSIM, variational=True),
}
