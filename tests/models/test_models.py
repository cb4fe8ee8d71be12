"""The networks: their published sizes, their inputs and outputs, their two modes, their readout."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose

from rsynth_jax import models
from rsynth_jax.models import Config, bind, create, layers, resnet
from rsynth_jax.types import Outputs

RNG = np.random.default_rng(6)
IMAGES = RNG.random((4, 16, 16, 3), np.float32)
PUBLISHED = {
    "resnet18": (10, 11_173_962),
    "resnet50": (10, 23_520_842),
    "resnet18-imagenet": (1000, 11_689_512),
    "resnet50-imagenet": (1000, 25_557_032),
    "preact-resnet18": (10, 11_172_170),
    "wide-resnet50-2": (1000, 68_883_240),
    "wide-resnet50-4": (1000, 223_439_144),
    "preact-resnet18-bare": (10, 11_171_146),
    "preact-resnet18-gowal": (10, 12_548_426),
    "wide-resnet28-10": (10, 36_479_194),
    "wide-resnet34-10": (10, 46_160_474),
    "wide-resnet34-20": (10, 184_531_674),
    "wide-resnet70-16": (10, 266_796_506),
    "wide-resnet70-16-gowal-silu": (10, 266_796_506),
    "convnext-tiny": (1000, 28_589_128),
    "convnext-tiny-convstem": (1000, 28_627_432),
    "cnn-a": (10, 214_918),
}
DEEP = {name for name in models.ARCHITECTURES if name.startswith(("wide-resnet34", "wide-resnet70"))}
every_architecture = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in DEEP else ()) for name in models.ARCHITECTURES],
)


def outputs(config, shape):
    """The shapes and dtypes of init and apply, with nothing computed."""
    model, images = create(config), jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return variables, jax.eval_shape(model.apply, variables, images)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name):
    num_classes, count = PUBLISHED[name]
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(create(Config(name, num_classes)).init, jax.random.key(0), images)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count


@every_architecture
def test_every_architecture_takes_another_size_and_one_channel(name):
    _, found = outputs(Config(name, 7), (2, 48, 48, 1))
    assert found.logits.shape == (2, 7) and found.features.ndim == 2 and found.features.shape[0] == 2


@pytest.mark.parametrize(
    "name", tiny.fast(models.ARCHITECTURES, "resnet8", "preact-resnet18", "convnext-tiny")
)
def test_parameters_and_outputs_are_float32_when_computing_in_bfloat16(name):
    with jax.numpy_dtype_promotion("standard"):  # Flax itself mixes dtypes
        trees = outputs(Config(name, 7, dtype="bfloat16"), (2, 32, 32, 3))
    assert {leaf.dtype for leaf in jax.tree.leaves(trees)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", ["resnet8", "preact-resnet18"])
def test_bfloat16_is_what_the_convolutions_compute_in(name):
    model, images = (
        create(Config(name, 7, dtype="bfloat16")),
        jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32),
    )
    with jax.numpy_dtype_promotion("standard"):  # Flax itself mixes dtypes
        program = str(jax.make_jaxpr(lambda x: model.init_with_output(jax.random.key(0), x)[0])(images))
    convolutions = [line for line in program.splitlines() if "= conv_general_dilated" in line]
    assert convolutions and all(":bf16" in line for line in convolutions)


def test_normalisation_happens_inside(small):
    _, variables = small
    plain = jax.jit(create(Config("resnet8", 10, mean=(0.0,), std=(1.0,))).apply)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    normalised = jax.jit(create(Config("resnet8", 10, mean=mean, std=std)).apply)
    expected = plain(variables, (IMAGES - np.float32(mean)) / np.float32(std)).logits
    assert_allclose(normalised(variables, IMAGES).logits, expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_uses_the_batch_exactly_while_its_statistics_are_mutable(small):
    model, variables = small
    apply = jax.jit(model.apply, static_argnames="mutable")
    evaluated = apply(variables, IMAGES).logits
    trained, updates = apply(variables, IMAGES, mutable=("batch_stats",))
    before, after = (jax.tree.leaves(tree["batch_stats"]) for tree in (variables, updates))
    assert all(np.abs(new - old).max() > 0 for old, new in zip(before, after, strict=True))
    assert np.abs(trained.logits - evaluated).max() > 0.01
    assert_allclose(apply(variables, IMAGES[:1]).logits[0], evaluated[0], rtol=1e-4, atol=1e-5)


def test_a_bound_classifier_is_a_row_of_the_batch(small):
    model, variables = small
    batch, classifier = model.apply(variables, IMAGES), bind(model, variables)
    assert_allclose(classifier.logits(IMAGES[2]), batch.logits[2], rtol=1e-4, atol=1e-5)
    assert_allclose(classifier.features(IMAGES[2]), batch.features[2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "preact-resnet18", "wide-resnet28-10"])
def test_a_bound_classifier_shows_a_map_of_each_block(name):
    model, image = create(Config(name, 10)), jax.ShapeDtypeStruct((16, 16, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    maps = jax.eval_shape(lambda variables, image: bind(model, variables).maps(image), variables, image)
    blocks = [key for key in variables["params"] if "Block" in key or "Bottleneck" in key]
    assert len(maps) == len(blocks)
    assert {map.shape[0] for map in maps} <= {16, 8, 4, 2}


def test_the_maps_are_those_of_evaluation_and_the_last_gives_the_features(small):
    model, variables = small
    classifier = bind(model, variables)
    last = nn.silu(classifier.maps(IMAGES[2])[-1]).mean((0, 1))
    assert_allclose(last, classifier.features(IMAGES[2]), rtol=1e-4, atol=1e-5)


def test_a_network_without_blocks_shows_no_maps():
    class Flat(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Outputs(x.mean((1, 2)), x.mean((1, 2)))

    with pytest.raises(ValueError, match="shows no layers"):
        bind(Flat(), {}).maps(IMAGES[0])


@pytest.mark.parametrize("activation", [nn.relu, nn.silu])
def test_features_have_the_activations_values_and_the_identitys_gradient(activation):
    class Readout(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layers.readout(activation, x, 3)

    x = RNG.normal(size=(1, 2, 2, 5)).astype(np.float32)
    variables = Readout().init(jax.random.key(0), x)
    features, pull = jax.vjp(lambda x: Readout().apply(variables, x).features, x)
    assert_allclose(features, activation(x).mean((1, 2)), atol=1e-6)
    assert_allclose(pull(jnp.ones((1, 5)))[0], np.full((1, 2, 2, 5), 0.25), atol=1e-6)


def test_a_unit_that_is_off_can_be_painted_through_the_features_and_not_through_the_logits(small):
    """With the identity as its last layer, a network's logits are its pooled true activations."""
    _, variables = small
    identity = {"Dense_0": {"kernel": jnp.eye(256), "bias": jnp.zeros(256)}}
    variables = variables | {"params": variables["params"] | identity}
    classifier = bind(resnet.resnet8(num_classes=256, activation=nn.relu), variables)
    image = IMAGES[0, :4, :4]  # one position is left at the last layer
    (features, paint), (logits, push) = (
        jax.vjp(jax.jit(f), image) for f in (classifier.features, classifier.logits)
    )
    off = jnp.argmin(features)
    assert features[off] == 0 == logits[off]
    assert jnp.abs(paint(jax.nn.one_hot(off, 256))[0]).max() > 0
    assert jnp.abs(push(jax.nn.one_hot(off, 256))[0]).max() == 0


def test_an_unknown_architecture_is_refused_with_names_of_the_known():
    first, second, *_ = models.ARCHITECTURES
    with pytest.raises(ValueError, match=rf"'vgg'.*{first}, {second}.*{len(models.ARCHITECTURES)} in all"):
        create(Config("vgg", 10))


def test_an_unknown_dtype_is_refused_with_the_names_of_the_known():
    with pytest.raises(ValueError, match=r"'float16'.*float32, bfloat16"):
        create(Config("resnet8", 10, dtype="float16"))


def test_the_readout_makes_logits_of_features(small):
    model, variables = small
    outputs = model.apply(variables, np.random.default_rng(0).random((2, 16, 16, 3), np.float32))
    weights, bias = models.readout(variables)
    np.testing.assert_allclose(outputs.features @ weights + bias, outputs.logits, atol=1e-5)
