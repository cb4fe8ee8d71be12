"""Critics: their widths, both beside each other, standardized views, and no strides in any derivative."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax.models import critics
from rsynth_jax.training import games
from rsynth_jax.types import Critic

RNG = np.random.default_rng(0)
IMAGES = RNG.random((8, 16, 16, 3), np.float32)
KEY = jax.random.key(0)


def maps(image):
    """Two maps, of 8 and of 4 pixels, and a channel that is constant."""
    small = image[::2, ::2]
    return 3 * small - 1, jnp.concatenate([image[::4, ::4, :1] ** 2, jnp.ones((4, 4, 1))], axis=-1)


CLASSIFIER = tiny.classifier(
    logits=lambda image: image.ravel(), features=lambda image: image.ravel(), maps=maps
)
SEEN = critics.moments(CLASSIFIER, IMAGES)


@functools.cache
def whole() -> Critic:
    """Of the pixels and of the maps."""
    pixels = critics.pixel_critic(2, critics.pixel_widths(16, 8))
    return critics.beside(pixels, critics.robust_critic(CLASSIFIER, SEEN, 2, width=8))


@functools.cache
def params():
    """Drawn from N(0, 1), as training begins with them; the biases too."""
    shapes = jax.eval_shape(whole().init, KEY, IMAGES[0])
    return jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32), shapes)


# ---- their widths


@pytest.mark.parametrize(
    ("side", "widths"),
    [
        (8, ((128,),)),
        (16, ((128, 128), (128,))),
        (32, ((64, 64), (128, 128), (128,))),
        (64, ((32, 32), (64, 64), (128, 128), (128,))),
        (128, ((16, 16), (32, 32), (64, 64), (128, 128), (128,))),
    ],
)
def test_the_widths_are_halved_as_the_sizes_double(side, widths):
    assert critics.pixel_widths(side) == widths


def test_no_width_is_below_1():
    assert critics.pixel_widths(256, 4) == ((1, 1), (1, 1), (1, 1), (2, 2), (4, 4), (4,))


@pytest.mark.parametrize("side", [-8, 0, 1, 4, 12, 33, 63])
def test_a_side_that_is_no_power_of_two_from_8_on_is_refused(side):
    with refused(match=f"side is {side}: give a power of two, 8 or more"):
        critics.pixel_widths(side)


# ---- views and scores


def test_views_of_maps_have_mean_0_and_deviation_1_over_the_measured_images():
    critic = critics.robust_critic(CLASSIFIER, SEEN, 2)
    first, second = jax.vmap(critic.view)(IMAGES)
    for channels in (first, second[..., :1]):
        assert_allclose(channels.mean((0, 1, 2)), np.zeros(channels.shape[-1]), atol=1e-5)
        assert_allclose(channels.std((0, 1, 2)), np.ones(channels.shape[-1]), rtol=1e-4)
    assert_array_equal(second[..., 1], 0)  # constant


def test_the_view_of_the_pixels_is_within_2_of_0():
    view = critics.pixel_critic(2, ((4,),)).view
    assert_allclose(view(jnp.array([[[0.0, 0.5, 1.0]]])), [[[-2, 0, 2]]])


def test_two_critics_beside_each_other_see_and_score_as_each_alone():
    def linear(factor: float) -> Critic:
        return Critic(
            init=lambda key, image: jax.random.normal(key),
            view=lambda image: factor * image,
            score=lambda params, view, label: params * jnp.array([view.sum(), view.max()]),
        )

    parts = linear(2.0), linear(3.0)
    both = critics.beside(*parts)
    image, own = IMAGES[0], both.init(KEY, IMAGES[0])
    assert own[0] != own[1]
    views = both.view(image)
    jax.tree.map(assert_array_equal, views, tuple(part.view(image) for part in parts))
    alone = [part.score(each, part.view(image), 0) for part, each in zip(parts, own, strict=True)]
    assert_array_equal(both.score(own, views, 0), np.concatenate(alone))


def test_there_is_a_score_for_the_pixels_and_one_for_each_map_the_same_alone_as_in_a_batch():
    critic, labels = whole(), jnp.arange(8) % 2

    def score(params, image, label):
        return critic.score(params, critic.view(image), label)

    alone, batch = jax.jit(score), jax.jit(jax.vmap(score, (None, 0, 0)))(params(), IMAGES, labels)
    assert batch.shape == (8, 3)
    for i in range(8):
        assert_allclose(alone(params(), IMAGES[i], labels[i]), batch[i], rtol=1e-4, atol=1e-5)
    assert (np.abs(alone(params(), IMAGES[0], labels[1]) - batch[0]) > 1e-4).all()  # the class counts


def test_nothing_of_the_classifier_is_trained_and_every_parameter_has_a_gradient():
    critic = whole()

    @jax.jit
    def slope(params):
        def total(params, image, label):
            return critic.score(params, critic.view(image), label).sum()

        return jax.grad(
            lambda params: jax.vmap(total, (None, 0, 0))(params, IMAGES, jnp.arange(8) % 2).sum()
        )(params)

    assert set(jax.tree.map(jnp.shape, params()[1])["params"]) >= {"Conv_0", "Score_0", "Score_1"}
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope(params())))


# ---- no strides


def convolutions(jaxpr) -> Iterator:
    """Every convolution of a program and of its parts."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            yield equation
        for part in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr"),
        ):
            inner = getattr(part, "jaxpr", part)
            if hasattr(inner, "eqns"):
                yield from convolutions(inner)


def test_a_strided_convolution_would_be_found():
    def strided(x):
        return jax.lax.conv(x, jnp.ones((1, 1, 2, 2)), (2, 2), "SAME").sum()

    (found,) = convolutions(jax.make_jaxpr(jax.jit(strided))(jnp.ones((1, 1, 4, 4))).jaxpr)
    assert found.params["window_strides"] == (2, 2)


def test_no_convolution_of_a_score_or_of_its_second_derivative_has_a_stride():
    critic = whole()
    view = critic.view(IMAGES[0])

    def score(params, view):
        return critic.score(params, view, jnp.int32(0)).sum()

    def penalty(params, view):
        return games.squared_slope(functools.partial(score, params), view)

    counts = []
    for program in (score, jax.grad(score), penalty, jax.grad(penalty)):
        found = list(convolutions(jax.make_jaxpr(program)(params(), view).jaxpr))
        for name in ("window_strides", "lhs_dilation", "rhs_dilation"):
            assert {equation.params[name] for equation in found} == {(1, 1)}
        counts.append(len(found))
    assert counts[0] > 5 and counts[3] > counts[2] > counts[0]
