"""What processes here take to add up tensors: a ring's time is fitted, and a real short run is made."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.errors import ResnetkitError
from resnetkit.links import SIZES, Link, fit_link, measure_node, ring_seconds
from tiny import RECIPE


@given(alpha=st.floats(1e-6, 1e-2), bandwidth=st.floats(1e7, 1e11), processes=st.integers(2, 64))
def test_a_fit_finds_what_made_the_times(alpha: float, bandwidth: float, processes: int) -> None:
    link = Link(alpha, bandwidth)
    sums = [(size, ring_seconds(size, processes, link)) for size in SIZES]
    found, worst = fit_link(sums, processes)
    assert worst < 1e-6
    assert ring_seconds(10**7, processes, found) == pytest.approx(ring_seconds(10**7, processes, link), rel=1e-5)


def test_a_ring_of_two_sends_all_once_each_way() -> None:
    assert ring_seconds(1000, 2, Link(0.5, 1000)) == pytest.approx(2 * (0.5 + 0.5))
    assert ring_seconds(1000, 1, Link(0.5, 1000)) == 0
    assert ring_seconds(1000, 4, Link(0.0, 1000)) == pytest.approx(2 * 3 / 4)


@pytest.mark.parametrize("sync", [False, True])
def test_a_run_of_two_processes_here_times_sums_and_passes(sync: bool) -> None:
    found = measure_node(replace(RECIPE, sync_batchnorm=sync), 2, 1, 8, 0.5)
    assert [size for size, _ in found.sums] == list(SIZES) and all(seconds > 0 for _, seconds in found.sums)
    assert found.sums[-1][1] > found.sums[0][1]
    assert found.link.alpha >= 0 and found.link.bytes_per_second > 1e6
    assert found.microbatch_size == 8 and found.seconds_per_image and found.seconds_per_update
    assert found.spread is not None and found.spread >= 0


def test_a_run_that_fails_says_why() -> None:
    with pytest.raises(ResnetkitError, match="expects a positive integer"):
        measure_node(RECIPE, 2, 0, 8, 0.0)
