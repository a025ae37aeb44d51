"""The command line: argv becomes one function call a command; errors become one block and an exit code.

Nothing heavy is imported before the arguments are right, so that help and refusals answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from resnetkit.arguments import build_parser
from resnetkit.errors import ResnetkitError
from resnetkit.interrupt import Terminated, obey_sigterm
from resnetkit.parser import DEBUG, OF_MODEL


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    obey_sigterm()
    try:
        return run(words)
    except BrokenPipeError:
        # The reader of our output has left; nothing can be said any more, not even while shutting down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if DEBUG in words:
            raise
        text, exit_code = describe(error)
        rank = int(os.environ.get("RANK", "0"))  # torchrun's number of this process
        if not (rank and getattr(error, "common", False)):  # what all processes say, the first one says
            print(f"error: {f'process {rank}: ' * bool(rank)}{text}", file=sys.stderr)
        return exit_code


def run(words: list[str]) -> int:
    """Parse, and call the command with its arguments by name."""
    arguments = vars(build_parser().parse_args(words or ["--help"]))
    name = arguments.pop("command")
    arguments.pop("debug")
    from resnetkit.commands import command

    if arguments.pop(OF_MODEL, False):
        from resnetkit.commands.said import take_said

        arguments["said"] = take_said(arguments)
    return command(name)(**arguments)


def describe(error: BaseException) -> tuple[str, int]:
    """Return an error's block and exit code; one of ours says both itself."""
    match error:
        case ResnetkitError():
            return str(error), error.exit_code
        case Terminated():
            return "stopped by SIGTERM; nothing was left half-written", 143
        case KeyboardInterrupt():
            return "interrupted; nothing was left half-written", 130
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{error.strerror or error}", 1
        case _:
            next_step = f"next: {DEBUG} shows the traceback; please report it"
            return f"unexpected {type(error).__name__}: {error}\n  {next_step}", 1
