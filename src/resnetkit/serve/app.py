"""The routes of a service."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import Annotated, Any, cast

import numpy as np
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from numpy.typing import NDArray
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnetkit.classifier import Classifier
from resnetkit.errors import BadImage, TooManyPixels, UnknownFormat
from resnetkit.heat import overlay, scaled, to_png
from resnetkit.provenance import installed
from resnetkit.serve.answers import Explanation, Predictions, RequestRefused, State, refusals
from resnetkit.serve.batches import Batches, Explained, Full
from resnetkit.serve.bodies import Bodies, read_images
from resnetkit.serve.limits import Limits
from resnetkit.serve.meters import Meters
from resnetkit.serve.slot import Slot, card, title

RETRY = {"Retry-After": "1"}
KEY_HEADERS = "expected X-API-Key: KEY, or Authorization: Bearer KEY"
GONE = 499  # the client left before the answer, which nobody reads
JSON = "application/json"
Answer = dict[str, Any]  # of JSON data
METRICS = "text/plain; version=1.0.0; charset=utf-8"
SCRIPT = "text/javascript"
PAGES = {"/": ("index.html", "text/html"), "/app.js": ("app.js", SCRIPT), "/app.css": ("app.css", "text/css"),
         "/docs": ("docs.html", "text/html"), "/docs.js": ("docs.js", SCRIPT)}  # fmt: skip
SECURITY = (
    (b"content-security-policy", b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
     b"img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)  # fmt: skip
BINARY = {"type": "string", "format": "binary"}
IMAGE_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {
    "multipart/form-data": {"schema": {"type": "object", "required": ["image"], "properties": {
        "image": {"type": "array", "items": BINARY, "minItems": 1}}}},
    JSON: {"schema": {"type": "object", "required": ["images"], "additionalProperties": False, "properties": {
        "images": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "byte"}}}}},
    "application/octet-stream": {"schema": BINARY},
}}}  # fmt: skip
Top = Annotated[int | None, Query(ge=1, le=1000, description="classes of an answer, the most likely first")]
Index = Annotated[int | None, Query(ge=0, description="the class to explain, by its number; else the most likely")]


class Desk:
    """Takes requests, has their images answered, and counts."""

    def __init__(self, slot: Slot, limits: Limits, api_key: str | None) -> None:
        self.slot, self.limits, self.api_key = slot, limits, api_key
        self.meters = Meters()
        self.batches = Batches(limits, self.meters.on_batch)
        self.bodies = Bodies(limits)
        self.meters.waiting.set_function(lambda: self.batches.admitted)
        self.meters.loads.set_function(lambda: slot.loaded)

    async def answered(self, route: str, request: Request, work: Callable[[], Awaitable[Answer]]) -> Response:
        """Do a request's work, answer it or say why not, and count it."""
        started, status = time.monotonic(), 500
        try:
            refuse_stranger(request, self.api_key)
            content = await work()
            status = 200
            return Response(json_bytes(content | {"seconds": time.monotonic() - started}), media_type=JSON)
        except RequestRefused as refused:
            status = refused.status
            return refusal(refused)
        except Full as error:
            status = 503
            return refusal(RequestRefused(503, error.what, *error.details, headers=RETRY))
        except Exception as error:  # noqa: BLE001 - told to the log, and to the client that it is
            return refusal(told_to_log(route, error))
        finally:
            self.meters.requests.labels(route, str(status)).inc()
            self.meters.seconds.labels(route, str(status)).observe(time.monotonic() - started)

    async def outcomes(self, request: Request, model: Classifier, explain: bool) -> list[tuple[str, Any]]:
        """Return the name of each image of a request, and its outcome, which may be that it is bad."""
        self.batches.refuse_if_full()
        until = time.monotonic() + self.limits.seconds
        try:
            async with self.bodies.taken(request), asyncio.timeout(self.limits.seconds):
                images = await read_images(request, self.limits)
        except TimeoutError as error:
            raise RequestRefused(408, f"the body did not come within {self.limits.seconds:g} s") from error
        if explain and len(images) != 1:
            raise RequestRefused(400, f"{len(images)} images to explain", "expected one")
        left = max(until - time.monotonic(), 0.0)
        found = await results_of(request, self.batches.submit(model, images, explain), left, self.limits.seconds)
        for outcome in found:
            self.meters.images.labels(kind_of(outcome)).inc()
        refuse_if_all_bad(found)
        return [(name, outcome) for (name, _), outcome in zip(images, found, strict=True)]

    async def predict(self, request: Request, top: int | None) -> Answer:
        """Answer with the classes of each image."""
        model = self.slot.model
        found = await self.outcomes(request, model, explain=False)
        rows = [predicted(name, outcome, model, top or self.limits.top) for name, outcome in found]
        return {"model": title(model), "engine": model.engine.name, "predictions": rows}

    async def explain(self, request: Request, index: int | None, top: int | None) -> Answer:
        """Answer with where the model looks for a class."""
        model = self.slot.model
        if not model.engine.has_map:
            raise RequestRefused(501, "this model cannot explain itself", "next: export it with --last-map")
        if index is not None and index >= len(model.class_names):
            raise RequestRefused(400, f"no class {index}", f"expected 0 to {len(model.class_names) - 1}")
        ((name, found),) = await self.outcomes(request, model, explain=True)
        return await asyncio.to_thread(explanation, name, found, model, index, top or self.limits.top)

    async def card(self) -> Answer:
        """Answer with what the model is."""
        return card(self.slot.model, self.limits)

    def metrics(self, request: Request) -> Response:
        """Return counters as Prometheus reads them."""
        try:
            refuse_stranger(request, self.api_key)
        except RequestRefused as refused:
            return refusal(refused)
        return Response(self.meters.text(), media_type=METRICS)

    def readiness(self) -> State | Response:
        """Say whether images are answered."""
        if self.batches.computing.is_alive():
            return State(status="ready")
        return refusal(RequestRefused(503, "the engine has stopped", headers=RETRY))


