"""One function a command, called by `cli.py` with its arguments by name."""

from __future__ import annotations

from collections.abc import Callable

from resnetkit.commands.bench import bench
from resnetkit.commands.data import data
from resnetkit.commands.doctor import doctor
from resnetkit.commands.export import export
from resnetkit.commands.finetune import finetune
from resnetkit.commands.plan import plan
from resnetkit.commands.show import show, zoo
from resnetkit.commands.training import report, train
from resnetkit.commands.use import evaluate, predict
from resnetkit.commands.verify import verify
from resnetkit.commands.weights import convert, push

COMMANDS: dict[str, Callable[..., int]] = {
    function.__name__: function
    for function in (
        zoo,
        show,
        plan,
        data,
        doctor,
        train,
        finetune,
        evaluate,
        verify,
        predict,
        convert,
        export,
        bench,
        push,
        report,
    )
}

__all__ = ["COMMANDS"]
