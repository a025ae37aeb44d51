from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetkit.data import imagenet
from resnetkit.data.imagenet_truth import EXPECTED as TRUTH_EXPECTED
from resnetkit.data.photos import ENDINGS, PhotoSplit, is_image
from resnetkit.data.trees import TREE, read_eval_photos, read_photos, set_apart
from resnetkit.errors import BadImage, BadRequest

DATA = Path(__file__).parents[3] / "shared" / "data"
FILES = (
    "train/cat/b.jpg",
    "train/cat/a.png",
    "train/cat/more/deep/c.JPEG",
    "train/dog/a.jpg",
    "train/ant/z.jpg",
    "val/cat/1.jpg",
    "val/dog/2.jpg",
    "val/ant/3.jpg",
)


def save(root: Path, names: Iterable[str]) -> Path:
    """Write small photos, the gray level of each its number in the list."""
    for number, name in enumerate(names):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        kind = "JPEG" if file.suffix.lower().startswith(".jp") else "PNG"
        Image.new("RGB", (4, 3), (10 * number,) * 3).save(file, kind)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return save(tmp_path / "pets", FILES)


def names(split: PhotoSplit) -> list[str]:
    return [split.file(index).relative_to(split.folder).as_posix() for index in range(len(split))]


def refused(root: Path) -> tuple[str, ...]:
    with pytest.raises(BadRequest) as caught:
        read_photos(root)
    assert caught.value.exit_code == 2
    assert caught.value.what.startswith(str(root))
    assert caught.value.details[-len(TREE) :] == TREE
    return tuple(detail.replace(str(root), "ROOT") for detail in caught.value.details[: -len(TREE)])


# --- what is read ---


def test_classes_and_photos_are_in_the_order_of_their_names(root: Path) -> None:
    dataset = read_photos(root)
    assert (dataset.name, dataset.root, dataset.class_names) == ("pets", root, ("ant", "cat", "dog"))
    assert names(dataset.train) == ["ant/z.jpg", "cat/a.png", "cat/b.jpg", "cat/more/deep/c.JPEG", "dog/a.jpg"]
    assert dataset.train.labels.tolist() == [0, 1, 1, 1, 2]
    assert names(dataset.test) == ["ant/3.jpg", "cat/1.jpg", "dog/2.jpg"]
    assert dataset.test.labels.tolist() == [0, 1, 2]
    assert dataset.train.labels.dtype == np.int64
    assert dataset.train.paths.dtype.kind == "S"  # a Python string would take 70 bytes more for each


def test_pixels_belong_to_the_names(root: Path) -> None:
    train = read_photos(root).train
    levels = [int(train.read(index).mean().round()) for index in range(len(train))]
    assert levels == [10 * FILES.index(f"train/{name}") for name in names(train)]
    assert train.read(0).shape == (3, 4, 3)
    assert train.read(0).dtype == np.uint8


def test_hidden_files_other_endings_and_empty_folders_are_passed_over(root: Path) -> None:
    before = names(read_photos(root).train)
    for name in ("train/cat/._b.jpg", "train/cat/.cache/x.jpg", "train/.trash/x.jpg", "val/.hidden/x.jpg"):
        save(root, [name])
    (root / "train/cat/readme.txt").write_text("no image")
    (root / "train/labels.csv").write_text("no image")
    (root / "train/cat/folder.jpg").mkdir()
    assert names(read_photos(root).train) == before


def test_test_stands_in_for_val(root: Path) -> None:
    (root / "val").rename(root / "test")
    assert names(read_photos(root).test) == ["ant/3.jpg", "cat/1.jpg", "dog/2.jpg"]
    save(root, ["val/cat/9.jpg"])  # where both are there, val counts
    assert names(read_photos(root).test) == ["cat/9.jpg"]


def test_val_may_lack_a_class(root: Path) -> None:
    (root / "val/cat/1.jpg").unlink()
    (root / "val/cat").rmdir()
    dataset = read_photos(root)
    assert dataset.class_names == ("ant", "cat", "dog")
    assert dataset.test.labels.tolist() == [0, 2]


