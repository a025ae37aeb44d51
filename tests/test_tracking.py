"""Trackers get what metrics.jsonl gets, and nothing that becomes of them stops a run."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resnetkit import checkpoint, tracking
from resnetkit.errors import BadRequest
from resnetkit.home import read_json, write_json
from resnetkit.tracking import TRACKERS, Event, Open, Track, Tracker, trackers
from resnetkit.train import train
from tiny import RECIPE, STEPS, tiny_dataset

EVENTS: list[Event] = [
    {"event": "start", "step": 0, "seed": 0},
    {"event": "train", "step": 50, "loss": 1.5, "lr": 0.1, "top1": 0.5, "images_per_second": 300.0, "epoch": 0.1},
    {"event": "eval", "step": 50, "split": "test", "top1": 0.25, "top5": 0.75, "loss": 2.0, "correct": 25},
    {"event": "train", "step": 100, "loss": 1.25, "lr": 0.05, "top1": 0.75, "images_per_second": 310.0},
]
END: Event = {"event": "test", "step": 100, "top1": 0.5, "top5": 0.9, "loss": 1.75}
WHOLE = 11  # events of the tiny run: start, 6 train, 3 eval, test


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "REST_SECONDS", 0.01)


def give(names: list[str], run: Path, events: list[Event]) -> None:
    with trackers(names, run) as track:
        for event in events:
            track(event)


def add_tracker(monkeypatch: pytest.MonkeyPatch, name: str, opened: Callable[[], Track]) -> list[int]:
    """Put a tracker of this process into the table; returns the steps at which it is opened."""
    steps: list[int] = []

    @contextmanager
    def open_it(run: Path, first_step: int) -> Iterator[Track]:
        steps.append(first_step)
        yield opened()

    checked: Open = open_it
    monkeypatch.setitem(TRACKERS, name, Tracker(name, "json", name, checked, apart=False))
    return steps


def add_library(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, code: str) -> None:
    """Let processes that are started import `code` as a library."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)
    (folder / name / "entities.py").write_text("Param = Metric = lambda *values: values\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))


# A server's client that notes its calls in a file, and prints, as libraries do.
NOTING = """
import os, time
def note(*words):
    print(*words)
    with open(os.environ["NOTES"], "a") as file:
        print(os.getpid(), *words, file=file)
class MlflowClient:
    def get_experiment_by_name(self, name): return None
    def create_experiment(self, name): return "7"
    def create_run(self, experiment_id, run_name): return type("R", (), {"info": type("I", (), {"run_id": "r1"})})
    def update_run(self, run_id, status): note(run_id, status)
    def log_batch(self, run_id, metrics=(), params=()):
        for metric in metrics:
            note(run_id, metric[0], metric[1], metric[3])
    def set_terminated(self, run_id, status): note(run_id, status)
"""


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard shows of a folder: (step, value) by name."""
    pytest.importorskip("tensorboard", reason="the extra [track] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    found = EventAccumulator(str(folder)).Reload()
    return {tag: [(row.step, row.value) for row in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_events_are_read_back_from_the_run_directory(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra [track] is not installed")
    with trackers(["tensorboard"], tmp_path) as track:
        assert list(tmp_path.iterdir()) == []  # nothing is made before the first event
        for event in EVENTS:
            track(event)
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]
    assert scalars(tmp_path / "tensorboard") == {
        "train/loss": [(50, 1.5), (100, 1.25)],
        "train/lr": [(50, pytest.approx(0.1)), (100, pytest.approx(0.05))],
        "train/top1": [(50, 0.5), (100, 0.75)],
        "train/images_per_second": [(50, 300), (100, 310)],
        "eval/top1": [(50, 0.25)],
        "eval/top5": [(50, 0.75)],
        "eval/loss": [(50, 2)],
    }
    give(["tensorboard"], tmp_path, [{"event": "resume", "step": 50}, EVENTS[3] | {"loss": 1.0}])
    assert scalars(tmp_path / "tensorboard")["train/loss"] == [(50, 1.5), (100, 1)]  # done again: there once


@pytest.mark.parametrize(
    ("name", "module", "told", "extra"),
    [
        ("tensorboard", "torch.utils.tensorboard", "TensorBoard is not installed", "track"),
        ("mlflow", "mlflow", "MLflow is not installed", "mlflow"),
        ("wandb", "wandb", "Weights & Biases is not installed", "wandb"),
    ],
)
def test_without_the_library_the_request_is_refused(
    name: str, module: str, told: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if TRACKERS[name].apart:
        add_library(monkeypatch, tmp_path / "libraries", module, "raise ImportError('it is not there')")
    else:
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "run").mkdir()
    with pytest.raises(BadRequest, match=told) as caught:
        give([name], tmp_path / "run", EVENTS)
    assert str(caught.value).endswith(f"next: pip install 'resnetkit[{extra}]'")
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        ("mlflow", "MlflowClient = lambda: 1 / 0\nget_tracking_uri = lambda: 'x:y'", "next: set MLFLOW_TRACKING_URI"),
        ("wandb", "setup = Settings = lambda *a, **b: None\nlogin = lambda verify: 1 / 0", "next: wandb login"),
        ("wandb", "raise TypeError('protobuf')", "cannot be imported\n  TypeError: protobuf\n  next: pip install"),
        ("wandb", "import os; os._exit(3)", "the process of wandb ended"),
    ],
)  # fmt: skip
def test_what_is_not_set_up_is_refused(
    name: str, code: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_library(monkeypatch, tmp_path, name, code)
    with pytest.raises(BadRequest, match=told):
        give([name], tmp_path, EVENTS)


def run_tiny(run: Path, names: list[str]) -> float:
    """Train the tiny recipe with these trackers; returns how many seconds the trackers took at the end."""
    with trackers(names, run) as track:
        train(RECIPE, tiny_dataset(), run, on_event=track)
        trained = time.monotonic()
    return time.monotonic() - trained


def assert_whole(run: Path) -> None:
    """A run's metrics.jsonl has every event."""
    events = checkpoint.read_events(run)
    assert len(events) == WHOLE and events[-1]["event"] == "test" and events[-1]["step"] == STEPS
    assert (run / checkpoint.WEIGHTS).is_file()


def test_trackers_that_raise_or_block_do_not_stop_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "CLOSE_SECONDS", 0.5)
    released, got = threading.Event(), list[Event]()

    def refuses() -> Track:
        raise ConnectionRefusedError(111, "Connection refused")

    def full() -> Track:
        def track(event: Event) -> None:
            raise OSError(28, "No space left on device")

        return track

    def blocks() -> Track:
        released.wait()
        raise TimeoutError

    for name, opened in {"refuses": refuses, "full": full, "blocks": blocks, "good": lambda: got.append}.items():
        add_tracker(monkeypatch, name, opened)
    try:
        assert run_tiny(tmp_path / "run", ["refuses", "full", "blocks", "good"]) < 5
    finally:
        released.set()
    assert_whole(tmp_path / "run")
    assert got == checkpoint.read_events(tmp_path / "run")
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    rest = "the run goes on, metrics.jsonl has all"
    assert sorted(warnings) == [
        f"warning: tracker blocks did not take {WHOLE} of {WHOLE} events in time; {rest}",
        f"warning: tracker full did not take {WHOLE} of {WHOLE} events; {rest}",
        f"warning: tracker full failed: OSError: [Errno 28] No space left on device; {rest}",
        f"warning: tracker refuses did not take {WHOLE} of {WHOLE} events; {rest}",
        f"warning: tracker refuses failed: ConnectionRefusedError: [Errno 111] Connection refused; {rest}",
    ]


