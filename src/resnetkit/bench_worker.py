"""One way of running a model in a process of its own, that works when it is its turn: for `bench`.

Imports nothing heavy before it knows which library it is for, so that its memory and time to load are that one's.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.transforms import Preprocess
from resnetkit.errors import ResnetkitError, first_line

LEAST_CALLS = 3  # of a turn
LOAD_ERRORS = (ResnetkitError, ImportError, OSError, RuntimeError, ValueError, TypeError, AttributeError)
MATRIX = 4096  # rows of the matrices whose product is the machine's peak
Logits = Callable[[NDArray[np.uint8]], object]
Opened = tuple[Logits, Preprocess]


@dataclass(frozen=True)
class Side:
    """What a process runs: a file on an engine, weights in torch, or weights drawn for a net of the zoo."""

    way: str
    file: Path | None = None  # an exported form, or a model of its own
    weights: str | None = None  # of `load_model`
    said: tuple[tuple[str, Any], ...] = ()  # its options
    drawn: str | None = None  # a net of the zoo


@dataclass(frozen=True)
class Ready:
    """A process that can be asked."""

    load_seconds: float  # its library's import, the model, and the first image


@dataclass(frozen=True)
class Failed:
    """A process that could not load what it is for."""

    reason: str


@dataclass(frozen=True)
class Turn:
    """What was done in a turn."""

    seconds: tuple[float, ...]  # of each call
    peak_bytes: int  # of the process until now


def serve(load: Callable[[], Opened], connection: Connection) -> None:
    """Load, say so, and work for as many seconds, on batches of as many images, as each message says."""
    with suppress(EOFError, KeyboardInterrupt, OSError):  # nobody is there any more to ask
        started = time.perf_counter()
        try:
            logits, preprocess = load()
            logits(images_of(1, preprocess))
        except LOAD_ERRORS as error:
            connection.send(Failed(f"{type(error).__name__}: {first_line(error)}"))
            return
        connection.send(Ready(time.perf_counter() - started))
        while True:
            batch_size, seconds = connection.recv()
            connection.send(take_turn(logits, images_of(batch_size, preprocess), seconds))


def take_turn(logits: Logits, images: NDArray[np.uint8], seconds: float) -> Turn:
    """Ask for the same images again and again; the first call is not counted."""
    logits(images)
    times: list[float] = []
    while len(times) < LEAST_CALLS or sum(times) < seconds:
        started = time.perf_counter()
        logits(images)
        times.append(time.perf_counter() - started)
    return Turn(tuple(times), peak_bytes())


def images_of(count: int, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Return generated images: what is on them does not change the time."""
    shape = (count, preprocess.image_size, preprocess.image_size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def opened(side: Side) -> Opened:
    """Return what a side runs."""
    if side.file:
        from resnetkit.artefact import open_artefact

        engine = open_artefact(side.file, side.way).engine
        return engine.logits, engine.preprocess
    import torch

    from resnetkit.engines.of_torch import on_device
    from resnetkit.load import drawn_model, load_model

    loaded = drawn_model(side.drawn) if side.drawn else load_model(side.weights or "", **dict(side.said))
    return on_device(loaded.model, loaded.preprocess, torch.device("cpu"), side.way).logits, loaded.preprocess


def peak_bytes() -> int:
    """Return the most memory that this process had."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# --- the machine's peak ---


def serve_products(connection: Connection) -> None:
    """Send the seconds of two ways to multiply matrices, whenever a message comes; which is faster differs."""
    import torch

    left, right = torch.randn(2, MATRIX, MATRIX)
    side = round(MATRIX**0.5)
    image = left.reshape(1, MATRIX, side, side).to(memory_format=torch.channels_last)
    kernel = right.reshape(MATRIX, MATRIX, 1, 1)
    with suppress(EOFError, KeyboardInterrupt, OSError), torch.inference_mode():
        while True:
            connection.recv()
            products = (lambda: torch.mm(left, right), lambda: torch.nn.functional.conv2d(image, kernel))
            connection.send([timed(product) for product in products])


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of a call, after one that is not counted."""
    call()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
