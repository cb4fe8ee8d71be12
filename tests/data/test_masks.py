"""A folder of images and a folder of masks of the same names, and what is refused in words."""

from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.data import image_files, masks


@pytest.fixture
def place(tmp_path) -> Path:
    return tiny.masked(tmp_path / "facades", 3)


def mask(place: Path, i: int = 1) -> Path:
    return place / "masks" / f"{i:02d}.png"


def load(place: Path, **given):
    return masks.load(f"folder:{place / 'images'}", place / "masks", **given)


def test_images_and_masks_come_in_pairs_with_the_names_of_the_classes(place):
    found = load(place)
    assert found.images.shape == (3, 16, 16, 3) and found.masks.shape == (3, 16, 16)
    assert found.class_names == ("wall", "door") and found.dataset.names == ("00", "01", "02")
    assert_array_equal(found.masks[1], np.asarray(Pillow.open(mask(place))))
    assert len(load(place, num=2).masks) == 2


def test_indexed_colors_are_read_by_their_numbers(place):
    own = np.asarray(Pillow.open(mask(place)))
    colored = Pillow.fromarray(own).convert("P")
    colored.putpalette([200, 0, 0, 0, 200, 0])
    colored.putdata(own.ravel().tolist())
    colored.save(mask(place))
    assert_array_equal(load(place).masks[1], own)


def test_a_smaller_side_takes_the_nearest_class_of_the_same_square(place):
    wide = np.zeros((16, 32), np.uint8)
    wide[:, 8:24] = np.repeat(np.arange(2), 8)
    for i in range(3):
        Pillow.fromarray(np.repeat(wide[..., None] * 255, 3, axis=2)).save(place / "images" / f"{i:02d}.png")
        Pillow.fromarray(wide).save(mask(place, i))
    found = load(place, image_size=8)
    assert_array_equal(found.masks[0], np.repeat([[0, 1]], 4, axis=1).repeat(8, axis=0))
    assert ((found.images[0, ..., 0] > 127) == found.masks[0]).mean() > 0.9


def test_the_classes_are_beside_the_masks_or_up_to_two_folders_above(place):
    for depth, name in enumerate(
        ("facades", "facades/train", "facades/train/masks", "facades/train/masks/x")
    ):
        folder = place.parent / name
        folder.mkdir(exist_ok=True)
        if depth < 3:
            assert masks.read_classes(folder) == ("wall", "door")
    with refused(match=r"no classes.txt in .*x or the two folders above it: write a class name a line"):
        masks.read_classes(folder)


@pytest.mark.parametrize("text", ["", "\n \n", "wall\nwall\n", "\n".join(map(str, range(257)))])
def test_classes_that_are_none_or_named_twice_are_refused(place, text):
    (place / "classes.txt").write_text(text)
    with refused(match="classes.txt: write 1 to 256 class names, each once, one a line"):
        load(place)


def test_masks_that_do_not_match_are_refused_in_words(place):
    mask(place).unlink()
    with refused(match=r"no mask .*01.png: every image needs one of its name, a PNG"):
        load(place)
    Pillow.fromarray(np.zeros((8, 16), np.uint8)).save(mask(place))
    with refused(match=r"01.png is 8 x 16: its image is 16 x 16, give masks of that size"):
        load(place)
    Pillow.fromarray(np.full((16, 16), 7, np.uint8)).save(mask(place))
    with refused(match=r"01.png: class 7 of a pixel, beyond the 2 classes of classes.txt \(0 to 1\)"):
        load(place)
    Pillow.fromarray(np.zeros((16, 16, 3), np.uint8)).save(mask(place))
    with refused(match=r"cannot read the mask .*01.png: it is a PNG of RGB: save an indexed or grey PNG"):
        load(place)
    mask(place).write_bytes(b"no picture")
    with refused(match=r"cannot read the mask .*01.png: it is no PNG"):
        load(place)


def test_arrays_have_no_names_and_are_refused(place, tmp_path):
    np.savez(tmp_path / "a.npz", images=tiny.noise(3))
    with refused(match="masks belong to image files: give a folder of images"):
        masks.load(f"npz:{tmp_path / 'a.npz'}", place / "masks")


def test_a_jpeg_is_refused_as_a_mask_for_its_numbers_are_not_exact(tmp_path):
    Pillow.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.jpg")
    with refused(match="it is a JPEG of L: save an indexed or grey PNG"):
        image_files.read_indices(tmp_path / "a.jpg")
