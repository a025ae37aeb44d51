"""ImageNet in its usual forms."""

from __future__ import annotations

from pathlib import Path

import pytest

from photo_trees import refused, save
from resnetkit.data import imagenet
from resnetkit.data.trees import read_eval_photos, read_photos
from resnetkit.errors import BadRequest

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
