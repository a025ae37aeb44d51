"""Trackers beside metrics.jsonl: TensorBoard, MLflow, Weights & Biases; each is optional, by an extra.

Neither a tracker's errors nor its slowness reach the run: a thread hands it the events, and the libraries that talk
to servers work in a process of their own, because they may keep a process from ending, or abort it. After an
error a tracker rests for REST_SECONDS while events wait for it; then it goes on, in the same tracked run, with the
next event. Whatever becomes of it, metrics.jsonl has every event.

run/mlflow.json and run/wandb.json name the tracked run, so that a resumed run goes on in it.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from resnetkit.errors import BadRequest
from resnetkit.home import read_json, write_json

Event = dict[str, Any]
Track = Callable[[Event], None]
Open = Callable[[Path, int], AbstractContextManager[Track]]  # of a run that begins or goes on at a step

SHOWN = ("loss", "top1", "top5", "lr", "images_per_second")
PROJECT = "resnetkit"  # MLflow's experiment, W&B's project, where the environment names no other
WAITING_EVENTS = 10_000  # kept for a tracker that is slow or rests; later ones are dropped
REST_SECONDS = 300.0  # after an error
START_SECONDS = 60.0  # to import a library and see whether it is set up
CLOSE_SECONDS = 8.0  # for all trackers together, at the end of a run
PARAMS = 100  # MLflow takes so many in one request


@contextmanager
def trackers(names: Sequence[str], run: Path) -> Iterator[Track]:
    """Give one function that hands an event to all named trackers; at the end they have CLOSE_SECONDS to take the rest.

    Raises BadRequest where a library is missing or is not set up. In the run directory, nothing is made before the
    first event.
    """
    started: list[Background] = []

    def track(event: Event) -> None:
        for tracker in started:
            tracker.track(event)

    try:
        for name in dict.fromkeys(names):
            worker = Apart(name, run) if TRACKERS[name].apart else Here(name, run)
            started.append(Background(name, worker))
        yield track
    finally:
        for tracker in started:
            tracker.end()
        until = time.monotonic() + CLOSE_SECONDS
        for tracker in started:
            tracker.wait(until)


class Background:
    """A thread that hands events to one tracker, and the events that wait for it."""

    def __init__(self, name: str, tracker: Here | Apart) -> None:
        self._name, self._tracker = name, tracker
        self._waiting: SimpleQueue[Event | None] = SimpleQueue()  # None: there are no more
        self._ending = threading.Event()
        self._warned: set[str] = set()
        self._given = self._taken = 0
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def track(self, event: Event) -> None:
        """Put an event down for the tracker; never waits."""
        self._given += 1
        if self._waiting.qsize() < WAITING_EVENTS:
            self._waiting.put(event)
        else:
            self._warn_once("behind", f"is behind by {WAITING_EVENTS:,} events; later ones are dropped")

    def end(self) -> None:
        """Say that no event will follow."""
        self._ending.set()
        self._waiting.put(None)

    def wait(self, until: float) -> None:
        """Wait for the tracker to take what it was given, until a time of time.monotonic(); then stop it."""
        self._thread.join(max(0.0, until - time.monotonic()))
        late = self._thread.is_alive()
        lost = f"did not take {self._given - self._taken} of {self._given} events" if self._taken < self._given else ""
        if late or lost:
            self._warn_once("end", (lost or "did not end") + " in time" * late)
        self._warned |= {"failed"}  # by being stopped
        self._tracker.stop()

    def _work(self) -> None:
        while (event := self._waiting.get()) is not None:
            if self._try(self._tracker.track, event):
                self._taken += 1
            else:
                self._ending.wait(REST_SECONDS)
        self._try(self._tracker.finish)

    def _try(self, act: Callable[..., None], *arguments: Event) -> bool:
        """Say whether something was done without an error; the first error is told."""
        try:
            act(*arguments)
        except Exception as error:  # noqa: BLE001  whatever a library raises, the run goes on
            self._warn_once("failed", f"failed: {error if type(error) is Told else described(error)}")
            return False
        return True

    def _warn_once(self, kind: str, what: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            print(f"warning: tracker {self._name} {what}; the run goes on, metrics.jsonl has all", file=sys.stderr)


class Here:
    """A tracker in this process, opened with the first event, and anew with the next event after an error."""

    def __init__(self, name: str, run: Path) -> None:
        TRACKERS[name].check()
        self._open, self._run = TRACKERS[name].open, run
        self._track: Track | None = None
        self._opened = ExitStack()

    def track(self, event: Event) -> None:
        """Write an event."""
        try:
            if self._track is None:
                self._track = self._opened.enter_context(self._open(self._run, event["step"]))
            self._track(event)
        except Exception as error:
            self._track, opened = None, self._opened.pop_all()
            with suppress(Exception):  # the first error is the one to tell
                opened.__exit__(type(error), error, error.__traceback__)
            raise

    def finish(self) -> None:
        """Write what is left."""
        self._opened.close()

    def stop(self) -> None:
        """Leave it: its thread ends with the process."""


class Apart:
    """A tracker in a process of its own, which takes one event a line and answers each with its error's lines or []."""

    def __init__(self, name: str, run: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "resnetkit.tracking", name, str(run)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the run; and all it started can be stopped with it
        )
        self._ended = f"the process of {name} ended"
        impatience = threading.Timer(START_SECONDS, self._process.kill)
        impatience.start()
        refused = self._answer()
        impatience.cancel()
        if refused:
            self.stop()
            raise BadRequest(*refused)

    def track(self, event: Event | None) -> None:
        """Write an event."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(event) + "\n")
        self._process.stdin.flush()
        if error := self._answer():
            raise Told(*error)

    def finish(self) -> None:
        """Write what is left."""
        self.track(None)

    def stop(self) -> None:
        """End the process, at once, and those that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(OSError, subprocess.TimeoutExpired):  # what was not sent cannot be sent any more
            self._process.communicate(timeout=1)

    def _answer(self) -> list[str]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        return list(json.loads(line)) if line else [self._ended]


