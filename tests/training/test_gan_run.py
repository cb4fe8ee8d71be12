"""A training run of a generator: what its recipe and its data must be, and what it releases."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax.models import style
from rsynth_jax.storage import releases
from rsynth_jax.training import adversarial, gan_run
from rsynth_jax.training.gan_recipes import RECIPES, GanRecipe
from rsynth_jax.training.recipes import flat, replace

RECIPE = replace(
    GanRecipe(), widths=(8, 4), latent_size=4, mapping_depth=1, critic_width=4, batch_size=8, num_steps=10
)
NAMES = ("cat", "dog")
IMAGES = tiny.noise(16)


def prepared(recipe=RECIPE, images=IMAGES, num_images=16, classifier=None) -> gan_run.GanRun:
    return gan_run.prepare(recipe, images, NAMES, num_images, classifier)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> releases.Release:
    """Of other classes than the images."""
    with tiny.network():
        return tiny.release(tmp_path_factory.mktemp("c") / "c.safetensors", ("horse", "zebra", "emu"))


@pytest.fixture(scope="module")
def begun(classifier):
    """A run whose critic sees a classifier's map too, and zeros in the form of its first state."""
    with tiny.network():
        run = prepared(classifier=classifier)
        shapes = jax.eval_shape(lambda: gan_run.start(run))
        return run, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_sense(name):
    gan_run.validate(RECIPES[name])


POSITIVE = ["num_steps", "batch_size", "critic_steps", "critic_width", "critic_rate"]
POSITIVE += ["learning_rate", "last_learning_rate"]
NOT_NEGATIVE = [
    "gamma",
    "last_gamma",
    "brightness",
    "saturation",
    "contrast",
    "translation",
    "cutout",
    "mixing",
    "noise_scale",
]
BELOW_ONE = ["beta1", "beta2", "ema_decay"]


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in POSITIVE for value in (0, -1, math.nan, math.inf)]
    + [(name, value) for name in NOT_NEGATIVE for value in (-1, math.nan, math.inf)]
    + [(name, value) for name in BELOW_ONE for value in (-0.1, 1.0, math.nan)]
    + [(name, 1.5) for name in ("translation", "cutout", "mixing")]
    + [("seed", -1), ("seed", 1 << 64), ("latent_size", 0), ("mapping_depth", 0)],
)
def test_a_number_that_makes_no_sense_is_refused_by_name(name, value):
    with refused(match=f"^{name} is {str(value)[:20]}: give "):
        gan_run.validate(replace(RECIPE, **{name: value}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"game": "chess"},
            "no game named 'chess': give one of minimax, heuristic, least-squares, hinge, relat",
        ),
        ({"norm": "batch"}, "no norm named 'batch': give one of demodulated, adain"),
        ({"widths": ()}, "widths is empty"),
        ({"widths": (8, -1)}, "width 1 is -1"),
    ],
    ids=str,
)
def test_an_unknown_name_or_impossible_network_is_refused(values, message):
    with refused(match=message):
        gan_run.validate(replace(RECIPE, **values))


def test_images_of_another_size_are_refused_with_the_flags_that_help():
    with refused(
        match="images are 8 x 8 x 3, the recipe's are 16 x 16 x 3: give --image-size 16 or other --widths"
    ):
        prepared(images=IMAGES[:, ::2, ::2])
    with refused(match="images are 16 x 16 x 1"):
        prepared(images=IMAGES[..., :1])


@pytest.mark.parametrize(("critic_steps", "batch"), [(1, 32), (3, 96)])
def test_too_few_images_for_a_step_are_refused(critic_steps, batch):
    recipe = replace(RECIPE, batch_size=32, critic_steps=critic_steps)
    assert recipe.images_per_step == batch
    with refused(match=f"16 training images do not fill a batch of {batch}"):
        prepared(recipe)


def test_a_classifier_of_another_size_is_refused(classifier):
    other = classifier._replace(image_shape=(32, 32, 3))
    with refused(
        match="classifier's images are 32 x 32 x 3, the recipe's 16 x 16 x 3: give another classifier"
    ):
        prepared(classifier=other)


def test_a_classifier_of_other_classes_gives_the_critic_a_head_for_each_map(begun, classifier):
    run, state = begun
    assert run.class_names == NAMES != classifier.class_names
    pixels, maps = state.critic
    tables = [maps["params"][f"Score_{i}"]["classes"] for i in range(1)]
    assert all(table.shape == (2, 64) for table in tables) and "Score_1" not in maps["params"]
    assert pixels["params"]["Score_0"]["classes"].shape == (2, 4)


def test_the_keys_depend_on_the_seed_alone(begun):
    run, _ = begun
    runs = [run._replace(recipe=replace(RECIPE, seed=seed)) for seed in (0, 0, 1)]
    key, same, other = (jax.random.key_data(each.step_key) for each in runs)
    assert_array_equal(key, same)
    assert (key != other).any()


def test_a_release_is_the_average_its_mean_styles_and_the_recipe(begun):
    run, state = begun
    run = run._replace(recipe=replace(run.recipe, critic_steps=2, noise_scale=0.5))
    state = state._replace(step=jnp.int32(5), ema=jax.tree.map(lambda leaf: leaf + 0.5, state.ema))
    released = gan_run.release(run, state, data="folder:D")
    jax.tree.map(assert_array_equal, released.variables, style.with_noise(state.ema, 0.5))
    assert released.recipe == flat(run.recipe) | {"data": "folder:D", "steps": 5, "images": 80}
    assert released.class_names == NAMES and released.image_shape == (16, 16, 3)
    means = jax.jit(lambda params: style.mean_styles(run.config, params))(state.ema)
    assert_allclose(released.mean_styles, means, rtol=1e-5)
    assert {type(leaf) for leaf in jax.tree.leaves((released.variables, released.mean_styles))} == {
        np.ndarray
    }


def test_gamma_and_the_learning_rate_go_along_half_a_cosine():
    with jax.numpy_dtype_promotion("standard"):  # optax itself mixes dtypes
        for first, last in ((1.0, 0.2), (0.3, 0.3)):
            values = [adversarial.half_cosine(first, last, 100)(step) for step in (0, 50, 100, 200)]
            assert_allclose(values, [first, (first + last) / 2, last, last], rtol=1e-6)


def test_the_critic_learns_at_its_multiple_of_the_generator_s_rate():
    gradient = {"w": jnp.array([1.0, -2.0])}
    one, five = (adversarial.optimizer(RECIPE, multiple) for multiple in (1.0, 5.0))
    with jax.numpy_dtype_promotion("standard"):  # optax itself mixes dtypes
        (slow, _), (fast, _) = (each.update(gradient, each.init(gradient)) for each in (one, five))
    assert_allclose(fast["w"], 5 * slow["w"], rtol=1e-6)