def test_names_that_are_no_unicode_and_class_folders_that_are_links(root: Path, tmp_path: Path) -> None:
    odd = os.fsencode(root / "train/dog") + b"/\xff\xe9.jpg"
    Path(os.fsdecode(odd)).write_bytes((root / "train/dog/a.jpg").read_bytes())
    (root / "train/dog").rename(tmp_path / "elsewhere")
    (root / "train/dog").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere/round").symlink_to(tmp_path / "elsewhere", target_is_directory=True)  # no end
    train = read_photos(root).train
    assert train.paths[-2:].tolist() == [b"dog/a.jpg", b"dog/\xff\xe9.jpg"]
    assert train.read(len(train) - 1).shape == (3, 4, 3)


def test_the_hash_is_of_names_and_sizes(root: Path) -> None:
    first = read_photos(root).sha256
    assert len(first) == 64
    moved = root.rename(root.with_name("moved"))
    assert read_photos(moved).sha256 == first
    file = moved / "val/cat/1.jpg"
    file.write_bytes(file.read_bytes() + b"x")
    second = read_photos(moved).sha256
    file.rename(file.with_name("2.jpg"))
    third = read_photos(moved).sha256
    (moved / "train/cat/b.jpg").rename(moved / "train/dog/b.jpg")
    assert len({first, second, third, read_photos(moved).sha256}) == 4


def test_parts_and_other_labels(root: Path) -> None:
    train = read_photos(root).train
    part = train.part(np.array([4, 0, 0]))
    assert names(part) == ["dog/a.jpg", "ant/z.jpg", "ant/z.jpg"]
    assert part.labels.tolist() == [2, 0, 0]
    assert train.relabelled([7, 8, 3]).labels.tolist() == [7, 8, 8, 8, 3]
    assert names(train.relabelled([7, 8, 3])) == names(train)


def test_an_unreadable_photo_is_named(root: Path) -> None:
    train = read_photos(root).train
    train.file(1).write_bytes(b"no image")
    with pytest.raises(BadImage, match=r"train/cat/a\.png: not an image of a known format"):
        train.read(1)
    train.file(1).unlink()
    with pytest.raises(BadImage, match=r"train/cat/a\.png: No such file or directory"):
        train.read(1)


def test_is_image(tmp_path: Path) -> None:
    save(tmp_path, ["a.jpg", "b.PNG", ".c.jpg", ".d/e.jpg"])
    (tmp_path / "f.txt").write_text("")
    (tmp_path / "g.jpg").mkdir()
    found = sorted(file.name for file in tmp_path.rglob("*") if is_image(file, tmp_path))
    assert found == ["a.jpg", "b.PNG"]
    assert ".jpeg" in ENDINGS


# --- what is refused ---


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"none: no such folder\n  expected\n    ROOT/train/CLASS/\*\.jpg"):
        read_photos(tmp_path / "none")
    assert refused(tmp_path) == ("no class folders, no lists and no images in it",)


def test_flat_folders(tmp_path: Path) -> None:
    save(tmp_path, ["train/a.jpg", "val/ILSVRC2012_val_1.JPEG", "val/ILSVRC2012_val_2.JPEG"])
    assert refused(tmp_path) == (
        "ROOT/train: no class folders; images directly in it: 1",
        "ROOT/val: no class folders; images directly in it: 2",
        f"ROOT/val: no list of labels; {TRUTH_EXPECTED}",
    )


def test_all_problems_are_told_at_once(root: Path) -> None:
    save(root, ["train/loose.jpg", "val/dgo/1.jpg", "val/x/1.jpg"])
    for number in range(7):
        (root / f"train/empty{number}").mkdir()
    (root / "val/ant/3.jpg").unlink()
    assert refused(root) == (
        "ROOT/train: images beside the class folders: 1",
        "ROOT/train: class folders without images: empty0, empty1, empty2, empty3, empty4 and 2 more",
        "ROOT/val: class folders without images: ant",
        "ROOT/val: classes that train does not have: dgo, x; did you mean 'dog'?",
    )


# --- lists ---


def listed(root: Path, **lists: str) -> Path:
    """Write lists beside the photos; `_` stands for a dot, `__` for a slash."""
    for name, text in lists.items():
        file = root / name.replace("__", "/").replace("_", ".")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return root


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


