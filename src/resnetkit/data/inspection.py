"""What is wrong or odd with one image file: it is read once and decoded once.

A problem makes a file useless; an oddity is dealt with by `decode`, and worth knowing.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnetkit.data.decode import DECODER_ERRORS, decode, has_too_many_pixels, orientation_of, read_formats
from resnetkit.data.resize import Pixels
from resnetkit.errors import BadImage

Problem = Literal["empty", "truncated", "unreadable", "too many pixels"]
Oddity = Literal["wrong ending", "CMYK", "Lab", "16 bits", "palette", "transparent", "grayscale", "turned by EXIF",
                 "animated", "colour profile", "very small", "very large", "very long"]  # fmt: skip
PROBLEMS: tuple[Problem, ...] = get_args(Problem)
ODDITIES: tuple[Oddity, ...] = get_args(Oddity)

THUMBNAIL = 32  # pixels a side of the gray picture that copies are found by
SMALL_SIDE, LARGE_PIXELS, LONG_SIDES = 32, 50_000_000, 5  # very small, very large and very long are beyond
ENDINGS_OF = {
    "JPEG": {".jpg", ".jpeg"},
    "MPO": {".jpg", ".jpeg"},
    "PNG": {".png"},
    "GIF": {".gif"},
    "BMP": {".bmp"},
    "WEBP": {".webp"},
    "TIFF": {".tif", ".tiff"},
    "PPM": {".ppm", ".pgm"},
    "JPEG2000": {".jp2"},
    "AVIF": {".avif"},
}
ODD_MODES: dict[str, Oddity] = {"CMYK": "CMYK", "LAB": "Lab", "P": "palette", "PA": "palette", "L": "grayscale",
                                "LA": "grayscale", "1": "grayscale", "I": "grayscale", "I;16": "grayscale",
                                "I;16B": "grayscale", "F": "grayscale"}  # fmt: skip
BITS_PER_SAMPLE = 258  # a TIFF tag


@dataclass(frozen=True)
class Inspection:
    """What was found out about one file."""

    size: int  # bytes
    sha256: str  # of the bytes
    kind: str | None = None  # JPEG, PNG, ...
    width: int = 0  # pixels, as stored
    height: int = 0
    problem: Problem | None = None
    detail: str | None = None  # of the problem
    oddities: tuple[Oddity, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Inspection:
        """Return what `to_json` wrote."""
        return cls(**data | {"oddities": tuple(data["oddities"])})


def inspect_file(file: Path) -> tuple[Inspection, NDArray[np.uint8] | None]:
    """Read a file; returns what was found, and a gray thumbnail uint8 [32, 32] of what can be decoded."""
    try:
        data = file.read_bytes()
    except OSError as error:
        return Inspection(0, "", problem="unreadable", detail=error.strerror), None
    return inspect_bytes(data, file.name)


def inspect_bytes(data: bytes, name: str) -> tuple[Inspection, NDArray[np.uint8] | None]:
    """Inspect the bytes of a file of this name."""
    found: dict[str, Any] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if not data:
        return Inspection(**found, problem="empty"), None
    header = header_facts(data, name)
    if header.get("problem"):
        return Inspection(**found | header), None
    try:
        pixels = decode(data, name)
    except BadImage as error:
        detail = "; ".join((error.what.removeprefix(f"{name}: "), *error.details))
        problem: Problem = "truncated" if "truncated" in detail else "unreadable"
        return Inspection(**found | header | {"problem": problem, "detail": detail}), None
    return Inspection(**found | header), thumbnail(pixels)


def header_facts(data: bytes, name: str) -> dict[str, Any]:
    """Return the fields of an Inspection that the header tells."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata
            with Image.open(io.BytesIO(data), formats=read_formats()) as image:
                facts = {"kind": str(image.format), "width": image.width, "height": image.height}
                if has_too_many_pixels(image):
                    detail = f"{image.width} x {image.height} pixels"
                    return facts | {"problem": "too many pixels", "detail": detail}
                return facts | {"oddities": oddities_of(image, data, Path(name).suffix.lower())}
    except Image.DecompressionBombError as error:
        return {"problem": "too many pixels", "detail": str(error)}
    except DECODER_ERRORS as error:
        known = "cannot identify" in str(error)
        return {"problem": "unreadable", "detail": "not an image of a known format" if known else str(error)}


def oddities_of(image: Image.Image, data: bytes, ending: str) -> tuple[Oddity, ...]:
    """List what is odd of a file by its header."""
    short, long = sorted(image.size)
    transparent = image.has_transparency_data
    said: dict[Oddity, bool] = {
        "wrong ending": ending not in ENDINGS_OF.get(str(image.format), {ending}),
        "16 bits": bits_of(image, data) > 8,
        "transparent": transparent,
        "turned by EXIF": orientation_of(image) != 1,
        "animated": image.format != "MPO" and bool(getattr(image, "is_animated", False)),
        "colour profile": "icc_profile" in image.info,
        "very small": short < SMALL_SIDE,
        "very large": short * long > LARGE_PIXELS,
        "very long": long > LONG_SIDES * short,
    }
    mode = ODD_MODES.get(image.mode)
    if mode:
        said[mode] = True
    return tuple(oddity for oddity in ODDITIES if said.get(oddity))


def bits_of(image: Image.Image, data: bytes) -> int:
    """Return the bits of a channel; Pillow opens some 16-bit files as if they had 8."""
    if image.mode.startswith("I") or image.mode == "F":
        return 16
    if image.format == "PNG":
        return int(data[24]) if len(data) > 24 else 8  # of IHDR, after the signature and two lengths
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, 8)
        return int(max(bits) if isinstance(bits, tuple) else bits)
    if image.format == "PPM":
        return 16 if largest_value(data) > 255 else 8
    return 8


def largest_value(data: bytes) -> int:
    """Return the largest value that a PPM or PGM file's header names; 255 where it has none."""
    words = [word for line in data[:200].split(b"\n") if not line.startswith(b"#") for word in line.split()]
    try:
        return int(words[3])
    except (IndexError, ValueError):
        return 255


def thumbnail(pixels: Pixels) -> NDArray[np.uint8]:
    """Shrink uint8 [H, W, 3] to gray uint8 [32, 32], each pixel the mean of what it covers."""
    gray = Image.fromarray(pixels).convert("L")
    return np.asarray(gray.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX, reducing_gap=2.0))
