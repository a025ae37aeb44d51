"""The model that a service answers with; another takes its place between two batches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from resnetkit.classifier import Classifier
from resnetkit.engines import CLASS_MAPS
from resnetkit.errors import BadRequest
from resnetkit.serve.limits import Limits


class Slot:
    """Holds a model, and opens it anew on demand."""

    def __init__(self, load: Callable[[], Classifier]) -> None:
        self.load = load
        self.loaded = 0  # how often
        self.reloading = threading.Lock()
        self.model = self.opened()

    def opened(self) -> Classifier:
        """Open the model, and ask it once: what is slow at first, or broken, shows before anybody waits for it."""
        model = self.load()
        if model.channels != 3:
            raise BadRequest(f"images have 3 channels, the model takes {model.channels}", model.origin)
        side = model.engine.preprocess.image_size
        blank = np.zeros((1, side, side, 3), np.uint8)
        model.engine.logits(blank)
        if model.engine.has_map:
            model.engine.output(CLASS_MAPS, blank)
        self.loaded += 1
        return model

    def reload(self) -> None:
        """Open it again; what is being answered is answered by the model before. Raises what opening does."""
        with self.reloading:
            self.model = self.opened()


def card(model: Classifier, limits: Limits) -> dict[str, Any]:
    """Return what is known of a model as JSON data, without where it lies."""
    preprocess = model.engine.preprocess
    about = {key: model.about.get(key) for key in ("recipe", "data", "metrics", "license")}
    return {
        "model": title(model),
        "engine": model.engine.name,
        "weights_sha256": model.sha256,
        "classes": list(model.class_names),
        "image_size": preprocess.image_size,
        "resize_size": preprocess.resize_size,
        "resize_family": preprocess.family,
        "assumptions": list(model.assumptions),
        "temperature": model.engine.temperature,
        **about,
        "limits": {"body_bytes": limits.body_bytes, "images": limits.images, "seconds": limits.seconds},
    }


def title(model: Classifier) -> str:
    """Return what a model is called: the net, and how it was made, without the path that `origin` begins with."""
    return model.origin.partition(": ")[2] or "a model"
