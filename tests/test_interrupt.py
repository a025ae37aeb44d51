from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from resnetkit.interrupt import StopSignals


class Stopped(Exception):
    """What the handler of a test raises."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[list[int]]:
    """Handlers that only note a signal, so that none ends the tests."""
    seen: list[int] = []
    before = {number: signal.signal(number, lambda got, _: seen.append(got)) for number in StopSignals.caught}
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_acts(number: int, handlers: list[int]) -> None:
    assert StopSignals().received is None
    with StopSignals() as signals:
        send(number)
        assert signals.received == number
        assert handlers == []
        send(number)
        assert handlers == [number]
    assert signals.received == number


def test_a_second_signal_of_the_other_kind_acts_too(handlers: list[int]) -> None:
    with StopSignals() as signals:
        send(signal.SIGINT)
        send(signal.SIGTERM)
    assert (signals.received, handlers) == (signal.SIGINT, [signal.SIGTERM])


def test_a_second_control_c_is_a_keyboard_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt), StopSignals() as signals:
        send(signal.SIGINT)
        assert signals.received == signal.SIGINT
        send(signal.SIGINT)


def test_handlers_are_put_back(handlers: list[int]) -> None:
    before = [signal.getsignal(number) for number in StopSignals.caught]
    with StopSignals():
        assert [signal.getsignal(number) for number in StopSignals.caught] != before
    assert [signal.getsignal(number) for number in StopSignals.caught] == before
    with pytest.raises(Stopped), StopSignals():
        raise Stopped
    assert [signal.getsignal(number) for number in StopSignals.caught] == before
    send(signal.SIGTERM)
    assert handlers == [signal.SIGTERM]


def test_handlers_are_put_back_after_a_signal() -> None:
    before = [signal.getsignal(number) for number in StopSignals.caught]
    with StopSignals():
        send(signal.SIGINT)
    assert [signal.getsignal(number) for number in StopSignals.caught] == before


def test_other_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with StopSignals():
        assert signal.getsignal(signal.SIGHUP) == before


def test_outside_the_main_thread_nothing_is_caught(handlers: list[int]) -> None:
    before = [signal.getsignal(number) for number in StopSignals.caught]
    seen: list[object] = []

    def work() -> None:
        with StopSignals() as signals:
            seen.append([signal.getsignal(number) for number in StopSignals.caught])
            seen.append(signals.received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before, None]
