from __future__ import annotations

import io
import struct
import subprocess
import warnings
import zlib
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from resnetkit.data import decode as decoding
from resnetkit.data.decode import MAX_PIXELS, decode, plain_jpeg
from resnetkit.data.resize import view
from resnetkit.errors import BadImage

Pixels = NDArray[np.uint8]
RNG = np.random.default_rng(0)
RGB: Pixels = RNG.integers(0, 256, (5, 7, 3), np.uint8)
GRAY: Pixels = RNG.integers(0, 256, (5, 7), np.uint8)
ALPHA: Pixels = RNG.integers(0, 256, (5, 7), np.uint8)


def file_of(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_alpha(mode: str, colour: Pixels) -> bytes:
    image = Image.fromarray(colour)
    image.putalpha(Image.fromarray(ALPHA))
    assert image.mode == mode
    return file_of(image, "PNG")


def over_white(colour: Pixels, alpha: Pixels) -> NDArray[np.float64]:
    share = alpha[:, :, None] / 255
    return as_rgb(colour) * share + 255 * (1 - share)


def as_rgb(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def check(data: bytes) -> Pixels:
    pixels = decode(data, "here/x.png")
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    return pixels


def refused(data: bytes) -> str:
    with pytest.raises(BadImage, match=r"^here/x\.png: ") as caught:
        decode(data, "here/x.png")
    return str(caught.value)


# --- modes ---


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_rgb_and_gray_come_back_as_they_are(kind: str) -> None:
    np.testing.assert_array_equal(check(file_of(Image.fromarray(RGB), kind)), RGB)
    np.testing.assert_array_equal(check(file_of(Image.fromarray(GRAY), kind)), as_rgb(GRAY))


def test_one_bit() -> None:
    bits = (GRAY > 127).astype(np.uint8) * 255
    np.testing.assert_array_equal(check(file_of(Image.fromarray(bits).convert("1"), "PNG")), as_rgb(bits))


def test_alpha_lies_over_white() -> None:
    np.testing.assert_allclose(check(with_alpha("RGBA", RGB)), over_white(RGB, ALPHA), atol=1)
    np.testing.assert_allclose(check(with_alpha("LA", GRAY)), over_white(GRAY, ALPHA), atol=1)


def test_palette() -> None:
    palette = Image.fromarray(RGB).quantize(16)
    colours = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(check(file_of(palette, "PNG")), colours)
    np.testing.assert_array_equal(check(file_of(palette, "GIF")), colours)


def test_palette_with_transparency_lies_over_white() -> None:
    palette = Image.fromarray(RGB).quantize(16)
    colours, places = np.asarray(palette.convert("RGB")), np.asarray(palette)
    expected = np.where((places == 3)[:, :, None], 255, colours)
    assert (places == 3).any()
    np.testing.assert_array_equal(check(file_of(palette, "PNG", transparency=3)), expected)
    np.testing.assert_array_equal(check(file_of(palette, "GIF", transparency=3)), expected)
    shares = np.arange(0, 256, 16, dtype=np.uint8)  # one alpha a colour
    found = check(file_of(palette, "PNG", transparency=shares.tobytes()))
    np.testing.assert_allclose(found, over_white(colours, shares[places]), atol=1)


def test_one_transparent_colour_lies_over_white() -> None:
    transparent = tuple(RGB[2, 3].tolist())
    expected = RGB.copy()
    expected[2, 3] = 255
    np.testing.assert_array_equal(check(file_of(Image.fromarray(RGB), "PNG", transparency=transparent)), expected)
    gray = np.where(np.equal(GRAY, GRAY[2, 3]), 255, GRAY)
    found = check(file_of(Image.fromarray(GRAY), "PNG", transparency=int(GRAY[2, 3])))
    np.testing.assert_array_equal(found, as_rgb(gray))


def test_cmyk_and_ycbcr() -> None:
    inks = RNG.integers(0, 256, (5, 7, 4), np.uint8)
    found = check(file_of(Image.fromarray(inks, "CMYK"), "TIFF"))
    light = (255 - inks[:, :, :3].astype(float)) * (255 - inks[:, :, 3:].astype(float)) / 255
    np.testing.assert_allclose(found, light, atol=1)
    flat = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red
    np.testing.assert_allclose(check(file_of(flat, "JPEG", quality=95)).mean((0, 1)), [255, 0, 0], atol=4)
    ycbcr = Image.new("RGB", (16, 16), (200, 30, 60)).convert("YCbCr")
    np.testing.assert_allclose(check(file_of(ycbcr, "TIFF")).mean((0, 1)), [200, 30, 60], atol=2)


DEEP = np.array([[0, 256, 257, 514], [32768, 65278, 65279, 65535]], np.uint16)
SCALED = np.array([[0, 0, 1, 2], [127, 254, 254, 255]])


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "I;16"), ("TIFF", "I;16"), ("TIFF", "I;16B"), ("PPM", "I")])
def test_sixteen_bits_are_scaled(kind: str, mode: str) -> None:
    deep = Image.fromarray(DEEP.astype(np.int32)) if mode == "I" else Image.fromarray(DEEP)
    if mode == "I;16B":
        deep = Image.frombytes(mode, (4, 2), DEEP.astype(">u2").tobytes())
    data = file_of(deep, kind)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == mode
    np.testing.assert_array_equal(check(data), as_rgb(SCALED))


