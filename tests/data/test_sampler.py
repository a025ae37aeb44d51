"""The order of an epoch, and repeated augmentation by the rules of both of OpenMMLab's versions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.data.sampler import epoch_order, repeated_length, repeated_order


@given(st.integers(1, 200), st.integers(0, 3), st.integers(0, 5))
def test_an_epoch_is_a_permutation_of_its_own(count: int, seed: int, epoch: int) -> None:
    order = epoch_order(seed, epoch, count)
    assert sorted(order.tolist()) == list(range(count))
    np.testing.assert_array_equal(order, epoch_order(seed, epoch, count))
    if count > 20:
        assert not np.array_equal(order, epoch_order(seed, epoch + 1, count))
        assert not np.array_equal(order, epoch_order(seed + 1, epoch, count))


@pytest.mark.parametrize(
    ("round_to", "devices", "per_device"),
    [(256, 8, 160_128), (1, 8, 160_146), (256, 1, 1_281_024), (1, 1, 1_281_167), (256, 2, 640_512)],
)
def test_lengths_on_imagenet(round_to: int, devices: int, per_device: int) -> None:
    length = repeated_length(1_281_167, devices=devices, round_to=round_to)
    assert length == per_device * devices
    if devices == 8:
        assert math.ceil(length / 2048) == 626


def by_rule(permutation: list[int], rank: int, devices: int, repeats: int, selected: int) -> list[int]:
    """Repeat, pad from the front, as often as it takes, take every devices-th, keep the first `selected`."""
    repeated = [index for index in permutation for _ in range(repeats)]
    total = math.ceil(len(repeated) / devices) * devices
    padded = repeated * math.ceil(total / len(repeated))
    return padded[rank:total:devices][:selected]


@given(st.integers(1, 900), st.sampled_from([1, 2, 3, 8]), st.sampled_from([1, 256]), st.integers(1, 4))
def test_each_device_gets_the_sequence_of_the_rule(count: int, devices: int, round_to: int, repeats: int) -> None:
    permutation = np.random.default_rng(count).permutation(count)
    order = repeated_order(permutation, repeats=repeats, devices=devices, round_to=round_to)
    rounded = round_to > 1 and count >= round_to
    selected = count // round_to * round_to // devices if rounded else math.ceil(count / devices)
    for rank in range(devices):
        expected = by_rule(permutation.tolist(), rank, devices, repeats, selected)
        assert order[rank::devices].tolist() == expected


def test_copies_go_to_different_devices_and_an_epoch_sees_a_third() -> None:
    order = repeated_order(np.arange(512), repeats=3, devices=8, round_to=256)
    for index in range(20):
        places = np.flatnonzero(order == index)
        assert len(places) == 3
        assert len(set((places % 8).tolist())) == 3
    assert len(set(order.tolist())) == math.ceil(512 / 3)
