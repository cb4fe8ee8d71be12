"""Data sets, with labels and without: order, labels, names, and refusals in one line."""

import functools
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import stores
import tensorflow_datasets as tfds
import tiny
from array_record.python.array_record_module import ArrayRecordWriter
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as Pillow
from tensorflow_datasets.proto import tf_example_pb2
from tiny import refused

from rsynth_jax.data import image_files, loader, masks, sources, tfrecord
from rsynth_jax.data.sources import Dataset, labelled, labels_for, load, read_all, readable
from rsynth_jax.storage import class_names, paths

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 8, 10, 3), np.uint8)
TFDS = Path(__file__).parents[2] / "../shared/data/tfds"
needs_tfds = pytest.mark.skipif(not TFDS.is_dir(), reason=f"no real data in {TFDS}")


def noise(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def decoded(spec: str, *args, memory: int = loader.MEMORY, **options) -> Dataset:
    """A data set as training opens it."""
    return loader.cached(load(spec, *args, **options), memory)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(image).save(path)


def numbers(dataset: Dataset) -> list[int]:
    return dataset.decoded[:, 0, 0, 0].tolist()


def npz(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


# ---- folders


def test_labels_follow_the_sorted_names_of_the_folders(photos):
    dataset = decoded(f"folder:{photos}", "train")
    assert dataset.class_names == ("axolotl", "cat")
    assert len(dataset) == 60 and dataset.decoded.shape == (60, 8, 8, 3)
    assert dataset.decoded.dtype == np.uint8 and dataset.labels.dtype == np.int32
    assert_array_equal(dataset.labels, [int(number < 40) for number in numbers(dataset)])


def test_an_image_of_a_folder_is_the_file_s_own_pixels(tmp_path):
    image = noise(6, 6, 3)
    write(tmp_path / "cat" / "one.png", image)
    assert_array_equal(decoded(f"folder:{tmp_path}", "all").decoded[0], image)


def test_a_jpeg_is_read(tmp_path):
    write(tmp_path / "cat" / "one.JPG", np.full((8, 8, 3), 100, np.uint8))
    assert_allclose(decoded(f"folder:{tmp_path}", "all").images[0], 100, atol=2)


def test_image_size_crops_the_centre_and_resizes_it(tmp_path):
    image = np.zeros((8, 16, 3), np.uint8)
    image[:, 4:8], image[:, 8:12] = 50, 200  # the central square; the rest is black
    write(tmp_path / "cat" / "wide.png", image)
    write(tmp_path / "cat" / "tall.png", image.transpose(1, 0, 2))
    tall, wide = decoded(f"folder:{tmp_path}", "all", image_size=8).images
    assert_array_equal(wide, image[:, 4:12])
    assert_array_equal(tall, image[:, 4:12].transpose(1, 0, 2))
    halved = decoded(f"folder:{tmp_path}", "all", image_size=4).images[1]
    assert halved.shape == (4, 4, 3)
    assert_allclose(halved[:, [0, 3]], [[[50] * 3, [200] * 3]] * 4, atol=15)  # Lanczos rings


def test_the_shares_of_a_split_are_disjoint_and_together_all_of_it(photos):
    load = functools.partial(decoded, f"folder:{photos}")
    first, rest = numbers(load("train[:75%]")), numbers(load("train[75%:]"))
    assert len(first) == 45 and len(rest) == 15
    assert sorted(first + rest) == sorted(numbers(load("train"))) == list(range(60))


def test_a_share_of_a_folder_holds_that_share_of_every_class(photos):
    labels = decoded(f"folder:{photos}", "train[:25%]").labels
    assert_array_equal(np.bincount(labels), [5, 10])


def test_split_all_is_the_folder_itself(photos):
    assert numbers(decoded(f"folder:{photos / 'train'}", "all")) == numbers(
        decoded(f"folder:{photos}", "train")
    )


def test_a_missing_folder_is_refused(tmp_path):
    with refused(match="no folder .*nowhere/train.*, or a name as cifar10"):
        decoded(f"folder:{tmp_path / 'nowhere'}", "train")


def test_a_missing_split_is_refused(photos):
    with refused(match="no folder .*photos/test"):
        decoded(f"folder:{photos}", "test")


def test_a_folder_without_splits_is_divided_into_nine_tenths_of_each_class_and_the_rest(photos):
    folder = f"folder:{photos / 'train'}"
    train, test = decoded(folder, "train"), decoded(folder, "test")
    assert np.bincount(train.labels).tolist() == [18, 36] and train.class_names == ("axolotl", "cat")
    assert sorted(numbers(train) + numbers(test)) == list(range(60))
    halves = [numbers(decoded(folder, part)) for part in ("train[:50%]", "train[50%:]")]
    assert sorted(halves[0] + halves[1]) == sorted(numbers(train)) and len(halves[0]) == 27
    with refused(match="no folder .*/train/validation"):
        decoded(folder, "validation")


@pytest.mark.parametrize("inside", ["", "cat", "cat/notes.txt"])
def test_a_folder_without_images_is_refused(tmp_path, inside):
    path = tmp_path / "photos" / inside
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch() if path.suffix else path.mkdir(exist_ok=True)
    with refused(match=r"photos has no images in split 'all': image files end in \.bmp"):
        decoded(f"folder:{tmp_path / 'photos'}", "all")


def test_an_empty_share_is_refused(photos):
    with refused(match="no images"):
        decoded(f"folder:{photos}", "train[:0%]")


@pytest.mark.parametrize("content", [b"", b"no picture", None], ids=["empty", "foreign", "truncated"])
def test_a_corrupt_image_is_refused_by_name(photos, content):
    file = photos / "train/cat/7.png"
    file.write_bytes(file.read_bytes()[:120] if content is None else content)
    with refused(match=r"cat/7\.png"):
        decoded(f"folder:{photos}", "train")


def changed_bytes(path: Path) -> Iterator[int]:
    """The places of a file, each while its byte is zero, or every bit of it another one."""
    content = path.read_bytes()
    for place, byte in enumerate(content):
        for other in {0, byte ^ 255} - {byte}:
            path.write_bytes(content[:place] + bytes([other]) + content[place + 1 :])
            yield place


def test_a_png_with_any_byte_changed_is_read_or_refused_by_name(tmp_path):
    file, refusals = tmp_path / "cat" / "one.png", 0
    write(file, np.full((8, 8, 3), 7, np.uint8))
    for _ in changed_bytes(file):
        try:
            read = decoded(f"folder:{tmp_path}", "all", image_size=8)
            assert read.decoded.shape == (1, 8, 8, 3)
        except ValueError as error:
            refusals += "one.png" in str(error) and "\n" not in str(error)
    assert refusals > 30


@pytest.mark.parametrize("spec", ["folder:", "npz:", "tfds:", ""])
def test_a_spec_without_a_place_is_refused(spec):
    with refused(match=f"cannot read '{spec}': write an image, a folder, an .npz, or tfds:NAME"):
        load(spec, "train")


@pytest.mark.parametrize("spec", ["photos", "photos:here", ":"])
def test_a_spec_of_an_unknown_kind_is_a_folder(tmp_path, monkeypatch, spec):
    monkeypatch.chdir(tmp_path)
    with refused(match=f"no folder {spec}/train"):
        load(spec, "train")
    write(tmp_path / spec / "train/cat/1.png", noise(4, 4, 3))
    assert decoded(spec, "train").class_names == ("cat",)


@pytest.mark.parametrize(
    "split", ["", "train[", "train[:]]", "train[:90]", "train[0.5:]", "train[-5%:]", "a/b", ".."]
)
def test_a_split_that_cannot_be_read_is_refused(photos, split):
    with refused(match="cannot read the split"):
        decoded(f"folder:{photos}", split)


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "@eaDir", "__MACOSX", ".thumbnails"])
def test_hidden_files_and_thumbnails_are_neither_classes_nor_images(tmp_path, name):
    for i, place in enumerate(("cat", "dog", "")):
        write(tmp_path / place / "1.png", IMAGES[i])
        write(tmp_path / place / name / "1.png", noise(4, 4, 3))
        (tmp_path / place / "._1.png").write_bytes(b"resource fork")
        (tmp_path / place / "Thumbs.db").touch()
    dataset = load(str(tmp_path))
    assert dataset.class_names == ("cat", "dog") and dataset.names == ("1", "cat-1", "dog-1")
    assert read_all(dataset).skipped == ()
    assert [example.label for example in dataset] == [None, 0, 1]


