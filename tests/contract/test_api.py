"""`sweep` and `compare` of Python give the results of the commands."""

import os
import random
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from neftune_cli import api, compare, sweep
from neftune_cli.api import ComparisonResult, SweepResult, _arguments
from neftune_cli.config.executors import make_executor
from neftune_cli.config.run_settings import Keep
from neftune_cli.errors import NothingToCompareError, UsageError
from neftune_cli.metrics import Margin
from neftune_cli.sweeps.runner import SweepOutcome
from tests.command_line import Neftune
from tests.comparisons import comparison, estimate, of_no_trials, summary
from tests.sweep_in_progress import FakeSweep

SMALL: dict[str, Any] = {
    "train_examples": 16,
    "eval_examples": 4,
    "max_steps": 2,
    "max_new_tokens": 4,
    "estimate": False,
}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return sweep(alphas=[0, 5], seeds=range(1), output=tmp_path_factory.mktemp("api") / "out", workers=0, **SMALL)


def test_a_sweep_runs_its_trials_and_the_same_call_runs_nothing(result: SweepResult) -> None:
    assert (result.trials_run, result.is_complete, dict(result.failed), result.halted) == (3, True, {}, "")
    again = sweep(alphas=[0, 5.0], seeds="1", output=result.folder, workers=0, progress=False, **SMALL)
    assert (again.trials_run, again.is_complete) == (0, True)


