"""Is every row equal to the original?  Compares with mmpretrain, timm, torchvision, transformers and the formulas.

run: make parity       (builds an environment of its own; docs/parity.md)
or:  .venv-parity/bin/python tests/parity/run.py [--to FILE] [QUESTION ...]

Prints a table; writes results/parity.json when every question was asked, or FILE with those that were; exit code 1 when
a figure misses its bound.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2

warnings.filterwarnings("ignore")  # the peers' own: of parts that are not used here

from configs import config_figures  # noqa: E402
from draws import draw_figures  # noqa: E402
from figures import Figure, table, to_json  # noqa: E402
from indices import index_figures  # noqa: E402
from lamb import lamb_figures  # noqa: E402
from nets import net_figures  # noqa: E402
from odd_pictures import odd_draw_figures, odd_resize_figures, row_crop_figures  # noqa: E402
from pictures import crop_figures, operation_figures, resize_figures  # noqa: E402
from published_names import published_figures  # noqa: E402
from rates import rate_figures  # noqa: E402
from runner_files import runner_figures  # noqa: E402
from steps import rounding_remarks, training_figures  # noqa: E402
from targets import loss_figures, mix_figures, row_loss_figures  # noqa: E402
from views import accuracy_figures, decode_figures, photos_right, pipeline_figures  # noqa: E402

from layouts import files_in_figures, files_out_figures, other_net_figures, wrapped_figures  # noqa: E402
from resnetkit.home import write_json  # noqa: E402
from resnetkit.provenance import provenance  # noqa: E402

RESULT = Path(__file__).parents[2] / "results" / "parity.json"
PEERS = ("mmpretrain", "mmengine", "mmcv-lite", "torchvision", "timm", "transformers")
# What answers a question, and how many figures it must leave: a loop over nothing proves nothing.
QUESTIONS: dict[str, tuple[Callable[[], Iterator[Figure]], int]] = {
    "nets": (net_figures, 4 * 68 + 74),
    "settings": (config_figures, 24 + 12),
    "rates": (rate_figures, 24 + 12 + 24 + 11),
    "losses": (loss_figures, 14),
    "row-losses": (row_loss_figures, 24 + 12 + 1),
    "mixing": (mix_figures, 40),
    "indices": (index_figures, 24),
    "lamb": (lamb_figures, 4),
    "training": (training_figures, 5),
    "published": (published_figures, 1 + 64 + 15),
    "their-files": (files_in_figures, 68),
    "our-files": (files_out_figures, 68 + 2),
    "other-nets": (other_net_figures, 5),
    "wrapped-files": (wrapped_figures, 2 * 5),
    "runner-files": (runner_figures, 2 * 2 + 2 * 4),
    "operations": (operation_figures, 2 * 15),
    "resizes": (resize_figures, 3 * 6),
    "crops": (crop_figures, 8),
    "decoding": (decode_figures, 3),
    "pipelines": (pipeline_figures, 3 * 24 + 4),
    "predictions": (accuracy_figures, 2 * 2),
    "draws": (draw_figures, 3 * 4 + 3 + 2 + 2 + 12),
    "odd-sizes": (odd_resize_figures, 3 * 2),
    "row-crops": (row_crop_figures, 2),
    "odd-draws": (odd_draw_figures, 4 + 2),
}


def ask(question: str) -> list[Figure]:
    """Answer one question."""
    answer, expected = QUESTIONS[question]
    print(f"{question} ...", file=sys.stderr, flush=True)
    found = list(answer())
    if len(found) != expected:
        sys.exit(f"{question}: expected {expected} figures, got {len(found)}")
    return found


def write_result(figures: list[Figure], remarks: dict[str, Any], file: Path) -> None:
    """Write figures, the versions compared with, and remarks: what has no bound."""
    command = {"command": shlex.join(["python", "tests/parity/run.py", *sys.argv[1:]])}
    peers = {name: version(name) for name in PEERS} | {"opencv": cv2.__version__}
    write_json(file, {"peers": peers, "figures": to_json(figures)} | remarks | {"provenance": provenance() | command})
    print(f"wrote {file}")


def main() -> None:
    """Ask the questions named on the command line, or all."""
    parser = argparse.ArgumentParser(description="Is every row equal to the original?")
    parser.add_argument("--to", type=Path, metavar="FILE", help="write the figures asked for there")
    parser.add_argument("question", nargs="*", help=", ".join(QUESTIONS))
    arguments = parser.parse_args()
    unknown = set(arguments.question) - set(QUESTIONS)
    if unknown:
        sys.exit(f"unknown question {sorted(unknown)}, expected {', '.join(QUESTIONS)}")
    figures = [figure for question in arguments.question or QUESTIONS for figure in ask(question)]
    print("\n".join(table(figures)))
    failed = sum(not figure.passed for figure in figures)
    print(f"{len(figures)} figures, {failed} failed")
    if not arguments.question:
        remarks = {"ten_float32_steps_without_bound": rounding_remarks(), "photos_right_of_200": photos_right()}
        write_result(figures, remarks, arguments.to or RESULT)
    elif arguments.to:
        write_result(figures, {}, arguments.to)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
