"""The command line: what it prints, what it refuses, and its exit codes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from resnetkit import checkpoint
from resnetkit.cli import main
from resnetkit.home import read_json
from tiny import tiny_dataset

SCRIPT = str(Path(__file__).with_name("run_tiny.py"))


def resnetkit(*words: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """Run the command on the tiny data, in a process of its own."""
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False, **kwargs)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, made by the command."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    done = resnetkit("train", "tiny", "--out", str(folder))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-3].startswith("top-1 ") and lines[-3].endswith(" %")
    assert lines[-2:] == [f"run {folder}", f"report {folder / 'report.html'}"]
    return folder


def test_a_run_directory_has_all_its_parts(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names == {"recipe.json", "metrics.jsonl", "state", "weights.safetensors", "evaluation.json", "report.html"}


def test_evaluate_says_what_training_said(run: Path, tmp_path: Path) -> None:
    done = resnetkit("evaluate", str(run), "--json", "--predictions", str(tmp_path / "p.csv"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    stored = read_json(run / checkpoint.EVALUATION)
    assert {key: found[key] for key in ("images", "correct", "top1", "top5", "loss", "confusion")} == {
        key: stored[key] for key in ("images", "correct", "top1", "top5", "loss", "confusion")
    }
    assert found["images"] == 30 and found["correct"] == round(found["top1"] * 30)
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    assert [int(row["index"]) for row in rows] == list(range(30))
    assert sum(row["label"] == row["prediction"] for row in rows) == found["correct"]
    assert found["weights_sha256"] == checkpoint.read_events(run)[-1]["weights_sha256"]


def test_evaluate_prints_tables(run: Path) -> None:
    done = resnetkit("evaluate", str(run))
    assert done.returncode == 0
    for text in ("all 20 tensors used", "cifar10 test, 30 images", "top-1  ", "95 % interval", "confusion", "green"):
        assert text in done.stdout


def test_predict_names_a_bad_file_and_goes_on(run: Path, tmp_path: Path) -> None:
    images = tiny_dataset().test.images
    for index in range(2):
        Image.fromarray(images[index]).save(tmp_path / f"{index}.png")
    (tmp_path / "bad.png").write_text("not an image")
    done = resnetkit("predict", str(run), str(tmp_path), "--top", "2", "--json")
    assert done.returncode == 1
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(row["file"]).name for row in rows] == ["0.png", "1.png", "bad.png"]
    assert "not an image" in rows[2]["error"]
    assert [len(row["predictions"]) for row in rows[:2]] == [2, 2]
    assert f"error: {tmp_path / 'bad.png'}: not an image of a known format" in done.stderr
    good = resnetkit("predict", str(run), str(tmp_path / "0.png"))
    assert good.returncode == 0
    name = rows[0]["predictions"][0]["class"]
    assert good.stdout.startswith(f"{tmp_path / '0.png'}  {name} ")


def test_predict_reads_standard_input(run: Path, tmp_path: Path) -> None:
    Image.fromarray(tiny_dataset().test.images[0]).save(tmp_path / "0.png")
    command = [sys.executable, SCRIPT, "predict", str(run), "-"]
    done = subprocess.run(command, input=(tmp_path / "0.png").read_bytes(), capture_output=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith(b"-  ")


def test_max_steps_resume_and_report(tmp_path: Path, run: Path) -> None:
    out = str(tmp_path / "run")
    first = resnetkit("train", "tiny", "--out", out, "--max-steps", "6")
    assert first.returncode == 0 and f"next: resnetkit train --resume --out {out}" in first.stdout
    unfinished = resnetkit("report", out)
    assert unfinished.returncode == 0 and "not finished yet" in unfinished.stdout
    no_weights = resnetkit("evaluate", out)
    assert no_weights.returncode == 2 and "has no weights yet" in no_weights.stderr
    second = resnetkit("train", "--resume", "--out", out)
    assert second.returncode == 0, second.stderr
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == (run / "weights.safetensors").read_bytes()
    again = resnetkit("report", out)
    assert again.stdout.splitlines() == second.stdout.splitlines()[-3:]


def test_a_recipe_file_and_overrides_make_the_same_run(run: Path, tmp_path: Path) -> None:
    done = resnetkit("train", str(run / "recipe.json"), "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == (run / "weights.safetensors").read_bytes()
    refused = resnetkit("train", "tiny", "--out", str(run), "--resume", "--set", "optim.lr=0.3")
    assert refused.returncode == 2 and "another recipe" in refused.stderr


def test_tensorboard_and_seed(tmp_path: Path) -> None:
    done = resnetkit("train", "tiny", "--out", str(tmp_path / "run"), "--track", "tensorboard", "--seed", "3")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    assert checkpoint.run_recipe(tmp_path / "run").seed == 3


def test_a_warm_up_that_lasts_until_the_end_is_told(tmp_path: Path) -> None:
    few = ("total_epochs=null", "total_steps=3")
    done = resnetkit("train", "tiny", "--out", str(tmp_path / "run"), "--set", *few)
    assert done.returncode == 0, done.stderr
    assert "warning: the warm-up has 3 steps and the training 3: the rate is never full" in done.stderr
    done = resnetkit("train", "tiny", "--out", str(tmp_path / "other"), "--set", *few, "warmup.warmup_steps=2")
    assert done.returncode == 0 and "warm-up" not in done.stderr


def test_a_loss_that_is_not_finite_exits_with_1(tmp_path: Path) -> None:
    done = resnetkit("train", "tiny", "--out", str(tmp_path / "run"), "--set", "optim.lr=1e30", "warmup=null")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-4].startswith("error: the loss is ")


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return what a refused request prints; nothing goes to standard output."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trian"], "did you mean 'train'?"),
        (["train"], "expected a recipe"),
        (["train", "quickstrat"], "unknown recipe 'quickstrat'; did you mean 'quickstart'?"),
        (["train", "quickstart", "--resum"], "unknown option or argument '--resum'; did you mean '--resume'?"),
        (["train", "quickstart", "--resume"], "expected --out RUN"),
        (["train", "quickstart", "--max-steps", "0"], "expected a whole number above 0, got '0'"),
        (["train", "quickstart", "--set", "optim.learning_rate=1"], "unknown field 'optim.learning_rate'"),
        (["train", "quickstart", "--set", "warmup.warmup_epoch=1"], "did you mean 'warmup_epochs'?"),
        (["train", "quickstart", "--data", "cifar11"], "got 'cifar11'; did you mean 'cifar10'?"),
        (["train", "quickstart", "--seed", "-1"], "seed: expected 0 or more and less than 2**63, got -1"),
        (["train", "quickstart", "--device", "cuda:99"], "not on this machine"),
        (["train", "quickstart", "--device", "gpu"], "--device: "),
        (["train", "quickstart", "--set", "model=resnet21"], "unknown model 'resnet21'; did you mean 'resnet"),
        (["show", "quickstart", "--set", "batch_size"], "expected field.path=value"),
        (["evaluate", "resnet18_8xb16_cifar1"], "did you mean 'resnet18_8xb16_cifar10'?"),
        (["evaluate", "resnet32"], "no weights that can be had here"),
        (["evaluate"], "the following arguments are required: model"),
        (["predict", "resnet20", "no-such-file.jpg"], "no such file or folder\n  no-such-file.jpg"),
        (["evaluate", "x", "--data", "cifar11"], "did you mean 'cifar10'?"),
        (["evaluate", "x", "--predictions", "nowhere/p.csv"], "--predictions: no such folder: nowhere"),
        (["show", "quickstart", "--set", "val_images=50000"], "val_images: expected less than the 50000"),
        (
            ["evaluate", "x", "--stride-style", "cafe"],
            "expected one of pytorch, caffe, got 'cafe'; did you mean 'caffe'?",
        ),
        (["data", "cifar11"], "did you mean 'cifar10'?"),
        (["report", "."], "is not a run directory"),
    ],
)
def test_a_bad_request_is_refused_with_the_next_step(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in refusal(capsys, *words)
    assert not list(tmp_path.iterdir())  # nothing was started


def test_all_problems_of_a_recipe_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    error = refusal(capsys, "show", "quickstart", "--set", "modle=x", "optim.lr=fast", "batch_size=0", "model=y")
    assert error.startswith("error: recipe has 3 problems\n")
    for told in (
        "unknown field 'modle'; did you mean 'model'?",
        "optim.lr: expected a number, got 'fast'",
        "model 'y'",
    ):
        assert told in error


def test_debug_shows_the_traceback() -> None:
    done = resnetkit("report", "nowhere", "--debug")
    assert "Traceback" in done.stderr and "BadRequest" in done.stderr


def test_debug_may_stand_before_the_command() -> None:
    done = resnetkit("--debug", "report", "nowhere")
    assert "Traceback" in done.stderr and "BadRequest" in done.stderr


def test_evaluate_shows_its_rate_without_a_terminal(run: Path) -> None:
    lines = resnetkit("evaluate", str(run)).stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("evaluate  30/30  ") and "images/s" in lines[0]


def test_zoo_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "resnet20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total_steps"] == 64_000
    assert main(["show", "resnet20"]) == 0
    out = capsys.readouterr().out
    assert "64,000 steps of 128 images" in out and "269,722 parameters, 40,551,040 multiply-adds" in out


def test_every_command_has_help() -> None:
    listed = subprocess.run([sys.executable, "-m", "resnetkit", "--help"], capture_output=True, text=True, check=True)
    names = ("zoo", "show", "data", "train", "evaluate", "predict", "report")
    for name in names:
        assert f"\n    {name} " in listed.stdout
        done = subprocess.run(
            [sys.executable, "-m", "resnetkit", name, "--help"], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(f"usage: resnetkit {name}")


def test_help_answers_at_once() -> None:
    def seconds() -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "resnetkit", "--help"], capture_output=True, check=True)
        return time.perf_counter() - started

    assert min(seconds() for _ in range(5)) < 0.3
