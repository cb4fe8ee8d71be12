"""Every task on whole arrays: images are bytes, constraints hold, labels go by name or are predicted."""

import jax
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from tiny import refused

from rsynth_jax.images import decode
from rsynth_jax.models import embedding
from rsynth_jax.sampling import runner, samplers
from rsynth_jax.sampling.samplers import Stroke
from rsynth_jax.synthesis import class_gaussians, objectives, parameterization, tasks

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, *tiny.SHAPE), np.uint8)
HOLE = np.zeros((*tiny.SHAPE[:2], 1), np.float32)
HOLE[4:12, 4:12] = 1


@pytest.fixture(scope="module")
def release(tmp_path_factory, networks):
    return tiny.release(tmp_path_factory.mktemp("release") / "c.safetensors", tiny.NAMES, "linear")


def moved(samples) -> np.ndarray:
    """The l2 distance of each image from its start."""
    return samples.summary.l2_moved


def rises(samples) -> bool:
    """Whether log p of the label rises in every image."""
    summary, labels = samples.summary, samples.labels
    return bool((runner.log_prob(summary.end, labels) > runner.log_prob(summary.start, labels)).all())


def test_an_image_depends_on_the_seed_its_class_and_its_number_alone(release):
    whole = samplers.generate(release, "all", 3, num_steps=2)
    few = samplers.generate(release, ["dog", "cat"], 2, num_steps=2, batch_size=3)
    assert_array_equal(whole.labels, np.repeat([0, 1, 2], 3))
    assert_array_equal(few.labels, [2, 2, 1, 1])
    rows = [6, 7, 3, 4]
    assert np.abs(np.int16(few.images) - whole.images[rows]).max() <= 1
    assert_array_equal(few.starts, whole.starts[rows])
    other = samplers.generate(release, "dog", 2, seed=1, num_steps=2)
    assert (other.images != few.images[:2]).any()


def test_generation_starts_from_the_class_gaussian_and_rises(release):
    samples = samplers.generate(release, "cat", 2, temperature=1.0, num_steps=4)
    assert rises(samples)
    key = jax.random.key(0)
    for number, start in enumerate(samples.starts):
        own = jax.random.fold_in(jax.random.fold_in(key, 1), number)
        drawn = class_gaussians.sample(own, release.class_gaussians, 1, tiny.SHAPE)
        assert np.abs(start / 255 - np.clip(drawn, 0, 1)).max() <= 1 / 255


@pytest.mark.slow
def test_every_task_without_class_gaussians_starts_from_grey_and_noise(release):
    grey = release._replace(class_gaussians=class_gaussians.grey(channels=3))
    samples = samplers.generate(grey, ["cat", "dog"], 2, num_steps=4)
    assert rises(samples) and len(np.unique(samples.starts, axis=0)) == 4
    assert abs(samples.starts.mean() / 255 - 0.5) < 0.05
    assert rises(samplers.inpaint(grey, tiny.noise(2), labels="dog", num_steps=4))
    assert samplers.invert(grey, tiny.noise(1), starts=2, num_steps=2).images.shape == (1, *tiny.SHAPE)
    assert samplers.visualize(grey, [3], starts=2, num_steps=2).images.shape == (1, 2, *tiny.SHAPE)


def test_without_steps_it_takes_five_for_every_eight_of_the_fakes_and_20_at_most(release):
    assert samplers.default_steps(release) == 15
    for fake_steps in (32, 40):
        assert samplers.default_steps(release._replace(recipe={"fake_steps": fake_steps})) == 20
    assert samplers.default_steps(release._replace(recipe={"fake_steps": 1})) == 1


def test_views_are_shifted_as_those_of_the_fakes_were(release):
    shifting = release._replace(recipe={"view_shift": 2})
    assert samplers.default_shift(release) == 0 and samplers.default_shift(shifting) == 2
    by_default, asked = (
        samplers.generate(each, "cat", 2, num_steps=4, max_shift=shift).images
        for each, shift in ((shifting, None), (release, 2))
    )
    assert_array_equal(by_default, asked)
    assert (samplers.generate(release, "cat", 2, num_steps=4).images != asked).any()


