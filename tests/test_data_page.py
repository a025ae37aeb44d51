"""A look at a data set: what is counted, and the page with its pictures."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnetkit.cli import main
from resnetkit.data.resize import view
from resnetkit.data.trees import read_all_photos, read_photos
from resnetkit.data_page import chosen, look_at, some_classes, usual_recipe, write_page
from resnetkit.feed import build_feed, preview
from resnetkit.recipe import CutMix, Flip, Mixup, PadCrop, RandomResizedCrop, TrivialAugment, View
from tiny import RECIPE, tiny_dataset

PICTURE = re.compile(r'src="data:image/(\w+);base64,([^"]+)"')
PHOTOS = replace(
    RECIPE, image_size=24, augment=(RandomResizedCrop("cv2-bilinear"), Flip()), view=View(28, 24), val_images=0, mix=()
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six photos of two classes to train on, two held out; one file to train on is none."""
    rng = np.random.default_rng(0)
    for place in (
        "train/ant/1",
        "train/ant/2",
        "train/ant/3",
        "train/<bee>/4",
        "train/<bee>/5",
        "val/ant/6",
        "val/ant/7",
    ):
        file = tmp_path / "pets" / f"{place}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)).save(file)
    (tmp_path / "pets/train/ant/2.png").write_text("no image")
    return tmp_path / "pets"


def pictures(page: str) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for _, data in PICTURE.findall(page)]


def test_counts_by_class(root: Path) -> None:
    facts = look_at(read_photos(root), 100)
    assert facts.class_names == ("<bee>", "ant")
    assert (facts.train_counts, facts.test_counts) == ((2, 3), (0, 2))
    assert facts.to_json()["classes"][1] == {"class": "ant", "train": 3, "test": 2}
    json.dumps(facts.to_json())
    whole = look_at(tiny_dataset(), 3)
    assert sum(whole.train_counts) == len(tiny_dataset().train)
    assert whole.layout == "arrays"


def test_the_page_shows_files_evaluation_and_augmentation(root: Path, tmp_path: Path) -> None:
    dataset = read_photos(root)
    write_page(tmp_path / "page.html", dataset, look_at(dataset, 100), PHOTOS, images=5)
    page = (tmp_path / "page.html").read_text()
    assert "&lt;bee&gt;" in page
    assert "<bee>" not in page
    assert "2.png: not an image of a known format" in page
    assert "http" not in page.replace("http-equiv", "")
    shown = pictures(page)
    assert len(shown) == 4 * (2 + 6)
    pixels = dataset.train.read(0)
    np.testing.assert_array_equal(shown[0], pixels)
    seen = view(pixels, resize_size=28, crop_size=24, family="pillow-bilinear", keep_ratio=True)
    np.testing.assert_array_equal(shown[1], seen)
    np.testing.assert_array_equal(shown[3], preview(PHOTOS, pixels, 0, 1))
    assert len({one.tobytes() for one in shown[2:8]}) > 1


def test_mixed_images_are_those_of_the_first_epoch(root: Path, tmp_path: Path) -> None:
    dataset = read_photos(root)
    for way in (Mixup(1.0), CutMix(1.0)):
        write_page(tmp_path / "page.html", dataset, look_at(dataset, 1), replace(PHOTOS, mix=(way,)), images=9)
        page = (tmp_path / "page.html").read_text()
        assert "mixed as one micro-batch" in page
        assert len(pictures(page)) == 4 * 8 + 4


def test_a_preview_is_what_training_shows() -> None:
    dataset = tiny_dataset()
    whole = replace(RECIPE, augment=(PadCrop(2), Flip(alternating=True)), val_images=0)
    batch = build_feed(whole, dataset).batches.at(0)
    index = int(batch.indices[0])
    feed = build_feed(whole, dataset)
    shown = preview(whole, dataset.train.read(index), index, 0)
    normalised = feed.preprocess.normalize(torch.from_numpy(shown[None].copy()))
    np.testing.assert_allclose(batch.images[0].numpy(), normalised[0].numpy(), atol=1e-6)
    single = replace(whole, augment=(PadCrop(2), TrivialAugment()))
    first, second = (preview(single, dataset.train.read(3), 3, epoch) for epoch in (0, 1))
    assert first.shape == second.shape == (16, 16, 3)
    assert (first != second).any()
    np.testing.assert_array_equal(first, preview(single, dataset.train.read(3), 3, 0))


def test_a_preview_of_a_photo_for_a_recipe_of_small_images_is_of_its_view(root: Path) -> None:
    photo = read_photos(root).train.read(0)
    for augment in ((PadCrop(2), Flip()), (PadCrop(2), TrivialAugment())):
        assert preview(replace(PHOTOS, augment=augment), photo, 0, 0).shape == (24, 24, 3)


def test_images_are_spread_over_the_classes() -> None:
    labels = tiny_dataset().train.labels
    shown = chosen(tiny_dataset(), 6)
    assert len(shown) == 6
    assert len({int(labels[index]) for index in shown}) == len(set(labels.tolist()))
    assert len(chosen(tiny_dataset(), 10**6)) == len(labels)
    rows = [{"name": number, "train": number} for number in range(200)]
    assert [row["train"] for row in some_classes(rows)] == [*range(199, 169, -1), *range(29, -1, -1)]
    assert some_classes(rows[:60]) == rows[:60]


def test_the_usual_recipe_is_that_of_the_data(root: Path) -> None:
    assert usual_recipe(replace(tiny_dataset(), name="cifar10")) == "resnet18_8xb16_cifar10"
    assert usual_recipe(replace(read_photos(root), layout="cub200")) == "resnet50_8xb8_cub"
    assert usual_recipe(read_photos(root)) == "resnet50_8xb32_in1k"


# --- the command ---


def test_the_command_prints_and_writes(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "look.html"
    assert main(["data", "show", str(root), "--out", str(out), "--images", "2"]) == 0
    printed = capsys.readouterr().out
    assert "layout class folders, 2 classes" in printed
    assert "training: 5 images, 2 to 3 a class" in printed
    assert "held out: 2 images, 0 to 2 a class" in printed
    assert "2.png: not an image of a known format" in printed
    assert out.is_file()
    out.unlink()
    assert main(["data", "show", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["train"]["images"] == 5
    assert not list(Path.cwd().glob("pets-data.html"))
    words = ["data", "show", str(root / "train"), "--out", str(out), "--recipe", "resnet50_8xb8_cub"]
    assert main([*words, "--set", "augment.1.kind=RandomCrop"]) == 0
    assert "held out: no images" in capsys.readouterr().out
    assert "resnet50_8xb8_cub" in out.read_text()
    assert len(read_all_photos(root / "train").test) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show"], "data show: expected a folder, a list or a name"),
        (["show", "nowhere"], "no data 'nowhere'"),
        (["show", ".", "--out", "nowhere/page.html"], "--out: no such folder: nowhere"),
        (["show", ".", "--recipe", "resnet50_8xb32_im1k"], "did you mean"),
        (["show", ".", "--from", "x"], "data show: it does not take --from"),
        (["cifar10", "here"], "next: resnetkit data show here"),
        (["cifar10", "--json"], "belong to data show"),
        (["cifar10", "--images", "3"], "belong to data show"),
        (["show", ".", "--images", "0"], "expected a whole number above 0"),
    ],
)
def test_what_cannot_be_shown(
    words: list[str], said: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    assert main(["data", *words]) == 2
    assert said in capsys.readouterr().err