def test_without_tfds_one_line_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with refused(match=r'^tensorflow-datasets is not installed: pip install "rsynth-jax\[tfds\]"$'):
        load("tfds:cifar10")


# ---- CycleGAN's layout


@pytest.fixture
def pairs(tmp_path) -> Path:
    """Three horses and one zebra to train on, one of each to test; the first pixel's red counts them."""
    files = ("trainA/0", "trainA/1", "trainA/2", "trainB/3", "testA/4", "testB/5")
    for number, file in enumerate(files):
        write(tmp_path / "horse2zebra" / f"{file}.png", np.full((4, 4, 3), number, np.uint8))
    write(tmp_path / "horse2zebra/.cache/1.png", noise(4, 4, 3))
    return tmp_path / "horse2zebra"


@pytest.mark.parametrize(
    ("split", "images", "labels"),
    [
        ("train", [0, 3, 1, 2], [0, 1, 0, 0]),
        ("test", [4, 5], [0, 1]),
        ("all", [4, 5, 0, 3, 1, 2], [0, 1, 0, 1, 0, 0]),
    ],
)
def test_cyclegan_s_layout_is_two_classes(pairs, split, images, labels):
    dataset = decoded(f"folder:{pairs}", split)
    assert dataset.class_names == ("horse", "zebra")
    assert numbers(dataset) == images and dataset.labels.tolist() == labels


@pytest.mark.parametrize(
    ("name", "names"), [("summer2winter_yosemite", "summer winter"), ("photos", "A B"), ("2", "A B")]
)
def test_the_classes_of_cyclegan_s_layout_are_called_as_the_folder(pairs, name, names):
    pairs = pairs.rename(pairs.with_name(name))
    assert load(str(pairs), "train[:100%]").class_names == tuple(names.split())
    assert labelled(load(str(pairs), "test"), ("pony", "okapi")).class_names == ("pony", "okapi")


def test_a_half_of_cyclegan_s_layout_alone_and_a_plain_split_keep_what_they_mean(pairs):
    assert load(str(pairs), "trainA").class_names is None
    write(pairs / "train/cat/1.png", noise(4, 4, 3))
    assert load(str(pairs), "train").class_names == ("cat",)
    assert load(str(pairs)).class_names == ("testA", "testB", "train", "trainA", "trainB")
    with refused(match="no folder .*horse2zebra/val"):
        load(str(pairs), "val")


@pytest.mark.parametrize("names", [["cat"], ["cat", "cat"], ["cat", "dog", "cow"]])
def test_other_names_than_one_for_each_class_are_refused(photos, names):
    with refused(match=r"photos, split 'train', has 2 classes: give as many names, each once, not cat"):
        labelled(load(str(photos), "train"), names)


