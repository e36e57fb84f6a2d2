"""Tests of what becomes of one picture."""

from __future__ import annotations

import os
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sklearn_mtl.datasets import ImageFiles, load_images
from sklearn_mtl.datasets.pictures import layout_of

RED, GREEN, BLUE, WHITE = (250, 10, 10), (10, 250, 10), (10, 10, 250), (240, 240, 240)


def quarters(height: int = 40, width: int = 60) -> np.ndarray:
    """Red and green above, blue and white below."""
    X = np.empty((height, width, 3), dtype=np.uint8)
    X[: height // 2, : width // 2], X[: height // 2, width // 2 :] = RED, GREEN
    X[height // 2 :, : width // 2], X[height // 2 :, width // 2 :] = BLUE, WHITE
    return X


def corners(image: np.ndarray) -> list[tuple[int, ...]]:
    """Colours of an array (C, H, W) near its corners, row by row."""
    _, h, w = image.shape
    places = [(h // 8, w // 8), (h // 8, -w // 8), (-h // 8, w // 8), (-h // 8, -w // 8)]
    return [tuple(image[:, i, j].tolist()) for i, j in places]


def assert_close(found: Any, expected: Any, tolerance: int = 6) -> None:
    np.testing.assert_allclose(np.asarray(found, int), np.asarray(expected, int), atol=tolerance)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp", "gif"])
def test_formats_show_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(quarters()).save(path, **({"quality": 95} if suffix in ("jpg", "webp") else {}))
    (image,) = load_images([path], size=(20, 30))
    assert image.shape == (3, 20, 30)
    assert_close(corners(image), [RED, GREEN, BLUE, WHITE])


def test_a_picture_of_the_size_that_is_asked_for_stays_as_it_is(tmp_path: Path) -> None:
    X = np.random.default_rng(0).integers(256, size=(13, 17, 3), dtype=np.uint8)
    Image.fromarray(X).save(tmp_path / "a.png")
    for resize in ("pad", "crop", "stretch"):
        found = load_images([tmp_path / "a.png"], (13, 17), resize=resize)
        np.testing.assert_array_equal(found[0], X.transpose(2, 0, 1))


# -- size ----------------------------------------------------------------------------------------


def test_pad_shows_all_on_a_background() -> None:
    (image,) = load_images([quarters(20, 60)], size=30, background=(1, 2, 3))
    assert_close(image[:, :10], np.broadcast_to(np.array([1, 2, 3])[:, None, None], (3, 10, 30)), 0)
    assert_close(image[:, 20:], np.broadcast_to(np.array([1, 2, 3])[:, None, None], (3, 10, 30)), 0)
    assert_close(corners(image[:, 10:20]), [RED, GREEN, BLUE, WHITE])


def test_crop_shows_the_centre() -> None:
    X = np.zeros((30, 90), dtype=np.uint8)
    X[:, 30:60] = 200
    (image,) = load_images([X], size=15, resize="crop", mode="L")
    assert_close(image[:, :, 1:-1], 200, 0)
    (tall,) = load_images([X.T], size=15, resize="crop", mode="L")
    assert_close(tall, image.transpose(0, 2, 1), 0)


def test_stretch_shows_all_without_background() -> None:
    (image,) = load_images([quarters(20, 80)], size=24, resize="stretch", background=99)
    assert_close(corners(image), [RED, GREEN, BLUE, WHITE])
    assert_close(image[:, 6, :10], np.array(RED)[:, None] * np.ones(10))


@pytest.mark.parametrize("side", [1, 3, 700])
def test_pictures_of_any_proportion_have_a_pixel_at_least(side: int) -> None:
    X = np.full((side, 2), 77, dtype=np.uint8)
    for resize in ("pad", "crop", "stretch"):
        (image,) = load_images([X], size=9, resize=resize, mode="L")
        assert image.max() == 77
    assert load_images([X], size=9, resize="stretch", mode="L").min() == 77


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("resize", ["pad", "crop", "stretch"])
def test_a_large_photograph_is_shrunk_by_averages(tmp_path: Path, suffix: str, resize: str) -> None:
    """No moire of a chequerboard, neither from the quick ways of JPEG."""
    X = np.indices((1200, 1600)).sum(axis=0) % 2 * 200
    Image.fromarray(X.astype(np.uint8)).save(tmp_path / f"a.{suffix}", quality=100)
    (image,) = load_images([tmp_path / f"a.{suffix}"], size=(48, 64), resize=resize)
    assert_close(image, 100, 4)


@pytest.mark.parametrize("resize", ["pad", "crop", "stretch"])
def test_the_quick_way_of_jpeg_shows_what_the_long_one_does(tmp_path: Path, resize: str) -> None:
    rng = np.random.default_rng(1)
    smooth = Image.fromarray(rng.integers(256, size=(9, 12, 3), dtype=np.uint8))
    smooth.resize((1400, 900), Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        long = np.asarray(image)
    quick = load_images([tmp_path / "a.jpg"], size=(50, 80), resize=resize)
    assert_close(quick, load_images([long], size=(50, 80), resize=resize), 5)


# -- orientation ---------------------------------------------------------------------------------

# What a camera has to do to a picture so that this value of EXIF turns it upright again.
TURNS = {
    1: lambda X: X,
    2: lambda X: X[:, ::-1],
    3: lambda X: X[::-1, ::-1],
    4: lambda X: X[::-1],
    5: lambda X: X.transpose(1, 0, 2),
    6: lambda X: np.rot90(X),
    7: lambda X: X.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda X: np.rot90(X, -1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("height", [40, 640])  # the larger JPEG is shrunk in decoding
def test_photographs_stand_upright(
    tmp_path: Path, orientation: int, suffix: str, height: int
) -> None:
    path, exif = tmp_path / f"a.{suffix}", Image.Exif()
    exif[0x0112] = orientation
    lying = np.ascontiguousarray(TURNS[orientation](quarters(height, 2 * height)))
    Image.fromarray(lying).save(path, exif=exif, **({} if suffix == "tif" else {"quality": 95}))
    (image,) = load_images([path], size=(30, 60))
    assert_close(corners(image), [RED, GREEN, BLUE, WHITE])
    (padded,) = load_images([path], size=60)
    assert_close(padded[:, :14], 0, 0)
    assert_close(corners(padded[:, 15:45]), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_images_with_transparency_stand_upright(
    tmp_path: Path, orientation: int, mode: str
) -> None:
    path, exif = tmp_path / "a.png", Image.Exif()
    exif[0x0112] = orientation
    lying = np.ascontiguousarray(TURNS[orientation](quarters(40, 80)))
    image = Image.fromarray(lying).convert("RGBA")
    image.save(path, exif=exif)
    expected = load_images([quarters(40, 80)], size=(30, 60), mode=mode)
    np.testing.assert_allclose(load_images([path], size=(30, 60), mode=mode), expected, atol=3)


@pytest.mark.parametrize("orientation", TURNS)
def test_grey_of_16_bits_and_images_in_memory_stand_upright(
    tmp_path: Path, orientation: int
) -> None:
    path, exif = tmp_path / "a.png", Image.Exif()
    exif[0x0112] = orientation
    grey = quarters(40, 80)[..., 0]
    lying = np.ascontiguousarray(TURNS[orientation](grey[..., None])[..., 0])
    Image.fromarray(lying.astype(np.uint16) * 256).save(path, exif=exif)
    expected = load_images([grey], size=(30, 60), mode="L")
    np.testing.assert_allclose(load_images([path], size=(30, 60), mode="L"), expected, atol=3)
    image = Image.fromarray(lying).convert("RGB")
    image.getexif()[0x0112] = orientation
    np.testing.assert_allclose(load_images([image], (30, 60), mode="L"), expected, atol=3)


def test_damaged_exif_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(quarters(8, 8)).save(path, exif=b"Exif\0\0" + bytes(range(50)), quality=95)
    (image,) = load_images([path], size=8)
    assert_close(corners(image), [RED, GREEN, BLUE, WHITE])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no file, but a pipe"):
        ImageFiles([tmp_path / "pipe"], 8)


@pytest.mark.parametrize(
    ("paths", "error", "message"),
    [
        (None, ValueError, "paths is a NoneType, and no list"),
        (5, ValueError, "paths is a int, and no list"),
        (
            [np.zeros((0, 8), np.uint8)],
            TypeError,
            r"a ndarray of uint8 and the shape \(0, 8\) in row 0",
        ),
        ([np.zeros((3, 8, 8), np.uint8)], TypeError, r"the shape \(3, 8, 8\) in row 0"),
    ],
)
def test_what_is_no_list_of_pictures(paths: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_images(paths, 8)


# -- modes ---------------------------------------------------------------------------------------


def test_grey_of_colours_and_colours_of_grey() -> None:
    grey = np.full((8, 8), 90, dtype=np.uint8)
    assert_close(load_images([grey], size=8), 90, 0)
    (image,) = load_images([quarters(8, 8)], size=8, mode="L")
    assert image.shape == (1, 8, 8)
    assert_close(image[0, 0, 0], 0.299 * 250 + 0.587 * 10 + 0.114 * 10, 1)


def test_transparent_pixels_show_the_background(tmp_path: Path) -> None:
    X = np.dstack([quarters(20, 20), np.full((20, 20), 255, dtype=np.uint8)])
    X[:10, :10, 3], X[:10, 10:, 3] = 0, 128
    Image.fromarray(X).save(tmp_path / "a.png")
    (image,) = load_images([tmp_path / "a.png"], size=20, background=(0, 0, 100))
    assert_close(corners(image), [(0, 0, 100), (5, 125, 55), BLUE, WHITE], 2)
    (whole,) = load_images([tmp_path / "a.png"], size=(20, 30), mode="RGBA", background=7)
    assert whole.shape == (4, 20, 30)
    assert whole[3, 5, 10] == 0  # transparent as it was
    assert whole[:, 5, 0].tolist() == [7, 7, 7, 0]  # padded
    assert_close(whole[:, 15, 10], (*BLUE, 255))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_palettes_become_what_they_show(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(quarters()).quantize(8)
    image.info["transparency"] = int(np.asarray(image)[0, 0])  # of red
    image.save(tmp_path / "a.png", transparency=image.info["transparency"])
    (found,) = load_images([tmp_path / "a.png"], size=(40, 60), mode=mode, background=200)
    expected = [(200, 200, 200), GREEN, BLUE, WHITE]
    if mode == "L":
        expected = [(round(0.299 * r + 0.587 * g + 0.114 * b),) for r, g, b in expected]
    assert_close(corners(found), expected)


def test_one_colour_that_stands_for_transparent(tmp_path: Path) -> None:
    Image.fromarray(quarters()).save(tmp_path / "a.png", transparency=GREEN)
    (image,) = load_images([tmp_path / "a.png"], size=(40, 60), background=(1, 1, 1))
    assert_close(corners(image), [RED, (1, 1, 1), BLUE, WHITE], 0)


def test_black_and_white_is_smoothed(tmp_path: Path) -> None:
    X = np.indices((40, 40)).sum(axis=0) % 2 * 255
    Image.fromarray(X.astype(np.uint8)).convert("1").save(tmp_path / "a.png")
    assert_close(load_images([tmp_path / "a.png"], size=10), 127, 3)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_of_16_bits_the_upper_8_are_kept(tmp_path: Path, suffix: str) -> None:
    X = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
    Image.fromarray(X).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(
        load_images([tmp_path / f"a.{suffix}"], size=8, mode="L")[0, 0], X // 256
    )


MODES_OF_TIFF = ["CMYK", "L", "LA", "P", "RGB", "RGBA", "YCbCr", "I;16"]


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("mode", MODES_OF_TIFF)
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_tiff_of_any_mode_stands_upright(
    tmp_path: Path, orientation: int, mode: str, compression: Any
) -> None:
    """Those that are not compressed can be mapped into memory, where Pillow does not turn them."""
    path, exif = tmp_path / "a.tif", Image.Exif()
    exif[0x0112] = orientation
    lying = np.ascontiguousarray(TURNS[orientation](quarters(40, 80)))
    image = Image.fromarray(lying)
    if mode == "I;16":
        image = Image.fromarray(lying[..., 0].astype(np.uint16) * 257)
    else:
        image = image.quantize(8) if mode == "P" else image.convert(mode)
    image.save(path, exif=exif, compression=compression)
    expected = np.array([RED, GREEN, BLUE, WHITE])
    if mode == "I;16":
        expected = expected[:, [0, 0, 0]]
    elif mode in ("L", "LA"):
        expected = (expected @ [0.299, 0.587, 0.114]).round()[:, None].repeat(3, axis=1)
    for size in [(20, 40), (40, 80)]:
        assert_close(corners(load_images([path], size)[0]), expected, 9)


def write_png(path: Path, values: np.ndarray, color: int, *more: tuple[bytes, bytes]) -> None:
    """Write a PNG that Pillow itself does not write."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 8 * values.dtype.itemsize, color, 0, 0, 0)
    text = b"\x89PNG\r\n\x1a\n"
    for name, data in [(b"IHDR", head), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]:
        text += struct.pack(">I", len(data)) + name + data
        text += struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(text)


DEEP = quarters(40, 80).astype(">u2") * 257
PLACES = np.repeat(np.repeat(np.array([[0, 1], [2, 3]], dtype=np.uint8), 20, axis=0), 40, axis=1)
PALETTE = b"PLTE", bytes(RED + GREEN + BLUE + WHITE)
OPAQUE = np.full((40, 80, 1), 65535, dtype=">u2")
GREYS = [(c[0],) * 3 for c in (RED, GREEN, BLUE, WHITE)]
GROUND = (9, 9, 9)
RARE_PNG = {
    "RGB of 16 bits": (DEEP, 2, [], [RED, GREEN, BLUE, WHITE]),
    "RGBA of 16 bits": (np.dstack([DEEP, OPAQUE]), 6, [], [RED, GREEN, BLUE, WHITE]),
    "grey and alpha of 16 bits": (np.dstack([DEEP[..., :1], OPAQUE]), 4, [], GREYS),
    "a transparent grey of 16 bits": (
        *(DEEP[..., 0], 0, [(b"tRNS", struct.pack(">H", 257 * 250))]),
        [GROUND, *GREYS[1:]],
    ),
    "a transparent colour of 16 bits": (
        *(DEEP, 2, [(b"tRNS", struct.pack(">HHH", *(257 * c for c in RED)))]),
        [GROUND, GREEN, BLUE, WHITE],
    ),
    "a palette of several transparencies": (
        *(PLACES, 3, [PALETTE, (b"tRNS", bytes([0, 128, 255]))]),
        [GROUND, (9, 129, 9), BLUE, WHITE],
    ),
}


@pytest.mark.parametrize("case", RARE_PNG)
def test_rare_kinds_of_png(tmp_path: Path, case: str) -> None:
    values, color, more, expected = RARE_PNG[case]
    write_png(tmp_path / "a.png", values, color, *more)
    (image,) = load_images([tmp_path / "a.png"], (40, 80), background=9)
    assert_close(corners(image), expected, 2)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
@pytest.mark.parametrize("clear", [False, True])
def test_of_moving_pictures_the_first_is_shown(tmp_path: Path, suffix: str, clear: bool) -> None:
    X = np.dstack([quarters(), np.full((40, 60), 255, dtype=np.uint8)])
    X[:, :30, 3] = 0 if clear else 255
    params = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(X).save(
        tmp_path / f"a.{suffix}",
        save_all=True,
        append_images=[Image.new("RGBA", (60, 40), (*BLUE, 255))],
        **params,
    )
    (image,) = load_images([tmp_path / f"a.{suffix}"], (40, 60), background=GROUND)
    expected = [GROUND, GREEN, GROUND, WHITE] if clear else [RED, GREEN, BLUE, WHITE]
    assert_close(corners(image), expected)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_pixels_are_those_of_the_file_whatever_its_profile(tmp_path: Path, suffix: str) -> None:
    cms = pytest.importorskip("PIL.ImageCms")
    profile = cms.ImageCmsProfile(cms.createProfile("LAB")).tobytes()
    params: dict[str, Any] = {"quality": 95} if suffix in ("jpg", "webp") else {}
    for name, given in (("a", {}), ("b", {"icc_profile": profile})):
        Image.fromarray(quarters()).save(tmp_path / f"{name}.{suffix}", **params, **given)
    plain, profiled = load_images([tmp_path / f"{name}.{suffix}" for name in "ab"], 40)
    np.testing.assert_array_equal(profiled, plain)


def test_cmyk_and_frames(tmp_path: Path) -> None:
    Image.fromarray(quarters()).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    Image.fromarray(quarters()).save(
        tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (60, 40), BLUE)]
    )
    for name, mode in (("a.jpg", "RGB"), ("a.gif", "RGB"), ("a.jpg", "RGBA")):
        (image,) = load_images([tmp_path / name], size=(40, 60), mode=mode)
        assert_close(corners(image[:3]), [RED, GREEN, BLUE, WHITE])
        assert_close(image[3:], 255, 0)


# -- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"size": 0}, "size=0 is no size.* (height, width)"),
        ({"size": 32.0}, "size=32.0"),
        ({"size": True}, "size=True"),
        ({"size": "32"}, "size='32'"),
        ({"size": (32,)}, "size=(32,)"),
        ({"size": (3, 32, 32)}, "size=(3, 32, 32)"),
        ({"size": (32, -1)}, "size=(32, -1)"),
        ({"mode": "BGR"}, "mode='BGR' does not exist. Use one of ['L', 'RGB', 'RGBA']"),
        ({"mode": 3}, "mode=3"),
        ({"resize": "squash"}, "resize='squash' does not exist"),
        ({"background": 256}, "background=256 is no colour"),
        ({"background": -1}, "background=-1"),
        ({"background": (0, 0)}, "background=(0, 0)"),
        ({"background": "white"}, "background='white'"),
        ({"background": 0.5}, "background=0.5"),
        ({"mode": "L", "background": RED}, "is no grey"),
    ],
)
def test_bad_parameters(params: dict[str, Any], message: str) -> None:
    given = {"size": 8, "mode": "RGB", "resize": "pad", "background": 0} | params
    with pytest.raises(ValueError, match=re.escape(message).replace(r"\.\*", ".*")):
        layout_of(**given)


def test_sizes_of_numpy() -> None:
    assert layout_of(np.int64(7), "L", "pad", 0) == layout_of(
        np.array([7, 7]), "L", "pad", (0,) * 3
    )
