from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from resnetkit import checkpoint
from resnetkit.charts import LEFT, RIGHT
from resnetkit.errors import BadRequest
from resnetkit.evaluate import Evaluation
from resnetkit.models import MODELS, ResNet
from resnetkit.recipe import AverageWeights, Normalize, PadCrop, Recipe, Sgd, StepDecay, View
from resnetkit.report import class_rows, matrix, readable, write_report

NAMES = ("ant", "bee", "cow")
VOID = {"br", "img", "link", "meta", "wbr"}
Event = dict[str, Any]

RECIPE = Recipe(
    name="little",
    model="resnet4_tiny",
    data="cifar10",
    image_size=32,
    view=View(32, 32),
    batch_size=10,
    microbatch_size=10,
    optim=Sgd(lr=0.1),
    schedule=StepDecay(drop_epochs=(1.0, 2.0)),
    preprocess=Normalize((0.5, 0.25, 0.5), (0.2, 0.2, 0.2)),
    augment=(PadCrop(4),),
    total_epochs=3.0,
    average_weights=AverageWeights(0.99),
)
START = {
    "event": "start", "step": 0, "seed": 0, "data_sha256": "d" * 64, "command": "resnetkit train little",
    "commit": None, "versions": {"python": "3.11.7", "torch": "2.9"}, "machine": {"processor": "Abacus", "cores": 2},
    "time": "2026-01-02T03:04:05+00:00",
}  # fmt: skip


def training_events() -> list[Event]:
    """Three epochs of ten steps, resumed after the second."""
    events: list[Event] = [START]
    for step in range(5, 31, 5):
        events.append({"event": "train", "step": step, "epoch": step / 10, "lr": 0.1, "loss": 5 / step,
                       "top1": step / 40, "images_per_second": 50.0})  # fmt: skip
        if step % 10 == 0:
            events.append({"event": "eval", "step": step, "split": "val", "images": 50, "top1": step / 50,
                           "top5": 1.0, "loss": 6 / step})  # fmt: skip
        if step == 20:
            versions = {"python": "3.11.7", "torch": "2.10"}
            events.append(START | {"event": "resume", "step": 20, "time": "2026-02-02T03:04:05+00:00",
                                   "versions": versions})  # fmt: skip
    return events


def evaluation() -> Evaluation:
    """Twelve images: four an ant, four a bee, four a cow; five mistakes."""
    labels = np.repeat(np.arange(3), 4)
    predictions = np.array([0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0])
    confidences = np.linspace(0.5, 0.94, 12, dtype=np.float32)
    ranks = (labels != predictions).astype(np.int64)
    return Evaluation(3, labels, predictions, confidences, ranks, confidences, confidences)


def make_run(run: Path, names: tuple[str, ...] = NAMES) -> Path:
    """Write a whole run without training: every file that the report reads."""
    checkpoint.start_run(run, RECIPE)
    outcome = evaluation()
    found = {"data": "cifar10", "split": "test", "mistakes": outcome.mistakes(24)}
    (run / checkpoint.EVALUATION).write_text(json.dumps(outcome.to_json(names) | found))
    arch = MODELS["resnet4_tiny"]
    metadata = {"architecture": asdict(arch), "preprocess": {"image_size": 32}}
    sha256 = checkpoint.save_weights(run / checkpoint.WEIGHTS, ResNet(arch).state_dict(), metadata)
    test = {"event": "test", "step": 30, "weights_sha256": sha256, "images": 12, "top1": outcome.top1,
            "top5": outcome.top5, "loss": outcome.loss}  # fmt: skip
    write_events(run, [*training_events(), test])
    return run


def write_events(run: Path, events: list[Event]) -> None:
    (run / checkpoint.METRICS).write_text("".join(json.dumps(event) + "\n" for event in events))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "a run")


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)


