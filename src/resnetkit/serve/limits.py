"""What a service accepts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of requests, and of what waits; more is refused at once, with the reason."""

    body_bytes: int = 20_000_000  # of a request
    all_bodies_bytes: int = 400_000_000  # of all bodies that are being read at once; more is 503
    images: int = 16  # of a request
    waiting: int = 64  # images that wait or are worked on, of all requests; more is 503 with Retry-After
    batch_size: int = 16  # images that are computed at once, at most
    gather_seconds: float = 0.003  # that an image waits for others that are being decoded
    seconds: float = 30.0  # for a request, of which its body may take all
    top: int = 5  # classes of an answer, where the request does not say