def test_the_default_coordinates_are_frequencies_after_dual_training_at_64_pixels(release, monkeypatch):
    for side, method, kind in (
        (64, "dual", parameterization.fourier_of(0.2)),
        (64, "pgd", parameterization.pixel),
        (32, "dual", parameterization.pixel),
    ):
        trained = release._replace(image_shape=(side, side, 3), recipe={"method": method})
        assert samplers.default_parameterization(trained) is kind
    in_pixels, asked = (
        samplers.generate(release, "cat", 2, num_steps=4, **settings).images
        for settings in ({}, {"parameterization": parameterization.fourier_of(0.2)})
    )
    assert (in_pixels != asked).any()
    monkeypatch.setattr(samplers, "default_parameterization", lambda _: parameterization.fourier_of(0.2))
    assert_array_equal(samplers.generate(release, "cat", 2, num_steps=4).images, asked)


@pytest.mark.parametrize("schedule", samplers.SCHEDULES.values(), ids=samplers.SCHEDULES)
@pytest.mark.parametrize("num", [1, 2, 15, 60])
def test_a_schedule_goes_as_far_as_it_says(schedule, num):
    size = schedule.rate(0.5, num)
    steps = [float(size(i) if callable(size) else size) for i in range(num)]
    assert sum(steps) == pytest.approx(0.5 * schedule.way(num), rel=1e-5)


def test_starts_are_as_far_from_their_mean_as_those_of_the_fakes_were(release):
    wider = release._replace(recipe={"fake_temperature": 1.5})
    by_default, asked = (
        samplers.generate(each, "cat", 2, num_steps=0, temperature=temperature).images
        for each, temperature in ((wider, None), (release, 1.5))
    )
    assert_array_equal(by_default, asked)
    assert (samplers.generate(release, "cat", 2, num_steps=0).images != asked).any()


@pytest.mark.slow
@pytest.mark.parametrize("kind", parameterization.PARAMETERIZATIONS.values())
def test_any_parameterization_climbs(release, kind):
    assert rises(samplers.generate(release, "cat", 2, num_steps=4, parameterization=kind))
    shown = samplers.visualize(release, [3], starts=2, num_steps=4, parameterization=kind)
    assert (shown.activation > shown.activation_start).all()


def test_lengths_grow_with_the_side(release):
    """At 16 pixels every length is half of what is asked."""
    samples = samplers.refine(release, IMAGES, "cat", radius=0.4, num_steps=9, step_size=0.2)
    assert 0.15 < moved(samples).max() <= 0.2 + 0.02


def test_inpainting_changes_the_hole_alone(release):
    samples = samplers.inpaint(release, IMAGES, HOLE, "dog", num_steps=4)
    known = np.broadcast_to(HOLE == 0, IMAGES.shape)
    assert_array_equal(samples.images[known], IMAGES[known])
    assert (samples.images[~known] != IMAGES[~known]).any()
    assert rises(samples)


def test_the_starts_of_holes_are_the_same_in_groups_that_fit_in_memory(release, monkeypatch):
    whole = samplers.inpaint(release, tiny.noise(5), labels="dog", num_steps=0)
    for size in (1, 2):
        components = 4 * release.class_gaussians.components.shape[1] * tiny.noise(1).size
        monkeypatch.setattr(samplers, "_COMPONENTS", size * components)
        grouped = samplers.inpaint(release, tiny.noise(5), labels="dog", num_steps=0)
        assert np.abs(np.int16(grouped.images) - whole.images).max() <= 1


def test_a_soft_mask_blends(release):
    soft = np.full((*tiny.SHAPE[:2], 1), 0.25, np.float32)
    samples = samplers.inpaint(release, IMAGES, soft, "dog", num_steps=4)
    values = IMAGES / 255
    assert (samples.images / 255 >= 0.75 * values - 1 / 255).all()
    assert (samples.images / 255 <= 0.75 * values + 0.25 + 1 / 255).all()


