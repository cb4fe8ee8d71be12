"""Recipes: everything a training run depends on besides its data, as plain values under a name.

    recipe = replace(RECIPES["cifar10-cpu"], epochs=2, epsilon=1.0)

`rsynth_jax.training.build` turns the values into functions. The comments beside them are the help of
rsynth-train.

`cifar10-cpu` and the recipes of 64 pixels are this project's own, for two cores; the radius grows with the
side. The six under the paper's names (Santurkar et al. 2019) are its published settings as remembered, not
checked against its appendix here, except for restricted-imagenet, which its authors confirmed for a sister
paper; this project has run none of the six to its end.
"""

from typing import Any, NamedTuple, TypeVar

Values = TypeVar("Values", bound=NamedTuple)  # a recipe: values, and groups of values


class Network(NamedTuple):
    """The network that is trained."""

    architecture: str = "resnet50"  # a key of `rsynth_jax.models.ARCHITECTURES`.
    mean: tuple[float, ...] = (0.5,)  # the first layer computes (x - mean) / std; a value, or one a channel.
    std: tuple[float, ...] = (0.25,)  # see mean.
    dtype: str = "float32"  # of the computation, float32 or bfloat16.


class AttackValues(NamedTuple):
    """The training adversary."""

    norm: str = "l2"  # l2 or linf.
    epsilon: float = 0.5  # radius of its ball, in pixel values of [0, 1].
    step_size: float = 0.1  # length of one of its steps.
    num_steps: int = 7  # steps of its ascent.


class OptimizerValues(NamedTuple):
    """The optimizer of the weights, its schedule, and the average of the weights."""

    optimizer: str = "sgd"  # sgd (Nesterov momentum) or adamw.
    learning_rate: float = 0.01  # the peak.
    momentum: float = 0.9  # of SGD.
    weight_decay: float = 5e-4  # in the loss for SGD, decoupled for AdamW.
    schedule: str = "step"  # step (a tenth at each milestone), cosine, or one-cycle (peak at a quarter).
    milestones: tuple[int, ...] = (150, 250)  # epochs at which the step schedule divides the rate by ten.
    ema_decay: float = 0.0  # per step, of the weight average used for evaluation and release.


class DualValues(NamedTuple):
    """Dual training."""

    contrast: float = 1.0  # weight of the loss that separates real images from fakes.
    fake_temperature: float = 1.2  # of the class Gaussians from which fakes start.
    fake_noise: float = 1 / 16  # share of fakes that start from noise instead, every value uniform.
    fake_step_size: float = 0.2  # length of a fake's step at 32 pixels; it grows with the side.
    view_shift: int = 0  # pixels by which each view of an image, real or fake, is shifted, at most.
    fake_stride: int = 4  # steps that a fake climbs between two updates.
    most_fake_steps: int = 40  # most steps that a fake climbs; the number starts at one stride and grows.
    auc_threshold: float = 0.7  # of real images and fakes, above which the number of steps grows.


class GaussianValues(NamedTuple):
    """The class-conditional Gaussians."""

    seed_factor: int = 1  # downsampling of the images they are fitted to.
    seed_share: float = 0.95  # share of the variance to keep.


class Recipe(NamedTuple):
    """How to train."""

    method: str = "pgd"  # natural, pgd, trades, or dual (from a robust classifier on).
    beta: float = 6.0  # weight of the divergence in TRADES.
    label_smoothing: float = 0.0  # share of a label spread over all classes.
    epochs: int | None = 350  # passes over the training images; None for as many as make `least_steps`.
    least_steps: int = 3000  # steps of a recipe without epochs, however few the images.
    batch_size: int = 256  # images a step.
    accumulation: int = 1  # parts of a batch, computed one after the other: less memory.
    remat: bool = False  # compute layers again for their gradients: less memory, more time.
    crop_padding: int = 4  # of the random crop, in pixels; 0 for none.
    seed: int = 0  # of the weights, the order, the augmentation and the attacks.
    network: Network = Network()  # the network.
    attack: AttackValues = AttackValues()  # the training adversary.
    optimizer: OptimizerValues = OptimizerValues()  # the optimizer and its schedule.
    dual: DualValues = DualValues()  # dual training.
    gaussians: GaussianValues = GaussianValues()  # the class-conditional Gaussians.


def flat(recipe: NamedTuple) -> dict[str, Any]:
    """Return all values by name, without their groups: the form in files and on the command line."""
    values: dict[str, Any] = {}
    for name, value in recipe._asdict().items():
        values |= value._asdict() if hasattr(value, "_asdict") else {name: value}
    return values


def replace(recipe: Values, **values: Any) -> Values:
    """Replace values, each by its name in `flat`, whatever its group. Raises ValueError for another name."""
    unknown = values.keys() - flat(recipe).keys()
    if unknown:
        raise ValueError(f"a recipe has no {', '.join(sorted(unknown))}")

    def changed(group: Any) -> Any:
        return group._replace(**{name: values[name] for name in group._fields if name in values})

    groups = {name: changed(group) for name, group in recipe._asdict().items() if hasattr(group, "_fields")}
    return changed(recipe)._replace(**groups)


_LARGE = Recipe(
    epochs=110,
    crop_padding=28,
    network=Network("resnet50-imagenet", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    attack=AttackValues(epsilon=3.0, step_size=0.5),
    optimizer=OptimizerValues(learning_rate=0.1),
    gaussians=GaussianValues(seed_factor=4),
)
_PAIR = replace(
    _LARGE, epochs=350, batch_size=64, epsilon=5.0, step_size=0.9, learning_rate=0.01, milestones=(50, 100)
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
_OWN_64 = replace(_PAIR_64, epochs=None, least_steps=1000, batch_size=32, learning_rate=0.025)
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
    "own-64": _OWN_64,
    "dual": _DUAL,
    "own-64-dual": replace(_DUAL, batch_size=32, ema_decay=0.99),  # of few steps: the mean of a hundred
    "cifar10": Recipe(),
    "restricted-imagenet": replace(_LARGE, batch_size=128, milestones=(30, 60)),
    "imagenet": replace(_LARGE, batch_size=256, milestones=(100,)),
    "horse2zebra": _PAIR,
    "apple2orange": _PAIR,
    "summer2winter": _PAIR,
}