def test_a_class_list_orders_class_folders_and_is_part_of_the_hash(root: Path) -> None:
    before = read_photos(root)
    listed(root, classes_txt="dog\nfox\nant\ncat\n")
    dataset = read_photos(root)
    assert dataset.class_names == ("dog", "fox", "ant", "cat")
    assert dataset.train.labels.tolist() == [2, 3, 3, 3, 0]
    assert dataset.test.labels.tolist() == [2, 3, 0]
    assert dataset.notes == ("1 of the 4 classes have no training images",)
    assert dataset.sha256 != before.sha256
    listed(root, classes_txt="dog\ncat\n")
    assert refused(root) == (
        "ROOT/train: classes that classes.txt does not have: ant; did you mean 'cat'?",
        "ROOT/val: classes that classes.txt does not have: ant; did you mean 'cat'?",
    )


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
    assert names(dataset.test) == ["val/dog/2.jpg"]
    assert dataset.notes == ("photos of other splits of the list are not used: test 1, no split 1",)
    file = listed(root, all_tsv="train/cat/a.png\tcat\nval/cat/1.jpg\tcat\nval/dog/2.jpg\tdog\n") / "all.tsv"
    assert len(read_eval_photos(file)[0]) == 3
    dataset = read_photos(file)
    assert names(dataset.test) == ["train/cat/a.png"]
    assert dataset.notes == ("no photos are held out: 1 of 3 are set apart to evaluate on",)


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
    (root / "train.csv").write_bytes(b"path,label\n\xff,a")
    with pytest.raises(BadRequest, match=r"train\.csv cannot be read as UTF-8 text"):
        read_photos(root)
    with pytest.raises(BadRequest, match="unknown splits tain"):
        read_photos(listed(root, one_csv="path,label,split\ntrain/dog/a.jpg,a,tain\n") / "one.csv")
    with pytest.raises(BadRequest, match="not a list of photos"):
        read_photos(root / "train/dog/a.jpg")
    with pytest.raises(BadRequest, match="no images to train on, only"):
        read_photos(listed(root, two_csv="path,label,split\ntrain/dog/a.jpg,a,val\n") / "two.csv")


# --- photos set apart ---


def test_photos_are_set_apart_where_none_are_held_out(tmp_path: Path) -> None:
    root = save(
        tmp_path / "pets", [f"cat/{number:02}.jpg" for number in range(20)] + ["dog/1.jpg", "dog/2.jpg", "ant/1.jpg"]
    )
    dataset = read_photos(root)
    assert dataset.class_names == ("ant", "cat", "dog")
    assert names(dataset.test) == ["cat/00.jpg", "cat/10.jpg", "dog/1.jpg"]
    assert dataset.test.labels.tolist() == [1, 1, 2]
    assert len(dataset.train) == 20
    assert not set(names(dataset.train)) & set(names(dataset.test))
    assert dataset.notes == ("no photos are held out: 3 of 23 are set apart to evaluate on",)
    assert len(read_eval_photos(root)[0]) == 23
    assert len(read_eval_photos(root, "0" * 64)[0]) == 23
    split, _, notes = read_eval_photos(root, dataset.sha256)  # a model that was trained on these very photos
    assert (names(split), notes) == (names(dataset.test), dataset.notes)
    moved = root.rename(root.with_name("train")).parent
    assert names(read_photos(moved).test) == names(dataset.test)


def test_at_most_fifty_of_a_class_are_set_apart() -> None:
    held = set_apart(np.repeat([3, 1], [1000, 15]))
    assert (held < 1000).sum() == 50
    assert np.diff(held[:50]).tolist() == [20] * 49
    assert len(held) == 51
    assert not len(set_apart(np.arange(5)))


def test_one_class_is_nothing_to_learn(tmp_path: Path) -> None:
    save(tmp_path, ["images/cat/1.jpg", "images/cat/2.jpg", "images/dog/1.jpg"])
    assert refused(tmp_path) == ("ROOT: one class only, images: there is nothing to tell apart",)
    assert read_photos(tmp_path / "images").class_names == ("cat", "dog")


def test_one_photo_a_class_cannot_be_split(tmp_path: Path) -> None:
    save(tmp_path, ["cat/1.jpg", "dog/2.jpg"])
    assert refused(tmp_path) == ("ROOT: no photos held out, and no class has two photos to set one apart",)


