"""What a service answers, as its OpenAPI document says it; no answer has a path or a trace in it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class Error(BaseModel):
    """Why a request, or one of its images, was refused."""

    what: str
    details: list[str] = []


class Refused(BaseModel):
    """A request that was refused."""

    error: Error


class Chance(BaseModel):
    """A class and how likely it is."""

    index: int
    name: str
    prob: float


class Predicted(BaseModel):
    """The outcome of one image: classes, the most likely first, or why there are none."""

    file: str
    classes: list[Chance] | None = None
    error: Error | None = None


class Predictions(BaseModel):
    """The outcomes of a request, in the order of its images."""

    model: str
    engine: str
    predictions: list[Predicted]
    seconds: float  # in the service


class Explanation(BaseModel):
    """Where the model looked for a class: heat for each place, and drawn over the picture, as PNG in base64."""

    file: str
    explained: Chance
    classes: list[Chance]
    heat: list[list[float]]
    overlay_png: str
    seconds: float


class State(BaseModel):
    """Whether the service is there."""

    status: str


class RequestRefused(Exception):
    """Carries the answer to a request that is not as it must be."""

    def __init__(self, status: int, what: str, *details: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(what)
        self.status, self.error, self.headers = status, Error(what=what, details=list(details)), headers or {}


STATUSES = {
    400: "the body, or what is asked, is not as it must be",
    401: "the API key is missing or wrong",
    408: "the body did not come in time",
    413: "too many bytes, images or pixels",
    415: "not a kind of content, or of image, that is read",
    422: "an image is damaged",
    501: "the model cannot explain itself",
    503: "too many images wait; again after the seconds of Retry-After",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe answers that refuse, for OpenAPI."""
    return {status: {"model": Refused, "description": STATUSES[status]} for status in statuses}
