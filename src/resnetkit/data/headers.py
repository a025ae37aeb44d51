"""What the headers of image files say, without decoding a pixel: sizes, modes, formats."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

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


def read_header(split: PhotoSplit, index: int) -> Header | str:
    """Read the header of a photo, or say why it has none."""
    size = split.stored_size(index)
    return Header("pixels", "RGB", *size, turned=False, profile=False) if size else file_header(split, index)


def file_header(split: PhotoSplit, index: int) -> Header | str:
    """Read the header of a photo's file, or say why it has none."""
    try:
        with warnings.catch_warnings(), split.opened(index) as file:
            if not file.read(1):
                return "the file is empty"
            file.seek(0)
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

    chosen = places.tolist()
    with photo_threads(None) as pool:
        headers_of = pool.map(partial(read_header, split), chosen)
        found = list(zip(map(split.name, chosen), headers_of, strict=True))
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
        unreadable=tuple((name, header) for name, header in found if isinstance(header, str)),
    )


def spread_of(numbers: Iterable[int]) -> tuple[int, int, int]:
    """Return the smallest, the median and the largest of numbers; zeros of none."""
    ordered = sorted(numbers) or [0]
    return ordered[0], ordered[len(ordered) // 2], ordered[-1]
