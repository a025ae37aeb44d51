from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from resnetkit.data.spec import Split
from resnetkit.data.transforms import Preprocess
from resnetkit.engines.of_torch import TorchEngine
from resnetkit.errors import BadRequest
from resnetkit.evaluate import Evaluation, evaluate
from resnetkit.metrics import wilson_interval
from resnetkit.models import ResNet, find_architecture

CPU = torch.device("cpu")
CLASSES = 7
NAMES = [f"class {index}" for index in range(CLASSES)]
PIXELS_ONLY = Preprocess(2, np.zeros(3, np.float32), np.ones(3, np.float32))


class PixelsAreLogits(nn.Module):
    """The first values of an image are its logits: exact whatever the batch, with many ties."""

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        return images.permute(0, 2, 3, 1).flatten(1)[:, :CLASSES] * 255


def small_images(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 4, (count, 2, 2, 3), np.uint8)
    return images, rng.integers(0, CLASSES, count).astype(np.uint8)


def run(images: NDArray[np.uint8], labels: NDArray[Any], batch_size: int = 200) -> Evaluation:
    return evaluate(TorchEngine(PixelsAreLogits(), PIXELS_ONLY), Split(images, labels), batch_size=batch_size)


def outcome(values: NDArray[np.uint8], label: int) -> tuple[int, float, int, float]:
    """Work out one image alone: prediction, confidence, rank of the label, loss."""
    logits = [float(value) for value in values.ravel()[:CLASSES]]
    order = sorted(range(CLASSES), key=lambda place: (-logits[place], place))
    total = sum(math.exp(value) for value in logits)
    loss = math.log(total) - logits[label]
    return order[0], math.exp(logits[order[0]]) / total, order.index(label), loss


@given(count=st.integers(1, 30), batch_size=st.integers(1, 40), seed=st.integers(0, 5))
def test_every_image_counts_once_whatever_the_batch(count: int, batch_size: int, seed: int) -> None:
    images, labels = small_images(count, seed)
    counted: list[int] = []
    found = evaluate(
        TorchEngine(PixelsAreLogits(), PIXELS_ONLY),
        Split(images, labels),
        batch_size=batch_size,
        on_batch=counted.append,
    )
    assert sum(counted) == found.images == count
    assert max(counted) <= batch_size
    expected = [outcome(image, int(label)) for image, label in zip(images, labels, strict=True)]
    assert found.labels.tolist() == labels.tolist()
    assert found.predictions.tolist() == [row[0] for row in expected]
    assert found.confidences == pytest.approx([row[1] for row in expected], rel=1e-5)
    assert found.ranks.tolist() == [row[2] for row in expected]
    assert found.losses == pytest.approx([row[3] for row in expected], rel=1e-5, abs=1e-6)
    assert found.correct == sum(row[0] == label for row, label in zip(expected, labels, strict=True))
    assert found.top1 == found.correct / count
    assert found.top5 == sum(row[2] < 5 for row in expected) / count
    assert found.loss == pytest.approx(sum(row[3] for row in expected) / count, rel=1e-5)
    assert int(np.trace(found.confusion())) == found.correct
    assert found.confusion().sum() == count == found.confusion_cells()[:, 2].sum()


def test_the_columns_have_their_types() -> None:
    found = run(*small_images(5))
    assert [found.labels.dtype, found.predictions.dtype, found.ranks.dtype] == [np.int64] * 3
    assert [found.confidences.dtype, found.losses.dtype] == [np.float32] * 2
    assert found.num_classes == CLASSES


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_put_back(training: bool) -> None:
    model = PixelsAreLogits().train(training)
    images, labels = small_images(3)
    evaluate(TorchEngine(model, PIXELS_ONLY), Split(images, labels))
    assert model.training is training


def test_the_running_statistics_stay_as_they_are() -> None:
    torch.manual_seed(0)
    model = ResNet(find_architecture("resnet4_tiny"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8)
    preprocess = Preprocess(8, np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32))
    found = evaluate(TorchEngine(model, preprocess), Split(images, np.arange(9)), batch_size=4)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with torch.no_grad():
        alone = [model.eval()(preprocess.normalize(torch.from_numpy(images[i : i + 1]))) for i in range(9)]
    assert found.predictions.tolist() == [int(logits.argmax()) for logits in alone]
    losses = [float(-logits.double().log_softmax(1)[0, label]) for label, logits in enumerate(alone)]
    assert found.losses == pytest.approx(losses, rel=1e-4)


def test_read_only_arrays_are_fine() -> None:
    images, labels = small_images(5)
    images.flags.writeable = labels.flags.writeable = False
    assert run(images, labels).images == 5


