"""The published table against the page's and the paper's own figures."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from resnetkit.errors import BadRequest
from resnetkit.load import load_model
from resnetkit.models.vgg import Vgg
from resnetkit.recipes import RECIPES
from resnetkit.shipped_weights import SHIPPED
from resnetkit.zoo import ZOO, zoo_rows

# name by config, classes, pixels a side: as the page prints them 10^6 parameters, 10^9 "Flops", top-1 %, top-5 %,
# and what the two costs lack to the exact ones
PAGE = [
    ("resnet18_8xb16_cifar10", 10, 32, "11.17", "0.56", "94.82", "99.87", -0.004, +0.003),
    ("resnet34_8xb16_cifar10", 10, 32, "21.28", "1.16", "95.34", "99.87", -0.002, -0.002),
    ("resnet50_8xb16_cifar10", 10, 32, "23.52", "1.31", "95.55", "99.91", -0.001, +0.002),
    ("resnet101_8xb16_cifar10", 10, 32, "42.51", "2.52", "95.58", "99.87", -0.003, -0.005),
    ("resnet152_8xb16_cifar10", 10, 32, "58.16", "3.74", "95.76", "99.89", +0.003, -0.003),
    ("resnet50_8xb16_cifar100", 100, 32, "23.71", "1.31", "79.90", "95.19", +0.005, +0.002),
    ("resnet18_8xb32_in1k", 1000, 224, "11.69", "1.82", "69.90", "89.43", +0.000, -0.002),
    ("resnet34_8xb32_in1k", 1000, 224, "21.8", "3.68", "73.62", "91.59", +0.002, +0.005),
    ("resnet50_8xb32_in1k", 1000, 224, "25.56", "4.12", "76.55", "93.06", +0.003, +0.000),
    ("resnet101_8xb32_in1k", 1000, 224, "44.55", "7.85", "77.97", "94.06", +0.001, +0.003),
    ("resnet152_8xb32_in1k", 1000, 224, "60.19", "11.58", "78.48", "94.13", -0.003, +0.001),
    ("resnetv1c50_8xb32_in1k", 1000, 224, "25.58", "4.36", "77.01", "93.58", +0.004, -0.002),
    ("resnetv1c101_8xb32_in1k", 1000, 224, "44.57", "8.09", "78.30", "94.27", +0.002, +0.000),
    ("resnetv1c152_8xb32_in1k", 1000, 224, "60.21", "11.82", "78.76", "94.41", -0.002, -0.001),
    ("resnetv1d50_8xb32_in1k", 1000, 224, "25.58", "4.36", "77.54", "93.57", +0.004, -0.003),
    ("resnetv1d101_8xb32_in1k", 1000, 224, "44.57", "8.09", "78.93", "94.48", +0.002, -0.001),
    ("resnetv1d152_8xb32_in1k", 1000, 224, "60.21", "11.82", "79.41", "94.70", -0.002, -0.002),
    ("resnet50_8xb32-fp16_in1k", 1000, 224, "25.56", "4.12", "76.30", "93.07", +0.003, +0.000),
    ("wide-resnet50_8xb32_in1k", 1000, 224, "68.88", "11.44", "78.48", "94.08", -0.003, +0.001),
    ("wide-resnet101_8xb32_in1k", 1000, 224, "126.89", "22.81", "78.84", "94.28", +0.003, -0.004),
    ("resnet50_8xb256-rsb-a1-600e_in1k", 1000, 224, "25.56", "4.12", "80.12", "94.78", +0.003, +0.000),
    ("resnet50_8xb256-rsb-a2-300e_in1k", 1000, 224, "25.56", "4.12", "79.55", "94.37", +0.003, +0.000),
    ("resnet50_8xb256-rsb-a3-100e_in1k", 1000, 224, "25.56", "4.12", "78.30", "93.80", +0.003, +0.000),
    ("resnet50_8xb8_cub", 200, 448, "23.92", "16.48", "88.45", None, +0.002, +0.000),
    ("resnet50-mill_in21k", 11221, 224, "86.74", "15.14", None, None, +40.24, +11.02),
]
WRONG_ON_THE_PAGE = ["resnet50-mill_in21k"]  # the page repeats the figures of Swin-B there

# Table 6 of arXiv 1512.03385: test error %
PAPER_ERRORS = {"resnet20": 8.75, "resnet32": 7.51, "resnet44": 7.17, "resnet56": 6.97, "resnet110": 6.43,
                "resnet1202": 7.93}  # fmt: skip
PAPER_PLAIN = [f"plain{depth}" for depth in (20, 32, 44, 56, 110, 1202)]
PAPER_IMAGENET = [
    *("plain18", "plain34", "resnet18", "resnet18_a", "resnet18_c", "resnet34", "resnet34_a", "resnet34_c"),
    *("resnet50_caffe", "resnet101_caffe", "resnet152_caffe", "vgg16", "vgg19"),
]

# Tables 2 and 3, ten crops: top-1 and top-5 error %
PAPER_IMAGENET_ERRORS = {
    "plain18": (27.94, None), "plain34": (28.54, 10.02), "resnet18_a": (27.88, None), "resnet34_a": (25.03, 7.76),
    "resnet34": (24.52, 7.46), "resnet34_c": (24.19, 7.40), "resnet50_caffe": (22.85, 6.71),
    "resnet101_caffe": (21.75, 6.05), "resnet152_caffe": (21.43, 5.71), "vgg16": (28.07, 9.33),
}  # fmt: skip
# of the page's CIFAR rows
FILES = {
    "resnet18_8xb16_cifar10": "resnet18_b16x8_cifar10_20210528-bd6371c8.pth",
    "resnet34_8xb16_cifar10": "resnet34_b16x8_cifar10_20210528-a8aa36a6.pth",
    "resnet50_8xb16_cifar10": "resnet50_b16x8_cifar10_20210528-f54bfad9.pth",
    "resnet101_8xb16_cifar10": "resnet101_b16x8_cifar10_20210528-2d29e936.pth",
    "resnet152_8xb16_cifar10": "resnet152_b16x8_cifar10_20210528-3e8e9178.pth",
    "resnet50_8xb16_cifar100": "resnet50_b16x8_cifar100_20210528-67b58a1b.pth",
}

Row = dict[str, Any]


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    listed = zoo_rows()
    by_name = {row["name"]: row for row in listed}
    assert len(by_name) == len(listed)
    return by_name


def rounds_to(exact: float, printed: str) -> bool:
    """Is `exact` within half a unit of the last digit printed?"""
    return abs(exact - float(printed)) <= 0.5 * 0.1 ** len(printed.partition(".")[2])


def test_every_net_of_the_page_and_of_the_paper_is_listed(rows: dict[str, Row]) -> None:
    assert [name for name, row in rows.items() if row["source"] == "page"] == [entry[0] for entry in PAGE]
    in_paper = {name for name, row in rows.items() if row["source"].startswith("paper")}
    assert in_paper == {*PAPER_ERRORS, *PAPER_PLAIN, *PAPER_IMAGENET}
    assert (len(PAGE), len(PAPER_ERRORS), len(PAPER_PLAIN), len(PAPER_IMAGENET), len(rows)) == (25, 6, 6, 13, 50)


def test_rows_are_whole_numbers_and_json(rows: dict[str, Row]) -> None:
    assert json.loads(json.dumps(rows)) == rows
    for row in rows.values():
        assert {"name", "params", "macs", "macs_page"} <= set(row)
        whole = [row[key] for key in ("params", "macs", "macs_page", "num_classes", "image_size")]
        assert all(type(number) is int and number > 0 for number in whole)


def test_costs_round_to_the_pages_figures(rows: dict[str, Row]) -> None:
    differing = []
    for name, num_classes, image_size, params, flops, _, _, more_params, more_flops in PAGE:
        row = rows[name]
        assert (row["num_classes"], row["image_size"]) == (num_classes, image_size), name
        if not (rounds_to(row["params"] / 1e6, params) and rounds_to(row["macs_page"] / 1e9, flops)):
            differing.append(name)
        digits = 2 if name in WRONG_ON_THE_PAGE else 3
        assert round(float(params) - row["params"] / 1e6, digits) == more_params, name
        assert round(float(flops) - row["macs_page"] / 1e9, digits) == more_flops, name
    assert differing == WRONG_ON_THE_PAGE


def test_published_accuracies_are_the_pages(rows: dict[str, Row]) -> None:
    for name, _, _, _, _, top1, top5, _, _ in PAGE:
        for key, printed in (("top1", top1), ("top5", top5)):
            fraction = rows[name][key]
            assert fraction is None if printed is None else f"{100 * fraction:.2f}" == printed, (name, key)


def test_published_accuracies_are_the_papers(rows: dict[str, Row]) -> None:
    for name, error in PAPER_ERRORS.items():
        assert rows[name]["top1"] == pytest.approx(1 - error / 100, abs=1e-12)
    for name, (top1_error, top5_error) in PAPER_IMAGENET_ERRORS.items():
        assert rows[name]["source"] == "paper, 10 crops"
        assert rows[name]["top1"] == pytest.approx(1 - top1_error / 100, abs=1e-12)
        top5 = rows[name]["top5"]
        assert top5 is None if top5_error is None else top5 == pytest.approx(1 - top5_error / 100, abs=1e-12)
    unpublished = {*PAPER_PLAIN, *PAPER_IMAGENET} - set(PAPER_IMAGENET_ERRORS)
    assert all(rows[name]["top1"] is None and rows[name]["top5"] is None for name in unpublished)
    assert rows["resnet110"]["source"] == "paper, best of 5"


def test_the_papers_nets_have_the_papers_input(rows: dict[str, Row]) -> None:
    for names, expected in (((*PAPER_ERRORS, *PAPER_PLAIN), (10, 32)), (PAPER_IMAGENET, (1000, 224))):
        for name in names:
            assert (rows[name]["num_classes"], rows[name]["image_size"]) == expected, name


def test_the_abstracts_claim(rows: dict[str, Row]) -> None:
    assert rows["resnet152_caffe"]["macs"] < rows["vgg16"]["macs"] < rows["vgg19"]["macs"]


def test_costs_are_of_the_built_net(rows: dict[str, Row]) -> None:
    for name in ("resnet20", "resnet18_8xb16_cifar10"):
        model = ZOO[name].build()
        assert sum(parameter.numel() for parameter in model.parameters()) == rows[name]["params"]
    with torch.device("meta"):
        assert isinstance(ZOO["vgg19"].build(), Vgg)


def test_files_are_those_of_the_page() -> None:
    assert {name: ZOO[name].weights for name in FILES} == {name: f"resnet/{file}" for name, file in FILES.items()}
    page = [entry for entry in ZOO.values() if entry.on_page]
    assert len(page) == len([entry for entry in page if entry.weights]) == 25
    assert [entry.name for entry in page if not str(entry.weights).startswith("resnet/")] == [
        "resnet50_8xb32-fp16_in1k"
    ]


def test_what_the_page_prints_is_kept_beside_what_is_counted(rows: dict[str, Row]) -> None:
    for name, _, _, params, flops, *_ in PAGE:
        assert rows[name]["printed_params_millions"] == float(params)
        assert rows[name]["printed_flops_billions"] == float(flops)
    assert rows["resnet20"]["printed_params_millions"] is None


def test_what_is_odd_on_the_page_is_said(rows: dict[str, Row]) -> None:
    noted = {name: " ".join(row["notes"]) for name, row in rows.items() if row["notes"]}
    assert set(noted) == {*WRONG_ON_THE_PAGE, "wide-resnet50_8xb32_in1k", "wide-resnet101_8xb32_in1k",
                          *(name for name, *_ in PAGE if "rsb" in name or "cub" in name)}  # fmt: skip
    assert "86.74 M and 15.14 G" in noted["resnet50-mill_in21k"] and "Swin-B" in noted["resnet50-mill_in21k"]
    mill = rows["resnet50-mill_in21k"]
    assert f"{mill['params'] / 1e6:.2f} M" in noted["resnet50-mill_in21k"]
    assert f"{mill['macs_page'] / 1e9:.2f} G" in noted["resnet50-mill_in21k"]
    for name in ("wide-resnet50_8xb32_in1k", "wide-resnet101_8xb32_in1k"):
        assert "the page links to" in noted[name] and "configs/wrn" in noted[name]
    for name, note in noted.items():
        if "1x here" in note:
            assert f"{name}-mmpretrain1x" in note and f"{name}-mmpretrain1x" in RECIPES


def test_every_row_but_the_weights_only_one_has_a_recipe(rows: dict[str, Row]) -> None:
    assert [name for name, row in rows.items() if not row["trainable"]] == [
        *("resnet50-mill_in21k", "plain1202", "vgg16", "vgg19")
    ]
    for name, row in rows.items():
        if row["trainable"]:
            assert RECIPES[name].model == row["model"]


def test_results_files_that_are_named_exist(rows: dict[str, Row]) -> None:
    results = Path(__file__).parents[1]
    named = {row[key] for row in rows.values() for key in ("net_proven_by", "accuracy_reproduced_by") if row[key]}
    assert named == {"results/parity.json", "results/fast-resnet20.json"}
    assert all((results / name).is_file() for name in named)


def test_a_net_without_weights_says_how_to_get_some() -> None:
    without = [name for name, entry in ZOO.items() if entry.weights is None and name not in SHIPPED]
    assert len(without) == 25 - len(SHIPPED)
    for name in without:
        with pytest.raises(BadRequest, match=f"{re.escape(name)} has no weights") as caught:
            load_model(name)
        assert "next: " in caught.value.details[0]