def test_transparent_sixteen_bit_gray_lies_over_white() -> None:
    data = file_of(Image.fromarray(DEEP), "PNG")
    place = data.index(b"IDAT") - 4
    chunk = b"tRNS" + struct.pack(">H", 257)
    chunk = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    expected = SCALED.copy()
    expected[0, 2] = 255
    np.testing.assert_array_equal(check(data[:place] + chunk + data[place:]), as_rgb(expected))


def test_numbers_without_a_known_white_are_refused() -> None:
    for array, reason in (
        (np.array([[0, 70_000]], np.int32), "pixels of 0 to 70000 have no known white"),
        (np.array([[-5, 3]], np.int32), "pixels of -5 to 3 have no known white"),
        (np.ones((2, 2), np.float32), "float pixels have no known white"),
    ):
        data = file_of(Image.fromarray(array), "TIFF")
        assert refused(data) == f"here/x.png: {reason}\n  next: save it with 8 or 16 bits"


# --- orientation ---

UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {  # from how it is stored to how it is seen, by the number in EXIF
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", list(UPRIGHT))
def test_exif_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    stored = check(file_of(Image.fromarray(RGB), kind, **options))
    assert stored.shape == (5, 7, 3)
    found = check(file_of(Image.fromarray(RGB), kind, exif=exif, **options))
    np.testing.assert_array_equal(found, UPRIGHT[orientation](stored))


def test_an_orientation_that_does_not_exist_changes_nothing() -> None:
    exif = Image.Exif()
    exif[274] = 9
    np.testing.assert_array_equal(check(file_of(Image.fromarray(RGB), "PNG", exif=exif)), RGB)


# --- JPEG by a faster library ---


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
def test_a_jpeg_is_what_pillow_makes_of_it(subsampling: int, gray: bool, options: dict[str, Any]) -> None:
    pixels = np.cumsum(RNG.integers(-9, 10, (61, 45, 3)), axis=0).astype(np.uint8)
    image = Image.fromarray(pixels[:, :, 0] if gray else pixels)
    data = file_of(image, "JPEG", quality=60, subsampling=subsampling, **options)
    with Image.open(io.BytesIO(data)) as expected:
        np.testing.assert_array_equal(check(data), np.asarray(expected.convert("RGB")))


def test_the_faster_library_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: Image.Image) -> None:
        raise AssertionError("Pillow decodes")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    assert check(FILES["jpeg"]).shape == RGB.shape
    assert check(FILES["progressive"]).shape == RGB.shape


