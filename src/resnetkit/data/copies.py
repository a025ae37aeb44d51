"""Copies of a picture among others: the same one resized, saved anew or mirrored, and parts cut out of it.

Pictures are compared as gray thumbnails of 32 x 32 pixels, brought to mean 0 and length 1: the product of two is
their correlation.  Whole copies must be alike at 16 x 16, where resizing and saving change little, and at 32 x 32.
For parts each picture is cut to boxes of several shapes and places; what resembles one is fitted, that is, the box is
moved and stretched until it resembles most, and must then be alike in its details: without the coarse light and dark
that many pictures share, and with faint details counting as much as strong edges.

The numbers below were chosen on 22,000 photos of Tiny-ImageNet, 64 x 64 pixels; benchmarks/doctor.py measures them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Kind = Literal["copy", "mirrored", "part"]

COARSE = 16  # pixels a side of the first look
COARSE_LEAST, FINE_LEAST = 0.975, 0.92  # correlations of a copy, at 16 and at 32 pixels
BOX_SIDES, BOX_PLACES = (0.92, 0.82, 0.72), (0.0, 0.5, 1.0)  # share of the sides, share of the room that is left
BOX_PIXELS, BOX_LEAST = 10, 0.77  # pixels a side, and correlation of details, of parts that are fitted
QUICK_PIXELS, QUICK_ROUNDS, QUICK_STEP, QUICK_LEAST = 12, 3, 0.05, 0.93  # of the first fit
PART_PIXELS, PART_ROUNDS, PART_STEP, PART_LEAST = 20, 5, 0.03, 0.85  # of the second; the last is of even details
STEPS, SHRINK = (-1.0, -0.5, 0.5, 1.0), 0.6  # tries for each number of a box, and how the step shrinks
DETAIL, FAINT = 5, 6.0  # pixels a side of a neighbourhood; gray levels of contrast that count half
FLAT = 4.0  # gray levels: pictures of less contrast (standard deviation) all resemble each other
BLOCK = 2048  # pictures compared with all others at once
MOST_PAIRS = 2_000_000  # candidates kept in memory


@dataclass(frozen=True)
class Copy:
    """Two pictures that are one."""

    first: int  # the number of a picture; of a part, that it was cut from
    second: int
    kind: Kind
    likeness: float  # correlation


def find_copies(
    thumbnails: NDArray[np.uint8],  # [N, 32, 32]
    *,
    parts: bool = True,
    on_block: Callable[[int], None] = lambda count: None,  # called with pictures that were compared with all others
) -> list[Copy]:
    """Return all pairs of pictures of which one is a copy of the other, or a part of it.

    The work grows with N squared: 2 N^2 products of 256 numbers, and with parts 81 N^2 of 100.
    """
    pictures = torch.from_numpy(thumbnails).float()
    varied = torch.nonzero(pictures.flatten(1).std(1) >= FLAT).flatten() if len(pictures) else torch.zeros(0).long()
    pictures = pictures[varied]
    found = {**copies_of(pictures, on_block)}
    if parts:
        for pair, copy in parts_of(pictures, on_block).items():
            found.setdefault(pair, copy)
    numbers = varied.tolist()
    return [Copy(numbers[copy.first], numbers[copy.second], copy.kind, copy.likeness) for copy in found.values()]


def standardised(pictures: Tensor) -> Tensor:
    """Bring pictures [N, h, w] to mean 0 and length 1: float32 [N, h * w]."""
    flat = pictures.flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    return F.normalize(centred, dim=1)


def shrunk(pictures: Tensor, side: int) -> Tensor:
    """Shrink pictures [N, h, w] to [N, side, side] by means of areas."""
    return F.interpolate(pictures[:, None], (side, side), mode="area")[:, 0]


Pairs = dict[tuple[int, int], Copy]


def copies_of(pictures: Tensor, on_block: Callable[[int], None]) -> Pairs:
    """Return the whole copies among pictures [N, 32, 32], mirrored ones too."""
    coarse, fine = standardised(shrunk(pictures, COARSE)), standardised(pictures)
    mirrored_coarse, mirrored_fine = standardised(shrunk(pictures, COARSE).flip(2)), standardised(pictures.flip(2))
    found: Pairs = {}
    for start in range(0, len(pictures), BLOCK):
        block = slice(start, start + BLOCK)
        looks: tuple[tuple[Kind, Tensor, Tensor], ...] = (
            ("copy", coarse, fine), ("mirrored", mirrored_coarse, mirrored_fine))  # fmt: skip
        for kind, coarse_others, fine_others in looks:
            firsts, seconds = alike(coarse[block], coarse_others[start:], COARSE_LEAST)
            firsts, seconds = firsts + start, seconds + start
            ordered = firsts < seconds  # each pair once, and none with itself
            firsts, seconds = firsts[ordered], seconds[ordered]
            whole = (fine[firsts] * fine_others[seconds]).sum(1) >= FINE_LEAST
            firsts, seconds = firsts[whole], seconds[whole]
            for first, second, value in rows(firsts, seconds, (coarse[firsts] * coarse_others[seconds]).sum(1)):
                found.setdefault((first, second), Copy(first, second, kind, value))
        on_block(len(coarse[block]))
    return found


def alike(some: Tensor, others: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Return the numbers of the pairs of rows of two matrices whose product is at least `least`."""
    pairs = torch.nonzero(some @ others.T >= least)
    return pairs[:, 0], pairs[:, 1]


def rows(firsts: Tensor, seconds: Tensor, values: Tensor) -> Iterator[tuple[int, int, float]]:
    """Yield plain numbers, a row each."""
    return zip(firsts.tolist(), seconds.tolist(), values.tolist(), strict=True)


# --- parts ---


