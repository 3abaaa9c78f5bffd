"""Stop requests from threads and signal handlers, inside and outside `interruptible`."""

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from neftune_cli.errors import TrialStopped
from neftune_cli.training.stop_request import StopRequest


def later(action: Callable[[], None], seconds: float = 0.05) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def test_request_outside_the_context_does_not_interrupt() -> None:
    stop = StopRequest()
    stop.raise_if_requested()
    stop.request()
    assert stop.requested
    with pytest.raises(TrialStopped):
        stop.raise_if_requested()


def test_request_from_a_thread_interrupts_at_once() -> None:
    stop, begin = StopRequest(), time.monotonic()
    later(stop.request)
    with pytest.raises(TrialStopped), stop.interruptible():
        time.sleep(30)
    assert time.monotonic() - begin < 10


def test_request_from_a_signal_handler_interrupts_at_once() -> None:
    stop, passed = StopRequest(), []

    def work() -> None:
        signal.raise_signal(signal.SIGTERM)
        passed.append("after the signal")

    before = signal.signal(signal.SIGTERM, lambda *_: stop.request())
    try:
        with pytest.raises(TrialStopped), stop.interruptible():
            work()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not passed


def test_earlier_request_raises_on_entry() -> None:
    stop = StopRequest()
    stop.request()
    with pytest.raises(TrialStopped), stop.interruptible():
        pytest.fail("the context was entered")


def test_swallowed_request_raises_on_exit() -> None:
    stop = StopRequest()

    def library() -> None:
        with suppress(Exception):
            stop.request()

    with pytest.raises(TrialStopped), stop.interruptible():
        library()


def test_request_replaced_by_a_library_error_is_still_a_stop() -> None:
    stop = StopRequest()

    def library() -> None:
        try:
            stop.request()
        except TrialStopped as error:
            raise ValueError("can't be loaded") from error

    with pytest.raises(TrialStopped), stop.interruptible():
        library()


def test_second_request_does_not_interrupt_cleanup() -> None:
    stop, saved = StopRequest(), []

    def work() -> None:
        try:
            stop.request()
        finally:
            stop.request()
            saved.append("a checkpoint")

    with pytest.raises(TrialStopped), stop.interruptible():
        work()
    assert saved


def test_signal_handler_is_restored_on_exit() -> None:
    before = signal.getsignal(signal.SIGURG)
    stop = StopRequest()
    with stop.interruptible():
        assert signal.getsignal(signal.SIGURG) != before
    later(stop.request).join()
    signal.raise_signal(signal.SIGURG)
    assert signal.getsignal(signal.SIGURG) == before
    assert stop.requested


def test_signal_handler_is_restored_after_a_request_during_the_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    before, stop, install = signal.getsignal(signal.SIGURG), StopRequest(), signal.signal

    def install_and_request(number: int, handler: Any) -> Any:
        replaced = install(number, handler)
        stop.requested = True  # as another thread does
        return replaced

    monkeypatch.setattr(signal, "signal", install_and_request)
    with pytest.raises(TrialStopped), stop.interruptible():
        pytest.fail("the context was entered")
    assert signal.getsignal(signal.SIGURG) == before


def test_errors_without_a_request_are_not_changed() -> None:
    with pytest.raises(ValueError, match="own"), StopRequest().interruptible():
        raise ValueError("own")
