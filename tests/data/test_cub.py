"""CUB-200-2011 in its official layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from photo_trees import names, save
from resnetkit.data.trees import read_eval_photos, read_photos
from resnetkit.errors import BadRequest


def cub_tree(root: Path) -> Path:
    save(
        root,
        [f"CUB_200_2011/images/00{c}.{bird}/{bird}_{n}.jpg" for c, bird in ((1, "Auk"), (2, "Wren")) for n in (1, 2)],
    )
    folder = root / "CUB_200_2011"
    birds = ["001.Auk/Auk_1.jpg", "001.Auk/Auk_2.jpg", "002.Wren/Wren_1.jpg", "002.Wren/Wren_2.jpg"]
    (folder / "images.txt").write_text("".join(f"{n} {bird}\n" for n, bird in enumerate(birds, 1)))
    (folder / "image_class_labels.txt").write_text("1 1\n2 1\n3 2\n4 2\n")
    (folder / "train_test_split.txt").write_text("1 0\n2 1\n3 1\n4 0\n")
    (folder / "classes.txt").write_text("1 001.Auk\n2 002.Wren\n")
    return root


def test_cub_in_its_official_layout_and_split(tmp_path: Path) -> None:
    for root in (cub_tree(tmp_path), tmp_path / "CUB_200_2011"):
        dataset = read_photos(root)
        assert dataset.layout == "cub200"
        assert dataset.class_names == ("Auk", "Wren")
        assert names(dataset.train) == ["001.Auk/Auk_2.jpg", "002.Wren/Wren_1.jpg"]
        assert names(dataset.test) == ["001.Auk/Auk_1.jpg", "002.Wren/Wren_2.jpg"]
        assert dataset.train.labels.tolist() == dataset.test.labels.tolist() == [0, 1]
        assert dataset.notes == (
            "cub200 is expected with 200 classes, here are 2",
            "cub200 is expected with 5,994 training images, here are 2",
            "cub200 is expected with 5,794 test images, here are 2",
        )
    assert names(read_eval_photos(tmp_path)[0]) == ["001.Auk/Auk_1.jpg", "002.Wren/Wren_2.jpg"]
    (tmp_path / "CUB_200_2011/classes.txt").unlink()
    assert read_photos(tmp_path).class_names == ("Auk", "Wren")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("train_test_split.txt", "1 0\n2 1\n3 1\n", "train_test_split.txt: other numbers than images.txt"),
        ("train_test_split.txt", "1 0\n2 1\n3 1\n4 2\n", "expected 0 and 1"),
        ("image_class_labels.txt", "1 1\n2 1\n3 2\n4 3\n", "classes that classes.txt does not have: 3"),
        ("images.txt", "1 001.Auk/Auk_1.jpg\nx\n", "line 2"),
        ("images.txt", "1 a.jpg\n2 b.jpg\n3 c.jpg\n4 d.jpg\n", "files that are not in"),
    ],
)
def test_cub_that_is_not_whole(name: str, text: str, said: str, tmp_path: Path) -> None:
    (cub_tree(tmp_path) / "CUB_200_2011" / name).write_text(text)
    with pytest.raises(BadRequest, match=said):
        read_photos(tmp_path)
