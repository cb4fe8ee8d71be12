"""Evolution: one mutation is its game's step, the fittest survive, and the fitness has a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax.training import gan, gan_run
from rsynth_jax.training.evolution import Fitness, evolve, make_fitness
from rsynth_jax.training.games import GAMES
from rsynth_jax.training.gan import Batch, GeneratorState, Setup, make_generator_step
from rsynth_jax.training.gan_recipes import RECIPES, GanRecipe
from rsynth_jax.training.recipes import replace
from rsynth_jax.types import Critic, Generator

ADAM = optax.adam(0.1, b1=0.5)
SHAPE = (1, 1, 2)  # of an image: a point
NAMES = ("minimax", "heuristic", "least-squares")


@pytest.fixture(scope="module", autouse=True)
def standard():
    """Optax itself mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def linear_generator(params) -> Generator:
    """image = A z + b."""
    return Generator(
        prior=lambda key: jax.random.normal(key, (2,)),
        code=lambda latent, label: latent,
        decode=lambda code, key: (params["A"] @ code + params["b"]).reshape(SHAPE),
    )


def constant_generator(params) -> Generator:
    """image = b, whatever the latent."""
    return linear_generator({"A": jnp.zeros((2, 2)), "b": params["b"]})


LINEAR = Critic(
    init=lambda key, image: {"w": jnp.array([0.5, -1.0]), "c": jnp.array([0.25])},
    view=lambda image: image,
    score=lambda params, view, label: params["c"] + params["w"] @ view.ravel(),
)
SETUP = Setup(linear_generator, LINEAR)
PARAMS = {"A": jnp.array([[1.0, 0.5], [0.0, 2.0]]), "b": jnp.array([0.5, 1.0])}
CRITIC = LINEAR.init(jax.random.key(0), jnp.zeros(SHAPE))


def steps(setup: Setup = SETUP, names=NAMES, optimizer=ADAM) -> dict[str, gan.GeneratorStep]:
    return {name: make_generator_step(setup, GAMES[name], optimizer) for name in names}


def batch(num: int = 6, seed: int = 0) -> Batch:
    images = jax.random.uniform(jax.random.key(seed), (num, *SHAPE))
    keys = jax.random.split(jax.random.key(seed + 1), num)
    labels = jnp.zeros(num, jnp.int32)
    return Batch(keys, images, images, labels, labels, CRITIC)


def member(population, index: int):
    return jax.tree.map(lambda leaf: leaf[index], population)


def assert_same(first, second) -> None:
    jax.tree.map(assert_array_equal, first, second)


# ---- what evolution of one is


@pytest.mark.parametrize("name", tiny.fast(NAMES[1:], NAMES[1]))
def test_one_mutation_and_one_survivor_are_the_plain_training_bit_for_bit(name):
    plain = steps()[name]
    states = []
    for moves in (plain, evolve({name: plain}, make_fitness(SETUP, 0.1))):
        step = jax.jit(gan.make_gan_step(SETUP, moves, GAMES["minimax"], ADAM, critic_steps=2))
        state = gan.init_state(moves, ADAM, PARAMS, CRITIC)
        for t in range(4):
            images = jnp.arange(16, dtype=jnp.uint8).reshape(8, *SHAPE)
            state, metrics = step(state, jax.random.key(t), images, jnp.zeros(8, jnp.int32))
        states.append((state, metrics.generator["generator_loss"], moves.params(state.generator)))
    (one, one_loss, one_params), (other, other_loss, other_params) = states
    assert_same(one, other._replace(generator=member(other.generator, 0)))
    assert_same((one_loss, one_params), (other_loss, other_params))


