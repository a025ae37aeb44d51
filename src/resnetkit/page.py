"""HTML pages that ask nothing of any server: templates beside this file, pictures inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image


def render(template: str, facts: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]]) -> str:
    """Fill a template; a fact that is not there is an error, and every text is escaped."""
    package = PackageLoader("resnetkit", "")
    environment = Environment(
        loader=package, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, **filters}
    return environment.get_template(template).render(facts)


def percent(share: float | None, digits: int = 2) -> str:
    """Write a fraction in percent, with a space that does not break; a dash for None."""
    return "–" if share is None else f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def data_uri(image: NDArray[np.uint8], side: int, kind: str = "PNG") -> str:
    """Write an image [H, W, 3], its long side made `side` pixels at most, as a file that is its own address."""
    file, small = io.BytesIO(), Image.fromarray(np.ascontiguousarray(image))
    small.thumbnail((side, side))
    small.save(file, kind, quality=88)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