def test_names_are_given_to_numbered_classes_of_an_npz(tmp_path):
    dataset = load(str(npz(tmp_path / "d.npz", images=IMAGES, labels=np.arange(6) % 2)))
    assert labelled(dataset, ["cat", "dog"]).class_names == ("cat", "dog")


# ---- .npz files


def test_an_npz_has_its_splits_by_prefix_and_its_names(tmp_path):
    images, labels = noise(6, 8, 8, 3), np.array([1, 0, 1, 1, 0, 0])
    path = npz(
        tmp_path / "d.npz",
        train_images=images,
        train_labels=labels,
        images=images[:2],
        labels=labels[:2],
        class_names=np.array(["cat", "dog"]),
    )
    train, everything = decoded(f"npz:{path}", "train"), decoded(f"npz:{path}", "all")
    assert train.class_names == everything.class_names == ("cat", "dog")
    assert_array_equal(train.images, images)
    assert_array_equal(train.labels, labels)
    assert_array_equal(everything.images, images[:2])


def test_an_npz_without_names_numbers_its_classes(tmp_path):
    path = npz(tmp_path / "d.npz", images=noise(3, 8, 8, 3), labels=np.array([0, 2, 1]))
    assert decoded(f"npz:{path}", "all").class_names == ("0", "1", "2")


def test_the_shares_of_an_npz_are_disjoint_and_together_all_of_it(tmp_path):
    images = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None, None], (40, 2, 2, 3))
    path = npz(tmp_path / "d.npz", train_images=images, train_labels=np.zeros(40, int))
    first, rest = (numbers(decoded(f"npz:{path}", f"train[{share}]")) for share in (":75%", "75%:"))
    assert len(first) == 30 and sorted(first + rest) == list(range(40))


@pytest.mark.parametrize("size", [0, -8])
def test_a_side_of_no_pixels_is_refused(size):
    with refused(match=f"image_size is {size}: give a number above 0"):
        decoded("tfds:cifar10", "test", image_size=size)


def test_image_size_holds_for_an_npz_too(tmp_path):
    path = npz(tmp_path / "d.npz", images=noise(3, 8, 12, 3), labels=np.zeros(3, int))
    assert decoded(f"npz:{path}", "all", image_size=4).decoded.shape == (3, 4, 4, 3)


def test_an_empty_share_of_an_npz_is_refused(tmp_path):
    path = npz(tmp_path / "d.npz", images=noise(3, 8, 8, 3), labels=np.zeros(3, int))
    with refused(match="no images"):
        decoded(f"npz:{path}", "all[:0%]")


def test_a_missing_npz_is_refused(tmp_path):
    with refused(match="no file .*nowhere.npz"):
        decoded(f"npz:{tmp_path / 'nowhere.npz'}", "train")


@pytest.mark.parametrize("part", [0.0, 0.5, 0.95])
def test_a_truncated_npz_is_refused_by_name(tmp_path, part):
    path = npz(tmp_path / "d.npz", images=noise(3, 8, 8, 3), labels=np.zeros(3, int))
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with refused(match=r"d\.npz"):
        decoded(f"npz:{path}", "all")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_with_any_byte_changed_is_read_or_refused_by_name(tmp_path, save):
    path, refusals = tmp_path / "d.npz", 0
    save(path, images=noise(1, 2, 2, 3), labels=np.zeros(1, int))
    for _ in changed_bytes(path):
        try:
            assert len(decoded(f"npz:{path}", "all")) == 1
        except ValueError as error:
            refusals += "d.npz" in str(error) and "\n" not in str(error)
    assert refusals > 100


def test_a_single_array_in_place_of_an_npz_is_refused_by_name(tmp_path):
    np.save(tmp_path / "d.npy", noise(3, 8, 8, 3))
    with refused(match=r"d\.npy"):
        decoded(f"npz:{tmp_path / 'd.npy'}", "all")


@pytest.mark.parametrize(
    ("missing", "message"), [("images", "no array '?train_images"), ("labels", "no labels: .* train_labels")]
)
def test_a_missing_array_is_named(tmp_path, missing, message):
    arrays = {"train_images": noise(3, 8, 8, 3), "train_labels": np.zeros(3, int), "class_names": ["cat"]}
    del arrays[f"train_{missing}"]
    with refused(match=message):
        decoded(f"npz:{npz(tmp_path / 'd.npz', **arrays)}", "train")


def test_a_folder_of_images_has_no_labels_to_train_on(tmp_path):
    write(tmp_path / "1.png", noise(4, 4, 3))
    (tmp_path / "cat").mkdir()
    dataset = load(str(tmp_path))
    assert dataset.class_names is None and dataset[0].label is None
    for unlabelled in (dataset, load(str(tmp_path / "1.png"))):
        with refused(match="has no labels: give a folder with one folder a class"):
            labelled(unlabelled)


def test_training_leaves_out_the_images_beside_the_class_folders(tmp_path):
    write(tmp_path / "0.png", noise(4, 4, 3))
    write(tmp_path / "cat/1.png", noise(4, 4, 3))
    everything = load(str(tmp_path))
    assert [example.label for example in everything] == [None, 0] and everything.names == ("0", "cat-1")
    assert labelled(everything).names == ("cat-1",)
    with refused(match="has no labels"):
        labelled(everything.first(1))


def test_the_classes_of_a_part_of_an_npz_without_names_are_those_of_the_whole(tmp_path):
    path = npz(tmp_path / "d.npz", train_images=noise(40, 2, 2, 3), train_labels=np.arange(40))
    for part in ("train[:5%]", "train[5%:]"):
        assert labelled(load(f"npz:{path}", part)).class_names == tuple(map(str, range(40)))