def build_app(
    slot: Slot, limits: Limits, api_key: str | None = None, on_start: Callable[[], None] = lambda: None
) -> FastAPI:
    """Build the service of a model; `on_start` is called once signals are obeyed."""
    desk = Desk(slot, limits, api_key)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        reload_on_hangup(slot)
        on_start()
        yield
        await asyncio.to_thread(desk.batches.close)

    app = FastAPI(
        title="resnetkit", version=installed("resnetkit") or "", lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.add_middleware(SecurityHeaders)
    answer_errors(app)

    @app.post("/v1/predict", openapi_extra=IMAGE_BODY, response_model=None,
              responses={200: {"model": Predictions}, **refusals(400, 401, 408, 413, 415, 422, 503)})  # fmt: skip
    async def predict(request: Request, top: Top = None) -> Response:
        """Name what is on one or more images. An image that cannot be read has an error in place of classes."""
        return await desk.answered("predict", request, lambda: desk.predict(request, top))

    @app.post("/v1/explain", openapi_extra=IMAGE_BODY, response_model=None,
              responses={200: {"model": Explanation}, **refusals(400, 401, 408, 413, 415, 422, 501, 503)})  # fmt: skip
    async def explain(request: Request, index: Index = None, top: Top = None) -> Response:
        """Say where on one image the model looks for a class: a heat map, and the picture with the heat over it."""
        return await desk.answered("explain", request, lambda: desk.explain(request, index, top))

    @app.get("/v1/model", response_model=None, responses={**refusals(401)})
    async def model_card(request: Request) -> Response:
        """Say what the model is: net, classes, preprocessing, where it was trained and how well it did."""
        return await desk.answered("model", request, desk.card)

    @app.get("/healthz", response_model=State)
    async def healthz() -> State:
        """Say that the process answers."""
        return State(status="alive")

    @app.get("/readyz", response_model=State, responses={**refusals(503)})
    async def readyz() -> State | Response:
        """Say whether images are answered."""
        return desk.readiness()

    @app.get("/metrics", response_model=None, responses={200: {"content": {"text/plain": {}}}, **refusals(401)})
    async def metrics(request: Request) -> Response:
        """Return counters as Prometheus reads them."""
        return desk.metrics(request)

    for path, (name, kind) in PAGES.items():
        add_page(app, path, files("resnetkit.serve").joinpath("page", name).read_bytes(), kind)
    return app


def add_page(app: FastAPI, path: str, content: bytes, kind: str) -> None:
    """Add a page, or a part of one."""

    @app.get(path, include_in_schema=False)
    async def page() -> Response:
        return Response(content, media_type=f"{kind}; charset=utf-8")


# --- requests ---


def refuse_stranger(request: Request, api_key: str | None) -> None:
    """Refuse a request without the API key, where one is set; the comparison takes the same time for any."""
    if api_key is None:
        return
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    given = request.headers.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
    if not hmac.compare_digest(given.encode(), api_key.encode()):
        raise RequestRefused(
            401, "the API key is missing or wrong", KEY_HEADERS, headers={"WWW-Authenticate": "Bearer"}
        )


async def results_of(request: Request, futures: list[Future[Any]], left: float, seconds: float) -> list[Any]:
    """Wait for images, errors among the results; those of a client that has left give their places back."""
    work = asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
    gone: asyncio.Future[None] = asyncio.create_task(disconnected(request))
    try:
        await asyncio.wait(
            cast("set[asyncio.Future[Any]]", {work, gone}), timeout=left, return_when=asyncio.FIRST_COMPLETED
        )
        if work.done():
            return work.result()
        if gone.done():
            raise RequestRefused(GONE, "the client has left")
        raise RequestRefused(503, f"no answer within {seconds:g} s", headers=RETRY)
    finally:
        work.cancel()
        gone.cancel()


async def disconnected(request: Request) -> None:
    """Return when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def kind_of(outcome: Any) -> str:
    """Return what became of an image, for its counter."""
    return "bad" if isinstance(outcome, BadImage) else "failed" if isinstance(outcome, BaseException) else "answered"


def refuse_if_all_bad(found: list[Any]) -> None:
    """Refuse a request none of whose images can be read; what is not the images' fault is raised as it is."""
    for outcome in found:
        if isinstance(outcome, BaseException) and not isinstance(outcome, BadImage):
            raise outcome
    if all(isinstance(outcome, BadImage) for outcome in found):
        first = found[0]
        status = 415 if isinstance(first, UnknownFormat) else 413 if isinstance(first, TooManyPixels) else 422
        raise RequestRefused(status, first.what, *first.details)


# --- answers ---


def json_bytes(data: Any) -> bytes:
    """Write JSON."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False).encode()


def chances(probs: NDArray[np.float32], model: Classifier, top: int) -> list[dict[str, Any]]:
    """Return the most likely classes, of equal ones the first."""
    best = np.argsort(-probs, kind="stable")[:top]
    return [{"index": int(index), "name": model.class_names[index], "prob": float(probs[index])} for index in best]


def predicted(name: str, outcome: Any, model: Classifier, top: int) -> dict[str, Any]:
    """Return what is said of one image."""
    if isinstance(outcome, BadImage):
        return {"file": name, "error": {"what": outcome.what, "details": list(outcome.details)}}
    return {"file": name, "classes": chances(outcome, model, top)}


def explanation(name: str, found: Explained, model: Classifier, index: int | None, top: int) -> dict[str, Any]:
    """Return where the model looks for a class."""
    number = int(found.probs.argmax()) if index is None else index
    explained = {"index": number, "name": model.class_names[number], "prob": float(found.probs[number])}
    heat = found.maps[number]
    picture = base64.b64encode(to_png(overlay(found.pixels, heat))).decode()
    return {"file": name, "explained": explained, "classes": chances(found.probs, model, top),
            "heat": np.round(scaled(heat), 4).tolist(), "overlay_png": picture}  # fmt: skip


def refusal(refused: RequestRefused) -> Response:
    """Return the answer to a request that was refused."""
    return Response(json_bytes({"error": refused.error.model_dump()}), refused.status, refused.headers, JSON)


def answer_errors(app: FastAPI) -> None:
    """Answer every error in the one form; of our own faults nothing is told but that they are."""

    @app.exception_handler(HTTPException)
    async def known(request: Request, error: HTTPException) -> Response:
        return refusal(RequestRefused(error.status_code, str(error.detail), headers=dict(error.headers or {})))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        details = [f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors()]
        return refusal(RequestRefused(400, "what is asked is not as it must be", *details))

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> Response:
        return refusal(told_to_log(request.url.path, error))


def told_to_log(place: str, error: Exception) -> RequestRefused:
    """Tell a fault of ours to the log; returns what the client is told."""
    print(f"error: {place}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return RequestRefused(500, "the service has failed; it was told to its log")


class SecurityHeaders:
    """Adds headers that forbid a page of ours to ask anybody else."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add them to each answer."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SECURITY]
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


def reload_on_hangup(slot: Slot) -> None:
    """Let SIGHUP open the model again, beside what is being answered; one that cannot be opened leaves the old one."""
    loop = asyncio.get_running_loop()

    def reload() -> None:
        try:
            slot.reload()
            print(f"reloaded: {slot.model.origin}; engine {slot.model.engine.name}", file=sys.stderr, flush=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, the model before goes on
            print(f"error: not reloaded, the model before goes on: {error}", file=sys.stderr, flush=True)

    with suppress(ValueError, NotImplementedError, RuntimeError):  # not in the main thread, as in tests
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, reload))
