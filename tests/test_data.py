"""The door to data sets: what it reads, in which order it hands it out, and what it refuses in one line."""

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.data import loader as datasets
from rsynth_jax.data import sources as data
from rsynth_jax.data.loader import Arrays, Dataset

RNG = np.random.default_rng(0)
TFDS = Path(__file__).parents[1] / "../shared/data/tfds"
needs_tfds = pytest.mark.skipif(not TFDS.is_dir(), reason=f"no real data in {TFDS}")
both_ways = pytest.mark.parametrize("memory", [data.MEMORY, 0], ids=["in memory", "streamed"])


def noise(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(image).save(path)


@pytest.fixture
def photos(tmp_path) -> Path:
    """40 cats and 20 axolotls of 8 x 8; the first pixel's red is the image's number."""
    for number in range(60):
        image = noise(8, 8, 3)
        image[0, 0, 0] = number
        write(tmp_path / "photos/train" / ("cat" if number < 40 else "axolotl") / f"{number}.png", image)
    return tmp_path / "photos"


def numbers(dataset: Dataset) -> list[int]:
    return dataset.examples.images[:, 0, 0, 0].tolist()


def npz(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


# ---- folders


def test_labels_follow_the_sorted_names_of_the_folders(photos):
    dataset = data.load(f"folder:{photos}", "train")
    assert dataset.class_names == ("axolotl", "cat")
    assert dataset.num == 60 and dataset.examples.images.shape == (60, 8, 8, 3)
    assert dataset.examples.images.dtype == np.uint8 and dataset.examples.labels.dtype == np.int32
    assert_array_equal(dataset.examples.labels, [int(number < 40) for number in numbers(dataset)])


def test_an_image_of_a_folder_is_the_file_s_own_pixels(tmp_path):
    image = noise(6, 6, 3)
    write(tmp_path / "cat" / "one.png", image)
    assert_array_equal(data.load(f"folder:{tmp_path}", "all").examples.images[0], image)


def test_a_jpeg_is_read(tmp_path):
    write(tmp_path / "cat" / "one.JPG", np.full((8, 8, 3), 100, np.uint8))
    assert_allclose(data.load(f"folder:{tmp_path}", "all").examples.images[0], 100, atol=2)


def test_image_size_crops_the_centre_and_resizes_it(tmp_path):
    image = np.zeros((8, 16, 3), np.uint8)
    image[:, 4:8], image[:, 8:12] = 50, 200  # the central square; the rest is black
    write(tmp_path / "cat" / "wide.png", image)
    write(tmp_path / "cat" / "tall.png", image.transpose(1, 0, 2))
    tall, wide = data.load(f"folder:{tmp_path}", "all", image_size=8).examples.images
    assert_array_equal(wide, image[:, 4:12])
    assert_array_equal(tall, image[:, 4:12].transpose(1, 0, 2))
    halved = data.load(f"folder:{tmp_path}", "all", image_size=4).examples.images[1]
    assert halved.shape == (4, 4, 3)
    assert_allclose(halved[:, [0, 3]], [[[50] * 3, [200] * 3]] * 4, atol=15)  # Lanczos rings


def test_mixed_sizes_are_refused_and_image_size_makes_them_one(photos):
    write(photos / "train/cat/large.png", noise(16, 16, 3))
    with refused(match=r"mixed size.*--image-size"):
        data.load(f"folder:{photos}", "train")
    assert data.load(f"folder:{photos}", "train", image_size=8).num == 61


def test_the_shares_of_a_split_are_disjoint_and_together_all_of_it(photos):
    load = functools.partial(data.load, f"folder:{photos}")
    first, rest = numbers(load("train[:75%]")), numbers(load("train[75%:]"))
    assert len(first) == 45 and len(rest) == 15
    assert sorted(first + rest) == sorted(numbers(load("train"))) == list(range(60))


def test_a_share_of_a_folder_holds_that_share_of_every_class(photos):
    labels = data.load(f"folder:{photos}", "train[:25%]").examples.labels
    assert_array_equal(np.bincount(labels), [5, 10])


def test_split_all_is_the_folder_itself(photos):
    assert numbers(data.load(f"folder:{photos / 'train'}", "all")) == numbers(
        data.load(f"folder:{photos}", "train")
    )


@both_ways
def test_the_first_images_of_a_folder_are_of_every_class(photos, memory):
    first = datasets.head(data.load(f"folder:{photos}", "train", memory=memory), 20)
    assert len(first.labels) == 20 and set(first.labels.tolist()) == {0, 1}


def test_a_head_longer_than_the_data_set_is_all_of_it(photos):
    for memory in (data.MEMORY, 0):
        assert len(datasets.head(data.load(f"folder:{photos}", "train", memory=memory), 100).labels) == 60


def test_a_missing_folder_is_refused(tmp_path):
    with refused(match="no folder .*nowhere/train"):
        data.load(f"folder:{tmp_path / 'nowhere'}", "train")


def test_a_missing_split_is_refused(photos):
    with refused(match="no folder .*photos/test"):
        data.load(f"folder:{photos}", "test")


@pytest.mark.parametrize("inside", ["", "cat", "cat/notes.txt"])
def test_a_folder_without_images_is_refused(tmp_path, inside):
    path = tmp_path / "photos" / inside
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch() if path.suffix else path.mkdir(exist_ok=True)
    with refused(match="no images in .*photos"):
        data.load(f"folder:{tmp_path / 'photos'}", "all")


def test_an_empty_share_is_refused(photos):
    with refused(match="no images"):
        data.load(f"folder:{photos}", "train[:0%]")


@pytest.mark.parametrize("content", [b"", b"no picture", None], ids=["empty", "foreign", "truncated"])
def test_a_corrupt_image_is_refused_by_name(photos, content):
    file = photos / "train/cat/7.png"
    file.write_bytes(file.read_bytes()[:120] if content is None else content)
    with refused(match=r"cat/7\.png"):
        data.load(f"folder:{photos}", "train")


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
            read = data.load(f"folder:{tmp_path}", "all", image_size=8)
            assert read.examples.images.shape == (1, 8, 8, 3)
        except ValueError as error:
            refusals += "one.png" in str(error) and "\n" not in str(error)
    assert refusals > 30


@pytest.mark.parametrize("spec", ["photos", "photos:here", "folder:", "npz:", "", ":"])
def test_an_unknown_kind_is_refused(spec):
    with refused(match=r"write tfds:NAME, folder:PATH or npz:FILE"):
        data.load(spec, "train")


@pytest.mark.parametrize(
    "split", ["", "train[", "train[:]]", "train[:90]", "train[0.5:]", "train[-5%:]", "a/b", ".."]
)
def test_a_split_that_cannot_be_read_is_refused(photos, split):
    with refused(match="cannot read the split"):
        data.load(f"folder:{photos}", split)


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
    train, everything = data.load(f"npz:{path}", "train"), data.load(f"npz:{path}", "all")
    assert train.class_names == everything.class_names == ("cat", "dog")
    assert_array_equal(train.examples.images, images)
    assert_array_equal(train.examples.labels, labels)
    assert_array_equal(everything.examples.images, images[:2])


def test_an_npz_without_names_numbers_its_classes(tmp_path):
    path = npz(tmp_path / "d.npz", images=noise(3, 8, 8, 3), labels=np.array([0, 2, 1]))
    assert data.load(f"npz:{path}", "all").class_names == ("0", "1", "2")


def test_the_shares_of_an_npz_are_disjoint_and_together_all_of_it(tmp_path):
    images = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None, None], (40, 2, 2, 3))
    path = npz(tmp_path / "d.npz", train_images=images, train_labels=np.zeros(40, int))
    first, rest = (numbers(data.load(f"npz:{path}", f"train[{share}]")) for share in (":75%", "75%:"))
    assert len(first) == 30 and sorted(first + rest) == list(range(40))