def test_the_class_to_inpaint_is_predicted_from_the_known_pixels_alone(release):
    other = np.where(HOLE == 1, 255 - IMAGES, IMAGES)
    one, two = (samplers.inpaint(release, each, HOLE, num_steps=0).labels for each in (IMAGES, other))
    assert_array_equal(one, two)
    default = samplers.inpaint(release, IMAGES, num_steps=0)
    assert_array_equal(default.images, samplers.inpaint(release, IMAGES, HOLE, num_steps=0).images)


@pytest.mark.parametrize("name", tiny.fast(tasks.FORWARDS, "block"))
def test_superresolution_lowered_again_is_the_given_image(release, name):
    forward = tasks.FORWARDS[name]
    smooth = np.asarray(jax.image.resize(np.float32(IMAGES[:, :4, :4]), (3, 8, 8, 3), "linear"))
    low = np.uint8(np.clip(smooth, 60, 190))
    samples = samplers.superresolve(release, low, "cat", factor=2, forward=forward, num_steps=3)
    assert samples.images.shape == (3, 16, 16, 3)
    assert samplers.consistency_errors(samples.images, low, 2, forward).max() < 1.5
    lowered = jax.vmap(lambda image: forward.lower(decode(image), 2))(samples.images)
    assert_allclose(lowered, low / 255, atol=1.5 / 255)


def test_translation_keeps_what_the_mask_keeps_and_stops_at_the_probability(release):
    samples = samplers.translate(release, IMAGES, "dog", HOLE, num_steps=6)
    kept = np.broadcast_to(HOLE == 0, IMAGES.shape)
    assert_array_equal(samples.images[kept], IMAGES[kept])
    assert rises(samples)
    near = samplers.translate(release, IMAGES, "dog", most=2 / 255, num_steps=6)
    assert np.abs(np.int16(near.images) - IMAGES).max() <= 2
    until = samplers.translate(release, IMAGES, "dog", until=0.4, num_steps=6)
    assert (moved(until) <= moved(samplers.translate(release, IMAGES, "dog", num_steps=6)) + 0.01).all()


def test_translation_depends_on_its_seed(release):
    """The shifts are drawn from the seed, which all images share."""
    one, same, other = (
        samplers.translate(release, IMAGES, "dog", seed=seed, num_steps=3).images for seed in (0, 0, 1)
    )
    assert_array_equal(one, same)
    assert (one != other).any()


