"""Pictures of every kind become RGB, and what is no picture becomes one line."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from growprune.data import image_files, open_image, resized
from growprune.data import images as module
from growprune.errors import DataError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
# 2 rows of 3 pixels: nothing is symmetric.
PIXELS = np.array([[RED, GREEN, BLUE], [WHITE, (0, 0, 0), (10, 20, 30)]], np.uint8)


def saved(image, path, **options):
    image.save(path, **options)
    return path


def noise(height=40, width=50, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp"])
def test_lossless_formats_come_back_as_they_were(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    image = open_image(saved(Image.fromarray(PIXELS), tmp_path / f"a.{suffix}", **options))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, PIXELS)
    image[0, 0] = 7  # and may be written to


def test_a_jpeg_is_what_pillow_reads(tmp_path):
    path = saved(Image.fromarray(noise()), tmp_path / "a.JPG", format="JPEG", quality=90)
    np.testing.assert_array_equal(open_image(path), np.asarray(Image.open(path)))
    assert open_image(str(path)).shape == (40, 50, 3)


def test_a_suffix_may_lie(tmp_path):
    path = saved(Image.fromarray(PIXELS), tmp_path / "a.jpg", format="PNG")
    np.testing.assert_array_equal(open_image(path), PIXELS)


def test_a_single_pixel(tmp_path):
    image = open_image(saved(Image.new("RGB", (1, 1), (1, 2, 3)), tmp_path / "a.png"))
    np.testing.assert_array_equal(image, [[[1, 2, 3]]])
    np.testing.assert_array_equal(resized(image, 4), np.tile([1, 2, 3], (4, 4, 1)))


def test_grey_has_three_equal_colours(tmp_path):
    grey = np.array([[0, 100], [200, 255]], np.uint8)
    image = open_image(saved(Image.fromarray(grey), tmp_path / "a.png"))
    np.testing.assert_array_equal(image, np.stack([grey] * 3, axis=2))
    bits = open_image(saved(Image.fromarray(grey > 150), tmp_path / "b.png"))
    np.testing.assert_array_equal(bits[..., 0], [[0, 0], [255, 255]])


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_keep_their_upper_eight(tmp_path, suffix):
    grey = np.array([[0, 255, 256], [40_000, 65_279, 65_535]], np.uint16)
    image = open_image(saved(Image.fromarray(grey), tmp_path / f"a.{suffix}"))
    np.testing.assert_array_equal(image[..., 1], [[0, 0, 1], [156, 254, 255]])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_sixteen_bits_a_colour(tmp_path):
    """Pillow reads such PNGs with eight bits; it cannot write them."""

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    line = b"\0" + struct.pack(">6H", 65_535, 0, 256, 1, 40_000, 255)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    content += chunk(b"IDAT", zlib.compress(line)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(content)
    np.testing.assert_array_equal(open_image(tmp_path / "a.png"), [[[255, 0, 1], [0, 156, 0]]])


def test_transparent_parts_show_white(tmp_path):
    alpha = np.array([[0, 255, 128]], np.uint8)
    layers = np.dstack([np.tile(np.uint8([200, 100, 0]), (1, 3, 1)), alpha])
    image = open_image(saved(Image.fromarray(layers), tmp_path / "a.png"))
    half = np.array([200, 100, 0]) * 128 / 255 + 255 * 127 / 255
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[0, 1].tolist() == [200, 100, 0]
    np.testing.assert_allclose(image[0, 2], half, rtol=0, atol=1)
    grey = np.dstack([np.full((1, 3), 50, np.uint8), alpha])
    image = open_image(saved(Image.fromarray(grey, "LA"), tmp_path / "b.png"))
    assert image[0, :2].tolist() == [[255, 255, 255], [50, 50, 50]]


def test_a_palette_is_looked_up_and_may_be_transparent(tmp_path):
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    palette.putpalette([*RED, *GREEN, *BLUE])
    np.testing.assert_array_equal(
        open_image(saved(palette, tmp_path / "a.png")), [[RED, GREEN, BLUE]]
    )
    path = saved(palette, tmp_path / "b.gif", transparency=1)
    np.testing.assert_array_equal(open_image(path), [[RED, WHITE, BLUE]])


def test_cmyk_becomes_rgb(tmp_path):
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255]]], np.uint8)
    image = open_image(saved(Image.fromarray(inks, "CMYK"), tmp_path / "a.tif"))
    np.testing.assert_array_equal(image, [[WHITE, (0, 255, 255), (0, 0, 0)]])
    flat = np.tile(np.uint8([0, 255, 255, 0]), (16, 16, 1))
    path = saved(Image.fromarray(flat, "CMYK"), tmp_path / "a.jpg", quality=95)
    np.testing.assert_allclose(open_image(path), np.tile(RED, (16, 16, 1)), rtol=0, atol=4)


TURNED = {
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.transpose(1, 0, 2),
    6: np.rot90(PIXELS, -1),
    7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(PIXELS),
}


@pytest.mark.parametrize("orientation", TURNED)
def test_pictures_are_turned_as_their_exif_data_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(Image.fromarray(PIXELS), tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(open_image(path), TURNED[orientation])


def test_damaged_exif_data_is_done_without(tmp_path):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\xff\xff\xff\xff" * 3
    path = saved(Image.fromarray(noise()), tmp_path / "a.jpg", exif=exif)
    assert open_image(path).shape == (40, 50, 3)


def test_the_first_of_several_frames_is_taken(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN)]
    for name in ("a.gif", "a.tif", "a.webp"):
        path = tmp_path / name
        frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
        np.testing.assert_array_equal(open_image(path), np.tile(RED, (4, 4, 1)))


def fails(path, *parts):
    with pytest.raises(DataError) as caught:
        open_image(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert text.count(str(path)) == 1
    for part in parts:
        assert part in text, text


def test_what_is_not_a_picture_is_named(tmp_path):
    fails(tmp_path / "none.jpg", "no such file; check the path")
    fails(tmp_path, "no such file")
    for name, content in {"a.jpg": b"", "b.jpg": b"not a picture", "c.png": bytes(1000)}.items():
        (tmp_path / name).write_bytes(content)
        fails(tmp_path / name, "not a picture that can be read (cannot identify image file)")


def test_deeper_pictures_than_sixteen_bits_are_named(tmp_path):
    for levels in (np.full((2, 2), 70_000, np.int32), np.full((2, 2), 0.5, np.float32)):
        path = saved(Image.fromarray(levels), tmp_path / "a.tif")
        fails(path, "not a picture that can be read (32 bits a pixel)")


def test_a_format_that_would_start_a_program_is_not_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
    fails(tmp_path / "a.jpg", "not a picture that can be read")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tif", "bmp"])
def test_a_truncated_picture_is_named(tmp_path, suffix):
    path = saved(Image.fromarray(noise()), tmp_path / f"a.{suffix}")
    content = path.read_bytes()
    for length in range(0, len(content) * 9 // 10, len(content) // 17):
        path.write_bytes(content[:length])
        fails(path, "not a picture that can be read")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["jpg", "png", "gif", "webp", "tif", "bmp"]), st.data())
def test_a_damaged_picture_is_read_or_named(tmp_path_factory, suffix, data):
    path = saved(Image.fromarray(noise(8, 9)), tmp_path_factory.getbasetemp() / f"a.{suffix}")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        image = open_image(path)
    except DataError as error:
        line = str(error)
    else:
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        return
    assert line.startswith(f"{path}: ")
    assert "\n" not in line


def test_a_huge_picture_is_refused_before_it_is_read(tmp_path, monkeypatch):
    """Its head says how large it is: 20,000 x 10,000 pixels of a file of a few hundred bytes."""
    path = saved(Image.new("1", (20_000, 10_000)), tmp_path / "a.png")
    assert path.stat().st_size < 100_000
    fails(path, "too large (", "100 million can be")
    wide = saved(Image.new("1", (50_000, 2_001)), tmp_path / "b.png")
    fails(wide, "too large (50000 x 2001 pixels; 100 million can be); save it smaller")
    monkeypatch.setattr(module, "MOST_PIXELS", 6)
    assert open_image(saved(Image.fromarray(PIXELS), tmp_path / "c.png")).size == 18
    monkeypatch.setattr(module, "MOST_PIXELS", 5)
    fails(tmp_path / "c.png", "too large (3 x 2 pixels")


def test_a_bomb_of_any_size_is_refused(tmp_path):
    path = saved(Image.new("1", (4, 4)), tmp_path / "a.png")
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 100_000, 100_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    fails(path, "too large (more than twice as many; 100 million can be)")


def test_a_picture_that_fits_is_not_resized():
    image = noise(32, 32)
    assert resized(image, 32) is image


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30), st.integers(0, 255))
def test_a_flat_picture_stays_flat_whatever_its_shape(height, width, size, level):
    image = resized(np.full((height, width, 3), level, np.uint8), size)
    np.testing.assert_array_equal(image, np.full((size, size, 3), level))


def test_resizing_squashes():
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, 20:] = 200
    small = resized(image, 8)
    assert small.shape == (8, 8, 3)
    np.testing.assert_array_equal(small[:, :2], 0)
    np.testing.assert_array_equal(small[:, 6:], 200)


def test_pictures_of_a_folder_are_found_by_suffix_in_order(tmp_path):
    for name in ("b.JPG", "a.png", "below/c.webp", "below/d.txt", "e.jpg.part", ".hidden.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path)]
    assert found == ["a.png", "b.JPG", "below/c.webp"]
    assert image_files(str(tmp_path)) == image_files(tmp_path)


def test_a_folder_without_pictures_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no pictures in it; looked for \.bmp, \.gif"):
        image_files(tmp_path)
    with pytest.raises(DataError, match="none: no such folder"):
        image_files(tmp_path / "none")