@pytest.mark.parametrize(
    "images",
    [noise(3, 8, 8, 3).astype(np.float32), noise(3, 8, 8), noise(3, 8, 8, 4)],
    ids=["floats", "no channels", "four channels"],
)
def test_images_of_a_wrong_type_or_shape_are_refused(tmp_path, images):
    path = npz(tmp_path / "d.npz", images=images, labels=np.zeros(3, int))
    with refused(match=r"images must be uint8 \(n, h, w, c\)"):
        decoded(f"npz:{path}", "all")


@pytest.mark.parametrize("channels", [1, 3])
def test_images_with_their_channels_first_are_refused_as_such(tmp_path, channels):
    path = npz(tmp_path / "d.npz", images=noise(2, channels, 8, 8))
    with refused(match=rf"not uint8 \(2, {channels}, 8, 8\), channels first: transpose by \(0, 2, 3, 1\)"):
        load(str(path))


def test_a_folder_without_class_folders_can_be_one_class_and_one_with_them_stays(tmp_path, photos):
    for i in range(3):
        write(tmp_path / f"alone/{i}.png", IMAGES[i])
    one = labelled(sources.with_one_class(load(f"folder:{tmp_path / 'alone'}")))
    assert one.class_names == ("image",) and [one[i].label for i in range(3)] == [0, 0, 0]
    named = labelled(sources.with_one_class(load(f"folder:{tmp_path / 'alone'}")), ["facade"])
    assert named.class_names == ("facade",) and named[2].label == 0
    several = load(f"folder:{photos}", "train")
    assert sources.with_one_class(several) is several


def test_labels_that_start_at_one_are_refused_as_such(tmp_path):
    path = npz(tmp_path / "d.npz", images=IMAGES, labels=np.arange(6) % 2 + 1, class_names=["a", "b"])
    for ask in (labelled, lambda dataset: labels_for(dataset, ("a", "b"))):
        with refused(match=r"in 0 \.\.\. 1; these start at 1: subtract 1"):
            ask(load(str(path)))


def test_images_and_labels_of_different_numbers_are_refused(tmp_path):
    path = npz(tmp_path / "d.npz", images=noise(2, 8, 8, 3), labels=np.zeros(3, int))
    with refused(match=r"d\.npz has 3 labels for 2 images"):
        load(str(path))


@pytest.mark.parametrize(
    "labels",
    [[0, 1, 2], [0, -1, 1], [0.0, 1.0, 1.0], ["0", "1", "1"]],
    ids=["more than there are names", "negative", "floats", "words"],
)
def test_labels_out_of_range_are_refused(tmp_path, labels):
    path = npz(tmp_path / "d.npz", images=noise(3, 8, 8, 3), labels=np.array(labels), class_names=["a", "b"])
    with refused(match=r"labels must be integers \(n,\) in 0 \.\.\. 1"):
        decoded(f"npz:{path}", "all")
    assert len(read_all(load(f"npz:{path}")).images) == 3  # they do no harm where nobody asks for them


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["images", "labels", "class_names"])
def test_a_pickled_array_is_refused_and_never_unpickled(tmp_path, name):
    arrays = {"images": noise(1, 8, 8, 3), "labels": np.zeros(1, int), "class_names": np.array(["cat"])}
    bomb = np.array([Bomb(tmp_path / "exploded")], dtype=object)
    path = npz(tmp_path / "d.npz", **arrays | {name: bomb})
    with refused(match=r"d\.npz as an \.npz of plain arrays"):
        decoded(f"npz:{path}", "all")
    assert not (tmp_path / "exploded").exists()
    np.load(path, allow_pickle=True)[name]
    assert (tmp_path / "exploded").exists()  # the bomb was a live one


# ---- labels are optional


def all_of(spec, *args, **options) -> np.ndarray:
    return np.stack([image for image, _ in load(str(spec), *args, **options)])


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
    images = load(str(tmp_path))
    assert_array_equal(images[0].image, IMAGES[0])
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
        load(spec)


@pytest.mark.parametrize("name", ["photo.png", "photo.BMP"])
def test_an_image_file_is_a_set_of_one(tmp_path, name):
    write(tmp_path / name, IMAGES[0])
    assert_array_equal(all_of(tmp_path / name), IMAGES[:1])
    assert all_of(tmp_path / name, image_size=4).shape == (1, 4, 4, 3)


def test_an_image_file_that_is_missing_or_damaged_or_split_is_refused(tmp_path):
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    for name in ("missing.png", "damaged.png"):
        with refused(match=f"cannot read the image .*{name}"):
            load(str(tmp_path / name))
    with refused(match="one image.*'train'"):
        load(str(tmp_path / "damaged.png"), "train")


def test_labels_go_by_name_where_there_are_names(tmp_path):
    path = tmp_path / "a.npz"
    arrays = {"images": IMAGES, "test_images": IMAGES[:2], "test_labels": [1, 1]}
    np.savez(path, labels=[0, 1, 1, 0, 1, 0], class_names=["dog", "cat"], **arrays)
    assert labels_for(load(str(path)), ("bird", "cat", "dog")).tolist() == [2, 1, 1, 2, 1, 2]
    assert labels_for(load(f"npz:{path}", "test"), ("bird", "cat", "dog")).tolist() == [1, 1]
    with refused(match="images of dog, cat: the classes are bird"):
        labels_for(load(str(path)), ("bird",))


def test_labels_without_names_are_numbers(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES[:3], labels=[0, 2, 1])
    dataset = load(str(tmp_path / "a.npz"))
    assert labels_for(dataset, ("bird", "cat", "dog")).tolist() == [0, 2, 1]
    assert labels_for(dataset.first(2), ("bird", "cat", "dog")).tolist() == [0, 2]


