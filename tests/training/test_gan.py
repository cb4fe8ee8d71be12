"""The adversarial step: closed forms of one parameter a player, then laws of a style-based generator."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax import sharding
from rsynth_jax.models import critics, style
from rsynth_jax.models.style import GeneratorConfig
from rsynth_jax.training import games, gan
from rsynth_jax.training.augmentation import chain, color, cutout, translation
from rsynth_jax.training.games import GAMES
from rsynth_jax.types import Critic, Generator

KEY = jax.random.key(0)
BYTES = np.array([51, 204, 102, 255], np.uint8).reshape(4, 1, 1, 1)
REAL = BYTES.ravel() / 255.0
LABELS = np.zeros(4, np.int32)
THETA, WEIGHT = 0.3, -0.7
RATE, CRITIC_RATE = 0.5, 0.25


def constant(theta) -> Generator:
    """Every image is one pixel, theta."""
    return Generator(
        prior=jax.random.normal,
        code=lambda latent, label: latent,
        decode=lambda code, key: jnp.full((1, 1, 1), theta),
    )


PRODUCT = Critic(  # one pixel times one weight
    init=lambda key, image: jnp.float32(WEIGHT),
    view=lambda image: image,
    score=lambda weight, view, label: weight * view.ravel(),
)
SETUP = gan.Setup(constant, PRODUCT)


def players(game: str, setup=SETUP, extra=gan.no_extra, **options):
    """(the step, its first state), with plain gradient descent."""
    generator_step = gan.make_generator_step(setup, GAMES[game], optax.sgd(RATE), extra)
    optimizer = optax.sgd(CRITIC_RATE)
    step = gan.make_gan_step(setup, generator_step, GAMES[game], optimizer, **options)
    state = gan.init_state(generator_step, optimizer, jnp.float32(THETA), jnp.float32(WEIGHT))
    return jax.jit(step), state


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def probability_slope(x, t, w):
    return -x * sigmoid(-w * x) + t * sigmoid(w * t)


CRITIC_SLOPES = {  # of the loss of real x and generated t, for the weight w
    "minimax": probability_slope,
    "heuristic": probability_slope,
    "least-squares": lambda x, t, w: 2 * (w * x - 1) * x + 2 * w * t * t,
    "hinge": lambda x, t, w: -x * (w * x < 1) + t * (w * t > -1),
    "relativistic": lambda x, t, w: (t - x) * sigmoid(w * (t - x)),
}
GENERATOR_SLOPES = {  # for t
    "minimax": lambda x, t, w: -w * sigmoid(w * t) + 0 * x,
    "heuristic": lambda x, t, w: -w * sigmoid(-w * t) + 0 * x,
    "least-squares": lambda x, t, w: 2 * (w * t - 1) * w + 0 * x,
    "hinge": lambda x, t, w: -w + 0 * x,
    "relativistic": lambda x, t, w: -w * sigmoid(w * (x - t)),
}


@pytest.mark.parametrize("name", GAMES)
def test_a_step_is_the_critic_s_descent_and_then_the_generator_s_against_the_new_critic(name):
    gamma = 0.1
    step, state = players(name, penalty=games.both(games.r1(gamma), games.r2(gamma)))
    theta, weight = THETA, WEIGHT
    for i in range(3):
        state, metrics = step(state, jax.random.fold_in(KEY, i), BYTES, LABELS)
        assert_allclose(
            [metrics.real_score, metrics.fake_score], [weight * REAL.mean(), weight * theta], rtol=1e-4
        )
        weight -= CRITIC_RATE * (CRITIC_SLOPES[name](REAL, theta, weight).mean() + 2 * gamma * weight)
        theta -= RATE * GENERATOR_SLOPES[name](REAL, theta, weight).mean()
        assert_allclose([state.generator.params, state.critic], [theta, weight], rtol=1e-4)
    assert state.step == 3


def test_several_updates_of_the_critic_take_parts_of_the_batch_in_turn_and_the_generator_meets_the_last():
    step, state = players("relativistic", critic_steps=2)
    state, metrics = step(state, KEY, BYTES, LABELS)
    weight = WEIGHT
    for part in (REAL[:2], REAL[2:]):
        last = weight
        weight -= CRITIC_RATE * CRITIC_SLOPES["relativistic"](part, THETA, weight).mean()
    theta = THETA - RATE * GENERATOR_SLOPES["relativistic"](REAL[2:], THETA, weight).mean()
    assert_allclose([state.generator.params, state.critic], [theta, weight], rtol=1e-5)
    assert_allclose(metrics.real_score, last * REAL[2:].mean(), rtol=1e-5)
    assert state.step == 1


def test_the_penalty_is_the_mean_over_one_pair_of_so_many():
    step, state = players("heuristic", penalty=lambda score, real, fake, step: score(real), penalty_stride=2)
    state, _ = step(state, KEY, BYTES, LABELS)
    slope = CRITIC_SLOPES["heuristic"](REAL, THETA, WEIGHT).mean() + REAL[::2].mean()
    assert_allclose(state.critic, WEIGHT - CRITIC_RATE * slope, rtol=1e-5)


def test_the_average_of_the_generator_is_numpy_s():
    step, state = players("heuristic", ema_decay=0.6)
    average = THETA
    for i in range(4):
        state, _ = step(state, jax.random.fold_in(KEY, i), BYTES, LABELS)
        decay = min(0.6, (1 + i) / (10 + i))
        average = decay * average + (1 - decay) * float(state.generator.params)
        assert_allclose(state.ema, average, rtol=1e-5)


def test_extra_losses_of_a_generated_image_and_its_real_one_are_added_and_named():
    def extra(params, key, made):
        one = 3 * jnp.mean((made.image - made.real) ** 2)
        return {"image_loss": one, "class_loss": params * made.condition.astype(jnp.float32)}

    labels = np.arange(4, dtype=np.int32)
    (with_extra, before), (without, _) = players("heuristic", extra=extra), players("heuristic")
    (state, metrics), (plain, plain_metrics) = (
        step(before, KEY, BYTES, labels) for step in (with_extra, without)
    )
    slope = 6 * (THETA - REAL.mean()) + 1.5
    assert_allclose(state.generator.params, plain.generator.params - RATE * slope, rtol=1e-5)
    image, classes = 3 * np.mean((THETA - REAL) ** 2), 1.5 * THETA
    assert_allclose(metrics.generator["image_loss"], image, rtol=1e-5)
    assert_allclose(metrics.generator["class_loss"], classes, rtol=1e-5)
    added = metrics.generator["generator_loss"] - plain_metrics.generator["generator_loss"]
    assert_allclose(added, image + classes, rtol=1e-5)
    assert state.critic == plain.critic


def test_extra_losses_see_the_images_that_the_critic_sees_before_they_are_augmented():
    """Images are noise of their key: the same ones reach the critic, halved, and the losses, whole."""

    def noise(theta) -> Generator:
        draw = lambda code, key: theta + jax.random.normal(key, (1, 1, 1))  # noqa: E731
        return Generator(jax.random.normal, lambda latent, condition: latent, draw)

    def extra(params, key, made):
        return {"fake": made.image.sum(), "real": made.real.sum(), "condition": made.condition.sum()}

    setup = SETUP._replace(
        generator=noise,
        mirror=lambda key, image: image / 2,
        augment=lambda key, image: image / 2,
        condition=lambda image, label: 10 * image,
    )
    step, state = players("hinge", setup, extra)
    state, metrics = step(state, KEY, BYTES, LABELS)
    score = state.critic * metrics.generator["fake"] / 2
    losses = sum(metrics.generator[name] for name in ("fake", "real", "condition"))
    assert_allclose(metrics.generator["generator_loss"], losses - score, rtol=1e-5)
    assert_allclose(metrics.generator["real"], REAL.mean() / 2, rtol=1e-5)
    assert_allclose(metrics.generator["condition"], 10 * REAL.mean() / 2, rtol=1e-5)
    assert abs(metrics.generator["fake"] - THETA) > 0.01


def test_real_and_generated_images_are_augmented_and_real_ones_alone_are_mirrored():
    setup = SETUP._replace(mirror=lambda key, image: image / 2, augment=lambda key, image: image + 1)
    step, state = players("hinge", setup)
    _, metrics = step(state, KEY, BYTES, LABELS)
    expected = [WEIGHT * (REAL.mean() / 2 + 1), WEIGHT * (THETA + 1)]
    assert_allclose([metrics.real_score, metrics.fake_score], expected, rtol=1e-5)


def test_a_step_is_traced_once_and_a_state_may_be_donated_while_what_it_was_made_of_stays():
    traces = []

    def counted(theta):
        traces.append(theta)
        return constant(theta)

    step, _ = players("heuristic", SETUP._replace(generator=counted))
    params, critic = jnp.float32(THETA), jnp.float32(WEIGHT)
    generator_step = gan.make_generator_step(SETUP, GAMES["heuristic"], optax.sgd(RATE))

    def begun():
        return gan.init_state(generator_step, optax.sgd(CRITIC_RATE), params, critic)

    leaves = jax.tree.leaves(begun())
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)
    donating = jax.jit(step.__wrapped__, donate_argnums=0)
    kept, donated = begun(), begun()
    for i in range(3):
        kept, _ = step(kept, jax.random.fold_in(KEY, i), BYTES, LABELS)
        donated, _ = donating(donated, jax.random.fold_in(KEY, i), BYTES, LABELS)
        traces_of_one = len(traces) if i == 0 else traces_of_one
    assert len(traces) == traces_of_one
    jax.tree.map(assert_array_equal, kept, donated)
    assert float(params) == np.float32(THETA) and float(critic) == np.float32(WEIGHT)


# ---- networks


def linear(params) -> Generator:
    """Images of 8 pixels: a linear map of a latent and a class, and noise."""

    def decode(code, key):
        return jnp.tensordot(code, params["kernel"], 1) + params["noise"] * jax.random.normal(key, (8, 8, 3))

    return Generator(
        prior=lambda key: jax.random.normal(key, (4,)),
        code=lambda latent, label: latent + jnp.asarray(params["classes"])[label],
        decode=decode,
    )


CONFIG = GeneratorConfig(num_classes=2, image_size=8, widths=(4,), latent_size=4, mapping_depth=1)
NETWORKS = gan.Setup(linear, critics.pixel_critic(2, critics.pixel_widths(8, 4)))
STYLE = NETWORKS._replace(
    generator=lambda params: style.mixing(style.bind(CONFIG, params), CONFIG.num_layers, 0.5),
    augment=chain(color(0.25, 0.75, 0.5), translation(1 / 8), cutout(1 / 2)),
)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (8, 8, 8, 3), np.uint8)
CLASSES = np.arange(8, dtype=np.int32) % 2
SHAPES = {"kernel": (4, 8, 8, 3), "noise": (1,), "classes": (2, 4)}
LINEAR = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def network_step(optimizer, params, setup=NETWORKS):
    """(the step against a critic of random weights, its first state)."""
    shapes = jax.eval_shape(lambda: setup.critic.init(KEY, jnp.zeros((8, 8, 3))))
    critic = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32), shapes)
    generator_step = gan.make_generator_step(setup, GAMES["heuristic"], optimizer)
    step = gan.make_gan_step(setup, generator_step, GAMES["heuristic"], optimizer, games.r1(1.0))
    return jax.jit(step), gan.init_state(generator_step, optimizer, params, critic)


@pytest.mark.slow
def test_eight_devices_take_the_step_of_one_within_rounding():
    step, state = network_step(optax.sgd(0.05), LINEAR)
    devices = sharding.over_devices(8)
    assert jax.device_count() == 8
    alone, values = step(state, KEY, IMAGES, CLASSES)
    batch = devices.split((IMAGES, CLASSES))
    shared, shared_values = step(devices.place(state), KEY, *batch)
    assert len(jax.tree.leaves(shared.ema)[0].sharding.device_set) == 8
    for before, one, other in zip(*map(jax.tree.leaves, (state, alone, shared)), strict=True):
        assert_allclose(other, one, rtol=1e-4, atol=1e-6 + 1e-4 * float(jnp.abs(one - before).max()))
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-4), values, shared_values)
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), (state.generator, state.critic), (alone.generator, alone.critic)
    )
    assert all(jax.tree.leaves(moved))


def test_image_i_depends_on_its_key_and_class_alone():
    generator_step = gan.make_generator_step(NETWORKS, GAMES["hinge"], optax.sgd(RATE))
    state, keys = generator_step.init(LINEAR), jax.random.split(KEY, 8)
    generate = jax.jit(generator_step.generate)
    images = generate(state, keys, CLASSES)
    order = np.array([3, 0, 7, 1, 2, 6, 5, 4])
    assert_allclose(generate(state, keys[order], CLASSES[order]), images[order], atol=1e-5)
    one = jax.jit(lambda key, label: gan.generate(linear, LINEAR, key, label)[1])
    for i in (0, 5):
        assert_allclose(one(keys[i], CLASSES[i]), images[i], atol=1e-5)
    assert np.abs(images[0] - images[2]).max() > 1e-3


@pytest.fixture(scope="module")
def traced():
    """The step of a style-based generator with mixing and augmentation, by Adam."""
    shapes = jax.eval_shape(lambda: style.init(CONFIG, KEY))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    with jax.numpy_dtype_promotion("standard"):  # optax itself mixes dtypes
        step, state = network_step(optax.adam(1e-3, b1=0.0), params, STYLE)
        return step.trace(state, KEY, IMAGES, CLASSES)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_the_step_lowers_for_accelerators_without_a_callback_or_float64(traced, platform):
    with jax.numpy_dtype_promotion("standard"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert "stablehlo.convolution" in text
    assert "callback" not in text and "f64" not in text