class Told(Exception):
    """An error in a tracker's process, as it was described there."""


def described(error: BaseException) -> str:
    """Return an error's type and text."""
    return f"{type(error).__name__}: {error}"


def serve(name: str, run: Path) -> None:
    """Be the process of one tracker: the other end of Apart."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer

    def answer(said: list[str]) -> None:
        print(json.dumps(said), file=answers, flush=True)

    try:
        tracker = Here(name, run)
    except BadRequest as refused:
        answer([refused.what, *refused.details])
        return
    answer([])
    for line in sys.stdin:
        event = json.loads(line)
        try:
            tracker.finish() if event is None else tracker.track(event)
        except Exception as error:  # noqa: BLE001  it is told
            answer([described(error)])
        else:
            answer([])


def figures(event: Event) -> dict[str, float]:
    """Return the figures of an event that trackers show, by names like train/loss."""
    return {f"{event['event']}/{name}": event[name] for name in SHOWN if name in event}


def recipe_of(run: Path) -> dict[str, Any]:
    """Return a run's recipe as JSON data, {} where there is none yet."""
    path = run / "recipe.json"
    return dict(read_json(path)) if path.exists() else {}


def flat(data: Any, name: str = "") -> dict[str, Any]:
    """Return nested JSON data as one table, like optim.lr: 0.1."""
    inner = list(data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ())
    if not inner:
        return {name: data}
    return {key: value for part, below in inner for key, value in flat(below, f"{name}.{part}".lstrip(".")).items()}


def read_run_id(run: Path, tracker: str) -> str | None:
    """Return the name of the tracked run that an earlier part of a run began."""
    path = run / f"{tracker}.json"
    return str(read_json(path)["run_id"]) if path.exists() else None


def keep_run_id(run: Path, tracker: str, run_id: str) -> None:
    """Keep the name of the tracked run."""
    write_json(run / f"{tracker}.json", {"run_id": run_id})


@contextmanager
def tensorboard(run: Path, first_step: int) -> Iterator[Track]:
    """Write for TensorBoard, under run/tensorboard."""
    from torch.utils.tensorboard import SummaryWriter

    # A resumed run does some steps again: what an earlier part wrote of them goes.
    make: Any = SummaryWriter
    with closing(make(str(run / "tensorboard"), purge_step=first_step + 1)) as writer:

        def track(event: Event) -> None:
            for name, value in figures(event).items():
                writer.add_scalar(name, value, event["step"])
            writer.flush()

        yield track


