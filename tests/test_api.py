"""What a notebook calls: every task from arrays to arrays, and each measure, in one line."""

import numpy as np
import pytest
import tiny

import rsynth_jax as rs

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, *tiny.SHAPE), np.uint8)
MASK = np.zeros((*tiny.SHAPE[:2], 1), np.float32)
MASK[4:12, 4:12] = 1
CODES = np.zeros((3, 4, 8), np.float32)


@pytest.fixture(scope="module")
def release(tmp_path_factory, networks):
    """Loaded by its path, as a user's own classifier is."""
    path = tmp_path_factory.mktemp("release") / "c.safetensors"
    tiny.release(path, tiny.NAMES, "linear")
    return rs.load(path)


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    path = tmp_path_factory.mktemp("generator") / "g.safetensors"
    tiny.generator(path, tiny.NAMES)
    return rs.load_generator(path)


@pytest.fixture(scope="module")
def robust(tmp_path_factory, networks):
    """A classifier that shows its layers."""
    return tiny.release(tmp_path_factory.mktemp("robust") / "c.safetensors", tiny.NAMES)


TASKS = {
    "generate": (lambda r: rs.generate(r, "cat", num=3, seed=0, num_steps=2), IMAGES.shape),
    "inpaint": (lambda r: rs.inpaint(r, IMAGES, MASK, "dog", num_steps=2), IMAGES.shape),
    "superresolve": (lambda r: rs.superresolve(r, IMAGES[:, :8, :8], factor=2, num_steps=2), IMAGES.shape),
    "translate": (lambda r: rs.translate(r, IMAGES, "dog", num_steps=2), IMAGES.shape),
    "paint": (lambda r: rs.paint(r, IMAGES, [rs.Stroke(MASK, 1)], num_steps=2), IMAGES.shape),
    "sketch": (lambda r: rs.sketch(r, IMAGES, "dog", num_steps=2), IMAGES.shape),
    "refine": (lambda r: rs.refine(r, IMAGES, num_steps=2), IMAGES.shape),
    "invert": (lambda r: rs.invert(r, IMAGES, starts=2, num_steps=2), IMAGES.shape),
    "interpolate": (
        lambda r: rs.interpolate(r, IMAGES, IMAGES[::-1], frames=2, num_steps=2),
        (6, *tiny.SHAPE),
    ),
    "visualize": (lambda r: rs.visualize(r, [0, 5], starts=2, num_steps=2), (2, 2, *tiny.SHAPE)),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_returns_its_images(release, name):
    task, shape = TASKS[name]
    images = task(release)
    assert images.dtype == np.uint8 and images.shape == shape


def test_a_generator_draws_mixes_and_loops(tmp_path):
    tiny.generator(tmp_path / "g.safetensors")
    generator = rs.load_generator(tmp_path / "g.safetensors")
    images = rs.draw(generator, "cat", num=3, seed=0, truncation=0.7)
    assert images.dtype == np.uint8 and images.shape == IMAGES.shape
    assert rs.loop(generator, ("cat", "dog"), num=2, frames=2).shape == (2, 4, *tiny.SHAPE)
    assert rs.mix(generator, "cat", num=2, taken=[0, 1]).mixed.shape == (2, 2, *tiny.SHAPE)


def test_an_inverter_inverts_again_with_little_and_draws(tmp_path, release):
    tiny.inverter(tmp_path / "i.safetensors", release, latent_size=2)
    inverter = rs.load_inverter(tmp_path / "i.safetensors")
    once = rs.invert_by(release, inverter, IMAGES)
    assert once.dtype == np.uint8 and once.shape == IMAGES.shape
    assert rs.invert_by(release, inverter, IMAGES, strongest=5).shape == IMAGES.shape
    assert rs.reencode(release, inverter, IMAGES, rounds=2).shape == (3, 2, *tiny.SHAPE)
    assert rs.invert_from(release, IMAGES, once, num_steps=2).shape == IMAGES.shape
    assert rs.decode_prior(inverter, num=2).shape == (2, *tiny.SHAPE)


TASKS_IN_CODE = {
    "project": lambda r, g: rs.project(r, g, IMAGES, num_steps=2),
    "generate": lambda r, g: rs.generate_in_code(r, g, "cat", num=3, num_steps=2),
    "translate": lambda r, g: rs.translate_in_code(r, g, IMAGES, "dog", codes=CODES, num_steps=2),
    "inpaint": lambda r, g: rs.inpaint_in_code(r, g, IMAGES, MASK, "dog", num_steps=2),
}


@pytest.mark.parametrize(
    "name", ["generate", *(pytest.param(n, marks=pytest.mark.slow) for n in TASKS_IN_CODE if n != "generate")]
)
def test_a_task_in_the_codes_of_a_generator_returns_its_images(robust, generator, name):
    images = TASKS_IN_CODE[name](robust, generator)
    assert images.dtype == np.uint8 and images.shape == IMAGES.shape


def test_a_translator_returns_the_images_of_every_style(tmp_path):
    release = tiny.translator(tmp_path / "t.safetensors")
    made = rs.translate_by(rs.load_translator(tmp_path / "t.safetensors"), IMAGES, "dog", styles=2)
    assert made.shape == (len(IMAGES), 2, *tiny.SHAPE) and made.dtype == np.uint8
    assert rs.translate_like(release, IMAGES, "dog", IMAGES[:1]).shape == (len(IMAGES), 1, *tiny.SHAPE)
    assert rs.blend_styles(release, IMAGES, "dog", styles=2, frames=1).shape == made.shape


def test_evaluation_says_which_images_are_classified_correctly(release):
    labels = np.array([0, 1, 2])
    found = rs.evaluate(release, IMAGES, labels)
    assert found.clean.shape == (3,) and found.clean.dtype == bool
    assert (found.robust <= found.clean).all()


def test_scores_compare_two_sets(release, tmp_path):
    tiny.release(tmp_path / "c.safetensors", tiny.NAMES, "linear")
    many = RNG.integers(0, 256, (8, *tiny.SHAPE), np.uint8)
    scores = rs.score(many, many, features=str(tmp_path / "c.safetensors"))
    assert scores["fd"].value == pytest.approx(0, abs=1e-3)
    assert scores["precision"].value == scores["recall"].value == 1


def test_detection_is_an_area_under_a_curve(release):
    estimate = rs.detect(release, IMAGES, IMAGES)
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.value == pytest.approx(0.5)


def test_every_export_exists_and_nothing_else_does():
    assert all(callable(getattr(rs, name)) for name in rs.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rs.nothing  # noqa: B018
