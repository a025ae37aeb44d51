"""What the headers of image files say, without decoding a pixel: sizes, modes, formats."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from resnetkit.data.decode import DECODER_ERRORS, MAX_PIXELS, has_too_many_pixels, orientation_of, read_formats
from resnetkit.data.photo_loader import photo_threads
from resnetkit.data.photos import PhotoSplit
from resnetkit.data.spec import Split

TOO_MANY_PIXELS = f"more than {MAX_PIXELS:,} pixels"


@dataclass(frozen=True)
class Header:
    """What a file says of its picture."""

    kind: str  # JPEG, PNG, ...
    mode: str  # Pillow's: RGB, L (gray), CMYK, P (palette), ...
    width: int  # pixels, as it is stored
    height: int
    turned: bool  # EXIF says that it is to be turned or mirrored
    profile: bool  # a colour profile is embedded


def read_header(file: Path) -> Header | str:
    """Read the header of an image file, or say why it has none."""
    try:
        if not file.stat().st_size:
            return "the file is empty"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata
            with Image.open(file, formats=read_formats()) as image:
                if has_too_many_pixels(image):
                    return TOO_MANY_PIXELS
                turned = orientation_of(image) != 1
                return Header(str(image.format), image.mode, *image.size, turned, "icc_profile" in image.info)
    except UnidentifiedImageError:
        return "not an image of a known format"
    except Image.DecompressionBombError:
        return TOO_MANY_PIXELS
    except DECODER_ERRORS as error:
        return str(error)


@dataclass(frozen=True)
class Survey:
    """What the headers of a split's images say together."""

    images: int
    looked_at: int
    widths: tuple[int, int, int]  # smallest, median, largest, in pixels
    heights: tuple[int, int, int]
    kinds: dict[str, int]
    modes: dict[str, int]
    turned: int
    profiles: int
    unreadable: tuple[tuple[str, str], ...]  # files and reasons


def survey(split: Split | PhotoSplit, most: int) -> Survey:
    """Look at the headers of a split's images, of more than `most` at that many, evenly spread."""
    if isinstance(split, Split):
        side, count = (split.images.shape[1],) * 3, len(split)
        return Survey(count, count, side, side, {"arrays": count}, {"RGB": count}, 0, 0, ())
    places = np.linspace(0, len(split), min(most, len(split)), endpoint=False).astype(np.int64)

    files = [split.file(place) for place in places.tolist()]
    with photo_threads(None) as pool:
        found = list(zip(files, pool.map(read_header, files), strict=True))
    headers = [header for _, header in found if isinstance(header, Header)]
    return Survey(
        images=len(split),
        looked_at=len(found),
        widths=spread_of(header.width for header in headers),
        heights=spread_of(header.height for header in headers),
        kinds=dict(Counter(header.kind for header in headers).most_common()),
        modes=dict(Counter(header.mode for header in headers).most_common()),
        turned=sum(header.turned for header in headers),
        profiles=sum(header.profile for header in headers),
        unreadable=tuple((str(file), header) for file, header in found if isinstance(header, str)),
    )


def spread_of(numbers: Iterable[int]) -> tuple[int, int, int]:
    """Return the smallest, the median and the largest of numbers; zeros of none."""
    ordered = sorted(numbers) or [0]
    return ordered[0], ordered[len(ordered) // 2], ordered[-1]
