"""Progress of long work: a live bar on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def duration(seconds: float) -> str:
    """Write seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class StepProgress:
    """Shows steps done, what is worth watching, and the time left."""

    def __init__(self, title: str, total: int, done: int = 0, *, shown: bool = True) -> None:
        self.console = Console(stderr=True)
        self.console.quiet = not shown
        self.title, self.total, self.done = title, total, done
        self.started, self.started_at = time.monotonic(), done
        self.bar = Progress(
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task(title, total=total, completed=done, note="")

    def __enter__(self) -> StepProgress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def advance(self, count: int = 1) -> None:
        """Count steps done."""
        self.done += count
        self.bar.update(self.task, completed=self.done)

    def go_back_to(self, done: int, why: str) -> None:
        """Count from a smaller number again, and say why."""
        self.advance(done - self.done)
        self.say(why)

    def count_images(self, count: int) -> None:
        """Count images done, and note their rate at each tenth of them."""
        tenths = 10 * self.done // self.total
        self.advance(count)
        if 10 * self.done // self.total > tenths:
            self.note(f"{self.rate():.0f} images/s")

    def rate(self) -> float:
        """Return what was done a second."""
        return (self.done - self.started_at) / max(time.monotonic() - self.started, 1e-9)

    def note(self, text: str) -> None:
        """Show what is worth watching; without a terminal, as a line with the time left."""
        self.bar.update(self.task, note=text)
        if not self.console.is_terminal:
            left = f"  {duration((self.total - self.done) / self.rate())} left" if self.rate() else ""
            self.say(f"{self.title}  {self.done}/{self.total}  {text}{left}")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
