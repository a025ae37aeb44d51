from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from photo_trees import FILES, listed, names, refused, save
from resnetkit.data.imagenet_truth import EXPECTED as TRUTH_EXPECTED
from resnetkit.data.photos import ENDINGS, is_image
from resnetkit.data.trees import read_eval_photos, read_photos, set_apart
from resnetkit.errors import BadImage, BadRequest

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return save(tmp_path / "pets", FILES)


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


def test_test_stands_in_for_val_and_with_both_val_is_for_training(root: Path) -> None:
    before = read_photos(root)
    assert before.val is None
    (root / "val").rename(root / "test")
    assert names(read_photos(root).test) == ["ant/3.jpg", "cat/1.jpg", "dog/2.jpg"]
    assert read_photos(root).sha256 == before.sha256
    save(root, ["val/cat/9.jpg"])  # where both are there, figures are of test
    both = read_photos(root)
    assert both.val is not None and names(both.val) == ["cat/9.jpg"]
    assert names(both.test) == ["ant/3.jpg", "cat/1.jpg", "dog/2.jpg"] and both.sha256 != before.sha256
    assert names(read_eval_photos(root)[0]) == names(both.test)


def test_test_images_without_labels_are_left_alone(root: Path) -> None:
    before = read_photos(root)
    save(root, ["test/1.jpg", "test/2.jpg"])  # as ImageNet's
    after = read_photos(root)
    assert after.val is None and (names(after.test), after.sha256) == (names(before.test), before.sha256)


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


def test_class_folders_whose_name_no_weights_could_keep(root: Path) -> None:
    (root / "train/dog").rename(os.fsdecode(os.fsencode(root / "train/d") + b"\xff"))
    (root / "val/dog/2.jpg").unlink()
    (root / "val/dog").rmdir()
    assert refused(root) == (r"ROOT: class names that cannot be printed: 'd\udcff'",)


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


# --- a list of the classes ---


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


# --- ImageNet-21k ---


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
        for member in members:  # not extractall: its filter came with Python 3.11.4
            content = tar.extractfile(member)
            assert content is not None
            (tmp_path / member.name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / member.name).write_bytes(content.read())
    split, class_names, _ = read_eval_photos(tmp_path / "imagenet-samples")
    assert len(split) == len(class_names) == 20
    assert class_names[0] == "n01440764"
    assert names(split)[0] == "n01440764/n01440764_tench.JPEG"
    assert min(min(split.read(index).shape[:2]) for index in range(20)) > 100
