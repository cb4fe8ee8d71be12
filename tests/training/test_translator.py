"""The losses of a translator: closed forms of scaling decoders, and what an identity leaves of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from rsynth_jax import sharding
from rsynth_jax.images import decode
from rsynth_jax.models import critics
from rsynth_jax.models.translator import Codes, Domain, Latent, decode_pair
from rsynth_jax.training import games, gan, translator_run
from rsynth_jax.training.translator import Weights, make_extra, pairwise
from rsynth_jax.types import Generator

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
PAIRS = RNG.integers(0, 256, (8, 2, 8, 8, 3), np.uint8)
REAL = np.float32(PAIRS) / 255
LABELS = np.zeros(8, np.int32)
SILENT = gan.Critic(
    init=lambda key, image: jnp.zeros(()),
    view=lambda image: image,
    score=lambda params, view, label: jnp.zeros(1) * params,
)
THETA = {"decode": jnp.array([0.5, 0.25]), "style": jnp.array([2.0, 3.0])}
NONE = Weights(0, 0, 0, 0, 0)


def domains(params) -> list[Domain]:
    """The content is the image, the decoder scales it, the style is a multiple of its mean color."""

    def domain(i: int) -> Domain:
        return Domain(
            lambda image: image,
            lambda image: params["style"][i] * image.mean((0, 1)),
            lambda content, style: params["decode"][i] * content,
        )

    return [domain(0), domain(1)]


def stub(by_example: bool):
    """The generator of pairs of those domains; drawn styles are 0."""

    def make(params) -> Generator:
        both = domains(params)
        latent = Latent(jnp.zeros((2, 3)), jnp.bool_(by_example))

        def code(latent, pair):
            own = jnp.stack([domain.style(image) for domain, image in zip(both, pair, strict=True)])
            styles = jnp.where(latent.by_example, jax.lax.stop_gradient(own), latent.styles)
            return Codes((pair[0], pair[1]), styles, latent.by_example)

        return Generator(
            lambda key: latent, code, lambda codes, key: decode_pair(both, codes.contents[::-1], codes.styles)
        )

    return make


def stepped(weights: Weights, params=THETA, by_example: bool = False):
    """The change of the params by one step of plain descent, and the generator's metrics."""
    setup = gan.Setup(
        stub(by_example), SILENT, mirror=lambda key, pair: pair, condition=lambda pair, label: pair
    )
    descent = optax.sgd(1.0)
    steps = gan.make_generator_step(setup, games.GAMES["hinge"], descent, make_extra(domains, weights))
    step = jax.jit(gan.make_gan_step(setup, steps, games.GAMES["hinge"], descent))
    state, metrics = step(gan.init_state(steps, descent, params, jnp.float32(1)), KEY, PAIRS, LABELS)
    return jax.tree.map(lambda a, b: b - a, state.generator.params, params), metrics.generator


def test_where_decoders_are_the_identity_no_loss_of_an_image_is_left():
    identity = THETA | {"decode": jnp.ones(2)}
    _, metrics = stepped(Weights(), identity, by_example=True)
    assert_allclose(metrics["image_loss"], 0, atol=1e-6)
    assert_allclose(metrics["content_loss"], 0, atol=1e-6)
    assert_allclose(metrics["cycle_loss"], 0, atol=1e-6)


