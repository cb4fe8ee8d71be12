"""Recipes: everything a training run depends on besides its data, as plain values under a name.

    recipe = RECIPES["cifar10-cpu"]._replace(epochs=2)

What the values mean is in `rsynth_jax.training.build`.

`cifar10-cpu` and those of 64 pixels are this project's own, for two cores; the radius grows with the side.
The six under the paper's names (Santurkar et al. 2019) are its published settings as remembered, not checked
against its appendix here, but for restricted-imagenet, which its authors confirmed for a sister paper; none
of the six has been run to its end by this project.
"""

from typing import NamedTuple


class Recipe(NamedTuple):
    """How to train.

    Attributes:
      architecture: a key of `rsynth_jax.models.ARCHITECTURES`.
      method: natural, pgd, trades, or dual (from a robust classifier on).
      beta: weight of the divergence in TRADES.
      contrast: weight in dual training of telling real images from fakes.
      fake_temperature: of the class Gaussians from which fakes start.
      fake_noise: share of fakes that start from noise instead, every value uniform.
      fake_step_size: length of a fake's step at 32 pixels; it grows with the side.
      fake_stride: steps that a fake climbs between two updates.
      most_fake_steps: that it climbs in all, once T has grown; a stride at first.
      auc_threshold: above which T grows.
      norm: l2 or linf, of the training adversary.
      epsilon: its radius, in pixel values of [0, 1].
      step_size: of one of its steps.
      num_steps: of its ascent.
      epochs: passes over the training images; None for as many as make `least_steps`.
      least_steps: that a recipe without epochs takes, however few the images.
      batch_size: images a step.
      optimizer: sgd (Nesterov momentum) or adamw.
      learning_rate: the peak.
      momentum: of SGD.
      weight_decay: in the loss for SGD, decoupled for AdamW.
      schedule: step (a tenth at each milestone), cosine, or one-cycle (peak at a quarter).
      milestones: epochs at which the step schedule divides the rate by ten.
      label_smoothing: share of a label spread over all classes.
      ema_decay: of the weight average used for evaluation and release, a step.
      crop_padding: of the random crop, in pixels; 0 for none.
      mean, std: the network's first layer computes (x - mean) / std.
      dtype: of the computation, float32 or bfloat16.
      seed_factor: downsampling of the class Gaussians.
      seed_share: share of their variance to keep.
      seed: of the weights, the order, the augmentation and the attacks.
    """

    architecture: str = "resnet50"
    method: str = "pgd"
    beta: float = 6.0
    contrast: float = 1.0
    fake_temperature: float = 1.2
    fake_noise: float = 1 / 16
    fake_step_size: float = 0.2
    fake_stride: int = 4
    most_fake_steps: int = 40
    auc_threshold: float = 0.7
    norm: str = "l2"
    epsilon: float = 0.5
    step_size: float = 0.1
    num_steps: int = 7
    epochs: int | None = 350
    least_steps: int = 3000
    batch_size: int = 256
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "step"
    milestones: tuple[int, ...] = (150, 250)
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    crop_padding: int = 4
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    dtype: str = "float32"
    seed_factor: int = 1
    seed_share: float = 0.95
    seed: int = 0


CIFAR10 = Recipe(epochs=350, learning_rate=0.01, batch_size=256, milestones=(150, 250))
LARGE = Recipe(
    architecture="resnet50-imagenet",
    epsilon=3.0,
    step_size=0.5,
    epochs=110,
    learning_rate=0.1,
    crop_padding=28,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    seed_factor=4,
)
PAIR = LARGE._replace(
    epsilon=5.0, step_size=0.9, epochs=350, learning_rate=0.01, batch_size=64, milestones=(50, 100)
)

SMALL = Recipe(
    architecture="resnet8",
    step_size=0.4,
    num_steps=2,
    epochs=20,
    batch_size=128,
    learning_rate=0.2,
    schedule="one-cycle",
    label_smoothing=0.05,
    ema_decay=0.998,
    seed_factor=2,
)  # for two cores
SMALL_64 = SMALL._replace(architecture="resnet8-64", crop_padding=8, seed_factor=4)
PAIR_64 = SMALL_64._replace(  # 5 * 64 / 224; made to start from restricted-imagenet-64
    epsilon=1.429, step_size=1.143, epochs=15, batch_size=64, learning_rate=0.05
)

DUAL = SMALL._replace(
    method="dual",
    epochs=None,  # four of CIFAR-10's
    batch_size=64,
    learning_rate=0.006,
    schedule="cosine",
    ema_decay=0.999,
    crop_padding=0,  # fakes have no borders, which would tell them from real images
)

RECIPES = {
    "cifar10-cpu": SMALL,
    "restricted-imagenet-64": SMALL_64._replace(epsilon=0.857, step_size=0.7, epochs=30),  # 3 * 64 / 224
    "horse2zebra-64": PAIR_64,
    "apple2orange-64": PAIR_64,
    "summer2winter-64": PAIR_64,
    "cat-dog-64": PAIR_64._replace(epochs=6),  # four times the images
    "dual": DUAL,
    "cifar10": CIFAR10,
    "restricted-imagenet": LARGE._replace(batch_size=128, milestones=(30, 60)),
    "imagenet": LARGE._replace(batch_size=256, milestones=(100,)),
    "horse2zebra": PAIR,
    "apple2orange": PAIR,
    "summer2winter": PAIR,
}