@pytest.mark.parametrize("size", [0, -8])
def test_a_side_of_no_pixels_is_refused(size):
    with refused(match=f"image_size is {size}: give a number above 0"):
        data.load("tfds:cifar10", "test", image_size=size)


def test_image_size_holds_for_an_npz_too(tmp_path):
    path = npz(tmp_path / "d.npz", images=noise(3, 8, 12, 3), labels=np.zeros(3, int))
    assert data.load(f"npz:{path}", "all", image_size=4).examples.images.shape == (3, 4, 4, 3)


def test_an_empty_share_of_an_npz_is_refused(tmp_path):
    path = npz(tmp_path / "d.npz", images=noise(3, 8, 8, 3), labels=np.zeros(3, int))
    with refused(match="no images"):
        data.load(f"npz:{path}", "all[:0%]")


def test_a_missing_npz_is_refused(tmp_path):
    with refused(match="no file .*nowhere.npz"):
        data.load(f"npz:{tmp_path / 'nowhere.npz'}", "train")


@pytest.mark.parametrize("part", [0.0, 0.5, 0.95])
def test_a_truncated_npz_is_refused_by_name(tmp_path, part):
    path = npz(tmp_path / "d.npz", images=noise(3, 8, 8, 3), labels=np.zeros(3, int))
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with refused(match=r"d\.npz"):
        data.load(f"npz:{path}", "all")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_with_any_byte_changed_is_read_or_refused_by_name(tmp_path, save):
    path, refusals = tmp_path / "d.npz", 0
    save(path, images=noise(1, 2, 2, 3), labels=np.zeros(1, int))
    for _ in changed_bytes(path):
        try:
            assert data.load(f"npz:{path}", "all").num == 1
        except ValueError as error:
            refusals += "d.npz" in str(error) and "\n" not in str(error)
    assert refusals > 100