MEANS = REAL.mean((0, 2, 3, 4))  # of each domain
CLOSED_FORMS = {  # the slopes of the decoders' scales: every pixel is too dark
    "image": -2 * MEANS,
    "content": -MEANS[::-1],
    "cycle": -2 * MEANS.sum() * np.array([0.25, 0.5]),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_a_loss_alone_has_its_slope_and_a_weight_of_0_removes_the_others(name):
    slopes, metrics = stepped(NONE._replace(**{name: 3.0}))
    assert set(metrics) == {"generator_loss", f"{name}_loss"}
    assert_allclose(slopes["decode"], 3 * CLOSED_FORMS[name], rtol=1e-4)
    assert_allclose(slopes["style"], 0, atol=1e-7)
    assert_allclose(metrics["generator_loss"], metrics[f"{name}_loss"])


@pytest.mark.parametrize("by_example", [False, True])
def test_the_style_loss_is_named_by_where_the_style_is_from(by_example):
    """The style of a translation is THETA's multiple of the other image's scaled mean color."""
    _, metrics = stepped(NONE._replace(style=1.0), by_example=by_example)
    colors = REAL.mean((2, 3))
    found = np.array([2.0 * 0.5, 3.0 * 0.25])[:, None] * colors[:, ::-1]
    wanted = np.array([2.0, 3.0])[:, None] * colors * by_example
    named = {False: "style_loss", True: "example_style_loss"}
    assert_allclose(metrics[named[by_example]], 2 * np.abs(found - wanted).mean(), rtol=1e-5)
    assert metrics[named[not by_example]] == 0


def test_the_moments_of_the_batch_s_styles_go_to_those_of_a_standard_gaussian():
    slopes, metrics = stepped(NONE._replace(moment=1.0))
    styles = np.array([2.0, 3.0])[:, None] * REAL.mean((2, 3))
    mean, variance = styles.mean(0), styles.var(0) + 1e-6
    expected = (mean**2 + variance - 1 - np.log(variance)).mean(1).sum() / 2
    assert_allclose(metrics["moment_loss"], expected, rtol=1e-5)
    assert_allclose(slopes["decode"], 0)
    scale = np.array([2.0, 3.0])
    share = styles.var(0) / variance  # d log(variance + tiny) / d log(variance)
    pull = (mean**2 + styles.var(0) - share).mean(1) / scale
    assert_allclose(slopes["style"], pull, rtol=1e-3)


@pytest.mark.slow
def test_eight_devices_take_the_step_of_one_within_rounding():
    """The moments of the styles are of the whole batch, wherever its images are."""
    setup = gan.Setup(stub(True), SILENT, mirror=lambda key, pair: pair, condition=lambda pair, label: pair)
    descent, game = optax.sgd(0.1), games.GAMES["hinge"]
    steps = gan.make_generator_step(setup, game, descent, make_extra(domains, Weights()))
    step = jax.jit(gan.make_gan_step(setup, steps, game, descent))
    state = gan.init_state(steps, descent, THETA, jnp.float32(1))
    devices = sharding.over_devices(8)
    assert jax.device_count() == 8
    alone, values = step(state, KEY, PAIRS, LABELS)
    shared, shared_values = step(devices.place(state), KEY, *devices.split((PAIRS, LABELS)))
    assert len(jax.tree.leaves(shared.ema)[0].sharding.device_set) == 8
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-4), values, shared_values)
    found, wanted, before = (each.generator.params for each in (shared, alone, state))
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-4), found, wanted)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).all()), wanted, before)))


# ---- the two games


def test_a_critic_of_pairs_has_the_scores_of_each_domain_at_each_scale():
    critic, counts = translator_run.critic_of_pairs(8, 2, 8)
    assert counts == [1, 1, 1, 1]
    assert translator_run.critic_of_pairs(64, 2, 8)[1] == [64, 16, 64, 16]
    params = jax.jit(critic.init)(KEY, REAL[0])
    score = jax.jit(lambda pair: critic.score(params, critic.view(pair), jnp.int32(0)))
    scores = score(REAL[0])
    other = score(np.stack([REAL[0, 0], REAL[1, 1]]))
    assert_allclose(scores[:2], other[:2], rtol=1e-5)
    assert (np.asarray(scores[2:]) != other[2:]).all()
    half = REAL[0, 0].reshape(4, 2, 4, 2, 3).mean((1, 3))
    own = critics.patch_critic(4, 8)
    parts = jax.tree.leaves(critic.view(REAL[0]))
    assert_allclose(parts[1], own.view(half), rtol=1e-5)


def test_a_robust_critic_of_each_domain_stands_beside_its_patch_critics():
    robust = critics.patch_critic(8, 4)._replace(score=lambda params, view, label: jnp.mean(view)[None])
    critic, counts = translator_run.critic_of_pairs(8, 2, 8, robust)
    assert counts == [1, 1, 1, 1, 1, 1]
    params = jax.jit(critic.init)(KEY, REAL[0])
    scores = jax.jit(lambda pair: critic.score(params, critic.view(pair), jnp.int32(0)))(REAL[0])
    assert_allclose(scores[2::3], 4 * REAL[0].mean((1, 2, 3)) - 2, rtol=1e-5)


def test_both_images_of_a_pair_are_augmented_by_keys_of_their_own():
    noise = pairwise(lambda key, image: image + jax.random.normal(key, image.shape))
    first, second = noise(KEY, decode(jnp.zeros((2, 4, 4, 3), jnp.uint8)))
    assert (first != second).all()
