"""Runs of several processes, started by torchrun: the weights of one process, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resnetkit import checkpoint, load_model
from resnetkit.home import read_json
from resnetkit.processes import ALONE
from tiny import wait_for_step, weights_sha256

SCRIPT = str(Path(__file__).with_name("run_tiny.py"))
FOUR = ("microbatch_size=4",)  # four micro-batches a step; the last of an epoch has 14 images: 4, 4, 3, 3
TOLERANCE = 1e-5  # of a weight, in float32 over 21 steps: sums of gradients in another order


def command(processes: int, *words: str) -> list[str]:
    """Return what starts a command of ours in so many processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*launch, *words]


def start(processes: int, *words: str, launch: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start a command of the tiny recipe in so many processes."""
    return subprocess.Popen(
        [*command(processes, *launch), SCRIPT, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def train(run: Path, processes: int, *overrides: str, words: tuple[str, ...] = ("tiny",)) -> str:
    """Train the tiny recipe; returns what was printed."""
    process = start(processes, "train", *words, "--out", str(run), *(("--set", *overrides) if overrides else ()))
    printed, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    return printed + error


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read_weights(run / checkpoint.WEIGHTS)[0]


def assert_equal_runs(run: Path, other: Path) -> None:
    """Check that two runs have the same weights, within the tolerance, and the same history."""
    expected = weights(other)
    for name, value in weights(run).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=TOLERANCE)
    for event, same in zip(*(losses(place) for place in (run, other)), strict=True):
        assert event["step"] == same["step"] and event["loss"] == pytest.approx(same["loss"], abs=1e-4)
    found, wanted = (read_json(place / checkpoint.EVALUATION) for place in (run, other))
    assert found["images"] == wanted["images"] == 30 and found["confusion"] == wanted["confusion"]


def losses(run: Path) -> list[dict[str, Any]]:
    return [event for event in checkpoint.read_events(run) if event["event"] in ("train", "eval", "test")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process without torchrun, four micro-batches a step, with mixup, drop path and averaged weights."""
    run = tmp_path_factory.mktemp("alone") / "run"
    subprocess.run([sys.executable, SCRIPT, "train", "tiny", "--out", str(run), "--set", *FOUR],
                   check=True, capture_output=True)  # fmt: skip
    return run


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes, not disturbed."""
    run = tmp_path_factory.mktemp("two") / "run"
    assert "2 processes" in train(run, 2, *FOUR)
    return run


def test_two_processes_give_the_weights_of_one(alone: Path, two: Path) -> None:
    assert_equal_runs(two, alone)
    assert checkpoint.read_events(two)[0]["numerics"]["processes"] == "2"


def test_four_processes_give_the_weights_of_one(alone: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", 4, *FOUR, words=("tiny", "--auto-resume"))
    assert_equal_runs(tmp_path / "run", alone)


def test_another_number_of_processes_goes_on_and_the_same_number_bit_for_bit(
    alone: Path, two: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(run, 2, *FOUR, words=("tiny", "--max-steps", "9"))
    again = Path(subprocess.check_output(["cp", "-r", run, tmp_path / "again"], text=True) or tmp_path / "again")
    train(run, 2, words=("--resume",))
    assert weights_sha256(run) == weights_sha256(two)
    said = train(again, 3, words=("--resume",))  # four micro-batches: two, one and one
    assert "processes was 2 and is 3: the run goes on, but not bit for bit" in said
    assert_equal_runs(again, alone)


def test_synchronised_statistics_are_those_of_one_large_microbatch(tmp_path: Path) -> None:
    fixed = ("drop_path_rate=0", "mix=[]", "sync_batchnorm=true")
    train(tmp_path / "two", 2, "microbatch_size=8", *fixed)
    train(tmp_path / "one", 1, "microbatch_size=16", *fixed)
    assert_equal_runs(tmp_path / "two", tmp_path / "one")


def test_precise_statistics_are_those_of_one_process(tmp_path: Path) -> None:
    fixed = (*FOUR, "precise_bn_images=40", "average_weights=null")
    train(tmp_path / "two", 2, *fixed)
    train(tmp_path / "one", 1, *fixed)
    assert_equal_runs(tmp_path / "two", tmp_path / "one")


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the ids of the processes that torchrun started."""
    listed = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False).stdout
    return [int(line) for line in listed.split()]


LONG = (*FOUR, "total_epochs=60")


