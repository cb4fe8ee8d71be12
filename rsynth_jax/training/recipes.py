"""Recipes: everything a training run depends on besides its data, as plain values under a name.

    recipe = replace(RECIPES["cifar10-cpu"], epochs=2, epsilon=1.0)

`rsynth_jax.training.build` turns the values into functions.

`cifar10-cpu` and the recipes of 64 pixels are this project's own, for two cores; the radius grows with the
side. The six under the paper's names (Santurkar et al. 2019) are its published settings as remembered, not
checked against its appendix here, except for restricted-imagenet, which its authors confirmed for a sister
paper; this project has run none of the six to its end.
"""

from typing import Any, NamedTuple


class Network(NamedTuple):
    """The network that is trained.

    Attributes:
      architecture: a key of `rsynth_jax.models.ARCHITECTURES`.
      mean: the first layer computes (x - mean) / std; one value, or one a channel.
      std: see mean.
      dtype: of the computation, float32 or bfloat16.
    """

    architecture: str = "resnet50"
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    dtype: str = "float32"


class AttackValues(NamedTuple):
    """The training adversary.

    Attributes:
      norm: l2 or linf.
      epsilon: radius of its ball, in pixel values of [0, 1].
      step_size: length of one of its steps.
      num_steps: steps of its ascent.
    """

    norm: str = "l2"
    epsilon: float = 0.5
    step_size: float = 0.1
    num_steps: int = 7


class OptimizerValues(NamedTuple):
    """The optimizer of the weights, its schedule, and the average of the weights.

    Attributes:
      optimizer: sgd (Nesterov momentum) or adamw.
      learning_rate: the peak.
      momentum: of SGD.
      weight_decay: in the loss for SGD, decoupled for AdamW.
      schedule: step (a tenth at each milestone), cosine, or one-cycle (peak at a quarter).
      milestones: epochs at which the step schedule divides the rate by ten.
      ema_decay: per step, of the weight average used for evaluation and release.
    """

    optimizer: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "step"
    milestones: tuple[int, ...] = (150, 250)
    ema_decay: float = 0.0


class DualValues(NamedTuple):
    """Dual training.

    Attributes:
      contrast: weight of the loss that separates real images from fakes.
      fake_temperature: of the class Gaussians from which fakes start.
      fake_noise: share of fakes that start from noise instead, every value uniform.
      fake_step_size: length of a fake's step at 32 pixels; it grows with the side.
      fake_stride: steps that a fake climbs between two updates.
      most_fake_steps: steps that a fake climbs in all at most; the number starts at one stride and grows.
      auc_threshold: of real images and fakes, above which the number of steps grows.
    """

    contrast: float = 1.0
    fake_temperature: float = 1.2
    fake_noise: float = 1 / 16
    fake_step_size: float = 0.2
    fake_stride: int = 4
    most_fake_steps: int = 40
    auc_threshold: float = 0.7


class GaussianValues(NamedTuple):
    """The class-conditional Gaussians.

    Attributes:
      seed_factor: downsampling of the images they are fitted to.
      seed_share: share of the variance to keep.
    """

    seed_factor: int = 1
    seed_share: float = 0.95


class Recipe(NamedTuple):
    """How to train.

    Attributes:
      method: natural, pgd, trades, or dual (from a robust classifier on).
      beta: weight of the divergence in TRADES.
      label_smoothing: share of a label spread over all classes.
      epochs: passes over the training images; None for as many as make `least_steps`.
      least_steps: steps of a recipe without epochs, however few the images.
      batch_size: images a step.
      crop_padding: of the random crop, in pixels; 0 for none.
      seed: of the weights, the order, the augmentation and the attacks.
      network: the network.
      attack: the training adversary.
      optimizer: the optimizer and its schedule.
      dual: dual training.
      gaussians: the class-conditional Gaussians.
    """

    method: str = "pgd"
    beta: float = 6.0
    label_smoothing: float = 0.0
    epochs: int | None = 350
    least_steps: int = 3000
    batch_size: int = 256
    crop_padding: int = 4
    seed: int = 0
    network: Network = Network()
    attack: AttackValues = AttackValues()
    optimizer: OptimizerValues = OptimizerValues()
    dual: DualValues = DualValues()
    gaussians: GaussianValues = GaussianValues()


def flat(recipe: Recipe) -> dict[str, Any]:
    """Return all values by name, without their groups: the form in files and on the command line."""
    values: dict[str, Any] = {}
    for name, value in recipe._asdict().items():
        values |= value._asdict() if hasattr(value, "_asdict") else {name: value}
    return values


def replace(recipe: Recipe, **values: Any) -> Recipe:
    """Return the recipe with some values replaced, each by its name in `flat`, whatever its group.

    Raises:
      ValueError: a name that no value has.
    """
    unknown = values.keys() - flat(recipe).keys()
    if unknown:
        raise ValueError(f"a recipe has no {', '.join(sorted(unknown))}")
    changed = {}
    for name, value in recipe._asdict().items():
        if hasattr(value, "_asdict"):
            changed[name] = value._replace(**{key: values[key] for key in values.keys() & {*value._fields}})
        else:
            changed[name] = values.get(name, value)
    return Recipe(**changed)


_CIFAR10 = Recipe(epochs=350, batch_size=256)
_LARGE = Recipe(
    epochs=110,
    crop_padding=28,
    network=Network("resnet50-imagenet", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    attack=AttackValues(epsilon=3.0, step_size=0.5),
    optimizer=OptimizerValues(learning_rate=0.1),
    gaussians=GaussianValues(seed_factor=4),
)
_PAIR = replace(
    _LARGE,
    epochs=350,
    batch_size=64,
    epsilon=5.0,
    step_size=0.9,
    learning_rate=0.01,
    milestones=(50, 100),
)
_SMALL = Recipe(
    label_smoothing=0.05,
    epochs=20,
    batch_size=128,
    network=Network("resnet8"),
    attack=AttackValues(step_size=0.4, num_steps=2),
    optimizer=OptimizerValues(learning_rate=0.2, schedule="one-cycle", ema_decay=0.998),
    gaussians=GaussianValues(seed_factor=2),
)  # for two cores
_SMALL_64 = replace(_SMALL, architecture="resnet8-64", crop_padding=8, seed_factor=4)
_PAIR_64 = replace(  # epsilon is 5 * 64 / 224; made to start from restricted-imagenet-64
    _SMALL_64, epsilon=1.429, step_size=1.143, epochs=15, batch_size=64, learning_rate=0.05
)
_DUAL = replace(
    _SMALL,
    method="dual",
    epochs=None,  # four of CIFAR-10's
    batch_size=64,
    learning_rate=0.006,
    schedule="cosine",
    ema_decay=0.999,
    crop_padding=0,  # fakes have no borders, which would separate them from real images
)

RECIPES = {
    "cifar10-cpu": _SMALL,
    "restricted-imagenet-64": replace(_SMALL_64, epsilon=0.857, step_size=0.7, epochs=30),  # 3 * 64 / 224
    "horse2zebra-64": _PAIR_64,
    "apple2orange-64": _PAIR_64,
    "summer2winter-64": _PAIR_64,
    "cat-dog-64": replace(_PAIR_64, epochs=6),  # four times the images
    "dual": _DUAL,
    "cifar10": _CIFAR10,
    "restricted-imagenet": replace(_LARGE, batch_size=128, milestones=(30, 60)),
    "imagenet": replace(_LARGE, batch_size=256, milestones=(100,)),
    "horse2zebra": _PAIR,
    "apple2orange": _PAIR,
    "summer2winter": _PAIR,
}