def test_the_coarse_structure_is_kept(release):
    samples = samplers.translate(release, IMAGES // 2 + 64, "dog", coarse=0.0, num_steps=4, step_size=0.05)
    means = samples.images.mean(axis=(1, 2)) - (IMAGES // 2 + 64).mean(axis=(1, 2))
    assert np.abs(means).max() < 0.5
    assert (samples.images != samples.starts).any()


def test_strokes_are_painted_one_after_the_other(release):
    steps = []
    sky, ground = (np.zeros_like(HOLE) for _ in range(2))
    sky[:8], ground[12:] = 1, 1
    strokes = [Stroke(sky, 2), Stroke(ground, 650, objectives.activation)]
    samples = samplers.paint(
        release, IMAGES, strokes, num_steps=4, every=2, callback=lambda step, images: steps.append(step)
    )
    assert steps == [0, 2, 4, 6, 8]
    assert_array_equal(samples.images[:, 8:12], IMAGES[:, 8:12])
    first = samplers.paint(release, IMAGES, strokes[:1], num_steps=4)
    assert_array_equal(first.images[:, :8], samples.images[:, :8])
    assert (samples.images[:, 12:] != IMAGES[:, 12:]).any()
    assert_array_equal(samples.starts, IMAGES)


@pytest.mark.parametrize("name", tasks.KEPT)
def test_a_sketch_keeps_its_pixels_exactly(release, name):
    keep = tasks.KEPT[name]
    samples = samplers.sketch(release, IMAGES, "cat", keep=keep, num_steps=4)
    kept = np.broadcast_to(jax.vmap(lambda image: keep(decode(image)))(IMAGES), IMAGES.shape)
    assert_array_equal(samples.images[kept], IMAGES[kept])
    assert rises(samples)


def test_refinement_of_no_label_goes_where_the_classifier_already_leans(release):
    samples = samplers.refine(release, IMAGES)
    seen = embedding.predict(release.model, release.variables, IMAGES, 3)
    assert_array_equal(samples.labels, seen)
    assert rises(samples)


@pytest.mark.slow
def test_inversion_keeps_the_nearest_of_its_starts(release):
    found = samplers.invert(release, IMAGES, starts=3, num_steps=8)
    assert found.images.shape == IMAGES.shape and found.tried.shape == (3, 3)
    assert_allclose(found.distance, found.tried.min(axis=1))
    assert_array_equal(found.chosen, found.tried.argmin(axis=1))
    assert (found.distance < found.distance_start).all()
    fewer = samplers.invert(release, IMAGES[:2], starts=3, num_steps=8)
    assert np.abs(np.int16(fewer.images) - found.images[:2]).max() <= 1


def test_a_start_of_an_inversion_depends_on_class_seed_image_and_draw_alone(release):
    found = samplers.invert(release, IMAGES, "cat", starts=2, seed=1, num_steps=0)
    key = jax.random.key(1)
    for i, start in enumerate(found.starts):
        own = jax.random.fold_in(jax.random.fold_in(key, i), found.chosen[i])
        drawn = class_gaussians.sample(own, release.class_gaussians, 1, tiny.SHAPE)
        assert np.abs(start / 255 - np.clip(drawn, 0, 1)).max() <= 1 / 255
    assert_array_equal(found.labels, [1, 1, 1])
    predicted = embedding.predict(release.model, release.variables, IMAGES, 3)
    assert_array_equal(found.predicted_given, predicted)


@pytest.mark.slow
def test_one_image_to_go_to_serves_for_all(release):
    one = samplers.interpolate(release, IMAGES, IMAGES[:1], frames=2, num_steps=1)
    same = samplers.interpolate(release, IMAGES, IMAGES[[0, 0, 0]], frames=2, num_steps=1)
    assert_array_equal(one.images, same.images)
    with refused(match="2 images to go to from 3"):
        samplers.interpolate(release, IMAGES, IMAGES[:2])


def test_the_ends_of_an_interpolation_are_the_images_themselves(release):
    found = samplers.interpolate(release, IMAGES, IMAGES[::-1], frames=3, num_steps=4)
    frames = found.images.reshape(3, 3, *tiny.SHAPE)
    assert_array_equal(frames[:, 0], IMAGES)
    assert_array_equal(frames[:, 2], IMAGES[::-1])


def test_units_and_classes_are_visualized_from_the_same_draws(release):
    shown = samplers.visualize(release, [3, 9], ["cat"], starts=2, num_steps=3)
    assert shown.images.shape == (3, 2, *tiny.SHAPE)
    assert (shown.activation > shown.activation_start).all()
    alone = samplers.visualize(release, [9], starts=1, num_steps=3)
    assert np.abs(np.int16(alone.images[0, 0]) - shown.images[1, 0]).max() <= 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("horse", "no class 'horse'.*airplane, cat, dog"),
        (7, "no class '7'"),
        (np.array([0, 1]), r"labels must be integers \(3,\) in 0 ... 2"),
        (np.array([0, 1, 3]), r"labels must be integers \(3,\) in 0 ... 2"),
    ],
)
def test_labels_that_do_not_exist_are_refused(release, labels, message):
    with refused(match=message):
        samplers.refine(release, IMAGES, labels)