def test_after_an_error_a_tracker_goes_on_with_the_next_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    got: list[Event] = []

    def opened() -> Track:
        def track(event: Event) -> None:
            if event is EVENTS[1]:
                raise ValueError("once")
            got.append(event)

        return track

    steps = add_tracker(monkeypatch, "moody", opened)
    give(["moody", "moody"], tmp_path, EVENTS)  # named twice, it is one
    assert got == [EVENTS[0], *EVENTS[2:]] and steps == [0, 50]
    assert "did not take 1 of 4 events;" in capsys.readouterr().err


def test_events_that_nobody_takes_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "WAITING_EVENTS", 3)
    released, taken = threading.Event(), threading.Event()
    got: list[Event] = []

    def opened() -> Track:
        taken.set()
        released.wait()
        return got.append

    add_tracker(monkeypatch, "slow", opened)
    with trackers(["slow"], tmp_path) as track:
        track({"event": "start", "step": 0})
        assert taken.wait(10)
        for step in range(1, 10):
            track({"event": "train", "step": step})
        released.set()
    assert [event["step"] for event in got] == [0, 1, 2, 3]
    told = capsys.readouterr().err
    assert told.count("behind by 3 events") == 1 and "did not take 6 of 10 events;" in told


def test_a_server_gets_its_events_from_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_library(monkeypatch, tmp_path / "libraries", "mlflow", NOTING)
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    run = tmp_path / "run"
    run.mkdir()
    give(["mlflow"], run, EVENTS)
    give(["mlflow"], run, [{"event": "resume", "step": 50}, END])
    pids, notes = zip(*(line.split(" ", 1) for line in (tmp_path / "notes").read_text().splitlines()), strict=True)
    assert len(set(pids)) == 2 and str(os.getpid()) not in pids
    assert len(notes) == 11 + 1 + 1 + 3 + 1
    assert notes[:2] == ("r1 train/loss 1.5 50", "r1 train/top1 0.5 50")
    assert notes[11:] == ("r1 KILLED", "r1 RUNNING", "r1 test/loss 1.75 100", "r1 test/top1 0.5 100",
                          "r1 test/top5 0.9 100", "r1 FINISHED")  # fmt: skip


