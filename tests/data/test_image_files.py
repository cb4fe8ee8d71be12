"""One image file: whatever its mode, its orientation and its size, it comes out upright, in RGB, square."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import EpsImagePlugin
from PIL import Image as Pillow
from tiny import refused

from rsynth_jax.data import image_files

RNG = np.random.default_rng(0)
TURNS = {  # of EXIF's orientation, how the stored image must be turned
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}


def noise(*shape) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


def saved(path: Path, picture: Pillow.Image, **options) -> Path:
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_an_image_is_turned_as_its_exif_says(tmp_path, orientation, suffix):
    image, exif = noise(6, 4, 3), Pillow.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"a.{suffix}", Pillow.fromarray(image), exif=exif, **lossless)
    assert_array_equal(image_files.read_image(path, None), TURNS[orientation](image))


def test_a_photograph_taken_upright_has_its_top_at_the_top(tmp_path):
    """A JPEG as telephones write it: stored lying, to be turned by a quarter clockwise."""
    stored, exif = np.zeros((16, 32, 3), np.uint8), Pillow.Exif()
    stored[:, :16] = 200  # the left half, which is the top
    exif[0x0112] = 6
    path = saved(tmp_path / "a.jpg", Pillow.fromarray(stored), exif=exif)
    assert_allclose(image_files.read_image(path, None)[:, 0, 0], [200] * 16 + [0] * 16, atol=3)
    assert image_files.read_mask(path, 2)[:, 0, 0] == pytest.approx([200 / 255, 0], abs=0.01)


@pytest.mark.parametrize("channels", [4, 2], ids=["RGBA", "gray and alpha"])
def test_what_is_transparent_shows_white(tmp_path, channels):
    image = noise(8, 8, channels)
    image[:4, ..., -1], image[4:, ..., -1] = 255, 0
    path = saved(tmp_path / "a.png", Pillow.fromarray(image))
    found = image_files.read_image(path, None)
    expected = np.broadcast_to(image[:4, :, : channels - 1], (4, 8, 3))
    assert_array_equal(found[:4], expected)
    assert_array_equal(found[4:], 255)


def test_half_transparent_black_is_grey_and_in_a_mask_transparent_is_black(tmp_path):
    image = np.zeros((2, 2, 4), np.uint8)
    image[..., 3] = 128
    assert_allclose(
        image_files.read_image(saved(tmp_path / "a.png", Pillow.fromarray(image)), None), 127, atol=1
    )
    image[0] = [255, 255, 255, 0]
    image[1] = 255
    mask = image_files.read_mask(saved(tmp_path / "m.png", Pillow.fromarray(image)), None)
    assert_array_equal(mask[..., 0], [[0, 0], [1, 1]])


def test_a_palette_shows_its_colors_and_white_where_it_is_transparent(tmp_path):
    picture = Pillow.new("P", (3, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.putdata([0, 1, 2])
    path = saved(tmp_path / "a.png", picture, transparency=1)
    assert_array_equal(image_files.read_image(path, None), [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]])


def test_sixteen_bits_of_grey_become_the_nearest_eight(tmp_path):
    values = RNG.integers(0, 65536, (8, 8), np.uint16)
    values[0, :3] = [0, 65535, 257]
    found = image_files.read_image(saved(tmp_path / "a.png", Pillow.fromarray(values)), None)
    expected = np.rint(values / 257).astype(np.uint8)
    assert_array_equal(found, np.repeat(expected[..., None], 3, axis=-1))


@pytest.mark.parametrize("mode", ["1", "L"])
def test_black_and_white_and_grey_come_out_in_three_equal_channels(tmp_path, mode):
    values = np.uint8([[0, 255], [255, 0]])
    path = saved(tmp_path / "a.png", Pillow.fromarray(values).convert(mode))
    assert_array_equal(image_files.read_image(path, None), np.repeat(values[..., None], 3, axis=-1))


def test_a_cmyk_jpeg_shows_its_colors(tmp_path):
    inks = Pillow.new("CMYK", (8, 8), (255, 0, 0, 0))
    path = saved(tmp_path / "a.jpg", inks, quality=95)
    assert_allclose(image_files.read_image(path, None), np.broadcast_to([0, 255, 255], (8, 8, 3)), atol=4)


@pytest.mark.parametrize("shape", [(1, 9, 3), (5, 3, 3), (40, 64, 3), (7, 7, 3)])
def test_any_size_becomes_the_central_square_at_the_side_asked_for(tmp_path, shape):
    image = noise(*shape)
    path = saved(tmp_path / "a.png", Pillow.fromarray(image))
    side, (height, width, _) = min(shape[:2]), shape
    top, left = (height - side) // 2, (width - side) // 2
    cut = image[top : top + side, left : left + side]
    assert_array_equal(image_files.read_image(path, side), cut)
    assert image_files.read_image(path, 16).shape == (16, 16, 3)


def test_a_mask_is_the_mean_over_the_area_that_each_value_stands_for(tmp_path):
    values = noise(12, 8)
    path = saved(tmp_path / "a.png", Pillow.fromarray(values))
    means = values[2:10].reshape(4, 2, 4, 2).mean(axis=(1, 3)) / 255
    assert_allclose(image_files.read_mask(path, 4)[..., 0], means, atol=1.01 / 255)  # rounded twice
    assert_array_equal(
        image_files.read_mask(path, 16)[..., 0], np.float32(values[2:10].repeat(2, 0).repeat(2, 1) / 255)
    )


@pytest.mark.parametrize("read", [image_files.read_image, image_files.read_mask])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("content", ["nothing", "text", "the first half"])
def test_damage_is_refused_in_one_line_by_name(tmp_path, read, suffix, content):
    path = saved(tmp_path / f"a.{suffix}", Pillow.fromarray(noise(32, 32, 3)))
    whole = path.read_bytes()
    cut = {"nothing": b"", "text": b"no\npicture", "the first half": whole[: len(whole) // 2]}
    path.write_bytes(cut[content])
    with refused(match=f"cannot read the image .*a.{suffix}"):
        read(path, 8)


def test_an_eps_named_as_a_png_starts_no_program(tmp_path, monkeypatch):
    gs = tmp_path / "bin" / "gs"
    gs.parent.mkdir()
    gs.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\necho 10.0\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{gs.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # unknown, as in a new process
    Pillow.fromarray(noise(8, 8, 3)).save(tmp_path / "x.png", "EPS")
    content = (tmp_path / "x.png").read_bytes()
    doors = (image_files.read_image, image_files.read_mask, lambda _: image_files.decode(content))
    for door in doors:
        with refused(match="no PNG, JPEG, WebP or BMP"):
            door(tmp_path / "x.png")
    assert not (tmp_path / "started").exists()
    with contextlib.suppress(OSError), Pillow.open(tmp_path / "x.png") as picture:
        picture.load()
    assert (tmp_path / "started").exists()  # the stand-in was a live one


@pytest.mark.parametrize("format", ["GIF", "TIFF", "PPM", "ICO", "PDF"])
def test_other_formats_than_png_jpeg_webp_and_bmp_are_refused(tmp_path, format):
    path = saved(tmp_path / "a.png", Pillow.fromarray(noise(16, 16, 3)), format=format)
    with refused(match=r"cannot read the image .*a\.png: it is no PNG, JPEG, WebP or BMP"):
        image_files.read_image(path)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "MPO"])
def test_an_image_is_known_by_its_content_whatever_its_name(tmp_path, format):
    path = saved(tmp_path / "a.png", Pillow.new("RGB", (8, 8), (200, 100, 50)), format=format)
    assert_allclose(image_files.read_image(path), np.broadcast_to([200, 100, 50], (8, 8, 3)), atol=4)


@pytest.mark.parametrize("lightest", [1, 20, 128])
def test_a_mask_whose_lightest_value_is_far_from_white_is_refused(tmp_path, lightest):
    path = saved(tmp_path / "m.png", Pillow.fromarray(np.uint8([[0, lightest], [0, 0]])))
    with refused(match=rf"m\.png: its lightest value is {lightest} of 255, .* 0 for black and 255 for white"):
        image_files.read_mask(path, 8)


def test_masks_of_one_bit_and_of_compressed_white_are_read(tmp_path):
    values = np.uint8([[0, 250], [0, 0]])
    one_bit = saved(tmp_path / "a.png", Pillow.fromarray(values).convert("1"))
    grey = saved(tmp_path / "b.png", Pillow.fromarray(values))
    assert image_files.read_mask(one_bit)[0, 1] == 1 and image_files.read_mask(grey)[0, 1] > 0.97
    assert not image_files.read_mask(saved(tmp_path / "c.png", Pillow.fromarray(0 * values))).any()


def test_a_listed_folder_is_without_what_systems_leave_in_it(tmp_path):
    left = "._1.png .hidden @eaDir __MACOSX Thumbs.db .ipynb_checkpoints $RECYCLE.BIN #recycle lost+found"
    for name in (*left.split(), "b.png", "a", "@home"):
        (tmp_path / name).touch()
    assert [path.name for path in image_files.listed(tmp_path)] == ["@home", "a", "b.png"]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with refused(match="a.png: it is a pipe or a device, not a file"):
        image_files.read_image(tmp_path / "a.png")