# --- ImageNet ---

SYNSETS = imagenet.synsets()


def imagenet_tree(root: Path) -> Path:
    """Write a photo a class to train on, and four flat ones of classes 999, 0, 1 and 448 to evaluate on."""
    for synset in SYNSETS:
        (root / "train" / synset).mkdir(parents=True)
        (root / "train" / synset / "1.JPEG").write_bytes(b"x")
    return save(root, [f"val/ILSVRC2012_val_{number:08}.JPEG" for number in (1, 2, 3, 4)])


TRUTH = (999, 0, 1, 448)
NUMBERS = "ILSVRC2012_validation_ground_truth.txt"
NUMBER_OF = {synset: number for number, synset in imagenet.synset_numbers().items()}
TRUTHS = {
    f"ILSVRC2012_devkit_t12/data/{NUMBERS}": "\n".join(str(NUMBER_OF[SYNSETS[c]]) for c in TRUTH),
    NUMBERS: "\n".join(str(NUMBER_OF[SYNSETS[c]]) for c in TRUTH) + "\n7\n",
    "imagenet_2012_validation_synset_labels.txt": "\n".join(SYNSETS[c] for c in TRUTH),
    "LOC_val_solution.csv": "ImageId,PredictionString\n"
    + "".join(f"ILSVRC2012_val_{n:08},{SYNSETS[c]} 1 2 3 4 {SYNSETS[5]} 1 2 3 4\n" for n, c in enumerate(TRUTH, 1)),
    "meta/val.txt": "\n".join(f"ILSVRC2012_val_{number:08}.JPEG {c}" for number, c in enumerate(TRUTH, 1)),
    "val.txt": "\n".join(f"ILSVRC2012_val_{number:08}.JPEG {SYNSETS[c]}" for number, c in enumerate(TRUTH, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", list(TRUTHS))
def test_imagenets_flat_validation_images(name: str, tmp_path: Path) -> None:
    root = imagenet_tree(tmp_path)
    assert "no list of labels" in refused(root)[-1]
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(TRUTHS[name])
    dataset = read_photos(root)
    assert dataset.layout == "imagenet1k"
    assert dataset.class_names == imagenet.names()
    assert dataset.test.labels.tolist() == list(TRUTH)
    assert dataset.train.labels.tolist() == list(range(1000))
    assert dataset.notes == (
        "imagenet1k is expected with 1,281,167 training images, here are 1,000",
        "imagenet1k is expected with 50,000 test images, here are 4",
    )
    assert read_eval_photos(root)[0].labels.tolist() == list(TRUTH)
    assert read_eval_photos(root)[1:] == (imagenet.names(), dataset.notes[1:])


def test_kaggles_tree(tmp_path: Path) -> None:
    imagenet_tree(tmp_path / "ILSVRC/Data/CLS-LOC")
    (tmp_path / "LOC_val_solution.csv").write_text(TRUTHS["LOC_val_solution.csv"])
    dataset = read_photos(tmp_path)
    assert (dataset.layout, dataset.test.labels.tolist()) == ("imagenet1k", list(TRUTH))


def test_class_folders_of_imagenet_have_its_names_and_a_part_of_them_their_own(tmp_path: Path) -> None:
    root = imagenet_tree(tmp_path)
    for file in (root / "val").iterdir():
        file.unlink()
    save(root, [f"val/{SYNSETS[7]}/a.JPEG"])
    dataset = read_photos(root)
    assert (dataset.layout, dataset.class_names, dataset.test.labels.tolist()) == ("imagenet1k", imagenet.names(), [7])
    part = save(tmp_path / "part", [f"{split}/{SYNSETS[c]}/a.jpg" for split in ("train", "val") for c in (5, 3)])
    dataset = read_photos(part)
    assert (dataset.layout, dataset.class_names) == ("class folders", (SYNSETS[3], SYNSETS[5]))


@pytest.mark.parametrize(("text", "said"), [("7\n1001\n3\n4\n", "line 2"), ("7\nx\n3\n4\n", "line 2")])
def test_ground_truth_that_is_none(text: str, said: str, tmp_path: Path) -> None:
    (imagenet_tree(tmp_path) / "ILSVRC2012_validation_ground_truth.txt").write_text(text)
    with pytest.raises(BadRequest, match=said):
        read_photos(tmp_path)
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_text("7\n8\n")
    assert "no label for 2 images" in refused(tmp_path)[0]


def test_the_devkits_numbers_are_those_of_its_table() -> None:
    """The first ten of meta.mat, and the last."""
    first = "n02119789 n02100735 n02110185 n02096294 n02102040 n02066245 n02509815 n02124075 n02417914 n02123394"
    numbers = imagenet.synset_numbers()
    assert [numbers[number] for number in range(1, 11)] == first.split()
    assert numbers[1000] == "n03255030"
    assert set(numbers) == set(range(1, 1001))
    assert set(numbers.values()) == set(SYNSETS)


def test_imagenet21k_by_folders_and_by_a_class_list(tmp_path: Path) -> None:
    many = [f"n{number:08}" for number in range(1, 1102)]
    for synset in many:
        (tmp_path / synset).mkdir()
        for number in range(2):
            (tmp_path / synset / f"{number}.JPEG").write_bytes(b"x")
    dataset = read_photos(tmp_path)
    assert (dataset.layout, len(dataset.class_names), len(dataset.test)) == ("imagenet21k", 1101, 1101)
    assert dataset.notes[1] == "imagenet21k is expected with 21,843 classes, here are 1,101"
    (tmp_path / "classes.txt").write_text(
        "".join(f"{synset} a thing, being\n" for synset in [*many, "n99999999"][::-1])
    )
    dataset = read_photos(tmp_path)
    assert dataset.class_names[:2] == ("n99999999", many[-1])
    assert dataset.train.labels[0] == 1101
    assert "1 of the 1,102 classes have no training images" in dataset.notes


# --- CUB-200-2011 ---


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


# --- evaluation ---


def test_evaluation_takes_val_with_the_classes_of_train(root: Path) -> None:
    (root / "val/ant/3.jpg").unlink()
    (root / "val/ant").rmdir()
    split, class_names, _ = read_eval_photos(root)
    assert class_names == ("ant", "cat", "dog")
    assert names(split) == ["cat/1.jpg", "dog/2.jpg"]
    assert split.labels.tolist() == [1, 2]


def test_evaluation_takes_val_alone_and_class_folders_alone(root: Path) -> None:
    (root / "train").rename(root / "other")
    for chosen in (root, root / "val"):
        split, class_names, _ = read_eval_photos(chosen)
        assert class_names == ("ant", "cat", "dog")
        assert names(split) == ["ant/3.jpg", "cat/1.jpg", "dog/2.jpg"]
        assert split.labels.tolist() == [0, 1, 2]


def test_evaluation_refuses_what_does_not_fit(root: Path, tmp_path: Path) -> None:
    save(root, ["val/bird/1.jpg"])
    with pytest.raises(BadRequest, match=r"classes that train does not have: bird"):
        read_eval_photos(root)
    (root / "val").rename(tmp_path / "val-of-another-name")
    with pytest.raises(
        BadRequest, match=r"train has no val or test beside it\n  next: name .*/train to evaluate on it"
    ):
        read_eval_photos(root)
    with pytest.raises(BadRequest, match=r"cat: no class folders; images directly in it: 2"):
        (root / "train/cat/more/deep/c.JPEG").unlink()
        (root / "train/cat/more/deep").rmdir()
        (root / "train/cat/more").rmdir()
        read_eval_photos(root / "train/cat")
    with pytest.raises(BadRequest, match=r"none: no such folder"):
        read_eval_photos(root / "none")


# --- real photos ---


def test_real_photos_of_a_thousandth_of_imagenet(tmp_path: Path) -> None:
    archive = DATA / "imagenet-samples.tar"
    if not archive.is_file():
        pytest.skip(f"{archive.name} is not beside the repository")
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.name.endswith(".JPEG")][:20]
        tar.extractall(tmp_path, members, filter="data")
    split, class_names, _ = read_eval_photos(tmp_path / "imagenet-samples")
    assert len(split) == len(class_names) == 20
    assert class_names[0] == "n01440764"
    assert names(split)[0] == "n01440764/n01440764_tench.JPEG"
    assert min(min(split.read(index).shape[:2]) for index in range(20)) > 100
