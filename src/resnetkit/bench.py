"""Which way of running a model is the fastest here: every one in a process of its own, in turns, behind the gate."""

from __future__ import annotations

import multiprocessing
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from resnetkit.artefact import format_of, open_artefact
from resnetkit.bench_worker import MATRIX, Failed, Opened, Ready, Side, Turn, opened, serve, serve_products
from resnetkit.engine_store import form_file
from resnetkit.errors import BadRequest, ExportFailed, GateFailed, WorkerLost
from resnetkit.export import facts_of, files_of, refuse_missing
from resnetkit.gate import Bounds
from resnetkit.gated import Judge, Say, write_gated
from resnetkit.load import LoadedModel
from resnetkit.quantize import Calibration, Int8
from resnetkit.ways import WAYS, Way, has_bfloat16

BATCH_SIZES = (1, 16)
ROUNDS = 5
TURN_SECONDS = 1.0
LONGEST_SECONDS = 900  # that a process may take to load, or for a turn: torch compiles in it
COMPILED = "torch-compile"  # never the one that is remembered: it compiles anew in each process
ENDING_SECONDS = 10
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Candidate:
    """A way that may be timed, and what is known of it before."""

    name: str
    load: Callable[[], Opened] | None  # in a process of its own; None: it cannot be run
    note: str  # what the gate found, or why it cannot be run
    passed: bool  # it may be remembered
    file_bytes: int | None = None


@dataclass(frozen=True)
class Timing:
    """How long batches of one size took."""

    batch_size: int
    calls: int
    percentiles: dict[int, float]  # seconds of a call
    images_per_second: float  # by the median
    share_of_peak: float | None  # of the float32 product's rate


@dataclass(frozen=True)
class Row:
    """A way, and what was measured."""

    candidate: Candidate
    load_seconds: float
    peak_bytes: int
    timings: tuple[Timing, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "engine": self.candidate.name, "gate": self.candidate.note, "passed": self.candidate.passed,
            "load_seconds": self.load_seconds, "peak_bytes": self.peak_bytes,
            "file_bytes": self.candidate.file_bytes,
            "batches": [
                {"batch_size": timing.batch_size, "calls": timing.calls,
                 "seconds": {f"p{share}": value for share, value in timing.percentiles.items()},
                 "images_per_second": timing.images_per_second, "share_of_peak": timing.share_of_peak}
                for timing in self.timings
            ],
        }  # fmt: skip


# --- candidates ---


def own_candidates(side: Side, file_bytes: int | None) -> list[Candidate]:
    """Return torch's ways of running weights: the model itself, by definition as good as itself."""
    notes = {COMPILED: "not chosen, it compiles anew in each process"}
    return [Candidate(way.name, partial(opened, replace(side, way=way.name)), notes.get(way.name, "the model itself"),
                      way.name != COMPILED, file_bytes)
            for way in WAYS.values() if way.library == "torch"]  # fmt: skip


def exported_candidates(
    loaded: LoadedModel, folder: Path, judge: Judge | None, bounds: Bounds, calibration: Calibration | None, say: Say
) -> Iterator[Candidate]:
    """Export a model in every form that can be had here, and judge each way of running them.

    A form that cannot be made, or does not pass, is left out with the reason; a wrong image ends it all.
    """
    for way in WAYS.values():
        if way.form is None or way.library == "torch-export":
            continue
        if way.int8 and calibration is None:
            yield Candidate(way.name, None, "not made; next: --calibration DIR, images like those it will see", False)
            continue
        file = form_file(folder, way.form, way.int8)
        try:
            if not file.is_file():
                refuse_missing(way.form, way.int8)
                say(f"{way.name}: exporting")
                how = Int8(calibration) if way.int8 and calibration else None
                own = replace(bounds, exact=not way.int8)
                write_gated(loaded, facts_of(loaded, way.form, has_map=True), file, judge, own, how, say)
        except (BadRequest, ExportFailed, GateFailed) as error:
            for left in files_of(file, way.form):
                left.unlink(missing_ok=True)
            yield Candidate(way.name, None, "; ".join((error.what, *error.details)), False)
            continue
        yield judged(way, file, judge, bounds)


def judged(way: Way, file: Path, judge: Judge | None, bounds: Bounds) -> Candidate:
    """Judge a way of running a file that is there; what is in bfloat16 may differ as what is quantised may."""
    size = size_of(files_of(file, format_of(file)))
    if way.bfloat16 and not has_bfloat16():
        return Candidate(way.name, None, "this CPU has no bfloat16: slower than float32", False, size)
    try:
        artefact = open_artefact(file, way.name)
        if artefact.facts.gate and not way.bfloat16 and way.form == artefact.facts.format:  # it passed as it was made
            return Candidate(way.name, running(way, file), gate_note(artefact.facts.gate), True, size)
        if judge is None:
            return Candidate(way.name, running(way, file), "no gate, as asked", False, size)
        figures, problems = judge.compare(artefact.engine, replace(bounds, exact=not way.is_rounded))
    except (BadRequest, GateFailed) as error:
        return Candidate(way.name, None, "; ".join((error.what, *error.details)), False, size)
    note = "refused: " + "; ".join(problems) if problems else gate_note(figures.to_json())
    return Candidate(way.name, running(way, file), note, not problems, size)


def running(way: Way, file: Path) -> Callable[[], Opened]:
    """Return what opens a file in a process of its own."""
    return partial(opened, Side(way.name, file))


