from __future__ import annotations

import inspect
import signal

import pytest

from resnetkit import errors
from resnetkit.errors import BadRequest, Interrupted, RecipeError, ResnetkitError, SaidElsewhere, did_you_mean

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and value.__module__ == errors.__name__
}
EXIT_CODES = {
    "ResnetkitError": 1,
    "BadRequest": 2,
    "RecipeError": 2,
    "EngineRefused": 2,
    "SourceError": 1,
    "DamagedFile": 1,
    "BadImage": 1,
    "UnknownFormat": 1,
    "TooManyPixels": 1,
    "WeightsError": 1,
    "GateFailed": 1,
    "ExportFailed": 1,
    "WorkerLost": 1,
    "NonFiniteLoss": 1,
    "SaveFailed": 1,
    "ProcessLost": 1,
}


def test_the_tree_is_drawn_whole_in_the_docstring() -> None:
    assert set(CLASSES) == {*EXIT_CODES, "SaidElsewhere", "Interrupted"}
    drawn = {line.strip("│├└─ ").split(" ")[0]: line for line in (errors.__doc__ or "").splitlines()}
    for name, value in CLASSES.items():
        assert issubclass(value, ResnetkitError)
        assert value.__doc__
        depth = len(value.__mro__) - len(ResnetkitError.__mro__)
        assert drawn[name].index(name) == 4 * depth


@pytest.mark.parametrize("name", list(EXIT_CODES))
def test_exit_codes_follow_the_class(name: str) -> None:
    assert getattr(errors, name).exit_code == EXIT_CODES[name]


def test_an_error_is_one_block() -> None:
    error = BadRequest("no such model", "got: x", "next: resnetkit zoo")
    assert str(error) == "no such model\n  got: x\n  next: resnetkit zoo"
    assert (error.what, error.details) == ("no such model", ("got: x", "next: resnetkit zoo"))
    assert str(ResnetkitError("broken")) == "broken"


def test_recipe_errors_count_their_problems() -> None:
    assert str(RecipeError(["a: b"])) == "recipe has 1 problem\n  a: b"
    assert str(RecipeError(iter(["a", "b"]))) == "recipe has 2 problems\n  a\n  b"
    assert RecipeError(["a", "b"]).problems == ("a", "b")


def test_a_process_ends_with_the_exit_code_of_the_first() -> None:
    assert SaidElsewhere(2).exit_code == 2
    assert SaidElsewhere.common and not ResnetkitError.common


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_exits_as_a_shell_expects(number: int, code: int) -> None:
    error = Interrupted(number, "stopped", "next: --resume")
    assert error.exit_code == code
    assert str(error) == "stopped\n  next: --resume"


def test_near_names() -> None:
    assert did_you_mean("warmup_epoch", ["epochs", "warmup_epochs"]) == "; did you mean 'warmup_epochs'?"
    assert did_you_mean("zzz", ["epochs"]) == ""
    assert did_you_mean("x", []) == ""
    assert did_you_mean("resnet5O", iter(["resnet18", "resnet50"])) == "; did you mean 'resnet50'?"
