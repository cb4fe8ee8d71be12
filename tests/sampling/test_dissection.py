"""Dissection of networks whose units are known: what agrees with a class, what causes it, what does not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax.metrics.dissection import TAIL
from rsynth_jax.sampling import dissection, runner
from rsynth_jax.sampling.dissection import Functions, Subject

UNITS, SIDE, NUM = 5, 8, 12
RNG = np.random.default_rng(0)
ON = RNG.random((NUM, SIDE, SIDE)) < 0.2  # where there is a window
MAPS = RNG.random((NUM, SIDE, SIDE, UNITS)).astype(np.float32) * 0.1
MAPS[..., 2] = ON


def run(weights, x, change):
    """A network whose output is the layer's map, and a map that leads nowhere."""
    change("layer1", x)
    return change("layer0", x)


def presence(weights, x, output):
    """Unit 2 paints windows."""
    return jnp.stack([1 - output[..., 2], output[..., 2]], axis=-1)


def score(weights, x, output, label, where):
    return jnp.sum(where * presence(weights, x, output)[..., label, None]) / jnp.sum(where)


FUNCTIONS = Functions(run, presence, score, lambda x, output: jnp.repeat(output[..., 2:3], 3, axis=-1))
SUBJECT = Subject(
    FUNCTIONS,
    jnp.zeros(()),
    runner.Rows(NUM, lambda rows: MAPS[rows]),
    ("wall", "window"),
    "probability",
)


@functools.cache
def survey() -> dissection.Survey:
    return dissection.look(SUBJECT, "layer0", batch_size=8)


@functools.cache
def found() -> dissection.Found:
    return dissection.agree(survey(), 2, batch_size=8)


def test_a_survey_holds_the_maps_the_classes_and_the_images_of_all_inputs():
    assert_allclose(survey().maps, MAPS, rtol=1e-6)
    assert_array_equal(survey().classes, ON)
    assert_array_equal(survey().images[..., 0], 255 * ON)
    assert dissection.layers_of(SUBJECT) == {"layer1": (8, 8, 5), "layer0": (8, 8, 5)}
    assert dissection.layer_named(SUBJECT, "1") == "layer0"


@pytest.mark.parametrize("number", ["2", "-1", "x", "layer0"])
def test_a_layer_that_does_not_exist_is_refused(number):
    with refused(match=rf"no layer '{number}': give a number from 0 to 1 \(layer1 to layer0\)"):
        dissection.layer_named(SUBJECT, number)


def test_the_unit_that_paints_windows_is_found_with_iou_1():
    order = dissection.by_iou(found().best, 1)
    assert order[0] == 2 and found().best.iou[2, 1] == found().best.ratio[2, 1] == 1
    assert found().best.iou[order[1], 1] < 0.35
    assert found().tail.iou.shape == found().best.chance.shape == (UNITS, 2)
    assert_allclose(np.unique(found().tail.row), [2])  # of TAIL
    assert TAIL == 0.005


def test_insertion_of_its_mean_paints_a_window_and_ablation_removes_it():
    values = dissection.insertion(survey(), 1)
    assert_allclose(values[2], 1)
    alpha, where = dissection.chosen([2], UNITS), dissection.places(0, NUM, (SIDE, SIDE, UNITS))
    assert_allclose(where.sum(axis=(1, 2, 3)), 4)  # squares of a quarter of the side
    ends = {
        k: dissection.change(SUBJECT, "layer0", 1, alpha, k * values, where, batch_size=8) for k in (0, 1)
    }
    assert_allclose([ends[k].scores for k in (0, 1)], np.repeat([[0], [1]], NUM, axis=1), atol=1e-6)
    inside = dissection.pixels_of(where, (SIDE, SIDE))
    assert (ends[1].images[inside] == 255).all() and (ends[0].images[inside] == 0).all()
    assert_array_equal(ends[0].images[~inside], survey().images[~inside])