def test_a_second_parent_of_the_same_weights_gets_latents_of_its_own():
    plain = steps()["heuristic"]
    moves = evolve({"heuristic": plain}, make_fitness(SETUP, 0.1), survivors=2)
    state, _ = jax.jit(moves.step)(moves.init(PARAMS), batch())
    alone, _ = jax.jit(plain.step)(plain.init(PARAMS), batch())
    equal = [np.array_equal(member(state, i).params["A"], alone.params["A"]) for i in range(2)]
    assert sorted(equal) == [False, True]


# ---- selection


def nearest(images, batch) -> Fitness:
    total = -jnp.sum((images[0].ravel() - jnp.array([0.8, 0.6])) ** 2)
    return Fitness(total, jnp.zeros(()), total)


@pytest.mark.slow
@pytest.mark.parametrize("survivors", [1, 2])
def test_the_fittest_children_survive_with_their_optimizer_states(survivors):
    """Images that are the weights, so that the fitness of every child is known."""
    setup = Setup(constant_generator, LINEAR)
    games = steps(setup, optimizer=optax.sgd(0.1, momentum=0.9))
    moves = evolve(games, nearest, survivors)
    state = moves.init(PARAMS)
    for i in range(3):
        parents = [member(state, i) for i in range(survivors)]
        children = [one.step(parent, batch()) for parent in parents for one in games.values()]
        fitness = [float(nearest(child.params["b"][None], None).total) for child, _ in children]
        order = np.argsort(-np.array(fitness), kind="stable")[:survivors]
        state, metrics = moves.step(state, batch())
        for i, row in enumerate(order):
            assert isinstance(state, GeneratorState)
            assert_same(member(state, i), children[row][0])
        best = int(order[0])
        assert_allclose(metrics["fitness"], max(fitness), rtol=1e-6)
        assert (int(metrics["parent"]), int(metrics["mutation"])) == divmod(best, len(NAMES))
        assert_allclose(metrics["generator_loss"], children[best][1]["generator_loss"], rtol=1e-6)
        won = [float(metrics[f"won_{name}"]) for name in NAMES]
        assert_allclose(won, [np.mean(order % len(NAMES) == i) for i in range(len(NAMES))])
        assert_same(moves.params(state), member(state, 0).params)


@pytest.mark.slow
def test_a_child_that_is_nan_does_not_survive_a_finite_one():
    broken = GAMES["minimax"]._replace(generator=lambda real, fake: jnp.sum(fake) * jnp.nan)
    found = {"broken": make_generator_step(SETUP, broken, ADAM)} | steps(names=("heuristic",))
    moves = evolve(found, make_fitness(SETUP, 0.1))
    state, metrics = moves.step(moves.init(PARAMS), batch())
    assert metrics["won_heuristic"] == 1 and np.isnan(metrics["quality_broken"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, metrics["fitness"])))


@pytest.mark.slow
def test_children_are_judged_alike_on_latents_that_none_was_trained_on():
    given = []

    def judge(images, batch) -> Fitness:
        given.append((images, jax.random.key_data(batch.keys)))
        return Fitness(*jnp.zeros(3))

    frozen = {
        name: make_generator_step(SETUP, GAMES[name], optax.sgd(0.0)) for name in ("minimax", "heuristic")
    }
    moves = evolve(frozen, judge, survivors=2)
    state = moves.init(PARAMS)
    moves.step(state, batch())
    for images, keys in given[1:]:
        assert_same((images, keys), given[0])
    images, keys = given[0]
    trained = moves.generate(state, batch().keys, batch().labels)
    assert len(given) == 4 and not np.isin(images, trained).any()
    assert not (keys == jax.random.key_data(batch().keys)).all(axis=1).any()


@pytest.mark.slow
def test_every_survivor_makes_a_part_of_the_images():
    moves = evolve(steps(), make_fitness(SETUP, 0.1), survivors=3)
    state, _ = moves.step(moves.init(PARAMS), batch())
    own = batch(num=7)
    plain = steps()["minimax"]
    images = moves.generate(state, own.keys, own.labels)
    assert images.shape == (7, *SHAPE)
    for index, rows in enumerate((slice(0, 3), slice(3, 5), slice(5, 7))):
        expected = plain.generate(member(state, index), own.keys[rows], own.labels[rows])
        assert_allclose(images[rows], expected, rtol=1e-6)