def boxes() -> Tensor:
    """Return the boxes that parts are first looked for in: centre x and y, width and height, as shares, [B, 4]."""
    shapes = [(width, height) for width in BOX_SIDES for height in BOX_SIDES]
    places = [(x, y) for y in BOX_PLACES for x in BOX_PLACES]
    return torch.tensor([(width / 2 + x * (1 - width), height / 2 + y * (1 - height), width, height)
                         for width, height in shapes for x, y in places])  # fmt: skip


def cut(pictures: Tensor, where: Tensor, side: int) -> Tensor:
    """Cut a box out of each picture [N, 32, 32], rows of `boxes` [N, 4], and bring it to [N, side, side]."""
    x, y, width, height = where.T
    zero = torch.zeros_like(x)
    lines = (torch.stack((width, zero, 2 * x - 1), 1), torch.stack((zero, height, 2 * y - 1), 1))
    grid = F.affine_grid(torch.stack(lines, 1), [len(pictures), 1, 2 * side, 2 * side], align_corners=False)
    sampled = F.grid_sample(pictures[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return F.avg_pool2d(sampled, 2)[:, 0]  # four samples a pixel


def details(pictures: Tensor) -> Tensor:
    """Take the mean of its neighbourhood from each pixel [N, h, w], and bring the rest to length 1: [N, h * w]."""
    return standardised(pictures - neighbourhood(pictures))


def even_details(pictures: Tensor) -> Tensor:
    """Return `details` divided by the contrast about them, so that no edge outweighs the rest: [N, h * w]."""
    means = neighbourhood(pictures)
    contrast = (neighbourhood(pictures.square()) - means.square()).clamp_min(0).sqrt()
    return standardised((pictures - means) / (contrast + FAINT))


def neighbourhood(pictures: Tensor) -> Tensor:
    """Return the mean about each pixel [N, h, w]."""
    return F.avg_pool2d(pictures[:, None], DETAIL, 1, DETAIL // 2, count_include_pad=False)[:, 0]


def parts_of(pictures: Tensor, on_block: Callable[[int], None]) -> Pairs:
    """Return the pictures that were cut out of others [N, 32, 32]."""
    whole, every = details(shrunk(pictures, BOX_PIXELS)), boxes()
    firsts, seconds, where = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64), torch.empty(0, 4)
    for start in range(0, len(pictures), BLOCK):
        some = pictures[start : start + BLOCK]
        best = torch.full((len(some), len(pictures)), -1.0)
        box_of = torch.zeros(len(some), len(pictures), dtype=torch.int16)
        for number, box in enumerate(every):
            likeness = details(cut(some, box.expand(len(some), 4), BOX_PIXELS)) @ whole.T
            box_of[likeness > best] = number
            torch.maximum(best, likeness, out=best)
        pairs = torch.nonzero(best >= BOX_LEAST)
        pairs = pairs[pairs[:, 0] + start != pairs[:, 1]]
        firsts, seconds = torch.cat((firsts, pairs[:, 0] + start)), torch.cat((seconds, pairs[:, 1]))
        where = torch.cat((where, every[box_of[pairs[:, 0], pairs[:, 1]].long()]))
        on_block(len(some))
        if len(firsts) > MOST_PAIRS:
            break  # pictures that all resemble each other: what was found so far is looked at
    found: Pairs = {}
    for place in range(0, len(firsts), BLOCK):
        part = slice(place, place + BLOCK)
        for first, second, value in fitting(pictures, firsts[part], seconds[part], where[part]):
            key = min(first, second), max(first, second)
            if key not in found or value > found[key].likeness:
                found[key] = Copy(first, second, "part", value)
    return found


def fitting(pictures: Tensor, firsts: Tensor, seconds: Tensor, where: Tensor) -> Iterator[tuple[int, int, float]]:
    """Yield the pairs of which the second was cut out of the first near a box, with how alike their details are."""
    where, likeness = fitted(pictures[firsts], pictures[seconds], where, QUICK_PIXELS, QUICK_ROUNDS, QUICK_STEP)
    good = likeness >= QUICK_LEAST
    firsts, seconds, where = firsts[good], seconds[good], where[good]
    where, _ = fitted(pictures[firsts], pictures[seconds], where, PART_PIXELS, PART_ROUNDS, PART_STEP)
    ours = even_details(cut(pictures[firsts], where, PART_PIXELS))
    alike_in_details = (ours * even_details(shrunk(pictures[seconds], PART_PIXELS))).sum(1)
    good = alike_in_details >= PART_LEAST
    return rows(firsts[good], seconds[good], alike_in_details[good])


def fitted(
    pictures: Tensor, parts: Tensor, where: Tensor, side: int, rounds: int, step: float
) -> tuple[Tensor, Tensor]:
    """Move and stretch boxes [N, 4] of pictures [N, 32, 32] until they resemble `parts` most; returns how much, too."""
    wanted = standardised(shrunk(parts, side))
    best = where
    likeness = (standardised(cut(pictures, best, side)) * wanted).sum(1)
    for _ in range(rounds):
        for axis in range(4):
            centre = best
            for offset in STEPS:
                tried = centre.clone()
                tried[:, axis] += offset * step
                value = (standardised(cut(pictures, tried, side)) * wanted).sum(1)
                better = value > likeness
                likeness, best = torch.where(better, value, likeness), torch.where(better[:, None], tried, best)
        step *= SHRINK
    return best, likeness


def groups_of(count: int, pairs: Iterator[tuple[int, int]] | list[tuple[int, int]]) -> NDArray[np.int64]:
    """Return the group of each of `count` pictures [count], numbered by its first member; pairs are in one group."""
    parents = list(range(count))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parents[high] = low
    return np.array([root(number) for number in range(count)], np.int64)
