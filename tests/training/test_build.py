"""What the values of a recipe mean, and which are refused."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax import models
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.synthesis.norms import LINF
from rsynth_jax.training import build
from rsynth_jax.training.recipes import RECIPES, replace

POSITIVE = ("epochs", "least_steps", "batch_size", "num_steps", "step_size", "learning_rate")
optax_dtypes = functools.partial(jax.numpy_dtype_promotion, "standard")  # optax itself mixes dtypes
every_recipe = pytest.mark.parametrize("name", RECIPES)


def with_epochs(name):
    """The recipe for ten steps to the epoch."""
    return build.with_epochs(RECIPES[name], 10)


def rates(recipe, steps):
    """The rates at these steps, with ten steps to the epoch."""
    with optax_dtypes():
        return np.asarray(jax.vmap(build.schedule(recipe, 10))(np.asarray(steps)))


@every_recipe
def test_every_recipe_builds(name):
    recipe = with_epochs(name)
    method = build.method(recipe)
    assert callable(method.adversary(recipe)) and callable(method.loss(recipe))
    assert recipe.network.architecture in models.ARCHITECTURES
    params = {"w": jnp.ones(3)}
    optimizer = build.optimizer(recipe, 10)
    with optax_dtypes():
        updates, _ = optimizer.update({"w": jnp.ones(3)}, optimizer.init(params), params)
    assert (updates["w"] < 0).all()


@every_recipe
def test_the_rate_stays_between_zero_and_the_recipes(name):
    recipe = with_epochs(name)
    every = rates(recipe, np.arange(10 * recipe.epochs))
    assert math.isclose(every.max(), recipe.optimizer.learning_rate, rel_tol=1e-5) and every.min() > 0


@every_recipe
def test_every_recipe_passes_the_check(name):
    build.validate(RECIPES[name])


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: 0} for name in POSITIVE),
        *({name: -1} for name in ("epsilon", "weight_decay", "seed", "crop_padding")),
        *({name: 1.0} for name in ("momentum", "label_smoothing", "ema_decay")),
        *({name: "none"} for name in ("method", "schedule", "optimizer", "norm", "architecture", "dtype")),
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_the_check_refuses_what_makes_no_sense_by_name(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name} (is {value}|named 'none')"):
        build.validate(replace(RECIPES["cifar10"], **wrong))


@pytest.mark.parametrize(
    ("reader", "values"),
    [
        ("method='trades'", {"beta": -1}),
        ("method='dual'", {"fake_noise": 1.0}),
        ("method='dual'", {"fake_stride": 0}),
        ("method='dual'", {"batch_size": 8, "most_fake_steps": 40}),
        ("optimizer='sgd'", {"momentum": 1.0}),
    ],
    ids=lambda value: str(value),
)
def test_a_value_is_checked_where_it_is_read_alone(reader, values):
    kind, name = reader.replace("'", "").split("=")
    others = {"method": "natural", "optimizer": "adamw"}
    build.validate(replace(RECIPES["cifar10-cpu"], **others, **values))
    with pytest.raises(ValueError, match=f"{list(values)[-1]} is {list(values.values())[-1]}"):
        build.validate(replace(RECIPES["cifar10-cpu"], **others | {kind: name}, **values))


@pytest.mark.parametrize(("per_epoch", "epochs"), [(781, 4), (234, 13), (3000, 1), (3001, 1), (2999, 2)])
def test_a_recipe_without_epochs_takes_as_many_as_make_its_least_steps(per_epoch, epochs):
    recipe = replace(RECIPES["dual"], epochs=None, least_steps=3000)
    assert build.with_epochs(recipe, per_epoch) == replace(recipe, epochs=epochs)
    assert build.with_epochs(replace(recipe, epochs=2), per_epoch).epochs == 2


def test_the_threat_is_the_recipes():
    recipe = replace(RECIPES["imagenet"], norm="linf")
    assert build.threat(recipe) == Threat(norm=LINF, epsilon=3.0)
    assert build.steps(recipe) == Steps(step_size=0.5, num_steps=7)


@pytest.mark.parametrize("method", build.METHODS)
def test_every_method_is_a_pair_of_an_adversary_and_a_loss(linear, method):
    recipe = replace(RECIPES["cifar10"], method=method, num_steps=1)
    adversary, loss = build.METHODS[method].adversary(recipe), build.METHODS[method].loss(recipe)
    image = jnp.full((4, 4, 3), 0.5)
    moved = jnp.abs(adversary(jax.random.key(0), linear, image, 0) - image).max()
    assert (moved > 0) == (method != "natural")
    assert loss(jnp.zeros((2, 5)), jnp.zeros((2, 5)), jnp.array([0, 1])) == pytest.approx(math.log(5))


def test_the_step_schedule_divides_by_ten_at_every_milestone():
    around = rates(RECIPES["cifar10"], [0, 1499, 1500, 2499, 2500, 3499])
    assert_allclose(around, [0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001], rtol=1e-5)


def test_the_one_cycle_schedule_peaks_at_a_quarter():
    recipe = RECIPES["cifar10-cpu"]
    every = rates(recipe, np.arange(10 * recipe.epochs))
    assert np.argmax(every) == 10 * recipe.epochs // 4
    assert_allclose(every.max(), recipe.optimizer.learning_rate, rtol=1e-6)


def test_the_cosine_schedule_falls_from_the_rate_to_zero():
    recipe = replace(RECIPES["cifar10"], schedule="cosine", epochs=4)
    steps = np.arange(41)
    assert_allclose(rates(recipe, steps), 0.01 * (1 + np.cos(np.pi * steps / 40)) / 2, atol=1e-8)


def test_sgd_has_the_weight_decay_in_its_gradient_and_nesterov_momentum():
    recipe = replace(RECIPES["cifar10"], learning_rate=1.0, weight_decay=0.5)
    optimizer, params, velocity = build.optimizer(recipe, 10), jnp.array(2.0), 0.0
    state = optimizer.init(params)
    for gradient in (1.0, -3.0, 0.5):
        with optax_dtypes():
            updates, state = optimizer.update(jnp.array(gradient), state, params)
        velocity = 0.9 * velocity + gradient + 0.5 * float(params)
        assert_allclose(updates, -(0.9 * velocity + gradient + 0.5 * float(params)), rtol=1e-5)
        params = optax.apply_updates(params, updates)


def test_adamw_shrinks_the_weights_apart_from_the_gradient():
    recipe = replace(RECIPES["cifar10"], optimizer="adamw", learning_rate=0.1, weight_decay=0.5)
    optimizer, params = build.optimizer(recipe, 10), jnp.array(2.0)
    with optax_dtypes():
        updates, _ = optimizer.update(jnp.array(0.0), optimizer.init(params), params)
    assert_allclose(updates, -0.1 * 0.5 * 2.0, rtol=1e-5)


@pytest.mark.parametrize(
    "kind, table, make",
    [
        ("method", build.METHODS, build.method),
        ("schedule", build.SCHEDULES, lambda recipe: build.schedule(recipe, 10)),
        ("optimizer", build.OPTIMIZERS, lambda recipe: build.optimizer(recipe, 10)),
    ],
)
def test_an_unknown_name_is_refused_with_the_names_of_the_known(kind, table, make):
    with pytest.raises(ValueError, match=f"no {kind} named 'none'.*" + ", ".join(table)):
        make(replace(RECIPES["cifar10"], **{kind: "none"}))


def test_augmentation_without_padding_is_the_flip_alone():
    image = np.random.default_rng(0).random((4, 4, 3), np.float32)
    recipe = replace(RECIPES["cifar10"], crop_padding=0)
    augment = jax.jit(jax.vmap(build.augment(recipe), (0, None)))
    augmented = np.asarray(augment(jax.random.split(jax.random.key(0), 20), image))
    assert {a.tobytes() for a in augmented} == {image.tobytes(), image[:, ::-1].tobytes()}


def test_augmentation_is_its_keys_alone_and_differs_between_keys():
    image, augment = (
        np.random.default_rng(0).random((8, 8, 3), np.float32),
        build.augment(RECIPES["cifar10"]),
    )
    one, same, other = (augment(jax.random.key(s), image) for s in (0, 0, 1))
    assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0
