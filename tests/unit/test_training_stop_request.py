"""A request to stop: seen at the next look, and at once inside `interruptible`, from a thread or a signal."""

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from neftune_cli.errors import TrialStopped
from neftune_cli.training.stop_request import StopRequest


def later(action: Callable[[], None], seconds: float = 0.05) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def test_outside_it_is_only_noted() -> None:
    stop = StopRequest()
    stop.raise_if_requested()
    stop.request()
    assert stop.requested
    with pytest.raises(TrialStopped):
        stop.raise_if_requested()


def test_from_a_thread_it_interrupts_a_wait_at_once() -> None:
    stop, begin = StopRequest(), time.monotonic()
    later(stop.request)
    with pytest.raises(TrialStopped), stop.interruptible():
        time.sleep(30)
    assert time.monotonic() - begin < 10


def test_from_a_signal_handler_too() -> None:
    stop, passed = StopRequest(), []

    def work() -> None:
        signal.raise_signal(signal.SIGTERM)
        passed.append("the signal")

    before = signal.signal(signal.SIGTERM, lambda *_: stop.request())
    try:
        with pytest.raises(TrialStopped), stop.interruptible():
            work()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not passed


def test_one_that_came_before_leaves_nothing_to_begin() -> None:
    stop = StopRequest()
    stop.request()
    with pytest.raises(TrialStopped), stop.interruptible():
        pytest.fail("began")


def test_one_that_a_library_swallows_is_raised_at_the_end() -> None:
    stop = StopRequest()

    def library() -> None:
        with suppress(Exception):
            stop.request()

    with pytest.raises(TrialStopped), stop.interruptible():
        library()


def test_one_that_a_library_takes_for_its_own_error_is_still_a_stop() -> None:
    stop = StopRequest()

    def library() -> None:
        try:
            stop.request()
        except TrialStopped as error:
            raise ValueError("can't be loaded") from error

    with pytest.raises(TrialStopped), stop.interruptible():
        library()


def test_it_interrupts_once_so_that_what_follows_can_be_kept() -> None:
    stop, kept = StopRequest(), []

    def work() -> None:
        try:
            stop.request()
        finally:
            stop.request()
            kept.append("a checkpoint")

    with pytest.raises(TrialStopped), stop.interruptible():
        work()
    assert kept


def test_afterwards_nothing_is_interrupted_and_the_signal_is_as_before() -> None:
    before = signal.getsignal(signal.SIGURG)
    stop = StopRequest()
    with stop.interruptible():
        assert signal.getsignal(signal.SIGURG) != before
    later(stop.request).join()
    signal.raise_signal(signal.SIGURG)
    assert signal.getsignal(signal.SIGURG) == before
    assert stop.requested


def test_an_error_without_a_request_stays_that_error() -> None:
    with pytest.raises(ValueError, match="own"), StopRequest().interruptible():
        raise ValueError("own")