@contextmanager
def mlflow(run: Path, first_step: int) -> Iterator[Track]:
    """Write to the MLflow server of MLFLOW_TRACKING_URI, into the experiment MLFLOW_EXPERIMENT_NAME or resnetkit."""
    client: Any = import_module("mlflow").MlflowClient()
    entities: Any = import_module("mlflow.entities")
    run_id = read_run_id(run, "mlflow")
    if run_id:
        client.update_run(run_id, status="RUNNING")
    else:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
        run_id = client.create_run(experiment_id, run_name=run.resolve().name).info.run_id
        keep_run_id(run, "mlflow", run_id)
        params = [entities.Param(key, str(value)) for key, value in flat(recipe_of(run)).items()]
        for begin in range(0, len(params), PARAMS):
            client.log_batch(run_id, params=params[begin : begin + PARAMS])
    status = "KILLED"  # until it is done: a stopped run may go on

    def track(event: Event) -> None:
        nonlocal status
        now = time.time_ns() // 1_000_000  # in milliseconds
        metrics = [entities.Metric(name, value, now, event["step"]) for name, value in figures(event).items()]
        if metrics:
            client.log_batch(run_id, metrics=metrics)
        status = "FINISHED" if event["event"] == "test" else status

    yield track
    client.set_terminated(run_id, status)


@contextmanager
def wandb(run: Path, first_step: int) -> Iterator[Track]:
    """Write to Weights & Biases, into the project WANDB_PROJECT or resnetkit, and under run/wandb."""
    library: Any = import_module("wandb")
    run_id = read_run_id(run, "wandb")
    if not run_id:
        run_id = secrets.token_hex(4)
        keep_run_id(run, "wandb", run_id)
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    settings = library.Settings(console="off")  # standard output is the command's
    tracked = library.init(project=project, id=run_id, resume="allow", name=run.resolve().name, dir=str(run),
                           config=recipe_of(run), settings=settings)  # fmt: skip
    tracked.define_metric("*", step_metric="step")  # W&B's own step must never go back, as it does after a resume
    exit_code = 1  # until it is done

    def track(event: Event) -> None:
        nonlocal exit_code
        if shown := figures(event):
            tracked.log(shown | {"step": event["step"]})
        exit_code = 0 if event["event"] == "test" else exit_code

    yield track
    tracked.finish(exit_code=exit_code)


def check_mlflow(library: Any) -> None:
    """Refuse an address that MLflow cannot use; the server is not asked."""
    try:
        library.MlflowClient()
    except Exception as error:
        what = f"MLflow cannot use {library.get_tracking_uri()}"
        raise BadRequest(what, f"{error}", "next: set MLFLOW_TRACKING_URI, as in http://HOST:5000") from error


def check_wandb(library: Any) -> None:
    """Refuse a machine without a key; the server is not asked."""
    library.setup(library.Settings(silent=True))  # what matters of it, we say
    try:
        library.login(verify=False)
    except Exception as error:
        raise BadRequest(
            "Weights & Biases has no key", f"{error}", "next: wandb login, or WANDB_MODE=offline"
        ) from error


@dataclass(frozen=True)
class Tracker:
    """What a tracker needs, and how it is opened."""

    title: str
    module: str
    extra: str
    open: Open
    apart: bool  # it talks to a server
    check_library: Callable[[Any], None] = lambda library: None

    def check(self) -> None:
        """Refuse a tracker whose library is missing or is not set up."""
        try:
            library = import_module(self.module)
        except Exception as error:  # with a library of another version, it may be any
            what = "is not installed" if isinstance(error, ImportError) else "cannot be imported"
            next_step = f"next: pip install 'resnetkit[{self.extra}]'"
            raise BadRequest(f"{self.title} {what}", described(error), next_step) from error
        self.check_library(library)


TRACKERS = {
    "tensorboard": Tracker("TensorBoard", "torch.utils.tensorboard", "track", tensorboard, apart=False),
    "mlflow": Tracker("MLflow", "mlflow", "mlflow", mlflow, True, check_mlflow),
    "wandb": Tracker("Weights & Biases", "wandb", "wandb", wandb, True, check_wandb),
}

if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
