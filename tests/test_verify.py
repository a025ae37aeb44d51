"""Claims checked: a digit changed in one, a byte changed in weights, both fail; what cannot be checked says why."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from resnetkit import checkpoint, checks, verify
from resnetkit.checks import Check, Machine
from resnetkit.cli import main
from resnetkit.data.opening import EvaluationData
from resnetkit.data.sources import kept_folder
from resnetkit.errors import BadRequest
from resnetkit.home import read_json, write_json
from resnetkit.models.counting import Cost
from resnetkit.statements import STATEMENTS
from resnetkit.train import train
from resnetkit.verify import verify_all
from resnetkit.zoo import ZOO, ZooEntry
from tiny import RECIPE, tiny_dataset

RESULTS = Path(__file__).parents[1] / "results"
DATASET = tiny_dataset()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    train(RECIPE, DATASET, run)
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run of its own, whose data is at hand."""
    test = EvaluationData(DATASET.test, DATASET.class_names, DATASET.sha256)
    monkeypatch.setattr(checks, "open_evaluation_data", lambda name, trained_on, quarantine: test)
    monkeypatch.setattr(checks, "kept_folder", lambda name: tmp_path)
    return Path(shutil.copytree(trained, tmp_path / "run"))


AT_HAND = Machine(data="cifar10")


def failed(checks: list[Check]) -> list[str]:
    return [check.what for check in checks if check.passed is False]


def test_a_run_that_says_the_truth_passes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checks = verify.verify(str(run), AT_HAND)
    assert all(check.passed for check in checks) and len(checks) > 20
    assert {"weights sha256", "data sha256", "correct", "top1", "loss"} <= {check.what for check in checks}
    assert main(["verify", str(run), "--data", "cifar10"]) == 0
    assert f"{len(checks)} passed, 0 failed, 0 not checked" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["top1", "loss", "images", "top5"])
def test_a_digit_of_a_claim_that_was_changed_fails(name: str, run: Path) -> None:
    said = read_json(run / checkpoint.EVALUATION)
    said[name] += -0.1 if isinstance(said[name], float) else 1
    write_json(run / checkpoint.EVALUATION, said)
    assert name in " ".join(failed(verify.verify(str(run), AT_HAND)))


