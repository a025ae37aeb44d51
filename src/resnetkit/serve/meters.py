"""What a service counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.25,
    0.3,
    0.4,
    0.5,
    0.75,
    1,
    2.5,
    5,
    10,
    30,
)
IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Meters:
    """Counters of one service; each has its own, so that two in a process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("resnetkit_requests", "Requests that were answered", ("route", "status"),
                                registry=self.registry)  # fmt: skip
        self.seconds = Histogram("resnetkit_request_seconds", "From the first byte of a request to its answer",
                                 ("route", "status"), buckets=SECONDS, registry=self.registry)  # fmt: skip
        self.images = Counter("resnetkit_images", "Images of requests, by what became of them", ("outcome",),
                              registry=self.registry)  # fmt: skip
        self.batches = Histogram("resnetkit_batch_images", "Images of a batch", buckets=IMAGES, registry=self.registry)
        self.computing = Histogram("resnetkit_batch_seconds", "Seconds that a batch took the engine", buckets=SECONDS,
                                   registry=self.registry)  # fmt: skip
        self.waiting = Gauge("resnetkit_images_waiting", "Images that wait or are worked on", registry=self.registry)
        self.loads = Gauge("resnetkit_model_loads", "How often the model was loaded", registry=self.registry)

    def on_batch(self, images: int, seconds: float) -> None:
        """Count a batch."""
        self.batches.observe(images)
        self.computing.observe(seconds)

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry)