def test_the_effect_is_1_of_the_units_that_cause_and_0_of_others_and_of_a_map_that_leads_nowhere():
    run = functools.partial(dissection.effects, SUBJECT, survey(), label=1, numbers=(1, 3), batch_size=8)
    others = np.array([0, 1, 3, 4, 2])
    assert_allclose([each.value for each in run(layer="layer0", orders=[np.roll(others, 1)])], [1, 1])
    assert_allclose(run(layer="layer0", orders=[others]), 0, atol=1e-6)
    assert_allclose(run(layer="layer1", orders=[np.roll(others, 1)]), 0, atol=1e-6)
    mixed = run(layer="layer0", orders=[np.roll(others, 1), others])
    assert_allclose([each.value for each in mixed], [0.5, 0.5], atol=1e-6)


def test_what_is_gained_is_grouped_by_what_was_there():
    where = np.ones((NUM, SIDE, SIDE, 1), np.float32)
    gained = np.arange(NUM, dtype=float)
    groups = dissection.by_surroundings(survey(), where, gained, 2)
    assert list(groups) == [0]
    assert_allclose(groups[0], gained)


def test_optimized_alpha_grows_where_a_unit_causes_the_class_and_falls_to_0_elsewhere():
    start = np.full(UNITS, 0.3, np.float32)
    with jax.numpy_dtype_promotion("standard"):
        alpha = dissection.optimize(SUBJECT, survey(), "layer0", 1, start, steps=60, batch_size=4)
    assert alpha[2] > 0.8 and (np.delete(alpha, 2) < 0.05).all()
    assert dissection.by_alpha(alpha)[0] == 2


def test_places_and_random_orders_depend_on_the_seed_and_their_number_alone():
    one, more = (dissection.places(3, num, (4, 8, 1)) for num in (2, 5))
    assert_array_equal(one, more[:2])
    assert not np.array_equal(more, dissection.places(4, 5, (4, 8, 1)))
    orders = dissection.random_orders(9, 1)
    assert all(sorted(order) == list(range(9)) for order in orders) and len({*map(tuple, orders)}) > 1
    assert dissection.numbers_of_units(20) == (1, 2, 5, 10, 20) and dissection.numbers_of_units(3) == (
        1,
        2,
        3,
    )


def test_a_segmenter_of_another_size_is_refused(tmp_path):
    generator, judge = tiny.generator(tmp_path / "g.safetensors"), tiny.segmenter(tmp_path / "s.safetensors")
    with refused(match="the segmenter's images are 8 x 8 x 3, the generator's 16 x 16 x 3: give another"):
        dissection.of_generator(generator, judge._replace(image_shape=(8, 8, 3)), 2)


@pytest.mark.slow
def test_the_unit_that_paints_what_real_images_lack_is_the_artefact_unit_and_is_removed(tmp_path):
    """Unit 2 makes half of the images bright; the others are on in the dark half; real images are dark."""
    maps = 0.1 * RNG.random((NUM, 16, 16, UNITS)).astype(np.float32)
    maps[NUM // 2 :, ..., [0, 1, 3, 4]] += 0.5
    maps[: NUM // 2, ..., 2] += 0.8
    subject = SUBJECT._replace(rows=runner.Rows(NUM, lambda rows: maps[rows]))
    seen = dissection.look(subject, "layer0", batch_size=8)
    with tiny.network():
        judge = tiny.release(tmp_path / "c.safetensors", tiny.NAMES, "linear")
        real = tiny.noise(6) // 64
        found = dissection.artefacts(subject, seen, "layer0", judge, real, 1, num=4, batch_size=8)
        with refused(match="images of mixed size"):
            dissection.artefacts(subject, seen, "layer0", judge, real[:, :8], 1)
    assert found.order[0] == 2 and found.scores[2] > 10 * np.delete(found.scores, 2).max()
    assert found.after < 0.1 * found.before and found.after < found.random