class Page(HTMLParser):
    """Checks that tags are balanced, and collects the text (tags are spaces), attributes and sections."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.text = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.opened == []
        self.text = " ".join(self.text.split())
        self.sections = [attributes["id"] for tag, attributes in self.tags if tag == "section"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += "" if tag == "wbr" else " "
        if tag not in VOID:
            self.opened.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.opened, f"<{tag}/> is closed in SVG only"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag
        self.text += " "

    def handle_data(self, data: str) -> None:
        if self.opened and self.opened[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_a_whole_run_has_every_section(run: Path, images: NDArray[np.uint8]) -> None:
    path = write_report(run, images.__getitem__)
    assert path == run / "report.html"
    page = Page(path)
    assert page.sections == ["curves", "classes", "confusion", "mistakes", "recipe", "environment", "again"]
    assert len(page.all("h1")) == 1
    assert "58.33 %" in page.text
    assert "7 of 12 images right" in page.text
    assert "95 % interval 31.95 % to 80.67 %" in page.text
    params = sum(value.numel() for value in ResNet(MODELS["resnet4_tiny"]).parameters())
    assert f"Parameters {params:,}" in page.text
    assert "about 0:06" in page.text  # 300 images at 50 a second
    assert "What is missing" not in page.text
    assert sorted(file.name for file in run.iterdir() if file.name.startswith(".")) == []


def test_curves_have_each_line_and_where_the_run_was_resumed(run: Path) -> None:
    page = Page(write_report(run, None))
    charts = [svg["aria-label"] for svg in page.all("svg") if svg.get("class") == "chart"]
    assert len(charts) == 4
    assert charts[0] == (
        "Loss. train: from 1 at epoch 0.5 to 0.1667 at epoch 3; val: from 0.6 at epoch 1 to 0.2 at epoch 3; "
        "final test: 0.72 at epoch 3"
    )
    assert charts[1] is not None
    assert "val: from 20 at epoch 1 to 60 at epoch 3" in charts[1]
    assert charts[2] == "Learning rate. rate: from 0.1 at epoch 0.5 to 0.1 at epoch 3"
    marks = [line for line in page.all("line") if line.get("class") == "mark"]
    assert len(marks) == 4 + 4  # in each chart and in each legend
    assert float(str(marks[-1]["x1"])) == pytest.approx(LEFT + 2 / 3 * (RIGHT - LEFT), abs=0.1)  # epoch 2 of 3
    assert "The run was resumed at the dashed line." in page.text
    resumed = page.text.partition("Where it was resumed")[2].partition("Compute it again")[0]
    assert "step 20" in resumed
    assert "2026-02-02 03:04:05 UTC" in resumed
    assert "versions.torch 2.10" in resumed
    assert "command" not in resumed
    assert "time" not in resumed


def test_classes_come_by_recall_with_their_figures(run: Path) -> None:
    page = Page(write_report(run, None))
    table = page.text.partition("All 3 classes")[2].partition("Confusion")[0]
    assert table.index("cow") < table.index("ant") < table.index("bee")
    assert "75.0 %" in table
    assert "30.1 % to 95.4 %" in table
    assert "42.9 %" in table  # ant's precision: 3 of 7
    assert "–" in table  # nothing was called a cow, so that it has no precision
    bars = re.findall(r'class="fill" y="3" width="([\d.]+)%"', page.source)
    assert bars == ["58.33", "0.00", "75.00", "100.00"]  # the headline, then the classes


def test_classes_without_images_come_last() -> None:
    rows = [{"class": "ant", "recall": None}, {"class": "bee", "recall": 0.5}, {"class": "cow", "recall": 0.25}]
    assert [row["class"] for row in class_rows({"classes": rows})] == ["cow", "bee", "ant"]


def test_mistakes_have_a_scale_of_their_own() -> None:
    rows = matrix({"confusion": [[0, 0, 8], [0, 1, 2], [1, 0, 1], [1, 1, 9]]}, ["ant", "bee"])
    assert rows[0] == {"name": "ant", "cells": [("right", 8, 0.8), ("wrong", 2, 1.0)]}
    assert rows[1] == {"name": "bee", "cells": [("wrong", 1, 0.5), ("right", 9, 0.9)]}


def test_the_matrix_has_every_count(run: Path) -> None:
    source = write_report(run, None).read_text()
    cells = re.findall(r'<td class="(right|wrong|none)" style="--shade: ([\d.]+)">(\d+)</td>', source)
    assert [int(count) for _, _, count in cells] == [3, 1, 0, 0, 4, 0, 4, 0, 0]
    kinds = [kind for kind, _, _ in cells]
    assert kinds == ["right", "wrong", "none", "none", "right", "none", "wrong", "none", "right"]
    assert [shade for _, shade, _ in cells[:2]] == ["0.750", "0.250"]
    frequent = Page(run / "report.html").text.partition("The most frequent confusions")[2]
    assert frequent.index("cow ant 4") < frequent.index("ant bee 1")
    assert "ant ant" not in frequent
    assert "bee bee" not in frequent


def test_mistakes_are_shown_as_they_are(run: Path, images: NDArray[np.uint8]) -> None:
    page = Page(write_report(run, images.__getitem__))
    pictures = page.all("img")
    assert len(pictures) == 5
    for picture, index in zip(pictures, [11, 10, 9, 8, 3], strict=True):
        prefix, _, data = str(picture["src"]).partition(",")
        assert prefix == "data:image/png;base64"
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        assert (pixels == images[index]).all()
        assert f"image {index}," in str(picture["alt"])
    shown = page.text.partition("Most confident mistakes")[2]
    assert "ant label cow 94.0 % · #11" in shown


def test_recipe_and_environment_are_complete(run: Path) -> None:
    page = Page(write_report(run, None))
    recipe = page.text.partition("As in recipe.json")[2].partition("Environment")[0]
    for path, value in readable(json.loads((run / "recipe.json").read_text())):
        assert f"{path} {value}" in recipe
    environment = page.text.partition("As the run noted it")[2]
    weights = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["weights_sha256"]
    for fact in ("d" * 64, "resnetkit train little", "2.9", "Abacus", "2026-01-02", weights):
        assert fact in environment
    assert f"resnetkit evaluate '{run}' --data cifar10" in page.text  # the name has a space
    assert f"from weights of sha256 {weights}" in page.text


def test_readable_names_every_leaf() -> None:
    data = {"a": None, "b": {"c": True, "d": [1, 2.5]}, "e": [{"f": "x"}, {"f": False}], "g": []}
    rows = [("a", "none"), ("b.c", "yes"), ("b.d", "1, 2.5"), ("e.0.f", "x"), ("e.1.f", "no"), ("g", "none")]
    assert readable(data) == rows


@pytest.mark.parametrize(
    ("lost", "said", "sections"),
    [
        ("metrics.jsonl", "no training steps yet", ["classes", "confusion", "mistakes", "recipe"]),
        ("evaluation.json", "evaluation.json is written when the run ends", ["curves", "recipe"]),
        ("weights.safetensors", "weights.safetensors is written", ["curves", "classes", "confusion", "mistakes"]),
    ],
)
def test_a_lost_file_is_said(run: Path, lost: str, said: str, sections: list[str]) -> None:
    (run / lost).unlink()
    page = Page(write_report(run, None))
    assert said in page.text
    assert page.sections[: len(sections)] == sections
    assert "58.33" in page.text  # evaluation or event tells
    assert "This run is not finished" not in page.text


@pytest.mark.parametrize("kind", ["start", "train", "eval", "resume", "test"])
def test_a_kind_of_event_may_be_missing(run: Path, images: NDArray[np.uint8], kind: str) -> None:
    events = checkpoint.read_events(run)
    write_events(run, [event for event in events if event["event"] != kind])
    page = Page(write_report(run, images.__getitem__))
    said = {
        "start": "does not say where the run was started",
        "train": "no training steps yet",
        "eval": "no image was evaluated while training",
        "test": "This run is not finished",  # and evaluation.json is of an earlier end
    }
    assert said.get(kind, "Environment") in page.text
    assert ("resumed" in page.text) == (kind != "resume")
    assert ("58.33" in page.text) == (kind != "test")


def test_an_unfinished_run_says_how_to_go_on(run: Path) -> None:
    for name in (checkpoint.EVALUATION, checkpoint.WEIGHTS):
        (run / name).unlink()
    write_events(run, training_events()[:7])
    page = Page(write_report(run, None))
    assert page.sections == ["curves", "recipe", "environment", "again"]
    assert "This run is not finished" in page.text
    assert f"resnetkit train --resume --out '{run}'" in page.text
    assert "Steps done 20 of 30" in page.text
    assert "Top-1 so far, val 40.00 % after step 20, on 50 images" in page.text


def test_a_run_that_has_only_begun(run: Path) -> None:
    for file in list(run.iterdir()):
        if file.is_file() and file.name != checkpoint.RECIPE:
            file.unlink()
    page = Page(write_report(run, None))
    assert page.sections == ["recipe", "environment", "again"]
    assert "not yet" in page.text


def test_losses_that_are_not_finite_do_not_stop_the_page(run: Path) -> None:
    events = checkpoint.read_events(run)
    write_events(run, [event | ({"loss": float("nan")} if "loss" in event else {}) for event in events])
    assert "No finite value to draw." in Page(write_report(run, None)).text


def test_no_mistakes_need_no_section(run: Path, images: NDArray[np.uint8]) -> None:
    data = json.loads((run / checkpoint.EVALUATION).read_text())
    (run / checkpoint.EVALUATION).write_text(json.dumps(data | {"mistakes": []}))
    page = Page(write_report(run, images.__getitem__))
    assert "mistakes" not in page.sections
    assert "What is missing" not in page.text
    del data["mistakes"]
    (run / checkpoint.EVALUATION).write_text(json.dumps(data))
    assert "evaluation.json does not list them" in Page(write_report(run, images.__getitem__)).text


def test_many_classes_have_no_matrix(run: Path) -> None:
    labels = np.arange(100)
    ranks = (labels % 2).astype(np.int64)
    numbers = np.ones(100, np.float32)
    outcome = Evaluation(100, labels, labels - labels % 2, numbers, ranks, numbers, numbers)
    data = outcome.to_json([f"class{n}" for n in labels]) | {"mistakes": []}
    (run / checkpoint.EVALUATION).write_text(json.dumps(data))
    page = Page(write_report(run, None))
    assert "A matrix of 100 classes could not be read here" in page.text
    assert "The 50 classes of lowest recall of 100" in page.text
    assert "class1 class0 1" in page.text


def test_hostile_names_are_text(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    names = ("<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "{{ 7 * 7 }}&amp;</table>")
    page = Page(write_report(make_run(tmp_path / "<b>\"run'", names), images.__getitem__))
    assert not page.all("script")
    assert '<b>"run' not in page.source
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]
    assert len(page.all("img")) == 5
    for name in names:
        assert name in page.text


def test_nothing_is_asked_of_any_server(run: Path, images: NDArray[np.uint8]) -> None:
    page = Page(write_report(run, images.__getitem__))
    links = [(tag, name, value) for tag, attributes in page.tags for name, value in attributes.items()
             if name in {"src", "href", "srcset", "action", "data", "poster", "xlink:href"}]  # fmt: skip
    assert len(links) > 10
    targets = {attributes["id"] for _, attributes in page.tags if attributes.get("id")}
    for tag, name, value in links:
        assert str(value).startswith("data:") or str(value).removeprefix("#") in targets, (tag, name, value)
    assert "://" not in page.source
    assert not re.search(r"url\(|@import", page.source)
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'")


def test_the_page_can_be_read_by_all(run: Path, images: NDArray[np.uint8]) -> None:
    page = Page(write_report(run, images.__getitem__))
    tables, captions = page.all("table"), page.all("caption")
    assert len(tables) == len(captions) == 6
    assert all(image["alt"] for image in page.all("img"))
    outer = [svg for svg in page.all("svg") if "x" not in svg]
    assert len(outer) > 8
    assert all(svg.get("aria-hidden") or svg.get("aria-label") for svg in outer)
    assert all(cell["scope"] in {"row", "col"} for cell in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.all("html")[0]["lang"] == "en"


def colours(source: str, scheme: str) -> dict[str, tuple[float, ...]]:
    """Return the solid colours of a scheme by name."""
    light, dark = source.split("prefers-color-scheme: dark")[:2]
    block = light if scheme == "light" else dark
    pairs = re.findall(r"--([a-z-]+): #([0-9a-f]{6})", block.partition("* {")[0])
    return {name: tuple(int(code[at : at + 2], 16) / 255 for at in (0, 2, 4)) for name, code in pairs}


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the contrast ratio of WCAG 2.2."""

    def luminance(colour: tuple[float, ...]) -> float:
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_contrast(run: Path, scheme: str) -> None:
    found = colours(write_report(run, None).read_text(), scheme)
    for text in ("ink", "muted", "train"):  # links have the colour of the training line
        for ground in ("page", "card", "warn") if text == "ink" else ("page", "card"):
            assert contrast(found[text], found[ground]) >= 4.5, (text, ground)
    for line in ("train", "heldout", "other", "bar"):
        assert contrast(found[line], found["card"]) >= 3, line


def test_it_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="not a run directory"):
        write_report(tmp_path, None)
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_written_anew_and_equal(run: Path, images: NDArray[np.uint8]) -> None:
    first = write_report(run, images.__getitem__).read_bytes()
    assert write_report(run, images.__getitem__).read_bytes() == first
