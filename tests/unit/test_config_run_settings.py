"""Run settings from the options of a command, and the messages for invalid options."""

import re
from typing import Any

import pytest

from neftune_cli.config.executors import EXECUTORS, ExecutorDeclaration, register_executor
from neftune_cli.config.run_settings import Keep, OnOom, Retry, SweepSettings, TrialSettings, sweep_settings
from neftune_cli.errors import UsageError
from tests.registries import restored

DEFAULTS = {
    "workers": "auto",
    "retry": None,
    "fail_fast": False,
    "on_oom": OnOom.FAIL,
    "stop_on_divergence": True,
    "keep": Keep.NONE,
    "checkpoint_steps": None,
    "checkpoint_minutes": 2.0,
    "estimate": True,
    "hourly_rate": None,
    "dry_run": False,
}


def problems(**given: Any) -> list[tuple[str, str]]:
    """Return the problem and the fix of each invalid option."""
    with pytest.raises(UsageError) as caught:
        sweep_settings({**DEFAULTS, **given})
    return [(problem.what, problem.fix) for problem in caught.value.problems]


def test_default_options_are_the_default_settings() -> None:
    assert sweep_settings(DEFAULTS) == SweepSettings(estimate=True)


def test_each_option_determines_its_setting() -> None:
    given = {
        "workers": "0",
        "retry": Retry.FAILED,
        "fail_fast": True,
        "on_oom": OnOom.HALVE_BATCH,
        "stop_on_divergence": False,
        "keep": Keep.BEST,
        "checkpoint_steps": 1,
        "checkpoint_minutes": 0.5,
        "estimate": False,
        "hourly_rate": 1.2,
        "dry_run": True,
    }
    assert sweep_settings(given) == SweepSettings(
        executor="inline",
        trial_settings=TrialSettings(
            checkpoint_steps=1,
            checkpoint_minutes=0.5,
            keep_model=True,
            halve_batch=True,
            stop_on_divergence=False,
        ),
        keep=Keep.BEST,
        retry_failed=True,
        fail_fast=True,
        estimate=False,
    )


def test_arguments_that_only_sweep_has_keep_their_defaults() -> None:
    names = ("on_oom", "stop_on_divergence", "checkpoint_steps", "checkpoint_minutes")
    running = sweep_settings({"workers": "1", **{name: DEFAULTS[name] for name in names}})
    assert running == SweepSettings(workers=1)


MINUTES = "Use a number of minutes, for example --checkpoint-minutes 2."
STEPS = "Use a number of steps, for example --checkpoint-steps 100."
RATE = "Use the cost of the machine per hour, for example --hourly-rate 1.20."


@pytest.mark.parametrize(
    ("option", "value", "what", "fix"),
    [
        ("checkpoint_minutes", 0.0, "--checkpoint-minutes must be larger than 0; 0 was given.", MINUTES),
        ("checkpoint_minutes", -0.25, "--checkpoint-minutes must be larger than 0; -0.25 was given.", MINUTES),
        ("checkpoint_minutes", float("inf"), "--checkpoint-minutes must be a finite number; inf was given.", MINUTES),
        ("checkpoint_minutes", float("-inf"), "--checkpoint-minutes must be a finite number; -inf was given.", MINUTES),
        ("checkpoint_minutes", float("nan"), "--checkpoint-minutes must be a finite number; nan was given.", MINUTES),
        ("checkpoint_steps", 0, "--checkpoint-steps must be larger than 0; 0 was given.", STEPS),
        ("checkpoint_steps", -12345678, "--checkpoint-steps must be larger than 0; -12345678 was given.", STEPS),
        ("hourly_rate", 0.0, "--hourly-rate must be larger than 0; 0 was given.", RATE),
        ("hourly_rate", -1.2, "--hourly-rate must be larger than 0; -1.2 was given.", RATE),
        ("hourly_rate", float("nan"), "--hourly-rate must be a finite number; nan was given.", RATE),
    ],
)
def test_an_invalid_number_is_reported(option: str, value: float, what: str, fix: str) -> None:
    assert problems(**{option: value, "dry_run": True}) == [(what, fix)]


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "", "²", "Auto"])
def test_invalid_workers_are_reported(text: str) -> None:
    fix = "Use a number, auto, or 0 to run the trials in the main process."
    assert problems(workers=text) == [(f"--workers: {text!r} is not a number of workers.", fix)]


def test_an_hourly_rate_without_a_dry_run_is_reported() -> None:
    what = "--hourly-rate has no effect without --dry-run."
    assert problems(hourly_rate=1.2) == [(what, "Add --dry-run to see the cost estimate, or remove --hourly-rate.")]