def test_labels_keep_to_their_images_in_a_share_of_them(tmp_path):
    marked = np.tile(np.arange(20, dtype=np.uint8)[:, None, None, None], (1, 4, 4, 3))
    np.savez(tmp_path / "a.npz", images=marked, labels=np.arange(20))
    spec, names = str(tmp_path / "a.npz"), tuple(map(str, range(20)))
    labels = labels_for(load(spec, "all[:30%]"), names)
    assert_array_equal(labels, all_of(spec, "all[:30%]")[:, 0, 0, 0])


def test_what_has_no_labels_gives_none(tmp_path):
    write(tmp_path / "0.png", IMAGES[0])
    np.savez(tmp_path / "a.npz", images=IMAGES)
    write(tmp_path / "classes" / "cat" / "0.png", IMAGES[0])
    for name in ("", "0.png", "a.npz"):
        assert labels_for(load(str(tmp_path / name)), ("cat", "classes")) is None
    assert labels_for(load(str(tmp_path / "classes")), ("bird", "dog")) is None  # another classifier's


def test_class_folders_give_the_labels(tmp_path):
    for i, name in enumerate(("dog", "cat", "dog")):
        write(tmp_path / name / f"{i}.png", IMAGES[i])
    dataset = load(str(tmp_path))
    assert dataset.names == ("cat-1", "dog-0", "dog-2")
    assert labels_for(dataset, ("bird", "cat", "dog")).tolist() == [1, 2, 2]
    assert labels_for(dataset.take(np.array([1])), ("dog", "cat")).tolist() == [0]
    with refused(match="has images of cat: the classes are dog, or give --class"):
        labels_for(dataset, ("dog",))
    write(tmp_path / "3.png", IMAGES[3])
    assert labels_for(load(str(tmp_path)), ("cat", "dog")) is None


@pytest.mark.parametrize("labels", [[0.0, 1.0], [0, 3], [-1, 0], [[0, 1]]])
def test_labels_that_are_none_are_refused(tmp_path, labels):
    np.savez(tmp_path / "a.npz", images=IMAGES[:2], labels=labels)
    with refused(match=r"labels must be integers \(n,\) in 0 ... 2"):
        labels_for(load(str(tmp_path / "a.npz")), ("bird", "cat", "dog"))


@pytest.mark.parametrize(("num", "expected"), [(None, 6), (4, 4), (10, 6)])
def test_images_are_read_up_to_a_number_and_at_a_size(tmp_path, num, expected):
    np.savez(tmp_path / "a.npz", images=IMAGES)
    found = read_all(load(str(tmp_path / "a.npz"), image_size=4).first(num))
    assert_array_equal(found.images, [image_files.square_bytes(image, 4) for image in IMAGES[:expected]])
    assert found.names == tuple(f"{i:04d}" for i in range(expected)) and found.skipped == ()


def test_a_file_that_cannot_be_read_is_left_out(tmp_path):
    for i in (0, 2):
        write(tmp_path / f"{i}.png", IMAGES[i])
    (tmp_path / "1.png").write_bytes(b"no image")
    found = read_all(load(str(tmp_path)))
    assert_array_equal(found.images, IMAGES[[0, 2]])
    assert found.names == ("0", "2")
    assert len(found.skipped) == 1 and "1.png" in found.skipped[0]
    with refused(match=r"cannot read the image .*1\.png"):
        read_all(load(str(tmp_path)).take(np.array([1])))


@pytest.mark.parametrize("kept", [0, 1, 6])
def test_what_can_be_read_is_read_once_as_far_as_memory_goes(tmp_path, monkeypatch, kept):
    for i, image in enumerate(IMAGES):
        write(tmp_path / f"{i}.png", image)
    (tmp_path / "2a.png").write_bytes(b"no image")
    room = kept * IMAGES[0].nbytes
    dataset, skipped = readable(load(str(tmp_path)), lambda numbers: numbers, room)
    assert len(skipped) == 1 and dataset.names == tuple(map(str, range(6)))
    opened = []
    read_image = image_files.read_image
    monkeypatch.setattr(image_files, "read_image", lambda *given: opened.append(given) or read_image(*given))
    assert_array_equal(list(dataset.images), IMAGES)
    assert len(opened) == 6 - kept


def test_images_keep_their_numbers_where_others_are_left_out(tmp_path):
    for name in ("0.png", "1.png"):
        write(tmp_path / name, IMAGES[0])
    (tmp_path / "0.bmp").write_bytes(b"no image")
    assert load(str(tmp_path)).names == ("0-0", "1-0", "2-1")
    assert readable(load(str(tmp_path))).dataset.names == ("1-0", "2-1")


@pytest.mark.parametrize(
    "read", [loader.in_memory, lambda data: list(loader.batches(data, 2, seed=0, epoch=0))]
)
def test_labelled_data_with_a_file_that_cannot_be_read_are_refused_by_its_name(tmp_path, read):
    for i in range(4):
        write(tmp_path / "cat" / f"{i}.png", IMAGES[i])
    (tmp_path / "cat" / "2.png").write_bytes(b"no image")
    with refused(match=r"cannot read the image .*2\.png"):
        read(labelled(load(str(tmp_path))))


def test_images_of_mixed_size_are_not_read_together(tmp_path):
    write(tmp_path / "0.png", IMAGES[0])
    write(tmp_path / "1.png", IMAGES[1, :4])
    with refused(match=r"mixed size.*--image-size"):
        read_all(load(str(tmp_path)))


