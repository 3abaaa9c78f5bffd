"""Signals during a sweep: the first one requests a stop, and a second Ctrl-C ends the sweep at once."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from neftune_cli.sweeps.interrupts import Interrupts


@pytest.fixture(autouse=True)
def default_handlers() -> Iterator[None]:
    """Set the handlers of a terminal, because `nohup` and shells' background jobs ignore some signals."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.SIG_DFL),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def receive(number: int) -> None:
    os.kill(os.getpid(), number)
    signal.sigpending()  # Python's handlers have run by the next call


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_requests_a_stop(number: int) -> None:
    requests: list[str] = []
    with Interrupts() as interrupts, interrupts.graceful(lambda: requests.append("stop")):
        receive(number)
        assert interrupts.requested
    assert requests == ["stop"]


def test_ctrl_c_after_a_request_raises() -> None:
    with Interrupts() as interrupts, interrupts.graceful(lambda: None):
        receive(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            receive(signal.SIGINT)


def test_repeated_signals_other_than_ctrl_c_do_not_raise() -> None:
    with Interrupts() as interrupts, interrupts.graceful(lambda: None):
        receive(signal.SIGHUP)
        receive(signal.SIGHUP)
        receive(signal.SIGTERM)
        assert interrupts.requested


def test_without_running_trials_every_signal_raises() -> None:
    with Interrupts(), pytest.raises(KeyboardInterrupt):
        receive(signal.SIGTERM)


def test_the_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interrupts():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts, interrupts.graceful(lambda: None):
            receive(signal.SIGHUP)
            assert not interrupts.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_the_handlers_stay() -> None:
    before = signal.getsignal(signal.SIGINT)

    def handlers_inside() -> list[object]:
        with Interrupts() as interrupts, interrupts.graceful(lambda: None):
            return [signal.getsignal(signal.SIGINT), interrupts.requested]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(handlers_inside).result() == [before, False]
    assert signal.getsignal(signal.SIGINT) is before
