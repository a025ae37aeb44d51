"""One way from an image file to pixels, for the whole program, and what becomes of a bad one: docs/images.md.

EXIF orientation is applied; colours with an embedded profile become sRGB; transparency is laid over white; 16-bit
gray is scaled to 8 bits; of an animation the first frame counts; every other mode becomes RGB as Pillow converts it.
Nothing is guessed and nothing put in a file's place: one that cannot be read whole, or whose numbers have no known
white (floats, whole numbers over 16 bits), is an error that names it, and ends a run.
"""

from __future__ import annotations

import io
import struct
import warnings
from functools import cache, lru_cache
from zlib import error as ZlibError

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from resnetkit.errors import BadImage, TooManyPixels, UnknownFormat

Encoded = bytes | memoryview  # an image file's content

MAX_PIXELS = 100_000_000  # a larger picture is taken for a decompression bomb
DECODER_ERRORS = (OSError, ValueError, SyntaxError, IndexError, KeyError, EOFError, TypeError, OverflowError,
                  MemoryError, RuntimeError, struct.error, ZlibError)  # fmt: skip
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI", "SGI", "SPIDER",
           "SUN", "TGA", "TIFF", "WEBP", "XBM", "XPM", "PSD", "DDS", "IM", "MSP")  # fmt: skip
JPEGS = {"JPEG", "MPO"}  # MPO: a JPEG with more pictures behind it
PIXEL_FORMATS = {"RGB": "RGB", "L": "GRAY"}  # simplejpeg's names of Pillow's modes
# Of a JPEG's header: two bytes at its start, then segments of a marker, a kind and a length.
JPEG_START, MARKER, SCAN = b"\xff\xd8", 0xFF, 0xDA
FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # they hold bits, height, width and the number of components
NAMED, NAMED_BYTES = {0xE1, 0xE2}, 12  # segments that begin with a name: EXIF and XMP; profiles and more pictures
PROFILE_NAME, PROFILE_START, WHOLE_PROFILE = b"ICC_PROFILE\0", 14, b"\1\1"  # number of the part, and of how many
JPEG_MODES = {1: "L", 3: "RGB"}
REDUCTIONS = (8, 4, 2)  # by which libjpeg makes a JPEG smaller as it decodes it; others are slower
MANY_PIXELS = 4_000_000  # a photo of a camera: of fewer there is little to gain
SRGB = "sRGB"  # in the description of an embedded profile: nothing to convert
PROFILED = {"RGB", "L", "CMYK"}  # modes that an embedded profile is followed in
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by the number in EXIF


