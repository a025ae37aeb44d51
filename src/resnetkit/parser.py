"""What the parsers of all commands are made of: errors in our own words, and the arguments that several have."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from resnetkit.errors import BadRequest, did_you_mean
from resnetkit.ways import AUTO, WAYS

DEBUG = "--debug"
OF_MODEL = "of_model"  # marks the commands whose arguments say something of a model
MODEL_HELP = ("a zoo name, published weights (timm/resnet50.a1_in1k), a run directory, a weights file, "
              "a folder of transformers or timm, or hf:OWNER/NAME")  # fmt: skip


class Parser(argparse.ArgumentParser):
    """A parser whose errors are BadRequests that offer the nearest command or option."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments."""
        if unknown := re.match(r"unrecognized arguments: (\S+)", message):
            message = f"unknown option or argument {unknown[1]!r}{did_you_mean(unknown[1], self.all_options())}"
        raise BadRequest(message, f"next: {self.prog} --help")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """Refuse a value that is none of an action's choices; argparse has no public place for it."""
        known = [str(choice) for choice in action.choices or ()]
        if known and value not in known:
            name = action.metavar or "/".join(action.option_strings) or action.dest
            near = did_you_mean(str(value), known)
            self.error(f"{name}: expected one of {', '.join(known)}, got {value!r}{near}")

    def all_options(self) -> list[str]:
        """Return the option strings of this parser and of its commands, which report unknown ones to it."""
        options = list(self._option_string_actions)
        for action in self._actions:
            for parser in (action.choices or {}).values() if isinstance(action.choices, dict) else ():
                options += parser.all_options()
        return options


Commands = Any  # argparse keeps the type of add_subparsers to itself


def add_debug(parser: Parser, default: Any) -> None:
    """Add --debug."""
    parser.add_argument(DEBUG, action="store_true", default=default, help="show the traceback of an error")


def add_command(commands: Commands, name: str, text: str) -> Parser:
    """Add one command; its first sentence is its line in the list."""
    parser: Parser = commands.add_parser(name, help=text.partition(".")[0], description=text)
    return parser


def add_quarantine(parser: Parser) -> None:
    """Add --quarantine."""
    parser.add_argument("--quarantine", metavar="FILE", help="leave out the photos of this list, as doctor writes it")


def add_model(parser: Parser) -> None:
    """Add the model, and what a foreign file does not say: the command gets all of that as `said`."""
    parser.set_defaults(**{OF_MODEL: True})
    parser.add_argument("model", help=MODEL_HELP)
    for name, what in (("--mean", "subtracted from"), ("--std", "which divides")):
        parser.add_argument(name, type=float, nargs=3, metavar=("R", "G", "B"),
                            help=f"one number a channel, {what} pixels in [0, 1]")  # fmt: skip
    parser.add_argument("--class-names", metavar="NAME|FILE", help="for weights without names: cifar10, imagenet, "
                        "or a file with a class a line")  # fmt: skip
    add_foreign(parser)


def add_foreign(parser: Parser) -> None:
    """Add what tensors alone cannot tell of a foreign file."""
    parser.add_argument("--plain", action="store_true", help="a foreign file's net has no shortcuts")
    parser.add_argument("--stride-style", choices=("pytorch", "caffe"),
                        help="where a foreign file's bottlenecks stride: 3x3 (default) or first 1x1")  # fmt: skip
    parser.add_argument("--raw", action="store_true", help="the weights that were not averaged, of a file with both")


def add_overrides(parser: Parser) -> None:
    """Add the one way to change a recipe."""
    parser.add_argument("--set", dest="overrides", action="extend", nargs="+", default=[], metavar="field.path=value",
                        help="change the recipe, as in --set optim.lr=0.2 total_epochs=3; put it last")  # fmt: skip


def add_max_microbatch(parser: Parser) -> None:
    """Add --max-microbatch."""
    parser.add_argument("--max-microbatch", type=positive, metavar="M",
                        help="at most M images in a forward pass, where memory is short")  # fmt: skip


def add_gate(parser: Parser) -> None:
    """Add what an exported model is judged on, and quantised by."""
    parser.add_argument("--data", metavar="DIR", help="images to compare on (default: those that the weights name)")
    parser.add_argument("--min-agreement", type=percent, default=95.0, metavar="PERCENT",
                        help="of top-1 with the model; decides below 2,000 labelled images (default: 95)")  # fmt: skip
    parser.add_argument("--max-drop", type=points, default=0.5, metavar="POINTS",
                        help="of top-1, where 2,000 or more decide (default: 0.5)")  # fmt: skip
    parser.add_argument("--calibration", metavar="DIR", help="images, or a data set's name, to quantise by")
    parser.add_argument("--calibration-images", dest="images", type=positive, default=300, metavar="N",
                        help="how many of them (default: 300)")  # fmt: skip


def add_engine(parser: Parser, default: str | None = None) -> None:
    """Add --engine."""
    usual = "auto" if default else "the model itself, in float"
    parser.add_argument("--engine", choices=(AUTO, *WAYS), default=default, metavar="E",
                        help=f"auto (what bench found to be the fastest here), {', '.join(WAYS)} "
                        f"(default: {usual})")  # fmt: skip


def add_json(parser: Parser) -> None:
    """Add --json."""
    parser.add_argument("--json", dest="as_json", action="store_true", help="print JSON")


def add_device(parser: Parser) -> None:
    """Add --device."""
    parser.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N (default: cuda where there is one)")


def percent(text: str) -> float:
    """Read percent, above 1: a fraction by mistake would let nearly everything pass."""
    return number_between(text, 1, 100, "percent, as in 95")


def points(text: str) -> float:
    """Read percentage points of accuracy that may be lost."""
    return number_between(text, 0, 10, "points of top-1 from 0 to 10, as in 0.5")


def number_between(text: str, low: float, high: float, expected: str) -> float:
    """Read a number between two others."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return number


def port(text: str) -> int:
    """Read a port's number."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, got {text!r}")
    return int(text)


def above_zero(text: str) -> float:
    """Read a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)
