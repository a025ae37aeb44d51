"""Lists of photos: CSV, TSV and text, with names or numbers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from photo_trees import FILES, listed, names, refused, save
from resnetkit.data.trees import read_eval_photos, read_photos
from resnetkit.errors import BadRequest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return save(tmp_path / "pets", FILES)


def test_lists_of_text_say_what_the_folders_do_not(root: Path) -> None:
    listed(root, meta__train_txt="cat/a.png 1\ndog/a.jpg 0\n", meta__val_txt="cat/1.jpg 1\n\nant/3.jpg 0\n")
    dataset = read_photos(root)
    assert dataset.layout == "list"
    assert names(dataset.train) == ["cat/a.png", "dog/a.jpg"]
    assert dataset.class_names == ("dog", "cat")  # by the folders of the numbers
    assert names(dataset.test) == ["cat/1.jpg", "ant/3.jpg"]
    assert dataset.test.labels.tolist() == [1, 0]
    before = dataset
    listed(root, meta__classes_txt="zero\none\ntwo\n")
    dataset = read_photos(root)
    assert dataset.class_names == ("zero", "one", "two")
    assert dataset.sha256 != before.sha256
    assert dataset.notes == ("1 of the 3 classes have no training images",)


def test_numbers_without_folders_and_names_in_place_of_numbers(root: Path) -> None:
    listed(root, train_txt="cat/a.png 0\nant/z.jpg 0\ndog/a.jpg 1\n", val_csv="label,path\n1,cat/1.jpg\n")
    dataset = read_photos(root)
    assert dataset.class_names == ("class 0", "class 1")
    assert dataset.test.labels.tolist() == [1]
    listed(root, train_txt="cat/a.png pet\nant/z.jpg bug\n", val_csv="label,path\npet,cat/1.jpg\n")
    dataset = read_photos(root)
    assert dataset.class_names == ("bug", "pet")
    assert (dataset.train.labels.tolist(), dataset.test.labels.tolist()) == ([1, 0], [1])


def test_the_photos_of_a_list_may_lie_in_another_splits_folder(root: Path) -> None:
    listed(root, train_txt="cat/a.png cat\nant/z.jpg ant\n", val_txt="cat/b.jpg cat\n")
    assert names(read_photos(root).test) == ["cat/b.jpg"]
    assert read_photos(root).test.folder == root / "train"


def test_long_numbers_are_names(root: Path) -> None:
    listed(root, train_txt="cat/a.png 100000\nant/z.jpg 99999\n", val_txt="cat/1.jpg 100000\n")
    dataset = read_photos(root)
    assert dataset.class_names == ("100000", "99999")
    assert dataset.test.labels.tolist() == [0]


def test_one_list_with_a_column_for_the_split(root: Path) -> None:
    rows = ["image,split,category", "train/cat/a.png,train,cat", "train/dog/a.jpg,Train,dog", "val/cat/1.jpg,test,cat"]
    file = listed(root, photos_csv="\ufeff" + "\n".join(rows)) / "photos.csv"
    dataset = read_photos(file)
    assert (dataset.name, dataset.class_names) == ("photos.csv", ("cat", "dog"))
    assert (names(dataset.train), names(dataset.test)) == (["train/cat/a.png", "train/dog/a.jpg"], ["val/cat/1.jpg"])
    assert names(read_eval_photos(file)[0]) == ["val/cat/1.jpg"]
    assert dataset.notes == ()
    more = [*rows, "val/dog/2.jpg,val,dog", "train/ant/z.jpg,,cat"]
    dataset = read_photos(listed(root, more_csv="\n".join(more)) / "more.csv")
    assert dataset.val is not None
    assert (names(dataset.val), names(dataset.test)) == (["val/dog/2.jpg"], ["val/cat/1.jpg"])
    assert dataset.notes == ("photos of other splits of the list are not used: no split 1",)
    file = listed(root, all_tsv="train/cat/a.png\tcat\nval/cat/1.jpg\tcat\nval/dog/2.jpg\tdog\n") / "all.tsv"
    assert len(read_eval_photos(file)[0]) == 3
    dataset = read_photos(file)
    assert names(dataset.test) == ["train/cat/a.png"]
    assert dataset.notes == ("no photos are held out: 1 of 3 are set apart to evaluate on",)


def test_whole_paths_are_those_of_the_folder_that_they_share(root: Path, tmp_path: Path) -> None:
    rows = ["path,label,split", *(f"{root}/{name},{name.split('/')[1]},{name.split('/')[0]}" for name in
            ("train/cat/a.png", "train/dog/a.jpg", "val/cat/1.jpg"))]  # fmt: skip
    (tmp_path / "lists").mkdir()
    file = tmp_path / "lists" / "photos.csv"
    file.write_text("\n".join(rows))
    dataset = read_photos(file)
    assert dataset.train.folder == root / "train" and names(dataset.train) == ["cat/a.png", "dog/a.jpg"]
    moved = root.rename(root.with_name("moved"))
    file.write_text("\n".join(rows).replace(str(root), str(moved)))
    assert read_photos(file).sha256 == dataset.sha256


def test_a_path_may_have_bytes_that_are_no_text(root: Path) -> None:
    odd = b"train/cat/caf\xe9.png"
    (root / "train/cat/a.png").rename(root / os.fsdecode(odd))
    rows = b"%s,cat,train\ntrain/dog/a.jpg,dog,train\nval/cat/1.jpg,cat,val\n" % odd
    file = root / "photos.csv"
    file.write_bytes(b"path,label,split\n" + rows)
    train = read_photos(file).train
    assert os.fsencode(train.file(0)) == os.fsencode(root) + b"/" + odd and train.read(0).ndim == 3


def test_names_of_classes_that_are_numbers(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "photos.csv"
    file.write_text("path,label,split\n" + "".join(f"{root}/{name},{label},{split}\n" for name, label, split in (
        ("train/cat/a.png", 7, "train"), ("train/dog/a.jpg", 10, "train"), ("val/cat/1.jpg", 7, "test"))))  # fmt: skip
    file.with_name("classes.txt").write_text("10\n7\n")
    dataset = read_photos(file)
    assert dataset.class_names == ("10", "7") and dataset.train.labels.tolist() == [1, 0]


def test_paths_with_blanks_and_lines_without_labels(root: Path) -> None:
    save(root, ["train/cat/my cat.jpg"])
    train = "train/cat/my cat.jpg\ntrain/dog/a.jpg\tdog\ntrain/cat/my cat.jpg cat"
    listed(root, train_txt=train, val_txt="cat/1.jpg cat")
    dataset = read_photos(root)
    assert names(dataset.train) == ["train/cat/my cat.jpg", "train/dog/a.jpg", "train/cat/my cat.jpg"]
    assert dataset.train.labels.tolist() == [0, 1, 0]


def test_what_is_wrong_with_lists(root: Path) -> None:
    listed(root, train_txt="cat/a.png cat\ncat/none.png cat\n", val_txt="cat/1.jpg dgo\n")
    assert refused(root) == (
        "ROOT/train.txt: files that are not in ROOT/train, 1 of 2: cat/none.png",
        "ROOT/val.txt: classes that train does not have: dgo",
    )
    listed(root, train_txt="cat/a.png 0\n", val_txt="cat/1.jpg 7\n")
    assert refused(root) == ("ROOT/val.txt: label 7 for the 1 classes of train",)
    for wrong, said in (
        ({"train_csv": "a,b\n1,2\n"}, "no columns of paths and labels"),
        ({"train_csv": "path,label\na.jpg,\n,x\n"}, "got line 2, line 3"),
        ({"train_csv": ""}, "no columns"),
        ({"train_csv": "path,label\n"}, "got no lines"),
        (
            {"classes_txt": "a\na\n", "train_csv": "path,label\ntrain/dog/a.jpg,a\n"},
            "expected a class a line, each once",
        ),
        ({"classes_txt": "a\n\x1b[2J\n", "train_csv": "path,label\ntrain/dog/a.jpg,a\n"}, "each once"),
        ({"meta__classes_txt": "", "train_csv": "path,label\ntrain/dog/a.jpg,a\n"}, "no class"),
    ):
        with pytest.raises(BadRequest, match=said):
            read_photos(listed(root, **wrong))
        for name in wrong:
            (root / name.replace("__", "/").replace("_", ".")).unlink()
    (root / "train.csv").write_bytes(b"path,label\na.jpg,\xff")
    with pytest.raises(BadRequest, match=r"train\.csv cannot be read as UTF-8 text"):
        read_photos(root)
    (root / "train.csv").write_bytes(b"path,label\n\xff.jpg,a")
    with pytest.raises(BadRequest, match=r"1 of 1: \?\.jpg"):
        read_photos(root)
    with pytest.raises(BadRequest, match="unknown splits tain"):
        read_photos(listed(root, one_csv="path,label,split\ntrain/dog/a.jpg,a,tain\n") / "one.csv")
    with pytest.raises(BadRequest, match="not a list of photos"):
        read_photos(root / "train/dog/a.jpg")
    with pytest.raises(BadRequest, match="no images to train on, only"):
        read_photos(listed(root, two_csv="path,label,split\ntrain/dog/a.jpg,a,val\n") / "two.csv")


def test_a_quoted_cell_may_have_a_line_break_and_a_path_any_letter(root: Path) -> None:
    odd = "train/cat/a\u2028b.png"
    save(root, [odd])
    listed(root, q_csv=f'path,by,label\r\n{odd},"two\nlines",cat\r\ntrain/dog/a.jpg,me,dog\r\n')
    split, class_names, _ = read_eval_photos(root / "q.csv")
    assert (class_names, names(split)) == (("cat", "dog"), [odd, "train/dog/a.jpg"])
    listed(root, q_csv='path,label\ntrain/cat/a.png,"two\nlines"\ntrain/dog/a.jpg,dog\n')
    with pytest.raises(BadRequest, match=r"class names that cannot be printed: 'two\\nlines'"):
        read_photos(root / "q.csv")
