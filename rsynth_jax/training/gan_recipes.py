"""Recipes of generators: how to train a style-based generator against a critic.

recipe = replace(RECIPES["faces-style-64"], batch_size=64)

Of thousands of images colors are not augmented: a critic that sees them shifted learns slowly. Of hundreds
they are, for such a critic remembers less.
"""

from typing import NamedTuple

from rsynth_jax.training.recipes import replace


class StyleValues(NamedTuple):
    """The style-based generator."""

    widths: tuple[int, ...] = (128, 128, 64, 32)  # channels at 4, 8, 16 ... pixels, to half the side.
    latent_size: int = 128  # values of a latent and of a style.
    mapping_depth: int = 4  # layers of the mapping network.
    norm: str = "demodulated"  # demodulated (weights, 2020) or adain (2019).
    smooth: bool = True  # whether the last size is smoothed, against a grid of 2 pixels.
    mixing: float = 0.5  # share of images with the styles of two latents.
    noise_scale: float = 1.0  # factor of the learned scales of the noise in the released generator.


class CriticValues(NamedTuple):
    """The critic and the game."""

    critic_width: int = 128  # most channels of the pixel critic; each doubling of 8 pixels halves them.
    game: str = "relativistic"  # minimax, heuristic, least-squares, hinge or relativistic.
    gamma: float = 1.0  # weight of the gradient penalties R1 and R2 at the start.
    last_gamma: float = 0.1  # the same at the end, reached along half a cosine.
    penalty_stride: int = 1  # the penalties are taken on one pair of images of so many.
    critic_steps: int = 1  # updates of the critic for each of the generator.
    critic_rate: float = 1.0  # learning rate of the critic over that of the generator.


class EvolutionValues(NamedTuple):
    """The evolution of the generator."""

    mutations: tuple[str, ...] = ()  # games, each a step of every generator; none: the game alone.
    survivors: int = 1  # generators that are kept of all that the mutations make: the fittest.
    diversity: float = 0.1  # weight of the diversity in the fitness.


class AugmentValues(NamedTuple):
    """The augmentation of real and generated images before the critic; 0 for none."""

    brightness: float = 0.25  # largest shift of all values.
    saturation: float = 0.75  # largest change of the factor of the saturation.
    contrast: float = 0.5  # largest change of the factor of the contrast.
    translation: float = 0.125  # largest shift each way, as a share of the side.
    cutout: float = 0.0  # side of the grey rectangle, as a share of the image's.


class AdamValues(NamedTuple):
    """Adam for the generator and the critic, and the average of the generator's weights."""

    learning_rate: float = 2e-3  # at the start, of layers with an equalized learning rate.
    last_learning_rate: float = 5e-4  # at the end, reached along half a cosine.
    beta1: float = 0.0  # decay of the average gradient.
    beta2: float = 0.99  # decay of the average squared gradient.
    ema_decay: float = 0.999  # per step, of the weight average that is released.


class GanRecipe(NamedTuple):
    """How to train a generator."""

    num_steps: int = 8_000  # updates of the generator.
    batch_size: int = 32  # real images of an update, and as many generated ones.
    seed: int = 0  # of the weights, the order, the augmentation and the latents.
    classifier: str | None = None  # robust classifier: the critic sees its maps beside the pixels.
    style: StyleValues = StyleValues()  # the generator.
    critic: CriticValues = CriticValues()  # the critic and the game.
    evolution: EvolutionValues = EvolutionValues()  # the evolution.
    augment: AugmentValues = AugmentValues()  # the augmentation.
    adam: AdamValues = AdamValues()  # the optimizers.

    @property
    def images_per_step(self) -> int:
        """Real images of a step: a batch for each update of the critic."""
        return self.batch_size * self.critic.critic_steps


NO_COLOR = {"brightness": 0.0, "saturation": 0.0, "contrast": 0.0}  # no color is augmented

_STYLE = replace(GanRecipe(), num_steps=5_000, penalty_stride=4)
_THOUSANDS = replace(
    _STYLE,
    learning_rate=4e-3,
    last_learning_rate=1e-3,
    critic_rate=2.5,
    **NO_COLOR,
)

_EVOLVED = replace(  # three updates of the critic, each on 32 images, as in the paper
    _THOUSANDS,
    widths=(96, 96, 48),
    critic_width=64,
    game="minimax",
    critic_steps=3,
    mutations=("minimax", "heuristic", "least-squares"),
    ema_decay=0.998,  # of few steps
    num_steps=1_500,
)

RECIPES = {
    "faces-style-64": replace(_THOUSANDS, classifier="cat-dog-64", noise_scale=0.4),
    "cifar10-style-32": replace(
        _THOUSANDS,
        widths=(128, 128, 64),
        noise_scale=0.5,
        classifier="cifar10-robust",
        num_steps=6_000,
    ),
    "faces-egan-32": _EVOLVED,
    "cifar10-egan-32": _EVOLVED,
    "facades-style-64": replace(  # of 500 photos: each is shown 115 times
        _STYLE,
        classifier="restricted-imagenet-64-robust",
        learning_rate=4e-3,
        last_learning_rate=1e-3,
        last_gamma=0.25,
        batch_size=16,
        num_steps=3_600,
    ),
    "style": _THOUSANDS,
}