def test_classes_are_one_or_several_or_all(release):
    asked = ("dog", "1", 0, ["dog", "cat"], ("1", "2"), "all", ["all"])
    found = [samplers.labels_of(release, classes) for classes in asked]
    assert found == [[2], [1], [0], [2, 1], [1, 2], [0, 1, 2], [0, 1, 2]]
    for unknown in ((), ["cat", "emu"]):
        with refused(match="no class.*airplane, cat, dog"):
            samplers.labels_of(release, unknown)


def test_arrays_that_do_not_fit_are_refused(release):
    with refused(match=r"images must be uint8 \(n, h, w, c\)"):
        samplers.refine(release, IMAGES[0])
    with refused(match=r"images must be uint8 \(n, h, w, c\)"):
        samplers.refine(release, IMAGES / 255)
    with refused(match="a mask of shape"):
        samplers.inpaint(release, IMAGES, HOLE[:8])
    for masks in (255 * HOLE, -HOLE, np.nan * HOLE):
        with refused(match=r"a mask has values from .*: give values in \[0, 1\]"):
            samplers.inpaint(release, IMAGES, masks)
    with refused(match="no strokes"):
        samplers.paint(release, IMAGES, [])
    with refused(match="nothing to visualize"):
        samplers.visualize(release)
    with refused(match="no class given"):
        samplers.generate(release, [])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["radius", "step_size", "temperature", "momentum"])
def test_numbers_that_are_not_finite_are_refused(release, name, value):
    with refused(match=f"{name} is"):
        samplers.generate(release, "cat", 1, num_steps=1, **{name: value})


@pytest.mark.parametrize("name", ["most", "perceptual_weight", "coarse", "until"])
def test_numbers_of_a_translation_that_are_not_finite_are_refused(release, name):
    with refused(match=name):
        samplers.translate(release, IMAGES, "cat", num_steps=1, **{name: np.nan})


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 255.0])
def test_masks_outside_0_and_1_are_refused(release, value):
    mask = HOLE.copy()
    mask[5, 5] = value
    for sampler in (samplers.inpaint, samplers.translate):
        with refused(match="a mask has values from"):
            sampler(release, IMAGES, masks=mask, labels="cat")


def test_a_start_that_is_not_finite_is_no_black_image(release):
    gaussians = release.class_gaussians
    broken = release._replace(class_gaussians=gaussians._replace(mean=gaussians.mean * np.nan))
    with refused(match="NaN or infinity after 0 steps"):
        samplers.generate(broken, "cat", 1, num_steps=1)


GRAY = np.concatenate([IMAGES[:1, :, :, :1].repeat(3, axis=-1), IMAGES[1:]])
STAYING = {
    "inpaint": lambda release, **run: samplers.inpaint(release, GRAY, HOLE, "dog", **run),
    "superresolve": lambda release, **run: samplers.superresolve(release, GRAY[:, ::4, ::4], "dog", **run),
    "translate": lambda release, **run: samplers.translate(release, GRAY, "dog", **run),
    "paint": lambda release, **run: samplers.paint(release, GRAY, [Stroke(HOLE, 2)], **run),
    "refine": lambda release, **run: samplers.refine(release, GRAY, "dog", **run),
}


@pytest.mark.parametrize("task", STAYING)
def test_images_that_shall_stay_gray_do_and_rise_and_the_others_are_as_ever(release, task):
    make = STAYING[task]
    free = make(release, num_steps=4)
    gray = make(release, num_steps=4, gray=np.array([True, False, False]))
    for images in (gray.images, gray.starts):
        assert_array_equal(images[0], images[0, :, :, :1].repeat(3, axis=-1))
    assert (free.images[0] != free.images[0, :, :, :1]).any()
    assert_array_equal(gray.images[1:], free.images[1:])
    assert moved(gray)[0] > 0 and rises(gray)
    if task == "inpaint":
        assert_array_equal((gray.images * (1 - HOLE))[0], (GRAY * (1 - HOLE))[0])