def test_a_byte_of_the_weights_that_was_changed_fails(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray((run / checkpoint.WEIGHTS).read_bytes())
    content[-200] ^= 1
    (run / checkpoint.WEIGHTS).write_bytes(content)
    assert "weights sha256" in failed(verify.verify(str(run), AT_HAND))
    assert main(["verify", str(run), "--data", "cifar10"]) == 1
    assert "FAIL         run  weights sha256" in capsys.readouterr().out


def test_a_byte_changed_in_a_file_alone_fails(run: Path) -> None:
    alone = run.parent / "alone.safetensors"
    content = bytearray((run / checkpoint.WEIGHTS).read_bytes())
    content[-200] ^= 1
    alone.write_bytes(content)
    assert "tensors sha256" in failed(verify.verify(str(alone), AT_HAND))


def test_other_weights_fail_by_their_accuracy(run: Path) -> None:
    tensors, metadata = checkpoint.read_weights(run / checkpoint.WEIGHTS)
    assert metadata
    alone = run.parent / "alone.safetensors"
    checkpoint.save_weights(alone, tensors, metadata)
    assert failed(verify.verify(str(alone), AT_HAND)) == []
    checkpoint.save_weights(alone, tensors | {"fc.weight": -tensors["fc.weight"]}, metadata)
    assert {"top1", "loss"} <= set(failed(verify.verify(str(alone), AT_HAND)))


def test_data_that_is_not_here_is_said(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "kept_folder", kept_folder)
    monkeypatch.setenv("RESNETKIT_HOME", str(tmp_path / "empty"))
    found = verify.verify(str(run), Machine())
    assert not failed(found)
    assert [check.reason for check in found if check.passed is None] == [
        "cifar10 is not on this machine; next: resnetkit data cifar10"
    ]
    assert not (tmp_path / "empty").exists()


def test_a_net_of_the_zoo_passes_and_another_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("resnet18_8xb16_cifar10", "resnet20"):
        costs = [check for check in verify.verify(name, Machine()) if "10^" in check.what]
        assert costs and all(check.passed for check in costs)
    cost = ZOO["resnet18_8xb16_cifar10"].cost()
    more = Cost(cost.params + 10_000, cost.macs, cost.macs_page + 10_000_000)
    monkeypatch.setattr(ZooEntry, "cost", lambda self: more)
    assert failed(verify.verify("resnet18_8xb16_cifar10", Machine())) == ["params, 10^6", "MACs, 10^9"]


def test_all_results_and_nets_pass_or_say_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    checks = verify_all(RESULTS, Machine())
    assert failed(checks) == []
    assert {check.subject for check in checks} >= {path.name for path in RESULTS.glob("*.json")} | set(ZOO)
    assert all(check.reason for check in checks if check.passed is None)
    assert main(["verify", "--all", "--results", str(RESULTS), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(checks)


CHANGES: list[tuple[str, tuple[str | int, ...], Any]] = [
    ("quickstart.json", ("correct",), 7939),
    ("quickstart.json", ("top5",), 0.99),
    ("quickstart.json", ("classes", 3, "recall"), 0.99),
    ("quickstart.json", ("classes", 4, "precision"), 0.5),
    ("quickstart.json", ("top1_interval", 0), 0.5),
    ("akamaster-resnet20.json", ("images",), 10_001),
    ("parity.json", ("figures", 7, "error"), 1e9),
    ("resume.json", ("rounds", 0, "weights_sha256", "killed"), "0" * 64),
    ("resume.json", ("rounds", 2, "kills", 3, "resumed_step"), 0),
    ("resume.json", ("kills",), 51),
    ("two-hosts.json", ("from_two_processes_on_one_host", "largest_difference"), 1e-9),
    ("two-hosts.json", ("from_one_process", "largest_difference"), 1e-3),
    ("plan.json", ("rows", 0, "error"), 0.01),
    ("input.json", ("ways", "resnetkit, folder", "times_reference"), 1.7),
    ("input.json", ("cifar", "share"), 0.04),
    ("doctor.json", ("copies", "recall", "resized", "found"), 400),
    ("workers.json", ("workers", "2 threads", "images_per_second"), 1.0),
    ("finetune.json", ("finetuned", "small", "from_weights", "correct"), 100),
    ("speed-auto.json", ("tried", "resnet20", "trials", 1, "seconds"), 0.05),
    ("train-speed.json", ("resnet20", "loop_over_bare"), 0.5),
    ("train-speed.json", ("resnet18", "times_mmpretrain"), 2.0),
    ("train-speed.json", ("resnet18", "share_of_peak"), 0.9),
    ("own-layouts.json", ("runs", 0, "exit_code"), 1),
    ("fast-resnet20.json", ("seeds", "mean"), 0.92),
    ("levers.json", ("levers", "cosine", "gain"), 0.01),
    ("levers.json", ("levers", "base", "top1", 0), 0.9),
    ("levers.json", ("levers", "cosine", "gain_error"), 0.001),
    ("levers.json", ("deviation",), 0.001),
    ("fast-resnet20.json", ("cost_beside_the_paper", "share"), 0.1),
    ("depth.json", ("differences", "plain-56 against plain-20, test"), 0.1),
    ("depth.json", ("depth", "plain-56", "final_train_error"), 0.02),
    ("depth.json", ("runs", "depth/resnet56", "final_test_error"), 0.05),
    ("shipped.json", ("shipped", "resnet20", "int8, onnx", "correct"), 9000),
    ("time-to-accuracy.json", ("time_to_accuracy", "mmpretrain, short", "seconds"), 520.0),
    ("shipped.json", ("shipped", "resnet20", "failed"), ["top1"]),
    ("shipped.json", ("shipped", "resnet20", "float", "correct"), 9000),
    ("shipped.json", ("shipped", "resnet20", "int8, openvino", "checks"), 0),
    ("decoding.json", ("equal_bytes",), False),
    ("real-weights.json", ("equal_after_every_step",), False),
]


@pytest.mark.parametrize(("name", "path", "value"), CHANGES)
def test_a_results_file_with_a_figure_changed_fails(
    name: str, path: tuple[str | int, ...], value: object, tmp_path: Path
) -> None:
    said: Any = read_json(RESULTS / name)
    write_json(tmp_path / name, said)
    assert not failed(verify.verify(str(tmp_path / name), Machine()))
    part = said
    for key in path[:-1]:
        part = part[key]
    assert part[path[-1]] != value
    part[path[-1]] = value
    write_json(tmp_path / name, said)
    assert failed(verify.verify(str(tmp_path / name), Machine()))


ERRORS = {
    name: {"final_train_error": error, "final_test_error": error}
    for name, error in {"plain-20": 0.25, "plain-56": 0.5, "ResNet-20": 0.25, "ResNet-56": 0.125}.items()
}
MADE: dict[str, tuple[dict[str, Any], tuple[str | int, ...], Any]] = {
    "levers": (
        {"levers": {"base": {"seeds": [0, 1], "top1": [0.5, 0.6], "gain": 0.0, "gain_error": 0.005**0.5},
                    "more": {"seeds": [1], "top1": [0.7], "gain": 0.7 - 0.6, "gain_error": 0.1}},
         "deviation": 0.005**0.5, "runs": {"a": {"top1": 0.6}, "b": {"top1": 0.5}, "c": {"top1": 0.7}}},
        ("levers", "more", "gain"), 0.2,
    ),
    "seeds": (
        {"seeds": {"correct": [92, 94], "images": 100, "top1": [0.92, 0.94], "mean": 0.93, "goal": 0.9125,
                   "deviation": 0.02 / 2**0.5},
         "cost_beside_the_paper": {"train_flops": [1, 4], "share": 0.25},
         "runs": {"a": {"correct": 94}, "b": {"correct": 92}, "held out": {"top1": 0.5}}},
        ("seeds", "goal"), 0.94,
    ),
    "depth": (
        {"depth": ERRORS, "runs": {name.lower(): error for name, error in ERRORS.items()},
         "differences": {f"{kind}-56 against {kind}-20, {which}": value for which in ("train", "test")
                         for kind, value in (("plain", 0.25), ("ResNet", -0.125))}},
        ("differences", "plain-56 against plain-20, train"), 0.125,
    ),
    "time_to_accuracy": (
        {"time_to_accuracy": {name: {"seconds": 600.0, "epochs": 2.0, "curve": [[300, 1.0, 0.9], [600, 2.0, top1]]}
                              for name, top1 in {"resnetkit": 0.9, "mmpretrain": 0.8}.items()}, "seconds": 600.0},
        ("time_to_accuracy", "mmpretrain", "seconds"), 500.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_what_a_benchmark_says_of_itself_is_derived_again(name: str) -> None:
    said, path, value = copy.deepcopy(MADE[name])
    assert STATEMENTS[name](said)
    part: Any = said
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    assert not STATEMENTS[name](said)


@pytest.mark.parametrize("content", ["", "[]", '{"correct": 1, "confusion": []}', '{"rows": 3, "goal_with_two": 0.1}'])
def test_a_damaged_results_file_fails_and_the_others_are_checked(content: str, tmp_path: Path) -> None:
    (tmp_path / "damaged.json").write_text(content)
    shutil.copy(RESULTS / "quickstart.json", tmp_path)
    checks = verify_all(tmp_path, Machine())
    assert {check.subject for check in checks if check.passed is False} == {"damaged.json"}
    assert {"quickstart.json", *ZOO} <= {check.subject for check in checks}


def test_an_evaluation_without_a_figure_fails(run: Path) -> None:
    said = read_json(run / checkpoint.EVALUATION)
    write_json(run / checkpoint.EVALUATION, {key: value for key, value in said.items() if key != "images"})
    assert "content" in failed(verify.verify(str(run), AT_HAND))


def test_what_is_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadRequest, match="did you mean 'resnet110'"):
        verify.verify("resnet11O", Machine())
    assert main(["verify"]) == 2 and main(["verify", "resnet20", "--all"]) == 2
    assert main(["verify", "--all", "--results", str(tmp_path)]) == 2
    assert "has no results files" in capsys.readouterr().err
    train(RECIPE, DATASET, tmp_path / "unfinished", max_steps=1)
    assert main(["verify", str(tmp_path / "unfinished")]) == 2


def test_akamasters_weights_are_evaluated_again_where_they_are_here() -> None:
    weights = Path(__file__).parents[2] / "shared" / "weights"
    if not weights.is_dir() or not kept_folder("cifar10").is_dir():
        pytest.skip("shared files or CIFAR-10 are not here")
    checks = verify.verify(str(RESULTS / "akamaster-resnet20.json"), Machine(None, weights, "cpu"))
    assert all(check.passed for check in checks)
    assert [check.found for check in checks if check.what == "correct"] == [9173]