# ---- fitness


def test_the_fitness_of_images_before_a_linear_critic_has_a_closed_form():
    own = batch()
    fakes = jax.random.normal(jax.random.key(5), own.images.shape)
    found = jax.jit(make_fitness(SETUP, 0.3))(fakes, own)
    real, fake = (np.asarray(array, np.float64).reshape(-1, 2) for array in (own.images, fakes))
    w, c = (np.asarray(CRITIC[name], np.float64) for name in ("w", "c"))
    real_d, fake_d = (1 / (1 + np.exp(-(points @ w + c))) for points in (real, fake))
    by_w = np.mean((real_d - 1)[:, None] * real + fake_d[:, None] * fake, axis=0)
    by_c = np.mean(real_d - 1 + fake_d)
    diversity = -np.log(np.sqrt(np.sum(by_w**2) + by_c**2))
    assert_allclose(found.quality, fake_d.mean(), rtol=1e-5)
    assert_allclose(found.diversity, diversity, rtol=1e-5)
    assert_allclose(found.total, fake_d.mean() + 0.3 * diversity, rtol=1e-5)


def test_the_critic_sees_augmented_images_and_the_quality_is_a_mean_over_heads():
    heads = LINEAR._replace(
        score=lambda params, view, label: jnp.array([0.0, 1.0]) * view.sum() + params["c"]
    )
    setup = Setup(linear_generator, heads, augment=lambda key, image: image + 1)
    found = make_fitness(setup, 0.0)(jnp.zeros((6, *SHAPE)), batch())
    sigmoid = [1 / (1 + np.exp(-score)) for score in (0.25, 2.25)]
    assert_allclose(found.quality, np.mean(sigmoid), rtol=1e-6)
    assert_array_equal(found.total, found.quality)


def test_a_critic_without_a_gradient_gives_a_finite_fitness():
    flat = LINEAR._replace(score=lambda params, view, label: jnp.full(1, 50.0))
    found = make_fitness(Setup(linear_generator, flat), 0.1)(batch().images, batch())
    assert np.isfinite(found.total)


# ---- what is refused


def test_evolution_of_nothing_is_refused():
    with refused(match="no mutations"):
        evolve({}, make_fitness(SETUP, 0.1))
    with refused(match="survivors is 0"):
        evolve(steps(), make_fitness(SETUP, 0.1), survivors=0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mutations": ("minimax", "maximin")}, "no mutation named 'maximin': give one of minimax"),
        ({"mutations": ("hinge", "minimax", "hinge")}, "'hinge' is given twice: give it once"),
        ({"survivors": 2}, "survivors is 2: give mutations, or 1"),
        ({"mutations": NAMES, "survivors": 33}, "survivors is 33: give at most the batch size, 32"),
        ({"mutations": NAMES, "survivors": 0}, "survivors is 0"),
        ({"mutations": NAMES, "diversity": -1.0}, "diversity is -1"),
        ({"mutations": NAMES, "critic_steps": 0}, "critic.steps is 0"),
    ],
)
def test_an_evolution_that_makes_no_sense_is_refused(values, said):
    with refused(match=said):
        gan_run.validate(replace(GanRecipe(), **values))


@pytest.mark.parametrize("name", ["faces-egan-32", "cifar10-egan-32"])
def test_the_recipes_have_the_mutations_and_the_critic_steps_of_the_paper(name):
    recipe = RECIPES[name]
    gan_run.validate(recipe)
    assert recipe.evolution.mutations == NAMES and recipe.evolution.survivors == 1
    assert recipe.critic.game == "minimax" and recipe.critic.critic_steps == 3
    assert recipe.classifier is None and recipe.batch_size == 32