def test_a_single_array_in_place_of_an_npz_is_refused_by_name(tmp_path):
    np.save(tmp_path / "d.npy", noise(3, 8, 8, 3))
    with refused(match=r"d\.npy"):
        data.load(f"npz:{tmp_path / 'd.npy'}", "all")


@pytest.mark.parametrize("missing", ["train_images", "train_labels"])
def test_a_missing_array_is_named(tmp_path, missing):
    arrays = {"train_images": noise(3, 8, 8, 3), "train_labels": np.zeros(3, int)}
    del arrays[missing]
    with refused(match=f"no array '?{missing}"):
        data.load(f"npz:{npz(tmp_path / 'd.npz', **arrays)}", "train")


@pytest.mark.parametrize(
    "images",
    [noise(3, 8, 8, 3).astype(np.float32), noise(3, 8, 8), noise(2, 8, 8, 3)],
    ids=["floats", "no channels", "too few"],
)
def test_images_of_a_wrong_type_or_shape_are_refused(tmp_path, images):
    path = npz(tmp_path / "d.npz", images=images, labels=np.zeros(3, int))
    with refused(match=r"images must be uint8 \(n, h, w, c\)"):
        data.load(f"npz:{path}", "all")


@pytest.mark.parametrize(
    "labels",
    [[0, 1, 2], [0, -1, 1], [0.0, 1.0, 1.0], ["0", "1", "1"]],
    ids=["more than there are names", "negative", "floats", "words"],
)
def test_labels_out_of_range_are_refused(tmp_path, labels):
    path = npz(tmp_path / "d.npz", images=noise(3, 8, 8, 3), labels=np.array(labels), class_names=["a", "b"])
    with refused(match=r"labels must be integers in 0 \.\.\. 1"):
        data.load(f"npz:{path}", "all")


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
        data.load(f"npz:{path}", "all")
    assert not (tmp_path / "exploded").exists()
    np.load(path, allow_pickle=True)[name]
    assert (tmp_path / "exploded").exists()  # the bomb was a live one


# ---- batches


@pytest.fixture(params=[data.MEMORY, 0], ids=["in memory", "streamed"])
def sixty(photos, request) -> Dataset:
    """The photos, in memory or streamed through grain."""
    dataset = data.load(f"folder:{photos}", "train", memory=request.param)
    assert isinstance(dataset.examples, Arrays) == (request.param > 0)
    return dataset


def seen(batches) -> list[list[int]]:
    return [images[:, 0, 0, 0].tolist() for images, _ in batches]