def test_stray_bytes_in_a_jpeg_are_passed_over_and_half_a_jpeg_is_not() -> None:
    data = file_of(Image.fromarray(np.repeat(np.repeat(RGB, 8, 0), 8, 1)), "JPEG", progressive=True)
    whole, last_scan = check(data), data.rindex(b"\xff\xda")
    stray = data[:last_scan] + b"\0\0\0" + data[last_scan:]
    with pytest.raises(ValueError, match="extraneous bytes"):
        simplejpeg.decode_jpeg(stray, "RGB")
    np.testing.assert_array_equal(check(stray), whole)
    np.testing.assert_array_equal(check(data + b"more"), whole)
    assert refused(data[: len(data) // 2]).startswith("here/x.png: the image is damaged: ")


# --- colour profiles ---


def swapped_profile() -> bytes:
    """Return the profile of a space that is sRGB with red and green in each other's place, and says another name."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = data.replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")
    return data.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_colours_with_a_profile_become_srgb(kind: str) -> None:
    lossless: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
    options = lossless.get(kind, {})
    plain = check(file_of(Image.fromarray(RGB), kind, **options)).astype(int)
    found = check(file_of(Image.fromarray(RGB), kind, icc_profile=swapped_profile(), **options))
    assert np.abs(found - plain[:, :, [1, 0, 2]]).max() <= 2
    assert np.abs(found - plain).max() > 100


def test_a_profile_goes_with_the_orientation() -> None:
    exif = Image.Exif()
    exif[274] = 6
    profile = swapped_profile()
    stored = check(file_of(Image.fromarray(RGB), "PNG", icc_profile=profile))
    turned = check(file_of(Image.fromarray(RGB), "PNG", icc_profile=profile, exif=exif))
    np.testing.assert_array_equal(turned, np.rot90(stored, -1))


def test_profiles_that_change_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    called_srgb = swapped_profile().replace("swap".encode("utf-16-be"), "sRGB".encode("utf-16-be"))
    for profile in (srgb, called_srgb, b"no profile", swapped_profile()[:200]):
        np.testing.assert_array_equal(check(file_of(Image.fromarray(RGB), "PNG", icc_profile=profile)), RGB)
    gray = check(file_of(Image.fromarray(GRAY), "PNG", icc_profile=swapped_profile()))  # of another kind of picture
    np.testing.assert_array_equal(gray, as_rgb(GRAY))
    transparent = tuple(RGB[2, 3].tolist())
    for options in ({}, {"icc_profile": swapped_profile()}):
        found = check(file_of(Image.fromarray(RGB), "PNG", transparency=transparent, **options))
        np.testing.assert_array_equal(found, np.where(np.equal(RGB, transparent).all(2, keepdims=True), 255, RGB))


# --- animations, damage, bombs ---


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_counts(kind: str) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue", "green")]
    options: dict[str, Any] = {"WEBP": {"lossless": True}}.get(kind, {})
    data = file_of(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as image:
        assert getattr(image, "n_frames", 1) == 3
    assert (check(data) == [255, 0, 0]).all()


FILES = {
    "png": file_of(Image.fromarray(RGB), "PNG"),
    "palette": file_of(Image.fromarray(RGB).quantize(8), "PNG"),
    "jpeg": file_of(Image.fromarray(RGB), "JPEG"),
    "progressive": file_of(Image.fromarray(RGB), "JPEG", progressive=True),
    "gif": file_of(Image.fromarray(RGB).quantize(8), "GIF"),
    "bmp": file_of(Image.fromarray(RGB), "BMP"),
    "tiff": file_of(Image.fromarray(RGB), "TIFF"),
    "webp": file_of(Image.fromarray(RGB), "WEBP"),
    "lossless": file_of(Image.fromarray(RGB), "WEBP", lossless=True),
    "ppm": file_of(Image.fromarray(RGB), "PPM"),
}


@pytest.mark.parametrize("name", list(FILES))
def test_a_file_cut_anywhere_is_whole_or_refused(name: str) -> None:
    """Only bytes after the pixels may be missing: no image is half gray."""
    data = FILES[name]
    whole = check(data)
    refusals = 0
    for length in range(len(data)):
        try:
            np.testing.assert_array_equal(decode(data[:length], "x"), whole)
        except BadImage as error:
            assert str(error).startswith("x: ")
            refusals += 1
    assert refusals >= len(data) - 24


@given(data=st.data(), name=st.sampled_from(list(FILES)))
def test_a_file_with_wrong_bytes_is_an_image_or_refused(data: st.DataObject, name: str) -> None:
    content = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        check(bytes(content))
    except BadImage as error:
        assert str(error).startswith("here/x.png: ")


@pytest.mark.parametrize("error", [RuntimeError("no such frame"), struct.error("unpack"), zlib.error("stream")])
def test_whatever_a_decoder_raises_names_the_file(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders raise errors of many kinds: that of AVIF, for one, RuntimeError."""

    def load(image: Image.Image) -> None:
        raise error

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    assert refused(FILES["bmp"]) == f"here/x.png: the image is damaged: {error}"


@given(st.binary(max_size=60))
def test_any_bytes_are_an_image_or_refused(content: bytes) -> None:
    try:
        check(content)
    except BadImage as error:
        assert str(error).startswith("here/x.png: ")


def test_what_is_not_an_image_says_so() -> None:
    assert refused(b"") == "here/x.png: the file is empty"
    assert refused(b"hello, world\n" * 100) == "here/x.png: not an image of a known format"
    assert refused(b"<svg xmlns='http://www.w3.org/2000/svg'/>") == "here/x.png: not an image of a known format"
    assert refused(FILES["png"][:100]).startswith("here/x.png: the image is damaged: ")


def test_no_other_program_is_started_on_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **options: started.append(args))
    eps = file_of(Image.fromarray(RGB), "EPS")
    assert eps.startswith(b"%!PS")
    assert refused(eps) == "here/x.png: not an image of a known format"
    assert started == []


def png_of_size(width: int, height: int) -> bytes:
    """Write a PNG that claims a size and has the pixels of none."""
    data = bytearray(file_of(Image.new("1", (8, 8)), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


@pytest.mark.parametrize("side", [10_001, 13_000, 20_000, 2**31 - 1])
def test_bombs_are_refused_before_any_pixel_is_made(side: int) -> None:
    message = refused(png_of_size(side, side))
    assert "pixels" in message
    assert f"expected at most {MAX_PIXELS:,} pixels" in message
    assert "damaged" not in message


def test_decoding_warns_of_nothing_and_leaves_the_filters() -> None:
    before = list(warnings.filters)
    with pytest.raises(BadImage):
        decode(png_of_size(9_900, 9_900), "x")  # above the size that Pillow warns at
    assert list(warnings.filters) == before


def test_a_profile_that_cannot_be_followed_to_the_end_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ImageCms.PyCMSError("no")

    monkeypatch.setattr(ImageCms, "applyTransform", fail)
    np.testing.assert_array_equal(check(file_of(Image.fromarray(RGB), "PNG", icc_profile=swapped_profile())), RGB)


def test_headers_that_want_more_than_decoding_are_pillows() -> None:
    def mode(**options: object) -> str | None:
        file = io.BytesIO()
        gray = options.pop("gray", False)
        Image.new("L" if gray else "RGB", (9, 7), 90 if gray else (10, 200, 60)).save(file, "JPEG", **options)
        assert np.array_equal(decode(file.getvalue(), "x"), slow(file.getvalue()))
        found = plain_jpeg(file.getvalue())
        return found[0] if found else None

    def slow(data: bytes) -> np.ndarray:
        with patch.object(decoding, "plain_jpeg_pixels", lambda data, least_side: None):
            return decode(data, "x")

    upright, turned = Image.Exif(), Image.Exif()
    upright[0x0112], turned[0x0112] = 1, 6
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert mode() == mode(exif=upright) == mode(icc_profile=srgb) == mode(progressive=True) == "RGB"
    assert mode(gray=True) == "L"
    assert mode(exif=turned) is None
    assert mode(icc_profile=lab) in (None, "RGB")  # no profile of RGB: nothing is converted
    file = io.BytesIO()
    Image.new("CMYK", (9, 7)).save(file, "JPEG")
    assert plain_jpeg(file.getvalue()) is None and plain_jpeg(b"\x89PNG") is None
    assert all(plain_jpeg(file.getvalue()[:length]) is None for length in range(0, 200, 7))


def camera_jpeg(height: int, width: int, mode: str = "RGB", **options: object) -> bytes:
    """A JPEG of smooth blobs and some noise, as a camera's."""
    rng = np.random.default_rng(height)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    noisy = np.clip(np.asarray(coarse) + rng.normal(0, 6, (height, width, 1)), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).convert(mode).save(file, "JPEG", quality=92, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("height", "width", "least", "expected"),
    [
        (3000, 4000, 512, (750, 1000)),
        (4000, 3000, 512, (1000, 750)),
        (2304, 1792, 200, (288, 224)),
        (2304, 1792, 224, (288, 224)),
        (2304, 1792, 225, (576, 448)),
        (2304, 1792, 1000, (2304, 1792)),
        (2303, 1792, 200, (2303, 1792)),  # nothing divides both sides
        (2306, 1790, 200, (1153, 895)),
        (1792, 1792, 200, (1792, 1792)),  # too few pixels
        (3000, 4000, None, (3000, 4000)),
    ],
)
def test_only_what_is_large_enough_is_decoded_smaller(
    height: int, width: int, least: int | None, expected: tuple[int, int]
) -> None:
    assert decode(camera_jpeg(height, width), "x", least).shape == (*expected, 3)


@pytest.mark.parametrize("kind", ["plain", "gray", "turned", "profile"])
def test_a_photo_that_is_decoded_smaller_looks_the_same(kind: str) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds: dict[str, dict[str, Any]] = {"plain": {}, "gray": {"mode": "L"}, "turned": {"exif": turned},
                                        "profile": {"icc_profile": swapped_profile()}}  # fmt: skip
    data = camera_jpeg(2304, 1792, **kinds[kind])
    arguments: Any = {"resize_size": 128, "crop_size": 112, "family": "pillow-bilinear", "keep_ratio": True}
    whole, smaller = decode(data, "x"), decode(data, "x", 400)
    assert smaller.shape == (whole.shape[0] // 4, whole.shape[1] // 4, 3)
    apart = np.abs(view(whole, **arguments).astype(int) - view(smaller, **arguments))
    assert 0 < apart.mean() <= 0.5 and apart.max() <= 8


def test_a_damaged_photo_is_refused_at_any_size() -> None:
    data = camera_jpeg(2304, 1792)
    with pytest.raises(BadImage):
        decode(data[: len(data) // 2], "x", 256)


def test_what_lies_inside_another_format_cannot_start_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """An EPS in an IPTC file: Pillow would open it as any format, and EPS by Ghostscript."""
    started: list[object] = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *given, **named: started.append(given))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"

    def field(record: int, number: int, data: bytes) -> bytes:
        return bytes((0x1C, record, number)) + len(data).to_bytes(2, "big") + data

    data = field(3, 60, b"\x01\x00") + field(3, 65, b"\x01") + field(3, 20, b"\x00\x08") + field(3, 30, b"\x00\x08")
    data += field(3, 120, b"\x01") + field(8, 10, eps)
    with pytest.raises(BadImage, match="not an image of a known format"):
        decode(data, "x")
    assert started == []
