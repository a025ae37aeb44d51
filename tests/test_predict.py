from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from resnetkit.data.sources import ArrayDataset
from resnetkit.data.spec import Split
from resnetkit.data.transforms import Preprocess
from resnetkit.engines.of_torch import TorchEngine
from resnetkit.errors import BadRequest
from resnetkit.evaluate import evaluate
from resnetkit.models import ResNet, find_architecture
from resnetkit.predict import BATCH_SIZE, Prediction, Unreadable, find_images, predict
from resnetkit.recipes.cifar import MEAN, STD

CIFAR = Preprocess(32, np.array(MEAN, np.float32), np.array(STD, np.float32))
SMALL = Preprocess(4, np.zeros(3, np.float32), np.ones(3, np.float32))


class RedGreenBlue(nn.Module):
    """Three classes: the mean of each channel, times ten."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        self.batch_sizes.append(len(images))
        return images.mean((2, 3)) * 10


def save(path: Path, colour: str | NDArray[np.uint8], size: tuple[int, int] = (4, 4)) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    (Image.new("RGB", size, colour) if isinstance(colour, str) else Image.fromarray(colour)).save(path)
    return str(path)


def top_classes(outcomes: list[Prediction | Unreadable]) -> list[int | None]:
    return [outcome.classes[0] if isinstance(outcome, Prediction) else None for outcome in outcomes]


def put_on_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))


# --- the same answer as evaluate ---


def check_against_evaluate(images: NDArray[np.uint8], folder: Path) -> None:
    torch.manual_seed(0)
    model = ResNet(find_architecture("resnet4_tiny"))
    files = [save(folder / f"{index:03d}.png", image) for index, image in enumerate(images)]
    outcomes = list(predict(TorchEngine(model, CIFAR), files, top_k=10))
    split = Split(images, np.zeros(len(images)))
    expected = evaluate(TorchEngine(model, CIFAR), split, batch_size=7)
    assert len(outcomes) == len(images)
    for place, outcome in enumerate(outcomes):
        assert isinstance(outcome, Prediction)
        assert outcome.file == files[place]
        assert outcome.classes[0] == expected.predictions[place]
        assert outcome.probs[0] == pytest.approx(expected.confidences[place], rel=1e-5)
        assert sorted(outcome.classes) == list(range(10))
        assert list(outcome.probs) == sorted(outcome.probs, reverse=True)
        assert sum(outcome.probs) == pytest.approx(1, rel=1e-5)


def test_files_of_images_are_predicted_as_the_arrays_are_evaluated(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    check_against_evaluate(images, tmp_path)


def test_real_images_are_predicted_as_evaluated(cifar10: ArrayDataset, tmp_path: Path) -> None:
    check_against_evaluate(np.array(cifar10.test.images[:40]), tmp_path)


def test_alone_or_in_a_batch_is_the_same_to_the_rounding(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), np.uint8)
    files = [save(tmp_path / f"{index}.png", image) for index, image in enumerate(images)]
    model = ResNet(find_architecture("resnet4_tiny"))
    together = list(predict(TorchEngine(model, CIFAR), files))
    for file, outcome in zip(files, together, strict=True):
        (alone,) = predict(TorchEngine(model, CIFAR), [file])
        assert isinstance(alone, Prediction)
        assert isinstance(outcome, Prediction)
        assert alone.classes == outcome.classes
        assert alone.probs == pytest.approx(outcome.probs, rel=1e-5)


# --- order, bad files, batches ---


def test_order_is_kept_across_batches_and_bad_files_are_named(tmp_path: Path) -> None:
    colours = ["red", "green", "blue"]
    files: list[str] = []
    expected: list[int | None] = []
    for index in range(2 * BATCH_SIZE + 5):
        file = tmp_path / f"{(index * 37) % 100:03d}.png"
        if index % 10 == 4:
            file.write_bytes(b"not an image" if index % 20 == 4 else b"")
            files.append(str(file))
            expected.append(None)
        else:
            # "green" is half as bright; the sizes differ, so all go through the resize
            files.append(save(file, colours[index % 3], (4 + index % 3, 5 + index % 2)))
            expected.append(index % 3)
    model = RedGreenBlue()
    outcomes = list(predict(TorchEngine(model, SMALL), files))
    assert [outcome.file for outcome in outcomes] == files
    assert top_classes(outcomes) == expected
    bad = [outcome for outcome in outcomes if isinstance(outcome, Unreadable)]
    assert len(bad) == expected.count(None) == 7
    assert {outcome.reason for outcome in bad} == {"not an image of a known format", "the file is empty"}
    assert sum(model.batch_sizes) == len(files) - len(bad)
    assert len(model.batch_sizes) == 3


def test_only_bad_files(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    model = RedGreenBlue()
    files = [str(tmp_path / "x.png"), str(tmp_path / "gone.png")]
    outcomes = list(predict(TorchEngine(model, SMALL), files))
    assert outcomes == [
        Unreadable(files[0], "not an image of a known format"),
        Unreadable(files[1], "No such file or directory"),
    ]
    assert model.batch_sizes == []
    assert list(predict(TorchEngine(model, SMALL), [])) == []


def test_the_reason_has_the_next_step(tmp_path: Path) -> None:
    file = tmp_path / "x.tiff"
    Image.fromarray(np.ones((2, 2), np.float32)).save(file)
    (outcome,) = predict(TorchEngine(RedGreenBlue(), SMALL), [str(file)])
    assert outcome == Unreadable(str(file), "float pixels have no known white; next: save it with 8 or 16 bits")


def test_predictions_come_while_files_are_still_read(tmp_path: Path) -> None:
    file = save(tmp_path / "red.png", "red")
    asked = 0

    def endless() -> object:
        nonlocal asked
        while True:
            asked += 1
            yield file

    outcomes = predict(TorchEngine(RedGreenBlue(), SMALL), endless())  # type: ignore[arg-type]
    assert top_classes([next(outcomes) for _ in range(3)]) == [0, 0, 0]
    assert asked == BATCH_SIZE


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (3, 3), (5, 3)])
def test_top_k_may_be_larger_than_the_classes(tmp_path: Path, top_k: int, count: int) -> None:
    file = save(tmp_path / "x.png", "#804000")
    (outcome,) = predict(TorchEngine(RedGreenBlue(), SMALL), [file], top_k=top_k)
    assert isinstance(outcome, Prediction)
    assert outcome.classes == (0, 1, 2)[:count]
    assert len(outcome.probs) == count


def test_of_equal_probabilities_the_lower_class_goes_first(tmp_path: Path) -> None:
    (outcome,) = predict(TorchEngine(RedGreenBlue(), SMALL), [save(tmp_path / "x.png", "gray")])
    assert isinstance(outcome, Prediction)
    assert outcome.classes == (0, 1, 2)


def test_an_image_on_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(save(tmp_path / "blue.png", "blue"))
    put_on_stdin(monkeypatch, file.read_bytes())
    outcomes = list(predict(TorchEngine(RedGreenBlue(), SMALL), find_images(["-", str(file)])))
    assert [outcome.file for outcome in outcomes] == ["-", str(file)]
    assert top_classes(outcomes) == [2, 2]
    assert list(predict(TorchEngine(RedGreenBlue(), SMALL), ["-"])) == [Unreadable("-", "the file is empty")]


def test_the_preprocessing_resizes_and_crops(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, :, 0] = 255
    pixels[:, 12:18] = [0, 0, 255]  # only the middle is blue
    file = save(tmp_path / "x.png", pixels)
    narrow = Preprocess(4, np.zeros(3, np.float32), np.ones(3, np.float32), resize_size=10)
    assert blue_probs(file, narrow) == pytest.approx(softmax(0, 0, 10)[::-1], rel=1e-4)  # nothing but blue
    wide = Preprocess(10, np.zeros(3, np.float32), np.ones(3, np.float32), resize_size=10)
    assert blue_probs(file, wide) == pytest.approx(softmax(0, 4, 6)[::-1], rel=1e-4)


def softmax(*logits: float) -> list[float]:
    return [float(value) for value in np.exp(logits) / np.exp(logits).sum()]


def blue_probs(file: str, preprocess: Preprocess) -> tuple[float, ...]:
    (outcome,) = predict(TorchEngine(RedGreenBlue(), preprocess), [file])
    assert isinstance(outcome, Prediction)
    assert outcome.classes[0] == 2
    return outcome.probs


# --- finding files ---


def test_folders_are_searched_and_hidden_and_foreign_files_passed_over(tmp_path: Path) -> None:
    wanted = ["a.png", "b/c.JPG", "b/d/e.jpeg", "b/f.WebP", "z.tiff"]
    others = ["a.txt", ".a.png", "b/._c.JPG", ".cache/x.png", "b/.x/y.png", "png", "notes.json", "c.png.bak"]
    for name in wanted + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert find_images([str(tmp_path)]) == [str(tmp_path / name) for name in wanted]


def test_a_hidden_folder_that_is_named_is_searched(tmp_path: Path) -> None:
    file = save(tmp_path / ".hidden" / "x.png", "red")
    assert find_images([str(tmp_path / ".hidden")]) == [file]
    assert find_images([file]) == [file]


def test_files_are_taken_as_named_in_the_order_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.dat", "a.png", "folder/c.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"")
    named = ["b.dat", "-", "folder", "a.png", "b.dat"]
    assert find_images(named) == ["b.dat", "-", os.path.join("folder", "c.png"), "a.png", "b.dat"]  # noqa: PTH118


def test_every_missing_path_is_named(tmp_path: Path) -> None:
    present = save(tmp_path / "x.png", "red")
    with pytest.raises(BadRequest) as caught:
        find_images([present, "gone.png", "nowhere", "-"])
    assert str(caught.value) == "no such file or folder\n  gone.png\n  nowhere"


def test_a_folder_without_images_is_a_bad_request(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(BadRequest, match="no images found") as caught:
        find_images([str(tmp_path)])
    assert str(tmp_path) in str(caught.value)
    assert ".png" in str(caught.value)
