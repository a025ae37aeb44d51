"""What evaluation shows of arrays: as they are where nothing is to be resized, else as of any photo."""

from __future__ import annotations

import numpy as np
import pytest

from resnetkit.data.resize import view, view_of
from resnetkit.data.seen import seen
from resnetkit.data.spec import Split
from resnetkit.data.transforms import Preprocess

SPLIT = Split(np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3), np.uint8), np.arange(11, dtype=np.uint8))
ZERO, ONE = np.zeros(3, np.float32), np.ones(3, np.float32)


@pytest.mark.parametrize(("crop", "resize"), [(8, None), (8, 8), (8, 12), (6, 8), (6, None), (10, 10)])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_arrays_are_seen_as_prediction_sees_them(crop: int, resize: int | None, batch_size: int | None) -> None:
    preprocess = Preprocess(crop, ZERO, ONE, resize)
    batches = list(seen(SPLIT, preprocess, batch_size))
    expected = np.stack([view(SPLIT.read(index), **view_of(preprocess)) for index in range(11)])
    np.testing.assert_array_equal(np.concatenate([images for images, _ in batches]), expected)
    assert np.concatenate([labels for _, labels in batches]).tolist() == list(range(11))
    assert {labels.dtype for _, labels in batches} == {np.dtype(np.int64)}
    assert len(batches) == (1 if batch_size is None else 3)