def test_names_are_the_stems_of_files_with_their_folder_and_all_different(tmp_path):
    for name in ("a.png", "a.bmp", "cat/a.png", "train/b.png"):
        write(tmp_path / name, IMAGES[0])
    dataset = load(str(tmp_path))
    assert dataset.names == ("0-a", "1-cat-a", "2-train-b", "3-a")
    assert dataset.first(2).names == ("a", "cat-a")
    assert load(str(tmp_path), "train[:100%]").names == ("b",)
    assert load(str(tmp_path / "a.png")).names == ("a",)


def test_a_part_of_a_data_set_is_a_view_that_reads_nothing():
    rows = []
    dataset = Dataset("drawn", lambda row: rows.append(row) or sources.Example(IMAGES[row]), np.arange(6))
    part = dataset.first(5).take(np.array([4, 1]))
    assert rows == [] and len(part) == 2 and part.names == ("0000", "0001")
    assert_array_equal(part[0].image, IMAGES[4])
    assert rows == [4]
    assert len(part.images[1:]) == 1 and rows == [4]
    assert_array_equal(part.images[1:][0], IMAGES[1])


@pytest.mark.parametrize("names", ["cat", [["cat"], ["dog"]], [0.5, 1.5]])
def test_class_names_of_another_rank_or_type_are_refused(tmp_path, names):
    path = npz(tmp_path / "d.npz", images=IMAGES[:2], labels=np.arange(2), class_names=np.array(names))
    with refused(match=r"d\.npz: class_names must be texts \(k,\), not "):
        load(str(path))


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_labels_are_not_counted_beyond_measure(tmp_path, dtype):
    labels = np.array([0, np.iinfo(dtype).max], dtype)
    path = npz(tmp_path / "d.npz", images=IMAGES[:2], labels=labels)
    with refused(match=r"d\.npz: labels must be integers \(n,\) below 1048576"):
        labelled(load(str(path)))


@pytest.mark.parametrize("shape", [(2, 0, 4, 3), (2, 4, 0, 3)])
def test_images_without_pixels_are_refused(tmp_path, shape):
    with refused(match="images have no pixels"):
        load(str(npz(tmp_path / "d.npz", images=np.zeros(shape, np.uint8))))


# ---- TFDS


def test_an_unknown_tfds_name_is_refused(tmp_path):
    with refused(match="cannot open the TFDS data set 'no_such_set'"):
        decoded("tfds:no_such_set", "train", data_dir=str(tmp_path))


def test_a_tfds_set_that_is_not_prepared_is_refused_with_the_way_out(tmp_path):
    with refused(match=r"'cifar10' is not prepared in .*tfds build cifar10.*--data-dir"):
        decoded("tfds:cifar10", "train", data_dir=str(tmp_path))


@pytest.mark.slow
@needs_tfds
def test_cifar10_s_test_split_is_ten_thousand_images_of_ten_classes():
    dataset = decoded("tfds:cifar10", "test", data_dir=str(TFDS))
    assert len(dataset) == 10_000 and dataset.decoded.shape == (10_000, 32, 32, 3)
    assert dataset.decoded.dtype == np.uint8
    assert len(dataset.class_names) == 10 and dataset.class_names[0] == "airplane"
    assert_array_equal(np.bincount(dataset.labels), [1000] * 10)


@pytest.mark.parametrize(
    ("config", "names", "found"),
    [
        ("horse2zebra", "A B", "horse zebra"),
        ("summer2winter_yosemite", "A B", "summer winter"),
        ("facades", "A B", "A B"),
        ("horse2zebra", "cat dog", "cat dog"),
    ],
)
def test_the_pairs_of_cycle_gan_are_called_what_they_are(tmp_path, config, names, found):
    builder = mock.Mock(data_dir=str(tmp_path))
    builder.builder_config.name = config
    builder.info.features = {"label": mock.Mock(names=names.split(), num_classes=2)}
    assert sources._tfds_class_names(builder) == tuple(found.split())


@needs_tfds
def test_horse2zebra_joins_its_two_halves_into_two_classes():
    load = functools.partial(decoded, data_dir=str(TFDS), image_size=16, memory=0)
    joined, horses, zebras = (
        load("tfds:cycle_gan/horse2zebra", split) for split in ("train", "trainA", "trainB")
    )
    assert len(joined) == len(horses) + len(zebras)
    assert joined.class_names == ("horse", "zebra")
    first = loader.in_memory(joined.first(20)).labels
    assert first.tolist() == [0, 1] * 10
    few = load("tfds:cycle_gan/horse2zebra", "test[:5%]", memory=loader.MEMORY)
    assert few.decoded.shape == (len(few), 16, 16, 3)
    assert set(few.labels.tolist()) == {0, 1}


@needs_tfds
def test_an_unknown_tfds_split_is_refused_with_the_known_ones():
    with refused(match="no split 'validation'.*train, test"):
        decoded("tfds:cifar10", "validation", data_dir=str(TFDS))


def test_the_labels_of_a_tfds_data_set_are_optional():
    builder = mock.Mock()
    builder.info.features = {"image": None}
    builder.info.splits = {"test": mock.Mock(filepaths=[], num_examples=0)}
    builder.info.available_file_formats = lambda: {mock.Mock(value="array_record")}
    builder.as_data_source = lambda split, decoders: [{"image": image} for image in IMAGES]
    with mock.patch.object(sources, "_prepared", return_value=builder):
        dataset = load("tfds:photos")
        assert_array_equal(read_all(dataset).images, IMAGES)
        with refused(match="photos, split 'test', has no labels"):
            labelled(dataset)
        builder.info.features = {"label": None}
        with refused(match="'photos' has no image: it has label"):
            load("tfds:photos")


