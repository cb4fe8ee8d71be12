"""Recipes of segmenters: how to train a network that gives each pixel a class.

recipe = replace(RECIPES["facades-64"], num_steps=1_000)
"""

from typing import NamedTuple


class MoveValues(NamedTuple):
    """The augmentation of images with their masks; 0 for none."""

    flip: float = 0.5  # share of images mirrored left to right.
    translation: float = 0.125  # largest shift each way, as a share of the side.
    zoom: float = 0.25  # largest change of the scale, as a share of it.
    brightness: float = 0.15  # largest shift of all values.
    saturation: float = 0.5  # largest change of the factor of the saturation.
    contrast: float = 0.3  # largest change of the factor of the contrast.


class AdamWValues(NamedTuple):
    """AdamW with one cycle of the learning rate, and the average of the weights."""

    learning_rate: float = 4e-3  # the peak, at a quarter of the steps.
    weight_decay: float = 1e-2  # decoupled.
    ema_decay: float = 0.99  # per step, of the weight average that is released.


class SegmenterRecipe(NamedTuple):
    """How to train a segmenter."""

    num_steps: int = 3_000  # updates.
    batch_size: int = 16  # images of an update.
    seed: int = 0  # of the weights, the order and the augmentation.
    width: int = 48  # channels at the first size.
    move: MoveValues = MoveValues()  # the augmentation.
    adam: AdamWValues = AdamWValues()  # the optimizer.

    @property
    def images_per_step(self) -> int:
        """Images of a step."""
        return self.batch_size


RECIPES = {"facades-64": SegmenterRecipe()}
