"""What signals do: the first asks for a stop while trials run, and only Ctrl-C ends all after it."""

import os
import signal

import pytest

from neftune_cli.sweeps.runner import Interrupts


def receive(number: int) -> None:
    os.kill(os.getpid(), number)
    signal.sigpending()  # Python's handlers have run by the next call


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_one_is_noted_and_told(number: int) -> None:
    told: list[str] = []
    with Interrupts() as interrupts, interrupts.patient(lambda: told.append("stop")):
        receive(number)
        assert interrupts.requested
    assert told == ["stop"]


def test_ctrl_c_after_it_ends_all() -> None:
    with Interrupts() as interrupts, interrupts.patient(lambda: None):
        receive(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            receive(signal.SIGINT)


def test_a_system_that_says_it_twice_is_still_patient() -> None:
    with Interrupts() as interrupts, interrupts.patient(lambda: None):
        receive(signal.SIGHUP)
        receive(signal.SIGHUP)
        receive(signal.SIGTERM)
        assert interrupts.requested


def test_where_no_trial_runs_each_ends_all() -> None:
    with Interrupts(), pytest.raises(KeyboardInterrupt):
        receive(signal.SIGTERM)


def test_what_signals_did_before_they_do_after() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interrupts():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts, interrupts.patient(lambda: None):
            receive(signal.SIGHUP)
            assert not interrupts.requested
    finally:
        signal.signal(signal.SIGHUP, before)
