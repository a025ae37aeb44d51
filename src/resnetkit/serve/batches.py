"""Images of many requests, decoded in threads and computed in batches by one.

An image is admitted or refused at once, so that nothing grows.  It waits for others only while such are being decoded,
and a few milliseconds at most: under load batches fill while the engine works.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnetkit.classifier import Classifier
from resnetkit.confidence import softmax
from resnetkit.data.resize import Pixels
from resnetkit.engines import CLASS_MAPS
from resnetkit.errors import BadImage, ResnetkitError
from resnetkit.predict import shown
from resnetkit.provenance import cores_of_process
from resnetkit.serve.limits import Limits

MOST_DECODERS = 16


class Full(ResnetkitError):
    """As many images wait as may."""


@dataclass(frozen=True)
class Explained:
    """What a model says of one image, place by place."""

    probs: NDArray[np.float32]  # [classes]
    maps: NDArray[np.float32]  # [classes, h, w]
    pixels: Pixels  # what it was shown


@dataclass
class Job:
    """One image on its way."""

    model: Classifier
    data: bytes
    name: str
    explain: bool
    future: Future[Any] = field(default_factory=Future)
    pixels: Pixels | None = None


class Batches:
    """Threads that decode, and one that computes."""

    def __init__(self, limits: Limits, on_batch: Callable[[int, float], None] = lambda images, seconds: None) -> None:
        self.limits, self.on_batch = limits, on_batch
        self.ready: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.admitted = 0  # images that wait or are worked on
        self.preparing = 0  # of them those that are not decoded yet
        self.decoders = ThreadPoolExecutor(min(cores_of_process(), MOST_DECODERS), "decode")
        self.computing = threading.Thread(target=self.compute, name="compute", daemon=True)
        self.computing.start()

    def refuse_if_full(self) -> None:
        """Refuse what could not be admitted, before its bytes are read; raises Full."""
        if self.admitted >= self.limits.waiting:
            raise Full(f"{self.admitted} images wait", f"expected {self.limits.waiting} or fewer")

    def submit(self, model: Classifier, images: list[tuple[str, bytes]], explain: bool = False) -> list[Future[Any]]:
        """Admit images, all or none; raises Full.  Each future has probabilities [classes], or BadImage."""
        with self.lock:
            if self.admitted + len(images) > self.limits.waiting:
                raise Full(f"{self.admitted} images wait", f"expected {self.limits.waiting} or fewer")
            self.admitted += len(images)
            self.preparing += len(images)
        jobs = [Job(model, data, name, explain) for name, data in images]
        for job in jobs:
            job.future.add_done_callback(partial(self.leave, job))
            try:
                self.decoders.submit(self.prepare, job)
            except RuntimeError as error:  # no thread can be started, or the service ends
                with self.lock:
                    self.preparing -= 1
                self.fail(job, error)
        return [job.future for job in jobs]

    def leave(self, job: Job, future: Future[Any]) -> None:
        """Free the place of an image that was answered, or that nobody waits for any more, and its bytes."""
        job.data = b""
        with self.lock:
            self.admitted -= 1

    def prepare(self, job: Job) -> None:
        """Decode an image, unless nobody waits for it any more."""
        try:
            data = job.data  # taken once: it goes when the future is cancelled
            if not job.future.cancelled():
                job.pixels = shown(data, job.name, job.model.engine.preprocess)
        except BadImage as error:
            self.fail(job, error)
        except Exception as error:  # noqa: BLE001 - the threads must live: whatever it was is the request's
            self.fail(job, error)
        finally:
            with self.lock:
                self.preparing -= 1
        if job.pixels is not None:
            self.ready.put(job)

    def fail(self, job: Job, error: Exception) -> None:
        """Answer an image with an error."""
        if job.future.set_running_or_notify_cancel():
            job.future.set_exception(error)

    def compute(self) -> None:
        """Compute one batch after another, until told to stop."""
        held: Job | None = None
        while True:
            first = held or self.ready.get()
            if first is None:
                return
            batch, held, stop = self.gather(first)
            alive = [job for job in batch if job.future.set_running_or_notify_cancel()]
            if alive:
                self.answer(alive)
            if stop:
                return

    def gather(self, first: Job) -> tuple[list[Job], Job | None, bool]:
        """Return a batch of one model, one that did not fit with it, and whether to stop."""
        batch, until = [first], time.monotonic() + self.limits.gather_seconds
        while len(batch) < self.limits.batch_size and not first.explain:
            left = until - time.monotonic() if self.preparing else 0
            try:
                job = self.ready.get(timeout=left) if left > 0 else self.ready.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return batch, None, True
            if job.model is not first.model or job.explain:
                return batch, job, False
            batch.append(job)
        return batch, None, False

    def answer(self, batch: list[Job]) -> None:
        """Compute a batch and answer each of its images."""
        engine, started = batch[0].model.engine, time.monotonic()
        try:
            pixels = np.stack([job.pixels for job in batch if job.pixels is not None])
            probs = softmax(engine.logits(pixels), engine.temperature)
            if batch[0].explain:
                maps = engine.output(CLASS_MAPS, pixels)
                outcomes: list[Any] = [Explained(*row) for row in zip(probs, maps, pixels, strict=True)]
            else:
                outcomes = list(probs)
        except Exception as error:  # noqa: BLE001 - the thread must live: this batch alone has failed
            for job in batch:
                job.future.set_exception(error)
            return
        self.on_batch(len(batch), time.monotonic() - started)
        for job, outcome in zip(batch, outcomes, strict=True):
            job.future.set_result(outcome)

    def close(self) -> None:
        """Finish what is there, and stop."""
        self.decoders.shutdown()
        self.ready.put(None)
        self.computing.join()
