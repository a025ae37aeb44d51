"""Every error that resnetkit raises on purpose.

ResnetkitError          failed while working                      exit code 1
├── BadRequest          nothing was started                       exit code 2
│   ├── RecipeError     a recipe or an override that cannot hold  exit code 2
│   └── EngineRefused   an engine that does not run the model     exit code 2
├── SourceError         no source gave the data
├── DamagedFile         a checksum, a size or a structure is wrong
├── BadImage            one image cannot be read
│   ├── UnknownFormat   it is of no format that is read
│   └── TooManyPixels   it is taken for a decompression bomb
├── WeightsError        weights that do not fit, or cannot be read safely
├── GateFailed          an exported model does not answer like its model; nothing was written
├── ExportFailed        an exporter or quantiser of another library failed
├── WorkerLost          a process that times a way of running a model has ended
├── NonFiniteLoss       training stopped: the loss is nan or infinite
├── SaveFailed          a state or an event could not be written; earlier states are whole
├── ProcessLost         another process of the run is out of reach
├── SaidElsewhere       the first process failed, and says why
└── Interrupted         stopped by a signal after saving          exit code 130 or 143

A message is one short block: first line what went wrong, then what was got, what was
expected, and what to do next; `cli.py` prints it after "error: ".
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class ResnetkitError(Exception):
    """Base of all errors raised on purpose; `str()` is the block shown to the user."""

    exit_code = 1
    common = False  # raised by all processes of a run at once: the first one tells it

    def __init__(self, what: str, *details: str) -> None:
        self.what = what
        self.details = details
        super().__init__("\n  ".join((what, *details)))


class BadRequest(ResnetkitError):
    """The request cannot be carried out and nothing was started."""

    exit_code = 2


class RecipeError(BadRequest):
    """A recipe, a recipe file or an override has problems; all of them are listed."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        super().__init__(f"recipe has {count} problem{'' if count == 1 else 's'}", *self.problems)


class SourceError(ResnetkitError):
    """No source gave the data; the details name each one tried."""


class DamagedFile(ResnetkitError):
    """A file's checksum, size or structure is not what it must be."""


class BadImage(ResnetkitError):
    """One image file cannot be read; the message names it."""


class UnknownFormat(BadImage):
    """A file is no image of a format that is read."""


class TooManyPixels(BadImage):
    """An image is so large that it is taken for a decompression bomb."""


class WeightsError(ResnetkitError):
    """Weights do not fit the architecture, or cannot be read without running code."""


class EngineRefused(BadRequest):
    """An engine that was named does not run the model, or not here."""


class ExportFailed(ResnetkitError):
    """An exporter or quantiser of another library failed on the model."""


class GateFailed(ResnetkitError):
    """An exported model does not answer like the model that it was made of; nothing was written."""


class WorkerLost(ResnetkitError):
    """A process that times a way of running a model has ended, or does not answer in time."""


class NonFiniteLoss(ResnetkitError):
    """The loss became nan or infinite; the message names step, batch and images."""

    common = True


class SaveFailed(ResnetkitError):
    """A run's state or event could not be written: a full disk, a folder that may not be written."""


class ProcessLost(ResnetkitError):
    """Another process of the run has ended, or does not answer in time."""


class SaidElsewhere(ResnetkitError):
    """The first process of the run failed, and says why; this one ends with its exit code."""

    common = True

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__("the first process failed")


class Interrupted(ResnetkitError):
    """Stopped by a signal after the state was saved; exits with 128 + the signal's number."""

    common = True

    def __init__(self, signal_number: int, what: str, *details: str) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(what, *details)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, cut where it is long; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the known name nearest to `name`, or an empty string."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