def test_an_epoch_hands_out_every_image_at_most_once_in_full_batches(sixty):
    batches = list(datasets.batches(sixty, 16, seed=0, epoch=0))
    assert [len(labels) for _, labels in batches] == [16, 16, 16]
    drawn = list(itertools.chain(*seen(batches)))
    assert len(set(drawn)) == 48
    assert_array_equal(
        np.concatenate([labels for _, labels in batches]), [int(number < 40) for number in drawn]
    )
    assert all(images.dtype == np.uint8 and labels.dtype == np.int32 for images, labels in batches)


def test_the_order_depends_on_the_seed_and_the_epoch_alone(sixty):
    orders = {key: seen(datasets.batches(sixty, 16, *key)) for key in [(0, 0), (0, 1), (1, 0)]}
    assert seen(datasets.batches(sixty, 16, 0, 0)) == orders[0, 0]
    assert all(orders[one] != orders[other] for one, other in itertools.combinations(orders, 2))


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_an_epoch_from_batch_k_on_is_the_rest_of_an_uninterrupted_one(sixty, start):
    assert seen(datasets.batches(sixty, 16, 3, 2, start)) == seen(datasets.batches(sixty, 16, 3, 2))[start:]


def test_streamed_or_in_memory_the_examples_are_the_same(photos):
    kept, streamed = (data.load(f"folder:{photos}", "train", memory=memory) for memory in (data.MEMORY, 0))
    assert streamed.num == kept.num and streamed.class_names == kept.class_names
    for one, other in zip(datasets.head(streamed, 60), kept.examples, strict=True):
        assert_array_equal(one, other)


# ---- TFDS


def test_an_unknown_tfds_name_is_refused(tmp_path):
    with refused(match="cannot open the TFDS data set 'no_such_set'"):
        data.load("tfds:no_such_set", "train", data_dir=str(tmp_path))


def test_a_tfds_set_that_is_not_prepared_is_refused_with_the_way_out(tmp_path):
    with refused(match=r"'cifar10' is not prepared in .*tfds build cifar10.*--data-dir"):
        data.load("tfds:cifar10", "train", data_dir=str(tmp_path))


@needs_tfds
def test_cifar10_s_test_split_is_ten_thousand_images_of_ten_classes():
    dataset = data.load("tfds:cifar10", "test", data_dir=str(TFDS))
    assert dataset.num == 10_000 and dataset.examples.images.shape == (10_000, 32, 32, 3)
    assert dataset.examples.images.dtype == np.uint8
    assert len(dataset.class_names) == 10 and dataset.class_names[0] == "airplane"
    assert_array_equal(np.bincount(dataset.examples.labels), [1000] * 10)


@pytest.mark.parametrize(
    ("config", "names", "found"),
    [
        ("horse2zebra", "A B", "horse zebra"),
        ("summer2winter_yosemite", "A B", "summer winter"),
        ("facades", "A B", "A B"),
        ("horse2zebra", "cat dog", "cat dog"),
    ],
)
def test_the_pairs_of_cycle_gan_are_called_what_they_are(config, names, found):
    builder = mock.Mock()
    builder.builder_config.name = config
    builder.info.features = {"label": mock.Mock(names=names.split())}
    assert data.class_names(builder) == tuple(found.split())


@needs_tfds
def test_horse2zebra_joins_its_two_halves_into_two_classes():
    load = functools.partial(data.load, data_dir=str(TFDS), image_size=16, memory=0)
    joined, horses, zebras = (
        load("tfds:cycle_gan/horse2zebra", split) for split in ("train", "trainA", "trainB")
    )
    assert joined.num == horses.num + zebras.num
    assert joined.class_names == ("horse", "zebra")
    first = datasets.head(joined, 20).labels
    assert first.tolist() == [0, 1] * 10
    few = load("tfds:cycle_gan/horse2zebra", "test[:5%]", memory=data.MEMORY)
    assert few.examples.images.shape == (few.num, 16, 16, 3)
    assert set(few.examples.labels.tolist()) == {0, 1}


@needs_tfds
def test_an_unknown_tfds_split_is_refused_with_the_known_ones():
    with refused(match="no split 'validation'.*train, test"):
        data.load("tfds:cifar10", "validation", data_dir=str(TFDS))