def decode(data: Encoded, name: str, least_side: int | None = None) -> NDArray[np.uint8]:
    """Decode an image file's bytes to RGB uint8 [H, W, 3]; BadImage names the file by `name`.

    With `least_side`, a JPEG of a camera's many pixels may come at a half, a quarter or an eighth of its size, with no
    side below that: what is resized to far fewer is nearly the same, and the whole is never made.
    """
    if not data:
        raise BadImage(f"{name}: the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata that does not concern the pixels
            return decode_any(data, name, least_side)
    except UnidentifiedImageError as error:
        raise UnknownFormat(f"{name}: not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise TooManyPixels(f"{name}: too many pixels", f"expected at most {MAX_PIXELS:,} pixels") from error
    except DECODER_ERRORS as error:
        raise BadImage(f"{name}: the image is damaged: {error}") from error


def decode_any(data: Encoded, name: str, least_side: int | None) -> NDArray[np.uint8]:
    """Decode with the library that is fastest for the format, after a look at the size."""
    plain = plain_jpeg_pixels(data, least_side)
    if plain is not None:
        return plain
    with Image.open(io.BytesIO(data), formats=read_formats()) as image:
        if has_too_many_pixels(image):
            size = f"{image.width} x {image.height} pixels"
            raise TooManyPixels(f"{name}: {size}", f"expected at most {MAX_PIXELS:,} pixels")
        pixels = jpeg_pixels(image, data, least_side)
        if pixels is None:
            image.load()
            if has_too_many_pixels(image):  # of an icon the picture inside may be larger than is said
                raise TooManyPixels(f"{name}: too many pixels", f"expected at most {MAX_PIXELS:,} pixels")
        orientation, profile = orientation_of(image), image.info.get("icc_profile")  # Pillow turns a TIFF as it loads
        if pixels is not None and orientation not in UPRIGHT and not (profile and to_srgb(profile, image.mode)):
            return pixels if image.mode == "RGB" else np.repeat(pixels, 3, axis=2)
        coloured = image if pixels is None else as_image(pixels)
        rgb = with_profile(coloured, profile) if profile else None
        rgb = rgb or to_rgb(coloured, name)
        return np.asarray(rgb.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else rgb)


def plain_jpeg_pixels(data: Encoded, least_side: int | None) -> NDArray[np.uint8] | None:
    """Decode a JPEG that needs nothing more to RGB [H, W, 3]; None where anything is to be looked at by Pillow."""
    plain = plain_jpeg(data)
    pixels = simple_pixels(data, *plain, least_side) if plain else None
    return np.repeat(pixels, 3, axis=2) if pixels is not None and pixels.shape[2] == 1 else pixels


def simple_pixels(
    data: Encoded, mode: str, height: int, width: int, least_side: int | None
) -> NDArray[np.uint8] | None:
    """Decode a JPEG by simplejpeg to uint8 [H, W, 3], of mode L [H, W, 1]; None where that finds anything odd."""
    factor = reduction(height, width, least_side) if least_side else 1
    smaller = {"min_height": height // factor, "min_width": width // factor} if factor > 1 else {}
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, PIXEL_FORMATS[mode], fastdct=False, fastupsample=False, **smaller
        )
    except ValueError:
        return None
    return pixels


def reduction(height: int, width: int, least_side: int) -> int:
    """Return by how much a JPEG may be smaller: by what divides both sides, so that its picture has the same edges."""
    fitting = (factor for factor in REDUCTIONS if height % factor == width % factor == 0
               and min(height, width) // factor >= least_side)  # fmt: skip
    return next(fitting, 1) if height * width >= MANY_PIXELS else 1


def plain_jpeg(data: Encoded) -> tuple[str, int, int] | None:
    """Return mode, height and width of a JPEG that only wants decoding, else None.

    It is upright, in sRGB, one picture, of three components (RGB) or one (L).  Pillow's look at the header takes
    longer, for each photo.
    """
    if bytes(data[:2]) != JPEG_START:
        return None
    place, profile = 2, b""
    mode, height, width = None, 0, 0
    try:
        while data[place] == MARKER:
            kind = data[place + 1]
            length = int.from_bytes(data[place + 2 : place + 4], "big")
            content = place + 4
            if kind == SCAN:
                return None if mode is None or (profile and to_srgb(profile, mode)) else (mode, height, width)
            start = bytes(data[content : content + NAMED_BYTES]) if kind in NAMED else b""
            if start.startswith(b"MPF") or (
                start.startswith(b"Exif") and is_turned(data[content : place + 2 + length])
            ):
                return None
            if start.startswith(PROFILE_NAME):
                if profile or bytes(data[content + len(PROFILE_NAME) : content + PROFILE_START]) != WHOLE_PROFILE:
                    return None
                profile = bytes(data[content + PROFILE_START : place + 2 + length])
            if kind in FRAMES:
                bits, parts = data[content], data[content + 5]
                height, width = (int.from_bytes(data[content + at : content + at + 2], "big") for at in (1, 3))
                fits = bits == 8 and 0 < height * width <= MAX_PIXELS
                mode = JPEG_MODES.get(parts) if fits else None
            place += 2 + length
    except IndexError:
        pass  # it ends too early, which Pillow says better
    return None


def is_turned(segment: Encoded) -> bool:
    """Say whether an EXIF segment of a JPEG says that the picture is to be turned, or cannot be read."""
    exif = Image.Exif()
    try:
        exif.load(bytes(segment))
        return int(exif.get(ExifTags.Base.Orientation, 1)) != 1
    except DECODER_ERRORS:
        return True


def has_too_many_pixels(image: Image.Image) -> bool:
    """Say, by the header alone, whether an image is taken for a decompression bomb."""
    return image.width * image.height > MAX_PIXELS


def jpeg_pixels(image: Image.Image, data: Encoded, least_side: int | None) -> NDArray[np.uint8] | None:
    """Decode a JPEG to uint8 [H, W, 3], of gray [H, W, 1], in Pillow's very bytes; None where Pillow has to.

    simplejpeg complains of the smallest oddity, as does libjpeg of stray bytes: then Pillow decides whether the
    picture is whole.
    """
    if image.format not in JPEGS or image.mode not in PIXEL_FORMATS:
        return None
    return simple_pixels(data, image.mode, image.height, image.width, least_side)


def as_image(pixels: NDArray[np.uint8]) -> Image.Image:
    """Make an image of Pillow's of uint8 [H, W, 3] or [H, W, 1]."""
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])


def orientation_of(image: Image.Image) -> int:
    """Return the number that EXIF gives for how a camera was held; 1, upright, where it says nothing sound."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except DECODER_ERRORS:
        return 1


def with_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Convert an image from its embedded profile to sRGB; None where that is damaged, sRGB or of another mode."""
    if image.mode not in PROFILED or image.has_transparency_data:
        return None
    transform = to_srgb(profile, image.mode)
    try:
        return ImageCms.applyTransform(image, transform) if transform else None
    except ImageCms.PyCMSError:
        return None


@lru_cache(maxsize=64)
def to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the way from a profile to sRGB, None where there is none; many photos share one."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if SRGB in ImageCms.getProfileDescription(source):
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        return None


@cache
def read_formats() -> tuple[str, ...]:
    """Return the formats that are read: those that Pillow reads itself.

    For EPS it would start another program on the file, and IPTC and its like open what lies inside as any format.
    """
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert any mode to RGB; BadImage for numbers whose white is not known."""
    if image.mode == "F":
        raise BadImage(f"{name}: float pixels have no known white", "next: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return deep_gray_to_rgb(np.asarray(image).astype(np.int64), image.info.get("transparency"), name)
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


def deep_gray_to_rgb(gray: NDArray[np.int64], transparent: int | None, name: str) -> Image.Image:
    """Scale 16-bit gray [H, W], which Pillow would clip, to RGB; one level may stand for transparent."""
    if gray.min() < 0 or gray.max() > 65535:
        span = f"{gray.min()} to {gray.max()}"
        raise BadImage(f"{name}: pixels of {span} have no known white", "next: save it with 8 or 16 bits")
    scaled = np.where(gray == transparent, 255, gray // 257) if transparent is not None else gray // 257
    return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")
