"""Resizing and cropping of one image, in the two families that the page's rows were trained with.

Pillow averages over the pixels that a smaller one covers (antialias); OpenCV's bilinear takes four neighbours and
skips the rest.  torch's, for data of one's own, is Pillow's to one level.  A row's accuracy holds only with its own
family.  OpenCV is not a dependency: its fixed-point
arithmetic (modules/imgproc/src/resize.cpp, versions 4.5 to 5.0) is written out here and gives the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnetkit.data.transforms import Preprocess
from resnetkit.recipe import ResizeFamily

if TYPE_CHECKING:
    import torch

Pixels = NDArray[np.uint8]  # [H, W, 3] RGB

MAX_ASPECT = 64  # long side by short side, of what is resized whole
OVERSIZE = 4  # sides of a photo that is decoded smaller, by those that it is resized to
ONE = 1 << 11  # OpenCV's bilinear weights are whole numbers of 1/2048
PILLOW_FILTERS = {"pillow-bilinear": Image.Resampling.BILINEAR, "pillow-bicubic": Image.Resampling.BICUBIC}


def resize(pixels: Pixels, height: int, width: int, family: ResizeFamily) -> Pixels:
    """Resize uint8 [H, W, 3] to [height, width, 3]; pixels of that size are returned as they are.

    cv2-bilinear: half-pixel centres, edges repeated, no antialias, equal to `cv2.resize` in every byte.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    if family == "cv2-bilinear":
        return resize_like_opencv(pixels, height, width)
    if family == "torch-bilinear":
        return resize_by_torch(pixels, height, width)
    return np.asarray(Image.fromarray(pixels).resize((width, height), PILLOW_FILTERS[family]))


def resize_short(pixels: Pixels, short: int, family: ResizeFamily) -> Pixels:
    """Resize the short side of uint8 [H, W, 3] to `short`; the other is rounded down, in whole numbers."""
    height, width = pixels.shape[:2]
    now = min(height, width)  # a float quotient may fall one pixel short: 49 * (8 / 49) is below 8
    return resize(pixels, height * short // now, width * short // now, family)


def centre_crop(pixels: Pixels, size: int) -> Pixels:
    """Crop the centre of uint8 [H, W, 3] to [size, size, 3]; the offset is rounded to the nearest, half to even."""
    height, width = pixels.shape[:2]
    assert size <= min(height, width), f"a crop of {size} from {height} x {width} pixels"
    top, left = round((height - size) / 2), round((width - size) / 2)
    return pixels[top : top + size, left : left + size]


def view(
    pixels: Pixels,
    *,
    resize_size: int | None,  # short side, or both sides; None: crop_size.  Not below crop_size
    crop_size: int,
    family: ResizeFamily,
    keep_ratio: bool,
) -> Pixels:
    """Return what the model is shown of an image in evaluation: uint8 [crop_size, crop_size, 3].

    keep_ratio False squeezes the image to a square, as the row of CUB-200 does.
    """
    side = resize_size or crop_size
    if not keep_ratio:
        return centre_crop(resize(pixels, side, side, family), crop_size)
    return centre_crop(resize_short(middle_of_strip(pixels), side, family), crop_size)


class ViewArguments(TypedDict):
    """How an image is resized and cropped."""

    resize_size: int | None
    crop_size: int
    family: ResizeFamily
    keep_ratio: bool


def view_of(preprocess: Preprocess) -> ViewArguments:
    """Return the arguments of `view` and its kin that a preprocessing means."""
    return {
        "resize_size": preprocess.resize_size,
        "crop_size": preprocess.image_size,
        "family": preprocess.family,
        "keep_ratio": preprocess.keep_ratio,
    }


def least_side(preprocess: Preprocess) -> int | None:
    """Return how small a photo may be decoded (`decode`) before it is resized so; None: not at all.

    OpenCV's bilinear looks at four neighbours wherever it is, and sees another picture in a smaller one.
    """
    if preprocess.family == "cv2-bilinear":
        return None
    return OVERSIZE * (preprocess.resize_size or preprocess.image_size)


def middle_of_strip(pixels: Pixels) -> Pixels:
    """Cut a strip to the middle that the crop is taken from; resized whole, 1 x 100,000 pixels fill the memory."""
    longest = MAX_ASPECT * min(pixels.shape[:2])
    top, left = (max(side - longest, 0) // 2 for side in pixels.shape[:2])
    return pixels[top : top + longest, left : left + longest]


def resize_by_torch(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize uint8 [H, W, 3] with antialias by torch's arithmetic on bytes: that of Pillow, but for the last bit."""
    import torch.nn.functional as F  # here and below: what Pillow resizes needs no torch

    image = tensor_of(pixels)[None].permute(0, 3, 1, 2)  # [1, 3, H, W], channels last, and so is the result
    resized = F.interpolate(image, (height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def mirrored(pixels: Pixels) -> Pixels:
    """Mirror uint8 [H, W, 3] left and right; NumPy is slow at pixels of three bytes."""
    return tensor_of(pixels).flip(1).numpy()


def tensor_of(pixels: Pixels) -> torch.Tensor:
    """Return pixels as a tensor; those that may not be written, as of a mapped file, are copied."""
    import torch

    whole = np.ascontiguousarray(pixels)
    return torch.from_numpy(whole if whole.flags.writeable else whole.copy())


# --- OpenCV's bilinear, in its whole numbers ---


def resize_like_opencv(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize uint8 [H, W, 3] by `cv2.resize(..., INTER_LINEAR)`: across each row, then down."""
    pair, down = neighbours(pixels.shape[0], height)
    # Only the rows that are looked at are resized across: a tenth of a large photo.
    rows, places = np.unique(pair, return_inverse=True)
    across = resize_across(pixels[rows], width) >> 4  # [rows, width, 3]
    # Each product is cut off before the sum, and the sum is rounded: 22 bits of weights leave 2 bits here.
    above, below = (
        across[place] * weight[:, None, None] >> 16 for place, weight in zip(places.reshape(2, -1), down, strict=True)
    )
    return np.asarray((above + below + 2) >> 2, np.uint8)


def resize_across(pixels: Pixels, width: int) -> NDArray[np.int32]:
    """Resize the rows of uint8 [rows, W, 3] to [rows, width, 3], in units of 1/2048."""
    pair, weights = neighbours(pixels.shape[1], width)
    left, right = (pixels[:, pair[side]].astype(np.int32) for side in (0, 1))
    left *= weights[0][:, None]
    right *= weights[1][:, None]
    return left + right


def neighbours(size: int, new_size: int) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Return the two pixels that each new one lies between, and their weights: [2, new] and [2, new]."""
    scale = 1 / (new_size / size)  # as OpenCV divides
    centres = ((np.arange(new_size) + 0.5) * scale - 0.5).astype(np.float32)
    before = np.floor(centres)
    share = centres - before
    weights = np.rint(np.stack((1 - share, share)) * np.float32(ONE)).astype(np.int32)
    return np.clip(np.stack((before, before + 1)).astype(np.intp), 0, size - 1), weights