def gate_note(gate: Mapping[str, Any]) -> str:
    """Say what a gate found, in a few words."""
    agreement = f"agrees on {100 * gate['agreement']:.2f} % of {gate['images']:,}"
    if gate.get("top1") is None:
        return agreement
    return f"{agreement}, top-1 {100 * gate['top1']:.2f} (model {100 * gate['model_top1']:.2f})"


def size_of(files: Sequence[Path]) -> int:
    """Return the bytes of files together."""
    return sum(file.stat().st_size for file in files)


# --- the rounds ---


class Worker:
    """A process that waits for its turns."""

    def __init__(self, name: str, work: Callable[..., None], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")  # nothing of this process, and none of its memory
        self.name = name
        self.connection, other = context.Pipe()
        self.process = context.Process(target=work, args=(*arguments, other), daemon=True)
        self.process.start()
        other.close()

    def answer(self) -> Any:
        """Return its next message; WorkerLost where it ended, or does not answer."""
        try:
            if self.connection.poll(LONGEST_SECONDS):
                return self.connection.recv()
        except (EOFError, OSError):
            raise WorkerLost("its process ended; killed where memory is short?") from None
        raise WorkerLost(f"its process did not answer within {LONGEST_SECONDS} s")

    def ready(self) -> Ready:
        """Wait until it has loaded; WorkerLost with its reason where it could not."""
        message = self.answer()
        if isinstance(message, Failed):
            raise WorkerLost(message.reason)
        assert isinstance(message, Ready)
        return message

    def ask(self, *message: object) -> Any:
        """Send a message and return the answer."""
        try:
            self.connection.send(message)
        except OSError as error:
            raise WorkerLost("its process ended while it waited") from error
        return self.answer()

    def end(self) -> None:
        """End it: it does so itself when nobody is there to ask, or is made to."""
        self.connection.close()
        self.process.join(ENDING_SECONDS)
        self.process.terminate()
        self.process.join()


@dataclass(frozen=True)
class Measured:
    """What a run gave."""

    rows: tuple[Row, ...]  # the fastest first
    left_out: tuple[Candidate, ...]  # with the reason
    flops_of_peak: float  # of a float32 product, a second

    @property
    def fastest(self) -> Row | None:
        """Return the fastest way that may be remembered."""
        return next((row for row in self.rows if row.candidate.passed), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        left_out = {each.name: each.note for each in self.left_out}
        return {"rows": [row.to_json() for row in self.rows], "left_out": left_out,
                "flops_of_peak": self.flops_of_peak}  # fmt: skip


def time_candidates(
    candidates: Sequence[Candidate],
    macs: int | None,  # multiply-adds of an image
    say: Say,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    rounds: int = ROUNDS,
    turn_seconds: float = TURN_SECONDS,
) -> Measured:
    """Time candidates in turns, each in a process of its own; one that ends is left out, and the rest goes on."""
    left_out = [candidate for candidate in candidates if candidate.load is None]
    waiting: dict[str, Worker] = {}
    loads: dict[str, float] = {}

    def leave_out(name: str, error: WorkerLost) -> None:
        """Go on without one that ended."""
        waiting.pop(name).end()
        loads.pop(name, None)
        left_out.extend(replace(each, load=None, note=error.what) for each in candidates if each.name == name)
        say(f"{name}: {error.what}")

    try:
        for candidate in candidates:
            if candidate.load is None:
                continue
            name = candidate.name
            waiting[name] = Worker(name, serve, candidate.load)
            try:
                loads[name] = waiting[name].ready().load_seconds
            except WorkerLost as error:
                leave_out(name, error)
                continue
            say(f"{name}: loaded in {loads[name]:.2f} s")
        products = Worker("matrix products", serve_products)
        waiting[products.name] = products
        peaks: list[list[float]] = []
        turns: dict[str, dict[int, list[Turn]]] = {name: {size: [] for size in batch_sizes} for name in loads}
        for number in range(rounds):
            peaks.append(products.ask())
            for size in batch_sizes:
                for name in list(loads if number % 2 else reversed(loads)):
                    try:
                        turns[name][size].append(waiting[name].ask(size, turn_seconds))
                    except WorkerLost as error:
                        leave_out(name, error)
            say(f"round {number + 1} of {rounds}")
    finally:
        for worker in waiting.values():
            worker.end()
    fastest_product = min(statistics.median(column) for column in zip(*peaks, strict=True))
    peak = 2 * MATRIX**3 / fastest_product
    rows = [row_of(candidate, loads[candidate.name], turns[candidate.name], macs, peak)
            for candidate in candidates if candidate.name in loads]  # fmt: skip
    return Measured(tuple(sorted(rows, key=seconds_an_image)), tuple(left_out), peak)


def row_of(
    candidate: Candidate, load_seconds: float, turns: Mapping[int, Sequence[Turn]], macs: int | None, peak: float
) -> Row:
    """Sum up the turns of a way."""
    timings = []
    for size, own in turns.items():
        times = np.concatenate([turn.seconds for turn in own])
        rate = size / float(np.median(times))
        timings.append(
            Timing(
                batch_size=size,
                calls=len(times),
                percentiles={share: float(np.percentile(times, share)) for share in PERCENTILES},
                images_per_second=rate,
                share_of_peak=2 * macs * rate / peak if macs else None,
            )
        )
    return Row(candidate, load_seconds, max(turn.peak_bytes for own in turns.values() for turn in own), tuple(timings))


def seconds_an_image(row: Row) -> float:
    """Return what ways are ranked by: the geometric mean over the sizes of batches."""
    return statistics.geometric_mean(1 / timing.images_per_second for timing in row.timings)