def test_prediction_and_rank_agree_where_the_softmax_rounds_logits_to_equal() -> None:
    class Near(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([[0.0, 1e-12]]).expand(len(images), 2)

    images, _ = small_images(1)
    found = evaluate(TorchEngine(Near(), PIXELS_ONLY), Split(images, np.array([1])))
    assert found.predictions.tolist() == [1]
    assert (found.correct, found.mistakes(1)) == (1, [])


def test_mistakes_are_the_most_confident_first() -> None:
    images, labels = small_images(30)
    found = run(images, labels, batch_size=4)
    expected = [(index, *outcome(images[index], int(labels[index]))) for index in range(30)]
    wrong = sorted((row for row in expected if row[3] > 0), key=lambda row: (-np.float32(row[2]).round(5), row[0]))
    assert len(wrong) > 10
    chosen = found.mistakes(10)
    assert [row["index"] for row in chosen] == [row[0] for row in wrong[:10]]
    assert [row["prediction"] for row in chosen] == [row[1] for row in wrong[:10]]
    assert [row["label"] for row in chosen] == [int(labels[row["index"]]) for row in chosen]
    assert [row["confidence"] for row in chosen] == pytest.approx([row[2] for row in wrong[:10]], rel=1e-5)
    assert len(found.mistakes(1000)) == len(wrong)
    assert found.mistakes(0) == []


def test_equally_confident_mistakes_stay_in_the_order_of_the_data() -> None:
    images = np.zeros((30, 2, 2, 3), np.uint8)
    images[:, 0, 0, 0] = [3, 1, 2] * 10
    chosen = run(images, np.ones(30, np.int64)).mistakes(30)
    assert [row["index"] for row in chosen] == [*range(0, 30, 3), *range(2, 30, 3), *range(1, 30, 3)]


def test_json_has_the_figures_with_intervals_and_a_row_a_class() -> None:
    images, labels = small_images(40)
    labels[labels == 6] = 5  # a class without images
    found = run(images, labels)
    data = json.loads(json.dumps(found.to_json(NAMES), allow_nan=False))
    assert {"images", "correct", "top1", "top5", "loss"} <= set(data)
    assert (data["images"], data["correct"], data["top1"]) == (40, found.correct, found.top1)
    assert data["top1_interval"] == list(wilson_interval(found.correct, 40))
    assert data["top5_interval"] == list(wilson_interval(round(data["top5"] * 40), 40))
    cells = {(label, prediction): count for label, prediction, count in data["confusion"]}
    assert cells == {(int(row), int(column)): found.confusion()[row, column]
                     for row, column in np.argwhere(found.confusion())}  # fmt: skip
    assert [row["class"] for row in data["classes"]] == NAMES
    for index, row in enumerate(data["classes"]):
        here, guessed = labels == index, found.predictions == index
        assert row["images"] == here.sum()
        assert row["correct"] == (here & guessed).sum()
        assert row["recall"] == (row["correct"] / here.sum() if here.any() else None)
        assert row["precision"] == (row["correct"] / guessed.sum() if guessed.any() else None)
        assert row["recall_interval"] == list(wilson_interval(row["correct"], row["images"]))
    assert data["classes"][6]["images"] == 0
    assert data["classes"][6]["recall"] is None


def test_no_images_are_refused() -> None:
    with pytest.raises(BadRequest, match="no images"):
        evaluate(
            TorchEngine(nn.Identity(), PIXELS_ONLY),
            Split(np.zeros((0, 2, 2, 3), np.uint8), np.zeros(0, np.int64)),
        )


def test_an_interrupted_evaluation_restores_training_mode() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).train()

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(
            TorchEngine(model, PIXELS_ONLY),
            Split(np.zeros((2, 2, 2, 3), np.uint8), np.zeros(2, np.int64)),
            on_batch=stop,
        )
    assert model.training


def test_twenty_thousand_classes_take_no_square_of_memory() -> None:
    labels = np.array([3, 21_842, 3])
    ones = np.ones(3, np.float32)
    found = Evaluation(21_843, labels, np.array([3, 0, 4]), ones, np.array([0, 1, 9]), ones, ones)
    data = found.to_json([str(number) for number in range(21_843)])
    assert data["confusion"] == [[3, 3, 1], [3, 4, 1], [21_842, 0, 1]]
    assert (data["classes"][3]["images"], data["classes"][3]["correct"], data["classes"][0]["precision"]) == (2, 1, 0.0)
    assert len(json.dumps(data["confusion"])) < 100