def example(image: np.ndarray, label: int) -> bytes:
    """A serialized tf.train.Example."""
    message = tf_example_pb2.Example()
    content = io.BytesIO()
    Pillow.fromarray(image).save(content, "PNG")
    message.features.feature["image"].bytes_list.value.append(content.getvalue())
    message.features.feature["label"].int64_list.value.append(label)
    return message.SerializeToString()


def tfrecords(records: list[bytes]) -> bytes:
    """A TFRecord file."""
    parts = [part for record in records for part in (len(record).to_bytes(8, "little"), record)]
    return b"".join(part + tfrecord.masked_crc32c(part) for part in parts)


@pytest.fixture
def prepared(tmp_path) -> Path:
    """The folder of pets, prepared as TFDS does by default: two files of tfrecord with three images each."""
    folder = tmp_path / "pets/1.0.0"
    folder.mkdir(parents=True)
    features = {
        "image": tfds.features.Image(shape=(8, 10, 3)),
        "label": tfds.features.ClassLabel(num_classes=2),
    }
    tfds.features.FeaturesDict(features).save_config(str(folder))
    (folder / "label.labels.txt").write_text("cat\ndog\n")
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    split = {"name": "train", "numBytes": "1", "shardLengths": ["3", "3"], "filepathTemplate": template}
    info = {"name": "pets", "version": "1.0.0", "fileFormat": "tfrecord", "splits": [split]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    for shard in (0, 1):
        records = [example(IMAGES[i], i % 2) for i in range(3 * shard, 3 * shard + 3)]
        content = tfrecords(records)
        (folder / f"pets-train.tfrecord-0000{shard}-of-00002").write_bytes(content)
    return folder


def stored(folder: Path) -> str:
    """A folder of the store, with the files of one of this machine."""
    for file in folder.rglob("*"):
        if file.is_file():
            place = paths.of("gs://bucket/data") / file.relative_to(folder)
            place.write_bytes(file.read_bytes())
    return "gs://bucket/data"


def test_a_tfds_data_set_in_a_store_is_read(prepared, tmp_path):
    local = load("tfds:pets", "train", data_dir=str(tmp_path))
    with stores.bucket():
        dataset = load("tfds:pets", "train", data_dir=stored(tmp_path))
        assert dataset.class_names == local.class_names
        assert read_all_of(dataset) == read_all_of(local)
        info = paths.of("gs://bucket/data/pets/1.0.0/dataset_info.json")
        info.write_bytes(info.read_bytes().replace(b"tfrecord", b"array_record"))
        with refused(match="array_record is read on this machine alone"):
            load("tfds:pets", "train", data_dir="gs://bucket/data")


def test_folders_and_masks_and_class_names_are_read_from_a_store(photos, pairs, tmp_path):
    tiny.masked(tmp_path / "facades", 3)
    expected = [load(f"folder:{place}", "train") for place in (photos, pairs)]
    facades = masks.load(str(tmp_path / "facades/images"), tmp_path / "facades/masks")
    with stores.bucket():
        root = stored(tmp_path)
        for local in expected:
            place = Path(local.source.partition(",")[0]).relative_to(tmp_path)
            dataset = load(f"folder:{root}/{place}", "train")
            assert dataset.class_names == local.class_names and dataset.names == local.names
            assert_array_equal(np.stack(list(dataset.images)), np.stack(list(local.images)))
        found = masks.load(f"folder:{root}/facades/images", f"{root}/facades/masks")
        assert found.class_names == facades.class_names == class_names.read([f"{root}/facades/classes.txt"])
        assert_array_equal(found.masks, facades.masks)


def test_a_tfds_data_set_prepared_as_tfrecord_is_read_without_tensorflow(prepared, tmp_path):
    dataset = load("tfds:pets", "train", data_dir=str(tmp_path))
    assert_array_equal(read_all(dataset).images, IMAGES)
    assert dataset.class_names == ("cat", "dog")
    assert [label for _, label in labelled(dataset)] == [0, 1, 0, 1, 0, 1]
    assert len(load("tfds:pets", "train[:50%]", data_dir=str(tmp_path))) == 3


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_cut_or_absent_tfrecord_is_refused(prepared, tmp_path, keep):
    file = prepared / "pets-train.tfrecord-00001-of-00002"
    content = file.read_bytes()[:keep]
    file.write_bytes(content)
    with refused(match="cannot open the TFDS data set 'pets': .*(is cut or damaged|has 3 of 6 images)"):
        load("tfds:pets", "train", data_dir=str(tmp_path))
    file.unlink()
    with refused(match="cannot open the TFDS data set 'pets'"):
        load("tfds:pets", "train", data_dir=str(tmp_path))


def test_damage_in_a_tfrecord_is_refused_where_it_is_read(prepared, tmp_path):
    file = prepared / "pets-train.tfrecord-00000-of-00002"
    content = bytearray(file.read_bytes())
    content[12:40] = bytes(28)
    file.write_bytes(content)
    dataset = load("tfds:pets", "train", data_dir=str(tmp_path))
    with refused(match="cannot read an image .* 'pets': pets-train.tfrecord-00000.* is damaged at byte 12"):
        dataset[0]
    assert_array_equal(dataset[1].image, IMAGES[1])


def flipped(content: bytes, num: int) -> Iterator[bytes]:
    """So many copies, a bit of each changed."""
    rng = np.random.default_rng(0)
    for place in rng.choice(np.flatnonzero(np.frombuffer(content, np.uint8)), num).tolist():
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        yield bytes(changed)


def test_any_bit_changed_in_a_tfrecord_is_refused_by_name(prepared, tmp_path):
    file = prepared / "pets-train.tfrecord-00000-of-00002"
    for content in flipped(file.read_bytes(), 200):
        file.write_bytes(content)
        with refused(match=r"TFDS data set 'pets': pets-train.tfrecord-00000-of-00002 is") as caught:
            read_all_of(load("tfds:pets", "train", data_dir=str(tmp_path)))
        assert len(str(caught.value)) <= 200


def read_all_of(dataset: Dataset) -> list[bytes]:
    return [dataset[i].image.tobytes() for i in range(len(dataset))]


def test_a_bit_changed_in_an_array_record_changes_no_image(prepared, tmp_path):
    """Its blocks are padded, and have checksums of their own."""
    for shard in (0, 1):
        file = prepared / f"pets-train.array_record-0000{shard}-of-00002"
        writer = ArrayRecordWriter(str(file), "group_size:1")
        for i in range(3 * shard, 3 * shard + 3):
            writer.write(example(IMAGES[i], i % 2))
        writer.close()
    info = prepared / "dataset_info.json"
    info.write_text(info.read_text().replace('"tfrecord"', '"array_record"'))
    whole = read_all_of(load("tfds:pets", "train", data_dir=str(tmp_path)))
    assert whole == [image.tobytes() for image in IMAGES]
    refusals = 0
    for content in flipped(file.read_bytes(), 60):
        file.write_bytes(content)
        try:
            assert read_all_of(load("tfds:pets", "train", data_dir=str(tmp_path))) == whole
        except ValueError as error:
            refusals += 1
            assert "TFDS data set 'pets'" in str(error) and len(str(error)) <= 200
    assert refusals > 10
    info.write_text(info.read_text().replace('"3", "3"', '"3", "2"'))
    with refused(match="has . of 5 images of train"):
        load("tfds:pets", "train", data_dir=str(tmp_path))


@needs_tfds
def test_a_bit_changed_in_cifar10_s_array_record_is_refused(tmp_path):
    folder = tmp_path / "cifar10/3.0.2"
    shutil.copytree(TFDS / "cifar10/3.0.2", folder, ignore=shutil.ignore_patterns("*train*"))
    file = folder / "cifar10-test.array_record-00000-of-00001"
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[5_000_000] ^= 1
    file.write_bytes(content)
    dataset = load("tfds:cifar10", "test", data_dir=str(tmp_path))
    with refused(match="cannot read an image of the TFDS data set 'cifar10': .*hash mismatch"):
        read_all_of(dataset)


@pytest.mark.parametrize("text", [b"", b"\0", b"cat\n", b"cat\ncat\n", b"cat\ndog\ncow\n", b"cat\n\xff\n"])
def test_other_names_than_one_for_each_class_of_a_tfds_data_set_are_refused(prepared, tmp_path, text):
    (prepared / "label.labels.txt").write_bytes(text)
    said = "it must have 2 names, each once, one a line|.*utf-8"
    with refused(match=f"cannot read label.labels.txt of the TFDS data set 'pets': ({said})"):
        load("tfds:pets", "train", data_dir=str(tmp_path))


def test_the_classes_of_a_tfds_data_set_without_names_are_numbers(prepared, tmp_path):
    (prepared / "label.labels.txt").unlink()
    assert load("tfds:pets", "train", data_dir=str(tmp_path)).class_names == ("0", "1")


def test_a_format_of_tfds_that_cannot_be_read_is_refused_with_the_one_command(prepared, tmp_path):
    info = prepared / "dataset_info.json"
    info.write_text(info.read_text().replace("tfrecord", "riegeli"))
    with refused(match="prepared as riegeli: run `tfds build pets --file_format=array_record`"):
        load("tfds:pets", "train", data_dir=str(tmp_path))


DAMAGE = {
    "absent": None,
    "empty": b"",
    "object": b"{}",
    "list": b"[]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "noise": bytes(range(256)),
}


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "pets-train.tfrecord-00000-of-00002"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_of_a_tfds_data_set_is_refused_in_a_short_line(prepared, tmp_path, name, damage):
    content = DAMAGE[damage]
    (prepared / name).unlink()
    if content is not None:
        (prepared / name).write_bytes(content)
    with refused(match="the TFDS data set 'pets'") as caught:
        load("tfds:pets", "train", data_dir=str(tmp_path))
    assert len(str(caught.value)) <= 200


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "pets-train.tfrecord-00000-of-00002"])
def test_a_tfds_data_set_with_any_byte_changed_is_read_or_refused_in_a_short_line(prepared, tmp_path, name):
    content, rng, refusals = (prepared / name).read_bytes(), np.random.default_rng(0), 0
    for place in rng.integers(0, len(content), 40).tolist():
        changed = bytearray(content)
        changed[place] ^= int(rng.choice([1, 2, 4, 8, 16, 32, 64, 128, 255]))
        (prepared / name).write_bytes(changed)
        try:
            dataset = labelled(load("tfds:pets", "train", data_dir=str(tmp_path)))
            assert len([dataset[i] for i in range(6)]) == 6
        except ValueError as error:
            refusals += 1
            assert (
                "TFDS data set 'pets'" in str(error) and len(str(error)) <= 200 and str(error).isprintable()
            )
    assert refusals > 20


@pytest.mark.parametrize("label", [2, -1, 10**12])
def test_a_label_of_no_class_of_a_tfds_data_set_is_refused(prepared, tmp_path, label):
    records = [example(IMAGES[i], label) for i in range(3)]
    content = tfrecords(records)
    (prepared / "pets-train.tfrecord-00000-of-00002").write_bytes(content)
    with refused(
        match=f"cannot read an image of the TFDS data set 'pets': its label is {label}, of 2 classes"
    ):
        load("tfds:pets", "train", data_dir=str(tmp_path))[0]
