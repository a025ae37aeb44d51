"""Images from a request's body: raw bytes, multipart, or base64 in JSON; what an image is, its content says."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from resnetkit.serve.answers import RequestRefused
from resnetkit.serve.batches import Full
from resnetkit.serve.limits import Limits

MAX_NAME = 200  # characters of a file's name that are given back
NAMED = "image"
KINDS = "multipart/form-data, application/json, application/octet-stream or image/..."


class Bodies:
    """Bounds the bytes of all bodies that are being read at once."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.taken_bytes = limits, 0

    @asynccontextmanager
    async def taken(self, request: Request) -> AsyncIterator[None]:
        """Take room for a body: as many bytes as it says, or as one may have; raises Full."""
        said = request.headers.get("content-length", "")
        size = min(int(said) if said.isdecimal() else self.limits.body_bytes, self.limits.body_bytes)
        if self.taken_bytes + size > self.limits.all_bodies_bytes:
            raise Full(
                f"{self.taken_bytes:,} bytes are being read", f"expected {self.limits.all_bodies_bytes:,} or fewer"
            )
        self.taken_bytes += size
        try:
            yield
        finally:
            self.taken_bytes -= size


async def read_images(request: Request, limits: Limits) -> list[tuple[str, bytes]]:
    """Return the name and bytes of each image of a request; RequestRefused says what is wrong."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await read_body(request, limits.body_bytes)
    if kind == "multipart/form-data":
        images = await from_multipart(request, body, limits)
    elif kind == "application/json":
        images = await asyncio.to_thread(from_json, body, limits.images)
    elif not kind or kind == "application/octet-stream" or kind.startswith("image/"):
        images = [(NAMED, body)]
    else:
        raise RequestRefused(415, f"content of type {printable(kind)} is not read", f"expected {KINDS}")
    if not images:
        raise RequestRefused(400, "there is no image in the request")
    if len(images) > limits.images:
        raise RequestRefused(413, f"{len(images)} images in one request", f"expected at most {limits.images}")
    if not any(data for _, data in images):
        raise RequestRefused(400, "the body is empty", "expected the bytes of an image")
    return images


async def read_body(request: Request, most: int) -> bytes:
    """Read a body of at most so many bytes; no more is taken in."""
    said = request.headers.get("content-length")
    if said and said.isdecimal() and int(said) > most:
        raise RequestRefused(413, f"a body of {int(said):,} bytes", f"expected at most {most:,}")
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise RequestRefused(413, f"a body of more than {most:,} bytes", f"expected at most {most:,}")
            parts.append(part)
    except ClientDisconnect as error:
        raise RequestRefused(400, "the body ended early") from error
    return b"".join(parts)


async def from_multipart(request: Request, body: bytes, limits: Limits) -> list[tuple[str, bytes]]:
    """Return the files of a form."""

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, whole(), max_files=limits.images, max_fields=limits.images,
                             max_part_size=limits.body_bytes)  # fmt: skip
    parser.spool_max_size = limits.body_bytes  # nothing is written to the disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        status = 413 if "Too many" in error.message else 400
        raise RequestRefused(status, "the form cannot be read", printable(error.message)) from error
    except (KeyError, ValueError) as error:
        raise RequestRefused(
            400, "the form cannot be read", "expected multipart/form-data with its boundary"
        ) from error
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if len(files) != len(form.multi_items()):
        raise RequestRefused(400, "the form has fields that are no files")
    images = [(printable(file.filename or NAMED), await file.read()) for file in files]
    await form.close()
    return images


def from_json(body: bytes, most: int) -> list[tuple[str, bytes]]:
    """Return the images of {"images": [base64, ...]}."""
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestRefused(400, "the body is not JSON") from error
    texts = said.get("images") if isinstance(said, dict) and set(said) == {"images"} else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise RequestRefused(400, "the JSON is not as it must be", 'expected {"images": ["base64", ...]}')
    if len(texts) > most:
        raise RequestRefused(413, f"{len(texts)} images in one request", f"expected at most {most}")
    images = []
    for number, text in enumerate(texts, 1):
        try:
            images.append((f"{NAMED} {number}", base64.b64decode(text, validate=True)))
        except (binascii.Error, ValueError) as error:
            raise RequestRefused(400, f"{NAMED} {number} is not base64") from error
    return images


def printable(text: str) -> str:
    """Return a stranger's text as it can stand in a line: of a path the last part, without control characters."""
    last = text.replace("\\", "/").rpartition("/")[2] or text
    return "".join(letter if letter.isprintable() else "?" for letter in last)[:MAX_NAME]