@pytest.fixture
def program_with_other_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a test in a program that has changed settings of PyTorch."""
    monkeypatch.setenv("RANK", "1")
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def process_state() -> dict[str, Any]:
    return {
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),
        "random": random.getstate(),
        "launcher": os.environ.get("RANK"),
        "stdout": sys.stdout,
    }


@pytest.mark.usefixtures("program_with_other_settings")
def test_a_sweep_in_this_process_neither_reads_nor_changes_the_settings_of_the_program(
    result: SweepResult, tmp_path: Path
) -> None:
    before = process_state()
    ours = sweep(alphas=[0, 5], seeds=1, output=tmp_path / "out", workers=0, progress=False, **SMALL)
    assert process_state() == before
    assert ours.failed == {}
    first, second = (one.compare().to_frame().drop(columns="sweep") for one in (ours, result))
    pd.testing.assert_frame_equal(first, second)


def test_a_second_thread_cannot_run_trials_in_this_process(tmp_path: Path) -> None:
    options: dict[str, Any] = {"alphas": [5], "output": tmp_path / "out", "workers": 0, "progress": False, **SMALL}
    with make_executor("inline"), ThreadPoolExecutor() as threads:
        refused = threads.submit(sweep, **options).exception()
    assert isinstance(refused, UsageError)
    assert "Another thread of this process runs a sweep with workers=0. Use workers=1" in str(refused)
    assert not (tmp_path / "out").exists()
    with make_executor("inline"):  # free again
        pass


def test_a_sweep_that_cannot_go_on_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meet_full_disk(*_: object) -> SweepOutcome:
        return SweepOutcome(0, 0, 0, {}, left=2, stopped=True, halted="The disk with the results folder is full.")

    monkeypatch.setattr(api, "run_plan", meet_full_disk)
    halted = sweep(alphas=[5], seeds=1, output=tmp_path / "out", workers=0, progress=False, **SMALL)
    assert (halted.halted, halted.is_complete) == ("The disk with the results folder is full.", False)


def test_status_prints_a_command_that_resumes_the_sweep_of_a_program(
    result: SweepResult, tmp_path: Path, neftune: Neftune, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(result.folder, tmp_path / "out")
    with monkeypatch.context() as program:
        program.setattr(sys, "argv", ["study.py", "nograd"])
        sweep(alphas=[0, 5], seeds=1, output=folder, workers=0, progress=False, **SMALL)
    shutil.rmtree(next(folder.glob("trials/alpha=5,seed=0*")))
    *_, command = neftune("status", "out").out.splitlines()
    assert command.split() == ["neftune", "sweep", "out/sweep.yaml", "--output", "out"]
    assert "Trials run, the base model included: 1, done before: 2" in neftune(*command.split()[1:]).err


def test_a_folder_may_be_in_the_home_directory(result: SweepResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(result.folder.parent))
    again = sweep(alphas=[0, 5], seeds=1, output="~/out", workers=0, progress=False, **SMALL)
    assert (again.trials_run, again.folder) == (0, result.folder)
    assert compare("~/out").verdicts == {"alpha=5": None}


def test_the_frame_is_the_csv_of_the_command(result: SweepResult, tmp_path: Path, neftune: Neftune) -> None:
    file = tmp_path / "table.csv"
    neftune("compare", str(result.folder), "--format", "csv", "--output", str(file))
    pd.testing.assert_frame_equal(result.compare().to_frame(), pd.read_csv(file, dtype={"seeds": str}))


def test_the_frame_keeps_names_that_look_like_numbers_or_missing_values() -> None:
    arms = [summary(name, None, {"eval_loss": estimate((loss,))}) for name, loss in (("None", 1.0), ("1", 0.1 + 0.2))]
    compared = replace(comparison(*arms), sweep="007", base_scores={"eval_loss": 4.0})

    frame = ComparisonResult([of_no_trials(compared)]).to_frame()

    assert frame.sweep.tolist() == ["007"] * 3
    assert frame.arm.tolist() == ["base", "None", "1"]
    assert frame["mean"].tolist() == [4.0, 1.0, 0.30000000000000004]
    assert frame.seeds.tolist()[1:] == ["0", "0"]
    assert frame[["seeds", "verdict", "alpha"]].isna().sum().tolist() == [1, 3, 3]


def test_a_notebook_shows_comparison_and_plots(result: SweepResult) -> None:
    compared = compare(result)
    assert compared.verdicts == {"alpha=5": None}
    assert "alpha=5" in str(compared)
    assert repr(ComparisonResult(compared.compared[1:])) == "<ComparisonResult without a comparison>"
    (shown,) = repr(compared).splitlines()
    assert shown.startswith(f"<ComparisonResult {result.folder.name}: ")
    assert len(shown) < 400
    assert all(repr(plot) == f"<SvgImage of {len(plot.svg)} characters>" for plot in compared.plots.values())
    assert compared._repr_html_().startswith("<iframe srcdoc=")
    assert "<script" not in compared._repr_html_()  # escaped
    assert all("<svg" in plot._repr_svg_() for plot in compared.plots.values())
    assert result._repr_html_() == compared._repr_html_()


def test_options_of_a_comparison(result: SweepResult) -> None:
    compared = result.compare(metric="rouge_l", baseline=5, margins={"rouge_l": Margin(0.1)}, confidence=0.9)
    comparison = compared.compared[0].comparison
    assert (comparison.primary, comparison.baseline, comparison.confidence) == ("rouge_l", "alpha=5", 0.9)


def test_unknown_options_and_values_are_named() -> None:
    with pytest.raises(UsageError, match="Did you mean 'learning_rate'"):
        sweep(learning_rat=1e-3, workers=0)
    with pytest.raises(UsageError, match="keep must be"):
        sweep(keep="some", workers=0)
    with pytest.raises(UsageError, match="alpha must be"):
        sweep(alphas=[0, -5], workers=0)


@pytest.mark.parametrize(
    ("option", "fix"),
    [
        ("dry_run", "Use the command `neftune sweep --dry-run`. A call of sweep() trains."),
        ("hourly_rate", "Use the command `neftune sweep --dry-run`. A call of sweep() trains."),
        ("quiet", "Remove it: it changes only what the command `neftune sweep` prints."),
    ],
)
def test_an_option_that_only_the_command_has_is_refused_with_its_effect(option: str, fix: str) -> None:
    given: dict[str, Any] = {option: True}
    with pytest.raises(UsageError) as refused:
        sweep(**given)
    assert [one.fix for one in refused.value.problems] == [fix]


@pytest.mark.parametrize(
    ("name", "value", "received"),
    [
        ("track", ["tensorboard"], ["tensorboard"]),
        ("track", "tensorboard", ["tensorboard"]),
        ("slurm", ["partition=gpu"], ["partition=gpu"]),
        ("slurm", {"partition": "gpu", "time": 60}, ["partition=gpu", "time=60"]),
        ("settings", ["warmup_steps=1"], ["warmup_steps=1"]),
        ("settings", {"bf16": True}, ["bf16=true"]),
        (
            "settings",
            {"weight_decay": np.float64(0.25), "warmup_steps": np.int64(3)},
            ["weight_decay=0.25", "warmup_steps=3"],
        ),
        ("settings", {"lr_scheduler_kwargs": {"num_cycles": np.int64(2)}}, ["lr_scheduler_kwargs={num_cycles: 2}"]),
        ("columns", {"prompt": "question"}, "prompt=question"),
        ("looks", 5, "5"),
        ("looks", [5, 8], "5,8"),
        ("alphas", [0, 5.0, 0.123456789], "0,5,0.123456789"),
        ("seeds", [7], "7,"),
        ("seeds", 3, "3"),
        ("keep", "best", Keep.BEST),
        ("retry", None, None),
        ("workers", None, "auto"),
        ("nproc", None, 1),
        ("stop_on_divergence", None, True),
        ("epochs", 2.0, 2.0),
        ("accelerate_config", "fsdp.yaml", Path("fsdp.yaml")),
    ],
)
def test_a_value_has_the_form_that_its_option_receives(name: str, value: Any, received: Any) -> None:
    assert _arguments({name: value})[name] == received


def test_a_setting_that_yaml_cannot_hold_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"weight_decay has a value that cannot be written in YAML.*Use numbers, texts"
    ):
        _arguments({"settings": {"weight_decay": object()}})


def test_arguments_of_another_type_are_refused_together() -> None:
    wrong: Any = {"baseline": [5], "metric": len, "margins": 0.01, "confidence": "0.9"}
    with pytest.raises(UsageError) as refused:
        compare(["one", "two"], **wrong)  # type: ignore[arg-type]
    assert [(one.what, one.fix) for one in refused.value.problems] == [
        ("results must be folders.", "Use for example compare('results/one', 'results/two')."),
        ("baseline must be an alpha or the name of an arm.", "Use for example compare(baseline=5)."),
        ("metric must be text.", "Use for example compare(metric='rouge_l')."),
        ("margins must be a mapping.", "Use for example compare(margins={'rouge_l': 0.01})."),
        ("confidence must be a number.", "Use for example compare(confidence=0.95)."),
    ]


def test_results_are_compared_by_identity(result: SweepResult) -> None:
    first, second = compare(result), compare(result)
    assert len({first, second, first}) == 2


def test_a_result_may_be_empty(result: SweepResult) -> None:
    empty = ComparisonResult(compare(result).compared[1:])
    assert (empty.verdicts, empty.plots) == ({}, {})


@pytest.mark.parametrize("baseline", [np.int64(5), np.float32(5), "5", "alpha=5"])
def test_a_baseline_may_be_a_number_of_numpy_or_a_text(result: SweepResult, baseline: Any) -> None:
    assert compare(result, baseline=baseline).compared[0].comparison.baseline == "alpha=5"


@pytest.mark.parametrize("confidence", [np.float64(0.3), np.float32(0.3), np.int64(95)])
def test_a_confidence_may_be_a_number_of_numpy(tmp_path: Path, confidence: Any) -> None:
    with pytest.raises(UsageError, match=r"must be larger than 0\.5"):
        compare(tmp_path, confidence=confidence)


def test_a_notebook_shows_the_reasons_if_every_training_run_failed(tmp_path: Path) -> None:
    with FakeSweep(tmp_path / "sweep", ["alpha=0"], 1) as failed:
        failed.finish("base", None, 4.0)
        failed.fail("alpha=0", 0, "out of memory")
    result = SweepResult(failed.folder.path, 2, {"alpha=0, seed 0": "out of memory"}, is_complete=True)
    assert "alpha=0, seed 0&#x27;: &#x27;out of memory" in result._repr_html_()


def test_a_sweep_without_finished_trials_is_named_in_a_warning(result: SweepResult, tmp_path: Path) -> None:
    with FakeSweep(tmp_path / "just-started", ["alpha=0"], 1) as started, pytest.warns(match=r"") as warned:
        compared = compare(result, started.folder.path)
    assert len(compared.compared) == 1
    assert [Path(one.filename) for one in warned] == [Path(__file__)]
    assert "just-started" in str(warned[0].message)


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NothingToCompareError, match="There is no sweep in"):
        compare(tmp_path)


@pytest.mark.parametrize("confidence", [0.3, 0.5, 1.0, 95])
def test_a_confidence_that_the_command_refuses_is_refused(tmp_path: Path, confidence: float) -> None:
    with pytest.raises(UsageError, match=r"must be larger than 0\.5 and less than 1"):
        compare(tmp_path, confidence=confidence)