@pytest.mark.parametrize("act", ["time.sleep(3600)", "os.abort()"])
def test_a_process_that_hangs_or_dies_does_not_stop_a_run(
    act: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "CLOSE_SECONDS", 1.0)
    code = NOTING.replace(
        "def get_experiment_by_name(self, name):", f"def get_experiment_by_name(self, n): note('at'); {act};"
    )
    add_library(monkeypatch, tmp_path / "libraries", "mlflow", code)  # fmt: skip
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    assert run_tiny(tmp_path / "run", ["mlflow"]) < 5
    assert_whole(tmp_path / "run")
    assert f"tracker mlflow did not take {WHOLE} of {WHOLE} events" in capsys.readouterr().err
    pid = int((tmp_path / "notes").read_text().split()[0])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_unreachable_server_does_not_stop_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow", reason="the extra [mlflow] is not installed")
    monkeypatch.setattr(tracking, "CLOSE_SECONDS", 2.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the discard port: refused at once
    assert run_tiny(tmp_path / "run", ["mlflow"]) < 5  # MLflow itself tries for minutes
    assert_whole(tmp_path / "run")
    assert f"did not take {WHOLE} of {WHOLE} events" in capsys.readouterr().err


class Recorder:
    """Stands in for MLflow's client or W&B's library; notes every call."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.calls = answers, list[tuple[Any, ...]]()

    def __getattr__(self, name: str) -> Any:
        def call(*values: Any, **named: Any) -> Any:
            self.calls.append((name, *values, named))
            return self.answers.get(name)

        return call

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """Return what one method was called with."""
        return [call[1:] for call in self.calls if call[0] == name]


def test_mlflow_gets_recipe_and_figures_and_a_resumed_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Recorder(create_experiment="7", create_run=SimpleNamespace(info=SimpleNamespace(run_id="r1")))
    entities = SimpleNamespace(Param=lambda *values: values, Metric=lambda *values: values)
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=lambda: client))
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    write_json(tmp_path / "recipe.json", {"optim": {"lr": 0.1}, "augment": [{"kind": "Flip"}], "mix": []})
    with tracking.mlflow(tmp_path, 0) as track:
        for event in EVENTS:
            track(event)
    assert client.named("create_experiment") == [("mine", {})]
    assert client.named("create_run") == [("7", {"run_name": tmp_path.name})]
    params, *batches = client.named("log_batch")
    assert params == ("r1", {"params": [("optim.lr", "0.1"), ("augment.0.kind", "Flip"), ("mix", "[]")]})
    metrics = [(name, value, step) for _, named in batches for name, value, _, step in named["metrics"]]
    assert metrics[:4] == [
        ("train/loss", 1.5, 50),
        ("train/top1", 0.5, 50),
        ("train/lr", 0.1, 50),
        ("train/images_per_second", 300.0, 50),
    ]
    assert metrics[4:7] == [("eval/loss", 2.0, 50), ("eval/top1", 0.25, 50), ("eval/top5", 0.75, 50)]
    assert len(metrics) == 11
    assert client.named("set_terminated") == [("r1", "KILLED", {})]
    assert read_json(tmp_path / "mlflow.json") == {"run_id": "r1"}

    client.calls.clear()
    with tracking.mlflow(tmp_path, 100) as track:
        track(END)
    assert client.named("create_run") == []
    assert client.named("update_run") == [("r1", {"status": "RUNNING"})]
    assert client.named("set_terminated") == [("r1", "FINISHED", {})]
    (only,) = client.named("log_batch")  # the recipe is not sent again
    assert only[0] == "r1" and [row[0] for row in only[1]["metrics"]] == ["test/loss", "test/top1", "test/top5"]


def test_wandb_gets_recipe_and_figures_and_a_resumed_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked = Recorder()
    library = Recorder(init=tracked)
    monkeypatch.setitem(sys.modules, "wandb", library)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    write_json(tmp_path / "recipe.json", {"optim": {"lr": 0.1}})
    with tracking.wandb(tmp_path, 0) as track:
        for event in EVENTS:
            track(event)
    ((began,),) = library.named("init")
    assert began["project"] == "resnetkit" and began["resume"] == "allow" and began["dir"] == str(tmp_path)
    assert began["config"] == {"optim": {"lr": 0.1}}
    assert read_json(tmp_path / "wandb.json") == {"run_id": began["id"]}
    logged = [values for values, _ in tracked.named("log")]
    assert [values["step"] for values in logged] == [50, 50, 100]
    assert logged[1] == {"eval/loss": 2.0, "eval/top1": 0.25, "eval/top5": 0.75, "step": 50}
    assert tracked.named("define_metric") == [("*", {"step_metric": "step"})]
    assert tracked.named("finish") == [({"exit_code": 1},)]  # stopped, not done

    with tracking.wandb(tmp_path, 100) as track:
        track(END)
    assert library.named("init")[1][0]["id"] == began["id"]
    assert tracked.named("finish")[1] == ({"exit_code": 0},)
