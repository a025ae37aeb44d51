"""Mixing: what is blended and pasted, and what the targets then say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.data.mix import Mix, cutmix, mix, mixup

IMAGES = torch.arange(4.0)[:, None, None, None].expand(4, 3, 10, 20).contiguous()  # image i is all i
TARGETS = torch.eye(4)
ORDER = torch.tensor([1, 2, 3, 0])


def test_mixup_blends_images_and_targets_alike() -> None:
    images, targets = mixup(IMAGES, TARGETS, share=0.75, order=ORDER)
    for place, other in enumerate(ORDER.tolist()):
        assert (images[place] == 0.75 * place + 0.25 * other).all()
        expected = torch.zeros(4)
        expected[place], expected[other] = 0.75, 0.25
        torch.testing.assert_close(targets[place], expected)


def test_cutmix_pastes_a_box_and_counts_its_area() -> None:
    # sides of sqrt(0.25) = half: 5 x 10, of which halves of 2 and 5 lie on each side of the centre
    images, targets = cutmix(IMAGES, TARGETS, share=0.75, centre=(5, 10), order=ORDER)
    pasted = images[0] == 1
    assert pasted[:, 3:7, 5:15].all() and int(pasted.sum()) == 3 * 4 * 10
    assert float(targets[0, 1]) == pytest.approx(40 / 200)
    assert float(targets[0, 0]) == pytest.approx(160 / 200)
    assert IMAGES[0].eq(0).all()  # the images given stay


def test_a_box_over_the_edge_is_cut_off() -> None:
    images, targets = cutmix(IMAGES, TARGETS, share=0.75, centre=(0, 19), order=ORDER)
    assert int((images[0] == 1).sum()) == 3 * 2 * 6
    assert float(targets[0, 1]) == pytest.approx(12 / 200)


@given(share=st.floats(0, 1), row=st.integers(0, 9), column=st.integers(0, 19), seed=st.integers(0, 9))
def test_targets_are_the_shares_of_the_pixels(share: float, row: int, column: int, seed: int) -> None:
    order = torch.from_numpy(np.random.default_rng(seed).permutation(4))
    images, targets = cutmix(IMAGES, TARGETS, share=share, centre=(row, column), order=order)
    for place in range(4):
        counted = torch.bincount(images[place, 0].flatten().long(), minlength=4) / 200
        torch.testing.assert_close(targets[place], counted, rtol=0, atol=1e-6)
    torch.testing.assert_close(targets.sum(1), torch.ones(4))


def drawn(mixes: list[Mix], draws: int = 400) -> list[str]:
    """Return what each of many draws did to the images."""
    kinds = []
    for seed in range(draws):
        images, _ = mix(IMAGES, TARGETS, mixes, np.random.default_rng(seed))
        whole = bool(torch.equal(images, images.round()))
        kinds.append("none" if images is IMAGES else "cutmix" if whole else "mixup")
    return kinds


def test_one_of_the_mixes_or_none_is_drawn_by_its_probability() -> None:
    kinds = drawn([Mix("mixup", 1.0, 0.25), Mix("cutmix", 1.0, 0.5)])
    shares = {kind: kinds.count(kind) / len(kinds) for kind in ("mixup", "cutmix", "none")}
    assert shares["mixup"] == pytest.approx(0.25, abs=0.07)
    assert shares["cutmix"] == pytest.approx(0.5, abs=0.07)
    assert shares["none"] == pytest.approx(0.25, abs=0.07)


def test_always_one_where_the_probabilities_are_one() -> None:
    assert "none" not in drawn([Mix("mixup", 0.1, 0.5), Mix("cutmix", 1.0, 0.5)], draws=100)
    assert set(drawn([], draws=5)) == {"none"}


def test_shares_follow_the_beta_distribution() -> None:
    shares = []
    for seed in range(600):
        _, targets = mix(IMAGES, TARGETS, [Mix("mixup", 0.2, 1.0)], np.random.default_rng(seed))
        moved = targets.diagonal()[targets.diagonal() < 1]
        shares += moved[:1].tolist()
    # Beta(0.2, 0.2): half of the draws are within 0.037 of an end
    extreme = np.mean([share < 0.037 or share > 0.963 for share in shares])
    assert 0.35 < extreme < 0.65
    assert np.mean(shares) == pytest.approx(0.5, abs=0.08)
