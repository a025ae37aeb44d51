"""Quarantine lists: what is listed is left out, counted, and nothing else is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from photo_trees import FILES, names, save
from resnetkit.data.opening import open_data, open_evaluation_data
from resnetkit.data.quarantine import Quarantined, name_in, read_quarantine, write_quarantine
from resnetkit.data.trees import read_photos
from resnetkit.errors import BadRequest


def listed(folder: Path, *paths: str, reason: str = "unreadable") -> Path:
    write_quarantine(folder / "quarantine.csv", [Quarantined(path, reason) for path in paths])
    return folder / "quarantine.csv"


def test_listed_photos_are_left_out_and_counted(tmp_path: Path) -> None:
    root = save(tmp_path / "photos", FILES)
    file = listed(tmp_path, "train/cat/a.png", "val/dog/2.jpg", "train/cat/none.png")
    before, data = read_photos(root), read_photos(root, file)
    assert names(data.train) == [name for name in names(before.train) if name != "cat/a.png"]
    assert names(data.test) == ["ant/3.jpg", "cat/1.jpg"]
    assert data.class_names == before.class_names and data.sha256 != before.sha256
    assert data.notes[-1] == (
        "quarantine.csv: 2 of 8 photos are left out (2 unreadable); 1 of its entries are not in this data"
    )
    found = open_evaluation_data(str(root), quarantine=str(file))
    assert len(found.split) == 2 and found.notes[-1] == data.notes[-1]


def test_photos_are_left_out_before_some_are_set_apart(tmp_path: Path) -> None:
    root = save(tmp_path, [f"photos/cat/{n}.png" for n in range(5)] + [f"photos/dog/{n}.png" for n in range(5)])
    held = names(read_photos(root / "photos").test)
    data = read_photos(root / "photos", listed(tmp_path, held[0]))
    assert held[0] not in names(data.test) + names(data.train) and len(data.test) + len(data.train) == 9
    found = open_evaluation_data(str(root / "photos"), data.sha256, str(tmp_path / "quarantine.csv"))
    assert names(found.split) == names(data.test)  # type: ignore[arg-type]


def test_lists_are_read_as_they_are_written(tmp_path: Path) -> None:
    odd = os.fsdecode(b'a, \xff\n".png')
    rows = [Quarantined(odd, "unreadable"), Quarantined("b.png", "identical across splits", "c, d.png", "train", "é")]
    write_quarantine(tmp_path / "q.csv", rows)
    content = (tmp_path / "q.csv").read_bytes()
    assert content.startswith(b"path,reason,because_of,split,label\n") and b"\xff" in content
    (tmp_path / "q.csv").write_text("Path , REASON\nx.png,\n\ny z.png,blurred\n")
    assert read_quarantine(tmp_path / "q.csv") == {"x.png": "no reason given", "y z.png": "blurred"}


def test_names_are_relative_to_the_data(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert name_in(tmp_path / "photos", tmp_path / "photos" / "a" / "b.png") == "a/b.png"
    assert name_in(tmp_path / "list.csv", tmp_path / "photos" / "b.png") == "photos/b.png"
    assert name_in(tmp_path / "photos", tmp_path / "else.png") == str(tmp_path / "else.png")


def test_what_is_no_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("file,why\na,b\n")
    with pytest.raises(BadRequest, match=r"q\.csv: not a quarantine list"):
        read_quarantine(tmp_path / "q.csv")
    with pytest.raises(BadRequest, match="no quarantine list"):
        read_quarantine(tmp_path / "none.csv")
    with pytest.raises(BadRequest, match="single photos cannot be left out"):
        open_data("cifar10", str(tmp_path / "q.csv"))
