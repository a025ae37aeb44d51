from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetkit.data.folder import ENDINGS, PhotoSplit, is_image, read_eval_photos, read_photos
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
    assert caught.value.details[-3] == "expected"
    return tuple(detail.replace(str(root), "ROOT") for detail in caught.value.details[:-3])


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
    assert refused(tmp_path) == ("ROOT/train: no such folder", "ROOT/val: no such folder")


def test_flat_folders(tmp_path: Path) -> None:
    save(tmp_path, ["train/a.jpg", "val/ILSVRC2012_val_1.JPEG", "val/ILSVRC2012_val_2.JPEG"])
    assert refused(tmp_path) == (
        "ROOT/train: no class folders; images directly in it: 1",
        "ROOT/val: no class folders; images directly in it: 2",
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


# --- evaluation ---


def test_evaluation_takes_val_with_the_classes_of_train(root: Path) -> None:
    (root / "val/ant/3.jpg").unlink()
    (root / "val/ant").rmdir()
    split, class_names = read_eval_photos(root)
    assert class_names == ("ant", "cat", "dog")
    assert names(split) == ["cat/1.jpg", "dog/2.jpg"]
    assert split.labels.tolist() == [1, 2]


def test_evaluation_takes_val_alone_and_class_folders_alone(root: Path) -> None:
    (root / "train").rename(root / "other")
    for chosen in (root, root / "val"):
        split, class_names = read_eval_photos(chosen)
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
    split, class_names = read_eval_photos(tmp_path / "imagenet-samples")
    assert len(split) == len(class_names) == 20
    assert class_names[0] == "n01440764"
    assert names(split)[0] == "n01440764/n01440764_tench.JPEG"
    assert min(min(split.read(index).shape[:2]) for index in range(20)) > 100
