"""Inspections are kept: what was read is not read again, what changed is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetkit.data import inspected
from resnetkit.data.inspected import LINES, THUMBNAILS, inspect_all
from resnetkit.errors import BadRequest
from resnetkit.home import locked


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    names = [tmp_path / "photos" / os.fsdecode(name) for name in (b"a b.png", b"\xff.png", "é\n.png".encode())]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(name, "PNG")
    bad = tmp_path / "photos" / "bad.jpg"
    bad.write_bytes(b"no image")
    return [*names, bad]


def test_files_are_read_once(files: list[Path], tmp_path: Path) -> None:
    counts: list[int] = []
    first = inspect_all(files, tmp_path / "kept", counts.append)
    assert first.known == 0 and sum(counts) == 4 and first.inspections[3].problem == "unreadable"
    again = inspect_all(files, tmp_path / "kept")
    assert again.known == 4 and again.inspections == first.inspections
    np.testing.assert_array_equal(again.thumbnails, first.thumbnails)
    assert first.thumbnails[:3].any((1, 2)).all() and not first.thumbnails[3].any()


def test_a_changed_file_is_read_again(files: list[Path], tmp_path: Path) -> None:
    first = inspect_all(files, tmp_path / "kept")
    Image.new("RGB", (50, 50), "red").save(files[0], "PNG")
    again = inspect_all([files[2], files[0]], tmp_path / "kept")
    assert again.known == 1 and again.inspections[0] == first.inspections[2] and again.inspections[1].width == 50
    np.testing.assert_array_equal(again.thumbnails[0], first.thumbnails[2])


@pytest.mark.parametrize("left", [0.2, 0.5, 0.9])
def test_a_stopped_inspection_goes_on(
    left: float, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = inspect_all(files, tmp_path / "whole")
    inspect_all(files, tmp_path / "kept")
    for name in (LINES, THUMBNAILS):  # as if the process had been killed while it wrote
        content = (tmp_path / "kept" / name).read_bytes()
        (tmp_path / "kept" / name).write_bytes(content[: int(left * len(content))])
    for _ in range(2):
        again = inspect_all(files, tmp_path / "kept")
        assert again.inspections == whole.inspections
        np.testing.assert_array_equal(again.thumbnails, whole.thumbnails)
    assert again.known == 4
    monkeypatch.setattr(inspected, "VERSION", 2)
    assert inspect_all(files, tmp_path / "kept").known == 0


def test_two_at_once_are_refused(files: list[Path], tmp_path: Path) -> None:
    inspect_all(files, tmp_path / "kept")
    with locked(tmp_path / "kept" / "lock"), pytest.raises(BadRequest, match="another process"):
        inspect_all(files, tmp_path / "kept")
