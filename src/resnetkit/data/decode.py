"""One way from an image file to pixels, for the whole program.

EXIF orientation is applied; transparency is laid over white; 16-bit gray is scaled to 8 bits; of an animation
the first frame counts; every other mode becomes RGB as Pillow converts it.  Nothing is guessed: a file that
cannot be read whole, or whose numbers have no known white (floats, whole numbers over 16 bits), is an error
that names it.
"""

from __future__ import annotations

import io
import struct
import warnings
from functools import cache
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from resnetkit.errors import BadImage

MAX_PIXELS = 100_000_000  # a larger picture is taken for a decompression bomb
DECODER_ERRORS = (OSError, ValueError, SyntaxError, IndexError, KeyError, EOFError, TypeError, OverflowError,
                  MemoryError, RuntimeError, struct.error, ZlibError)  # fmt: skip


def decode(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode an image file's bytes to RGB uint8 [H, W, 3]; BadImage names the file by `name`."""
    if not data:
        raise BadImage(f"{name}: the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata that does not concern the pixels
            return decode_with_pillow(data, name)
    except UnidentifiedImageError as error:
        raise BadImage(f"{name}: not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise BadImage(f"{name}: too many pixels", f"expected at most {MAX_PIXELS:,} pixels") from error
    except DECODER_ERRORS as error:
        raise BadImage(f"{name}: the image is damaged: {error}") from error


def decode_with_pillow(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode with Pillow, after a look at the size."""
    with Image.open(io.BytesIO(data), formats=read_formats()) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise BadImage(f"{name}: {width} x {height} pixels", f"expected at most {MAX_PIXELS:,} pixels")
        image.load()
        upright = ImageOps.exif_transpose(image)
        return np.asarray(to_rgb(upright, name))


@cache
def read_formats() -> tuple[str, ...]:
    """Return the formats that Pillow reads itself; for EPS it would start another program on the file."""
    Image.init()
    return tuple(name for name in Image.OPEN if name != "EPS")


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
