"""The command `predict`: plain arguments in, a line an image out, exit code returned.

Imports little: with a model that runs without torch, most of a prediction's time would be torch's import.
"""

from __future__ import annotations

import json
import sys

from resnetkit.classifier import Said, open_classifier
from resnetkit.errors import BadRequest
from resnetkit.predict import Unreadable, find_images
from resnetkit.predict import predict as predict_files
from resnetkit.printing import ERR, prediction_line, print_origin


def predict(
    model: str,
    images: list[str],
    said: Said,
    top: int,
    as_json: bool,
    device: str | None,
    engine: str | None,
) -> int:
    """Print the most likely classes of each image; exit code 1 when one could not be read."""
    files = find_images(images)
    loaded = open_classifier(model, device, engine, **said)
    if loaded.channels != 3:
        raise BadRequest(f"images have 3 channels, the model takes {loaded.channels}", loaded.origin)
    names = loaded.class_names
    print_origin(loaded, ERR)
    width = max(map(len, files))
    unreadable = 0
    for outcome in predict_files(loaded.engine, files, top_k=top):
        if isinstance(outcome, Unreadable):
            unreadable += 1
            print(f"error: {outcome.file}: {outcome.reason}", file=sys.stderr)
            if as_json:
                print(json.dumps({"file": outcome.file, "error": outcome.reason}), flush=True)
        else:
            print(prediction_line(outcome, names, width, as_json), flush=True)
    if unreadable:
        print(f"{unreadable} of {len(files)} files could not be read", file=sys.stderr)
    return 1 if unreadable else 0
