"""The training of a segmenter: everything that a recipe and masked images determine.

    run = prepare(RECIPES["facades-64"], images, masks, class_names)
    state = fit(run.trainer, start(run), batches, key=run.step_key, devices=run.devices)
    segmenters.save("segmenter.safetensors", release(run, state, test_images, test_masks))

The loss is the cross-entropy of each pixel, weighted by 1 / sqrt(share) of its class, so that rare classes
are learned too.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
from jaxtyping import Float, UInt8

from rsynth_jax import checks, seeds, sharding
from rsynth_jax.images import decode
from rsynth_jax.metrics import dissection
from rsynth_jax.models import embedding, segmenter
from rsynth_jax.models.segmenter import SegmenterConfig
from rsynth_jax.sharding import Devices, MakeDevices
from rsynth_jax.storage.segmenters import SegmenterRelease
from rsynth_jax.training import augmentation, state
from rsynth_jax.training.recipes import flat
from rsynth_jax.training.segmenter_recipes import MoveValues, SegmenterRecipe
from rsynth_jax.training.state import Trainer, TrainState
from rsynth_jax.types import Bytes, ClassMap, Image, Key, Scalar, Variables

BATCH_SIZE = 50  # images segmented together

Masks = UInt8[np.ndarray, "n h w"]


class Keys(NamedTuple):
    """Of the initial weights, and of the steps."""

    weights: Key
    steps: Key


class SegmenterRun(NamedTuple):
    """What the training of a segmenter never changes: class i is class_names[i]."""

    recipe: SegmenterRecipe
    config: SegmenterConfig
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    trainer: Trainer[TrainState]
    devices: Devices

    @property
    def keys(self) -> Keys:
        """The keys of the run."""
        return Keys(*jax.random.split(seeds.key(self.recipe.seed)))

    @property
    def step_key(self) -> Key:
        """The key of the steps."""
        return self.keys.steps


class Metrics(NamedTuple):
    """The loss of a batch, and the share of its pixels whose class is found, in training mode."""

    loss: Scalar
    accuracy: Scalar


def validate(recipe: SegmenterRecipe) -> None:
    """Check every value. Raises ValueError for the first one that makes no sense."""
    adam, move = recipe.adam, recipe.move
    checks.positive(num_steps=recipe.num_steps, batch_size=recipe.batch_size, width=recipe.width)
    checks.positive(learning_rate=adam.learning_rate)
    checks.not_negative(weight_decay=adam.weight_decay, **move._asdict())
    checks.up_to_one(flip=move.flip, translation=move.translation)
    checks.below_one(zoom=move.zoom, ema_decay=adam.ema_decay)
    checks.seed(seed=recipe.seed)


def prepare(
    recipe: SegmenterRecipe,
    images: Bytes,
    masks: Masks,
    class_names: Sequence[str],
    devices: MakeDevices = sharding.over_hosts,
) -> SegmenterRun:
    """Weigh the classes by their shares of the pixels, and build the trainer.

    Args:
      devices: of a batch, such as `sharding.in_parts`.

    Raises ValueError if the images do not fill a batch, or are of sides that the network does not take.
    """
    if len(images) < recipe.batch_size:
        raise ValueError(f"{len(images)} training images do not fill a batch of {recipe.batch_size}")
    segmenter.check_size(images.shape[1:])
    shares = np.bincount(masks.ravel(), minlength=len(class_names)) / masks.size
    config = SegmenterConfig(len(class_names), recipe.width)
    return SegmenterRun(
        recipe=recipe,
        config=config,
        class_names=tuple(class_names),
        image_shape=images.shape[1:],
        trainer=_trainer(recipe, config, class_weights(shares)),
        devices=devices(recipe.batch_size),
    )


def start(run: SegmenterRun) -> TrainState:
    """Return the state before the first step, on the devices."""
    model = segmenter.create(run.config)
    variables = jax.jit(model.init)(run.keys.weights, jnp.zeros((1, *run.image_shape)))
    return run.trainer.place(run.devices, run.trainer.init(variables))


def class_weights(shares: np.ndarray) -> Float[np.ndarray, " k"]:
    """Return 1 / sqrt(share) of each class, of mean 1 over the pixels; 0 for a class without pixels."""
    weights = np.where(shares > 0, 1 / np.sqrt(np.maximum(shares, 1e-12)), 0)
    return (weights / (weights @ shares)).astype(np.float32)


def released(variables: Variables) -> Variables:
    """Round weights as the file of a release does, so that what is measured is what others load."""
    return jax.tree.map(
        lambda leaf: np.asarray(leaf).astype(ml_dtypes.bfloat16).astype(np.float32), variables
    )


def segment(config: SegmenterConfig, variables: Variables, images: Bytes) -> Masks:
    """Return the class of every pixel of images uint8 (n, h, w, c)."""
    batches = embedding.in_batches(images, BATCH_SIZE)
    size = min(BATCH_SIZE, len(images))
    return embedding.apply(_classes(config), variables, batches, size).astype(np.uint8)


def measure(config: SegmenterConfig, variables: Variables, images: Bytes, masks: Masks) -> np.ndarray:
    """Measure the intersection over union of each class, (k,), over the pixels of all images."""
    found = segment(config, variables, images)
    return dissection.mask_iou(found, masks, config.num_classes)


def release(
    run: SegmenterRun, state: TrainState, images: Bytes, masks: Masks, **facts: Any
) -> SegmenterRelease:
    """Return the averaged weights as a segmenter, measured on test images, its recipe with these facts."""
    variables = released(run.devices.gather(state.ema))
    iou = measure(run.config, variables, images, masks)
    return SegmenterRelease(
        config=run.config,
        variables=variables,
        class_names=run.class_names,
        image_shape=run.image_shape,
        iou=tuple(iou.tolist()),
        recipe=facts | {"steps": int(state.step)} | flat(run.recipe),
    )


def moved(values: MoveValues, key: Key, image: Image, mask: ClassMap) -> tuple[Image, ClassMap]:
    """Flip, shift and zoom an image (bilinear) and its mask (nearest) by the same draw; borders reflect."""
    flip, zoom, shift = jax.random.split(key, 3)
    scale = 1 + values.zoom * jax.random.uniform(zoom, minval=-1, maxval=1)
    shifts = values.translation * jax.random.uniform(shift, (2,), minval=-1, maxval=1)
    for axis, by in enumerate(shifts):
        side = image.shape[axis]
        places = (jnp.arange(side, dtype=jnp.float32) + 0.5 - side / 2) * scale + side * (0.5 + by)
        if axis == 1:
            places = jnp.where(jax.random.bernoulli(flip, values.flip), side - places, places)
        places = side - jnp.abs(jnp.mod(places, 2 * side) - side) - 0.5
        places = jnp.clip(places, 0, side - 1)
        below = jnp.floor(places).astype(jnp.int32)
        above = jnp.minimum(below + 1, side - 1)
        share = jnp.expand_dims(places - below.astype(jnp.float32), (1 - axis, 2))
        image = (1 - share) * jnp.take(image, below, axis) + share * jnp.take(image, above, axis)
        mask = jnp.take(mask, jnp.round(places).astype(jnp.int32), axis)
    return image, mask


def _trainer(
    recipe: SegmenterRecipe, config: SegmenterConfig, weights: Float[np.ndarray, " k"]
) -> Trainer[TrainState]:
    model, adam, values = segmenter.create(config), recipe.adam, recipe.move
    rate = optax.cosine_onecycle_schedule(recipe.num_steps, adam.learning_rate, pct_start=0.25)
    optimizer = optax.adamw(rate, weight_decay=adam.weight_decay)
    color = augmentation.color(values.brightness, values.saturation, values.contrast)

    def augment(key: Key, image: Image, mask: ClassMap) -> tuple[Image, ClassMap]:
        place, tint = jax.random.split(key)
        image, mask = moved(values, place, image, mask)
        return color(tint, image), mask

    def batch_loss(params: Any, batch_stats: Any, images: jax.Array, masks: jax.Array) -> Any:
        variables = {"params": params, "batch_stats": batch_stats}
        logits, updated = model.apply(variables, images, mutable=["batch_stats"])
        each = optax.softmax_cross_entropy_with_integer_labels(logits, masks)
        loss = jnp.mean(jnp.asarray(weights)[masks] * each)
        accuracy = jnp.mean(logits.argmax(axis=-1) == masks, dtype=jnp.float32)
        return loss, (updated["batch_stats"], accuracy)

    def step(now: TrainState, key: Key, images: jax.Array, masks: jax.Array) -> tuple[TrainState, Metrics]:
        keys = jax.random.split(key, len(images))
        batch = jax.vmap(augment)(keys, jax.vmap(decode)(images), masks.astype(jnp.int32))
        decay = state.warmed_up(adam.ema_decay, now.step)
        now, loss, accuracy = state.update(optimizer, now, state.descent(batch_loss), batch, decay)
        return now, Metrics(loss, accuracy)

    return Trainer(init=functools.partial(state.init_state, optimizer), step=jax.jit(step, donate_argnums=0))


@functools.lru_cache(maxsize=16)
def _classes(config: SegmenterConfig) -> Callable[[Variables, Bytes], jax.Array]:
    """Compile (variables, images uint8 (n, h, w, c)) -> the class of each pixel, (n, h, w)."""
    model = segmenter.create(config)

    @jax.jit
    def classes(variables: Variables, images: jax.Array) -> jax.Array:
        logits: Any = model.apply(variables, jax.vmap(decode)(images))
        return logits.argmax(axis=-1)

    return classes
