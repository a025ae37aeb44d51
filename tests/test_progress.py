from __future__ import annotations

import io

import pytest
from rich.console import Console

from resnetkit import progress as module
from resnetkit.progress import StepProgress, duration


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that the test moves itself."""
    now = [100.0]
    monkeypatch.setattr("resnetkit.progress.time.monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (9.6, "0:10"),
        (59.6, "1:00"),
        (61, "1:01"),
        (3599.6, "1:00:00"),
        (3661, "1:01:01"),
        (360_000, "100:00:00"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_without_a_terminal_each_note_is_a_plain_line(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with StepProgress("resnet20", total=1000, done=100) as progress:
        for _ in range(50):
            progress.advance()
        clock[0] += 10  # 5 steps a second, 850 left
        progress.note("loss 1.234  [lr 0.1]")
        progress.advance(850)
        progress.note("loss 0.5")
        progress.say("step 1000: test top-1 90.00 %")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "resnet20  150/1000  loss 1.234  [lr 0.1]  2:50 left",
        "resnet20  1000/1000  loss 0.5  0:00 left",
        "step 1000: test top-1 90.00 %",
    ]


def test_before_the_first_step_no_time_left_is_told(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with StepProgress("x", total=10, done=5) as progress:
        progress.note("starting")
    assert capsys.readouterr().err == "x  5/10  starting\n"


def test_a_long_line_stays_one_line(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with StepProgress("x", total=10) as progress:
        progress.say("word " * 100)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_on_a_terminal_there_is_a_live_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        module, "Console", lambda stderr: Console(file=screen, force_terminal=True, width=100, stderr=stderr)
    )
    with StepProgress("resnet20", total=10, done=4) as progress:
        progress.advance(2)
        progress.note("loss 1.234")
        progress.say("a line above")
    shown = screen.getvalue()
    assert all(part in shown for part in ("resnet20", "6/10", "loss 1.234", "a line above"))
    assert "\x1b[?25h" in shown  # the cursor is back
    assert capsys.readouterr() == ("", "")


def test_the_bar_is_taken_down_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = StepProgress("x", total=10)
    with pytest.raises(ZeroDivisionError), progress:
        raise ZeroDivisionError
    assert not progress.bar.live.is_started
