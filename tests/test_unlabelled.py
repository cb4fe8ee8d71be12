"""The door to images without labels: what it reads, in which order, and what it refuses in one line."""

from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.data import image_files as photos
from rsynth_jax.data import unlabelled

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 8, 10, 3), np.uint8)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(image).save(path)


def all_of(spec, *args, **options) -> np.ndarray:
    images = unlabelled.load(str(spec), *args, **options)
    return np.stack([images[i] for i in range(len(images))])


def test_a_flat_folder_is_its_files_by_name(tmp_path):
    for i, image in enumerate(IMAGES):
        write(tmp_path / f"{i}.png", image)
    (tmp_path / "notes.txt").touch()
    assert_array_equal(all_of(tmp_path), IMAGES)
    assert_array_equal(all_of(f"folder:{tmp_path}"), IMAGES)


def test_a_folder_of_folders_gives_one_of_each_in_turn(tmp_path):
    for i, image in enumerate(IMAGES):
        write(tmp_path / ("cat" if i < 3 else "dog") / f"{i}.png", image)
    assert_array_equal(all_of(tmp_path), IMAGES[[0, 3, 1, 4, 2, 5]])


def test_a_folder_s_own_files_and_its_folders_are_both_read(tmp_path):
    write(tmp_path / "0.png", IMAGES[0])
    write(tmp_path / "cat" / "1.png", IMAGES[1])
    assert_array_equal(all_of(tmp_path), IMAGES[:2])


def test_a_split_of_a_folder_is_a_folder_in_it(tmp_path):
    write(tmp_path / "train" / "0.png", IMAGES[0])
    write(tmp_path / "test" / "cat" / "1.png", IMAGES[1])
    assert_array_equal(all_of(tmp_path, "test"), IMAGES[1:2])


def test_an_npz_needs_no_labels(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, test_images=IMAGES[:2])
    assert_array_equal(all_of(tmp_path / "a.npz"), IMAGES)
    assert_array_equal(all_of(f"npz:{tmp_path / 'a.npz'}", "test"), IMAGES[:2])
    assert len(all_of(tmp_path / "a.npz", "all[:50%]")) == 3


def test_image_size_makes_squares_of_any(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES[..., :1])
    write(tmp_path / "f" / "0.png", IMAGES[0])
    assert all_of(tmp_path / "a.npz", image_size=4).shape == (6, 4, 4, 3)
    assert all_of(tmp_path / "f", image_size=4).shape == (1, 4, 4, 3)


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path):
    write(tmp_path / "0.png", IMAGES[0])
    (tmp_path / "1.png").write_bytes(b"no image")
    images = unlabelled.load(str(tmp_path))
    assert_array_equal(images[0], IMAGES[0])
    with refused(match=r"cannot read the image .*1\.png"):
        images[1]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nowhere", "no folder .*nowhere"),
        ("nowhere.npz", r"no file .*nowhere\.npz"),
        ("folder:", "cannot read 'folder:'"),
        ("empty", "empty has no images"),
        ("text.npz", "cannot read .*text.npz"),
        ("floats.npz", "images must be uint8"),
        ("other.npz", "no array images"),
        ("none.npz", "none.npz has no images"),
    ],
)
def test_what_holds_no_images_is_refused(tmp_path, monkeypatch, spec, said):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("text.npz").write_text("no arrays")
    np.savez("floats.npz", images=np.zeros((2, 4, 4, 3)))
    np.savez("other.npz", pictures=IMAGES)
    np.savez("none.npz", images=IMAGES[:0])
    with refused(match=said):
        unlabelled.load(spec)


# ---- one image, and labels


@pytest.mark.parametrize("name", ["photo.png", "photo.BMP"])
def test_an_image_file_is_a_set_of_one(tmp_path, name):
    write(tmp_path / name, IMAGES[0])
    assert_array_equal(all_of(tmp_path / name), IMAGES[:1])
    assert all_of(tmp_path / name, image_size=4).shape == (1, 4, 4, 3)


def test_an_image_file_that_is_missing_or_damaged_or_split_is_refused(tmp_path):
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    for name in ("missing.png", "damaged.png"):
        with refused(match=f"cannot read the image .*{name}"):
            unlabelled.load(str(tmp_path / name))
    with refused(match="one image.*'train'"):
        unlabelled.load(str(tmp_path / "damaged.png"), "train")


def test_labels_go_by_name_where_there_are_names(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=IMAGES, labels=[0, 1, 1, 0, 1, 0], class_names=["dog", "cat"], test_labels=[1, 1])
    assert unlabelled.labels(str(path), ("bird", "cat", "dog")).tolist() == [2, 1, 1, 2, 1, 2]
    assert unlabelled.labels(f"npz:{path}", ("bird", "cat", "dog"), "test").tolist() == [1, 1]
    with refused(match="images of dog, cat: the classes are bird"):
        unlabelled.labels(str(path), ("bird",))


def test_labels_without_names_are_numbers(tmp_path):
    np.savez(tmp_path / "a.npz", labels=[0, 2, 1])
    assert unlabelled.labels(str(tmp_path / "a.npz"), ("bird", "cat", "dog")).tolist() == [0, 2, 1]


def test_labels_keep_to_their_images_in_a_share_of_them(tmp_path):
    marked = np.tile(np.arange(20, dtype=np.uint8)[:, None, None, None], (1, 4, 4, 3))
    np.savez(tmp_path / "a.npz", images=marked, labels=np.arange(20))
    spec, names = str(tmp_path / "a.npz"), tuple(map(str, range(20)))
    labels = unlabelled.labels(spec, names, "all[:30%]")
    assert_array_equal(labels, all_of(spec, "all[:30%]")[:, 0, 0, 0])


def test_what_has_no_labels_gives_none(tmp_path):
    write(tmp_path / "0.png", IMAGES[0])
    np.savez(tmp_path / "a.npz", images=IMAGES)
    for spec in (tmp_path, tmp_path / "0.png", tmp_path / "a.npz", "tfds:nothing"):
        assert unlabelled.labels(str(spec), ("cat",)) is None


@pytest.mark.parametrize("labels", [[0.0, 1.0], [0, 3], [-1, 0], [[0, 1]]])
def test_labels_that_are_none_are_refused(tmp_path, labels):
    np.savez(tmp_path / "a.npz", images=IMAGES[:2], labels=labels)
    with refused(match=r"labels must be integers \(n,\) in 0 ... 2"):
        unlabelled.labels(str(tmp_path / "a.npz"), ("bird", "cat", "dog"))


@pytest.mark.parametrize(("num", "expected"), [(None, 6), (4, 4), (10, 6)])
def test_images_are_decoded_up_to_a_number_and_at_the_classifier_s_size(tmp_path, num, expected):
    np.savez(tmp_path / "a.npz", images=IMAGES)
    with tiny.network():
        release = tiny.release(tmp_path / "c.safetensors", tuple("abc"), "linear")
        found = unlabelled.decoded(release, str(tmp_path / "a.npz"), num=num).images
    side = tiny.SHAPE[0]
    assert_array_equal(found, [photos.square_bytes(image, side) for image in IMAGES[:expected]])


def test_images_that_the_classifier_does_not_take_are_refused(tmp_path):
    write(tmp_path / "0.png", IMAGES[0])
    with tiny.network():
        release = tiny.release(tmp_path / "c.safetensors", tuple("abc"), "linear")
        with refused(match="takes no images of 24 x 24 x 3"):
            unlabelled.decoded(release, str(tmp_path), image_size=24)
