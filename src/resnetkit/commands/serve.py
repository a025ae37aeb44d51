"""The command `serve`: a model behind HTTP."""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path

from resnetkit.classifier import Said, open_classifier
from resnetkit.errors import BadRequest
from resnetkit.printing import ERR, print_origin

KEY = "RESNETKIT_API_KEY"
GRACE_SECONDS = 5  # beyond what a request may take, for those that are being answered at the end
MOST_CONNECTIONS = 1000  # more are answered 503 by the server itself
BACKLOG = 2048  # connections that wait to be accepted


def serve(
    model: str,
    said: Said,
    device: str | None,
    engine: str | None,
    host: str,
    port: int,
    max_megabytes: float,
    max_images: int,
    queue: int,
    batch_size: int,
    seconds: float,
    api_key_file: str | None,
) -> int:
    """Answer until told to stop; what is being answered then is finished."""
    key = read_key(api_key_file)
    try:
        import uvicorn

        from resnetkit.serve.app import build_app
    except ImportError as error:
        raise BadRequest(f"serve needs {error.name}", "next: pip install 'resnetkit[serve]'") from error
    from resnetkit.serve.limits import Limits
    from resnetkit.serve.slot import Slot

    if max_images > queue:
        raise BadRequest(f"--max-images {max_images}: more than may wait, --queue {queue}")
    limits = Limits(body_bytes=round(max_megabytes * 1e6), images=max_images, waiting=queue, batch_size=batch_size,
                    seconds=seconds)  # fmt: skip
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the service obeys it: by default it would end the process
    listening = listen(host, port)
    with listening:
        slot = Slot(partial(open_classifier, model, device, engine, **said))
        print_origin(slot.model, ERR)
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}"
        app = build_app(slot, limits, key, lambda: print(f"serving on {address}", file=sys.stderr, flush=True))
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="on",
                                timeout_graceful_shutdown=math.ceil(seconds + GRACE_SECONDS),
                                limit_concurrency=MOST_CONNECTIONS)  # fmt: skip
        uvicorn.Server(config).run([listening])
    return 0


def listen(host: str, port: int) -> socket.socket:
    """Take the address, before the model is loaded; BadRequest where it is not to be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        raise BadRequest(f"{host}:{port} cannot be listened on", f"got {error.strerror or error}",
                         "next: --port N, or --port 0 for any that is free") from error  # fmt: skip
    return listening


def read_key(file: str | None) -> str | None:
    """Return the API key of a file or of the environment; it is never an argument, which others could see."""
    if file is None:
        if KEY not in os.environ:
            return None
        text, place = os.environ[KEY], KEY
    else:
        place = f"--api-key-file: {file}"
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadRequest(f"{place} cannot be read", f"{error}") from error
    key = text.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise BadRequest(
            f"{place}: expected a key of printable ASCII", "got none" if not key else "got other characters"
        )
    return key
