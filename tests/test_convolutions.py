"""Loops and convolutions in the form that is fast on a CPU are the same loops and convolutions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from rsynth_jax import convolutions

RNG = np.random.default_rng(0)
NHWC = ("NHWC", "HWIO", "NHWC")


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def conv(x, kernel, strides=(1, 1), padding=((1, 1), (1, 1)), numbers=NHWC, **more):
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=numbers, **more)


@pytest.mark.parametrize(
    ("height", "width", "down", "across"),
    [(8, 8, (1, 1), (1, 1)), (7, 5, (0, 0), (2, 1)), (3, 4, (0, 0), (0, 3)), (4, 9, (3, 0), (1, 1))],
)
def test_winograd_convolves_images_of_every_size_and_padding(height, width, down, across):
    x, kernel = normal(2, height, width, 3), normal(3, 3, 3, 5)
    found = jax.jit(functools.partial(convolutions.winograd, padding=(down, across)))(x, kernel)
    assert_allclose(found, conv(x, kernel, padding=(down, across)), atol=2e-5)


def test_winograd_is_as_exact_as_a_convolution():
    x, kernel = normal(8, 16, 16, 64), normal(3, 3, 64, 64) / 24
    with jax.enable_x64(True):
        exact = np.asarray(conv(x.astype(np.float64), kernel.astype(np.float64)))

    def error(y):
        return np.sqrt(np.mean((y - exact) ** 2))

    fast = jax.jit(functools.partial(convolutions.winograd, padding=((1, 1), (1, 1))))
    assert error(fast(x, kernel)) < 2 * error(conv(x, kernel)) < 1e-6


X = normal(2, 8, 8, 16)
CASES = {
    "plain": lambda x: conv(x, normal_of(3, 3, 16, 16)),
    "strided": lambda x: conv(x, normal_of(3, 3, 16, 16), (2, 2)),
    "dilated": lambda x: conv(x, normal_of(3, 3, 16, 16), rhs_dilation=(2, 2)),
    "transposed": lambda x: conv(x, normal_of(3, 3, 16, 16), lhs_dilation=(2, 2)),
    "grouped": lambda x: conv(x, normal_of(3, 3, 4, 16), feature_group_count=4),
    "of one pixel": lambda x: conv(x, normal_of(1, 1, 16, 8), padding="VALID"),
    "cropped": lambda x: conv(x, normal_of(3, 3, 16, 16), padding=((-1, 1), (1, -1))),
    "channels first": lambda x: conv(x, normal_of(16, 8, 3, 3), numbers=("NCHW", "OIHW", "NCHW")),
    "of another order": lambda x: conv(x, normal_of(2, 3, 3, 16), numbers=("CHWN", "IHWO", "HWNC")),
    "of the kernel": lambda x: conv(
        normal_of(1, 9, 9, 16), x[0][None].transpose(1, 2, 3, 0), padding="VALID"
    ),
}


def normal_of(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32) / 8


@pytest.mark.parametrize("function", CASES.values(), ids=CASES)
def test_every_convolution_and_its_gradients_are_the_same(function):
    def value(x):
        return jnp.sum(jnp.sin(function(x)))

    def slope(x):
        return jnp.sum(jax.grad(value)(x) ** 2)

    def all_three(x):
        return value(x), jax.grad(value)(x), jax.grad(slope)(x)

    fast, plain = (jax.jit(each)(X) for each in (convolutions.in_fast_form(all_three), all_three))
    for found, wanted in zip(fast, plain, strict=True):
        assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_gradients_of_kernels_and_of_maps_over_them_are_the_same():
    def loss(kernel):
        return jnp.sum(conv(X, kernel) ** 2)

    kernels = normal(3, 3, 3, 16, 16) / 8
    each = jax.vmap(jax.grad(loss))
    found, wanted = (jax.jit(one)(kernels) for one in (convolutions.in_fast_form(each), each))
    assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)


def test_a_function_in_fast_form_has_its_derivative():
    def loss(x):
        return jnp.mean(conv(x, normal_of(3, 3, 16, 16)) ** 2)

    found, wanted = (jax.jit(jax.grad(each))(X) for each in (convolutions.in_fast_form(loss), loss))
    assert_allclose(found, wanted, atol=1e-6)


def test_a_loop_is_that_of_jax():
    kernel = normal_of(3, 3, 16, 16)

    def body(state, x):
        image, key, found = state["image"], state["key"], state["found"]
        key, now = jax.random.split(key)
        image = jax.grad(lambda image: jnp.mean(jax.nn.silu(conv(image, kernel)) ** 2))(image) * 10 + x["a"]
        image = image + 0.01 * jax.random.normal(now, image.shape)
        image = jax.lax.cond(x["b"] > 1, jnp.negative, lambda image: image, image)
        more = jax.lax.fori_loop(0, 2, lambda i, total: total + i, x["b"])
        state = {"image": image, "key": key, "found": found | (more > 2)}
        return state, (jnp.mean(image), None)

    init = {"image": X, "key": jax.random.key(3), "found": np.False_}
    xs = {"a": normal(4, 1, 1, 1, 1)[:, 0], "b": np.arange(4)}
    loop, plain = (jax.jit(functools.partial(scan, body)) for scan in (convolutions.scan, jax.lax.scan))
    (state, kept), (wanted, means) = loop(init, xs), plain(init, xs)
    assert_allclose(state["image"], wanted["image"], atol=1e-5)
    assert_array_equal(jax.random.key_data(state["key"]), jax.random.key_data(wanted["key"]))
    assert state["found"] and wanted["found"]
    assert_allclose(kept[0], means[0], rtol=1e-4)
    assert kept[1] is None


def test_a_loop_of_no_step_keeps_its_state():
    state, kept = convolutions.scan(lambda state, _: (state + 1, state), jnp.zeros(2), length=0)
    assert_array_equal(state, np.zeros(2))
    assert kept.shape == (0, 2)


def repeated(function):
    return lambda x: jax.lax.scan(lambda x, _: (function(x), None), x, length=2)[0]


PARTS = {
    "rematerialized": jax.checkpoint,
    "loop": repeated,
    "loop of no known length": lambda function: (
        lambda x: jax.lax.while_loop(lambda x: jnp.all(jnp.isnan(x)), function, x)
    ),
    "branch": lambda function: lambda x: jax.lax.cond(x[0, 0, 0, 0] > 0, function, jnp.sin, x),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_convolutions_of_a_part_have_the_fast_form_too(part):
    def value(x):
        return jnp.sum(jnp.sin(part(lambda x: conv(x, normal_of(3, 3, 16, 16)))(x)))

    wanted = value if part is PARTS["loop of no known length"] else jax.grad(value)
    found = jax.jit(convolutions.in_fast_form(wanted))
    assert_allclose(found(X), wanted(X), rtol=1e-4, atol=1e-4)
    assert "stablehlo.convolution" not in found.lower(X).as_text()


def lowered(platform):
    kernel = normal_of(3, 3, 16, 16)

    def loop(x, kernel):
        step = jax.grad(lambda x: jnp.sum(conv(x, kernel) ** 2))
        return convolutions.scan(lambda x, _: (step(x), None), x, length=3)[0]

    return jax.jit(loop).trace(X, kernel).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_convolve_as_ever(platform):
    program = lowered(platform)
    assert program.count("stablehlo.convolution") == 2
    assert "dot_general" not in program


def test_a_cpu_transforms_kernels_before_the_loop():
    program = lowered("cpu")
    before, loop = program.split("stablehlo.while")
    assert "stablehlo.convolution" not in program
    assert "reverse" in before
    assert "reverse" not in loop