def test_all_problems_are_reported_at_once() -> None:
    found = problems(workers="x", checkpoint_minutes=0.0, checkpoint_steps=0, hourly_rate=-1.0)
    assert [re.split(r"[: ]", what, maxsplit=1)[0] for what, _ in found] == [
        "--workers",
        "--checkpoint-minutes",
        "--checkpoint-steps",
        "--hourly-rate",
        "--hourly-rate",
    ]


def test_options_of_another_executor_have_no_effect() -> None:
    found = problems(slurm=["partition=gpu"], gpus_per_trial=0.0)
    assert found == [
        ("--slurm has no effect with --executor local.", "Add --executor slurm, or remove --slurm."),
        (
            "--gpus-per-trial has no effect with --executor local.",
            "Add --executor ray, or remove --gpus-per-trial.",
        ),
    ]


def test_missing_library_of_an_executor_is_reported_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neftune_cli.config.executors.find_spec", lambda _: None)
    assert problems(executor="ray") == [
        (
            "--executor ray needs the package ray, which is not installed.",
            "Run `pip install '.[ray]'` in the clone of neftune.",
        )
    ]
    assert problems(executor="slurm") == [
        (
            "--executor slurm needs the package submitit, which is not installed.",
            "Run `pip install '.[slurm]'` in the clone of neftune.",
        )
    ]


def test_every_invalid_slurm_setting_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neftune_cli.config.executors.find_spec", lambda _: "found")
    wrong = ["partitoin=gpu", "time", "time=2h", "cluster=moon"]
    whats = [what for what, _ in problems(executor="slurm", slurm=wrong)]
    assert whats == [
        "--slurm has no key 'partitoin'. Did you mean 'partition'?",
        "--slurm: 'time' is not KEY=VALUE.",
        "--slurm time must be a whole number of minutes, 1 or larger; '2h' was given.",
        "--slurm cluster must be slurm or local; 'moon' was given.",
    ]


@pytest.mark.parametrize(
    ("given", "least"),
    [
        (["time=1"], 3),
        (["time=2"], 3),
        (["time=2", "signal-delay-s=60"], 3),  # the signal may come at the start
        (["time=10", "signal-delay-s=700"], 13),
    ],
)
def test_a_time_limit_without_time_to_train_is_refused(
    given: list[str], least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neftune_cli.config.executors.find_spec", lambda _: "found")
    ((what, fix),) = problems(executor="slurm", slurm=given)
    assert what.startswith(f"--slurm {given[0]} is too short: ")
    assert fix.startswith(f"Use --slurm time={least} or more")


@pytest.mark.parametrize("given", [["time=3"], ["time=2", "signal-delay-s=59"], ["time=13", "signal-delay-s=700"]])
def test_a_time_limit_with_time_to_train_is_accepted(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neftune_cli.config.executors.find_spec", lambda _: "found")
    assert sweep_settings({**DEFAULTS, "executor": "slurm", "slurm": given}).executor == "slurm"


def test_executor_settings_are_kept_under_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neftune_cli.config.executors.find_spec", lambda _: "found")
    found = sweep_settings(
        {**DEFAULTS, "executor": "slurm", "slurm": ["cpus-per-task=4", "partition=cpu"], "detach": True}
    )
    assert found.executor_settings == {"slurm": {"cpus_per_task": 4, "partition": "cpu"}, "detach": True}
    assert found.detach
    assert not found.estimate


@pytest.mark.parametrize("number", [-1.0, 1.5, float("nan")])
def test_resources_of_a_trial_are_whole_or_a_fraction_of_one(number: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neftune_cli.config.executors.find_spec", lambda _: "found")
    ((what, _),) = problems(executor="ray", gpus_per_trial=number)
    assert what.startswith("--gpus-per-trial must be a whole number, or a number between 0 and 1;")


def test_two_executors_may_read_the_same_option() -> None:
    with restored(EXECUTORS):
        for name in ("first", "second"):
            register_executor(ExecutorDeclaration(name, "for this test", make=lambda **_: None, settings=("address",)))  # type: ignore[arg-type]
        assert sweep_settings({**DEFAULTS, "executor": "first", "address": "a"}).executor_settings == {"address": "a"}
        assert sweep_settings({**DEFAULTS, "executor": "second", "address": "a"}).executor_settings == {"address": "a"}


@pytest.mark.parametrize(
    ("executor", "workers", "allowed"),
    [("local", None, None), ("local", 4, 4), ("inline", None, 1), ("inline", 4, 1), ("inline", 0, 1)],
)
def test_an_executor_limits_the_workers(executor: str, workers: int | None, allowed: int | None) -> None:
    assert SweepSettings(executor=executor, workers=workers).allowed_workers == allowed
