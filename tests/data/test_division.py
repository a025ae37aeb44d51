"""Divisions of photos: every class everywhere, copies on one side, and what was divided stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.data.division import UNKNOWN, divide, folds_of, read_division, write_division

SHARES = (0.8, 0.1, 0.1)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(0, 99))
def test_classes_are_spread_by_the_shares(counts: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    places = divide(labels, np.arange(len(labels)), SHARES, seed)
    assert set(places.tolist()) <= {0, 1, 2}
    for label, count in enumerate(counts):
        found = np.bincount(places[labels == label], minlength=3)
        assert found[0] >= 1 and (count < 2 or found[2] >= 1)
        assert np.abs(found - count * np.array(SHARES)).max() <= 1.0 + 1e-9
    np.testing.assert_array_equal(places, divide(labels, np.arange(len(labels)), SHARES, seed))


@given(st.integers(0, 99))
def test_a_group_is_on_one_side(seed: int) -> None:
    labels, groups = np.repeat([0, 1], 60), np.arange(120) // 3 * 3
    places = divide(labels, groups, SHARES, seed)
    assert all(len(set(places[groups == group].tolist())) == 1 for group in set(groups.tolist()))
    assert abs((places == 0).mean() - 0.8) < 0.06


@given(st.integers(2, 5), st.lists(st.integers(0, 3), min_size=5, max_size=60), st.integers(0, 10))
def test_folds_keep_groups_together_and_classes_even(folds: int, labels: list[int], seed: int) -> None:
    own = np.array(labels)
    groups = np.arange(len(own))
    places = folds_of(own, groups, folds, seed)
    for label in set(labels):
        counts = np.bincount(places[own == label], minlength=folds)
        assert counts.max() - counts.min() <= 1
    groups = np.arange(len(own)) // 2 * 2
    places = folds_of(own, groups, folds, seed)
    assert all(places[index] == places[groups[index]] for index in range(len(own)))
    np.testing.assert_array_equal(places, folds_of(own, groups, folds, seed))


def test_what_is_divided_stays_and_new_photos_are_added() -> None:
    labels = np.repeat([0, 1], 50)
    first = divide(labels, np.arange(100), SHARES, 0)
    known = np.concatenate((first, np.full(20, UNKNOWN)))
    groups = np.arange(120)
    groups[110] = 3  # a new photo that is a copy of an old one
    again = divide(np.concatenate((labels, np.repeat([0, 1], 10))), groups, SHARES, 5, known)
    np.testing.assert_array_equal(again[:100], first)
    assert again[110] == first[3] and set(again[100:].tolist()) <= {0, 1, 2}


def test_a_division_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = {tmp_path / "a, b" / 'x "1".jpg': ("ant", 0), tmp_path / "é.png": ("bee", 2)}
    write_division(tmp_path / "photos.csv", ("train", "val", "test"), rows)
    places = read_division(tmp_path / "photos.csv", ("train", "val", "test"))
    assert places == {str(path): place for path, (_, place) in rows.items()}