def test_a_killed_worker_is_started_again_and_goes_on_from_the_last_state(tmp_path: Path) -> None:
    train(tmp_path / "whole", 2, *LONG)
    run = tmp_path / "run"
    words = ("train", "tiny", "--auto-resume", "--timeout", "30", "--out", str(run), "--set", *LONG)
    process = start(2, *words, launch=("--max-restarts", "2"))
    wait_for_step(run, 50, process)
    os.kill(workers_of(process)[-1], signal.SIGKILL)
    _, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    resumed = [event["step"] for event in checkpoint.read_events(run) if event["event"] == "resume"]
    assert len(resumed) == 1 and 50 <= resumed[0] < 420
    assert weights_sha256(run) == weights_sha256(tmp_path / "whole")


def test_sigterm_saves_before_all_processes_end(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(
        2, "train", "tiny", "--out", str(run), "--set", *FOUR, "total_epochs=2000", "save_every_steps=10000"
    )
    for _ in range(1200):
        if (run / checkpoint.METRICS).exists() and len(checkpoint.read_events(run)) > 3:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    state = checkpoint.load_state(run)
    assert state and state.step > 0
    assert error.count(f"stopped by a signal after step {state.step} of 14000; the state is saved") == 1


def test_what_the_first_process_refuses_ends_all_and_is_said_once(two: Path) -> None:
    process = start(2, "train", "tiny", "--out", str(two))
    _, error = process.communicate(timeout=120)
    assert process.returncode != 0
    assert error.count("is not empty") == 1 and "out of reach" not in error
    assert len(checkpoint.read_events(two)) == len(losses(two)) + 1


def test_more_processes_than_microbatches_are_refused(tmp_path: Path, alone: Path) -> None:
    run = Path(subprocess.check_output(["cp", "-r", alone, tmp_path / "run"], text=True) or tmp_path / "run")
    process = start(5, "train", "--resume", "--out", str(run))
    assert "5 processes cannot share a batch of 4 micro-batches" in process.communicate(timeout=120)[1]


def test_alone_every_call_is_a_plain_one() -> None:
    assert ALONE.sums(1.5, 2.0) == [1.5, 2.0] and ALONE.largest(3) == 3
    assert ALONE.on_first(lambda: {"a": 1}) == {"a": 1} and ALONE.share_bytes(b"x") == b"x"
    assert [rows.tolist() for rows in ALONE.gather(np.arange(3), 3)] == [[0, 1, 2]]
    ALONE.refuse_differences({"data": "x"})


def test_a_model_is_evaluated_by_several_processes_and_told_once(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(run, 2)
    found = []
    for processes in (1, 2):
        process = start(processes, "evaluate", str(run), "--json")
        printed, error = process.communicate(timeout=240)
        assert process.returncode == 0, error
        found.append(json.loads(printed))
    assert found[0]["images"] == found[1]["images"] == 30
    assert found[0]["confusion"] == found[1]["confusion"] and found[0]["correct"] == found[1]["correct"]


def test_two_processes_fit_the_temperature_of_one(tmp_path: Path) -> None:
    few = (*FOUR, "val_images=100", "total_epochs=null", "total_steps=2")  # that a net of two steps is often wrong on
    train(tmp_path / "two", 2, *few)
    train(tmp_path / "one", 1, *few)
    found, wanted = (load_model(tmp_path / name).about["temperature"] for name in ("two", "one"))
    assert found["images"] == wanted["images"] == 100
    assert found["value"] == pytest.approx(wanted["value"], rel=1e-3) != 1.0


def test_fine_tuning_by_two_processes_gives_the_weights_of_one(tmp_path: Path) -> None:
    start = tmp_path / "start"
    train(start, 1)
    fine = (f"init_from={json.dumps(str(start))}", 'frozen_start={"kind": "FrozenStart"}', "batchnorm=running",
            "head_lr_factor=0.1", "optim.lr=0.01", "balance=class_weights",
            "drop_path_rate=0")  # fmt: skip
    train(tmp_path / "one", 1, *fine)
    train(tmp_path / "two", 2, *fine)
    assert_equal_runs(tmp_path / "two", tmp_path / "one")
    kept, began = weights(tmp_path / "two"), weights(start)
    assert torch.equal(kept["bn1.running_mean"], began["bn1.running_mean"])
    assert not torch.equal(kept["conv1.weight"], began["conv1.weight"])
